package credserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nbidentityd/nbidentityd/internal/credserver/document"
	"github.com/nbidentityd/nbidentityd/internal/credserver/gate"
	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
	"github.com/nbidentityd/nbidentityd/internal/credserver/refusals"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shortDir is a private directory whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// provider is a source of credentials that a test can change at any time.
type provider struct {
	mu    sync.Mutex
	value aws.Credentials
	err   error
	wait  bool // for the context, as a source that is just starting does
}

func (p *provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	p.mu.Lock()
	value, err, wait := p.value, p.err, p.wait
	p.mu.Unlock()
	if wait {
		<-ctx.Done()
		return aws.Credentials{}, ctx.Err()
	}
	return value, err
}

func (p *provider) set(v aws.Credentials, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.value, p.err, p.wait = v, err, false
}

const (
	testSecret = "test-secret-access-key"
	testToken  = "test-session-token/+=="
)

func good() aws.Credentials {
	return aws.Credentials{
		AccessKeyID: "ASIATESTEXAMPLE", SecretAccessKey: testSecret, SessionToken: testToken,
		CanExpire: true, Expires: time.Now().Add(time.Hour), AccountID: "111122223333",
	}
}

// running is a server on a socket.
type running struct {
	path   string
	server *Server
	logs   *observer.ObservedLogs
	stop   func() error // cancels, waits and returns what Serve returned
}

