package configguard

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

// guardProcess is a guard by itself, so that what it costs can be told from
// what the test costs. Asked by a line it prints its state.
func guardProcess(home, name string) int {
	cfg := Config{Home: home, Managed: managed, StateDir: os.Getenv("STATE"), Lock: false}
	var pause time.Duration
	if _, err := fmt.Sscanf(name, "guard %d %d %d", &cfg.UID, &cfg.GID, &pause); err != nil {
		return 1
	}
	g := New(cfg)
	g.limiter.Pause = pause
	go func() { _ = g.Run(context.Background()) }() // it ends with the process
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := json.NewEncoder(os.Stdout).Encode(g.State()); err != nil {
			return 1
		}
	}
	return 0
}

// child is a guard in a process of its own.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	ask    io.Writer
	answer *json.Decoder
}

func startChild(t *testing.T, cfg Config, pause time.Duration) child {
	t.Helper()
	cmd := attacker(t, cfg, fmt.Sprintf("guard %d %d %d", cfg.UID, cfg.GID, pause))
	cmd.Env = append(cmd.Env, "STATE="+cfg.StateDir)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	start(t, cmd)
	c := child{t, cmd, stdin, json.NewDecoder(stdout)}
	eventually(t, "the guard is at work", func() bool { s := c.state(); return s.Written && s.Watching })
	return c
}

func (c child) state() (s State) {
	_, err := c.ask.Write([]byte("\n"))
	must(c.t, err)
	must(c.t, c.answer.Decode(&s))
	return s
}

// cpu is what the child has used so far, by the scheduler's own account.
func (c child) cpu() time.Duration {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.cmd.Process.Pid))
	must(c.t, err)
	var sum time.Duration
	for _, f := range files {
		var ns time.Duration
		if _, err := fmt.Sscan(read(c.t, f), &ns); err == nil {
			sum += ns
		}
	}
	if sum == 0 {
		c.t.Skip("needs a kernel with schedstat")
	}
	return sum
}

// bounded fails if the child has used more of a core since began than it may.
func (c child) bounded(began time.Time, before time.Duration) {
	c.t.Helper()
	used, took := c.cpu()-before, time.Since(began)
	s := c.state()
	c.t.Logf("%v: the guard used %.1f %% of a core; %d findings, %d repairs, watching %v", took.Round(time.Millisecond),
		100*used.Seconds()/took.Seconds(), s.Tampers, s.Repairs, s.Watching)
	bound := 150*time.Millisecond + 4*took/100 // the first burst, and what follows
	if raceEnabled {
		bound *= 5
	}
	if used > bound {
		c.t.Errorf("%v of CPU in %v", used, took)
	}
}

