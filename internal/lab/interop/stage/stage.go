// Package stage is a machine of its own for trials, within the one at hand:
// notebooks whose network holds nothing but AWS and the platform's address for
// credentials, all served by the same process's namespace, and files of the
// system replaced for its children alone.
//
// It is made of namespaces that have no name. The kernel takes them away with
// their last process, and all processes with their first, so nothing is left
// behind by a failure or a signal. What it does not do: confine anybody. Its
// processes are root's and share the machine's files.
package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// tools are what a stage is built with.
var tools = []string{"ip", "nsenter", "setpriv"}

// Lacking says why there can be no stage here.
type Lacking struct{ Reason string }

func (l Lacking) Error() string { return l.Reason }

// Possible returns a Lacking without root or the tools: a stage's own, and what the
// run needs besides, with Debian's packages of it.
func Possible(packages string, programs ...string) error {
	if os.Geteuid() != 0 {
		return Lacking{"needs root: it makes namespaces and runs clients as another user"}
	}
	for _, program := range slices.Concat(tools, programs) {
		if _, err := exec.LookPath(program); err != nil {
			return Lacking{"needs the program " + program + " (Debian: iproute2, util-linux" + packages + ")"}
		}
	}
	return nil
}

// Start runs this program again with these arguments in namespaces of its own,
// until it ends or, after ctx has, is ended. As their first process it takes
// all others with it when it ends, and it ends with us. The program tells of its
// failure itself, which is then ErrShown; where the kernel refuses namespaces, the
// error is Lacking.
func Start(ctx context.Context, args ...string) error {
	runtime.LockOSThread() // Pdeathsig means the thread that starts the process
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err := cmd.Run()
	if errors.Is(err, unix.EPERM) {
		return Lacking{"needs namespaces: " + err.Error()}
	}
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) && ended.Exited() {
		return ErrShown
	}
	return err
}

// LayOut makes what a stage in the directory dir needs, and copies programs from
// the directory bin to dir/bin, and this one as self: a notebook's user may not be able to
// read the checkout. Build takes dir/lab, Trust dir/trust.
func LayOut(dir, bin, self string, programs ...string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, sub := range []string{"bin", "lab", "trust"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	from := map[string]string{self: "/proc/self/exe"}
	for _, program := range programs {
		from[program] = filepath.Join(bin, program)
	}
	for program, path := range from {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%w (make builds it)", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "bin", program), data, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Build makes this process, which Start has started, the AWS of these
// notebooks. The existing directory lab is kept in memory from then on, so that
// what the daemon has locked there is gone with the stage too; lab/tmp becomes
// /tmp.
func Build(ctx context.Context, lab string, notebooks ...Notebook) error {
	if err := checkOwn(); err != nil {
		return err
	}
	if err := mounts(lab); err != nil {
		return err
	}
	return network(ctx, notebooks)
}

// mounts makes this process's view of the files its own: what it mounts is seen
// by its children alone. Names of namespaces go to a /run of its own, what
// programs leave in /tmp is found in tmp, and what they write to /etc is gone
// with the stage.
func mounts(lab string) error {
	tmp := filepath.Join(lab, "tmp")
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		options              string
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"proc", "/proc", "proc", 0, ""},
		{"tmpfs", "/run", "tmpfs", 0, "mode=755"},
		{"tmpfs", lab, "tmpfs", 0, "mode=755"},
		{tmp, "/tmp", "", unix.MS_BIND, ""},
		{"overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work"},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mounting on %s: %w", m.target, err)
		}
		var err error
		switch m.target { // makes what the next ones need
		case "/run":
			err = errors.Join(os.MkdirAll("/run/etc/upper", 0o755), os.Mkdir("/run/etc/work", 0o755))
		case lab:
			err = errors.Join(os.Mkdir(tmp, 0o755), os.Chmod(tmp, 0o777|os.ModeSticky))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
