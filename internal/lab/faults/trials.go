package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

func trials() []trial {
	all := crashes() // the longest first
	all = append(all, refusals("sts", trial{})...)
	all = append(all, refusals("imds", trial{base: hour / 2})...)
	all = append(all, refusals("container", trial{base: hour / 2, studio: true})...)
	all = append(all, beyondTheEnd()...)
	all = append(all, starts()...)
	all = append(all, sessions()...)
	all = append(all, clocks()...)
	all = append(all, processes()...)
	all = append(all, disks()...)
	all = append(all, quotas()...)
	return append(all, limits()...)
}

// ways are the manners in which a service can fail.
func ways(service string) map[string]lab.Fault {
	return map[string]lab.Fault{
		"refuses":         {Service: service, Kind: "refuse"},
		"hangs":           {Service: service, Kind: "hang"},
		"slow by 3 s":     {Service: service, Kind: "latency", Duration: "3s"},
		"dribbles":        {Service: service, Kind: "slow", Duration: "15s"},
		"throttles":       {Service: service, Kind: "throttle"},
		"answers 500":     {Service: service, Kind: "error", Status: 500},
		"answers 503":     {Service: service, Kind: "error", Status: 503},
		"resets":          {Service: service, Kind: "reset"},
		"garbled":         {Service: service, Kind: "malformed"},
		"half an answer":  {Service: service, Kind: "truncated"},
		"answers nothing": {Service: service, Kind: "malformed", Body: " "},
	}
}

// refusals let one service fail for so long that a renewal falls into it, but
// not the end of the credentials: nobody may notice.
func refusals(service string, t trial) []trial {
	var all []trial
	for way, fault := range ways(service) {
		t := t
		t.name = service + " " + way
		t.act = func(ctx context.Context, r *rig) error { return r.suffer(ctx, hour*6/10, fault) }
		all = append(all, t)
	}
	return all
}

// suffer lets faults last for d.
func (r *rig) suffer(ctx context.Context, d time.Duration, faults ...lab.Fault) error {
	if err := r.account.Misbehave(ctx, faults...); err != nil {
		return err
	}
	lab.Wait(ctx, d)
	r.notice(ctx)
	return r.account.Behave(ctx)
}

// beyondTheEnd lets STS fail until the last credentials have ended.
func beyondTheEnd() []trial {
	var all []trial
	for _, way := range []string{"refuses", "hangs", "throttles", "answers 500"} {
		fault := ways("sts")[way]
		all = append(all, trial{name: "sts " + way + " beyond the end", act: func(ctx context.Context, r *rig) error {
			return r.suffer(ctx, hour+hour/4, fault)
		}})
	}
	// The renewal is answered in the very second in which the old credentials end.
	return append(all, trial{name: "renewal at the instant of the end", act: func(ctx context.Context, r *rig) error {
		return r.suffer(ctx, hour, lab.Fault{Service: "sts", Kind: "latency", Duration: (hour/2 - time.Second).String()})
	}})
}

// starts let the platform fail before the daemon has ever had credentials.
func starts() []trial {
	var all []trial
	for _, service := range []string{"sts", "imds", "sagemaker"} {
		for _, way := range []string{"refuses", "hangs", "answers 500", "garbled"} {
			fault := ways(service)[way]
			all = append(all, trial{name: "start while " + service + " " + way, late: true, act: func(ctx context.Context, r *rig) error {
				if err := r.account.Misbehave(ctx, fault); err != nil {
					return err
				}
				if err := r.launch(ctx); err != nil {
					return err
				}
				return r.suffer(ctx, 5*time.Second, fault)
			}})
		}
	}
	file := func(name string, act func(ctx context.Context, r *rig, path string) error) trial {
		return trial{name: "metadata file " + name, late: true, act: func(ctx context.Context, r *rig) error {
			path := filepath.Join(r.lab.Dir, "nb", "resource-metadata.json")
			if err := act(ctx, r, path); err != nil {
				return err
			}
			r.notice(ctx)
			return os.WriteFile(path, []byte(lab.Metadata), 0o644)
		}}
	}
	startWith := func(content string) func(context.Context, *rig, string) error {
		return func(ctx context.Context, r *rig, path string) error {
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				return err
			}
			if err := r.launch(ctx); err != nil {
				return err
			}
			lab.Wait(ctx, 3*time.Second)
			return nil
		}
	}
	return append(all,
		file("late", func(ctx context.Context, r *rig, path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			if err := r.launch(ctx); err != nil {
				return err
			}
			lab.Wait(ctx, 3*time.Second)
			return nil
		}),
		file("empty", startWith("")),
		file("half-written", startWith(lab.Metadata[:len(lab.Metadata)/2])),
		trial{name: "metadata file replaced by another notebook's", act: func(ctx context.Context, r *rig) error {
			path := filepath.Join(r.lab.Dir, "nb", "resource-metadata.json")
			other := strings.ReplaceAll(lab.Metadata, name, "bob-nb")
			if err := os.WriteFile(path, []byte(other), 0o644); err != nil {
				return err
			}
			lab.Wait(ctx, hour) // a renewal or two
			return os.WriteFile(path, []byte(lab.Metadata), 0o644)
		}},
	)
}

