package credserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nbidentityd/nbidentityd/internal/credserver/authtoken"
	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
	"github.com/nbidentityd/nbidentityd/internal/credserver/refusals"
)

// onTCP is a server with one face on a loopback port.
type onTCP struct {
	addr   string
	server *Server
	logs   *observer.ObservedLogs
	tokens *authtoken.Tokens
	dir    string // of the token files
	stop   func() error
}

func (r *onTCP) url() string { return "http://" + r.addr }

func (r *onTCP) token(t testing.TB, uid uint32) string {
	t.Helper()
	b, err := os.ReadFile(authtoken.Path(r.dir, uid))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func startTCP(t testing.TB, cfg Config, serve func(context.Context, *Server, net.Listener) error) *onTCP {
	t.Helper()
	return serveTCPOn(t, listenAt(t, "127.0.0.1:0"), cfg, serve)
}

func serveTCPOn(t testing.TB, l net.Listener, cfg Config, serve func(context.Context, *Server, net.Listener) error) *onTCP {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	if cfg.Log == nil {
		cfg.Log = zap.New(core)
	}
	r := &onTCP{addr: l.Addr().String(), logs: logs, server: New(cfg)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, r.server, l) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return r
}

func startIMDS(t testing.TB, cfg Config, imds IMDSConfig) *onTCP {
	t.Helper()
	return startTCP(t, cfg, func(ctx context.Context, s *Server, l net.Listener) error { return s.ServeIMDS(ctx, l, imds) })
}

func startContainer(t testing.TB, cfg Config, tokensFor ...uint32) *onTCP {
	t.Helper()
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tokens := authtoken.New(append(tokensFor, uint32(os.Geteuid()))...)
	if err := tokens.Write(dir); err != nil {
		t.Fatal(err)
	}
	r := startTCP(t, cfg, func(ctx context.Context, s *Server, l net.Listener) error { return s.ServeContainer(ctx, l, tokens) })
	r.tokens, r.dir = tokens, dir
	return r
}

// send sends one request as it stands, on a connection of its own. A Host
// header is added unless there is one.
func (r *onTCP) send(t testing.TB, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	text := method + " " + path + " HTTP/1.1\r\nConnection: close\r\n"
	if !strings.Contains(strings.Join(header, "\n"), "Host:") {
		text += "Host: " + r.addr + "\r\n"
	}
	for _, h := range header {
		text += h + "\r\n"
	}
	answer := r.bytes(t, text+"\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: answer %q: %v", method, path, answer, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func (r *onTCP) bytes(t testing.TB, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, request)
	b, _ := io.ReadAll(c)
	return string(b)
}

func (r *onTCP) vended() int { return r.logs.FilterMessage("credentials vended").Len() }

func TestForwarded(t *testing.T) {
	for header, want := range map[string]bool{
		"Origin: null": true, "origin: https://evil.example": true, "Referer: x": true, "Forwarded:": true, "Via: 1.1 squid": true,
		"X-Forwarded-For: 127.0.0.1": true, "X-Forwarded-Host: x": true, "x-forwarded-proto: http": true, "X-Real-IP: 127.0.0.1": true,
		"Sec-Fetch-Site: none": true, "Sec-Fetch-Dest: empty": true, "Sec-Fetch-User: ?1": true,
		"Sec-Fetch-Mode: cors": false, "User-Agent: Mozilla/5.0": false, "Accept: */*": false, "X-Forwarded: x": false,
	} {
		name, value, _ := strings.Cut(header, ":")
		r := &http.Request{Header: http.Header{}}
		r.Header.Set(name, value)
		if got := forwarded(r); got != want {
			t.Errorf("%s: %v", header, got)
		}
	}
}

func TestHosts(t *testing.T) {
	s := New(Config{Credentials: &provider{}})
	imds := s.newIMDSFace(IMDSConfig{})
	imds.at(1338)
	h := imds.hosts
	container := newHosts(1338)
	for _, tt := range []struct {
		host            string
		imds, container bool
	}{
		{"127.0.0.1", true, true},
		{"127.0.0.1:1338", true, true},
		{"[::1]", true, true},
		{"[::1]:1338", true, true},
		{"localhost", true, true},
		{"localhost:1338", true, true},
		{"169.254.169.254", true, false},
		{"169.254.169.254:80", true, false},
		{"[fd00:ec2::254]", true, false},
		{"[fd00:ec2::254]:80", true, false},
		{"[fd00:0ec2:0::0254]", true, false},
		{"169.254.169.254:1338", false, false},
		{"127.0.0.1:80", false, false},
		{"127.0.0.1:1339", false, false},
		{"localhost:01338", false, false},
		{"", false, false},
		{":1338", false, false},
		{"evil.example", false, false},
		{"evil.example:1338", false, false},
		{"127.0.0.1.evil.example", false, false},
		{"127.0.0.1.evil.example:1338", false, false},
		{"localhost.evil.example", false, false},
		{"localhost.", false, false},
		{"127.0.0.1@evil.example", false, false},
		{"127.0.0.2", false, false},
		{"0.0.0.0", false, false},
		{"0", false, false},
		{"2130706433", false, false},
		{"[::ffff:127.0.0.1]", false, false},
		{"[::1%lo]", false, false},
		{"instance-data", false, false},
	} {
		if got := h.ours(tt.host); got != tt.imds {
			t.Errorf("metadata service as %q: %v", tt.host, got)
		}
		if got := container.ours(tt.host); got != tt.container {
			t.Errorf("container credentials as %q: %v", tt.host, got)
		}
	}
}

func TestServeWantsLoopback(t *testing.T) {
	for name, make := range map[string]func() (net.Listener, error){
		"any address": func() (net.Listener, error) { return net.Listen("tcp4", "0.0.0.0:0") },
		"unix":        func() (net.Listener, error) { return net.Listen("unix", shortDir(t)+"/s") },
	} {
		for face, serve := range map[string]func(*Server, net.Listener) error{
			"container": func(s *Server, l net.Listener) error { return s.ServeContainer(t.Context(), l, authtoken.New()) },
			"imds":      func(s *Server, l net.Listener) error { return s.ServeIMDS(t.Context(), l, IMDSConfig{}) },
			"imds with containers": func(s *Server, l net.Listener) error {
				return s.ServeIMDS(t.Context(), l, IMDSConfig{Containers: netip.MustParsePrefix("172.31.0.1/24")})
			},
		} {
			l, err := make()
			if err != nil {
				t.Fatal(err)
			}
			if err := serve(New(Config{Credentials: &provider{}}), l); !errors.Is(err, errListenerAddress) {
				t.Errorf("%s on %s: %v", face, name, err)
			}
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s on %s: the listener is still open: %v", face, name, err)
			}
		}
	}
}

// Nobody becomes allowed by the number that stands for nobody.
func TestNobodyIsNotAllowed(t *testing.T) {
	if s := New(Config{Credentials: &provider{}, AllowUIDs: []uint32{caller.NoUID}}); s.allowed(caller.NoUID) {
		t.Error("allowed")
	}
}

// askFor is a whole exchange for a credential on one connection, as an SDK has it.
type askFor func(t testing.TB, r *onTCP, c *http.Client) error

func askIMDS(t testing.TB, r *onTCP, c *http.Client) error {
	token, err := fetch(c, "PUT", r.url()+tokenPath, ttlHeader, "21600")
	if err != nil {
		return err
	}
	role, err := fetch(c, "GET", r.url()+rolesPath+"/", tokenHeader, token)
	if err != nil {
		return err
	}
	return wantSecret(fetch(c, "GET", r.url()+rolesPath+"/"+role, tokenHeader, token))
}

func askContainer(t testing.TB, r *onTCP, c *http.Client) error {
	return wantSecret(fetch(c, "GET", r.url()+ContainerPath, "Authorization", r.token(t, uint32(os.Geteuid()))))
}

func wantSecret(body string, err error) error {
	if err == nil && !strings.Contains(body, testSecret) {
		err = fmt.Errorf("body %q", body)
	}
	return err
}

func fetch(c *http.Client, method, url, name, value string) (string, error) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set(name, value)
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return string(body), err
}

