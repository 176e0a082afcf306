package configguard

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// lease opens the file, writes text into it if there is any, and holds a lease on
// it, until the test ends: whoever opens it then waits, or is turned away.
func lease(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	if text != "" {
		must(t, f.Truncate(0))
		_, err = f.WriteAt([]byte(text), 0)
		must(t, err)
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	for range 1000 { // a child that is being forked may hold the file
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
		time.Sleep(time.Millisecond)
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	}
	if err != nil {
		t.Skipf("needs a file system with leases: %v", err)
	}
}

// A lease, which any user may take on a file of theirs, keeps nobody from seeing
// that the file was tampered with, nor from putting it right.
func TestLeaseIsRepaired(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, map[string]string{".aws/config": "[profile mine]\n"})
	g := New(cfg)
	g.look()
	path := g.State().Path
	good := read(t, path)
	for i := range 3 {
		lease(t, path, evil)
		g.look()
		s := g.State()
		if !s.Written || s.Tampers != uint64(i+1) || read(t, path) != good {
			t.Fatalf("not repaired: %+v", s)
		}
		if !strings.Contains(s.Last.What, "lease") {
			t.Errorf("what = %q", s.Last.What)
		}
	}
}

// At the start nothing is put away, and the error says what to do.
func TestLeaseAtTheStartIsRefused(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, map[string]string{".aws/config": "[profile mine]\n"})
	lease(t, cfg.Home+"/.aws/config", "")
	if _, err := Write(cfg); !errors.Is(err, safefile.ErrLeased) || !strings.Contains(err.Error(), "/proc/locks") {
		t.Errorf("Write: %v", err)
	}
}

// What an uninstallation need not open may be leased.
func TestUndoWithLeasedCredentials(t *testing.T) {
	t.Parallel()
	cfg := newLockable(t, map[string]string{".aws/config": "[default]\n"})
	_, err := Write(cfg)
	must(t, err)
	lease(t, cfg.Home+"/.aws/credentials", "")
	_, err = Undo(cfg)
	must(t, err)
}
