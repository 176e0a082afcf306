// Package listener makes what the daemon listens at, and holds its place: of all
// daemons for one socket, one serves.
//
// It relies on the directory of the socket being writable by nobody but the
// daemon's user and root, and refuses any other.
package listener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// backlog is how many connections may wait to be accepted; the kernel lowers it
// to net.core.somaxconn.
const backlog = 4096

// Unix makes a unix socket at path with the given permissions and listens.
//
// The parent directory must exist, belong to root or to us, and be writable by
// nobody else, so that no one can put another socket in its place (the
// directories above it are the administrator's care). A file that
// is not a socket is never touched. A socket on which somebody answers is an
// error; one that a dead process left behind is replaced. Two starters cannot
// both believe the other dead: Hold is called and lasts as long as the listener
// lives.
//
// The permissions are set by chmod between bind and listen. Nobody can connect
// before listen, so there is no moment with the wrong ones, and the umask, which
// belongs to the whole process, is left alone. Permissions of 0666 are sound:
// credserver asks the kernel who calls. 0660 keeps others from connecting at all.
//
// Closing the listener removes the socket if it is still the one made here.
func Unix(path string, perm fs.FileMode) (net.Listener, error) {
	if perm&^fs.ModePerm != 0 {
		return nil, fmt.Errorf("listening on %s: %v is not a permission mode", path, perm)
	}
	lock, err := Hold(path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	l, err := listenLocked(path, perm)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listening on %s: %w", path, err), lock.Close())
	}
	l.lock = lock
	return l, nil
}

// Again listens once more at the path of l, which Unix or Again has returned, after
// its socket was removed there: what listens on without a name, nobody reaches. It
// takes l's place over: l may be closed, and then only stops listening. It returns
// nil while the socket is still there, for a listener without a place, and for one
// that was not made here.
func Again(l net.Listener) (net.Listener, error) {
	old, ours := l.(*socket)
	if !ours {
		return nil, nil
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	if now, err := os.Lstat(old.path); old.lock == nil || err == nil && os.SameFile(now, old.made) {
		return nil, nil
	}
	s, err := listenLocked(old.path, old.made.Mode().Perm())
	if err != nil {
		return nil, fmt.Errorf("listening again on %s: %w", old.path, err)
	}
	s.lock, old.lock = old.lock, nil
	return s, nil
}

// TCP listens for the faces on ports. The connections are plain TCP: of Multipath
// TCP, which package net would accept, the kernel does not tell where the caller
// meant to go before packet rules led it here, and so not who it is. Nothing probes
// idle connections, which end too soon for that.
func TCP(network, address string) (net.Listener, error) {
	c := net.ListenConfig{KeepAlive: -1}
	c.SetMultipathTCP(false)
	return c.Listen(context.Background(), network, address)
}

// checkParent refuses a directory in which another user could put a socket.
func checkParent(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("checking its directory %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is not a directory", dir)
	case st.Uid != 0 && st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("directory %s belongs to uid %d: it must belong to root or to the daemon's uid", dir, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("directory %s is writable by others (mode %04o): chmod go-w it", dir, st.Mode&0o7777)
	}
	return nil
}

// LockPath is the file whose lock Hold takes.
func LockPath(socket string) string { return socket + ".lock" }

// ErrHeld says that another process has the place.
var ErrHeld = errors.New("another nbidentityd holds it; stop that one first")

// Hold takes the daemon's place at a socket's path until the file is closed or
// the process dies. The conditions for the parent directory are Unix's. Who
// has the place may remove the lock file.
func Hold(socket string) (*os.File, error) {
	if err := checkParent(filepath.Dir(socket)); err != nil {
		return nil, err
	}
	path := LockPath(socket)
	for {
		f, err := lockFile(path)
		if err != nil {
			return nil, err
		}
		locked, err := f.Stat()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
		}
		if now, err := os.Lstat(path); err == nil && os.SameFile(now, locked) {
			return f, nil
		}
		f.Close() // it was removed since it was opened
	}
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrHeld
		}
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
	}
	return f, nil
}

// listenLocked wants the lock to be held.
func listenLocked(path string, perm fs.FileMode) (*socket, error) {
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("creating a socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close() // FileListener keeps a duplicate
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		if errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w (a socket's path may have at most 107 bytes)", err)
		}
		return nil, fmt.Errorf("binding: %w", err)
	}
	l, err := startListening(fd, file, path, perm)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return l, nil
}

// startListening turns the bound socket fd, which file holds, into a listener.
func startListening(fd int, file *os.File, path string, perm fs.FileMode) (*socket, error) {
	if err := os.Chmod(path, perm); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, fmt.Errorf("starting to listen: %w", err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	s := &socket{Listener: l, path: path}
	if s.made, err = os.Lstat(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

// makeRoom makes path free, or says why it must not.
func makeRoom(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the file there is not a socket; remove it or choose another path")
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		return errors.Join(errors.New("somebody already answers there; stop that daemon first"), c.Close())
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		// A full backlog (EAGAIN) is alive, and so may be whatever we may not ask.
		return fmt.Errorf("the socket there may be in use: %w", err)
	}
	return os.Remove(path)
}

// socket is a listener that tidies up after itself.
type socket struct {
	net.Listener
	path string
	made fs.FileInfo

	mu     sync.Mutex
	lock   *os.File // nil: it is closed, or another holds the place
	closed bool
	err    error
}

// Close stops listening, removes the socket if it is still ours and gives up
// the place. Later calls return the first one's error.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.err
	}
	s.closed = true
	s.err = s.Listener.Close()
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.made) {
		s.err = errors.Join(s.err, os.Remove(s.path))
	}
	if s.lock != nil {
		// A child forked at this moment has the lock as well until its exec, and
		// would keep the next daemon out.
		_ = unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
		s.err = errors.Join(s.err, s.lock.Close())
		s.lock = nil
	}
	return s.err
}