// sessions take the platform's own sessions away.
func sessions() []trial {
	var all []trial
	for _, studio := range []bool{false, true} {
		for _, how := range []string{"rotate", "expire", "revoke"} {
			where := "instance"
			if studio {
				where = "studio"
			}
			all = append(all, trial{name: fmt.Sprintf("base session, %s: %s", where, how), studio: studio, act: func(ctx context.Context, r *rig) error {
				if err := r.account.ChangeBaseSessions(ctx, how); err != nil {
					return err
				}
				lab.Wait(ctx, hour*6/10)
				r.notice(ctx)
				return nil
			}})
		}
	}
	return all
}

// clocks let AWS's clock and the notebook's differ. Behind by more than a
// session's life, whatever AWS issues has ended already for the notebook.
//
// It is AWS's that steps, and the notebook's that is stepped by as much to the other side:
// the machine's clock is everybody's, a time namespace moves every clock but this
// one, and what libfaketime replaces a static Go program does not call.
func clocks() []trial {
	var all []trial
	for _, by := range []time.Duration{2 * time.Hour, -2 * time.Hour, 24 * time.Hour, -24 * time.Hour} {
		all = append(all, trial{name: "clock stepped by " + (-by).String() + " against AWS's", cutOff: true, act: func(ctx context.Context, r *rig) error {
			if err := r.account.SetClock(ctx, by); err != nil {
				return err
			}
			lab.Wait(ctx, hour*6/10)
			r.notice(ctx)
			return r.account.SetClock(ctx, 0)
		}})
	}
	return all
}

// processes treat the daemon's own process badly.
func processes() []trial {
	return []trial{
		// A suspended machine stops everybody; what its programs get when it wakes
		// must not be what they would have got before.
		{name: "suspended for longer than a session", act: func(ctx context.Context, r *rig) error {
			pid := r.daemon.PID()
			wake := sync.OnceFunc(r.crowd.suspend())
			defer wake()
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
				return err
			}
			lab.Wait(ctx, hour+hour/2)
			if err := unix.Kill(pid, unix.SIGCONT); err != nil {
				return err
			}
			wake()
			lab.Wait(ctx, 2*time.Second)
			return nil
		}},
		{name: "killed 100 times", act: func(ctx context.Context, r *rig) error {
			for range 100 {
				if err := unix.Kill(r.daemon.PID(), unix.SIGKILL); err != nil {
					return err
				}
				<-r.daemon.Done()
				if err := r.start(ctx); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "a second daemon", act: func(ctx context.Context, r *rig) error {
			first := r.daemon
			if err := r.launch(ctx); err != nil {
				return err
			}
			lab.Wait(ctx, hour/2)
			select {
			case <-r.daemon.Done(): // it has seen that the place is taken
			case <-first.Done():
				return fmt.Errorf("the second daemon ended the first")
			default:
				return fmt.Errorf("two daemons serve one notebook")
			}
			r.daemon = first
			return nil
		}},
		{name: "socket file removed", act: func(ctx context.Context, r *rig) error {
			for range 5 {
				if err := os.Remove(r.notebook.Socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err // it may not have been made again yet
				}
				lab.Wait(ctx, time.Second)
			}
			return nil
		}},
		{name: "settings broken, then read again", act: func(ctx context.Context, r *rig) error {
			path, err := r.notebook.WriteSettings("nbidentityd")
			if err != nil {
				return err
			}
			good, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, text := range []string{"no settings at all", string(good)} {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					return err
				}
				if err := unix.Kill(r.daemon.PID(), unix.SIGHUP); err != nil {
					return err
				}
				lab.Wait(ctx, 2*time.Second)
			}
			return nil
		}},
	}
}

