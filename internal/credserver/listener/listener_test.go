package listener

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// shortDir is a private directory whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t testing.TB, path string) net.Listener {
	t.Helper()
	l, err := Unix(path, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// deadSocket leaves a socket behind as a killed daemon does.
func deadSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestListenPermissions(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		for _, perm := range []fs.FileMode{0o666, 0o660, 0o600} {
			path := filepath.Join(shortDir(t), "s")
			old := unix.Umask(umask)
			l, err := Unix(path, perm)
			after := unix.Umask(old)
			if err != nil {
				t.Errorf("umask %04o: %v", umask, err)
				continue
			}
			if after != umask {
				t.Errorf("the umask changed to %04o", after)
			}
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode(); got != perm|fs.ModeSocket {
				t.Errorf("umask %04o: mode %v, want %v", umask, got, perm|fs.ModeSocket)
			}
			l.Close()
			if exists(path) {
				t.Error("the socket is still there after Close")
			}
		}
	}
}

func TestListenRefuses(t *testing.T) {
	dir := shortDir(t)
	tests := []struct {
		name  string
		setup func(path string)
		want  string // in the error
		keep  bool   // what is there must survive
	}{
		{"file", func(p string) { os.WriteFile(p, []byte("precious"), 0o600) }, "not a socket", true},
		{"directory", func(p string) { os.Mkdir(p, 0o755) }, "not a socket", true},
		{"symlink to a dead socket", func(p string) { deadSocket(t, p+".x"); os.Symlink(p+".x", p) }, "not a socket", true},
		{"dangling symlink", func(p string) { os.Symlink("/nonexistent", p) }, "not a socket", true},
		{"fifo", func(p string) { unix.Mkfifo(p, 0o600) }, "not a socket", true},
		{"living socket of another program", func(p string) {
			l, err := net.Listen("unix", p)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "already answers", true},
		{"living datagram socket", func(p string) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: p, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}, "may be in use", true},
		{"symlink as the lock", func(p string) { os.Symlink("/etc/passwd", p+".lock") }, "opening the lock", false},
		{"directory writable by others", func(p string) { os.Chmod(filepath.Dir(p), 0o777) }, "writable by others", false},
		{"sticky directory", func(p string) { os.Chmod(filepath.Dir(p), 0o1777) }, "writable by others", false},
		{"directory writable by the group", func(p string) { os.Chmod(filepath.Dir(p), 0o775) }, "chmod go-w", false},
		{"no directory", func(p string) { os.Remove(filepath.Dir(p)) }, "no such file", false},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sub := filepath.Join(dir, string(rune('a'+i)))
			if err := os.Mkdir(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(sub, "s")
			tt.setup(path)
			before, _ := os.Lstat(path)
			l, err := Unix(path, 0o666)
			if err == nil {
				l.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q, want the path and %q", err, tt.want)
			}
			if tt.keep {
				after, err := os.Lstat(path)
				if err != nil || !os.SameFile(before, after) {
					t.Errorf("what was there is gone: %v", err)
				}
			} else if exists(path) {
				t.Error("something was left behind")
			}
		})
	}
}

func TestListenForeignDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to give a directory away")
	}
	dir := shortDir(t)
	if err := os.Chown(dir, 1500, 1500); err != nil {
		t.Fatal(err)
	}
	if l, err := Unix(filepath.Join(dir, "s"), 0o666); err == nil {
		l.Close()
		t.Error("listened in another user's directory")
	}
}

func TestListenLongPath(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, strings.Repeat("x", 108-len(dir)))
	l, err := Unix(path, 0o666)
	if err == nil {
		l.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "107 bytes") {
		t.Errorf("error %v, want one that names the limit", err)
	}
}

func TestListenMode(t *testing.T) {
	if l, err := Unix(filepath.Join(shortDir(t), "s"), fs.ModeSetuid|0o666); err == nil {
		l.Close()
		t.Error("accepted a mode that is not a permission")
	}
}

func TestListenReplacesDead(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	deadSocket(t, path)
	listen(t, path)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestListenFullBacklogIsAlive(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	full := false
	for range 10 {
		c, err := net.Dial("unix", path)
		if err != nil {
			full = errors.Is(err, unix.EAGAIN)
			break
		}
		defer c.Close()
	}
	if !full {
		t.Fatal("the backlog does not fill")
	}
	if l, err := Unix(path, 0o666); err == nil {
		l.Close()
		t.Error("replaced a socket whose backlog is full")
	}
}

// Of many starters on a dead socket exactly one gets it, and its socket works.
func TestListenRace(t *testing.T) {
	for range 20 {
		path := filepath.Join(shortDir(t), "s")
		deadSocket(t, path)
		var wg sync.WaitGroup
		won := make(chan net.Listener, 16)
		for range cap(won) {
			wg.Go(func() {
				if l, err := Unix(path, 0o666); err == nil {
					won <- l
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d listeners", len(won))
		}
		l := <-won
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
	}
}

func TestCloseLeavesForeignSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l := listen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if !exists(path) {
		t.Error("Close removed another program's socket")
	}
}

func TestCloseTwiceAndAgain(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	for range 3 {
		l := listen(t, path)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	}
}

func TestAgain(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l := listen(t, path)
	if again, err := Again(l); again != nil || err != nil {
		t.Fatalf("with the socket there: %v, %v, want neither", again, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again, err := Again(l)
	if err != nil || again == nil {
		t.Fatalf("with the socket gone: %v, %v", again, err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("made again with mode %v (%v), want 0666", info.Mode(), err)
	}
	if third, err := Again(l); third != nil || err != nil {
		t.Errorf("of a listener that has given its place: %v, %v, want neither", third, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Hold(path); !errors.Is(err, ErrHeld) {
		t.Errorf("holding the place: %v, want %v", err, ErrHeld)
	}
	if !exists(path) {
		t.Error("closing the old one removed the new socket")
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if exists(path) {
		t.Error("the socket is left behind")
	}
	place, err := Hold(path)
	if err != nil {
		t.Fatal("the place is left behind:", err)
	}
	place.Close()
}

// What stands in the socket's place and is no socket is not touched.
func TestAgainMeetsAFile(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l := listen(t, path)
	if err := errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if again, err := Again(l); err == nil || again != nil {
		t.Errorf("got %v, %v, want an error", again, err)
	}
}
