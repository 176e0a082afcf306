package fault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/fault"
)

const answer = "0123456789abcdefghijklmnopqrstuvwxyz"

// bench is a service named "sts" behind a Set, on a loopback socket.
type bench struct {
	*httptest.Server
	set   fault.Set
	acted atomic.Int32 // requests that reached the service
}

// newBench serves an echo of the request's body, or the fixed answer.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := new(bench)
	b.Server = httptest.NewServer(b.handler())
	t.Cleanup(func() {
		b.set.Clear("", "") // lets go of whatever hangs
		b.Close()
	})
	return b
}

func (b *bench) handler() http.Handler {
	return b.set.Wrap(func(r *http.Request) string { return strings.Trim(r.URL.Path, "/") },
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.acted.Add(1)
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if len(body) == 0 {
				body = []byte(answer)
			}
			w.Header().Set("Content-Type", "text/x-answer")
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write(body)
		}))
}

func (b *bench) set1(t *testing.T, f fault.Fault) {
	t.Helper()
	if err := b.set.Set(f); err != nil {
		t.Fatal(err)
	}
}

// call makes one request to a service and returns status, type and body.
func (b *bench) call(ctx context.Context, service, body string) (status int, contentType, got string, err error) {
	r, err := http.NewRequestWithContext(ctx, "POST", b.URL+"/"+service, strings.NewReader(body))
	if err != nil {
		return 0, "", "", err
	}
	response, err := b.Client().Do(r)
	if err != nil {
		return 0, "", "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header.Get("Content-Type"), string(data), err
}

// fine fails unless the service answers as it would without faults.
func (b *bench) fine(t *testing.T, service string) {
	t.Helper()
	status, contentType, got, err := b.call(t.Context(), service, "")
	if err != nil || status != http.StatusAccepted || contentType != "text/x-answer" || got != answer {
		t.Errorf("%s: %d %s %q, %v", service, status, contentType, got, err)
	}
}

func TestReset(t *testing.T) {
	b := newBench(t)
	for _, kind := range []fault.Kind{fault.Reset, fault.Refuse} {
		b.acted.Store(0)
		b.set1(t, fault.Fault{Service: "sts", Kind: kind, Count: 2})
		for range 2 {
			if _, _, _, err := b.call(t.Context(), "sts", "body"); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: err = %v, want a connection reset", kind, err)
			}
		}
		if b.acted.Load() != 0 {
			t.Errorf("%s: the service acted", kind)
		}
		b.fine(t, "s3")
		b.fine(t, "sts")
	}
}

func TestResetOverTLS(t *testing.T) {
	b := new(bench)
	b.Server = httptest.NewTLSServer(b.handler())
	defer b.Close()
	b.set1(t, fault.Fault{Service: "sts", Kind: fault.Reset, Count: 1})
	b.set1(t, fault.Fault{Service: "s3", Kind: fault.Truncated, Count: 1})
	if _, _, _, err := b.call(t.Context(), "sts", "body"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("err = %v, want a connection reset", err)
	}
	if _, _, got, err := b.call(t.Context(), "s3", ""); !errors.Is(err, io.ErrUnexpectedEOF) || got != answer[:18] {
		t.Errorf("truncated: %q, %v", got, err)
	}
	b.fine(t, "sts")
}

func TestResetOverHTTP2(t *testing.T) {
	b := new(bench)
	b.Server = httptest.NewUnstartedServer(b.handler())
	b.EnableHTTP2 = true
	b.StartTLS()
	defer b.Close()
	b.set1(t, fault.Fault{Service: "sts", Kind: fault.Reset, Count: 1})
	b.set1(t, fault.Fault{Service: "s3", Kind: fault.Truncated, Count: 1})
	if status, _, _, err := b.call(t.Context(), "sts", "body"); err == nil {
		t.Errorf("answered %d", status)
	}
	if _, _, got, err := b.call(t.Context(), "s3", ""); err == nil || len(got) >= len(answer) {
		t.Errorf("truncated: %q, %v", got, err)
	}
	b.fine(t, "sts")
}

