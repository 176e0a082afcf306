package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// Renderer writes the error answer of a service.
type Renderer func(w http.ResponseWriter, r *http.Request, service string, f Fault)

// Aborter is what a ResponseWriter without a connection implements so that a
// fault can break off its answer. Abort is called at most once, as the last
// use of the writer. Before the header was written, the client's round trip is
// to fail with err; after it, the answer's body is to end with err behind the
// bytes written so far. err is [syscall.ECONNREFUSED], [syscall.ECONNRESET],
// [io.ErrUnexpectedEOF] or the request context's error.
type Aborter interface{ Abort(err error) }

// Wrap returns h with the faults of s. service names the service that a
// request is for; it is called once for each request.
//
// A ResponseWriter is broken off by its [Aborter], else by hijacking the
// connection, else by panicking with [http.ErrAbortHandler].
func (s *Set) Wrap(service func(*http.Request) string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := service(r)
		if s.before(name, w, r) {
			s.answer(name, w, r, h)
		}
	})
}

// before applies the faults that strike before the service acts, and reports
// whether the service is to act at all.
func (s *Set) before(service string, w http.ResponseWriter, r *http.Request) bool {
	if s.strike(service, Refuse) != nil {
		abort(w, syscall.ECONNREFUSED)
		return false
	}
	if e := s.strike(service, Latency); e != nil {
		if err := settle(r, func() error { return wait(r.Context(), e.Duration) }); err != nil {
			abort(w, err)
			return false
		}
	}
	if e := s.strike(service, Hang); e != nil {
		if err := settle(r, func() error { return hang(r.Context(), e.cleared) }); err != nil {
			abort(w, err)
			return false
		}
	}
	if s.strike(service, Reset) != nil {
		abort(w, syscall.ECONNRESET)
		return false
	}
	for _, kind := range []Kind{Throttle, Failure} {
		if e := s.strike(service, kind); e != nil {
			s.render(w, r, service, e.Fault)
			return false
		}
	}
	return true
}

// answer lets the service act and spoils its answer.
func (s *Set) answer(service string, w http.ResponseWriter, r *http.Request, h http.Handler) {
	garbled := s.strike(service, Malformed)
	slow := s.strike(service, Slow)
	truncated := s.strike(service, Truncated)
	if garbled == nil && slow == nil && truncated == nil {
		h.ServeHTTP(w, r)
		return
	}
	b := buffer{header: w.Header().Clone(), status: http.StatusOK}
	h.ServeHTTP(&b, r)
	body := b.body.Bytes()
	hasBody := b.status != http.StatusNoContent && b.status != http.StatusNotModified
	if garbled != nil && hasBody {
		body = []byte(garbled.Body)
		if len(body) == 0 {
			body = []byte("\x00\xff<not {json, nor xml&")
		}
	}
	clear(w.Header())
	for name, values := range b.header {
		w.Header()[name] = values
	}
	if hasBody {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(b.status)

	if truncated != nil {
		body = body[:len(body)/2]
	}
	var err error
	if slow != nil {
		err = drip(r.Context(), w, body, slow.Duration)
	} else {
		_, err = w.Write(body)
	}
	if truncated != nil || err != nil {
		_ = http.NewResponseController(w).Flush() // not every writer can
		abort(w, io.ErrUnexpectedEOF)
	}
}

func (s *Set) render(w http.ResponseWriter, r *http.Request, service string, f Fault) {
	if s.Render != nil {
		s.Render(w, r, service, f)
		return
	}
	status, code, message := f.Status, "InternalFailure", http.StatusText(f.Status)
	if f.Kind == Throttle {
		status, code, message = http.StatusBadRequest, "ThrottlingException", "Rate exceeded"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// An error means that the client has gone; nobody is left to tell.
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

// maxSettled bounds how much of a request's body is held while it waits.
const maxSettled = 16 << 20

// settle reads the body before it waits, because net/http notices that a client
// has gone only when nothing more is to be read from it, and then puts it back.
func settle(r *http.Request, wait func() error) error {
	if r.Body == nil {
		return wait()
	}
	var held bytes.Buffer
	if _, err := io.CopyN(&held, r.Body, maxSettled); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(&held, r.Body), r.Body}
	return wait()
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func hang(ctx context.Context, cleared <-chan struct{}) error {
	select {
	case <-cleared:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pieces is how many parts a slow answer comes in, at most.
const pieces = 16

// drip writes body in small pieces, spread over d.
func drip(ctx context.Context, w http.ResponseWriter, body []byte, d time.Duration) error {
	flush := http.NewResponseController(w).Flush
	n := min(pieces, len(body))
	for i := range n {
		if err := flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if err := wait(ctx, d/time.Duration(n)); err != nil {
			return err
		}
		if _, err := w.Write(body[i*len(body)/n : (i+1)*len(body)/n]); err != nil {
			return err
		}
	}
	return nil
}

// abort breaks off the answer; see Aborter.
func abort(w http.ResponseWriter, cause error) {
	for inner := w; inner != nil; {
		if a, ok := inner.(Aborter); ok {
			a.Abort(cause)
			return
		}
		u, ok := inner.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		inner = u.Unwrap()
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2, or a recorder
		panic(http.ErrAbortHandler)
	}
	if !errors.Is(cause, io.ErrUnexpectedEOF) {
		reset(conn)
		return
	}
	_ = conn.Close() // the half answer was sent; there is nothing else to do
}

// reset closes a connection with a TCP reset where it is TCP.
func reset(conn net.Conn) {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a connection already dead is as good as reset
	}
	_ = conn.Close()
}

// buffer holds a whole answer.
type buffer struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

func (b *buffer) Header() http.Header { return b.header }

func (b *buffer) WriteHeader(status int) {
	if !b.wrote && status >= 200 {
		b.status, b.wrote = status, true
	}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.wrote = true
	return b.body.Write(p)
}
