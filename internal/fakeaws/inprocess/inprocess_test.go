package inprocess

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func client(h http.HandlerFunc) *http.Client {
	return &http.Client{Transport: Transport{RemoteAddr: "10.0.0.7:1", Route: func(host string) http.Handler {
		if host == "nowhere" {
			return nil
		}
		return h
	}}}
}

func TestWhatTheHandlerSees(t *testing.T) {
	c := client(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "text" {
			t.Errorf("body %q, %v", body, err)
		}
		if r.RequestURI != "/a%2Fb?x=1" || r.Host != "host:8" || r.RemoteAddr != "10.0.0.7:1" || r.TLS == nil || r.Method != "POST" || r.ContentLength != 4 || r.URL.Host != "" {
			t.Errorf("request %+v", r)
		}
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "done")
	})
	r, err := c.Post("https://host:8/a%2Fb?x=1", "text/plain", strings.NewReader("text"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || string(body) != "done" || r.StatusCode != http.StatusTeapot || r.Header.Get("X-Answer") != "yes" {
		t.Errorf("%d %q %v", r.StatusCode, body, err)
	}
	if err := r.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestUnknownHost(t *testing.T) {
	_, err := client(nil).Get("http://nowhere/")
	var dns *net.DNSError
	if !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("%v", err)
	}
}

type aborter interface{ Abort(error) }

func TestAborts(t *testing.T) {
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    error // of the round trip
		read    error // of the body
		text    string
	}{
		"before the header": {handler: func(w http.ResponseWriter, _ *http.Request) { w.(aborter).Abort(syscall.ECONNRESET) }, want: syscall.ECONNRESET},
		"in the body": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half")
			w.(aborter).Abort(io.ErrUnexpectedEOF)
		}, read: io.ErrUnexpectedEOF, text: "half"},
		"panic":           {handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: io.ErrUnexpectedEOF},
		"nothing written": {handler: func(http.ResponseWriter, *http.Request) {}},
		"informational":   {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); _, _ = io.WriteString(w, "x") }, text: "x"},
		"header twice":    {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200); w.WriteHeader(500) }},
		"header after body": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "x")
			w.Header().Set("Late", "1")
		}, text: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := client(tt.handler).Get("http://host/")
			if !errors.Is(err, tt.want) || (err != nil) != (tt.want != nil) {
				t.Fatalf("round trip: %v, want %v", err, tt.want)
			}
			if err != nil {
				return
			}
			defer func() { _ = r.Body.Close() }()
			text, err := io.ReadAll(r.Body)
			if string(text) != tt.text || !errors.Is(err, tt.read) || r.StatusCode != 200 || r.Header.Get("Late") != "" {
				t.Errorf("%d %q %v", r.StatusCode, text, err)
			}
		})
	}
}

func TestTheContextEndsATrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan error, 1)
		c := client(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			gone <- r.Context().Err()
			time.Sleep(time.Hour) // a handler that does not care
		})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://host/", nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err = c.Do(request); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := <-gone; err == nil {
			t.Error("the handler was not told")
		}
		time.Sleep(2 * time.Hour) // until that handler has returned
	})
}

func TestASlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(func(w http.ResponseWriter, r *http.Request) {
			for range 3 {
				_, _ = io.WriteString(w, "x")
				time.Sleep(time.Second)
			}
		})
		r, err := c.Get("http://host/")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		text, err := io.ReadAll(r.Body)
		if string(text) != "xxx" || err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("%q %v after %v", text, err, time.Since(start))
		}
		// A client that leaves early stops the handler's writes.
		stopped := make(chan error, 1)
		c = client(func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := io.WriteString(w, "x"); err != nil {
					stopped <- err
					return
				}
				time.Sleep(time.Second)
			}
		})
		if r, err = c.Get("http://host/"); err != nil {
			t.Fatal(err)
		}
		if err := r.Body.Close(); err != nil {
			t.Error(err)
		}
		if err := <-stopped; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("write after the client left: %v", err)
		}
	})
}