// tcpFaces is both of them, with the exchange of each.
var tcpFaces = []struct {
	name  string
	start func(testing.TB, Config) *onTCP
	ask   askFor
}{
	{"container", func(t testing.TB, cfg Config) *onTCP { return startContainer(t, cfg) }, askContainer},
	{"imds", func(t testing.TB, cfg Config) *onTCP { return startIMDS(t, cfg, IMDSConfig{}) }, askIMDS},
}

// An SDK's requests share a connection, and each of them is checked.
func TestKeepAlive(t *testing.T) {
	for _, face := range tcpFaces {
		t.Run(face.name, func(t *testing.T) {
			r := face.start(t, Config{Credentials: &provider{value: good()}})
			dials := 0
			transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials++
				return new(net.Dialer).DialContext(ctx, network, addr)
			}}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			for range 3 {
				if err := face.ask(t, r, client); err != nil {
					t.Fatal(err)
				}
			}
			if dials != 1 || r.vended() != 3 {
				t.Errorf("%d connections, %d credentials vended", dials, r.vended())
			}
			req, err := http.NewRequest("GET", r.url()+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "evil.example"
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if dials != 1 || resp.StatusCode != 403 {
				t.Errorf("%d connections, status %d", dials, resp.StatusCode)
			}
		})
	}
}

