package credserver

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"
)

// FuzzWire sends bytes of an allowed caller to each face as it is served, by
// net/http behind the gate; @TOKEN in them stands for what the face asks for.
// Whatever they are, the answers are HTTP and end, nothing panics, and no
// credential leaves but for a GET that shows the token.
func FuzzWire(f *testing.F) {
	cfg := Config{Credentials: &provider{value: good()}}
	unix, imds, container := start(f, cfg), startIMDS(f, cfg, IMDSConfig{}), startContainer(f, cfg)
	faces := []struct {
		network, addr, token string
		logs                 *observer.ObservedLogs
	}{
		{"unix", unix.path, "", unix.logs},
		{"tcp", imds.addr, imds.imdsToken(f, "21600"), imds.logs},
		{"tcp", container.addr, container.token(f, uint32(os.Geteuid())), container.logs},
	}
	const host = " HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	for i, seed := range []string{
		"GET /v1/credentials HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		"PUT " + tokenPath + host + ttlHeader + ": 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET " + rolesPath + "/nbidentityd" + host + tokenHeader + ": @TOKEN\r\n\r\n",
		"GET " + ContainerPath + host + "Authorization: @TOKEN\r\n\r\nGET / HTTP/1.0\r\n\r\n",
		"GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://169.254.169.254" + rolesPath + "/nbidentityd" + host + tokenHeader + ": @TOKEN\r\nOrigin: x\r\nExpect: 100-continue\r\n\r\n",
		"GET /%76%31/container-credentials" + host + "Authorization: @TOKEN\r\nAuthorization: x\r\nX-Long: " + strings.Repeat("x", 5000) + "\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "OPTIONS *" + host + "\r\n", "CONNECT 127.0.0.1:80" + host + "\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01",
	} {
		f.Add(uint8(i), []byte(seed))
	}
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		face := faces[int(which)%len(faces)]
		text = bytes.ReplaceAll(text, []byte("@TOKEN"), []byte(face.token))
		answers := converse(t, face.network, face.addr, text)
		if bytes.Contains(answers, []byte(testSecret)) && (!bytes.Contains(text, []byte("GET")) || !bytes.Contains(text, []byte(face.token))) {
			t.Errorf("%s: a credential for %q", face.addr, text)
		}
		for r := bufio.NewReader(bytes.NewReader(answers)); ; {
			if _, err := r.Peek(1); err == io.EOF {
				break
			}
			resp, err := http.ReadResponse(r, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
			}
			if head := bytes.Contains(text, []byte("HEAD")); head && errors.Is(err, io.ErrUnexpectedEOF) {
				break // such an answer has the length of what it leaves out
			}
			if err != nil {
				t.Fatalf("to %q: %q: %v", text, answers, err)
			}
		}
		for _, line := range face.logs.TakeAll() {
			if strings.Contains(line.Message, "complained") {
				t.Errorf("to %q: %v", text, line.ContextMap())
			}
		}
	})
}

// converse sends text and its end, and returns all that comes back.
func converse(t *testing.T, network, addr string, text []byte) []byte {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0) // else the ports run out
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		c.Write(text) // the face may have had enough before the end
		c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	answers, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("no end of the answers to %q: %q", text, answers)
	}
	return answers
}
