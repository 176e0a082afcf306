package sockowner

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listen(t testing.TB, network, address string) *net.TCPListener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), network, address)
	if err != nil {
		t.Skipf("needs %s: %v", address, err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// finders are one of each kind.
func finders(t testing.TB, l net.Listener) map[string]*Finder {
	t.Helper()
	f, err := Open(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	all := map[string]*Finder{"proc": {proc: "/proc/net", fd: -1}}
	if f.proc == "" {
		all["netlink"] = f
	} else {
		t.Log("this kernel has no sock_diag: only /proc is tested")
	}
	return all
}

func accept(t testing.TB, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	l.SetDeadline(time.Now().Add(5 * time.Second))
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestOwner(t *testing.T) {
	for _, tt := range []struct{ name, network, listen, dial string }{
		{"IPv4", "tcp4", "127.0.0.1:0", "tcp4"},
		{"IPv6", "tcp6", "[::1]:0", "tcp6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := listen(t, tt.network, tt.listen)
			for name, f := range finders(t, l) {
				client, err := net.Dial(tt.dial, l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				c := accept(t, l)
				if uid, err := f.Of(c); err != nil || uid != uint32(os.Geteuid()) {
					t.Errorf("%s: uid %d, %v", name, uid, err)
				}
				// A caller that has said all it wants is still there.
				client.(*net.TCPConn).CloseWrite()
				io.ReadAll(c)
				if uid, err := f.Of(c); err != nil || uid != uint32(os.Geteuid()) {
					t.Errorf("%s, half closed: uid %d, %v", name, uid, err)
				}
			}
		})
	}
}

// A virtual machine of Java speaks IPv4 over IPv6 sockets.
func TestOwnerOfMappedSocket(t *testing.T) {
	l := listen(t, "tcp4", "127.0.0.1:0")
	for name, f := range finders(t, l) {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Skipf("needs IPv6: %v", err)
		}
		defer unix.Close(fd)
		to := &unix.SockaddrInet6{Port: l.Addr().(*net.TCPAddr).Port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
		if err := unix.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
		if uid, err := f.Of(accept(t, l)); err != nil || uid != uint32(os.Geteuid()) {
			t.Errorf("%s: uid %d, %v", name, uid, err)
		}
	}
}

// The kernel says uid 0 for a connection that its maker has closed.
func TestClosedConnectionHasNoOwner(t *testing.T) {
	l := listen(t, "tcp4", "127.0.0.1:0")
	for name, f := range finders(t, l) {
		for _, reset := range []bool{false, true} {
			client, err := net.Dial("tcp4", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(client, "GET / HTTP/1.1\r\n\r\n")
			if reset {
				client.(*net.TCPConn).SetLinger(0)
			}
			client.Close()
			c := accept(t, l)
			for range 2 {
				if uid, err := f.Of(c); !errors.Is(err, ErrNoOwner) {
					t.Errorf("%s, reset %v: uid %d, %v", name, reset, uid, err)
				}
				c.CloseWrite() // on to TIME_WAIT
			}
		}
	}
}

// For a connection that is not there the kernel describes the listener of the
// caller's port, whoever that is.
func TestListenerIsNotTheOwner(t *testing.T) {
	l := listen(t, "tcp4", "127.0.0.1:0")
	other := listen(t, "tcp4", "0.0.0.0:0")
	from := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(other.Addr().(*net.TCPAddr).Port))
	to, err := addrPort(l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	s := socket{local: from, remote: to}
	for name, f := range finders(t, l) {
		var e entry
		if f.proc != "" {
			e, err = f.read(s)
		} else if e, err = f.ask(s); err != nil || e.state != unix.BPF_TCP_LISTEN {
			t.Logf("this kernel does not describe the listener: %+v, %v", e, err)
		}
		if err == nil && e.owns(s) {
			t.Errorf("%s: %+v passes for %+v", name, e, s)
		}
	}
}

func TestOwns(t *testing.T) {
	s := socket{local: netip.MustParseAddrPort("127.0.0.1:1"), remote: netip.MustParseAddrPort("127.0.0.1:2")}
	other := socket{local: s.remote, remote: s.local}
	for _, tt := range []struct {
		e    entry
		want bool
	}{
		{entry{s, unix.BPF_TCP_ESTABLISHED, 1, 1}, true},
		{entry{s, unix.BPF_TCP_FIN_WAIT1, 1, 1}, true},
		{entry{s, unix.BPF_TCP_FIN_WAIT2, 1, 1}, true},
		{entry{s, unix.BPF_TCP_ESTABLISHED, 1, 0}, false},
		{entry{s, unix.BPF_TCP_TIME_WAIT, 1, 1}, false},
		{entry{s, unix.BPF_TCP_LISTEN, 1, 1}, false},
		{entry{s, unix.BPF_TCP_SYN_SENT, 1, 1}, false},
		{entry{other, unix.BPF_TCP_ESTABLISHED, 1, 1}, false},
	} {
		if got := tt.e.owns(s); got != tt.want {
			t.Errorf("%+v: %v", tt.e, got)
		}
	}
}

// childDial, in the environment of this test program, makes it a client that
// connects there and holds on until its standard input ends.
const childDial = "NBIDENTITY_TEST_DIAL"

func TestChild(t *testing.T) {
	to := os.Getenv(childDial)
	if to == "" {
		t.Skip("is the child of another test")
	}
	dialer := net.Dialer{}
	dialer.SetMultipathTCP(os.Getenv("MULTIPATH") != "")
	c, err := dialer.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.ReadAll(os.Stdin)
}

func child(t *testing.T, uid uint32, to string, env ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: to connect as another uid")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChild$")
	cmd.Dir, cmd.Env = "/", append(env, childDial+"="+to, "GORACE=atexit_sleep_ms=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v\n%s", err, &out)
		}
	})
}

func TestOtherUID(t *testing.T) {
	l := listen(t, "tcp4", "127.0.0.1:0")
	for name, f := range finders(t, l) {
		child(t, 1500, l.Addr().String())
		if uid, err := f.Of(accept(t, l)); err != nil || uid != 1500 {
			t.Errorf("%s: uid %d, %v", name, uid, err)
		}
		// A socket of multipath TCP has its subflow made by the kernel: the
		// owner, or none, but nobody else.
		child(t, 1500, l.Addr().String(), "MULTIPATH=1")
		if uid, err := f.Of(accept(t, l)); err == nil && uid != 1500 {
			t.Errorf("%s, multipath: uid %d", name, uid)
		}
	}
}

// Askers at the same time get each their own answer.
func TestManyQuestions(t *testing.T) {
	l := listen(t, "tcp4", "127.0.0.1:0")
	f := finders(t, l)["netlink"]
	if f == nil {
		t.Skip("needs sock_diag")
	}
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c := accept(t, l)
	done := make(chan error, 8)
	for range 8 {
		go func() {
			for range 200 {
				if uid, err := f.Of(c); err != nil || uid != uint32(os.Geteuid()) {
					done <- fmt.Errorf("uid %d: %w", uid, err)
					return
				}
			}
			done <- nil
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Of(c); err == nil {
		t.Error("a closed finder answers")
	}
}

func TestParseLine(t *testing.T) {
	if nativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("needs a little-endian machine: the lines are from one")
	}
	for line, want := range map[string]string{
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode": "",
		"":  "",
		" ": "",
		"  12: 0100007F:1F90 020200C0:01BB 01 00000000:00000000 02:000A 00000000  1500        0 810164 1 0000000000000000 20 4 1 36 -1":                                                "127.0.0.1:8080 192.0.2.2:443 1 1500 810164",
		"   0: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:D431 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 100 0 0 10 0": "127.0.0.1:8080 127.0.0.1:54321 6 0 0",
		"   0: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:D431 01 0:0 0:0 0 4294967294 0 7":                                                                "[::1]:8080 [::1]:54321 1 4294967294 7",
		"   0: 0100007F:1F90 0100007F:1F91 01 0:0 0:0 0 4294967296 0 7":                                                                                                                "",
		"   0: 0100007F:1F90 0100007F:11F91 01 0:0 0:0 0 1 0 7":                                                                                                                        "",
		"   0: 0100007G:1F90 0100007F:1F91 01 0:0 0:0 0 1 0 7":                                                                                                                         "",
		"   0: 0100007F 0100007F:1F91 01 0:0 0:0 0 1 0 7":                                                                                                                              "",
		"   0: 0100007F:1F90 0100007F:1F91 101 0:0 0:0 0 1 0 7":                                                                                                                        "",
	} {
		got := ""
		if e, ok := parseLine([]byte(line)); ok {
			got = fmt.Sprintf("%v %v %d %d %d", e.local, e.remote, e.state, e.uid, e.inode)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte("  12: 0100007F:1F90 020200C0:01BB 01 00000000:00000000 02:000A 00000000  1500        0 810164 1"))
	f.Add([]byte("   0: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:D431 01 0:0 0:0 0 1 0 7"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if e, ok := parseLine(line); ok && (!e.local.Addr().IsValid() || !e.remote.Addr().IsValid() || e.local.Addr().Is4In6()) {
			t.Errorf("%q: %+v", line, e)
		}
	})
}

func FuzzDecode(f *testing.F) {
	s := socket{local: netip.MustParseAddrPort("127.0.0.1:1"), remote: netip.MustParseAddrPort("127.0.0.1:2")}
	request := encode(s, 7)
	f.Add(append(request[:], make([]byte, answerSize)...))
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, ours, err := decode(b, 7); err != nil && !ours {
			t.Errorf("an error of another question: %v", err)
		}
	})
}

func BenchmarkOf(b *testing.B) {
	l := listen(b, "tcp4", "127.0.0.1:0")
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	c := accept(b, l)
	for name, f := range finders(b, l) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := f.Of(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
