package credserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/imdsprobe"
)

func (r *onTCP) imdsToken(t testing.TB, ttl string) string {
	t.Helper()
	resp, body := r.send(t, "PUT", tokenPath, ttlHeader+": "+ttl)
	if resp.StatusCode != 200 {
		t.Fatalf("token: status %d %s", resp.StatusCode, body)
	}
	return body
}

func TestIMDS(t *testing.T) {
	v := good()
	v.Expires = time.Date(2094, 1, 2, 3, 4, 5, 0, time.UTC)
	r := startIMDS(t, Config{Credentials: &provider{value: v}}, IMDSConfig{})

	resp, token := r.send(t, "PUT", tokenPath, ttlHeader+": 21600")
	if resp.StatusCode != 200 || resp.Header.Get(ttlHeader) != "21600" || strings.ContainsAny(token, "\r\n ") || token == "" {
		t.Fatalf("token: status %d, header %v, %q", resp.StatusCode, resp.Header, token)
	}
	for _, path := range []string{rolesPath, rolesPath + "/"} {
		if resp, body := r.send(t, "GET", path, tokenHeader+": "+token); resp.StatusCode != 200 || body != "nbidentityd" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: status %d, %q", path, resp.StatusCode, body)
		}
	}
	resp, body := r.send(t, "GET", rolesPath+"/nbidentityd", tokenHeader+": "+token)
	var got map[string]string
	if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 {
		t.Fatalf("status %d, %q: %v", resp.StatusCode, body, err)
	}
	updated, err := time.Parse(time.RFC3339, got["LastUpdated"])
	if err != nil || !strings.HasSuffix(got["LastUpdated"], "Z") || time.Since(updated) > time.Minute {
		t.Errorf("LastUpdated %q", got["LastUpdated"])
	}
	delete(got, "LastUpdated")
	want := map[string]string{
		"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIATESTEXAMPLE", "SecretAccessKey": testSecret,
		"Token": testToken, "Expiration": "2094-01-02T03:04:05Z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	if lines := r.logs.FilterMessage("credentials vended").All(); len(lines) != 1 || lines[0].ContextMap()["face"] != "imds" ||
		lines[0].ContextMap()["uid"] != uint32(os.Geteuid()) {
		t.Errorf("log %v", lines)
	}
}

// The daemon's own probes are no refusals: they come each minute.
func TestIMDSProbed(t *testing.T) {
	r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{Mark: "m1"})
	p := imdsprobe.Probe{UID: uint32(os.Geteuid()), Addr: netip.MustParseAddrPort(r.addr), MarkHeader: MarkHeader, Mark: "m1", Limit: time.Minute}
	outcome, detail, err := p.Run(t.Context())
	if err != nil || outcome != imdsprobe.Redirected || detail != "200 OK" {
		t.Errorf("%s, %s, %v", outcome, detail, err)
	}
	if lines := r.logs.FilterMessage("request refused").All(); len(lines) > 0 {
		t.Errorf("refused: %v", lines)
	}
}

