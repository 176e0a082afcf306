// Package safefile reads and writes small files inside a directory that a
// hostile user owns, as root or as that user.
//
// It works by file descriptors only. No component below the directory it was
// given is ever reached by a path that crosses a symbolic link, and no
// existing file is written to, chowned or chmodded: a new version is a fresh
// inode under a random name, complete and synced before it takes its place by
// rename. (Rewrite is the exception, for a file that the user never could open
// for writing.) However the user swaps directories, files and temporary names
// meanwhile, no file outside the opened directory is read, written or changed
// in owner or mode, and the file is either the old or the new version.
//
// Where the file system and the capabilities allow it, a file and the directory
// can be locked by the immutable flag, which is read and set on descriptors
// only. Only a file that this package has made for another owner than the user
// is locked: whoever opened a file for writing before it was locked can go on
// writing on XFS, tmpfs and overlay.
//
// Against whom: a user who owns the directory and races us. Not against root,
// nor one who can replace a parent of the directory given to Open: that path
// must be the administrator's, like /home/NAME.
//
// What it does not promise: that the version just written stays unless it is
// locked, since the owner of the directory can replace it at once; nor that a call returns where
// the file system itself hangs.
//
// It is longer than most because each step is a system call whose every failure
// has to undo the ones before it.
package safefile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors that a caller may want to tell apart. All others wrap an errno such
// as ENOSPC, EDQUOT, EROFS or ENOENT.
var (
	// ErrNotDirectory: a symbolic link or file stands where a directory should.
	ErrNotDirectory = errors.New("not a directory")
	// ErrNotRegular: a link, pipe, device or directory stands where a file should.
	ErrNotRegular = errors.New("not a regular file")
	// ErrForeign: the object belongs to somebody else, or may be a way to make
	// root reveal what the user cannot read.
	ErrForeign = errors.New("owned by somebody else")
	// ErrLeased: a program holds a lease on the file (F_SETLEASE), as its owner's
	// may, and whoever opens it would have to wait.
	ErrLeased = errors.New("a program holds a lease on it")
	// ErrTooLarge: the file is over the limit given to Read.
	ErrTooLarge = errors.New("file too large")
	// ErrChanged: the file is not the version that was read.
	ErrChanged = errors.New("changed meanwhile")
	// ErrContended: somebody replaced names faster than we could work.
	ErrContended = errors.New("somebody else keeps replacing it")
)

const (
	dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	attempts = 8
)

// Dir is an open directory that uid owns.
type Dir struct {
	fd       int
	path     string // for messages only
	uid, gid int
}

// Open opens the existing directory at path, whose parents the user cannot
// replace. It fails with ErrNotDirectory if the last component is a link and
// with ErrForeign if neither uid nor root owns it. What is created later
// belongs to uid and gid.
func Open(path string, uid, gid int) (*Dir, error) {
	fd, err := unix.Open(path, dirFlags, 0)
	if err != nil {
		return nil, opening(path, err)
	}
	return adopt(fd, path, uid, gid)
}

func adopt(fd int, path string, uid, gid int) (*Dir, error) {
	d := &Dir{fd: fd, path: path, uid: uid, gid: gid}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, errors.Join(fmt.Errorf("inspecting %s: %w", path, err), d.Close())
	}
	if int(st.Uid) != uid && st.Uid != 0 {
		return nil, errors.Join(fmt.Errorf("opening %s: %w: uid %d, want %d", path, ErrForeign, st.Uid, uid), d.Close())
	}
	return d, nil
}

func opening(path string, err error) error {
	// O_DIRECTORY with O_NOFOLLOW gives either errno for a link.
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("opening %s: %w", path, ErrNotDirectory)
	}
	return fmt.Errorf("opening %s: %w", path, err)
}

// Close closes the descriptor.
func (d *Dir) Close() error { return unix.Close(d.fd) }

// Fd returns the descriptor, which stays the Dir's.
func (d *Dir) Fd() int { return d.fd }

// Path returns the name by which the directory was opened, for messages.
func (d *Dir) Path() string { return d.path }

// Sub opens the subdirectory name, under the conditions of Open.
func (d *Dir) Sub(name string) (*Dir, error) {
	path, err := d.join(name)
	if err != nil {
		return nil, err
	}
	fd, err := openat(d.fd, name, dirFlags, 0)
	if err != nil {
		return nil, opening(path, err)
	}
	return adopt(fd, path, d.uid, d.gid)
}

