package sigv4_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/sigv4"
)

var session = aws.Credentials{
	AccessKeyID:     "ASIAIOSFODNN7EXAMPLE",
	SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
	SessionToken:    "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJHMEUC+token==",
}

var longTerm = aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: session.SecretAccessKey}

// secretOf knows the two keys above, each with its own token only.
func secretOf(keyID, token string) (string, error) {
	for _, c := range []aws.Credentials{session, longTerm} {
		if c.AccessKeyID == keyID && c.SessionToken == token {
			return c.SecretAccessKey, nil
		}
	}
	return "", fmt.Errorf("unknown key %s", keyID)
}

// judge is a server that answers with what Verify said.
func judge(t *testing.T) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got, err := sigv4.Verify(r, body, time.Now(), secretOf)
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "%v", err)
			return
		}
		_ = json.NewEncoder(w).Encode(got)
	}))
	t.Cleanup(server.Close)
	return server
}

// order is one request to be signed. Path and query are as on the wire.
type order struct {
	method, service, path, query string
	header                       http.Header
	body                         string
	payload                      string // "" = the body's hash
	creds                        aws.Credentials
	presign                      int // seconds; 0 = Authorization header
}

var orders = map[string]order{
	"sts":                  {method: "POST", service: "sts", body: "Action=GetCallerIdentity&Version=2011-06-15", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}},
	"long-term key":        {method: "POST", service: "sts", body: "Action=GetCallerIdentity", creds: longTerm},
	"json target":          {method: "POST", service: "sagemaker", body: `{"NotebookInstanceName":"alice-nb"}`, header: http.Header{"X-Amz-Target": {"SageMaker.DescribeNotebookInstance"}}},
	"empty body":           {method: "GET", service: "sagemaker"},
	"delete":               {method: "DELETE", service: "lambda", path: "/2015-03-31/functions/f"},
	"arn in the path":      {method: "GET", service: "lambda", path: "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A111122223333%3Afunction%3Af"},
	"raw colon":            {method: "GET", service: "lambda", path: "/tags/arn:aws:lambda:us-east-1:111122223333:function:f"},
	"percent in the path":  {method: "GET", service: "apigateway", path: "/a%25b/c%20d/%E1%88%B4/e%2Ff+g~h"},
	"trailing slash":       {method: "GET", service: "apigateway", path: "/a/b/"},
	"query order":          {method: "GET", service: "iam", query: "b=2&a=3&a=1&c&B=0&a-b=4&a%2Bb=5"},
	"query values":         {method: "GET", service: "iam", query: "q=a+b%20c%2Bd&r=%2F%3F%26%3D&s=%F0%9F%90%8D&empty=&t=~._-%21%2A%27%28%29"},
	"header spaces":        {method: "GET", service: "iam", header: http.Header{"X-Amz-Meta-Spaces": {"  a   b  ", "c"}, "My-Header": {"d", "", "e  f"}}},
	"header bytes":         {method: "GET", service: "iam", header: http.Header{"X-Amz-Meta-Name": {"Grüße, 世界"}}},
	"binary body":          {method: "PUT", service: "lambda", body: "\x00\xff\r\n\x80"},
	"large body":           {method: "POST", service: "kms", body: strings.Repeat("0123456789abcdef", 1<<10)},
	"s3 list":              {method: "GET", service: "s3", query: "list-type=2&prefix=a%2Fb%20c&x-id=ListObjectsV2"},
	"s3 slashes":           {method: "GET", service: "s3", path: "/bucket//a///b/../c/./d/"},
	"s3 encoded slash":     {method: "GET", service: "s3", path: "/bucket/a%2Fb"},
	"s3 escapes":           {method: "GET", service: "s3", path: "/bucket/a%20b%2Bc%25d%252Fe~f%21%27%28%29%2A%2C%3B%3D%40%24%26%3A"},
	"s3 unicode":           {method: "PUT", service: "s3", path: "/bucket/%E4%B8%96%E7%95%8C", body: "x", header: http.Header{"X-Amz-Acl": {"private"}}},
	"s3 unsigned":          {method: "PUT", service: "s3", path: "/bucket/key", body: "anything", payload: "UNSIGNED-PAYLOAD"},
	"s3 unsigned trailer":  {method: "PUT", service: "s3", path: "/bucket/key", body: "1\r\nx\r\n0\r\nx-amz-checksum-crc32:i9aeUg==\r\n\r\n", payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER"},
	"presigned sts":        {method: "GET", service: "sts", query: "Action=GetCallerIdentity&Version=2011-06-15", presign: 60, header: http.Header{"X-K8s-Aws-Id": {"cluster"}}},
	"presigned s3":         {method: "GET", service: "s3", path: "/bucket/a%20b//c", query: "response-content-type=text%2Fplain", presign: 3600, payload: "UNSIGNED-PAYLOAD"},
	"presigned long-term":  {method: "GET", service: "s3", path: "/bucket/k", presign: 604800, payload: "UNSIGNED-PAYLOAD", creds: longTerm},
	"presigned s3 headers": {method: "PUT", service: "s3", path: "/bucket/k", presign: 60, payload: "UNSIGNED-PAYLOAD", body: "x", header: http.Header{"X-Amz-Acl": {"private"}, "X-Amz-Expected-Bucket-Owner": {"111122223333"}}},
}