func TestIMDSRefuses(t *testing.T) {
	r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{})
	other := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{})
	token := r.imdsToken(t, "21600")
	with := func(token string) string { return tokenHeader + ": " + token }
	document := rolesPath + "/nbidentityd"
	short := r.imdsToken(t, "1")
	time.Sleep(1100 * time.Millisecond)
	for _, tt := range []struct {
		name, method, path string
		header             []string
		status             int
	}{
		{"version 1", "GET", document, nil, 401},
		{"version 1 of the list", "GET", rolesPath + "/", nil, 401},
		{"version 1 of what does not exist", "GET", "/latest/user-data", nil, 401},
		{"empty token", "GET", document, []string{with("")}, 401},
		{"expired token", "GET", document, []string{with(short)}, 401},
		{"another server's token", "GET", document, []string{with(other.imdsToken(t, "60"))}, 401},
		{"forged token", "GET", document, []string{with("B" + token[1:])}, 401},
		{"two tokens", "GET", document, []string{with(token), with(token)}, 401},
		{"token in the URL", "GET", document + "?" + tokenHeader + "=" + token, nil, 401},
		{"no lifetime", "PUT", tokenPath, nil, 400},
		{"lifetime 0", "PUT", tokenPath, []string{ttlHeader + ": 0"}, 400},
		{"lifetime too long", "PUT", tokenPath, []string{ttlHeader + ": 21601"}, 400},
		{"lifetime far too long", "PUT", tokenPath, []string{ttlHeader + ": 99999999999999999999"}, 400},
		{"negative lifetime", "PUT", tokenPath, []string{ttlHeader + ": -1"}, 400},
		{"two lifetimes", "PUT", tokenPath, []string{ttlHeader + ": 1", ttlHeader + ": 2"}, 400},
		{"token with a body", "PUT", tokenPath, []string{ttlHeader + ": 60", "Content-Length: 5"}, 400},
		{"token forwarded", "PUT", tokenPath, []string{ttlHeader + ": 60", "X-Forwarded-For: 192.0.2.1"}, 403},
		{"token forwarded, empty", "PUT", tokenPath, []string{ttlHeader + ": 60", "X-Forwarded-For:"}, 403},
		{"token by GET", "GET", tokenPath, []string{ttlHeader + ": 60"}, 405},
		{"token by POST", "POST", tokenPath, []string{ttlHeader + ": 60"}, 405},
		{"forwarded", "GET", document, []string{with(token), "X-Forwarded-For: 127.0.0.1"}, 403},
		{"Host", "GET", document, []string{with(token), "Host: evil.example"}, 403},
		{"Host with our port", "PUT", tokenPath, []string{ttlHeader + ": 60", "Host: evil.example:" + r.addr[strings.LastIndex(r.addr, ":")+1:]}, 403},
		{"page", "GET", document, []string{with(token), "Origin: http://evil.example"}, 403},
		{"link", "GET", document, []string{with(token), "Referer: http://evil.example/"}, 403},
		{"image on a page", "GET", document, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}, 403},
		{"page's question before it asks", "OPTIONS", tokenPath, []string{"Origin: null", "Access-Control-Request-Method: PUT"}, 403},
		{"OPTIONS", "OPTIONS", document, []string{with(token)}, 405},
		{"HEAD", "HEAD", document, []string{with(token)}, 405},
		{"PUT of the document", "PUT", document, []string{with(token)}, 405},
		{"body", "GET", document, []string{with(token), "Content-Length: 1"}, 400},
		{"chunked body", "GET", document, []string{with(token), "Transfer-Encoding: chunked"}, 400},
		{"another role", "GET", rolesPath + "/AmazonSageMaker-ExecutionRole", []string{with(token)}, 404},
		{"extended", "GET", "/latest/meta-data/iam/security-credentials-extended/", []string{with(token)}, 404},
		{"the instance's own", "GET", "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance", []string{with(token)}, 404},
		{"user-data", "GET", "/latest/user-data", []string{with(token)}, 404},
		{"document with a slash", "GET", document + "/", []string{with(token)}, 404},
		{"path of dots", "GET", rolesPath + "/../security-credentials/nbidentityd", []string{with(token)}, 404},
		{"root", "GET", "/", []string{with(token)}, 404},
		{"region, which nobody was asked for", "GET", "/latest/meta-data/placement/region", []string{with(token)}, 404},
		{"another version", "GET", "/2021-07-15/meta-data/iam/security-credentials/nbidentityd", []string{with(token)}, 404},
		{"the container's path", "GET", ContainerPath, []string{with(token)}, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := r.send(t, tt.method, tt.path, tt.header...)
			if resp.StatusCode != tt.status || strings.Contains(body, testSecret) {
				t.Errorf("status %d %s, want %d", resp.StatusCode, body, tt.status)
			}
			if tt.method == "PUT" && tt.status != 200 && resp.Header.Get(ttlHeader) != "" {
				t.Error("a refusal echoes the lifetime")
			}
		})
	}
	if n := r.vended(); n != 0 {
		t.Errorf("%d credentials vended", n)
	}
	// A token may be used again while it lives, as AWS documents.
	for range 3 {
		if resp, _ := r.send(t, "GET", document, with(token)); resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
}

