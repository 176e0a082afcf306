package credserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nbidentityd/nbidentityd/internal/credserver/authtoken"
	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
)

// FuzzWire sends bytes of an allowed caller to each face as it is served, by
// net/http behind the gate; @TOKEN in them stands for what the face asks for.
// Whatever they are, the answers are HTTP and end, nothing panics, and no
// credential leaves but for a GET that shows the token. No key of a profile has
// more than a line. Time is simulated:
// net/http waits half a second before it closes a connection on many a bad
// request.
func FuzzWire(f *testing.F) {
	const host = " HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	for _, seed := range []string{
		"GET /v1/credentials HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		"PUT " + tokenPath + host + ttlHeader + ": 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET " + rolesPath + "/nbidentityd" + host + tokenHeader + ": @TOKEN\r\n\r\n",
		"GET " + ContainerPath + host + "Authorization: @TOKEN\r\n\r\nGET / HTTP/1.0\r\n\r\n",
		"GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://169.254.169.254" + rolesPath + "/nbidentityd" + host + tokenHeader + ": @TOKEN\r\nOrigin: x\r\nExpect: 100-continue\r\n\r\n",
		"GET /%76%31/container-credentials" + host + "Authorization: @TOKEN\r\nAuthorization: x\r\nX-Long: " + strings.Repeat("x", 5000) + "\r\n\r\n",
		"POST /v1/profiles/work HTTP/1.1\r\nHost: x\r\nContent-Length: 44\r\n\r\nregion=eu-west-1\nsource_profile=default\nx==\n1", "DELETE /v1/profiles/a%0Ab HTTP/1.1\r\nHost: x\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "OPTIONS *" + host + "\r\n", "CONNECT 127.0.0.1:80" + host + "\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01",
	} {
		for face := range uint8(3) {
			f.Add(face, []byte(seed))
		}
	}
	uid := uint32(os.Geteuid())
	tokens, dir := authtoken.New(uid), f.TempDir()
	if err := tokens.Write(dir); err != nil {
		f.Fatal(err)
	}
	authorization := (&onTCP{dir: dir}).token(f, uid)
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		synctest.Test(t, func(t *testing.T) {
			core, logs := observer.New(zapcore.WarnLevel)
			s := New(Config{Credentials: &provider{value: good()}, Profiles: anyProfile{t}, Log: zap.New(core)})
			var answers []byte
			var token string
			switch which % 3 {
			case 0:
				f := s.newUnixFace()
				answers = converse(t, f.face, f, text)
			case 1:
				f := s.newIMDSFace(IMDSConfig{})
				token = f.tokens.Issue(caller.Caller{UID: uid}.Bearer(), time.Hour)
				text = bytes.ReplaceAll(text, []byte("@TOKEN"), []byte(token))
				answers = converse(t, f.face, f, text)
			case 2:
				f := s.newContainerFace(tokens)
				token = authorization
				text = bytes.ReplaceAll(text, []byte("@TOKEN"), []byte(token))
				answers = converse(t, f.face, f, text)
			}
			if bytes.Contains(answers, []byte(testSecret)) && (!bytes.Contains(text, []byte("GET")) || !bytes.Contains(text, []byte(token))) {
				t.Errorf("a credential for %q", text)
			}
			checkHTTP(t, text, answers)
			for _, line := range logs.All() {
				if strings.Contains(line.Message, "complained") {
					t.Errorf("to %q: %v", text, line.ContextMap())
				}
			}
		})
	})
}

// anyProfile takes every profile that gets to it.
type anyProfile struct{ t *testing.T }

func (p anyProfile) Add(uid uint32, _ string, keys []ProfileKey) error {
	for _, k := range keys {
		if uid != uint32(os.Geteuid()) || strings.ContainsAny(k.Name, "=\n") || strings.Contains(k.Value, "\n") {
			p.t.Errorf("uid %d adds %q", uid, keys)
		}
	}
	return nil
}

func (p anyProfile) Remove(uint32, string) error { return nil }

// checkHTTP wants answers to be whole ones, and nothing after them.
func checkHTTP(t *testing.T, text, answers []byte) {
	t.Helper()
	for r := bufio.NewReader(bytes.NewReader(answers)); ; {
		if _, err := r.Peek(1); err == io.EOF {
			return
		}
		resp, err := http.ReadResponse(r, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if head := bytes.Contains(text, []byte("HEAD")); head && errors.Is(err, io.ErrUnexpectedEOF) {
			return // such an answer has the length of what it leaves out
		}
		if err != nil {
			t.Fatalf("to %q: %q: %v", text, answers, err)
		}
	}
}

// converse serves f to a caller who says text and no more, and returns all that
// comes back.
func converse(t *testing.T, f *face, h http.Handler, text []byte) []byte {
	t.Helper()
	c := &scripted{in: bytes.NewReader(text), closed: make(chan struct{})}
	l := &lone{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conns <- c
	g := f.gate(l, false, func(net.Conn) (caller.Caller, error) { return caller.Caller{UID: uint32(os.Geteuid())}, nil })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.serve(ctx, g, h) }()
	select {
	case <-c.closed:
	case <-time.After(time.Minute):
		t.Errorf("no end of the answers to %q", text)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serving %q: %v", text, err)
	}
	return c.out.Bytes()
}

// scripted is a connection whose other end has said all that it will say.
type scripted struct {
	in     *bytes.Reader
	out    bytes.Buffer
	once   sync.Once
	closed chan struct{}
}

func (c *scripted) Read(b []byte) (int, error)     { return c.in.Read(b) }
func (c *scripted) Write(b []byte) (int, error)    { return c.out.Write(b) }
func (c *scripted) Close() error                   { c.once.Do(func() { close(c.closed) }); return nil }
func (*scripted) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (*scripted) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (*scripted) SetDeadline(time.Time) error      { return nil }
func (*scripted) SetReadDeadline(time.Time) error  { return nil }
func (*scripted) SetWriteDeadline(time.Time) error { return nil }

// lone is a listener to whom nobody comes but the first.
type lone struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *lone) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *lone) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *lone) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
