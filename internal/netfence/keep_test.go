package netfence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

// disturbed runs keep for a length of simulated time; look stands for the
// look at the rules, changes for the kernel's announcements.
func disturbed(t *testing.T, length time.Duration, changes func(chan<- struct{}), look func() ([]ruleset.Finding, error)) (looks int, log []string) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		f := &Fence{log: zap.New(core)}
		ctx, cancel := context.WithTimeout(t.Context(), length)
		defer cancel()
		changed := make(chan struct{}, 1)
		if changes != nil {
			go changes(changed)
		}
		f.keep(ctx, changed, func(context.Context) ([]ruleset.Finding, error) {
			looks++
			return look()
		})
		for _, e := range logs.All() {
			log = append(log, fmt.Sprint(e.Level, " ", e.Message))
		}
	})
	return looks, log
}

var gone = []ruleset.Finding{{Kind: ruleset.Missing, Where: "table", Want: "rules"}}

func TestKeepPolls(t *testing.T) {
	looks, log := disturbed(t, 10*time.Minute, nil, func() ([]ruleset.Finding, error) { return nil, nil })
	if looks < 10 || looks > 11 || len(log) != 0 {
		t.Errorf("ten quiet minutes took %d looks and logged %q, want one each and nothing", looks, log)
	}
}

func TestKeepRepairsAtOnceAndSaysItOnce(t *testing.T) {
	var at []time.Duration
	start := time.Time{}
	n := 0
	_, log := disturbed(t, time.Minute, func(changed chan<- struct{}) {
		time.Sleep(5 * time.Second)
		changed <- struct{}{}
	}, func() ([]ruleset.Finding, error) {
		if start.IsZero() {
			start = time.Now()
		}
		at = append(at, time.Since(start))
		if n++; n == 2 {
			return gone, nil
		}
		return nil, nil
	})
	if len(at) < 2 || at[1] != 5*time.Second {
		t.Errorf("looks at %v, want the second at once after the change", at)
	}
	if want := []string{"warn the fence was changed and has been repaired"}; !slices.Equal(log, want) {
		t.Errorf("logged %q, want %q", log, want)
	}
}

func TestKeepIsBoundedAgainstARival(t *testing.T) {
	flood := func(changed chan<- struct{}) {
		for range 300_000 {
			select {
			case changed <- struct{}{}:
			default:
			}
			time.Sleep(time.Millisecond)
		}
	}
	looks, log := disturbed(t, 5*time.Minute, flood, func() ([]ruleset.Finding, error) { return gone, nil })
	if looks > 300_000/500+50 {
		t.Errorf("%d looks in five minutes", looks)
	}
	if len(log) != 1 {
		t.Errorf("one burst, not over yet, logged %d lines: %q", len(log), log)
	}

	// The same flood by somebody who never touches ours costs looks, no lines.
	looks, log = disturbed(t, 5*time.Minute, flood, func() ([]ruleset.Finding, error) { return nil, nil })
	if looks > 300_000/20+60 || len(log) != 0 {
		t.Errorf("foreign changes took %d looks and logged %q", looks, log)
	}
}

func TestKeepSaysAFailureOnce(t *testing.T) {
	n := 0
	looks, log := disturbed(t, 10*time.Minute, nil, func() ([]ruleset.Finding, error) {
		if n++; n < 20 {
			return nil, errors.New("no")
		}
		return nil, nil
	})
	want := []string{"error the fence cannot be kept", "info the fence stands again"}
	if !slices.Equal(log, want) || looks < 20 {
		t.Errorf("%d looks logged %q, want %q", looks, log, want)
	}
}

func TestKeepSumsUpABurst(t *testing.T) {
	n := 0
	_, log := disturbed(t, 10*time.Minute, func(changed chan<- struct{}) {
		for range 5 {
			changed <- struct{}{}
			time.Sleep(time.Second)
		}
	}, func() ([]ruleset.Finding, error) {
		if n++; n < 5 {
			return gone, nil
		}
		return nil, nil
	})
	want := []string{"warn the fence was changed and has been repaired", "warn the fence was changed repeatedly"}
	if !slices.Equal(log, want) {
		t.Errorf("logged %q, want %q", log, want)
	}
}

