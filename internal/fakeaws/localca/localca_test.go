package localca

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"testing"
)

func TestServesTheNameThatIsAskedFor(t *testing.T) {
	ca, err := New()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }),
		ErrorLog: log.New(io.Discard, "", 0), // the last handshake is to fail
	}
	go func() { _ = s.Serve(tls.NewListener(l, ca.ServerConfig())) }()
	defer func() { _ = s.Close() }()
	url := "https://" + l.Addr().String()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca.PEM()) {
		t.Fatal("the authority is no PEM certificate")
	}
	for _, name := range []string{"sts.us-east-1.amazonaws.com", "bucket.s3.us-east-1.amazonaws.com", ""} {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name}}}
		r, err := c.Get(url)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if got := r.TLS.PeerCertificates[0].DNSNames; name != "" && (len(got) != 1 || got[0] != name) {
			t.Errorf("%q: certificate is for %v", name, got)
		}
		_ = r.Body.Close()
	}
	other, err := New()
	if err != nil {
		t.Fatal(err)
	}
	foreign := x509.NewCertPool()
	foreign.AppendCertsFromPEM(other.PEM())
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: foreign}}}
	if _, err := c.Get(url); err == nil {
		t.Error("a client that trusts another run's authority connected")
	}
}

func TestKeepsABoundedNumberOfCertificates(t *testing.T) {
	ca, err := New()
	if err != nil {
		t.Fatal(err)
	}
	first, err := ca.Certificate("a.example")
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := ca.Certificate("a.example"); again != first {
		t.Error("the same name was signed twice")
	}
	for i := range maxNames + 10 {
		if _, err := ca.Certificate(fmt.Sprintf("h%d.example", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(ca.issued); n > maxNames {
		t.Errorf("%d certificates are kept, want at most %d", n, maxNames)
	}
}
