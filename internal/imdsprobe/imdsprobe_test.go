package imdsprobe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func addrOf(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// raw serves one fixed answer, and then does nothing or closes.
func raw(t *testing.T, answer string, hold bool) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if strings.HasPrefix(answer, "reset") {
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
				continue
			}
			go func() {
				c.Read(make([]byte, 4096))
				fmt.Fprint(c, answer)
				if !hold {
					c.Close()
				}
			}()
		}
	}()
	return addrOf(t, l.Addr().String())
}

func TestOutcomes(t *testing.T) {
	me := uint32(os.Geteuid())
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Nbidentity-Mark", "secret")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer ours.Close()
	our := addrOf(t, ours.Listener.Addr().String())
	tests := []struct {
		name string
		p    Probe
		want Outcome
	}{
		{"ours", Probe{Addr: our, MarkHeader: "Nbidentity-Mark", Mark: "secret"}, Redirected},
		{"somebody with an old mark", Probe{Addr: our, MarkHeader: "Nbidentity-Mark", Mark: "newer"}, Reached},
		{"no mark to compare", Probe{Addr: our, MarkHeader: "Nbidentity-Mark"}, Reached},
		{"real", Probe{Addr: raw(t, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", false), MarkHeader: "Nbidentity-Mark", Mark: "secret"}, Reached},
		{"nobody", Probe{Addr: addrOf(t, "127.0.0.1:1")}, Refused},
		{"reset", Probe{Addr: raw(t, "reset", false)}, Refused},
		{"garbage", Probe{Addr: raw(t, "\x00\x01\x02", false)}, Reached},
		{"silence", Probe{Addr: raw(t, "", true), Limit: 200 * time.Millisecond}, Reached},
		{"half a header", Probe{Addr: raw(t, "HTTP/1.1 200 OK\r\nNbidentity-Mark: sec", true), Limit: 200 * time.Millisecond, MarkHeader: "Nbidentity-Mark", Mark: "secret"}, Reached},
		{"endless header", Probe{Addr: raw(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20), true)}, Reached},
	}
	for _, test := range tests {
		test.p.UID = me
		hangs := test.p.Limit > 0
		if !hangs {
			test.p.Limit = time.Minute // a busy machine answers later
		}
		start := time.Now()
		got, detail, err := test.p.Run(t.Context())
		if err != nil || got != test.want || detail == "" && test.want != Redirected {
			t.Errorf("%s: got %s (%s), %v, want %s", test.name, got, detail, err, test.want)
		}
		if d := time.Since(start); hangs && d > 20*time.Second {
			t.Errorf("%s: took %v", test.name, d)
		}
	}
}

// The socket belongs to the user, and the thread to us again.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes sockets of another user")
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			uid := uint32(1500 + i)
			fd, err := socketOf(uid, netip.MustParseAddr("127.0.0.1"))
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil || st.Uid != uid {
				t.Errorf("the socket belongs to uid %d, want %d (%v)", st.Uid, uid, err)
			}
		})
	}
	wg.Wait()
	for range 20 {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if is, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); is != 0 {
				t.Errorf("a thread of ours acts as uid %d", is)
			}
		})
	}
	wg.Wait()
}

func TestNotPermitted(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user: root may act as anybody")
	}
	_, _, err := Probe{UID: 0, Addr: addrOf(t, "127.0.0.1:1")}.Run(t.Context())
	if !errors.Is(err, ErrNotPermitted) {
		t.Errorf("got %v", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := Probe{UID: uint32(os.Geteuid()), Addr: raw(t, "", true)}
	if outcome, _, err := p.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %s, %v", outcome, err)
	}
}

// The limit is one for the whole attempt, however little comes at a time.
func TestSlowAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		for piece := "HTTP/1.1 200 OK\r\nX: "; err == nil; piece = "x" {
			_, err = io.WriteString(c, piece) // until the probe has gone
			time.Sleep(time.Millisecond)
		}
		if c != nil {
			c.Close()
		}
	}()
	start := time.Now()
	outcome, detail, err := Probe{UID: uint32(os.Geteuid()), Addr: addrOf(t, l.Addr().String()), Limit: 200 * time.Millisecond}.Run(t.Context())
	if err != nil || outcome != Reached || !strings.Contains(detail, os.ErrDeadlineExceeded.Error()) {
		t.Errorf("got %s (%s), %v after %v", outcome, detail, err, time.Since(start))
	}
	<-done
}
