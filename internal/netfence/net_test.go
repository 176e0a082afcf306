package netfence

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/netfence/iptables"
	"github.com/nbidentityd/nbidentityd/internal/netfence/nft"
	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

const (
	daemonUID   = 1501
	agentUID    = 1502
	notebookUID = 1500
)

const facePort = 1338

func TestMain(m *testing.M) {
	if mode := os.Getenv("NETFENCE_CLIENT"); mode != "" {
		os.Exit(client(mode, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// namespace is a network namespace without a name: it is gone with the last
// descriptor, however the test ends.
type namespace struct {
	t  *testing.T
	fd *os.File
}

// newNamespace skips the test where it may not make one.
func newNamespace(t *testing.T, tools ...string) *namespace {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces and sets packet rules in them")
	}
	for _, tool := range append(tools, "ip") {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs the program %s, which is not installed", tool)
		}
	}
	type result struct {
		fd  *os.File
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{err: err}
			return
		}
		fd, err := os.Open("/proc/thread-self/ns/net")
		made <- result{fd, err}
	}()
	r := <-made
	if errors.Is(r.err, os.ErrPermission) {
		t.Skipf("needs to make network namespaces: %v", r.err)
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.fd.Close() })
	n := &namespace{t: t, fd: r.fd}
	n.run("ip", "link", "set", "lo", "up")
	return n
}

// do runs f on a thread in the namespace, which is not used again.
func (n *namespace) do(f func()) {
	n.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Setns(int(n.fd.Fd()), unix.CLONE_NEWNET); err != nil {
			n.t.Errorf("entering the namespace: %v", err)
			return
		}
		f()
	}()
	<-done
	if n.t.Failed() {
		n.t.FailNow()
	}
}

func (n *namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.fd.Fd()) }

// run executes a program in the namespace and returns what it printed.
func (n *namespace) run(args ...string) string {
	n.t.Helper()
	return n.feed("", args...)
}

func (n *namespace) feed(stdin string, args ...string) string {
	n.t.Helper()
	var out string
	n.do(func() {
		var stdout, stderr bytes.Buffer
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
		if err := cmd.Run(); err != nil {
			n.t.Errorf("%s: %v: %s", strings.Join(args, " "), err, stderr.String())
		}
		out = stdout.String()
	})
	return out
}

// listen opens a listener in the namespace.
func (n *namespace) listen(addr string) net.Listener {
	n.t.Helper()
	var l net.Listener
	n.do(func() {
		var err error
		if l, err = net.Listen("tcp", addr); err != nil {
			n.t.Error(err)
		}
	})
	n.t.Cleanup(func() { l.Close() })
	return l
}

type connKey struct{}

// serve answers every request with name, the peer's address and where the
// client meant to connect.
func serve(t *testing.T, l net.Listener, name string) {
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", name)
			peer, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintf(w, "%s peer=%s meant=%s", name, peer, meant(r.Context().Value(connKey{}).(net.Conn)))
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
}

// meant is SO_ORIGINAL_DST, or "-" for a connection that was not redirected.
func meant(c net.Conn) string {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return "-"
	}
	answer := "-"
	raw.Control(func(fd uintptr) {
		buf := make([]byte, unix.SizeofSockaddrInet6)
		size := uint32(len(buf))
		level := unix.SOL_IP
		if c.RemoteAddr().(*net.TCPAddr).IP.To4() == nil {
			level = unix.SOL_IPV6
		}
		const originalDst = 80 // SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), originalDst,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return
		}
		port := uint16(buf[2])<<8 | uint16(buf[3])
		addr := netip.AddrFrom4([4]byte(buf[4:8]))
		if level == unix.SOL_IPV6 {
			addr = netip.AddrFrom16([16]byte(buf[8:24]))
		}
		answer = netip.AddrPortFrom(addr, port).String()
	})
	return answer
}

// lab is a notebook's network with the real metadata service at the end of a
// link, and our own on its loopback.
type lab struct {
	*namespace            // the notebook's
	imds       *namespace // the metadata service's
}

const (
	imds4 = "http://169.254.169.254/"
	imds6 = "http://[fd00:ec2::254]/"
)