// All names by which clients and packet rules lead here.
func TestIMDSHosts(t *testing.T) {
	r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{})
	for _, host := range []string{"169.254.169.254", "169.254.169.254:80", "[fd00:ec2::254]", "127.0.0.1", r.addr, "localhost"} {
		resp, token := r.send(t, "PUT", tokenPath, ttlHeader+": 60", "Host: "+host)
		if resp.StatusCode != 200 {
			t.Errorf("%s: status %d", host, resp.StatusCode)
			continue
		}
		if resp, _ := r.send(t, "GET", rolesPath+"/nbidentityd", tokenHeader+": "+token, "Host: "+host); resp.StatusCode != 200 {
			t.Errorf("%s: status %d", host, resp.StatusCode)
		}
	}
	// Node's fetch is no page in a browser; an empty body may come in chunks.
	resp, _ := r.send(t, "PUT", tokenPath, ttlHeader+": 60", "Sec-Fetch-Mode: cors")
	if resp.StatusCode != 200 {
		t.Errorf("fetch: status %d", resp.StatusCode)
	}
	got := r.bytes(t, "PUT "+tokenPath+" HTTP/1.1\r\nHost: "+r.addr+"\r\n"+ttlHeader+": 60\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("empty body in chunks: %q", got)
	}
}

func TestIMDSv1(t *testing.T) {
	r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{AllowV1: true, RoleName: "alice"})
	if resp, body := r.send(t, "GET", rolesPath+"/alice"); resp.StatusCode != 200 || !strings.Contains(body, testSecret) {
		t.Errorf("status %d", resp.StatusCode)
	}
	for _, bad := range []string{"", "x"} {
		if resp, _ := r.send(t, "GET", rolesPath+"/alice", tokenHeader+": "+bad); resp.StatusCode != 401 {
			t.Errorf("token %q: status %d", bad, resp.StatusCode)
		}
	}
}

func TestIMDSUnavailable(t *testing.T) {
	p := &provider{err: &codedError{"denied_assume_role", "STS said no", ""}}
	r := startIMDS(t, Config{Credentials: p}, IMDSConfig{})
	token := tokenHeader + ": " + r.imdsToken(t, "60")
	resp, body := r.send(t, "GET", rolesPath+"/nbidentityd", token)
	checkRefusal(t, resp, body, 503, "denied_assume_role", "STS said no")
	v := good()
	v.Expires = time.Now().Add(-time.Second)
	p.set(v, nil)
	resp, body = r.send(t, "GET", rolesPath+"/nbidentityd", token)
	checkRefusal(t, resp, body, 503, "expired", "")
	p.set(aws.Credentials{}, nil)
	resp, body = r.send(t, "GET", rolesPath+"/nbidentityd", token)
	checkRefusal(t, resp, body, 503, "failed", "")
}

func TestIMDSPassesMetadata(t *testing.T) {
	var asked atomic.Int32
	r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{
		Metadata: func(ctx context.Context, path string) ([]byte, string, int, error) {
			asked.Add(1)
			switch path {
			case "/latest/meta-data/placement/region":
				return []byte("eu-central-1"), "text/plain", 200, nil
			case "/latest/dynamic/instance-identity/document":
				return []byte(`{"region":"eu-central-1"}`), "application/json", 200, nil
			case "/latest/meta-data/hostname":
				return nil, "", 0, errors.New("no route")
			}
			return []byte("<html>"), "text/html", 404, nil
		},
	})
	token := tokenHeader + ": " + r.imdsToken(t, "60")
	for range 2 {
		for _, tt := range []struct {
			path, want, contentType string
			status                  int
		}{
			{"/latest/meta-data/placement/region", "eu-central-1", "text/plain", 200},
			{"/latest/dynamic/instance-identity/document", `{"region":"eu-central-1"}`, "application/json", 200},
			{"/latest/meta-data/ami-id", "not_found", "application/json", 404},
			{"/latest/meta-data/hostname", "unreachable", "application/json", 503},
			{"/latest/user-data", "not_found", "application/json", 404},
		} {
			resp, body := r.send(t, "GET", tt.path, token)
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.want) || !strings.HasPrefix(resp.Header.Get("Content-Type"), tt.contentType) {
				t.Errorf("%s: status %d, %v, %q", tt.path, resp.StatusCode, resp.Header, body)
			}
			if resp, _ := r.send(t, "GET", tt.path); resp.StatusCode != 401 {
				t.Errorf("%s without a token: status %d", tt.path, resp.StatusCode)
			}
		}
	}
	if n := asked.Load(); n > 5 {
		t.Errorf("the real service was asked %d times", n)
	}
}