func TestThrottleAndFailure(t *testing.T) {
	b := newBench(t)
	b.set1(t, fault.Fault{Service: "sts", Kind: fault.Throttle, Count: 3})
	b.set1(t, fault.Fault{Service: "s3", Kind: fault.Failure})
	b.set1(t, fault.Fault{Service: "iam", Kind: fault.Failure, Status: 599, Count: 1})
	for range 3 {
		status, _, got, err := b.call(t.Context(), "sts", "body")
		if err != nil || status != 400 || !strings.Contains(got, "ThrottlingException") {
			t.Errorf("%d %q, %v", status, got, err)
		}
	}
	b.fine(t, "sts")
	if status, _, _, err := b.call(t.Context(), "s3", ""); err != nil || status != 503 {
		t.Errorf("%d, %v", status, err)
	}
	if status, _, _, err := b.call(t.Context(), "iam", ""); err != nil || status != 599 {
		t.Errorf("%d, %v", status, err)
	}
	b.fine(t, "iam")
	if got := b.acted.Load(); got != 2 {
		t.Errorf("the service acted %d times", got)
	}
}

func TestRender(t *testing.T) {
	b := newBench(t)
	b.set.Render = func(w http.ResponseWriter, r *http.Request, service string, f fault.Fault) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %d", service, body, f.Kind, f.Status)
	}
	b.set1(t, fault.Fault{Kind: fault.Throttle, Count: 1})
	b.set1(t, fault.Fault{Kind: fault.Failure, Count: 1})
	for _, want := range []string{"sts Action throttle 0", "sts Action error 503"} {
		if status, _, got, err := b.call(t.Context(), "sts", "Action"); err != nil || status != http.StatusTeapot || got != want {
			t.Errorf("%d %q, %v, want %q", status, got, err, want)
		}
	}
	b.fine(t, "sts")
}

func TestMalformed(t *testing.T) {
	b := newBench(t)
	b.set1(t, fault.Fault{Service: "sts", Kind: fault.Malformed, Count: 1})
	b.set1(t, fault.Fault{Service: "s3", Kind: fault.Malformed, Body: "<html>proxy login</html>"})
	status, contentType, got, err := b.call(t.Context(), "sts", "")
	if err != nil || status != http.StatusAccepted || contentType != "text/x-answer" || got == answer || got == "" {
		t.Errorf("%d %s %q, %v", status, contentType, got, err)
	}
	b.fine(t, "sts")
	if _, _, got, err := b.call(t.Context(), "s3", ""); err != nil || got != "<html>proxy login</html>" {
		t.Errorf("%q, %v", got, err)
	}
	if got := b.acted.Load(); got != 3 {
		t.Errorf("the service acted %d times", got)
	}
}

// An answer that has no body cannot be garbled, and must not break the server.
func TestNoContent(t *testing.T) {
	var set fault.Set
	for _, f := range []fault.Fault{{Kind: fault.Malformed}, {Kind: fault.Slow, Duration: time.Hour}} {
		if err := set.Set(f); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(set.Wrap(func(*http.Request) string { return "s3" },
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })))
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || len(body) != 0 || response.StatusCode != http.StatusNoContent {
		t.Errorf("%s %q, %v", response.Status, body, err)
	}
}

func TestTruncated(t *testing.T) {
	b := newBench(t)
	for _, body := range []string{"", "x", strings.Repeat("a long answer ", 1<<16)} {
		b.set1(t, fault.Fault{Service: "sts", Kind: fault.Truncated, Count: 1})
		status, _, got, err := b.call(t.Context(), "sts", body)
		full := body
		if full == "" {
			full = answer
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) || status != http.StatusAccepted || got != full[:len(full)/2] {
			t.Errorf("%d bytes of %d with status %d, %v", len(got), len(full), status, err)
		}
	}
	b.fine(t, "sts")
}

