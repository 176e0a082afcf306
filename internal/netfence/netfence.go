package netfence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/netfence/iptables"
	"github.com/nbidentityd/nbidentityd/internal/netfence/nft"
	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

// ErrNotPermitted is the cause of every error that a missing capability
// brings about.
var ErrNotPermitted = ruleset.ErrNotPermitted

// Backend names what holds the rules.
type Backend string

const (
	BackendNFTables Backend = nft.Name
	BackendIPTables Backend = iptables.Name
)

// Config says what fence to keep, and how.
type Config struct {
	Plan plan.Config
	// Backend is forced when set; "" chooses (see the package comment).
	Backend Backend
	Log     *zap.Logger
}

// What a fence does not do that is weaker than planned. One that only refuses lets
// nobody by; SDKs that ask the metadata service do without credentials.
const (
	Refusing     = "connections are refused, not redirected"
	SourceRouted = "source-routed packets pass"
)

// Status is what the last look at the rules found.
type Status struct {
	Backend  Backend           // "" before Apply or Check found one
	Checked  time.Time         // zero before the first look
	Findings []ruleset.Finding // empty when the fence stood as planned, or was repaired
	Err      error             // why the rules could not be read or written
	Repairs  uint64            // by Run, since New
	Repaired time.Time         // zero before the first repair
	Weaker   string            // what this kernel could not be given: "", Refusing or SourceRouted
	Counters ruleset.Counters  // as they stood then
}

// Intact reports whether the fence stood at the last look.
func (s Status) Intact() bool {
	return !s.Checked.IsZero() && s.Err == nil && len(s.Findings) == 0
}

// backend keeps rules in the kernel: over netlink, or by the iptables tools.
type backend interface {
	Name() string
	Apply(ctx context.Context, p plan.Plan) error
	Remove(ctx context.Context) error
	Planned(p plan.Plan) []ruleset.Section
	Live(ctx context.Context) ([]ruleset.Section, error)
}

// candidate is a way to put up the fence, with the plan as far as it goes.
type candidate struct {
	backend
	plan   plan.Plan
	weaker string
}

// Fence is one plan and the kernel's rules for it. Its methods may be called
// concurrently, and by several processes.
type Fence struct {
	log        *zap.Logger
	candidates []candidate

	mu     sync.Mutex // held while the kernel or the tools work
	active *candidate
	status Status

	seen atomic.Pointer[Status] // status, as the last work has left it
}

// New changes nothing yet. Its errors are the faults of cfg, or say that no way
// to set packet rules exists here.
func New(cfg Config) (*Fence, error) {
	var fault error
	switch cfg.Backend {
	case "", BackendNFTables, BackendIPTables:
	default:
		fault = fmt.Errorf("fence: backend %q: want %q, %q or nothing", cfg.Backend, BackendNFTables, BackendIPTables)
	}
	p, err := plan.New(cfg.Plan)
	if err := errors.Join(err, fault); err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = zap.NewNop()
	}
	f := &Fence{log: log.Named("netfence")}
	if _, err := os.Stat("/proc/thread-self/net/if_inet6"); errors.Is(err, os.ErrNotExist) {
		p = p.Of(plan.IPv4)
	}
	f.candidates = candidates(p, cfg.Backend, kernelRelease(), installedTools())
	if len(f.candidates) == 0 {
		return nil, fmt.Errorf("fence: backend %s: its programs are not installed", cfg.Backend)
	}
	return f, nil
}

// candidates lists the ways to put up p, best first.
func candidates(p plan.Plan, forced Backend, kernel release, tools []backend) []candidate {
	overNetlink := candidate{backend: nft.Tables{}, plan: p}
	rejectOnly := candidate{backend: nft.Tables{}, weaker: Refusing,
		plan: p.Without(func(c plan.Chain, _ plan.Rule) bool { return c.Type == "nat" })}
	var byTools []candidate
	for _, t := range tools {
		byTools = append(byTools, candidate{backend: t, plan: p})
	}
	for _, t := range tools {
		byTools = append(byTools, candidate{backend: t, weaker: SourceRouted,
			plan: p.Without(func(_ plan.Chain, r plan.Rule) bool { return r.Options })})
	}
	switch {
	case forced == BackendNFTables:
		return []candidate{overNetlink}
	case forced == BackendIPTables:
		return byTools
	case kernel.before(4, 18):
		return append(byTools, rejectOnly)
	default:
		return append([]candidate{overNetlink}, byTools...)
	}
}

// Apply makes the kernel's rules those of the plan. When they already are, it
// writes nothing and the counters go on.
func (f *Fence) Apply(ctx context.Context) error {
	f.mu.Lock()
	defer f.doneLocked()
	_, err := f.applyLocked(ctx)
	return err
}

// doneLocked lets others see the status, and work.
func (f *Fence) doneLocked() {
	s := f.status
	f.seen.Store(&s)
	f.mu.Unlock()
}