// watched runs Run in the namespace until the test ends.
func (n *namespace) watched(f *Fence) {
	ctx, cancel := context.WithCancel(context.Background())
	started, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		n.do(func() {
			close(started)
			if err := f.Run(ctx); err != nil {
				n.t.Error(err)
			}
		})
	}()
	<-started
	n.t.Cleanup(func() { cancel(); <-done })
}

// Somebody reloads the whole firewall.
func TestLiveFlushIsRepaired(t *testing.T) {
	flush := map[string][]string{
		"nftables":        {"nft", "flush", "ruleset"},
		"iptables-nft":    {"nft", "flush", "ruleset"},
		"iptables-legacy": {"iptables-legacy", "-t", "nat", "-F"},
	}
	eachFlavour(t, func(t *testing.T, flavour string) {
		l := newLab(t, flush[flavour][0])
		core, logs := observer.New(zapcore.InfoLevel)
		f := l.fence(flavour, plan.Config{RedirectPort: facePort})
		f.log = zap.New(core)
		l.apply(f)
		l.watched(f)
		rounds := 10
		if flavour == "iptables-legacy" {
			rounds = 2
		}
		var windows []time.Duration
		for i := range rounds {
			time.Sleep(30 * time.Millisecond)
			repairs := f.Status().Repairs
			l.run(flush[flavour]...)
			start := time.Now() // within the tool's exit of the change
			for f.Status().Repairs == repairs {
				if time.Since(start) > 30*time.Second { // the next look without a word of the kernel's is later
					t.Fatalf("round %d: not repaired", i)
				}
				time.Sleep(100 * time.Microsecond)
			}
			windows = append(windows, time.Since(start))
			wantPrefix(t, "after the repair", l.get(notebookUID, imds4), "face")
		}
		slices.Sort(windows)
		t.Logf("the tool's end to the repair: median %v, worst %v of %d", windows[len(windows)/2], windows[len(windows)-1], len(windows))
		if n := logs.Len(); n != 1 {
			t.Errorf("a burst of %d repairs logged %d lines: %v", rounds, n, logs.All())
		}
	})
}

// What passes may keep the fence from being put up at the daemon's start.
func TestLiveRunPutsUpWhatApplyCouldNot(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		l := newLab(t)
		f := l.fence(flavour, plan.Config{RedirectPort: facePort})
		over, cancel := context.WithCancel(t.Context())
		cancel()
		l.do(func() {
			if err := f.Apply(over); err == nil {
				t.Error("applied after the end")
			}
		})
		if s := f.Status(); s.Intact() || s.Err == nil {
			t.Errorf("status after a failure: %+v", s)
		}
		wantPrefix(t, "without a fence", l.get(notebookUID, imds4), "real")
		l.watched(f)
		for start := time.Now(); !f.Status().Intact(); time.Sleep(time.Millisecond) {
			if time.Since(start) > time.Minute {
				t.Fatalf("not put up: %+v", f.Status())
			}
		}
		wantPrefix(t, "afterwards", l.get(notebookUID, imds4), "face")
	})
}

// A user who asks all the time while others flush gets no connection that
// outlives the repair.
func TestLiveWindowLeavesNoConnection(t *testing.T) {
	l := newLab(t, "nft")
	f := l.fence("nftables", plan.Config{RedirectPort: facePort})
	l.apply(f)
	l.watched(f)
	var through int
	user := l.converse(notebookUID, "keepalive", imds4)
	for range 20 {
		l.run("nft", "flush", "ruleset")
		if strings.HasPrefix(user.ask(), "real") {
			through++
		}
	}
	for i := 0; len(l.check(f)) > 0; i++ {
		if i == 300 {
			t.Fatalf("not repaired: %v", l.check(f))
		}
		time.Sleep(100 * time.Millisecond)
	}
	user.ask() // meets the reset, if it still had the old connection
	wantPrefix(t, "after the last repair", user.ask(), "face")
	t.Logf("%d of 20 requests reached the real service during flushes", through)
}
