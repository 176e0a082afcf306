package metadata_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/metadata"
)

const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	base        = "/latest/meta-data/"
	roleList    = base + "iam/security-credentials/"
)

var updated = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

func session() (metadata.Credentials, error) {
	return metadata.Credentials{
		AccessKeyID: "ASIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", Token: "token+/=EXAMPLE",
		LastUpdated: updated, Expiration: updated.Add(6 * time.Hour),
	}, nil
}

func config() metadata.IMDSConfig {
	return metadata.IMDSConfig{
		Credentials: session, Region: "us-east-1", AccountID: "111122223333", InstanceID: "i-0123456789abcdef0",
	}
}

// ask sends one request straight to the handler; headers are name, value pairs.
func ask(h http.Handler, method, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func token(t *testing.T, h http.Handler, ttl string) string {
	t.Helper()
	r := ask(h, "PUT", "/latest/api/token", ttlHeader, ttl)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("token: %s", r.Status)
	}
	return body(t, r)
}

func TestToken(t *testing.T) {
	h := metadata.NewIMDS(config())
	tests := []struct {
		name, method string
		headers      []string
		want         int
	}{
		{"shortest", "PUT", []string{ttlHeader, "1"}, 200},
		{"longest", "PUT", []string{ttlHeader, "21600"}, 200},
		{"no lifetime", "PUT", nil, 400},
		{"zero", "PUT", []string{ttlHeader, "0"}, 400},
		{"too long", "PUT", []string{ttlHeader, "21601"}, 400},
		{"far too long", "PUT", []string{ttlHeader, "99999999999999999999"}, 400},
		{"negative", "PUT", []string{ttlHeader, "-1"}, 400},
		{"signed", "PUT", []string{ttlHeader, "+60"}, 400},
		{"not a number", "PUT", []string{ttlHeader, "six hours"}, 400},
		{"forwarded", "PUT", []string{ttlHeader, "60", "X-Forwarded-For", "192.0.2.1"}, 403},
		{"forwarded, empty", "PUT", []string{ttlHeader, "60", "X-Forwarded-For", ""}, 403},
		{"GET", "GET", []string{ttlHeader, "60"}, 405},
		{"POST", "POST", []string{ttlHeader, "60"}, 405},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := ask(h, test.method, "/latest/api/token", test.headers...)
			if r.StatusCode != test.want {
				t.Fatalf("status = %d, want %d", r.StatusCode, test.want)
			}
			if test.want != 200 {
				return
			}
			if got := r.Header.Get(ttlHeader); got != test.headers[1] {
				t.Errorf("lifetime echoed = %q", got)
			}
			if got := body(t, r); len(got) != 56 || strings.ContainsAny(got, "\r\n ") {
				t.Errorf("token = %q", got)
			}
		})
	}
	if first, second := token(t, h, "60"), token(t, h, "60"); first == second {
		t.Error("two tokens are the same")
	}
}

func TestTokenIsNeeded(t *testing.T) {
	h := metadata.NewIMDS(config())
	v1 := config()
	v1.AllowV1 = true
	hv1 := metadata.NewIMDS(v1)
	good := token(t, h, "60")
	last := good[:len(good)-1] + string(rune(good[len(good)-1])^1)
	tests := []struct {
		name    string
		handler http.Handler
		headers []string
		want    int
	}{
		{"good", h, []string{tokenHeader, good}, 200},
		{"none", h, nil, 401},
		{"empty", h, []string{tokenHeader, ""}, 401},
		{"garbage", h, []string{tokenHeader, "garbage"}, 401},
		{"first byte changed", h, []string{tokenHeader, "B" + good[1:]}, 401},
		{"last byte changed", h, []string{tokenHeader, last}, 401},
		{"cut", h, []string{tokenHeader, good[:52]}, 401},
		{"twice", h, []string{tokenHeader, good, tokenHeader, good}, 401},
		{"of another machine", hv1, []string{tokenHeader, good}, 401},
		{"version 1", hv1, nil, 200},
		{"version 1, empty token", hv1, []string{tokenHeader, ""}, 401},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := ask(test.handler, "GET", base+"instance-id", test.headers...)
			if r.StatusCode != test.want {
				t.Errorf("status = %d, want %d", r.StatusCode, test.want)
			}
			if text := body(t, r); test.want != 200 && strings.Contains(text, "i-0123456789abcdef0") {
				t.Errorf("a refusal tells: %s", text)
			}
		})
	}
	for i := range good {
		spoiled := good[:i] + string(rune(good[i]^1)) + good[i+1:]
		if r := ask(h, "GET", base+"instance-id", tokenHeader, spoiled); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("byte %d changed: %s", i, r.Status)
		}
	}
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := metadata.NewIMDS(config())
		good := token(t, h, "60")
		time.Sleep(59 * time.Second)
		r := ask(h, "GET", base+"instance-id", tokenHeader, good)
		if r.StatusCode != http.StatusOK || r.Header.Get(ttlHeader) != "1" {
			t.Errorf("after 59 s: %s, lifetime %q", r.Status, r.Header.Get(ttlHeader))
		}
		time.Sleep(time.Second)
		if r := ask(h, "GET", base+"instance-id", tokenHeader, good); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("after 60 s: %s", r.Status)
		}
	})
}

