package fakeaws

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
)

// control sends one request to the administrator's handler.
func control(t *testing.T, a *Account, method, path, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	a.Admin().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	callerARN(t, stsClient(a, "alice-nb", baseCredentials(a, "alice-nb")))
	dir := t.TempDir()
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"sagemaker.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/trail", "", 200, `"eventName":"GetCallerIdentity"`},
		{"GET", "/trail?since=1", "", 200, `"eventName":"GetCallerIdentity"`},
		{"GET", "/trail?since=99", "", 200, ""},
		{"GET", "/trail?since=-1", "", 400, "error"},
		{"GET", "/trail?since=x", "", 400, "error"},
		{"GET", "/rejections", "", 200, "null"},
		{"GET", "/scenario", "", 200, `"name":"alice-nb"`},
		{"GET", "/container-paths", "", 200, `"team-lab":"/`},
		{"POST", "/flush", `{"dir":` + quote(dir) + `}`, 200, "AWSLogs/111122223333/CloudTrail/us-east-1/"},
		{"POST", "/flush", `{"dir":` + quote(dir) + `}`, 200, `"files":[]`},
		{"POST", "/flush", "", 400, "dir is missing"},
		{"GET", "/roles/JobRole", "", 200, `"id":"AROA`},
		{"GET", "/roles/nobody", "", 400, "no role"},
		{"PUT", "/roles/JobRole", `{"trust":` + trust + `}`, 200, `"name":"Work"`},
		{"PUT", "/roles/JobRole", `{"policies":[]}`, 200, `"trust":{`},
		{"PUT", "/roles/JobRole", `{"name":"Other"}`, 400, "is named"},
		{"PUT", "/roles/JobRole", `{"trusted":{}}`, 400, `unknown field \"trusted\"`},
		{"PUT", "/roles/JobRole", `{"id":"AROAAAAAAAAAAAAAAAAAA"}`, 400, "cannot change"},
		{"PUT", "/roles/JobRole", `{"trust":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + role("Nobody") + `"},"Action":"sts:AssumeRole"}]}}`, 400, "Invalid principal in policy"},
		{"PUT", "/roles/New", `{"trust":` + trust + `}`, 200, `"name":"New"`},
		{"PUT", "/roles/Self", `{"trust":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + role("Self") + `"},"Action":"sts:AssumeRole"}]}}`, 400, "Invalid principal in policy"},
		{"POST", "/roles/New/recreate", "", 200, `"id":"AROA`},
		{"DELETE", "/roles/New", "", 200, "{}"},
		{"DELETE", "/roles/New", "", 400, "no role"},
		{"PUT", "/notebooks/bob-nb", `{"role":"JobRole"}`, 200, "JobRole"},
		{"PUT", "/notebooks/bob-nb", `{"role":"Nobody"}`, 400, "no role"},
		{"PUT", "/notebooks/nobody", `{"role":"JobRole"}`, 400, "no notebook instance"},
		{"PUT", "/domain", `{"propagation":true}`, 200, "true"},
		{"PUT", "/domain", `{}`, 400, "propagation is missing"},
		{"PUT", "/clock", `{"offset":"5m"}`, 200, "5m0s"},
		{"PUT", "/clock", `{"offset":"0s"}`, 200, "0s"},
		{"PUT", "/clock", `{"offset":"soon"}`, 400, "error"},
		{"POST", "/base-sessions/rotate", "", 200, `{"changed":1}`},
		{"POST", "/base-sessions/explode", "", 400, "use rotate, expire or revoke"},
		{"PUT", "/faults", `{"service":"sts","kind":"throttle","count":1}`, 200, "throttle"},
		{"DELETE", "/faults", "", 200, "[]"},
		{"POST", "/sessions", `{"role":"Nobody"}`, 400, "no role"},
		{"POST", "/sessions", `{"role":"JobRole"} {}`, 400, "after the first"},
		{"GET", "/nowhere", "", 404, ""},
	} {
		status, body := control(t, a, tt.method, tt.path, tt.body)
		if status != tt.status || !strings.Contains(body, tt.want) || tt.want == "" && tt.status == 200 && body != "" {
			t.Errorf("%s %s %s: %d %.300s\nwant %d … %s", tt.method, tt.path, tt.body, status, body, tt.status, tt.want)
		}
	}
	if _, body := control(t, a, "GET", "/roles/JobRole", ""); !strings.Contains(body, `"trust":`+trust) {
		t.Errorf("a refused edit left something behind: %s", body)
	}
	if _, body := control(t, a, "GET", "/scenario", ""); !strings.Contains(body, "USER_PROFILE_NAME") || !strings.Contains(body, `"name":"bob-nb","role":"JobRole"`) {
		t.Errorf("the scenario does not show the edits: %.2000s", body)
	}
}