// Idle connections are closed, at the latest when the server ends.
func TestIdleConnections(t *testing.T) {
	for _, face := range tcpFaces {
		t.Run(face.name, func(t *testing.T) {
			t.Parallel()
			r := face.start(t, Config{Credentials: &provider{value: good()}})
			for _, end := range []string{"by time", "by stopping"} {
				c, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				io.WriteString(c, "GET /x HTTP/1.1\r\nHost: "+r.addr+"\r\n\r\n")
				begin := time.Now()
				if end == "by stopping" {
					if err := r.stop(); err != nil {
						t.Fatal(err)
					}
				}
				c.SetDeadline(begin.Add(3 * tcpIdle))
				if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: still open", end)
				}
				if took := time.Since(begin); end == "by stopping" && took >= tcpIdle {
					t.Errorf("%s: %v", end, took)
				}
			}
		})
	}
}

// Whatever bytes come: no credential, no 200, and the next client is served.
func TestTCPGarbage(t *testing.T) {
	for _, face := range tcpFaces {
		t.Run(face.name, func(t *testing.T) {
			r := face.start(t, Config{Credentials: &provider{value: good()}})
			for _, in := range []string{
				"\x00\x01\x02\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
				"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
				"GET / HTTP/1.1\r\nHost: " + r.addr + "\r\nHost: evil.example\r\n\r\n",
				"GET / HTTP/1.1\r\nHost: " + r.addr + "\r\nA: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
				"GET /" + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\nHost: " + r.addr + "\r\n\r\n",
				"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
				"GET http://evil.example/ HTTP/1.1\r\nHost: " + r.addr + "\r\nConnection: close\r\n\r\n",
				"PUT /latest/api/token HTTP/1.1\r\nHost: " + r.addr + "\r\nContent-Length: 1000000000\r\n" + ttlHeader + ": 60\r\nConnection: close\r\n\r\n",
				"POST / HTTP/1.1\r\nHost: " + r.addr + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
			} {
				if got := r.bytes(t, in); strings.Contains(got, " 200 ") || strings.Contains(got, testSecret) {
					t.Errorf("%.60q: %q", in, got)
				}
			}
			if err := face.ask(t, r, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func listenAt(t testing.TB, addr string) net.Listener {
	t.Helper()
	l, err := listener.TCP("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// When the kernel cannot be asked, nobody is answered, and the log says so.
func TestUnknownCaller(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	s := New(Config{Credentials: &provider{value: good()}, Log: zap.New(core)})
	f := s.newFace(face{name: "imds"})
	l := listenAt(t, "127.0.0.1:0")
	g := f.gate(l, false, func(net.Conn) (caller.Caller, error) { return caller.Caller{}, errors.New("no sock_diag") })
	done := make(chan error, 1)
	go func() { _, err := g.Accept(); done <- err }()
	r := &onTCP{addr: l.Addr().String()}
	for range 10 {
		if got := r.bytes(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); got != "" {
			t.Errorf("answer %q", got)
		}
	}
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	s.refusals.Flush()
	if n := logs.FilterMessage("connection refused").Len(); n != refusals.LinesPerKey {
		t.Errorf("%d lines", n)
	}
	if n := s.metrics.GetOrCreateCounter(`nbidentityd_refusals_total{face="imds",code="caller_unknown"}`).Get(); n != 10 {
		t.Errorf("%d counted", n)
	}
}
