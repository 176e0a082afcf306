package netfence

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

func eachFlavour(t *testing.T, f func(t *testing.T, flavour string)) {
	for _, flavour := range flavours {
		t.Run(flavour, func(t *testing.T) {
			t.Parallel()
			f(t, flavour)
		})
	}
}

func wantPrefix(t *testing.T, what, got, prefix string) {
	t.Helper()
	if !strings.HasPrefix(got, prefix) {
		t.Errorf("%s: got %q, want %q…", what, got, prefix)
	}
}

func TestLiveRedirect(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		l := newLab(t)
		f := l.fence(flavour, plan.Config{AllowUIDs: []uint32{agentUID}, RedirectPort: facePort})
		l.apply(f)
		for _, uid := range []uint32{0, daemonUID, agentUID} {
			wantPrefix(t, "allowed uid, IPv4", l.get(uid, imds4), "real peer=10.9.0.2 meant=-")
			wantPrefix(t, "allowed uid, IPv6", l.get(uid, imds6), "real peer=fd00:9::2 meant=-")
		}
		wantPrefix(t, "notebook user, IPv4", l.get(notebookUID, imds4), "face peer=10.9.0.2 meant=169.254.169.254:80")
		wantPrefix(t, "notebook user, IPv6", l.get(notebookUID, imds6), "face peer=fd00:9::2 meant=[fd00:ec2::254]:80")
		wantPrefix(t, "notebook user, mapped address", l.get(notebookUID, "http://[::ffff:169.254.169.254]/"), "face")
		wantPrefix(t, "notebook user, another port", l.get(notebookUID, "http://169.254.169.254:8080/"), "error:")
		if c := l.counters(f); c.Redirected != 3 || c.Blocked == 0 || c.ContainersBlocked+c.ContainersRedirected != 0 {
			t.Errorf("counters: got %+v, want 3 redirected and some blocked", c)
		}
		l.remove(f)
		wantPrefix(t, "without the fence", l.get(notebookUID, imds4), "real")
	})
}

func TestLiveRefuse(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		l := newLab(t)
		f := l.fence(flavour, plan.Config{FenceRoot: true})
		l.apply(f)
		wantPrefix(t, "the daemon", l.get(daemonUID, imds4), "real")
		for _, uid := range []uint32{0, notebookUID} {
			for _, url := range []string{imds4, imds6} {
				got := l.get(uid, url) // else it says that time ran out
				if !strings.Contains(got, "connection refused") && !strings.Contains(got, "connection reset") {
					t.Errorf("uid %d, %s: got %q, want a refusal", uid, url, got)
				}
			}
		}
		if got := l.ask(notebookUID, "udp", "169.254.169.254:80"); strings.Contains(got, "timeout") || strings.Contains(got, "<nil>") {
			t.Errorf("datagram: got %q, want a refusal", got)
		}
		if c := l.counters(f); c.Redirected != 0 || c.Blocked < 5 {
			t.Errorf("counters: got %+v, want 5 blocked or more", c)
		}
	})
}

// Translation leaves connections alone that are older than the rules, at least
// those that the kernel has tracked from their beginning.
func TestLiveOlderConnectionsAreCut(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		for _, port := range []uint16{facePort, 0} {
			for _, url := range []string{imds4, imds6} {
				l := newLab(t, "nft")
				l.feed("table inet other { chain c { type filter hook output priority 0; ct state new counter; }; }", "nft", "-f", "-")
				user, daemon := l.converse(notebookUID, "keepalive", url), l.converse(daemonUID, "keepalive", url)
				wantPrefix(t, "user before", user.ask(), "real")
				wantPrefix(t, "daemon before", daemon.ask(), "real")
				f := l.fence(flavour, plan.Config{RedirectPort: port})
				l.apply(f)
				// The client notices the reset and may connect again.
				if got := user.ask(); strings.HasPrefix(got, "real") || strings.Contains(got, "Timeout") {
					t.Errorf("port %d, %s: after the fence the old connection brought %q", port, url, got)
				}
				wantPrefix(t, "user later", user.ask(), map[uint16]string{facePort: "face", 0: "error"}[port])
				wantPrefix(t, "daemon after", daemon.ask(), "real")
				if c := l.counters(f); c.Blocked == 0 {
					t.Errorf("port %d, %s: nothing was cut: %+v", port, url, c)
				}
			}
		}
	})
}