func TestAdminSession(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	_, body := control(t, a, "POST", "/sessions", `{"role":"JobRole","session_name":"auditor","lifetime":"15m"}`)
	var c struct{ AccessKeyId, SecretAccessKey, SessionToken string }
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		t.Fatal(err)
	}
	got := callerARN(t, stsClient(a, "", credentials.NewStaticCredentialsProvider(c.AccessKeyId, c.SecretAccessKey, c.SessionToken)))
	if want := "arn:aws:sts::111122223333:assumed-role/JobRole/auditor"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFlush(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	client := stsClient(a, "alice-nb", baseCredentials(a, "alice-nb"))
	callerARN(t, client)
	dir := t.TempDir()
	for range 2 {
		if err := a.Flush(dir); err != nil {
			t.Fatal(err)
		}
		callerARN(t, client)
	}
	if err := a.Flush(dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "AWSLogs/111122223333/CloudTrail/us-east-1/*/*/*/111122223333_CloudTrail_us-east-1_*Z_*.json.gz"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files: %v", len(files), files)
	}
	total := 0
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		var content struct{ Records []json.RawMessage }
		data, err := io.ReadAll(z)
		if err == nil {
			err = json.Unmarshal(data, &content)
		}
		if err != nil {
			t.Fatal(err)
		}
		total += len(content.Records)
		_ = f.Close()
	}
	if want := len(a.Records()); total != want {
		t.Errorf("the files hold %d records, want %d", total, want)
	}
}

func TestScenarioErrors(t *testing.T) {
	t.Parallel()
	s := DefaultScenario()
	s.Roles[2].Trust = []byte(`{"Version":"2012-10-17","Statement":[{"Sid":"Odd","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/Gone"},"Action":"sts:AssumeRole"}]}`)
	if _, err := New(Config{Scenario: s}); err == nil || !strings.Contains(err.Error(), "NoSetSourceIdentityInTrust") || !strings.Contains(err.Error(), "role/Gone") {
		t.Errorf("a principal that does not exist: %v", err)
	}
	a := newAccount(t)
	if _, err := a.IMDS("nobody"); err == nil {
		t.Error("a notebook that does not exist has metadata")
	}
	if got := a.ContainerPath("nobody"); got != "" {
		t.Errorf("an app that does not exist has the path %s", got)
	}
	if err := a.DeleteRole("nobody"); err == nil {
		t.Error("deleted a role that does not exist")
	}
}

// TestDeletedExecutionRole: the platform cannot make a session, and says so as
// a failing metadata service does.
func TestDeletedExecutionRole(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	if err := a.DeleteRole("carol-launch"); err != nil {
		t.Fatal(err)
	}
	if _, err := baseCredentials(a, "carol-nb").Retrieve(context.Background()); err == nil {
		t.Error("a deleted role has credentials")
	}
	records := a.Records()
	if len(records) == 0 || records[0].ErrorCode != "AccessDenied" || records[0].UserIdentity.InvokedBy != "sagemaker.amazonaws.com" {
		t.Errorf("records: %+v", records)
	}
	var _ http.RoundTripper = a.Transport()
}
