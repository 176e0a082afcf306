package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Why the immutable flag cannot be set.
var (
	// ErrNoFlag: the file system keeps no such flag.
	ErrNoFlag = errors.New("the file system has no immutable flag")
	// ErrNotPermitted: this process may not set it.
	ErrNotPermitted = errors.New("not permitted to set the immutable flag")
)

// immutable is FS_IMMUTABLE_FL, which chattr calls +i.
const immutable = 0x10

// needed are the capabilities that it takes to lock a user's file: the flag
// itself, the flag on an inode of somebody else's, and handing the file to root.
var needed = []struct {
	bit  uint
	name string
}{
	{unix.CAP_LINUX_IMMUTABLE, "CAP_LINUX_IMMUTABLE"},
	{unix.CAP_FOWNER, "CAP_FOWNER"},
	{unix.CAP_CHOWN, "CAP_CHOWN"},
}

// CanLock reports, by really trying on a file without a name, why files in the
// directory cannot be locked: ErrNoFlag, ErrNotPermitted or another error. A
// directory that is locked already fails with EPERM.
func (d *Dir) CanLock() error {
	if err := capable(); err != nil {
		return err
	}
	if _, err := getFlags(d.fd); err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	fd, err := openat(d.fd, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("trying the immutable flag in %s: %w", d.path, err)
	}
	defer func() { _ = unix.Close(fd) }() // nameless and empty
	if err := setFlag(fd, true); err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	return setFlag(fd, false)
}

func capable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("reading the capabilities: %w", err)
	}
	var missing []string
	for _, c := range needed {
		if data[0].Effective&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: no %s", ErrNotPermitted, strings.Join(missing, ", no "))
	}
	return nil
}

// Locked reports whether the directory itself has the flag, without which
// nothing in it can be made, renamed or removed, nor it be renamed.
func (d *Dir) Locked() (bool, error) {
	flags, err := getFlags(d.fd)
	if err != nil {
		return false, fmt.Errorf("%s: %w", d.path, err)
	}
	return flags&immutable != 0, nil
}

// Lock sets the flag on the directory itself and checks that it holds.
func (d *Dir) Lock() error { return d.lock(true) }

// Unlock clears it. What is not locked stays as it is.
func (d *Dir) Unlock() error { return d.lock(false) }

func (d *Dir) lock(on bool) error {
	if err := setFlag(d.fd, on); err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	return nil
}

// FileLocked reports whether the file name is locked.
func (d *Dir) FileLocked(name string) (bool, error) {
	f, _, err := d.open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	flags, err := getFlags(int(f.Fd()))
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return flags&immutable != 0, nil
}

// LockFile sets the flag on the file name if it is still the version v, with
// this one name. The version must come from ReplaceAs and belong to another
// than the user: who could open the file for writing before it was locked can
// write to it for ever on XFS, tmpfs and overlay.
func (d *Dir) LockFile(name string, v Version) error {
	f, st, err := d.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if now := version(&st); now != v || st.Nlink != 1 {
		return fmt.Errorf("locking %s: %w", f.Name(), ErrChanged)
	}
	if int(st.Uid) == d.uid || st.Mode&0o022 != 0 {
		return fmt.Errorf("locking %s: uid %d, mode %o: the user may hold it open: %w", f.Name(), st.Uid, st.Mode&0o777, fs.ErrInvalid)
	}
	if err := setFlag(int(f.Fd()), true); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return nil
}

