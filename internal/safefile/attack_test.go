package safefile

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var attackTime = flag.Duration("attack", 2*time.Second, "how long the races last")

// victim is a directory outside the user's home that must never change. Its
// files have the names that the writer uses.
type victim struct {
	dir   string
	names []string
	uid   uint32
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{dir: t.TempDir(), names: []string{"config", "passwd"}, uid: uint32(os.Geteuid())}
	for _, n := range v.names {
		must(t, os.WriteFile(filepath.Join(v.dir, n), []byte("untouched"), 0o640))
	}
	return v
}

// intact reports what has happened to the victim.
func (v *victim) intact() error {
	var errs []error
	entries, err := os.ReadDir(v.dir)
	if err != nil || len(entries) != len(v.names) {
		errs = append(errs, errors.New("entries added or removed"), err)
	}
	for _, n := range v.names {
		path := filepath.Join(v.dir, n)
		data, err := os.ReadFile(path)
		var st syscall.Stat_t
		if err == nil {
			err = syscall.Stat(path, &st)
		}
		if err != nil || string(data) != "untouched" || st.Uid != v.uid || st.Mode&0o777 != 0o640 {
			errs = append(errs, errors.New(n+" was changed: "+string(data)), err)
		}
	}
	return errors.Join(errs...)
}

// A writer, as root if possible, against a user who swaps the directory, the
// file and the temporary names for links to the victim, for each other and for
// pipes, as fast as the machine allows.
func TestRace(t *testing.T) {
	if testing.Short() {
		t.Skip("needs time: races for seconds")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: an attacker of our own uid may change the victim's files, through its own links too")
	}
	// In memory if possible: without a disk to wait for, the race is 100 times denser.
	home, err := os.MkdirTemp("/dev/shm", "safefile-")
	if err != nil {
		home = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	uid, gid := self(t, home)
	v := newVictim(t)
	d, err := Open(home, uid, gid)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()

	var stop atomic.Bool
	var swaps atomic.Int64
	var wg sync.WaitGroup
	for _, attack := range []func(fd int, v *victim){swapDirectory, swapFile, swapTemporary} {
		wg.Go(func() {
			asUser(t, uid, func() {
				for !stop.Load() {
					attack(d.Fd(), v)
					swaps.Add(1)
				}
			})
		})
	}
	deadline := time.Now().Add(*attackTime)
	writes, good := 0, 0
	for ; time.Now().Before(deadline); writes++ {
		if attempt(d) {
			good++
		}
		if writes%20 == 0 {
			if err := v.intact(); err != nil {
				stop.Store(true)
				wg.Wait()
				t.Fatalf("after %d attempts: %v", writes, err)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	if err := v.intact(); err != nil {
		t.Errorf("after %d attempts: %v", writes, err)
	}
	if swaps.Load() < 100 || writes < 100 || good == 0 {
		t.Errorf("no race: %d swaps, %d attempts, %d successful", swaps.Load(), writes, good)
	}
	t.Logf("%d attempts, %d successful, %d swaps, victim intact (uid %d against uid %d)", writes, good, swaps.Load(), os.Geteuid(), uid)
}

// attempt does what a guard does: open, read, replace.
func attempt(d *Dir) bool {
	sub, _, err := d.MakeSub(".aws")
	if errors.Is(err, ErrNotDirectory) {
		_ = d.Aside(".aws", RandomName(".aws.aside-"))
		return false
	}
	if err != nil {
		return false
	}
	defer sub.Close()
	_, old, err := sub.Read("config", 1<<16)
	if errors.Is(err, ErrNotRegular) || errors.Is(err, ErrForeign) {
		_ = sub.Aside("config", RandomName(".config.aside-"))
		return false
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return false
	}
	_, err = sub.Replace("config", old, []byte("ours"))
	return err == nil
}

// asUser runs f on a thread that has the file rights of uid alone.
func asUser(t *testing.T, uid int, f func()) {
	if os.Geteuid() == 0 {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := errors.Join(unix.Setfsgid(uid), unix.Setfsuid(uid)); err != nil {
			t.Error(err)
			return
		}
	}
	f()
}

func swapDirectory(home int, v *victim) {
	_ = unix.Unlinkat(home, ".link", 0)
	_ = unix.Symlinkat(v.dir, home, ".link")
	_ = unix.Mkdirat(home, ".own", 0o755)
	for range 3 { // link, then the directory again
		_ = unix.Renameat2(home, ".aws", home, ".link", unix.RENAME_EXCHANGE)
		runtime.Gosched()
		_ = unix.Renameat2(home, ".aws", home, ".link", unix.RENAME_EXCHANGE)
	}
	_ = unix.Renameat2(home, ".aws", home, ".own", unix.RENAME_EXCHANGE) // another own directory
	// No directory at all, then a link where the writer makes one.
	_ = unix.Unlinkat(home, ".gone/config", 0)
	_ = unix.Unlinkat(home, ".gone", unix.AT_REMOVEDIR)
	_ = unix.Renameat(home, ".aws", home, ".gone")
	_ = unix.Renameat2(home, ".link", home, ".aws", unix.RENAME_NOREPLACE)
	_ = unix.Renameat2(home, ".gone", home, ".aws", unix.RENAME_EXCHANGE)
}

func swapFile(home int, v *victim) {
	for _, dir := range []string{".aws/", ".own/", ".gone/"} {
		_ = unix.Symlinkat(filepath.Join(v.dir, "passwd"), home, dir+"config")
		_ = unix.Symlinkat(filepath.Join(v.dir, "config"), home, dir+"l")
		_ = unix.Renameat2(home, dir+"l", home, dir+"config", unix.RENAME_EXCHANGE)
		_ = unix.Unlinkat(home, dir+"config", 0)
		_ = unix.Linkat(unix.AT_FDCWD, filepath.Join(v.dir, "passwd"), home, dir+"config", 0)
		_ = unix.Mknodat(home, dir+"config", unix.S_IFIFO|0o666, 0)
		_ = unix.Unlinkat(home, dir+"config", 0)
	}
}

// swapTemporary watches for the writer's temporary names and replaces what it
// finds by links to the victim, and links what it finds elsewhere.
func swapTemporary(home int, v *victim) {
	fd, err := unix.Openat(home, ".aws", dirFlags, 0)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), ".aws")
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	for _, n := range names {
		if n == "config" || n == "l" || n == "t" {
			continue
		}
		_ = unix.Symlinkat(filepath.Join(v.dir, "passwd"), fd, "t")
		_ = unix.Renameat2(fd, "t", fd, n, unix.RENAME_EXCHANGE)
		_ = unix.Linkat(fd, n, home, "hard", 0)
		_ = unix.Unlinkat(home, "hard", 0)
		_ = unix.Unlinkat(fd, n, 0)
		_ = unix.Unlinkat(fd, "t", 0)
	}
}