func TestDocuments(t *testing.T) {
	h := metadata.NewIMDS(config())
	good := token(t, h, "21600")
	tests := []struct {
		path   string
		status int
		want   string // "" = not compared
	}{
		{base + "instance-id", 200, "i-0123456789abcdef0"},
		{base + "placement/region", 200, "us-east-1"},
		{base + "placement/availability-zone", 200, "us-east-1a"},
		{base + "placement/", 200, "availability-zone\nregion"},
		{base + "services/partition", 200, "aws"},
		{base + "services/domain", 200, "amazonaws.com"},
		{roleList, 200, "BaseNotebookInstanceEc2InstanceRole"},
		{strings.TrimSuffix(roleList, "/"), 200, "BaseNotebookInstanceEc2InstanceRole"},
		{base + "iam/", 200, "info\nsecurity-credentials/"},
		{base, 200, "ami-id\niam/\ninstance-id\ninstance-type\nlocal-ipv4\nplacement/\nservices/"},
		{strings.TrimSuffix(base, "/"), 200, ""},
		{"/latest/", 200, "dynamic/\nmeta-data/"},
		{"/latest/dynamic/", 200, "instance-identity/"},
		{"/", 200, "latest/"},
		{roleList + "NoSuchRole", 404, ""},
		{roleList + "BaseNotebookInstanceEc2InstanceRole/", 404, ""},
		{roleList + "../security-credentials/BaseNotebookInstanceEc2InstanceRole", 404, ""},
		{base + "iam/security-credentials-extended/", 404, ""},
		{base + "iam/security-credentials-extended/BaseNotebookInstanceEc2InstanceRole", 404, ""},
		{base + "placement", 200, ""},
		{base + "placement/reg", 404, ""},
		{base + "/", 404, ""},
		{"/latest/user-data", 404, ""},
		{"/2014-02-25/meta-data/instance-id", 404, ""},
		{"/latest/api/", 404, ""},
		{"/latest/api/token/", 404, ""},
		{"//", 404, ""},
	}
	for _, test := range tests {
		r := ask(h, "GET", test.path, tokenHeader, good)
		got := body(t, r)
		if r.StatusCode != test.status || test.want != "" && got != test.want {
			t.Errorf("GET %s = %d %q, want %d %q", test.path, r.StatusCode, got, test.status, test.want)
		}
		if r := ask(h, "GET", test.path); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("GET %s without a token = %d", test.path, r.StatusCode)
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			if r := ask(h, method, test.path, tokenHeader, good, ttlHeader, "60"); r.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s = %d", method, test.path, r.StatusCode)
			}
		}
	}
}

func TestCredentialDocument(t *testing.T) {
	h := metadata.NewIMDS(config())
	r := ask(h, "GET", roleList+metadata.DefaultRoleName, tokenHeader, token(t, h, "60"))
	const want = `{
  "Code": "Success",
  "LastUpdated": "2026-01-02T03:04:05Z",
  "Type": "AWS-HMAC",
  "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
  "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
  "Token": "token+/=EXAMPLE",
  "Expiration": "2026-01-02T09:04:05Z"
}`
	if diff := cmp.Diff(want, body(t, r)); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
}

