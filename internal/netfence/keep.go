package netfence

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/netfence/nft"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

const (
	// The kernel announces every change of nf_tables, ours or not, and the poll
	// is only for what it may have lost. Legacy iptables announces nothing, so
	// there the poll is all there is.
	pollNFTables = time.Minute
	pollIPTables = 2 * time.Second
	pollFailing  = 10 * time.Second

	// After a look the next one waits this long, so that others' changes cost
	// a bounded share of a CPU. In a burst of more repairs than patience each
	// doubles the pause, up to the most, so that two programs that undo each
	// other do not run away.
	leastPause = 20 * time.Millisecond
	mostPause  = 500 * time.Millisecond
	patience   = 10

	// A burst of repairs is over when none was needed for this long.
	burstQuiet = 10 * time.Second
)

// Run keeps the fence as planned until ctx is done, and then returns nil and
// leaves it standing: Remove is a decision of its own. What it cannot repair
// it says once, and tries again; Status shows it meanwhile. Call Apply before,
// to learn at start whether a fence is possible at all.
//
// It is repair, not protection: from the change to the repair nothing is
// fenced. Connections made in between are cut at their next packet.
func (f *Fence) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	stop, err := nft.Watch(changed)
	if err != nil {
		f.log.Warn("changes of the packet rules are seen by polling only", zap.Error(err))
	} else {
		defer stop()
	}
	f.keep(ctx, changed, f.repair)
	return nil
}

// repair puts the fence right and reports what was wrong with it.
func (f *Fence) repair(ctx context.Context) ([]ruleset.Finding, error) {
	f.mu.Lock()
	defer f.doneLocked()
	findings, err := f.applyLocked(ctx)
	if err == nil && len(findings) > 0 {
		f.status.Repairs++
		f.status.Repaired = time.Now()
	}
	return findings, err
}

// poll is how long to wait for the next look: until a whole minute of the
// clock where that will do, because the daemon's other looks fall there as well,
// and the machine then wakes once for all of them.
func (f *Fence) poll() time.Duration {
	if f.Status().Backend == BackendIPTables {
		return pollIPTables
	}
	now := time.Now()
	return now.Truncate(pollNFTables).Add(pollNFTables).Sub(now)
}

// keep calls repair at once, on every change and on every poll, as often as
// the pauses allow. A burst of repairs is one line in the log when it begins
// and, if there were more, one when it is over.
func (f *Fence) keep(ctx context.Context, changed <-chan struct{}, repair func(context.Context) ([]ruleset.Finding, error)) {
	pause := leastPause
	var burst int
	var lastRepair time.Time
	var failing bool
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		findings, err := repair(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failing {
				f.log.Error("the fence cannot be kept", zap.Error(err))
			}
			failing = true
			pause = min(2*pause, mostPause)
		case failing:
			f.log.Info("the fence stands again")
			failing, pause = false, leastPause
		case len(findings) > 0:
			if burst++; burst == 1 {
				f.log.Warn("the fence was changed and has been repaired",
					zap.Int("findings", len(findings)), zap.Stringer("first", findings[0]))
			} else if burst > patience {
				pause = min(2*pause, mostPause)
			}
			lastRepair = time.Now()
		}
		if !wait(ctx, timer, pause, nil) {
			return
		}
		next := f.poll()
		if failing {
			next = min(next, pollFailing)
		}
		if burst > 0 {
			next = min(next, time.Until(lastRepair.Add(burstQuiet)))
		}
		if !wait(ctx, timer, next, changed) {
			return
		}
		if burst > 0 && time.Since(lastRepair) >= burstQuiet {
			if burst > 1 {
				f.log.Warn("the fence was changed repeatedly", zap.Int("repairs", burst))
			}
			burst, pause = 0, leastPause
		}
	}
}

// wait returns after d or when changed receives, and reports false when ctx is
// done.
func wait(ctx context.Context, timer *time.Timer, d time.Duration, changed <-chan struct{}) bool {
	timer.Reset(max(0, d))
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}