func TestLiveNamespaceRoot(t *testing.T) {
	l := newLab(t, "unshare", "curl")
	l.apply(l.fence("nftables", plan.Config{RedirectPort: facePort}))
	var out string
	l.do(func() {
		cmd := exec.Command("unshare", "-Ur", "sh", "-c", "id -u; exec curl -sS -m 3 "+imds4)
		cmd.SysProcAttr = l.command(notebookUID, "").SysProcAttr
		b, _ := cmd.CombinedOutput()
		out = string(b)
	})
	if !strings.HasPrefix(out, "0\n") {
		t.Skipf("needs user namespaces for ordinary users: %s", out)
	}
	wantPrefix(t, "root of a user namespace", out, "0\nface")
}

// Multipath TCP makes its sockets in the kernel, which then must know whose
// they are.
func TestLiveMultipathTCP(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		l := newLab(t)
		old := l.converse(notebookUID, "mptcp", "169.254.169.254:80")
		if got := old.ask(); strings.HasPrefix(got, "error") {
			t.Skipf("needs multipath TCP in the kernel: %s", got)
		}
		l.apply(l.fence(flavour, plan.Config{RedirectPort: facePort}))
		wantPrefix(t, "opened before the fence", old.ask(), "error")
		wantPrefix(t, "opened after", l.converse(notebookUID, "mptcp", "169.254.169.254:80").ask(), "face")
		wantPrefix(t, "the daemon", l.converse(daemonUID, "mptcp", "169.254.169.254:80").ask(), "real")
	})
}

// With a source route another address than the metadata service's stands in
// the header. Recent kernels ask CAP_NET_RAW for one, so the user is root here.
func TestLiveSourceRoute(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		l := newLab(t, "sysctl")
		for _, dev := range []string{"all", "im0"} {
			l.imds.run("sysctl", "-q", "-w", "net.ipv4.conf."+dev+".accept_source_route=1")
		}
		for _, dev := range []string{"all", "eth0"} { // the answer is routed back
			l.run("sysctl", "-q", "-w", "net.ipv4.conf."+dev+".accept_source_route=1")
		}
		wantPrefix(t, "without the fence", l.converse(0, "lsrr", "169.254.169.254:80").ask(), "real")
		f := l.fence(flavour, plan.Config{FenceRoot: true, RedirectPort: facePort})
		l.apply(f)
		wantPrefix(t, "with the fence", l.converse(0, "lsrr", "169.254.169.254:80").ask(), "error")
		if w := f.Status().Weaker; w != "" {
			t.Errorf("this kernel takes every rule, yet: %s", w)
		}
	})
}

// The last segments of a closed socket have no owner: they must neither be
// refused, which would leave the service with half a connection, nor counted.
func TestLiveAllowedConnectionsEndCleanly(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		for _, timestamps := range []string{"0", "1"} {
			l := newLab(t, "sysctl", "ss")
			l.run("sysctl", "-q", "-w", "net.ipv4.tcp_timestamps="+timestamps)
			f := l.fence(flavour, plan.Config{RedirectPort: facePort})
			l.apply(f)
			for _, addr := range []string{"169.254.169.254:80", "[fd00:ec2::254]:80"} {
				wantPrefix(t, "allowed", l.ask(daemonUID, "many", addr), "done")
			}
			half := func() string {
				return l.imds.run("ss", "-Htan", "state", "last-ack", "state", "fin-wait-1", "state", "closing")
			}
			for i := 0; i < 50 && half() != ""; i++ {
				time.Sleep(20 * time.Millisecond)
			}
			if c := l.counters(f); c != (ruleset.Counters{}) {
				t.Errorf("timestamps %s: an allowed user's connections were counted: %+v", timestamps, c)
			}
			if left := half(); left != "" {
				t.Errorf("timestamps %s: half a connection is left:\n%s", timestamps, left)
			}
		}
	})
}