// disks take room away from what the daemon writes: its state and ~/.aws.
func disks() []trial {
	on := func(name, options string, harm func(ctx context.Context, r *rig, dir string) error) []trial {
		var all []trial
		for _, dir := range []string{"state", "home"} {
			all = append(all, trial{name: name + ", " + dir, root: true, late: true, act: func(ctx context.Context, r *rig) error {
				path := filepath.Join(r.lab.Dir, "nb", dir)
				if err := unix.Mount("tmpfs", path, "tmpfs", 0, options); err != nil {
					return fmt.Errorf("mounting: %w", err)
				}
				defer func() { _ = unix.Unmount(path, unix.MNT_DETACH) }() // the namespace ends with the program anyway
				if err := harm(ctx, r, path); err != nil {
					return err
				}
				if dir == "state" { // credentials do without it
					return r.start(ctx)
				}
				if err := r.launch(ctx); err != nil {
					return err
				}
				lab.Wait(ctx, 5*time.Second)
				r.notice(ctx)
				return unix.Mount("tmpfs", path, "tmpfs", unix.MS_REMOUNT, "size=1m,nr_inodes=100")
			}})
		}
		return all
	}
	all := on("disk full", "size=4k,nr_inodes=100", func(_ context.Context, _ *rig, dir string) error {
		return fill(filepath.Join(dir, "filler"))
	})
	all = append(all, on("no inodes left", "size=1m,nr_inodes=1", func(context.Context, *rig, string) error { return nil })...)
	return append(all, on("read-only", "size=1m", func(_ context.Context, _ *rig, dir string) error {
		return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	})...)
}

// fill writes until there is no room.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			return nil
		}
	}
}

// quotas let the user's quota end where the daemon writes. They are those of btrfs,
// which any kernel enforces that has it, and against root too.
func quotas() []trial {
	var all []trial
	for _, dir := range []string{"state", "home"} {
		all = append(all, trial{name: "quota, " + dir, root: true, late: true, act: func(ctx context.Context, r *rig) error {
			path := filepath.Join(r.lab.Dir, "nb", dir)
			lift, undo, err := r.quota(ctx, path)
			if err != nil {
				return err
			}
			defer undo()
			for i := range 3 { // what btrfs reserves for a write it gives back when it has written
				if err := fill(filepath.Join(path, fmt.Sprintf("filler-%d", i))); err != nil && !errors.Is(err, unix.EDQUOT) {
					return err
				}
				unix.Sync()
			}
			if err := os.Mkdir(filepath.Join(path, "more"), 0o755); !errors.Is(err, unix.EDQUOT) {
				return fmt.Errorf("the quota is not used up: %v", err)
			}
			if dir == "state" { // credentials do without it
				return r.start(ctx)
			}
			if err := r.launch(ctx); err != nil {
				return err
			}
			lab.Wait(ctx, 5*time.Second)
			r.notice(ctx)
			return lift()
		}})
	}
	return all
}

