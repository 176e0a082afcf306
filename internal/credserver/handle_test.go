package credserver

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/credserver/authtoken"
	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
	"github.com/nbidentityd/nbidentityd/internal/credserver/gate"
)

func containerFaceForTest(s *Server) containerFace {
	f := s.newContainerFace(authtoken.New(uint32(os.Getuid())))
	f.hosts = newHosts(1338)
	return f
}

// one is a listener that somebody has called.
type one struct {
	net.Listener
	conn net.Conn
}

func (l one) Accept() (net.Conn, error) { return l.conn, nil }

// handle gives h a request of an allowed caller, and checks what every answer
// must be.
func handle(t *testing.T, h http.Handler, method, path, host string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	g := gate.New(one{conn: ours}, gate.Config{
		Queues: gate.NewQueues([]uint32{0}), Identify: func(net.Conn) (caller.Caller, error) { return caller.Caller{UID: 0}, nil },
	})
	c, err := g.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := &http.Request{Method: method, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: host, URL: &url.URL{Path: path}, Header: http.Header{}, Body: http.NoBody}
	for i := 0; i < len(header); i += 2 {
		if header[i] != "" {
			r.Header.Add(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r.WithContext(gate.WithConn(t.Context(), c)))
	if w.Code == 200 {
		if forwarded(r) || w.Body.Len() == 0 {
			t.Errorf("%s %q of %q: status 200", method, path, r.Header)
		}
		return w
	}
	var reason map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &reason); err != nil || !validCode(reason["code"]) || reason["Code"] != reason["code"] ||
		w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Nbidentity-Error") != reason["code"] {
		t.Errorf("%s %q: %d %v %q", method, path, w.Code, w.Header(), w.Body)
	}
	return w
}
