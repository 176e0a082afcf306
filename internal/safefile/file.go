package safefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Version tells one state of a file from another. The zero Version is that of
// a file that does not exist.
type Version struct {
	UID, GID int
	Mode     os.FileMode // permission bits

	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// Owner is whose a file is and its permission bits.
type Owner struct {
	UID  int         `json:"uid"`
	GID  int         `json:"gid"`
	Mode os.FileMode `json:"mode"`
}

// Owner returns whose the file was.
func (v Version) Owner() Owner { return Owner{v.UID, v.GID, v.Mode} }

// Exists reports whether there was a file.
func (v Version) Exists() bool { return v.ino != 0 }

// Modified is when the content was last written, as the file system says.
func (v Version) Modified() time.Time { return time.Unix(v.mtime.Unix()) }

func version(st *unix.Stat_t) Version {
	return Version{UID: int(st.Uid), GID: int(st.Gid), Mode: os.FileMode(st.Mode & 0o777),
		dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

// Read returns the content of the file name, at most limit bytes. A missing
// file gives an error that wraps ENOENT.
//
// The file must be one that the user could read anyway: theirs, or root's with
// a single name and readable by others or by the user's group. Else root could
// be made to reveal a file that was linked or renamed into the directory.
func (d *Dir) Read(name string, limit int64) ([]byte, Version, error) {
	f, st, err := d.open(name)
	if err != nil {
		return nil, Version{}, err
	}
	defer f.Close()
	path := f.Name()
	readable := st.Mode&0o004 != 0 || st.Mode&0o040 != 0 && int(st.Gid) == d.gid
	if int(st.Uid) != d.uid && (st.Uid != 0 || st.Nlink != 1 || !readable) {
		return nil, Version{}, fmt.Errorf("reading %s: %w: uid %d, mode %o", path, ErrForeign, st.Uid, st.Mode&0o777)
	}
	if st.Size > limit {
		return nil, Version{}, fmt.Errorf("reading %s: %w: over %d bytes", path, ErrTooLarge, limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, Version{}, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, Version{}, fmt.Errorf("reading %s: %w: over %d bytes", path, ErrTooLarge, limit)
	}
	return data, version(&st), nil
}

// Replace writes data as a new file name in place of the version old, which
// may be the zero Version if there was no file. The new file has old's mode
// and owner; if there was none, mode 0600 and the Dir's owner.
//
// If the file is not old any more, or is something else directly after the
// rename, the error is ErrChanged and the caller may read again; a change in
// the last microseconds before the rename is lost. A link or pipe in the file's
// place also counts as a change. After every other error the old file is still
// there, whole.
func (d *Dir) Replace(name string, old Version, data []byte) (Version, error) {
	owner := Owner{d.uid, d.gid, 0o600}
	if old.Exists() {
		owner = old.Owner()
	}
	return d.ReplaceAs(name, old, owner, data)
}

// ReplaceAs is Replace with a new owner. The user cannot open a file that is to
// be somebody else's for writing at any moment.
func (d *Dir) ReplaceAs(name string, old Version, owner Owner, data []byte) (Version, error) {
	path, err := d.join(name)
	if err != nil {
		return Version{}, err
	}
	for range attempts {
		v, err := d.replace(name, path, old, owner, data)
		if !errors.Is(err, ErrContended) {
			return v, err
		}
	}
	return Version{}, fmt.Errorf("writing %s: %w", path, ErrContended)
}

func (d *Dir) replace(name, path string, old Version, owner Owner, data []byte) (v Version, err error) {
	temp := RandomName(tempPrefix(name))
	fd, err := openat(d.fd, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return Version{}, fmt.Errorf("creating a temporary file beside %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	placed := false
	defer func() {
		if !placed {
			// The name may be gone already; that is no news beside err.
			_ = unix.Unlinkat(d.fd, temp, 0)
		}
		if e := f.Close(); err == nil && e != nil {
			err = fmt.Errorf("closing %s: %w", path, e)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return Version{}, fmt.Errorf("writing %s: %w", path, err)
	}
	if err := d.dress(fd, owner); err != nil {
		return Version{}, fmt.Errorf("setting owner and mode of %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return Version{}, fmt.Errorf("syncing %s: %w", path, err)
	}
	if now, err := d.current(name); err != nil || now != old {
		return Version{}, errors.Join(fmt.Errorf("writing %s: %w", path, ErrChanged), err)
	}
	err = unix.Renameat(d.fd, temp, d.fd, name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTDIR) {
		return Version{}, ErrContended // somebody took one of the names
	}
	if err != nil {
		return Version{}, fmt.Errorf("renaming onto %s: %w", path, err)
	}
	placed = true
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Version{}, fmt.Errorf("inspecting %s: %w", path, err)
	}
	if now, err := d.current(name); err != nil || now.dev != uint64(st.Dev) || now.ino != st.Ino || st.Nlink != 1 {
		// Whatever stands there now is not what was read either.
		return Version{}, fmt.Errorf("writing %s: %w", path, errors.Join(ErrChanged, err))
	}
	return version(&st), d.sync()
}

// current returns the version of the entry name without following it.
func (d *Dir) current(name string) (Version, error) {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return Version{}, nil
	}
	return version(&st), err
}

// dress gives the fresh inode its owner and mode. Without root the group may
// be beyond us; then the group gets no access.
func (d *Dir) dress(fd int, owner Owner) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	mode := owner.Mode
	if int(st.Uid) != owner.UID || int(st.Gid) != owner.GID {
		err := unix.Fchown(fd, owner.UID, owner.GID)
		if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
			mode &^= 0o070
		} else if err != nil {
			return err
		}
	}
	return unix.Fchmod(fd, uint32(mode))
}

func tempPrefix(name string) string { return "." + name + ".nbidentityd-" }

// Sweep removes the temporary files of name that a killed process has left.
// It must not run beside a Replace of the same name.
func (d *Dir) Sweep(name string) error {
	fd, err := openat(d.fd, ".", dirFlags, 0)
	if err != nil {
		return opening(d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	names, err := f.Readdirnames(maxSweep)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("listing %s: %w", d.path, err)
	}
	for _, n := range names {
		if suffix, ours := strings.CutPrefix(n, tempPrefix(name)); ours && len(suffix) == len(RandomName("")) {
			// A directory is not ours, whatever it is called.
			if err := d.Remove(n); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EISDIR) {
				return err
			}
		}
	}
	return nil
}

// maxSweep bounds what a user can make us read.
const maxSweep = 1 << 14