func (o order) sign(t testing.TB, base string, at time.Time) *http.Request {
	t.Helper()
	creds := o.creds
	if creds.AccessKeyID == "" {
		creds = session
	}
	path := o.path
	if path == "" {
		path = "/"
	}
	u, err := url.Parse(base + path)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = o.query
	r, err := http.NewRequest(o.method, u.String(), bytes.NewReader([]byte(o.body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("User-Agent", "not signed")
	for name, values := range o.header {
		r.Header[name] = values
	}
	sum := sha256.Sum256([]byte(o.body))
	payload := o.payload
	if payload == "" {
		payload = hex.EncodeToString(sum[:])
	}
	s3 := func(options *v4.SignerOptions) { options.DisableURIPathEscaping = o.service == "s3" }
	if o.presign == 0 {
		if o.service == "s3" {
			r.Header.Set("X-Amz-Content-Sha256", payload)
		}
		if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, payload, o.service, "us-east-1", at, s3); err != nil {
			t.Fatal(err)
		}
		return r
	}
	query := r.URL.Query()
	query.Set("X-Amz-Expires", strconv.Itoa(o.presign))
	r.URL.RawQuery = query.Encode()
	uri, signed, err := v4.NewSigner().PresignHTTP(t.Context(), creds, r, payload, o.service, "us-east-1", at, s3)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = http.NewRequest(o.method, uri, bytes.NewReader([]byte(o.body))); err != nil {
		t.Fatal(err)
	}
	for name, values := range signed {
		if name != "Host" && name != "Content-Length" {
			r.Header[name] = values
		}
	}
	return r
}

func TestGoSigner(t *testing.T) {
	server := judge(t)
	for name, o := range orders {
		t.Run(name, func(t *testing.T) {
			now := time.Now()

			// In process: the request as a client holds it.
			r := o.sign(t, server.URL, now)
			if _, err := sigv4.Verify(r, []byte(o.body), now, secretOf); err != nil {
				t.Errorf("in process: %v", err)
			}

			// Over a socket: the request as a server sees it.
			response, err := server.Client().Do(o.sign(t, server.URL, now))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != http.StatusOK {
				t.Fatalf("over a socket: %s", answer)
			}
			want := sigv4.Credential{
				KeyID: session.AccessKeyID, Token: session.SessionToken,
				Region: "us-east-1", Service: o.service, Signed: now.UTC().Truncate(time.Second),
			}
			if o.creds.AccessKeyID != "" {
				want.KeyID, want.Token = o.creds.AccessKeyID, ""
			}
			var got sigv4.Credential
			if err := json.Unmarshal(answer, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("credential (-want +got):\n%s", diff)
			}
		})
	}
}

// botocoreScript signs requests given as JSON lines on stdin and writes each
// back with its final URL and headers. It serves as a second signer that
// shares nothing with the first one.
const botocoreScript = `
import json, sys
from botocore.auth import SigV4Auth, S3SigV4Auth, SigV4QueryAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

for line in sys.stdin:
    o = json.loads(line)
    headers = dict(o["headers"])
    r = AWSRequest(method=o["method"], url=o["url"], headers=headers, data=o["body"] or None)
    creds = Credentials(o["key"], o["secret"], o["token"] or None)
    s3 = o["service"] == "s3"
    if o["expires"]:
        auth = (S3SigV4QueryAuth if s3 else SigV4QueryAuth)(creds, o["service"], "us-east-1", o["expires"])
    else:
        auth = (S3SigV4Auth if s3 else SigV4Auth)(creds, o["service"], "us-east-1")
    auth.add_auth(r)
    p = r.prepare()
    print(json.dumps({"url": p.url, "headers": {k: (v.decode("latin-1") if isinstance(v, bytes) else v) for k, v in p.headers.items()}}))
`

type botocoreOrder struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Key     string            `json:"key"`
	Secret  string            `json:"secret"`
	Token   string            `json:"token"`
	Service string            `json:"service"`
	Expires int               `json:"expires"`
}

func TestBotocoreSigner(t *testing.T) {
	const python = "python3"
	if err := exec.Command(python, "-c", "import botocore.auth").Run(); err != nil {
		t.Skipf("needs python3 with botocore: %v", err)
	}
	server := judge(t)
	list := []botocoreOrder{
		{Method: "POST", URL: "/", Body: "Action=GetCallerIdentity&Version=2011-06-15", Service: "sts"},
		{Method: "POST", URL: "/", Body: "Action=GetCallerIdentity", Service: "sts", Token: "-"},
		{Method: "POST", URL: "/", Body: "{}", Service: "sagemaker", Headers: map[string]string{"X-Amz-Target": "SageMaker.ListNotebookInstances", "Content-Type": "application/x-amz-json-1.1"}},
		{Method: "GET", URL: "/a/./b/../c//d/", Service: "lambda"},
		{Method: "GET", URL: "/a/..", Service: "lambda"},
		{Method: "GET", URL: "/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A111122223333%3Af", Service: "lambda"},
		{Method: "GET", URL: "/x%20y%25~z?b=2&a=1&a=0&c=", Service: "apigateway"},
		{Method: "GET", URL: "/?q=%2F%20%2B%E4%B8%96", Service: "iam"},
		{Method: "GET", URL: "/", Service: "iam", Headers: map[string]string{"X-Amz-Meta-Spaces": "a   b    c"}},
		{Method: "GET", URL: "/", Service: "iam", Headers: map[string]string{"Date": "set by the signer"}},
		{Method: "GET", URL: "/bucket//a/../b%2Fc%20d%2Be?list-type=2&prefix=x%2F", Service: "s3"},
		{Method: "PUT", URL: "/bucket/%E4%B8%96", Body: "hello", Service: "s3", Headers: map[string]string{"x-amz-acl": "private"}},
		{Method: "GET", URL: "/?Action=GetCallerIdentity&Version=2011-06-15", Service: "sts", Expires: 60, Headers: map[string]string{"x-k8s-aws-id": "cluster"}},
		{Method: "GET", URL: "/bucket/a%20b//c?versionId=1", Service: "s3", Expires: 3600},
	}
	var in bytes.Buffer
	encoder := json.NewEncoder(&in)
	for i := range list {
		o := &list[i]
		if o.Token == "-" {
			o.Key, o.Secret, o.Token = longTerm.AccessKeyID, longTerm.SecretAccessKey, ""
		} else {
			o.Key, o.Secret, o.Token = session.AccessKeyID, session.SecretAccessKey, session.SessionToken
		}
		if o.Headers == nil {
			o.Headers = map[string]string{}
		}
		o.URL = server.URL + o.URL
		if err := encoder.Encode(o); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-W", "ignore", "-c", botocoreScript)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(out))
	for i, o := range list {
		var signed struct {
			URL     string
			Headers map[string]string
		}
		if err := decoder.Decode(&signed); err != nil {
			t.Fatalf("request %d: %v in %s", i, err, out)
		}
		r, err := http.NewRequest(o.Method, signed.URL, strings.NewReader(o.Body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range signed.Headers {
			r.Header.Set(name, value)
		}
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s %s for %s: %s", o.Method, o.URL, o.Service, answer)
		}
	}
}
