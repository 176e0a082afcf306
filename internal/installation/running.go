package installation

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

const (
	service = "nbidentityd.service"
	socket  = "nbidentityd.socket"
	faces   = "nbidentityd-faces.socket"

	endLimit  = 15 * time.Second // for a daemon to end after SIGTERM
	pollEvery = 50 * time.Millisecond
)

// vacate ends the daemon that listens on the settings' socket and takes its
// place until the returned file is closed, so that none starts meanwhile. It
// returns nil where the directory of the socket is not there.
func (w *work) vacate(ctx context.Context) (io.Closer, error) {
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	if w.attends(ctx) {
		// A socket of systemd's has no lock, and starts a daemon for whoever asks.
		if err := w.stopUnits(ctx); err != nil {
			return nil, err
		}
	}
	lock := listener.LockPath(w.Settings.Socket)
	told := map[int]bool{}
	for {
		place, err := listener.Hold(w.Settings.Socket)
		switch {
		case err == nil:
			return place, nil
		case errors.Is(err, fs.ErrNotExist):
			return nil, nil
		case !errors.Is(err, listener.ErrHeld):
			return nil, err
		}
		pid, err := holder(lock)
		if err != nil {
			return nil, err
		}
		if pid > 0 && !told[pid] {
			told[pid] = true
			if err := w.end(ctx, pid); err != nil {
				return nil, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("a daemon holds %s and does not end: stop it, then uninstall", lock)
		case <-time.After(pollEvery):
		}
	}
}

// attends reports whether systemd has our units running on the settings' socket.
func (w *work) attends(ctx context.Context) bool {
	active := func(unit string) bool { return systemctl(ctx, "--quiet", "is-active", unit) == nil }
	return w.booted() && w.Settings.Socket == settings.Default().Socket && (active(socket) || active(service))
}

// end stops a daemon by systemd, which would start it again, or by a signal.
func (w *work) end(ctx context.Context, pid int) error {
	if w.booted() && unitOf(pid) == service {
		return w.stopUnits(ctx)
	}
	w.note(fmt.Sprintf("daemon %d", pid), "ended")
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("ending the daemon %d: %w", pid, err)
	}
	return nil
}

// stopUnits stops the daemon and what would start it again. Not all of the units
// need to be there.
func (w *work) stopUnits(ctx context.Context) error {
	err := systemctl(ctx, "stop", socket, faces, service)
	for _, unit := range []string{socket, service} {
		if systemctl(ctx, "--quiet", "is-active", unit) == nil {
			return errors.Join(fmt.Errorf("%s still runs", unit), err)
		}
	}
	w.note(service, "stopped")
	return nil
}

// unitOf returns the last part of a process's control group.
func unitOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if unit := filepath.Base(strings.TrimSpace(line)); unit == service {
			return unit
		}
	}
	return ""
}

// holder returns the process that has locked the file, 0 if it has just ended.
// Only whom the directory's owner lets can lock it.
func holder(path string) (int, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0, fmt.Errorf("finding who holds %s: %w", path, err)
	}
	defer locks.Close()
	inode := ":" + strconv.FormatUint(inodeOf(info), 10)
	lines := bufio.NewScanner(locks)
	for lines.Scan() {
		// 1: FLOCK  ADVISORY  WRITE 2345 fe:00:67890 0 EOF
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], inode) {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 && hasOpen(pid, info) {
			return pid, nil
		}
	}
	return 0, lines.Err()
}

// hasOpen tells the file from one of another file system with its number. The
// daemon hides its descriptors even from the user it runs as: its name must then
// do.
func hasOpen(pid int, info fs.FileInfo) bool {
	dir := fmt.Sprintf("/proc/%d", pid)
	fds, err := os.ReadDir(dir + "/fd")
	if errors.Is(err, fs.ErrPermission) {
		name, err := os.ReadFile(dir + "/comm")
		return err == nil && strings.TrimSpace(string(name)) == "nbidentityd"
	}
	for _, fd := range fds {
		if open, err := os.Stat(dir + "/fd/" + fd.Name()); err == nil && os.SameFile(open, info) {
			return true
		}
	}
	return false
}

func inodeOf(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
