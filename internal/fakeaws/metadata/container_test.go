package metadata_test

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/metadata"
)

const secretPath = "/v2/credentials/0f7a9c2e"

func container() http.Handler {
	return metadata.NewContainer(metadata.ContainerConfig{Credentials: func(path string) (metadata.Credentials, error) {
		switch {
		case subtle.ConstantTimeCompare([]byte(path), []byte(secretPath)) == 1:
			c, err := session()
			c.AccountID, c.RoleARN = "111122223333", "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"
			return c, err
		case path == "/plain":
			return session()
		case path == "/broken":
			return metadata.Credentials{}, errors.New("the inner cause")
		case path == "/empty":
			return metadata.Credentials{}, nil
		}
		return metadata.Credentials{}, fmt.Errorf("path %q: %w", path, metadata.ErrUnknownPath)
	}})
}

func TestContainer(t *testing.T) {
	const full = `{
  "RoleArn": "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole",
  "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
  "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
  "Token": "token+/=EXAMPLE",
  "Expiration": "2026-01-02T09:04:05Z",
  "AccountId": "111122223333"
}`
	const plain = `{
  "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
  "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
  "Token": "token+/=EXAMPLE",
  "Expiration": "2026-01-02T09:04:05Z"
}`
	failed := func(status int, code, message string) string {
		return fmt.Sprintf("{\n  \"code\": %q,\n  \"message\": %q,\n  \"HTTPErrorCode\": %d\n}", code, message, status)
	}
	notFound := failed(400, "InvalidIdInRequest", "CredentialsV2Request: Credentials not found")
	internal := failed(500, "InternalServerError", "Unable to read the credentials")
	tests := []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", secretPath, 200, full},
		{"GET", "/plain", 200, plain},
		{"GET", secretPath + "/", 400, notFound},
		{"GET", secretPath + "0", 400, notFound},
		{"GET", strings.ToUpper(secretPath), 400, notFound},
		{"GET", "/v2/../v2/credentials/0f7a9c2e", 400, notFound},
		{"GET", "/", 400, failed(400, "NoIdInRequest", "CredentialsV2Request: No Credential ID in the request")},
		{"GET", "/broken", 500, internal},
		{"GET", "/empty", 500, internal},
		{"POST", secretPath, 405, failed(405, "MethodNotAllowed", "Only GET is supported")},
	}
	for _, test := range tests {
		r := ask(container(), test.method, test.path)
		if r.StatusCode != test.status || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s = %s, %s", test.method, test.path, r.Status, r.Header.Get("Content-Type"))
		}
		if diff := cmp.Diff(test.want, body(t, r)); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", test.method, test.path, diff)
		}
	}
}

// TestGoContainerClient lets the SDK's own provider fetch over a socket.
func TestGoContainerClient(t *testing.T) {
	server := httptest.NewServer(container())
	defer server.Close()
	fetch := func(path string) (aws.Credentials, error) {
		return endpointcreds.New(server.URL+path, func(o *endpointcreds.Options) { o.Retryer = aws.NopRetryer{} }).Retrieve(t.Context())
	}
	got, err := fetch(secretPath)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := session()
	if got.AccessKeyID != want.AccessKeyID || got.SecretAccessKey != want.SecretAccessKey || got.SessionToken != want.Token ||
		got.AccountID != "111122223333" || !got.Expires.Equal(want.Expiration.Truncate(time.Second)) {
		t.Errorf("credentials = %s of %s, expires %s", got.AccessKeyID, got.AccountID, got.Expires)
	}
	_, err = fetch("/v2/credentials/other")
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidIdInRequest" {
		t.Errorf("wrong path: %v", err)
	}
}
