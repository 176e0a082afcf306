package safefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openLockable skips where the flag cannot be tried, and leaves no flag behind.
func openLockable(t *testing.T) (*Dir, string) {
	t.Helper()
	d, path := openTemp(t)
	if err := d.CanLock(); err != nil {
		t.Skipf("needs the immutable flag: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Unlock(); err != nil {
			t.Error(err)
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			if err := d.UnlockFile(e.Name()); err != nil && !errors.Is(err, ErrNotRegular) {
				t.Error(err)
			}
		}
	})
	return d, path
}

func TestLock(t *testing.T) {
	t.Parallel()
	d, path := openLockable(t)
	file := filepath.Join(path, "config")
	v, err := d.ReplaceAs("config", Version{}, Owner{0, d.gid, 0o640}, []byte("old"))
	must(t, err)
	const noDump = 0x40 // another flag, to be kept
	must(t, unix.IoctlSetPointerInt(d.fd, unix.FS_IOC_SETFLAGS, noDump))
	for range 2 { // both are idempotent
		must(t, d.Lock())
	}
	must(t, d.LockFile("config", v))
	for what, err := range map[string]error{
		"write":  os.WriteFile(file, []byte("new"), 0o600),
		"chmod":  os.Chmod(file, 0o666),
		"rename": os.Rename(file, filepath.Join(filepath.Dir(path), "elsewhere")),
		"unlink": os.Remove(file),
		"link":   os.Link(file, filepath.Join(t.TempDir(), "x")),
		"create": os.WriteFile(filepath.Join(path, "new"), nil, 0o600),
		"move":   os.Rename(path, path+"2"),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s, as root: %v", what, err)
		}
	}
	if _, err := d.Replace("config", v, nil); !errors.Is(err, unix.EPERM) {
		t.Errorf("Replace: %v", err)
	}
	dir, err1 := d.Locked()
	locked, err2 := d.FileLocked("config")
	if !dir || !locked || err1 != nil || err2 != nil {
		t.Errorf("locked: %v %v, %v %v", dir, err1, locked, err2)
	}
	for range 2 {
		must(t, d.Unlock())
		must(t, d.UnlockFile("config"))
	}
	if flags, err := unix.IoctlGetUint32(d.fd, unix.FS_IOC_GETFLAGS); err != nil || flags&noDump == 0 {
		t.Errorf("another flag was lost: %#x, %v", flags, err)
	}
	must(t, os.WriteFile(file, []byte("new"), 0o600))
}

// Root locks nothing that the user could still write to, nor a file of root's
// that the user has put there.
func TestLockRefuses(t *testing.T) {
	t.Parallel()
	d, path := openLockable(t)
	v := write(t, d, "own", "x")
	if err := d.LockFile("own", v); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("the user's own file: %v", err)
	}
	v, err := d.ReplaceAs("writable", Version{}, Owner{0, d.gid, 0o660}, nil)
	must(t, err)
	if err := d.LockFile("writable", v); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a file that the group can write: %v", err)
	}
	outside := filepath.Join(t.TempDir(), "passwd")
	must(t, os.WriteFile(outside, nil, 0o644))
	v, err = d.ReplaceAs("config", Version{}, Owner{0, 0, 0o644}, nil)
	must(t, err)
	must(t, os.Remove(filepath.Join(path, "config")))
	must(t, os.Link(outside, filepath.Join(path, "config")))
	if err := d.LockFile("config", v); !errors.Is(err, ErrChanged) {
		t.Errorf("a hard link: %v", err)
	}
	must(t, os.Symlink(outside, filepath.Join(path, "link")))
	if err := d.LockFile("link", v); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a link: %v", err)
	}
	must(t, unix.Mkfifo(filepath.Join(path, "pipe"), 0o666))
	if err := d.LockFile("pipe", v); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a pipe: %v", err)
	}
	if _, err := d.FileLocked("none"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a missing file: %v", err)
	}
}

// Where the flag is impossible the error says why.
func TestCannotLock(t *testing.T) {
	t.Parallel()
	proc, err := Open("/proc/self/task", os.Getuid(), os.Getgid())
	must(t, err)
	defer proc.Close()
	if _, err := proc.Locked(); !errors.Is(err, ErrNoFlag) {
		t.Errorf("Locked on proc: %v", err)
	}
	must(t, proc.Unlock()) // what has no flag is not locked
	if err := proc.Lock(); !errors.Is(err, ErrNoFlag) {
		t.Errorf("Lock on proc: %v", err)
	}
	d, _ := openTemp(t)
	if os.Geteuid() != 0 {
		if err := d.CanLock(); !errors.Is(err, ErrNotPermitted) || !strings.Contains(err.Error(), "CAP_LINUX_IMMUTABLE") {
			t.Errorf("CanLock of an ordinary user: %v", err)
		}
		return
	}
	if err := d.CanLock(); err != nil {
		t.Skipf("needs the immutable flag: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			t.Error(err)
		}
		data[0].Effective &^= 1<<unix.CAP_LINUX_IMMUTABLE | 1<<unix.CAP_FOWNER
		if err := unix.Capset(&header, &data[0]); err != nil {
			t.Error(err)
		}
		for _, err := range []error{d.CanLock(), d.Lock()} {
			if !errors.Is(err, ErrNotPermitted) || !strings.Contains(err.Error(), "no CAP_LINUX_IMMUTABLE, no CAP_FOWNER") {
				t.Errorf("without capabilities: %v", err)
			}
		}
	}()
	<-done
}

func TestSweep(t *testing.T) {
	t.Parallel()
	d, path := openTemp(t)
	for _, n := range []string{RandomName(".config.nbidentityd-"), RandomName(".config.nbidentityd-")} {
		must(t, os.WriteFile(filepath.Join(path, n), nil, 0o600))
	}
	keep := []string{".config.nbidentityd-short", "config", "config.nbidentityd"}
	for _, n := range keep {
		must(t, os.WriteFile(filepath.Join(path, n), nil, 0o600))
	}
	must(t, d.Sweep("config"))
	noLitter(t, path, keep...)
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	d, path := openLockable(t)
	_, err := d.ReplaceAs("config", Version{}, Owner{0, d.gid, 0o640}, []byte("one\ntwo\n"))
	must(t, err)
	text, v, err := d.Read("config", 100)
	must(t, err)
	must(t, d.LockFile("config", v))
	must(t, d.Lock())
	for _, want := range []string{"one\ntwo\nthree\n", "one\n", "", "other\n", "other\n"} {
		if text, v, err = d.Read("config", 100); err != nil {
			t.Fatal(err)
		}
		must(t, d.Rewrite("config", v, text, []byte(want)))
		got, _, err := d.Read("config", 100)
		if err != nil || string(got) != want {
			t.Errorf("rewritten to %q: %q, %v", want, got, err)
		}
		dir, err1 := d.Locked()
		file, err2 := d.FileLocked("config")
		if !dir || !file || err1 != nil || err2 != nil {
			t.Errorf("locked: %v %v, %v %v", dir, err1, file, err2)
		}
	}
	if err := d.Rewrite("config", v, text, []byte("x")); !errors.Is(err, ErrChanged) {
		t.Errorf("an old version: %v", err)
	}
	must(t, d.Unlock())
	v = write(t, d, "own", "x")
	if err := d.Rewrite("own", v, []byte("x"), []byte("y")); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("the user's own file: %v", err)
	}
	must(t, os.Symlink(filepath.Join(path, "own"), filepath.Join(path, "link")))
	if err := d.Rewrite("link", v, []byte("x"), []byte("y")); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a link: %v", err)
	}
}