func TestNoCredentials(t *testing.T) {
	for name, credentials := range map[string]func() (metadata.Credentials, error){
		"error":     func() (metadata.Credentials, error) { return metadata.Credentials{}, errors.New("revoked") },
		"empty":     func() (metadata.Credentials, error) { return metadata.Credentials{}, nil },
		"no token":  func() (metadata.Credentials, error) { c, err := session(); c.Token = ""; return c, err },
		"no expiry": func() (metadata.Credentials, error) { c, err := session(); c.Expiration = time.Time{}; return c, err },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.Credentials = credentials
			h := metadata.NewIMDS(cfg)
			r := ask(h, "GET", roleList+metadata.DefaultRoleName, tokenHeader, token(t, h, "60"))
			if text := body(t, r); r.StatusCode != http.StatusInternalServerError || strings.Contains(text, "Success") || strings.Contains(text, "revoked") {
				t.Errorf("%s %s", r.Status, text)
			}
			if r := ask(h, "GET", base+"iam/info", tokenHeader, token(t, h, "60")); r.StatusCode != http.StatusOK {
				t.Errorf("iam/info: %s", r.Status)
			}
		})
	}
}

// TestGoClient lets the SDK's own metadata client and credential provider talk
// to the handler over a socket, with version 1 switched off.
func TestGoClient(t *testing.T) {
	cfg := config()
	cfg.Partition, cfg.Region = "aws-us-gov", "us-gov-west-1"
	server := httptest.NewServer(metadata.NewIMDS(cfg))
	defer server.Close()
	client := imds.New(imds.Options{Endpoint: server.URL, EnableFallback: aws.FalseTernary})

	region, err := client.GetRegion(t.Context(), nil)
	if err != nil || region.Region != "us-gov-west-1" {
		t.Errorf("region = %+v, %v", region, err)
	}
	info, err := client.GetIAMInfo(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws-us-gov:iam::111122223333:instance-profile/BaseNotebookInstanceEc2InstanceRole"; info.Code != "Success" ||
		info.InstanceProfileArn != want || info.InstanceProfileID == "" || !info.LastUpdated.Equal(updated.Truncate(time.Second)) {
		t.Errorf("iam/info = %+v", info.IAMInfo)
	}
	document, err := client.GetInstanceIdentityDocument(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if document.AccountID != "111122223333" || document.InstanceID != "i-0123456789abcdef0" || document.Region != "us-gov-west-1" ||
		document.AvailabilityZone != "us-gov-west-1a" || document.Version != "2017-09-30" || document.PendingTime.IsZero() {
		t.Errorf("identity document = %+v", document.InstanceIdentityDocument)
	}
	got, err := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }).Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, _ := session()
	if got.AccessKeyID != want.AccessKeyID || got.SecretAccessKey != want.SecretAccessKey || got.SessionToken != want.Token || !got.CanExpire {
		t.Errorf("credentials = %s, expires %s", got.AccessKeyID, got.Expires)
	}
	if _, err := client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: "iam/security-credentials-extended/"}); err == nil {
		t.Error("extended credentials were answered")
	}
}

func TestConcurrentMachines(t *testing.T) {
	h := metadata.NewIMDS(config())
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 50 {
				r := ask(h, "GET", roleList+metadata.DefaultRoleName, tokenHeader, token(t, h, "60"))
				var document struct{ Code string }
				if err := json.NewDecoder(r.Body).Decode(&document); err != nil || document.Code != "Success" {
					t.Errorf("%s %v", r.Status, err)
				}
			}
		})
	}
	group.Wait()
}

func FuzzIMDS(f *testing.F) {
	h := metadata.NewIMDS(config())
	f.Add("PUT", "/latest/api/token", "60", "")
	f.Add("GET", roleList+metadata.DefaultRoleName, "", "token")
	f.Add("GET", "/latest/meta-data//", "", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, method, path, ttl, token string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL.Path = method, path
		r.Header[ttlHeader], r.Header[tokenHeader] = []string{ttl}, []string{token}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusOK && path != "/latest/api/token" {
			t.Errorf("%s %q answered to the token %q", method, path, token)
		}
	})
}