// Processes of the user's that change the file as fast as they can. The guard
// loses, as it must; but it stays cheap, touches nothing else, and has the last
// word.
func TestHostileLoop(t *testing.T) {
	for name, loops := range map[string][]string{
		"rename":      {"loop:rename over"},
		"unlink":      {"loop:create,unlink"},
		"all at once": {"loop:move the directory,remove the directory", "loop:link the file,rename over", "loop:link the directory,chmod,write,hard link"},
		"big":         {"loop:write a big one"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := newConfig(t, map[string]string{"outside/config": "untouched", "outside/passwd": "untouched"})
			openHome(t, cfg)
			must(t, os.Chown(cfg.Home+"/outside", os.Getuid(), os.Getgid())) // root's, if possible
			for _, f := range []string{"config", "passwd"} {
				must(t, os.Chown(cfg.Home+"/outside/"+f, os.Getuid(), os.Getgid()))
			}
			victims := snapshot(t, cfg.Home+"/outside")
			g := startChild(t, cfg, *attackTime)
			first := attacker(t, cfg, loops[0])
			began, before := time.Now(), g.cpu()
			var loop []*exec.Cmd
			for _, l := range loops {
				loop = append(loop, again(first, l))
				start(t, loop[len(loop)-1])
			}
			ours, samples := 0, 0
			for time.Since(began) < *attackTime {
				if binds(cfg) {
					ours++
				}
				samples++
				time.Sleep(50 * time.Millisecond)
			}
			t.Logf("ours in %d of %d samples", ours, samples)
			g.bounded(began, before)
			eventually(t, "a finding", func() bool { return g.state().Tampers > 0 }) // it may have been resting
			if s := g.state(); s.Last.Count != s.Tampers {
				t.Errorf("state = %+v", s)
			}
			for _, cmd := range loop {
				stop(cmd)
			}
			settled := time.Now()
			for !binds(cfg) || !g.state().Written {
				if time.Since(settled) > 2**attackTime+20*time.Second {
					t.Fatalf("not ours after the loop: %+v", g.state())
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Logf("ours again after %v", time.Since(settled).Round(time.Millisecond))
			if os.Getuid() != 0 {
				must(t, os.Chmod(cfg.Home+"/outside", 0o755)) // it was the attackers' own
			} else if diff := cmp.Diff(victims, snapshot(t, cfg.Home+"/outside")); diff != "" {
				t.Errorf("outside ~/.aws was changed:\n%s", diff)
			}
		})
	}
}

// How long a single change lasts, by inotify alone.
func TestLatency(t *testing.T) {
	n := 200
	if testing.Short() {
		n = 20
	}
	if *attackTime < 10*time.Second {
		n = min(n, 20)
	}
	cfg := newConfig(t, nil)
	g := New(cfg)
	g.limiter.Repairs, g.budget = 1<<20, 1<<30
	g.poll = time.Hour
	run(t, g)
	var took []time.Duration
	for i := range n {
		time.Sleep(250 * time.Millisecond) // a person's pace: the guard is at rest
		other := cfg.Home + "/evil"
		must(t, os.WriteFile(other, fmt.Appendf(nil, "[default]\nrole_arn = %d\n", i), 0o600))
		must(t, os.Chown(other, cfg.UID, cfg.GID))
		began := time.Now()
		must(t, os.Rename(other, cfg.Home+"/.aws/config"))
		eventually(t, "repaired", func() bool { return binds(cfg) })
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("%d changes: p50 %v, p99 %v, worst %v", n, took[n/2], took[n*99/100], took[n-1])
	if took[n/2] > 5*time.Second {
		t.Error("events are not acted upon at once")
	}
}

// The watch follows the directory wherever the name goes, and what events do
// not tell the poll finds.
func TestWatchAndPoll(t *testing.T) {
	cfg := newConfig(t, map[string]string{".aws/config": strings.Repeat("# room\n", 20)})
	openHome(t, cfg)
	g := New(cfg)
	g.limiter.Repairs = 1 << 20
	g.poll = 500 * time.Millisecond
	run(t, g)
	for i, name := range []string{"move the directory", "remove the directory", "link the directory", "mmap", "hard link", "exchange the directory", "write"} {
		eventually(t, "watching", func() bool { return g.State().Watching })
		attack := attacker(t, cfg, name)
		eventually(t, name, func() bool { // the guard may be quicker than an attack of several steps
			return again(attack, name).Run() == nil
		})
		eventually(t, "repaired after "+name, func() bool { return binds(cfg) && g.State().Tampers >= uint64(i+1) })
	}
}

// A directory that was away for a moment is watched again: fsnotify has forgotten
// it, though it is the same one.
func TestWatchAfterAMoveAndBack(t *testing.T) {
	cfg := newConfig(t, map[string]string{".aws/config": "[default]\n"})
	g := New(cfg)
	g.poll = time.Hour
	run(t, g)
	dir := cfg.Home + "/.aws"
	g.work <- struct{}{} // else it may make another one meanwhile
	must(t, os.Rename(dir, dir+"2"))
	must(t, os.Rename(dir+"2", dir))
	looked := time.Now()
	<-g.work
	eventually(t, "a look at what came back", func() bool { return g.State().Looked.After(looked) && g.State().Written })
	time.Sleep(time.Second) // until it is at rest, whatever it has made of the events
	must(t, os.WriteFile(dir+"/config", []byte(evil), 0o600))
	eventually(t, "repaired", func() bool { return binds(cfg) })
}

// A flood of events of no concern makes the watcher deaf, not busy.
func TestFlood(t *testing.T) {
	cfg := newConfig(t, nil)
	openHome(t, cfg)
	g := startChild(t, cfg, *attackTime)
	flood := attacker(t, cfg, "loop:flood")
	began, before := time.Now(), g.cpu()
	start(t, flood)
	eventually(t, "deaf", func() bool { return !g.state().Watching })
	time.Sleep(max(0, *attackTime-time.Since(began)))
	g.bounded(began, before)
	stop(flood)
	eventually(t, "watching again", func() bool { return g.state().Watching })
}

// A user who is there before the lock can keep it off while they race, but not
// longer, and cannot make it fall on anything else.
func TestLockAgainstALoop(t *testing.T) {
	for name, loops := range map[string][]string{
		"file":      {"loop:rename over,create"},
		"directory": {"loop:move the directory,remove the directory", "loop:link the directory,exchange the directory"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := newLockable(t, map[string]string{".aws/config": "[default]\n", "outside/config": "untouched"})
			cfg.MoveAside = true
			victims := snapshot(t, cfg.Home+"/outside")
			first := attacker(t, cfg, loops[0])
			var loop []*exec.Cmd
			for _, l := range loops {
				loop = append(loop, again(first, l))
				start(t, loop[len(loop)-1])
			}
			core, logs := observer.New(zap.InfoLevel)
			cfg.Log = zap.New(core)
			g := New(cfg)
			g.poll = 100 * time.Millisecond
			leaks := goleak.IgnoreCurrent()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- g.Run(ctx) }()
			time.Sleep(*attackTime)
			if logs.Len() > 30 {
				t.Errorf("%d log lines", logs.Len())
			}
			t.Logf("%d log lines; under attack: immutable %v, problem %q", logs.Len(), g.State().Immutable, g.State().Problem)
			for _, cmd := range loop {
				stop(cmd)
			}
			eventually(t, "locked after the attack", func() bool { return g.State().Immutable && binds(cfg) })
			cancel()
			must(t, <-done)
			goleak.VerifyNone(t, leaks)
			nothingElseLocked(t, cfg)
			if diff := cmp.Diff(victims, snapshot(t, cfg.Home+"/outside")); diff != "" && name == "file" {
				t.Errorf("outside was changed:\n%s", diff)
			}
		})
	}
}

