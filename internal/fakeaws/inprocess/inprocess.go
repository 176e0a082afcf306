// Package inprocess lets an http.Client talk to http.Handlers without a
// socket, so that real SDK clients run inside a testing/synctest bubble.
//
// It guarantees that a round trip ends when the request's context does, whatever
// the handler does; that an aborted answer reaches the client as an error,
// before or in the middle of the body; and that the handler sees what a server
// would have given it: RequestURI, RemoteAddr, Host, TLS for https. It reads
// the whole request body before the handler runs, and delivers an answer's
// header at the first write or flush. It follows no redirects, keeps no
// connections, and has no limits of size.
package inprocess

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Transport is an http.RoundTripper.
type Transport struct {
	// Route returns the handler for a host name (without port), or nil when
	// the name does not resolve.
	Route func(host string) http.Handler
	// RemoteAddr is what handlers see as the client's address and port.
	RemoteAddr string
}

// RoundTrip runs the handler for req's host.
func (t Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Hostname()
	h := t.Route(host)
	if h == nil {
		closeBody(req)
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var body []byte
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(req.Body)
		closeBody(req)
		if err != nil {
			return nil, fmt.Errorf("reading request body: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(req.Context())
	w := &writer{header: http.Header{}, ready: make(chan struct{}), cancel: cancel}
	w.body.cond = sync.NewCond(&w.body.mu)
	stop := context.AfterFunc(ctx, func() { w.Abort(context.Cause(ctx)) })
	served := t.serverRequest(req, ctx, body)
	go func() {
		defer cancel()
		defer func() {
			stop()
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler {
					panic(p)
				}
				w.Abort(io.ErrUnexpectedEOF)
			}
			w.finish()
		}()
		h.ServeHTTP(w, served)
	}()
	<-w.ready // the context's end aborts, and that makes it ready
	return w.response(req)
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // a request body that cannot close has still been read
	}
}

// serverRequest is req as a server would have parsed it.
func (t Transport) serverRequest(req *http.Request, ctx context.Context, body []byte) *http.Request {
	s := req.Clone(ctx)
	s.RequestURI = req.URL.RequestURI()
	s.RemoteAddr = t.RemoteAddr
	s.Proto, s.ProtoMajor, s.ProtoMinor = "HTTP/1.1", 1, 1
	if s.Method == "" {
		s.Method = http.MethodGet
	}
	if s.Host == "" {
		s.Host = req.URL.Host
	}
	if req.URL.Scheme == "https" {
		s.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true,
			CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: req.URL.Hostname()}
	}
	if s.Header == nil {
		s.Header = http.Header{}
	}
	if _, ok := s.Header["User-Agent"]; !ok {
		s.Header.Set("User-Agent", "Go-http-client/1.1")
	}
	s.Body = io.NopCloser(bytes.NewReader(body))
	s.ContentLength = int64(len(body))
	s.URL.Scheme, s.URL.Host = "", ""
	return s
}

// writer is the handler's http.ResponseWriter.
type writer struct {
	header http.Header
	ready  chan struct{} // closed when the header is written or the trip failed
	cancel context.CancelFunc

	mu     sync.Mutex // guards the fields below until ready is closed
	sent   http.Header
	status int
	err    error // of the round trip
	body   body
}

func (w *writer) Header() http.Header { return w.header }

func (w *writer) WriteHeader(status int) {
	if status < 200 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 && w.err == nil {
		w.status, w.sent = status, w.header.Clone()
		close(w.ready)
	}
}

func (w *writer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.write(p)
}

// Flush delivers the header.
func (w *writer) Flush() { w.WriteHeader(http.StatusOK) }

// Abort ends the answer with err; see the fault package's Aborter.
func (w *writer) Abort(err error) {
	w.mu.Lock()
	if w.status == 0 && w.err == nil {
		w.err = err
		close(w.ready)
	}
	w.mu.Unlock()
	w.body.end(err)
}

// finish ends an answer that the handler has completed.
func (w *writer) finish() {
	w.WriteHeader(http.StatusOK)
	w.body.end(io.EOF)
}

func (w *writer) response(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		w.cancel()
		return nil, w.err
	}
	r := &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: w, ContentLength: -1, Request: req,
	}
	var length int64
	if _, err := fmt.Sscan(strings.TrimSpace(w.sent.Get("Content-Length")), &length); err == nil {
		r.ContentLength = length
	}
	return r, nil
}

// Read reads the answer's body.
func (w *writer) Read(p []byte) (int, error) { return w.body.read(p) }

// Close lets go of the answer; a handler that still writes gets an error.
func (w *writer) Close() error {
	w.body.end(io.ErrClosedPipe)
	w.cancel()
	return nil
}

// body is an unbounded pipe.
type body struct {
	mu   sync.Mutex // guards the fields below
	cond *sync.Cond
	buf  bytes.Buffer
	err  error // at the end of buf; nil while the handler runs
}

func (b *body) write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, io.ErrClosedPipe
	}
	b.cond.Broadcast()
	return b.buf.Write(p)
}

func (b *body) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
		b.cond.Broadcast()
	}
}

func (b *body) read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.buf.Len() == 0 && b.err == nil {
		b.cond.Wait()
	}
	if b.buf.Len() > 0 {
		return b.buf.Read(p)
	}
	return 0, b.err
}