func newLab(t *testing.T, tools ...string) *lab {
	t.Helper()
	l := &lab{namespace: newNamespace(t, tools...), imds: newNamespace(t)}
	l.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "im0", "netns", l.imds.path())
	for _, args := range [][]string{
		{"addr", "add", "10.9.0.2/24", "dev", "eth0"}, {"addr", "add", "fd00:9::2/64", "dev", "eth0", "nodad"},
		{"link", "set", "eth0", "up"},
		{"route", "add", "169.254.169.254", "dev", "eth0"}, {"-6", "route", "add", "fd00:ec2::254", "dev", "eth0"},
	} {
		l.run(append([]string{"ip"}, args...)...)
	}
	for _, args := range [][]string{
		{"addr", "add", "10.9.0.1/24", "dev", "im0"}, {"addr", "add", "169.254.169.254/32", "dev", "im0"},
		{"addr", "add", "fd00:9::1/64", "dev", "im0", "nodad"}, {"addr", "add", "fd00:ec2::254/128", "dev", "im0", "nodad"},
		{"link", "set", "im0", "up"},
	} {
		l.imds.run(append([]string{"ip"}, args...)...)
	}
	for _, addr := range []string{"169.254.169.254:80", "[fd00:ec2::254]:80", "169.254.169.254:8080"} {
		serve(t, l.imds.listen(addr), "real")
	}
	for _, addr := range []string{"127.0.0.1", "::1"} {
		serve(t, l.listen(net.JoinHostPort(addr, fmt.Sprint(facePort))), "face")
	}
	for _, url := range []string{imds4, imds6} { // until the link is up
		for i := 0; !strings.HasPrefix(l.get(notebookUID, url), "real"); i++ {
			if i > 100 {
				t.Fatalf("%s is out of reach without a fence: %s", url, l.get(notebookUID, url))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return l
}

// command prepares this test's program as a client of another uid.
func (n *namespace) command(uid uint32, mode string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{"NETFENCE_CLIENT=" + mode, "GORACE=atexit_sleep_ms=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// get returns the answer of url to uid, or the error.
func (n *namespace) get(uid uint32, url string) string {
	n.t.Helper()
	return n.ask(uid, "get", url)
}

func (n *namespace) ask(uid uint32, mode string, args ...string) string {
	n.t.Helper()
	var out []byte
	n.do(func() {
		var err error
		if out, err = n.command(uid, mode, args...).CombinedOutput(); err != nil {
			n.t.Errorf("client %s %v: %v: %s", mode, args, err, out)
		}
	})
	return strings.TrimSpace(string(out))
}

// conversation is a client that asks over one connection, whenever told to.
type conversation struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func (n *namespace) converse(uid uint32, mode, addr string) *conversation {
	n.t.Helper()
	c := &conversation{t: n.t}
	n.do(func() {
		cmd := n.command(uid, mode, addr)
		cmd.SysProcAttr.Pdeathsig = 0 // the thread that starts it ends now
		in, err1 := cmd.StdinPipe()
		out, err2 := cmd.StdoutPipe()
		if err := errors.Join(err1, err2, cmd.Start()); err != nil {
			n.t.Error(err)
			return
		}
		n.t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
		c.in, c.out = in, bufio.NewScanner(out)
	})
	return c
}

func (c *conversation) ask() string {
	c.t.Helper()
	fmt.Fprintln(c.in)
	if !c.out.Scan() {
		return "the client ended"
	}
	return c.out.Text()
}

// answerLimit is more than a busy machine takes for an answer.
const answerLimit = 6 * time.Second

// client is this program as somebody who wants credentials.
func client(mode string, args []string) int {
	switch mode {
	case "get":
		c := http.Client{Timeout: answerLimit, Transport: &http.Transport{DisableKeepAlives: true}}
		fmt.Println(answer(c.Get(args[0])))
	case "keepalive":
		c := http.Client{Timeout: answerLimit}
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			fmt.Println(answer(c.Get(args[0])))
		}
	case "mptcp", "lsrr":
		fd, err := connected(mode, netip.MustParseAddrPort(args[0]))
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if err != nil {
				fmt.Println("error:", err)
				continue
			}
			fmt.Println(rawGet(fd))
		}
	case "udp":
		c, err := net.Dial("udp", args[0])
		if err == nil {
			c.SetDeadline(time.Now().Add(time.Second))
			_, err = c.Write([]byte("x"))
		}
		if err == nil {
			_, err = c.Read(make([]byte, 1)) // the refusal comes back as an error of the socket
		}
		fmt.Println("error:", err)
	case "many": // connections that the client closes first
		for range 50 {
			c, err := net.DialTimeout("tcp", args[0], answerLimit)
			if err != nil {
				fmt.Println("error:", err)
				return 0
			}
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			c.Read(make([]byte, 512))
			c.Close()
		}
		fmt.Println("done")
	case "apply":
		f, err := New(Config{Plan: plan.Config{UID: daemonUID}, Backend: Backend(args[0])})
		if err == nil {
			err = f.Apply(context.Background())
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if f != nil && f.Run(ctx) != nil { // says so, and goes on
			return 1
		}
		fmt.Printf("%t %v\n", errors.Is(err, ErrNotPermitted), err)
	case "capable":
		f, err := New(Config{Plan: fullPlan()})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		ctx := context.Background()
		stop, err1 := nft.Watch(make(chan struct{}, 1))
		err2 := f.Apply(ctx)
		findings, err3 := f.Check(ctx)
		if len(findings) > 0 {
			err3 = errors.New(findings[0].String())
		}
		fmt.Println(errors.Join(err1, err2, err3, nft.Tables{}.Remove(ctx)))
		if err1 == nil {
			stop()
		}
	}
	return 0
}

func answer(resp *http.Response, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(body)
}

// connected opens a connection in an unusual way.
func connected(mode string, to netip.AddrPort) (int, error) {
	proto := unix.IPPROTO_TCP
	if mode == "mptcp" {
		proto = unix.IPPROTO_MPTCP
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, proto)
	if err != nil {
		return 0, err
	}
	limit := unix.NsecToTimeval(answerLimit.Nanoseconds())
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)); err != nil {
		return 0, err
	}
	if mode == "lsrr" { // loose source route by 10.9.0.1
		if err := unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, string([]byte{131, 7, 4, 10, 9, 0, 1, 0})); err != nil {
			return 0, err
		}
	}
	return fd, unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
}

