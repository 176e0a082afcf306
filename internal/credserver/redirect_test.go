package credserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideNamespace, in the environment of this test program, says that it runs
// in a network namespace of its own.
const insideNamespace = "NBIDENTITY_TEST_NAMESPACE"

// askIMDSOf, in the environment of this test program, makes it a client of the
// metadata service there, which prints how it fared.
const askIMDSOf = "NBIDENTITY_TEST_IMDS"

func TestIMDSChild(t *testing.T) {
	addr := os.Getenv(askIMDSOf)
	if addr == "" {
		t.Skip("is the child of another test")
	}
	dialer := net.Dialer{Timeout: time.Minute}
	if device := os.Getenv("BIND_TO"); device != "" {
		dialer.Control = func(_, _ string, c syscall.RawConn) (err error) {
			c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) })
			return err
		}
	}
	if from := os.Getenv("FROM"); from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	dialer.SetMultipathTCP(os.Getenv("MULTIPATH") != "")
	ask := func(request string) (head, body string) {
		c, err := dialer.Dial("tcp", addr)
		if err != nil {
			fmt.Println("asked:", err)
			os.Exit(0)
		}
		defer c.Close()
		host := strings.TrimSuffix(addr, ":80")
		io.WriteString(c, request+"Host: "+host+"\r\nConnection: close\r\n\r\n")
		b, _ := io.ReadAll(c)
		head, body, _ = strings.Cut(string(b), "\r\n\r\n")
		return head, body
	}
	head, token := ask("PUT " + tokenPath + " HTTP/1.1\r\n" + ttlHeader + ": 60\r\n")
	if strings.HasPrefix(head, "HTTP/1.1 200 ") {
		head, _ = ask("GET " + rolesPath + "/nbidentityd HTTP/1.1\r\n" + tokenHeader + ": " + token + "\r\n")
	}
	fmt.Printf("asked: %.12s\n", head)
}

// TestRedirect lets a kernel's packet rules lead callers here, as the fence
// does: users of this machine by IPv4 and IPv6, and a container.
func TestRedirect(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to make a network namespace")
	}
	for _, tool := range []string{"unshare", "nsenter", "ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: it is not installed", tool)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "-n", exe, "-test.run=^TestRedirectInside$", "-test.v")
	cmd.Env = append(os.Environ(), insideNamespace+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	switch {
	case err != nil:
		t.Fatal(err)
	case strings.Contains(string(out), "--- SKIP: TestRedirectInside"):
		t.Skip("needs a kernel that can do this: see above")
	}
}

const redirectRules = `
table ip t {
	chain out { type nat hook output priority -105; ip daddr 169.254.169.254 tcp dport 80 redirect to :1338; }
	chain pre { type nat hook prerouting priority -105; ip daddr 169.254.169.254 tcp dport 80 redirect to :1338; }
}
table ip6 t {
	chain out { type nat hook output priority -105; ip6 daddr fd00:ec2::254 tcp dport 80 redirect to :1338; }
}`