func TestSlow(t *testing.T) {
	b := newBench(t)
	b.set1(t, fault.Fault{Service: "sts", Kind: fault.Slow, Duration: 80 * time.Millisecond, Count: 1})
	b.set1(t, fault.Fault{Service: "s3", Kind: fault.Slow, Duration: time.Hour})
	start := time.Now()
	b.fine(t, "sts")
	if took := time.Since(start); took < 75*time.Millisecond {
		t.Errorf("took %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", b.URL+"/s3", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := b.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	time.AfterFunc(50*time.Millisecond, cancel)
	got, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusAccepted || string(got) == answer || !errors.Is(err, context.Canceled) {
		t.Errorf("%d %q, %v", response.StatusCode, got, err)
	}
}

func TestLatency(t *testing.T) {
	b := newBench(t)
	b.set1(t, fault.Fault{Service: "sts", Kind: fault.Latency, Duration: 50 * time.Millisecond, Count: 1})
	start := time.Now()
	status, _, got, err := b.call(t.Context(), "sts", "the body is still there")
	if took := time.Since(start); took < 50*time.Millisecond || err != nil || status != http.StatusAccepted || got != "the body is still there" {
		t.Errorf("%d %q, %v after %s", status, got, err, took)
	}
	b.fine(t, "sts")
}

func TestHangUntilCleared(t *testing.T) {
	b := newBench(t)
	b.set1(t, fault.Fault{Service: "sts", Kind: fault.Hang, Count: 2})
	results := make(chan string, 2)
	for range 2 {
		go func() {
			_, _, got, err := b.call(t.Context(), "sts", "late")
			results <- fmt.Sprint(got, err)
		}()
	}
	b.untilHits(t, 2)
	b.fine(t, "sts") // a third request does not hang
	select {
	case got := <-results:
		t.Errorf("answered %q while hanging", got)
	case <-time.After(20 * time.Millisecond):
	}
	b.set.Clear("sts", fault.Hang)
	for range 2 {
		if got := <-results; got != "late<nil>" {
			t.Errorf("after clearing: %q", got)
		}
	}
}

// untilHits waits until the only fault has struck n requests.
func (b *bench) untilHits(t *testing.T, n int) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		if list := b.set.List(); len(list) == 1 && list[0].Hits == n {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("faults = %+v", b.set.List())
		case <-time.After(time.Millisecond):
		}
	}
}

// TestHangUntilTheClientLeaves checks that no handler is left behind, whether
// or not the request had a body.
func TestHangUntilTheClientLeaves(t *testing.T) {
	var set fault.Set
	if err := set.Set(fault.Fault{Kind: fault.Hang}); err != nil {
		t.Fatal(err)
	}
	came, left := make(chan struct{}, 2), make(chan struct{}, 2)
	inner := set.Wrap(func(*http.Request) string { return "sts" }, http.NotFoundHandler())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		defer func() { left <- struct{}{} }()
		inner.ServeHTTP(w, r)
	}))
	defer server.Close()
	for _, body := range []string{"", "Action=AssumeRole"} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-came
			cancel()
		}()
		r, _ := http.NewRequestWithContext(ctx, "POST", server.URL, strings.NewReader(body))
		if _, err := server.Client().Do(r); !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
		select {
		case <-left:
		case <-time.After(time.Minute):
			t.Fatalf("the handler of a request with body %q is still there", body)
		}
	}
}

func TestOffset(t *testing.T) {
	var set fault.Set
	if got := set.Offset("sts"); got != 0 {
		t.Errorf("offset of an empty set = %s", got)
	}
	for _, f := range []fault.Fault{
		{Service: "sts", Kind: fault.ClockSkew, Duration: -2 * time.Hour},
		{Kind: fault.ClockSkew, Duration: time.Hour},
	} {
		if err := set.Set(f); err != nil {
			t.Fatal(err)
		}
	}
	if sts, s3 := set.Offset("sts"), set.Offset("s3"); sts != -2*time.Hour || s3 != time.Hour {
		t.Errorf("offsets = %s, %s", sts, s3)
	}
	set.Clear("sts", "")
	if got := set.Offset("sts"); got != time.Hour {
		t.Errorf("offset after clearing = %s", got)
	}
}