func rawGet(fd int) string {
	if _, err := unix.Write(fd, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		return "error: " + err.Error()
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if err != nil || n == 0 {
		return fmt.Sprintf("error: %v after %d bytes", err, n)
	}
	_, body, _ := strings.Cut(string(buf[:n]), "\r\n\r\n")
	return body
}

// flavours are the ways to hold rules that the tests go through.
var flavours = []string{"nftables", "iptables-nft", "iptables-legacy"}

// fence makes a Fence held by one flavour.
func (n *namespace) fence(flavour string, p plan.Config) *Fence {
	n.t.Helper()
	if p.UID == 0 {
		p.UID = daemonUID
	}
	cfg := Config{Plan: p}
	if flavour == "nftables" {
		cfg.Backend = BackendNFTables
	} else {
		cfg.Backend = BackendIPTables
	}
	f, err := New(cfg)
	if err != nil {
		n.t.Skipf("needs iptables: %v", err)
	}
	if flavour != "nftables" {
		f.candidates = slices.DeleteFunc(f.candidates, func(c candidate) bool {
			program := c.backend.(iptables.Tools).Flavour()
			return !strings.Contains(program, strings.TrimPrefix(flavour, "iptables-"))
		})
		if len(f.candidates) == 0 {
			n.t.Skipf("needs %s, which is not installed", flavour)
		}
	}
	return f
}

func (n *namespace) apply(f *Fence) {
	n.t.Helper()
	n.do(func() {
		if err := f.Apply(n.t.Context()); err != nil {
			n.t.Error(err)
		}
	})
}

func (n *namespace) check(f *Fence) []ruleset.Finding {
	n.t.Helper()
	var out []ruleset.Finding
	n.do(func() {
		var err error
		if out, err = f.Check(n.t.Context()); err != nil {
			n.t.Error(err)
		}
	})
	return out
}

func (n *namespace) counters(f *Fence) ruleset.Counters {
	n.t.Helper()
	n.check(f)
	return f.Status().Counters
}

func (n *namespace) remove(f *Fence) {
	n.t.Helper()
	n.do(func() {
		if err := f.Remove(n.t.Context()); err != nil {
			n.t.Error(err)
		}
	})
}

// ruleset is everything the packet filters hold, without times and without the
// counters of other people's chains.
func (n *namespace) ruleset() string {
	n.t.Helper()
	var b strings.Builder
	b.WriteString(n.run("nft", "list", "ruleset"))
	for _, tool := range []string{"iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"} {
		for l := range strings.Lines(n.run(tool)) {
			if !strings.HasPrefix(l, "#") {
				b.WriteString(l)
			}
		}
	}
	return b.String()
}
