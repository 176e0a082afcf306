package supervision

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// signs runs a watchdog of three minutes for as long as length and returns when
// it gave signs, and how far apart they were at most.
func signs(t *testing.T, length time.Duration, alive func(context.Context) error) (count int, gap time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	last := time.Now()
	w := Watchdog{Limit: 3 * time.Minute, Alive: alive, Log: zap.NewNop(), Notify: func(state string) {
		if state != "WATCHDOG=1" {
			t.Errorf("told %q", state)
		}
		count++
		gap = max(gap, time.Since(last))
		last = time.Now()
	}}
	if err := w.Run(ctx); err != nil {
		t.Error(err)
	}
	return count, max(gap, time.Since(last))
}

func TestWatchdog(t *testing.T) {
	for _, tt := range []struct {
		name  string
		alive func(context.Context) error
		count int
		gap   time.Duration // systemd's patience is 3 minutes
	}{
		{"prompt", func(context.Context) error { return nil }, 60, time.Minute},
		{"slow", func(context.Context) error { time.Sleep(45 * time.Second); return nil }, 60, 105 * time.Second},
		{"hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 0, time.Hour},
		{"refuses", func(context.Context) error { return errors.New("503") }, 0, time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			count, gap := signs(t, time.Hour+time.Second, tt.alive)
			if count < tt.count-1 || count > tt.count || gap.Truncate(time.Minute) > tt.gap {
				t.Errorf("%s: %d signs, %v apart at most; want %d, %v", tt.name, count, gap, tt.count, tt.gap)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		count, gap := signs(t, 10*time.Minute+time.Second, func(context.Context) error {
			if asked++; asked == 5 {
				return errors.New("once")
			}
			return nil
		})
		if count < 8 || gap >= 3*time.Minute {
			t.Errorf("one bad answer: %d signs, %v apart", count, gap)
		}
	})
}

// handed listens as systemd does and returns its descriptor.
func handed(t *testing.T, network, address string) *os.File {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSocketsOutliveTheirListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nb.sock")
	files := []*os.File{handed(t, "unix", path)}
	for life := range 3 {
		c, err := net.Dial("unix", path) // nobody serves
		if err != nil {
			t.Fatalf("life %d: %v", life, err)
		}
		all := Inherit(files, zap.NewNop())
		if l := all.Take("/elsewhere"); l != nil {
			t.Error("took a socket by a wrong name")
		}
		l := all.Take(path)
		if l == nil {
			t.Fatalf("life %d: no listener at %s", life, path)
		}
		served, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		served.Close()
		c.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUnwantedSocketsTurnAway(t *testing.T) {
	f := handed(t, "tcp", "127.0.0.1:0")
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()

	core, logs := observer.New(zap.WarnLevel)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Inherit([]*os.File{f}, zap.NewNop()).TurnAway(ctx, zap.New(core))
	}()
	for range 3 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d, %v; want the end", n, err)
		}
		c.Close()
	}
	cancel()
	<-done
	if logs.FilterField(zap.String("address", address)).Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}
}

func TestNotASocket(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	core, logs := observer.New(zap.ErrorLevel)
	if all := Inherit([]*os.File{f}, zap.New(core)); len(all) != 0 || logs.Len() != 1 {
		t.Errorf("got %v, logged %v", all, logs.All())
	}
}

func TestAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nb.sock")
	within := func(d time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx
	}
	if err := Answers(within(2*time.Second), path); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("nobody there: %v", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := Answers(within(300*time.Millisecond), path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody accepts: %v", err)
	}
	status := http.StatusServiceUnavailable
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/status" {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(status)
		io.WriteString(w, "{}")
	})}
	go server.Serve(l)
	defer server.Close()
	if err := Answers(within(2*time.Second), path); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("an error: %v", err)
	}
	status = http.StatusOK
	if err := Answers(t.Context(), path); err != nil {
		t.Error(err)
	}
}
