package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

// The daemon's file writes go through these system calls. It syncs a new file
// before it renames it and the directory after, so that what a power cut leaves
// is what a kill at one of these calls leaves.
var writeCalls = []string{"mkdirat", "fchmod", "fchmodat", "write", "fsync", "renameat", "unlinkat", "ioctl"}

const userConfig = "[default]\nregion = eu-west-1\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n# a note\n[profile other]\nregion = us-west-2\n"

// crashes kills a starting daemon at each of its file writes in turn, and after
// each starts it as after a reboot.
func crashes() []trial {
	return []trial{{name: "power cut at every file write", late: true, act: func(ctx context.Context, r *rig) error {
		if _, err := exec.LookPath("strace"); err != nil {
			return lacking{"needs the program strace"}
		}
		defer r.crowd.suspend()() // it is about the files
		config := filepath.Join(r.notebook.Home, ".aws", "config")
		want, err := r.undisturbed(ctx, config)
		if err != nil {
			return err
		}
		states := map[string]bool{}
		for _, call := range writeCalls {
			for n := 1; ; n++ {
				if err := r.fresh(config); err != nil {
					return err
				}
				killed, err := r.killAt(ctx, call, n)
				if err != nil {
					return err
				}
				if !killed {
					break
				}
				state, err := r.fileState()
				if err != nil {
					return err
				}
				states[state] = true
				if got, err := os.ReadFile(config); err != nil || string(got) != userConfig && !bytes.Equal(got, want) {
					return fmt.Errorf("killed at %s number %d: %s is neither the old nor the new one (%v):\n%s", call, n, config, err, got)
				}
				if err := r.reboot(ctx, config, want); err != nil {
					return fmt.Errorf("after a kill at %s number %d: %w", call, n, err)
				}
			}
		}
		r.said = fmt.Sprintf("%d states of the files", len(states))
		if len(states) < 5 { // which calls fall to which thread is chance
			return fmt.Errorf("only %d states of the files were met: the kills do not strike", len(states))
		}
		return r.start(ctx)
	}}}
}

// undisturbed returns the configuration that a start leads to.
func (r *rig) undisturbed(ctx context.Context, config string) ([]byte, error) {
	if err := r.fresh(config); err != nil {
		return nil, err
	}
	if err := r.startConfigured(ctx); err != nil {
		return nil, err
	}
	want, err := os.ReadFile(config)
	return want, errors.Join(err, r.daemon.Stop())
}

// startConfigured waits for ~/.aws/config as well. The daemon serves without it
// when the disk is slow.
func (r *rig) startConfigured(ctx context.Context) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	return r.daemon.Await(ctx, "~/.aws/config", r.configured)
}

// fresh is a notebook on which the daemon never ran.
func (r *rig) fresh(config string) error {
	state := filepath.Join(r.lab.Dir, "nb", "state")
	if err := errors.Join(os.RemoveAll(state), os.RemoveAll(filepath.Dir(config)), os.RemoveAll(r.notebook.Socket())); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(state, 0o700), os.Mkdir(filepath.Dir(config), 0o700)); err != nil {
		return err
	}
	return os.WriteFile(config, []byte(userConfig), 0o600)
}

// killAt runs the daemon until it makes some system call for the n-th time in
// one of its threads, and kills it there, before the call has its effect. It
// reports false when the daemon had credentials first.
func (r *rig) killAt(ctx context.Context, call string, n int) (killed bool, err error) {
	path, err := r.notebook.WriteSettings("nbidentityd")
	if err != nil {
		return false, err
	}
	// With one processor the calls of a start fall to few threads. Behind -D the
	// daemon, not strace, is what has been started and can be stopped.
	p, err := r.lab.Start(ctx, "nbidentityd-killed", []string{"GOMAXPROCS=1"}, "strace", "-D", "--quiet=all", "-f", "-o", "/dev/null",
		"-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, n),
		r.lab.Program("nbidentityd"), "run", "-settings", path)
	if err != nil {
		return false, err
	}
	asking, end := context.WithCancel(ctx)
	defer end()
	go func() {
		defer end() // nbidentity would wait for a daemon that is gone
		select {
		case <-p.Done():
		case <-asking.Done():
		}
	}()
	for asking.Err() == nil {
		if r.client(asking, "credentials").Run() == nil {
			return false, p.Stop() // or killed since, at a later write
		}
		lab.Wait(asking, 20*time.Millisecond)
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return true, p.Stop() // whose error is an end that was no kill
}

// reboot starts the daemon on what a kill has left, and looks at what it makes
// of it.
func (r *rig) reboot(ctx context.Context, config string, want []byte) error {
	_ = os.Remove(r.notebook.Socket()) // /run is empty after a reboot
	if err := r.startConfigured(ctx); err != nil {
		return err
	}
	got, err := os.ReadFile(config)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s is not what an undisturbed start leads to:\n%s", config, got)
	}
	return errors.Join(err, r.daemon.Stop())
}

// fileState is a digest of what the daemon writes: names, without their random
// parts, and contents.
func (r *rig) fileState() (string, error) {
	var lines []string
	for _, root := range []string{filepath.Join(r.lab.Dir, "nb", "state"), filepath.Join(r.notebook.Home, ".aws")} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				lines = append(lines, path)
				return err
			}
			data, err := os.ReadFile(path)
			name, _, _ := strings.Cut(path, ".nbidentityd-")
			lines = append(lines, fmt.Sprintf("%s %x", name, sha256.Sum256(data)))
			return err
		})
		if err != nil {
			return "", err
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}
