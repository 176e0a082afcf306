package reach

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/assurance"
)

// mayWrite reports whether the user may write to the object at path: what a
// socket wants of who connects, a file of who writes, and a directory of who makes
// and removes names in it. Where the kernel can be asked as the user it is
// asked, because it knows of access control lists; else the mode decides.
func (c Config) mayWrite(path string) (bool, error) {
	err := c.writableAs(path)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EACCES):
		return false, nil
	case !errors.Is(err, errCannotAsk):
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false, err
	}
	return c.UID == 0 || st.Uid == c.UID && st.Mode&0o200 != 0 || st.Mode&0o002 != 0 || st.Mode&0o020 != 0 && slices.Contains(c.GIDs, st.Gid), nil
}

var errCannotAsk = errors.New("the kernel cannot be asked as the user")

// writableAs asks by a thread that has the user's file-system ids and groups
// for one system call (faccessat2, Linux 5.8). It takes CAP_SETUID and
// CAP_SETGID.
func (c Config) writableAs(path string) error {
	if os.Geteuid() != 0 || len(c.GIDs) == 0 {
		return errCannotAsk
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	own, err := unix.Getgroups()
	if err != nil {
		return errCannotAsk
	}
	before := make([]uint32, len(own), len(own)+1)
	for i, g := range own {
		before[i] = uint32(g)
	}
	answer := make(chan unix.Errno, 1)
	go func() {
		runtime.LockOSThread()
		e := unix.EPERM
		if become(c.GIDs, c.GIDs[0], c.UID) {
			cwd := unix.AT_FDCWD
			_, _, e = unix.Syscall6(unix.SYS_FACCESSAT2, uintptr(cwd), uintptr(unsafe.Pointer(name)), unix.W_OK, unix.AT_EACCESS, 0, 0)
		}
		fsid(unix.SYS_SETFSUID, 0) // first: it brings the capabilities back
		if become(before, uint32(os.Getegid()), 0) {
			runtime.UnlockOSThread()
		} // else the thread ends with us: it may not serve another as the wrong user
		answer <- e
	}()
	switch e := <-answer; e {
	case 0:
		return nil
	case unix.ENOSYS, // an old kernel
		unix.EPERM, // an old filter of system calls, or the object is immutable
		unix.EROFS: // to the daemon, by its unit, and perhaps not to the user
		return errCannotAsk
	default:
		return e
	}
}

// become changes this thread only, unlike the functions of package syscall.
func become(groups []uint32, gid, uid uint32) bool {
	_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
	return e == 0 && fsid(unix.SYS_SETFSGID, gid) && fsid(unix.SYS_SETFSUID, uid)
}

// fsid reports whether the thread has the id now: the call itself does not say,
// but one with an impossible id tells what stands.
func fsid(call uintptr, id uint32) bool {
	unix.RawSyscall(call, uintptr(id), 0, 0)
	is, _, _ := unix.RawSyscall(call, ^uintptr(0), 0, 0)
	return uint32(is) == id
}

// changeable reports whether the user may change one of the files, or put another
// in its place.
func (c Config) changeable(files []string) assurance.Answer {
	if len(files) == 0 {
		return assurance.Unknown
	}
	result := assurance.No
	for _, file := range files {
		yes, err := c.mayReplace(file)
		if real, e := filepath.EvalSymlinks(file); err == nil && !yes && e == nil && real != filepath.Clean(file) {
			yes, err = c.mayReplace(real)
		}
		switch {
		case yes:
			return assurance.Yes
		case err != nil:
			result = assurance.Unknown
		}
	}
	return result
}

// mayReplace looks at the object and at every directory above it. The owner of
// either can give themselves the right.
func (c Config) mayReplace(path string) (bool, error) {
	if c.UID == 0 {
		return true, nil
	}
	for first := true; ; first = false {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return false, err
		}
		if st.Uid == c.UID {
			return true, nil
		}
		sticky := !first && st.Mode&unix.S_ISVTX != 0 // what is another's stays in its place
		if !sticky {
			if yes, err := c.mayWrite(path); yes || err != nil {
				return yes, err
			}
		}
		parent := filepath.Dir(path)
		if parent == path {
			return false, nil
		}
		path = parent
	}
}
