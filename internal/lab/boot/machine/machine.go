// Package machine runs a directory as a machine: systemd-nspawn gives it its own
// processes, mounts, host name and control group, on a network namespace that
// the caller has made. It boots systemd there, or, as a Studio app does, runs
// nothing but what it is told to.
//
// A machine is not a virtual one: it shares the kernel, and with it the packet
// rules of its network namespace outlive it. A caller who starts one again
// clears them, as power-off would.
package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

// Tools are the programs that a machine needs of its host.
var Tools = []string{"systemd-nspawn", "nsenter", "setpriv", "nft"}

// Machine is one that may run. Its fields are set before Start.
type Machine struct {
	Lab     *lab.Lab
	Name    string // host name, and of its log in the lab
	Root    string // directory
	Network string // path of the network namespace
	// Volumes are directories of the host that outlive the root, by the path at
	// which the machine has them.
	Volumes map[string]string
	// App runs no systemd: the machine's only process waits, and all others,
	// even root's, get no more capabilities than Docker gives.
	App bool

	nspawn *lab.Process
	leader int // pid of the machine's first process, as we see it
}

// docker are the capabilities that Docker leaves to a container's root.
var docker = []string{
	"chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service", "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap",
}

// Start boots and waits until systemd says that everything runs.
func (m *Machine) Start(ctx context.Context) error {
	args := []string{
		"--quiet", "--directory=" + m.Root, "--machine=" + m.Name, "--register=no", "--keep-unit", "--console=pipe",
		"--network-namespace-path=" + m.Network, "--resolv-conf=off", "--timezone=off", "--link-journal=no",
	}
	for inside, outside := range m.Volumes {
		args = append(args, "--bind="+outside+":"+inside)
	}
	if m.App {
		args = append(args, "--as-pid2", "--capability=CAP_NET_ADMIN", "--", "/bin/sleep", "infinity")
	} else {
		args = append(args, "--boot", "--capability=CAP_NET_ADMIN")
	}
	join, err := cgroup(m.cgroupName())
	if err != nil {
		return err
	}
	args = append(join, append([]string{"systemd-nspawn"}, args...)...)
	if m.nspawn, err = m.Lab.Start(ctx, m.Name, []string{"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"}, args...); err != nil {
		return err
	}
	return m.nspawn.Await(ctx, "first process of "+m.Name, func() bool {
		m.leader = leader(m.nspawn.PID())
		if m.leader == 0 || m.App {
			return m.leader != 0
		}
		out, _ := m.Command(ctx, "systemctl", "is-system-running").Output() // refused until it listens
		state := strings.TrimSpace(string(out))
		return state == "running" || state == "degraded"
	})
}

// leader is the child of nspawn that is the first process of its namespace.
func leader(nspawn int) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", nspawn))
	for _, task := range tasks {
		children, _ := os.ReadFile(task) // may have ended
		for child := range strings.FieldsSeq(string(children)) {
			status, _ := os.ReadFile("/proc/" + child + "/status")
			for line := range strings.Lines(string(status)) {
				ids := strings.Fields(line)
				if len(ids) > 2 && ids[0] == "NSpid:" && ids[len(ids)-1] == "1" {
					pid, _ := strconv.Atoi(child)
					return pid
				}
			}
		}
	}
	return 0
}

// Command prepares a program on the machine as its root, in / and with AWS's
// documented path and nothing else in its environment.
func (m *Machine) Command(ctx context.Context, args ...string) *exec.Cmd {
	// Without a leader nsenter refuses, and enters nothing.
	enter := []string{"nsenter", "--target=" + strconv.Itoa(m.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"}
	if m.App {
		enter = append(enter, "setpriv", "--inh-caps=-all", "--bounding-set=-all,+"+strings.Join(docker, ",+"), "--")
	}
	cmd := exec.CommandContext(ctx, enter[0], append(enter, args...)[1:]...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin"}
	return cmd
}

// As prepares a program as an ordinary user, without capabilities of its own.
// In an app setuid programs work, as sudo must there.
func (m *Machine) As(ctx context.Context, user string, env []string, args ...string) *exec.Cmd {
	uid, gid, home := "1000", "1000", "/home/"+user
	if m.App {
		gid = "100"
	}
	drop := []string{"setpriv", "--reuid=" + uid, "--regid=" + gid, "--clear-groups", "--inh-caps=-all"}
	if !m.App {
		drop = append(drop, "--bounding-set=-all")
	}
	cmd := m.Command(ctx, slices.Concat(drop, []string{"--"}, args)...)
	cmd.Env = slices.Concat(cmd.Env, []string{"HOME=" + home, "USER=" + user, "LOGNAME=" + user}, env)
	return cmd
}

// Host prepares a program of the host on the machine's network.
func (m *Machine) Host(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + m.Network, "--"}, args...)...)
}

// Path is where the host sees a path of the running machine, what is mounted
// there included.
func (m *Machine) Path(inside string) string {
	return filepath.Join("/proc", strconv.Itoa(m.leader), "root", inside)
}

// Stop powers off, and clears what the kernel keeps of it. A machine that does
// not run is left alone.
func (m *Machine) Stop(ctx context.Context) error {
	if m.leader == 0 {
		return nil
	}
	if m.App {
		// As Docker ends an app in the end: all its processes die with the first.
		return m.end(ctx, func() error { return unix.Kill(m.leader, unix.SIGKILL) })
	}
	return m.end(ctx, m.Command(ctx, "systemctl", "poweroff").Run)
}

// Reboot restarts systemd on the same files.
func (m *Machine) Reboot(ctx context.Context) error {
	if err := m.end(ctx, m.Command(ctx, "systemctl", "reboot").Run); err != nil {
		return err
	}
	return m.Start(ctx)
}

const endLimit = 30 * time.Second

// end asks the machine to end by order, whose failure may be that it was
// obeyed at once.
func (m *Machine) end(ctx context.Context, order func() error) error {
	ordered := order()
	select {
	case <-m.nspawn.Done():
	case <-time.After(endLimit):
		return errors.Join(fmt.Errorf("%s: still running %s after the order to end", m.Name, endLimit), ordered)
	case <-ctx.Done():
		return ctx.Err()
	}
	m.leader = 0
	out, err := m.Host(ctx, "nft", "flush", "ruleset").CombinedOutput()
	if err != nil {
		return fmt.Errorf("clearing the rules of %s: %w\n%s", m.Name, err, out)
	}
	return nil
}

func (m *Machine) cgroupName() string { return cgroupPrefix(m.Lab.Dir) + m.Name }