func TestNamedGoesBeforeAny(t *testing.T) {
	b := newBench(t)
	b.set1(t, fault.Fault{Kind: fault.Failure, Status: 500})
	b.set1(t, fault.Fault{Service: "sts", Kind: fault.Failure, Status: 504, Count: 1})
	for _, want := range []int{504, 500} {
		if status, _, _, err := b.call(t.Context(), "sts", ""); err != nil || status != want {
			t.Errorf("%d, %v, want %d", status, err, want)
		}
	}
	b.set1(t, fault.Fault{Service: "sts", Kind: fault.Failure, Status: 505, Count: 1})
	b.set.Clear(fault.AnyService, "")
	want := []fault.State{{Fault: fault.Fault{Service: "sts", Kind: fault.Failure, Status: 505, Count: 1}}}
	if diff := cmp.Diff(want, b.set.List()); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestCountIsExact(t *testing.T) {
	b := newBench(t)
	const faulty, total = 25, 100
	b.set1(t, fault.Fault{Service: "sts", Kind: fault.Failure, Count: faulty})
	var failed atomic.Int32
	var group sync.WaitGroup
	for range total {
		group.Go(func() {
			status, _, _, err := b.call(t.Context(), "sts", "")
			if err != nil {
				t.Error(err)
			}
			if status == 503 {
				failed.Add(1)
			}
		})
	}
	for range 20 { // changes of other faults meanwhile
		b.set1(t, fault.Fault{Service: "s3", Kind: fault.Hang})
		b.set.Clear("s3", "")
		b.set.List()
	}
	group.Wait()
	if failed.Load() != faulty || b.acted.Load() != total-faulty {
		t.Errorf("%d failed, %d acted", failed.Load(), b.acted.Load())
	}
	if list := b.set.List(); len(list) != 1 || !list[0].Spent() || list[0].Hits != faulty {
		t.Errorf("list = %+v", list)
	}
}

// aborter is a ResponseWriter without a connection.
type aborter struct {
	header http.Header
	status int
	body   bytes.Buffer
	err    error
}

func (a *aborter) Header() http.Header         { return a.header }
func (a *aborter) WriteHeader(status int)      { a.status = status }
func (a *aborter) Write(p []byte) (int, error) { return a.body.Write(p) }
func (a *aborter) Abort(err error)             { a.err = err }

// wrapper stands for a middleware's ResponseWriter.
type wrapper struct{ http.ResponseWriter }

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestWithoutSockets runs every aborting fault in simulated time.
func TestWithoutSockets(t *testing.T) {
	tests := []struct {
		fault  fault.Fault
		err    error
		status int
		body   string
		after  time.Duration
	}{
		{fault.Fault{Kind: fault.Refuse}, syscall.ECONNREFUSED, 0, "", 0},
		{fault.Fault{Kind: fault.Reset}, syscall.ECONNRESET, 0, "", 0},
		{fault.Fault{Kind: fault.Truncated}, io.ErrUnexpectedEOF, 202, answer[:18], 0},
		{fault.Fault{Kind: fault.Hang}, context.DeadlineExceeded, 0, "", 4 * time.Hour},
		{fault.Fault{Kind: fault.Latency, Duration: 5 * time.Hour}, context.DeadlineExceeded, 0, "", 4 * time.Hour},
		{fault.Fault{Kind: fault.Latency, Duration: 3 * time.Hour}, nil, 202, answer, 3 * time.Hour},
		{fault.Fault{Kind: fault.Slow, Duration: 3 * time.Hour}, nil, 202, answer, 3 * time.Hour},
		{fault.Fault{Kind: fault.Slow, Duration: 9 * time.Hour}, io.ErrUnexpectedEOF, 202, answer[:15], 4 * time.Hour},
	}
	for _, test := range tests {
		for _, wrapped := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := new(bench)
				b.set1(t, test.fault)
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Hour)
				defer cancel()
				a := &aborter{header: http.Header{}}
				var w http.ResponseWriter = a
				if wrapped {
					w = wrapper{a}
				}
				b.handler().ServeHTTP(w, httptest.NewRequest("POST", "/sts", nil).WithContext(ctx))
				if !errors.Is(a.err, test.err) || a.status != test.status || a.body.String() != test.body || time.Since(start).Round(time.Second) != test.after {
					t.Errorf("%s: %v, status %d, body %q, after %s", test.fault.Kind, a.err, a.status, a.body.String(), time.Since(start))
				}
			})
		}
	}
}

// A writer that can neither abort nor be hijacked: the server's own way.
func TestRecorder(t *testing.T) {
	b := new(bench)
	b.set1(t, fault.Fault{Kind: fault.Reset})
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("recovered %v", got)
		}
	}()
	b.handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/sts", nil))
}

// A client that has reset the connection itself does no harm.
func TestClientGone(t *testing.T) {
	b := newBench(t)
	b.set1(t, fault.Fault{Kind: fault.Slow, Duration: 10 * time.Millisecond})
	for range 20 {
		conn, err := net.Dial("tcp", b.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /sts HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	b.set.Clear("", "")
	b.fine(t, "sts")
}