// applyLocked reports what it found before it wrote.
func (f *Fence) applyLocked(ctx context.Context) ([]ruleset.Finding, error) {
	findings, err := f.checkLocked(ctx)
	if err == nil && len(findings) == 0 || errors.Is(err, ErrNotPermitted) {
		return findings, err
	}
	ways, settled := f.candidates, f.active != nil
	if settled {
		ways = []candidate{*f.active}
	}
	var errs []error
	for i := range ways {
		c := &ways[i]
		if err := c.Apply(ctx, c.plan); err != nil {
			errs = append(errs, fmt.Errorf("fence: writing %s rules: %w", c.Name(), err))
			if errors.Is(err, ErrNotPermitted) || ctx.Err() != nil {
				break
			}
			continue
		}
		left, err := f.lookLocked(ctx, c)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("fence: %s rules were written and are not there: %s", c.Name(), left[0])
		}
		f.noteLocked(c, left, err)
		if err == nil && !settled {
			f.dropOthersLocked(ctx)
		}
		return findings, err
	}
	err = errors.Join(errs...)
	f.noteLocked(f.active, findings, err)
	return findings, err
}

// dropOthersLocked removes what an earlier run left with another backend: two
// fences would differ as soon as the settings do.
func (f *Fence) dropOthersLocked(ctx context.Context) {
	for _, b := range everyBackend() {
		if b == f.active.backend {
			continue
		}
		if err := b.Remove(ctx); err != nil {
			f.log.Debug("rules of another backend cannot be looked for", zap.String("backend", b.Name()), zap.Error(err))
		}
	}
}

// Check compares the kernel's rules with the plan and writes nothing. No
// finding and no error means that the fence stands.
func (f *Fence) Check(ctx context.Context) ([]ruleset.Finding, error) {
	f.mu.Lock()
	defer f.doneLocked()
	return f.checkLocked(ctx)
}

func (f *Fence) checkLocked(ctx context.Context) ([]ruleset.Finding, error) {
	if f.active != nil {
		findings, err := f.lookLocked(ctx, f.active)
		f.noteLocked(f.active, findings, err)
		return findings, err
	}
	// Another process may have put up the fence: find the way that it took. A
	// way that we cannot even look at is not one that we took.
	var standing, readable *candidate
	var findings []ruleset.Finding
	var errs []error
	for i := range f.candidates {
		c := &f.candidates[i]
		live, err := c.Live(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("fence: reading %s rules: %w", c.Name(), err))
			continue
		}
		if readable == nil {
			readable = c
		}
		if len(live) == 0 {
			continue
		}
		planned := c.Planned(c.plan)
		if d := ruleset.Drift(planned, live); standing == nil || len(d) < len(findings) {
			standing, findings, f.status.Counters = c, d, ruleset.Tally(planned, live)
		}
	}
	if readable == nil {
		err := errors.Join(errs...)
		f.noteLocked(nil, nil, err)
		return nil, err
	}
	if standing == nil {
		findings = ruleset.Drift(readable.Planned(readable.plan), nil)
	}
	f.noteLocked(standing, findings, nil)
	return findings, nil
}

func (f *Fence) lookLocked(ctx context.Context, c *candidate) ([]ruleset.Finding, error) {
	live, err := c.Live(ctx)
	if err != nil {
		return nil, fmt.Errorf("fence: reading %s rules: %w", c.Name(), err)
	}
	planned := c.Planned(c.plan)
	f.status.Counters = ruleset.Tally(planned, live)
	return ruleset.Drift(planned, live), nil
}

// noteLocked records a look at the rules through c, which is nil when no
// backend holds any.
func (f *Fence) noteLocked(c *candidate, findings []ruleset.Finding, err error) {
	f.status.Checked, f.status.Findings, f.status.Err = time.Now(), findings, err
	if c == nil {
		f.status.Backend, f.status.Weaker = "", ""
		return
	}
	f.status.Backend, f.status.Weaker = Backend(c.Name()), c.weaker
	if err == nil && len(findings) == 0 {
		f.active = c
	}
}

// Status returns what the last Apply or Check, also those of Run, found. It does
// not wait for one that is under way: the tools may wait long for others.
func (f *Fence) Status() Status {
	if s := f.seen.Load(); s != nil {
		return *s
	}
	return Status{}
}

// Remove takes away every rule, chain and table of ours, whichever backend and
// whichever settings made them. Nothing to remove is no error. Connections
// that were redirected stay with our listener until they end.
func (f *Fence) Remove(ctx context.Context) error {
	f.mu.Lock()
	defer f.doneLocked()
	f.active, f.status = nil, Status{Repairs: f.status.Repairs, Repaired: f.status.Repaired}
	return Remove(ctx)
}

// Remove is Fence.Remove for a program that has no plan, such as an uninstaller.
func Remove(ctx context.Context) error {
	var errs []error
	for _, b := range everyBackend() {
		if err := b.Remove(ctx); err != nil {
			errs = append(errs, fmt.Errorf("fence: removing %s rules: %w", b.Name(), err))
		}
	}
	return errors.Join(errs...)
}

func everyBackend() []backend { return append([]backend{nft.Tables{}}, installedTools()...) }

func installedTools() []backend {
	var all []backend
	for _, t := range iptables.Find() {
		all = append(all, t)
	}
	return all
}

// release is a kernel's version, as far as we ask for it.
type release struct{ major, minor int }

func (r release) before(major, minor int) bool {
	return r.major < major || r.major == major && r.minor < minor
}

func kernelRelease() release {
	var u unix.Utsname
	var r release
	if unix.Uname(&u) == nil {
		_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &r.major, &r.minor)
	}
	return r
}
