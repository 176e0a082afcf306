package sidecar

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// homePatience is how long the daemon waits for a home, to write and to end.
const homePatience = 3 * time.Second

// keepConfigs makes every user's SDKs ask us, and keeps it so until ctx ends. A
// file that cannot be written does not keep the others, nor the daemon, from
// working: it shows in the status and is tried again. Nor does a home that hangs,
// a network's or one that its user has mounted to that end.
func (d *Daemon) keepConfigs(ctx context.Context, group *errgroup.Group, nb identity.Notebook) {
	var guards []*configguard.Guard
	var writing sync.WaitGroup
	for _, u := range d.users {
		cfg := blueprint.GuardConfig(u, d.Settings, nb, d.Log)
		guard := configguard.New(cfg)
		guards = append(guards, guard)
		writing.Add(1)
		group.Go(func() error {
			err := abandon(ctx, func() error {
				if _, err := blueprint.WriteConfig(cfg); err != nil {
					d.Log.Error("aws config not written", zap.String("user", u.Name), zap.Error(err))
				}
				writing.Done()
				return guard.Run(ctx)
			})
			if errors.Is(err, errHangs) {
				d.Log.Error("aws config left to itself", zap.String("user", u.Name), zap.Error(err))
				return nil
			}
			return err
		})
	}
	written := make(chan struct{})
	go func() {
		writing.Wait()
		close(written)
	}()
	select {
	case <-written:
	case <-ctx.Done():
	case <-time.After(homePatience):
		d.Log.Warn("some home does not answer: the daemon goes on without it")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.guards = guards
}

var errHangs = errors.New("the home does not answer")

// abandon runs f, which ends with ctx, and gives it up if it does not: no signal
// ends a system call that waits for a file system.
func abandon(ctx context.Context, f func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(homePatience):
		return errHangs
	}
}

// reportConfig says what a guard has seen last.
func reportConfig(s configguard.State) status.ConfigFile {
	f := status.ConfigFile{Path: s.Path, Written: s.Written, Problem: s.Problem, Immutable: s.Immutable, Unlocked: s.Reason, Tampers: s.Tampers}
	if wrong := append(s.Shadows, s.Faults...); f.Problem == "" && len(wrong) > 0 {
		f.Problem = wrong[0].String()
	}
	return f
}