func start(t testing.TB, cfg Config) *running {
	t.Helper()
	r := &running{path: filepath.Join(shortDir(t), "s")}
	l, err := listener.Unix(r.path, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	r.serveOn(t, cfg, l)
	return r
}

func (r *running) serveOn(t testing.TB, cfg Config, l net.Listener) {
	core, logs := observer.New(zapcore.DebugLevel)
	cfg.Log, r.logs = zap.New(core), logs
	r.server = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(ctx, l) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// raw sends bytes and returns the answer, read to its end.
func raw(t testing.TB, path, request string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, request)
	b, _ := io.ReadAll(c) // a reset after the answer is fine
	return string(b)
}

func request(t testing.TB, path, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	text := method + " " + url + " HTTP/1.1\r\nHost: x\r\n"
	for _, h := range header {
		text += h + "\r\n"
	}
	answer := raw(t, path, text+"\r\n")
	req, _ := http.NewRequest(method, "http://x", nil)
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), req)
	if err != nil {
		t.Fatalf("answer %q: %v", answer, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestCredentials(t *testing.T) {
	v := good()
	v.Expires = time.Date(2094, 1, 2, 3, 4, 5, 999_999_999, time.FixedZone("", 3600))
	r := start(t, Config{Credentials: &provider{value: v}})
	resp, body := request(t, r.path, "GET", "/v1/credentials")
	want := `{"Version":1,"AccessKeyId":"ASIATESTEXAMPLE","SecretAccessKey":"test-secret-access-key",` +
		`"SessionToken":"test-session-token/+==","Expiration":"2094-01-02T02:04:05Z","AccountId":"111122223333"}` + "\n"
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if resp.StatusCode != 200 || resp.ContentLength != int64(len(want)) {
		t.Errorf("status %d, length %d", resp.StatusCode, resp.ContentLength)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Connection": "close"} {
		if got := resp.Header.Get(name); got != want && !(name == "Connection" && resp.Close) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestAuditLine(t *testing.T) {
	v := good()
	r := start(t, Config{Credentials: &provider{value: v}})
	for range 3 {
		request(t, r.path, "GET", "/v1/credentials")
	}
	lines := r.logs.FilterMessage("credentials vended").All()
	if len(lines) != 3 {
		t.Fatalf("%d lines for 3 vends", len(lines))
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"uid": uint32(os.Geteuid()), "pid": int32(os.Getpid()), "exe": exe, "face": "unix",
		"key_id_suffix": "MPLE", "expires": v.Expires.Round(0).UTC().Truncate(time.Second),
	}
	if diff := cmp.Diff(want, lines[0].ContextMap()); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

// codedError is what the daemon's source returns.
type codedError struct{ code, message, remedy string }

func (e *codedError) Error() string  { return e.message }
func (e *codedError) Code() string   { return e.code }
func (e *codedError) Remedy() string { return e.remedy }

// Whatever the provider returns, the answer is a living credential or a reason.
func TestCredentialsRefused(t *testing.T) {
	change := func(f func(*aws.Credentials)) *provider {
		v := good()
		f(&v)
		return &provider{value: v}
	}
	tests := []struct {
		name          string
		provider      *provider
		code, message string
	}{
		{"nothing", &provider{}, "failed", "incomplete"},
		{"no key", change(func(c *aws.Credentials) { c.AccessKeyID = "" }), "failed", "incomplete"},
		{"no secret", change(func(c *aws.Credentials) { c.SecretAccessKey = "" }), "failed", "incomplete"},
		{"no token", change(func(c *aws.Credentials) { c.SessionToken = "" }), "failed", "incomplete"},
		{"cannot expire", change(func(c *aws.Credentials) { c.CanExpire = false }), "failed", "without an expiry"},
		{"no expiry", change(func(c *aws.Credentials) { c.Expires = time.Time{} }), "failed", "without an expiry"},
		{"expired", change(func(c *aws.Credentials) { c.Expires = time.Now().Add(-time.Second) }), "expired", "expired at"},
		{"expires within the second", change(func(c *aws.Credentials) { c.Expires = time.Now().Truncate(time.Second).Add(time.Nanosecond) }), "expired", "expired at"},
		{"too large", change(func(c *aws.Credentials) { c.SessionToken = strings.Repeat("x", document.MaxBody) }), "failed", "8192"},
		{"coded", &provider{err: fmt.Errorf("outer: %w", &codedError{"denied_assume_role", "STS said no\nto \x1b[31mé", "ask an administrator"})}, "denied_assume_role", "STS said no to [31m?; ask an administrator"},
		{"coded, no remedy", &provider{err: &codedError{"throttled", "slow down", ""}}, "throttled", "slow down"},
		{"bad code", &provider{err: &codedError{"a\r\nb: c", "m", ""}}, "failed", "log says why"},
		{"long message", &provider{err: &codedError{"failed", strings.Repeat("m", 5000), ""}}, "failed", strings.Repeat("m", maxMessage)},
		{"uncoded error that quotes a secret", &provider{err: errors.New("request with " + testSecret)}, "failed", "log says why"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, Config{Credentials: tt.provider})
			resp, body := request(t, r.path, "GET", "/v1/credentials")
			checkRefusal(t, resp, body, 503, tt.code, tt.message)
			if strings.Contains(body, testSecret) {
				t.Error("the answer quotes a secret")
			}
			if got := r.server.failures.Load(); got != 1 {
				t.Errorf("%d failures counted", got)
			}
			lines := r.logs.FilterMessage("request refused").All()
			if len(lines) != 1 || lines[0].ContextMap()["code"] != tt.code {
				t.Errorf("log: %v", lines)
			}
		})
	}
}

func checkRefusal(t *testing.T, resp *http.Response, body string, status int, code, message string) {
	t.Helper()
	if resp.StatusCode != status {
		t.Errorf("status %d, want %d", resp.StatusCode, status)
	}
	if got := resp.Header.Get("Nbidentity-Error"); got != code {
		t.Errorf("code %q, want %q", got, code)
	}
	text := resp.Header.Get("Nbidentity-Message")
	if !strings.Contains(text, message) || len(text) > maxMessage {
		t.Errorf("message %q, want %q in it", text, message)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	want := map[string]string{"Code": code, "code": code, "Message": text, "message": text}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

// A credential that is good now and expires later stops being served by the
// wall clock, though the provider goes on returning it.
func TestExpiryIsCheckedOnEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := good()
		v.Expires = time.Now().Add(90*time.Second + 999*time.Millisecond)
		f := New(Config{Credentials: &provider{value: v}}).newUnixFace()
		time.Sleep(90*time.Second - time.Nanosecond)
		if w := handle(t, f, "GET", "/v1/credentials", "x"); w.Code != 200 {
			t.Fatalf("status %d", w.Code)
		}
		time.Sleep(time.Nanosecond) // the fraction of a second is not handed out
		w := handle(t, f, "GET", "/v1/credentials", "x")
		checkRefusal(t, w.Result(), w.Body.String(), 503, "expired", "none has replaced it")
	})
}

// Each face waits for the first credential as long as its clients wait for it.
func TestWaitsForFirstCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Credentials: &provider{wait: true}})
		imds, container := s.newIMDSFace(IMDSConfig{AllowV1: true}), containerFaceForTest(s)
		dir := t.TempDir()
		if err := container.tokens.Write(dir); err != nil {
			t.Fatal(err)
		}
		token := (&onTCP{dir: dir}).token(t, uint32(os.Getuid()))
		for _, tt := range []struct {
			face   http.Handler
			path   string
			header []string
			want   time.Duration
		}{
			{s.newUnixFace(), "/v1/credentials", nil, firstCredentialWait},
			{imds, rolesPath + "/nbidentityd", nil, 80 * time.Millisecond},
			{container, ContainerPath, []string{"Authorization", token}, 700 * time.Millisecond},
		} {
			begin := time.Now()
			w := handle(t, tt.face, "GET", tt.path, "127.0.0.1", tt.header...)
			checkRefusal(t, w.Result(), w.Body.String(), 503, "not_ready", "no credential yet")
			if took := time.Since(begin); took != tt.want {
				t.Errorf("%s: took %v, want %v", tt.path, took, tt.want)
			}
		}
	})
}