// MakeSub opens the subdirectory name and creates it, with mode 0700, if there
// is none. It reports whether it did.
func (d *Dir) MakeSub(name string) (sub *Dir, created bool, err error) {
	for range attempts {
		sub, err = d.Sub(name)
		if err == nil && created {
			if err := sub.hand(); err != nil {
				return nil, false, errors.Join(err, sub.Close())
			}
			return sub, true, d.sync()
		}
		if !errors.Is(err, unix.ENOENT) {
			return sub, false, err
		}
		err = unix.Mkdirat(d.fd, name, 0o700)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, false, fmt.Errorf("creating %s: %w", filepath.Join(d.path, name), err)
		}
		created = err == nil
	}
	return nil, false, fmt.Errorf("creating %s: %w", filepath.Join(d.path, name), ErrContended)
}

// hand gives a directory that we have just made as root to its user. Between
// mkdirat and openat the user may have put another directory of root's in its
// place, which must not become theirs: ours is known by being empty.
func (d *Dir) hand() error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return fmt.Errorf("inspecting %s: %w", d.path, err)
	}
	if int(st.Uid) == d.uid {
		return nil
	}
	empty, err := d.empty()
	if err != nil {
		return err
	}
	if !empty || st.Mode&0o7777&^0o2000 != 0o700 {
		return fmt.Errorf("creating %s: %w", d.path, ErrContended)
	}
	if err := unix.Fchown(d.fd, d.uid, d.gid); err != nil {
		return fmt.Errorf("chowning %s: %w", d.path, err)
	}
	return nil
}

func (d *Dir) empty() (bool, error) {
	fd, err := openat(d.fd, ".", dirFlags, 0)
	if err != nil {
		return false, opening(d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

// Usable reports whether the directory's owner may read, write and search it.
// For root and in somebody else's directory that is always so.
func (d *Dir) Usable() (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return false, fmt.Errorf("inspecting %s: %w", d.path, err)
	}
	return st.Uid == 0 || int(st.Uid) != d.uid || st.Mode&0o700 == 0o700, nil
}

// MakeUsable gives the owner these rights. It is the one change that is made
// to an existing object, and only to a directory of the user's own.
func (d *Dir) MakeUsable() error {
	usable, err := d.Usable()
	if err != nil || usable {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return fmt.Errorf("inspecting %s: %w", d.path, err)
	}
	if err := unix.Fchmod(d.fd, st.Mode&0o7777|0o700); err != nil {
		return fmt.Errorf("making %s usable: %w", d.path, err)
	}
	return nil
}

// Aside renames the entry name, whatever it is, to the name to, which must
// not exist. A link is renamed itself; nothing is followed or deleted.
func (d *Dir) Aside(name, to string) error {
	path, err := d.join(name)
	if err != nil {
		return err
	}
	if _, err := d.join(to); err != nil {
		return err
	}
	err = unix.Renameat2(d.fd, name, d.fd, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // NFS, old kernels
		var st unix.Stat_t
		if unix.Fstatat(d.fd, to, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			err = unix.EEXIST
		} else {
			err = unix.Renameat(d.fd, name, d.fd, to)
		}
	}
	if err != nil {
		return fmt.Errorf("renaming %s to %s: %w", path, to, err)
	}
	return d.sync()
}

// Remove unlinks the entry name, which is no directory.
func (d *Dir) Remove(name string) error { return d.unlink(name, 0) }

// RemoveSub removes the empty directory name.
func (d *Dir) RemoveSub(name string) error { return d.unlink(name, unix.AT_REMOVEDIR) }

func (d *Dir) unlink(name string, flags int) error {
	path, err := d.join(name)
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(d.fd, name, flags); err != nil {
		return fmt.Errorf("removing %s: %w", path, err)
	}
	return d.sync()
}

func (d *Dir) sync() error {
	// Some network file systems cannot sync a directory.
	if err := unix.Fsync(d.fd); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("syncing %s: %w", d.path, err)
	}
	return nil
}

// join checks that name is a single component.
func (d *Dir) join(name string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("name %q in %s: %w", name, d.path, unix.EINVAL)
	}
	return filepath.Join(d.path, name), nil
}

// RandomName returns prefix with a suffix that nobody can guess.
func RandomName(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

func openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
