package bridges

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace moves the test's thread, which is not used again, to a network of
// its own.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a network namespace with bridges in it")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the program ip, which is not installed")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs to make network namespaces: %v", err)
	}
}

func ip(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestAddresses(t *testing.T) {
	inNamespace(t)
	ip(t, "link set lo up")
	ip(t, "link add eth0 type veth peer name peer0")
	ip(t, "addr add 10.9.0.2/24 dev eth0")
	ip(t, "link set eth0 up")
	if got, err := addresses(); err != nil || len(got) != 0 {
		t.Errorf("without a bridge: %v, %v", got, err)
	}
	ip(t, "link add docker0 type bridge")
	ip(t, "addr add 172.17.0.1/16 dev docker0")
	ip(t, "addr add fd00:d0::1/64 dev docker0 nodad")
	ip(t, "addr add fe80::1/64 dev docker0 nodad")
	ip(t, "link set docker0 up")
	got, err := addresses()
	if want := prefixes("172.17.0.1/16", "fd00:d0::1/64"); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestWatch(t *testing.T) {
	inNamespace(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	steps := []struct {
		when []netip.Prefix
		then []string
	}{
		{nil, []string{"link add br-1 type bridge", "addr add 172.18.0.1/16 dev br-1"}},
		{prefixes("172.18.0.1/16"), []string{"addr add 172.19.0.1/16 dev br-1"}},
		{prefixes("172.18.0.1/16", "172.19.0.1/16"), []string{"link del br-1"}},
		{nil, nil},
	}
	done := 0
	err := Watch(ctx, func(now []netip.Prefix) {
		if done == len(steps) || !slices.Equal(now, steps[done].when) {
			return
		}
		for _, line := range steps[done].then {
			ip(t, line)
		}
		if done++; done == len(steps) {
			cancel()
		}
	})
	if err != nil || done != len(steps) {
		t.Errorf("saw %d of %d changes: %v", done, len(steps), err)
	}
}