func TestRedirectInside(t *testing.T) {
	if os.Getenv(insideNamespace) == "" {
		t.Skip("is the child of another test")
	}
	container := buildNetwork(t)
	cfg := Config{Credentials: &provider{value: good()}, AllowUIDs: []uint32{1500}}
	serving := func(addr string, imds IMDSConfig) *onTCP {
		l := listenAt(t, addr)
		return serveTCPOn(t, l, cfg, func(ctx context.Context, s *Server, l net.Listener) error { return s.ServeIMDS(ctx, l, imds) })
	}
	loopback := serving("127.0.0.1:1338", IMDSConfig{})
	six := serving("[::1]:1338", IMDSConfig{})
	containers := IMDSConfig{Containers: netip.MustParsePrefix("172.31.0.1/24")}
	bridge := serving("172.31.0.1:1338", containers)
	both := serving("127.0.0.1:1340", IMDSConfig{Containers: netip.MustParsePrefix("127.0.0.0/8")})

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(uid uint32, within []string, addr string, env ...string) string {
		args := []string{"/proc/self/exe"} // every user may run it
		if within != nil {
			args = append(slices.Clip(within), exe)
		}
		args = append(args, "-test.run=^TestIMDSChild$")
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = "/", append(env, askIMDSOf+"="+addr, "GORACE=atexit_sleep_ms=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("child: %v\n%s", err, out)
		}
		_, answer, _ := strings.Cut(string(out), "asked: ")
		answer, _, _ = strings.Cut(answer, "\n")
		return answer
	}
	for _, tt := range []struct {
		name   string
		uid    uint32
		addr   string
		env    string
		want   string
		server *onTCP
		vend   any // uid of the line, "" when none
	}{
		{"root", 0, "169.254.169.254:80", "", "HTTP/1.1 200", loopback, uint32(0)},
		{"allowed uid", 1500, "169.254.169.254:80", "", "HTTP/1.1 200", loopback, uint32(1500)},
		{"foreign uid", 1501, "169.254.169.254:80", "", "HTTP/1.1 403", loopback, ""},
		{"allowed uid, by our address", 1500, "127.0.0.1:1338", "", "HTTP/1.1 200", loopback, uint32(1500)},
		{"allowed uid, IPv6", 1500, "[fd00:ec2::254]:80", "", "HTTP/1.1 200", six, uint32(1500)},
		{"foreign uid, IPv6", 1501, "[fd00:ec2::254]:80", "", "HTTP/1.1 403", six, ""},
		{"foreign uid, container's door", 1501, "172.31.0.1:1338", "", "HTTP/1.1 403", bridge, ""},
		{"foreign uid, hidden by its device", 1501, "127.0.0.1:1340", "BIND_TO=lo", "HTTP/1.1 403", both, ""},
		{"allowed uid, multipath", 1500, "169.254.169.254:80", "MULTIPATH=1", "HTTP/1.1 200", loopback, uint32(1500)},
		{"allowed uid, multipath, IPv6", 1500, "[fd00:ec2::254]:80", "MULTIPATH=1", "HTTP/1.1 200", six, uint32(1500)},
		{"foreign uid, multipath", 1501, "169.254.169.254:80", "MULTIPATH=1", "HTTP/1.1 403", loopback, ""},
		{"foreign uid, multipath, container's door", 1501, "172.31.0.1:1338", "MULTIPATH=1", "HTTP/1.1 403", bridge, ""},
	} {
		before := tt.server.vended()
		if got := ask(tt.uid, nil, tt.addr, tt.env); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		lines := tt.server.logs.FilterMessage("credentials vended").All()[before:]
		if tt.vend == "" && len(lines) == 0 {
			continue
		}
		if len(lines) != 1 || lines[0].ContextMap()["uid"] != tt.vend {
			t.Errorf("%s: log %v", tt.name, lines)
		}
	}
	// A container's callers are known by their address alone.
	if got := ask(0, container, "169.254.169.254:80"); got != "HTTP/1.1 200" {
		t.Errorf("container: %q", got)
	}
	if got := ask(0, append(container, "env", "FROM=10.77.0.2"), "169.254.169.254:80"); got != "HTTP/1.1 403" {
		t.Errorf("somebody of another network: %q", got)
	}
	line := bridge.logs.FilterMessage("credentials vended").All()[0].ContextMap()
	if _, has := line["uid"]; has || !strings.HasPrefix(line["peer"].(string), "172.31.0.2:") {
		t.Errorf("container: log %v", line)
	}
}

// buildNetwork makes this namespace a machine with a bridge to a container, and
// returns the command that runs another in the container.
func buildNetwork(t *testing.T) []string {
	t.Helper()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		if name == "nft" {
			cmd.Stdin = strings.NewReader(redirectRules)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("needs a kernel that can do this: %s %v: %v\n%s", name, args, err, out)
		}
	}
	holder := exec.Command("unshare", "-n", "sleep", "120")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { holder.Process.Kill(); holder.Wait() })
	pid := fmt.Sprint(holder.Process.Pid)
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if theirs, err := os.Readlink("/proc/" + pid + "/ns/net"); err == nil && theirs != own {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("no second namespace")
		}
	}
	inside := []string{"nsenter", "-t", pid, "-n", "--"}
	run("ip", "link", "set", "lo", "up")
	run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", pid)
	run("ip", "addr", "add", "172.31.0.1/24", "dev", "v0")
	run("ip", "-6", "addr", "add", "fd00:9::1/64", "dev", "v0", "nodad")
	run("ip", "addr", "add", "10.77.0.1/24", "dev", "v0") // not the primary one: nobody is led to it
	run("ip", "link", "set", "v0", "up")
	run("ip", "route", "add", "default", "via", "172.31.0.2")
	run("ip", "-6", "route", "add", "default", "via", "fd00:9::2")
	for _, args := range [][]string{
		{"addr", "add", "172.31.0.2/24", "dev", "v1"}, {"addr", "add", "10.77.0.2/24", "dev", "v1"}, {"link", "set", "v1", "up"}, {"route", "add", "default", "via", "172.31.0.1"},
	} {
		run(inside[0], append(append(append([]string{}, inside[1:]...), "ip"), args...)...)
	}
	run("nft", "-f", "-")
	return inside
}