// A caller that goes away does not leave its handler waiting.
func TestCallerGone(t *testing.T) {
	asked, end := make(chan struct{}), make(chan error)
	p := providerFunc(func(ctx context.Context) (aws.Credentials, error) {
		close(asked)
		<-ctx.Done()
		end <- ctx.Err()
		return aws.Credentials{}, ctx.Err()
	})
	r := start(t, Config{Credentials: p})
	c, err := net.Dial("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET /v1/credentials HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	c.Close()
	if err := <-end; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's wait ended with %v", err)
	}
}

func TestRefusedRequests(t *testing.T) {
	r := start(t, Config{Credentials: &provider{value: good()}})
	tests := []struct {
		name, method, url string
		header            []string
		status            int
		code              string
	}{
		{"path", "GET", "/v1/credential", nil, 404, "not_found"},
		{"root", "GET", "/", nil, 404, "not_found"},
		{"POST", "POST", "/v1/credentials", nil, 405, "bad_request"},
		{"PUT of a path that is not there", "PUT", "/x", nil, 405, "bad_request"},
		{"body", "GET", "/v1/credentials", []string{"Content-Length: 1"}, 400, "bad_request"},
		{"chunked body", "GET", "/v1/credentials", []string{"Transfer-Encoding: chunked"}, 400, "bad_request"},
		{"browser", "GET", "/v1/credentials", []string{"Origin: https://evil.example"}, 403, "forbidden"},
		{"link", "GET", "/v1/credentials", []string{"Referer: https://evil.example/"}, 403, "forbidden"},
		{"proxy", "GET", "/v1/credentials", []string{"x-forwarded-for: 192.0.2.1"}, 403, "forbidden"},
		{"empty forwarded", "GET", "/v1/status", []string{"Forwarded:"}, 403, "forbidden"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := request(t, r.path, tt.method, tt.url, tt.header...)
			checkRefusal(t, resp, body, tt.status, tt.code, "")
		})
	}
	t.Run("HEAD", func(t *testing.T) {
		if resp, _ := request(t, r.path, "HEAD", "/v1/credentials"); resp.StatusCode != 405 {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
	if n := r.logs.FilterMessage("credentials vended").Len(); n != 0 {
		t.Errorf("%d credentials vended", n)
	}
}

// A provider that panics costs its caller the answer, not others theirs, and
// does not fill the log.
func TestPanic(t *testing.T) {
	p := providerFunc(func(context.Context) (aws.Credentials, error) { panic("provider") })
	r := start(t, Config{Credentials: p})
	for range 50 {
		if got := raw(t, r.path, "GET /v1/credentials HTTP/1.1\r\nHost: x\r\n\r\n"); got != "" {
			t.Errorf("answer %q", got)
		}
	}
	if resp, _ := request(t, r.path, "GET", "/v1/status"); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if n := r.logs.FilterMessage("http server complained").Len(); n != refusals.LinesPerKey {
		t.Errorf("%d lines", n)
	}
	if n := r.logs.FilterMessage("refusals not logged").Len(); n != 1 {
		t.Errorf("%d lines about what was left out", n)
	}
}

// One connection carries one request, also for a client that wants more.
func TestOneRequestPerConnection(t *testing.T) {
	r := start(t, Config{Credentials: &provider{value: good()}})
	one := "GET /v1/credentials HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
	if got := strings.Count(raw(t, r.path, one+one+one), "HTTP/1.1 "); got != 1 {
		t.Errorf("%d answers", got)
	}
	if n := r.logs.FilterMessage("credentials vended").Len(); n != 1 {
		t.Errorf("%d credentials vended", n)
	}
}

func TestGarbage(t *testing.T) {
	r := start(t, Config{Credentials: &provider{value: good()}})
	for _, in := range []string{
		"\x00\x01\x02\r\n\r\n", "GET\r\n\r\n", "GET /v1/credentials HTTP/9.9\r\n\r\n", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",
		"GET /v1/credentials HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /v1/credentials HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"GET /v1/credentials HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
		"GET /" + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		if got := raw(t, r.path, in); strings.Contains(got, " 200 ") || strings.Contains(got, testSecret) {
			t.Errorf("%.40q: %q", in, got)
		}
	}
	if resp, _ := request(t, r.path, "GET", "/v1/credentials"); resp.StatusCode != 200 {
		t.Errorf("afterwards: status %d", resp.StatusCode)
	}
}

func TestStatus(t *testing.T) {
	report := status.Report{State: status.Degraded, SessionName: "alice-nb", Problem: &status.Problem{Code: "throttled", Message: "slow"}}
	r := start(t, Config{Credentials: &provider{value: good()}, Status: func() status.Report { return report }})
	request(t, r.path, "GET", "/v1/credentials")

	resp, body := request(t, r.path, "GET", "/v1/status")
	var got status.Report
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if got.Vends != 1 || got.Failures != 0 || got.State != status.Degraded {
		t.Errorf("status %s", body)
	}
	if resp.Header.Get("Nbidentity-State") != "degraded" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", resp.Header)
	}

	resp, body = request(t, r.path, "GET", "/v1/status", "Accept: text/plain")
	if !strings.HasPrefix(body, "AWS calls from this notebook are made as alice-nb\n") {
		t.Errorf("text %q", body)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("header %v", resp.Header)
	}
}

func TestMetrics(t *testing.T) {
	set := metrics.NewSet()
	set.GetOrCreateCounter("from_cmd").Set(7)
	p := &provider{value: good()}
	r := start(t, Config{
		Credentials: p, Metrics: set, Version: "1.2\"3",
		Status: func() status.Report {
			return status.Report{Credential: &status.Credential{Expires: time.Now().Add(time.Hour)}}
		},
	})
	request(t, r.path, "GET", "/v1/credentials")
	request(t, r.path, "GET", "/v1/credentials")
	p.set(aws.Credentials{}, &codedError{code: "throttled"})
	request(t, r.path, "GET", "/v1/credentials")
	_, body := request(t, r.path, "GET", "/metrics")
	for _, want := range []string{
		"nbidentityd_vends_total{face=\"unix\"} 2\n", "nbidentityd_refusals_total{face=\"unix\",code=\"throttled\"} 1\n",
		"from_cmd 7\n", "nbidentityd_credential_seconds_left 35", "nbidentityd_connections{face=\"unix\"} 1\n",
		`nbidentityd_build_info{version="1.2\"3",go_version="go`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if n := set.GetOrCreateGauge(`nbidentityd_connections{face="unix"}`, nil).Get(); n != 0 {
		t.Errorf("%v connections after the end", n)
	}
}

// childRequest, in the environment of this test program, makes it a client.
const childRequest = "NBIDENTITY_TEST_REQUEST_TO"

func TestChild(t *testing.T) {
	path := os.Getenv(childRequest)
	if path == "" {
		t.Skip("is the child of another test")
	}
	if request := os.Getenv("REQUEST"); request != "" {
		fmt.Print((&onTCP{addr: path}).bytes(t, request))
		return
	}
	fmt.Print(raw(t, path, "GET "+os.Getenv("URL_PATH")+" HTTP/1.1\r\nHost: x\r\n\r\n"))
}

func asUID(t *testing.T, uid uint32, socket, url string) string {
	t.Helper()
	if os.Geteuid() == 0 {
		if err := os.Chmod(filepath.Dir(socket), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return childOf(t, uid, childRequest+"="+socket, "URL_PATH="+url)
}

func childOf(t *testing.T, uid uint32, env ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: to ask as another uid")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChild$")
	cmd.Dir = "/"
	cmd.Env = append(env, "GORACE=atexit_sleep_ms=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return string(out)
}

func TestForeignUIDRefused(t *testing.T) {
	r := start(t, Config{Credentials: &provider{value: good()}, AllowUIDs: []uint32{1501}})
	for _, url := range []string{"/v1/credentials", "/v1/status", "/metrics", "/"} {
		got := asUID(t, 1500, r.path, url)
		if !strings.Contains(got, "HTTP/1.1 403 ") || !strings.Contains(got, "Nbidentity-Error: forbidden\r\n") || strings.Contains(got, testSecret) {
			t.Errorf("%s: %s", url, got)
		}
	}
	lines := r.logs.FilterMessage("request refused").All()
	if len(lines) != refusals.LinesPerKey || lines[0].ContextMap()["uid"] != uint32(1500) {
		t.Errorf("log: %v", lines)
	}
	if got := asUID(t, 1501, r.path, "/v1/credentials"); !strings.Contains(got, "HTTP/1.1 200 ") {
		t.Errorf("allowed uid: %s", got)
	}
	if lines := r.logs.FilterMessage("credentials vended").All(); len(lines) != 1 || lines[0].ContextMap()["uid"] != uint32(1501) {
		t.Errorf("log: %v", lines)
	}
}

// fill opens n connections that send a little and no more.
func fill(t *testing.T, path string, n int, say string) (stop func()) {
	t.Helper()
	conns := make([]net.Conn, 0, n)
	for len(conns) < n {
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, say)
		conns = append(conns, c)
	}
	return func() {
		for _, c := range conns {
			c.Close()
		}
	}
}

// patiently asks as nbidentity and the SDKs do, which come again when they are
// told that there are too many at once. It returns how often it came.
func patiently(t testing.TB, ask func() error) (times int) {
	t.Helper()
	for {
		err := ask()
		times++
		if err == nil {
			return times
		}
		if times == 20 { // long before those who keep it out are cut off for being slow
			t.Errorf("%d times: %v", times, err)
			return times
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// 2,000 connections of the same uid that dribble a header or say nothing do not
// keep an honest caller from its answer: their places are taken from them.
func TestSlowlorisFlood(t *testing.T) {
	r := start(t, Config{Credentials: &provider{value: good()}})
	for _, say := range []string{"", "GET /v1/credentials HTTP/1.1\r\nX: ", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"} {
		stop := fill(t, r.path, 2000, say)
		most := 0
		for range 20 {
			most = max(most, patiently(t, func() error {
				if resp, _ := request(t, r.path, "GET", "/v1/credentials"); resp.StatusCode != 200 {
					return fmt.Errorf("after %q: status %d", say, resp.StatusCode)
				}
				return nil
			}))
		}
		t.Logf("after %.20q one had to ask up to %d times", say, most)
		if n := r.server.metrics.GetOrCreateGauge(`nbidentityd_connections{face="unix"}`, nil).Get(); n > defaultMaxConns {
			t.Errorf("%v connections open", n)
		}
		stop()
	}
}

// Slow callers are cut off also when nobody needs their place.
func TestSlowCallerIsCutOff(t *testing.T) {
	t.Parallel()
	r := start(t, Config{Credentials: &provider{value: good()}})
	c, err := net.Dial("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /v1/cred")
	begin := time.Now()
	c.SetDeadline(begin.Add(10 * time.Second))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("still connected after 10 s")
	}
}

// When every place is taken by a caller that waits for the first credential,
// the next is told so at once, and the waiting ones get theirs.
func TestBusy(t *testing.T) {
	first, asked := make(chan struct{}), make(chan struct{}, gate.MinShare)
	p := providerFunc(func(ctx context.Context) (aws.Credentials, error) {
		asked <- struct{}{}
		select {
		case <-first:
			return good(), nil
		case <-ctx.Done():
			return aws.Credentials{}, ctx.Err()
		}
	})
	r := start(t, Config{Credentials: p, MaxConns: 1})
	var wg sync.WaitGroup
	var served atomic.Int32
	for range gate.MinShare {
		wg.Go(func() {
			if strings.Contains(raw(t, r.path, "GET /v1/credentials HTTP/1.1\r\nHost: x\r\n\r\n"), testSecret) {
				served.Add(1)
			}
		})
	}
	for range gate.MinShare {
		<-asked
	}
	resp, body := request(t, r.path, "GET", "/v1/credentials")
	checkRefusal(t, resp, body, 503, "busy", "too many")
	close(first)
	wg.Wait()
	if served.Load() != gate.MinShare {
		t.Errorf("%d of %d waiting callers served", served.Load(), gate.MinShare)
	}
}

type providerFunc func(context.Context) (aws.Credentials, error)

func (f providerFunc) Retrieve(ctx context.Context) (aws.Credentials, error) { return f(ctx) }

// Rotation under load: every answer is one of the values, whole.
func TestConcurrentRotation(t *testing.T) {
	p := &provider{value: good()}
	r := start(t, Config{Credentials: p})
	stop := make(chan struct{})
	var rotating, asking sync.WaitGroup
	rotating.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			v := good()
			n := fmt.Sprintf("%06d", i)
			v.AccessKeyID, v.SecretAccessKey, v.SessionToken = "ASIA"+n, "s"+n, "t"+n
			p.set(v, nil)
		}
	})
	for range 8 {
		asking.Go(func() {
			for range 50 {
				_, body := request(t, r.path, "GET", "/v1/credentials")
				var got struct{ AccessKeyID, SecretAccessKey, SessionToken string }
				if err := json.Unmarshal([]byte(body), &got); err != nil {
					t.Errorf("%q: %v", body, err)
					return
				}
				if n := strings.TrimPrefix(got.AccessKeyID, "ASIA"); n != "TESTEXAMPLE" && (got.SecretAccessKey != "s"+n || got.SessionToken != "t"+n) {
					t.Errorf("mixed credential %+v", got)
				}
			}
		})
	}
	asking.Wait()
	close(stop)
	rotating.Wait()
	for _, line := range r.logs.All() {
		if s := fmt.Sprint(line); strings.Contains(s, testSecret) || strings.Contains(s, testToken) {
			t.Fatalf("a secret in the log: %s", s)
		}
	}
}

// A listener from systemd is served, and its socket is not ours to remove.
func TestServeActivatedListener(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	made, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	made.(*net.UnixListener).SetUnlinkOnClose(false)
	f, err := made.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	made.Close()
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	r := &running{path: path}
	r.serveOn(t, Config{Credentials: &provider{value: good()}}, l)
	if resp, _ := request(t, path, "GET", "/v1/credentials"); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if !exists(path) {
		t.Error("the socket of systemd was removed")
	}
}

func TestServeWantsUnixSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := New(Config{Credentials: &provider{}}).Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), "unix socket") {
		t.Errorf("Serve on TCP: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
}

func TestServeReportsBrokenListener(t *testing.T) {
	l, err := listener.Unix(filepath.Join(shortDir(t), "s"), 0o666)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- New(Config{Credentials: &provider{}}).Serve(t.Context(), l) }()
	time.Sleep(10 * time.Millisecond)
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v", err)
	}
}

// Stopping drops those who say nothing, and finishes those who have asked.
func TestShutdown(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan struct{}, 1)
	p := providerFunc(func(context.Context) (aws.Credentials, error) {
		asked <- struct{}{}
		<-release
		return good(), nil
	})
	r := start(t, Config{Credentials: p})
	defer fill(t, r.path, 50, "GET /")()
	got := make(chan string, 1)
	go func() { got <- raw(t, r.path, "GET /v1/credentials HTTP/1.1\r\nHost: x\r\n\r\n") }()
	<-asked
	begin := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	for exists(r.path) {
		time.Sleep(time.Millisecond)
	}
	close(release)
	if answer := <-got; !strings.Contains(answer, testSecret) {
		t.Errorf("answer %q", answer)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("stopping took %v", took)
	}
}
