// Package lab starts the real programs against one another: the stand-in for
// AWS, the daemon, and whatever client a trial brings. The demonstration, the
// runs with real SDKs and the benchmarks are programs under this directory.
//
// Every process writes its output to a file of the lab's directory, so that a
// run can be searched afterwards for what must not be there; see
// [Lab.FindSecrets].
//
// It is longer than most because a trial needs all of it at once: an account, a
// notebook, its processes, and a judge.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	readyLimit = time.Minute      // for a program to say that it listens
	stopLimit  = 10 * time.Second // for a program to end after SIGTERM
	pollEvery  = 10 * time.Millisecond
)

// Lab is one directory in which programs run.
type Lab struct {
	Bin string // directory of the built programs
	Dir string // of files, logs and sockets; absolute

	processes []*Process
}

// Open makes a lab in a temporary directory of that name, for the programs in
// bin. Discard ends it.
func Open(name, bin string) (*Lab, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "nbidentityd-"+name+"-")
	if err != nil {
		return nil, err
	}
	return &Lab{Bin: bin, Dir: dir}, nil
}

// Discard stops everything and removes the directory.
func (l *Lab) Discard() error { return errors.Join(l.Close(), os.RemoveAll(l.Dir)) }

// Process is a program that the lab has started.
type Process struct {
	Name string
	Log  string // path of its stdout and stderr
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; valid when done is closed
}

// Program is the path of a built program.
func (l *Lab) Program(name string) string { return filepath.Join(l.Bin, name) }

// Command prepares a program with exactly this environment.
func (l *Lab) Command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.Dir = l.Dir
	return cmd
}

// Start runs a program in the background until Close or Stop. Its output goes
// to NAME.log, after what an earlier process of that name has left there.
func (l *Lab) Start(ctx context.Context, name string, env []string, args ...string) (*Process, error) {
	path := filepath.Join(l.Dir, name+".log")
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer log.Close()
	p := &Process{Name: name, Log: path, cmd: l.Command(ctx, env, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	l.processes = append(l.processes, p)
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends the process by SIGTERM, and by SIGKILL if it does not listen.
// Ending by these signals is not an error; any other failure is.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s: %w", p.Name, err)
	}
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill() // it may have ended just now
		<-p.done
		return fmt.Errorf("stopping %s: still running %s after SIGTERM\n%s", p.Name, stopLimit, p.tail())
	}
	if exit := (*exec.ExitError)(nil); errors.As(p.err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		return nil
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.Name, p.err, p.tail())
	}
	return nil
}

// tail is the end of the process's output.
func (p *Process) tail() string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4096):])
}

// Await polls until ready says so, the process ends, or the limit passes.
func (p *Process) Await(ctx context.Context, what string, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !ready() {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before %s: %w\n%s", p.Name, what, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s: no %s: %w\n%s", p.Name, what, ctx.Err(), p.tail())
		case <-tick.C:
		}
	}
	return nil
}

// Close stops everything that still runs, the youngest first.
func (l *Lab) Close() error {
	var all []error
	for i := len(l.processes) - 1; i >= 0; i-- {
		select {
		case <-l.processes[i].done:
		default:
			all = append(all, l.processes[i].Stop())
		}
	}
	return errors.Join(all...)
}

// FindSecrets searches every regular file of the lab for the secrets, and
// returns one "file: ends in …" for each find. It also says how many files it
// read, since a search of nothing proves nothing.
func (l *Lab) FindSecrets(secrets []string) (found []string, files int, err error) {
	err = filepath.WalkDir(l.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, s := range secrets {
			if bytes.Contains(data, []byte(s)) {
				found = append(found, fmt.Sprintf("%s: a secret that ends in %s", path, s[len(s)-4:]))
			}
		}
		return nil
	})
	return found, files, err
}

// writeFile makes a file of the lab and its directories.
func (l *Lab) writeFile(name, content string) (path string, err error) {
	path = filepath.Join(l.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(content), 0o644)
}

// readJSON reads a file that a program has written.
func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// lines splits JSON lines.
func lines(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' }) }

// Wait returns after d or when ctx is done.
func Wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
