package safefile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// user is the notebook user in tests that run as root.
const user = 1500

// self returns the ids to open a test directory with: the test's own, or as
// root those of another user, to whom the directory is given.
func self(t *testing.T, dir string) (uid, gid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		return os.Getuid(), os.Getgid()
	}
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	return user, user
}

func openTemp(t *testing.T) (*Dir, string) {
	t.Helper()
	path := t.TempDir()
	uid, gid := self(t, path)
	d, err := Open(path, uid, gid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, path
}

func write(t *testing.T, d *Dir, name, data string) Version {
	t.Helper()
	v, err := d.Replace(name, Version{}, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestReplaceAndRead(t *testing.T) {
	t.Parallel()
	d, path := openTemp(t)
	if _, _, err := d.Read("config", 10); !errors.Is(err, unix.ENOENT) {
		t.Errorf("Read of nothing: %v", err)
	}
	v := write(t, d, "config", "one")
	if v.Mode != 0o600 || v.UID != d.uid || v.GID != d.gid {
		t.Errorf("new file is %+v", v)
	}
	if err := os.Chmod(filepath.Join(path, "config"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Replace("config", v, []byte("x")); !errors.Is(err, ErrChanged) {
		t.Errorf("Replace after chmod: %v", err)
	}
	data, v, err := d.Read("config", 3)
	if err != nil || string(data) != "one" || v.Mode != 0o640 {
		t.Fatalf("Read = %q, %+v, %v", data, v, err)
	}
	old, err := os.Stat(filepath.Join(path, "config"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := d.Replace("config", v, []byte("two"))
	if err != nil || w.Mode != 0o640 || w.UID != v.UID {
		t.Errorf("Replace = %+v, %v", w, err)
	}
	if now, err := os.Stat(filepath.Join(path, "config")); err != nil || os.SameFile(old, now) {
		t.Errorf("the inode was written in place: %v", err)
	}
	if _, err := d.Replace("config", Version{}, []byte("three")); !errors.Is(err, ErrChanged) {
		t.Errorf("Replace of a file expected absent: %v", err)
	}
	if _, _, err := d.Read("config", 2); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Read over the limit: %v", err)
	}
	noLitter(t, path, "config")
}

func TestNames(t *testing.T) {
	t.Parallel()
	d, _ := openTemp(t)
	for _, name := range []string{"", ".", "..", "a/b", "/etc/passwd", "a\x00b"} {
		if _, _, err := d.Read(name, 1); !errors.Is(err, unix.EINVAL) {
			t.Errorf("Read(%q): %v", name, err)
		}
		if _, err := d.Replace(name, Version{}, nil); !errors.Is(err, unix.EINVAL) {
			t.Errorf("Replace(%q): %v", name, err)
		}
		if _, _, err := d.MakeSub(name); !errors.Is(err, unix.EINVAL) {
			t.Errorf("MakeSub(%q): %v", name, err)
		}
		if d.Aside(name, "x") == nil || d.Aside("x", name) == nil || d.Remove(name) == nil || d.RemoveSub(name) == nil {
			t.Errorf("%q accepted", name)
		}
	}
}

func TestSubdirectories(t *testing.T) {
	t.Parallel()
	d, path := openTemp(t)
	if _, err := d.Sub(".aws"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("Sub of nothing: %v", err)
	}
	for _, want := range []bool{true, false} {
		sub, created, err := d.MakeSub(".aws")
		if err != nil || created != want {
			t.Fatalf("MakeSub = %v, %v, want %v", created, err, want)
		}
		_ = sub.Close()
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(path, ".aws"), &st); err != nil || int(st.Uid) != d.uid || int(st.Gid) != d.gid || st.Mode&0o777 != 0o700 {
		t.Errorf("directory is %+v, %v", st, err)
	}
	if err := d.RemoveSub(".aws"); err != nil {
		t.Error(err)
	}
}

// Links, pipes, devices and directories where a file or directory should be.
func TestRefusesWrongKinds(t *testing.T) {
	t.Parallel()
	d, path := openTemp(t)
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("secret"), 0o644))
	must(t, os.Symlink(outside, filepath.Join(path, "link")))
	must(t, os.Symlink(filepath.Dir(outside), filepath.Join(path, "dirlink")))
	must(t, os.Symlink("loop", filepath.Join(path, "loop")))
	must(t, unix.Mkfifo(filepath.Join(path, "pipe"), 0o666))
	must(t, os.Mkdir(filepath.Join(path, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(path, "file"), nil, 0o644))
	for _, name := range []string{"link", "dirlink", "loop", "pipe", "dir"} {
		if data, _, err := d.Read(name, 100); !errors.Is(err, ErrNotRegular) {
			t.Errorf("Read(%s) = %q, %v", name, data, err)
		}
		if _, err := d.Replace(name, Version{}, []byte("x")); !errors.Is(err, ErrChanged) {
			t.Errorf("Replace(%s): %v", name, err)
		}
	}
	for _, name := range []string{"link", "dirlink", "loop", "pipe", "file"} {
		if _, err := d.Sub(name); !errors.Is(err, ErrNotDirectory) {
			t.Errorf("Sub(%s): %v", name, err)
		}
		if _, _, err := d.MakeSub(name); !errors.Is(err, ErrNotDirectory) {
			t.Errorf("MakeSub(%s): %v", name, err)
		}
	}
	if _, err := Open(filepath.Join(path, "dirlink"), d.uid, d.gid); !errors.Is(err, ErrNotDirectory) {
		t.Errorf("Open of a link: %v", err)
	}
	must(t, d.Aside("dirlink", "kept"))
	if err := d.Aside("link", "kept"); !errors.Is(err, unix.EEXIST) {
		t.Errorf("Aside onto an existing name: %v", err)
	}
	if to, err := os.Readlink(filepath.Join(path, "kept")); err != nil || to != filepath.Dir(outside) {
		t.Errorf("the link was not kept: %q, %v", to, err)
	}
	if data, err := os.ReadFile(outside); err != nil || string(data) != "secret" {
		t.Errorf("outside is %q, %v", data, err)
	}
}

// A user can link or rename files of root's into their directory. Root must
// not read for them what they could not read.
func TestDoesNotRevealForRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes files of root's in a user's directory")
	}
	d, path := openTemp(t)
	for name, mode := range map[string]os.FileMode{"private": 0o600, "group": 0o640, "public": 0o644} {
		must(t, os.WriteFile(filepath.Join(path, name), []byte("x"), mode))
		must(t, os.Chmod(filepath.Join(path, name), mode)) // whatever the umask
		_, _, err := d.Read(name, 10)
		if want := name != "public"; want != errors.Is(err, ErrForeign) {
			t.Errorf("Read(%s): %v", name, err)
		}
	}
	must(t, os.Link(filepath.Join(path, "public"), filepath.Join(path, "second")))
	if _, _, err := d.Read("second", 10); !errors.Is(err, ErrForeign) {
		t.Errorf("Read of a hard link: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(path, "other"), nil, 0o644))
	must(t, os.Chown(filepath.Join(path, "other"), 1, 1))
	if _, _, err := d.Read("other", 10); !errors.Is(err, ErrForeign) {
		t.Errorf("Read of a third user's file: %v", err)
	}
	must(t, os.Mkdir(filepath.Join(path, "third"), 0o755))
	must(t, os.Chown(filepath.Join(path, "third"), 1, 1))
	if _, err := d.Sub("third"); !errors.Is(err, ErrForeign) {
		t.Errorf("Sub of a third user's directory: %v", err)
	}
	// A directory of root's that was swapped in after mkdirat is not handed over.
	must(t, os.Mkdir(filepath.Join(path, "full"), 0o700))
	must(t, os.WriteFile(filepath.Join(path, "full", "x"), nil, 0o600))
	sub, err := d.Sub("full")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if err := sub.hand(); !errors.Is(err, ErrContended) {
		t.Errorf("a full directory was handed over: %v", err)
	}
}

// When the disk refuses, the error says so and the old file is whole.
func TestFileSystemErrors(t *testing.T) {
	t.Parallel()
	t.Run("no permission", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() == 0 {
			t.Skip("needs an ordinary user: root may write anywhere")
		}
		d, path := openTemp(t)
		v := write(t, d, "config", "old")
		must(t, os.Chmod(path, 0o500))
		_, err := d.Replace("config", v, []byte("new"))
		must(t, os.Chmod(path, 0o700))
		refused(t, d, path, err, unix.EACCES)
	})
	for name, disk := range map[string]struct {
		options string
		size    int // that does not fit
		want    error
	}{
		"full":      {"size=64k", 1 << 20, unix.ENOSPC},
		"no inodes": {"nr_inodes=2", 3, unix.ENOSPC},
		"quota":     {"usrquota_block_hardlimit=16k,usrquota", 64 << 10, unix.EDQUOT},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, path := openTmpfs(t, disk.options)
			v := write(t, d, "config", "old")
			_, err := d.Replace("config", v, make([]byte, disk.size))
			refused(t, d, path, err, disk.want)
		})
	}
	t.Run("read-only", func(t *testing.T) {
		t.Parallel()
		d, path := openTmpfs(t, "")
		v := write(t, d, "config", "old")
		must(t, unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		_, err := d.Replace("config", v, []byte("new"))
		refused(t, d, path, err, unix.EROFS)
	})
}

func openTmpfs(t *testing.T, options string) (*Dir, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a small file system")
	}
	path := t.TempDir()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, options); err != nil {
		t.Skipf("needs a tmpfs with %q: %v", options, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	must(t, os.Chown(path, user, user))
	d, err := Open(path, user, user)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, path
}

func refused(t *testing.T, d *Dir, path string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), "config") {
		t.Errorf("Replace: %v, want %v and the file's name", err, want)
	}
	if data, _, err := d.Read("config", 10); err != nil || string(data) != "old" {
		t.Errorf("the old file is %q, %v", data, err)
	}
	noLitter(t, path, "config")
}

func noLitter(t *testing.T, path string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("directory holds %q, want %q", names, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