// Rewrite changes the content of a locked file in place, if it is still the
// version old, and locks it again. The directory may stay locked, so that at no
// moment anybody can put another file in its place. The price: a reader that
// comes in the middle sees what is common to both versions, and perhaps some of
// the new one; only appending is seen whole or not at all. A crash may leave it
// so, and unlocked. After an error the old content is put back.
func (d *Dir) Rewrite(name string, old Version, before, after []byte) (err error) {
	f, st, err := d.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if version(&st) != old || st.Nlink != 1 || int64(len(before)) != st.Size {
		return fmt.Errorf("rewriting %s: %w", f.Name(), ErrChanged)
	}
	if int(st.Uid) == d.uid || st.Mode&0o022 != 0 {
		return fmt.Errorf("rewriting %s: uid %d, mode %o: the user may hold it open: %w", f.Name(), st.Uid, st.Mode&0o777, fs.ErrInvalid)
	}
	if err := setFlag(int(f.Fd()), false); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	defer func() {
		if e := setFlag(int(f.Fd()), true); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", f.Name(), e))
		}
	}()
	// The inode is ours and open; its name cannot lead elsewhere than to it.
	w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("rewriting %s: %w", f.Name(), err)
	}
	same := 0
	for same < min(len(before), len(after)) && before[same] == after[same] {
		same++
	}
	_, err = w.WriteAt(after[same:], int64(same))
	if err == nil && len(after) < len(before) {
		err = w.Truncate(int64(len(after)))
	}
	if err != nil { // no room, say: the old text had some
		_, back := w.WriteAt(before[same:], int64(same))
		err = errors.Join(err, back, w.Truncate(int64(len(before))))
	}
	if err = errors.Join(err, w.Sync(), w.Close()); err != nil {
		return fmt.Errorf("rewriting %s: %w", f.Name(), err)
	}
	return nil
}

// UnlockFile clears the flag of the file name.
func (d *Dir) UnlockFile(name string) error {
	f, st, err := d.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := getFlags(int(f.Fd()))
	if errors.Is(err, ErrNoFlag) || err == nil && flags&immutable == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	if int(st.Uid) != d.uid && st.Uid != 0 || st.Nlink != 1 {
		return fmt.Errorf("unlocking %s: %w: uid %d, %d names", f.Name(), ErrForeign, st.Uid, st.Nlink)
	}
	if err := setFlag(int(f.Fd()), false); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return nil
}

// open opens the regular file name to look at it. A pipe would make open wait
// for a writer, and a lease for its holder, hence O_NONBLOCK.
func (d *Dir) open(name string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	path, err := d.join(name)
	if err != nil {
		return nil, st, err
	}
	fd, err := openat(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil, st, fmt.Errorf("opening %s: %w", path, ErrNotRegular)
	}
	if errors.Is(err, unix.EAGAIN) { // O_NONBLOCK: else it would take /proc/sys/fs/lease-break-time
		return nil, st, fmt.Errorf("opening %s: %w", path, ErrLeased)
	}
	if err != nil {
		return nil, st, fmt.Errorf("opening %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, st, errors.Join(fmt.Errorf("inspecting %s: %w", path, err), f.Close())
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, errors.Join(fmt.Errorf("opening %s: %w", path, ErrNotRegular), f.Close())
	}
	return f, st, nil
}

func getFlags(fd int) (uint32, error) {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	return flags, explain(fd, err)
}

// setFlag keeps the other flags, and believes nothing that it cannot read back.
func setFlag(fd int, on bool) error {
	flags, err := getFlags(fd)
	if err != nil {
		if !on && errors.Is(err, ErrNoFlag) {
			return nil
		}
		return err
	}
	want := flags &^ immutable
	if on {
		want = flags | immutable
	}
	if flags == want {
		return nil
	}
	if err := explain(fd, unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(want))); err != nil {
		return err
	}
	if flags, err = getFlags(fd); err == nil && flags&immutable != want&immutable {
		err = fmt.Errorf("%w: it does not hold", ErrNoFlag)
	}
	return err
}

// explain tells the two usual reasons apart.
func explain(fd int, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (%s): %w", ErrNoFlag, fileSystem(fd), err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		if missing := capable(); missing != nil {
			return missing
		}
		// In a user namespace, or filtered by seccomp.
		return fmt.Errorf("%w: the kernel refuses in spite of the capabilities: %w", ErrNotPermitted, err)
	}
	return fmt.Errorf("immutable flag: %w", err)
}

func fileSystem(fd int) string {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "unknown type"
	}
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	}
	return fmt.Sprintf("type %#x", uint32(st.Type))
}