// quota puts a file system with a small quota over a directory.
func (r *rig) quota(ctx context.Context, path string) (lift func() error, undo func(), err error) {
	for _, program := range []string{"mkfs.btrfs", "btrfs"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, nil, lacking{"needs the program " + program + " (Debian: btrfs-progs)"}
		}
	}
	run := func(args ...string) error {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	image, whole := path+".image", path+".btrfs"
	part := filepath.Join(whole, "part")
	if err := errors.Join(os.Mkdir(whole, 0o755), os.WriteFile(image, nil, 0o600), os.Truncate(image, 128<<20), run("mkfs.btrfs", "-q", image)); err != nil {
		return nil, nil, err
	}
	if err := run("mount", "-o", "loop", image, whole); err != nil {
		return nil, nil, lacking{err.Error()}
	}
	undo = func() { // the namespace ends with the program anyway
		_ = unix.Unmount(path, unix.MNT_DETACH)
		_ = unix.Unmount(whole, unix.MNT_DETACH)
	}
	for _, args := range [][]string{
		{"btrfs", "quota", "enable", whole},
		{"btrfs", "subvolume", "create", part},
		{"btrfs", "qgroup", "limit", "1M", part},
		{"mount", "--bind", part, path},
	} {
		if err := run(args...); err != nil {
			undo()
			return nil, nil, err
		}
	}
	return func() error { return run("btrfs", "qgroup", "limit", "none", part) }, undo, nil
}

// limits give the daemon little to work with.
func limits() []trial {
	little := func(ctx context.Context, r *rig) error {
		lab.Wait(ctx, hour)
		r.notice(ctx)
		return nil
	}
	return []trial{
		{name: "32 file descriptors, 100 clients at once", prefix: []string{"prlimit", "--nofile=32", "--"}, act: func(ctx context.Context, r *rig) error {
			r.crowd.swell(ctx, 100, hour*6/10)
			r.notice(ctx)
			return nil
		}},
		{name: "2% of a processor", root: true, act: func(ctx context.Context, r *rig) error {
			undo, err := confine(r.daemon.PID(), "cpu", map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "2000", "cpu.max": "2000 100000"})
			if err != nil {
				return err
			}
			defer undo()
			return little(ctx, r)
		}},
		{name: "32 MB of memory", root: true, act: func(ctx context.Context, r *rig) error {
			undo, err := confine(r.daemon.PID(), "memory", map[string]string{"memory.limit_in_bytes": "32M", "memory.max": "32M"})
			if err != nil {
				return err
			}
			defer undo()
			return little(ctx, r)
		}},
		{name: "DNS gone", root: true, late: true, act: func(ctx context.Context, r *rig) error {
			// Nobody answers at the name server, so what is not in hosts is nowhere.
			hosts, err := r.overlay("/etc/hosts", "127.0.0.1 localhost sts.aws.test\n")
			if err != nil {
				return err
			}
			if _, err := r.overlay("/etc/resolv.conf", "nameserver 127.0.0.1\n"); err != nil {
				return err
			}
			wake := r.crowd.suspend() // they know the address
			api := r.account.API
			r.account.API = strings.Replace(api, "127.0.0.1", "sts.aws.test", 1)
			err = r.start(ctx)
			r.account.API = api
			wake()
			if err != nil {
				return err
			}
			if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
				return err
			}
			lab.Wait(ctx, hour*6/10)
			r.notice(ctx)
			return os.WriteFile(hosts, []byte("127.0.0.1 localhost sts.aws.test\n"), 0o644)
		}},
		{name: "network cut", root: true, alone: true, cutOff: true, act: func(ctx context.Context, r *rig) error {
			if out, err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "down").CombinedOutput(); err != nil {
				return fmt.Errorf("cutting: %w: %s", err, out)
			}
			lab.Wait(ctx, hour*6/10)
			r.notice(ctx)
			if out, err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
				return fmt.Errorf("healing: %w: %s", err, out)
			}
			return nil
		}},
	}
}

// confine puts a process into a control group of its own with these limits, of
// version 1 or 2, whichever is mounted.
func confine(pid int, controller string, limits map[string]string) (undo func(), err error) {
	base := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(base, controller)); err == nil {
		base = filepath.Join(base, controller)
	}
	dir := filepath.Join(base, "nbidentityd-faults-"+strconv.Itoa(pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, lacking{"no control group can be made: " + err.Error()}
	}
	undo = func() {
		_ = os.WriteFile(filepath.Join(base, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0) // it may have ended
		_ = os.Remove(dir)
	}
	set := 0
	for file, value := range limits {
		if os.WriteFile(filepath.Join(dir, file), []byte(value), 0) == nil {
			set++
		}
	}
	if set == 0 {
		undo()
		return nil, lacking{"the control group takes no limit of " + controller}
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}