// nothingElseLocked looks for flags on what has been moved away.
func nothingElseLocked(t *testing.T, cfg Config) {
	t.Helper()
	must(t, filepath.WalkDir(cfg.Home, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() && !e.Type().IsRegular() || path == cfg.Home+"/.aws" || path == cfg.Home+"/.aws/config" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); err != nil || flags&0x10 != 0 {
			t.Errorf("%s is locked, too, or %v", path, err)
		}
		return nil
	}))
}

// A user who asks for changes of profiles and races for the moment in which the
// file is open gets their profiles, and nothing else.
func TestProfilesAgainstALoop(t *testing.T) {
	cfg := newLockable(t, map[string]string{".aws/config": "[default]\n"})
	g := New(cfg)
	g.poll = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	eventually(t, "locked", func() bool { return g.State().Immutable })
	loop := attacker(t, cfg, "loop:move the directory,rename over")
	start(t, loop)
	added, failed := 0, 0
	for began := time.Now(); time.Since(began) < *attackTime; {
		name := fmt.Sprintf("p%d", added+failed)
		if err := g.AddProfile(name, []awsconfig.Key{{Name: "region", Value: "eu-west-1"}}); err != nil {
			failed++
		} else {
			added++
		}
	}
	stop(loop)
	t.Logf("%d profiles added, %d failed, %d tampers", added, failed, g.State().Tampers)
	cancel()
	must(t, <-done)
	g.look()
	if s := g.State(); !s.Immutable || !binds(cfg) || s.Tampers > 0 {
		t.Errorf("after the race: %+v", s)
	}
	nothingElseLocked(t, cfg)
	if added == 0 {
		t.Error("no profile was added: this tries nothing")
	}
}