// A metadata service that hangs keeps nobody waiting, and ends with its face.
func TestIMDSWithHangingMetadata(t *testing.T) {
	asked, ended := make(chan struct{}), make(chan struct{})
	r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{
		AllowV1: true,
		Metadata: func(ctx context.Context, _ string) ([]byte, string, int, error) {
			close(asked)
			<-ctx.Done()
			close(ended)
			return nil, "", 0, ctx.Err()
		},
	})
	resp, body := r.send(t, "GET", "/latest/meta-data/mac")
	checkRefusal(t, resp, body, 503, "unreachable", "")
	<-asked
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	<-ended
}

// FuzzIMDS judges the handler: no credential without a token that it gave out,
// no answer to pages and proxies, and always an answer.
func FuzzIMDS(f *testing.F) {
	s := New(Config{Credentials: &provider{value: good()}, Log: zap.NewNop()})
	face := s.newIMDSFace(IMDSConfig{})
	face.at(1338)
	f.Add("PUT", tokenPath, "169.254.169.254", ttlHeader, "60", "", "")
	f.Add("GET", rolesPath+"/nbidentityd", "127.0.0.1:1338", tokenHeader, "x", "Origin", "http://evil.example")
	f.Add("GET", rolesPath+"/", "[::1]:1338", tokenHeader, strings.Repeat("A", 56), "Sec-Fetch-Site", "none")
	f.Add("GET", "/latest//meta-data/../user-data", "evil.example", "X-Forwarded-For", "", "Via", "x")
	f.Fuzz(func(t *testing.T, method, path, host, name, value, name2, value2 string) {
		w := handle(t, face, method, path, host, name, value, name2, value2)
		if strings.Contains(w.Body.String(), testSecret) || w.Code == 200 && path != tokenPath {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

func FuzzContainer(f *testing.F) {
	s := New(Config{Credentials: &provider{value: good()}, Log: zap.NewNop()})
	face := containerFaceForTest(s)
	f.Add("GET", ContainerPath, "127.0.0.1:1338", "Authorization", "x", "", "")
	f.Add("GET", ContainerPath, "localhost", "Authorization", strings.Repeat("A", 43), "Referer", "x")
	f.Add("GET", "http://evil.example/", "evil.example", "Authorization", "", "Content-Length", "1")
	f.Fuzz(func(t *testing.T, method, path, host, name, value, name2, value2 string) {
		if w := handle(t, face, method, path, host, name, value, name2, value2); w.Code == 200 || strings.Contains(w.Body.String(), testSecret) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// On a kept connection a token is as good as it was, and no other is; it ends
// with its life.
func TestIMDSTokenOnKeptConnection(t *testing.T) {
	r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	ask := func(token string) error {
		_, err := fetch(client, "GET", r.url()+rolesPath+"/nbidentityd", tokenHeader, token)
		return err
	}
	begin := time.Now()
	short, long := r.imdsToken(t, "2"), r.imdsToken(t, "600")
	for range 3 {
		if err := ask(long); err != nil {
			t.Error(err)
		}
	}
	if err := ask(short); err != nil && time.Since(begin) < time.Second {
		t.Error(err)
	}
	if ask(long[:len(long)-1]+"=") == nil || ask("") == nil {
		t.Error("answered without the token")
	}
	time.Sleep(2 * time.Second)
	if ask(short) == nil {
		t.Error("answered after the token's life")
	}
	if err := ask(long); err != nil {
		t.Error(err)
	}
}
