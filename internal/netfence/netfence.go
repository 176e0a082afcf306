package netfence

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// ErrNotPermitted is the cause of every error that a missing capability
// brings about.
var ErrNotPermitted = errors.New("packet rules need CAP_NET_ADMIN in this network namespace")

// Backend names what holds the rules.
type Backend string

const (
	BackendNFTables Backend = "nftables"
	BackendIPTables Backend = "iptables"
)

// Config says whom the fence lets through and what becomes of the others.
type Config struct {
	// UID is the daemon's own; it always reaches the metadata service.
	UID uint32
	// AllowUIDs reach it too.
	AllowUIDs []uint32
	// FenceRoot keeps out uid 0, which otherwise passes: agents of the
	// platform run as root.
	FenceRoot bool

	// RedirectPort is where our own metadata service listens, on 127.0.0.1 and
	// [::1]. 0 refuses connections instead.
	RedirectPort uint16
	// Containers are led to RedirectPort of their bridge's own address on this
	// host (say 172.17.0.1): a bridge that comes later needs a listener, and no
	// other rule. Otherwise, or without a RedirectPort, they are refused.
	Containers bool

	// Metadata holds the addresses to fence; empty means DefaultMetadata.
	Metadata []netip.Addr

	// Backend is forced when set; "" chooses (see the package comment).
	Backend Backend

	Log *zap.Logger
}

// Counters holds how many packets met the fence since its rules were last
// written; a repair starts them at zero. A redirected connection counts once,
// a refused one once for each packet.
type Counters struct {
	Redirected, Blocked                     uint64
	ContainersRedirected, ContainersBlocked uint64
}

func (c *Counters) add(t Tally, packets uint64) {
	switch t {
	case Redirected:
		c.Redirected += packets
	case Blocked:
		c.Blocked += packets
	case ContainersRedirected:
		c.ContainersRedirected += packets
	case ContainersBlocked:
		c.ContainersBlocked += packets
	}
}

// Status is what the last look at the rules found.
type Status struct {
	Backend  Backend   // "" before Apply or Check found one
	Checked  time.Time // zero before the first look
	Findings []Finding // empty when the fence stood as planned, or was repaired
	Err      error     // why the rules could not be read or written
	Repairs  uint64    // by Run, since New
	Repaired time.Time // zero before the first repair
	Weaker   string    // "" or what this kernel could not be given
	Counters Counters  // as they stood then
}

// Intact reports whether the fence stood at the last look.
func (s Status) Intact() bool {
	return !s.Checked.IsZero() && s.Err == nil && len(s.Findings) == 0
}

// backend keeps rules in the kernel: over netlink, or by the iptables tools.
type backend interface {
	name() Backend
	apply(ctx context.Context, p Plan) error
	remove(ctx context.Context) error
	planned(p Plan) []section
	live(ctx context.Context) ([]section, error)
}

// candidate is a way to put up the fence, with the plan as far as it goes.
type candidate struct {
	backend
	plan   Plan
	weaker string
}

// Fence is one plan and the kernel's rules for it. Its methods may be called
// concurrently, and by several processes.
type Fence struct {
	plan       Plan
	log        *zap.Logger
	candidates []candidate

	mu     sync.Mutex
	active *candidate
	status Status
}

// New changes nothing yet. Its errors are those of NewPlan, or say that no
// way to set packet rules exists here.
func New(cfg Config) (*Fence, error) {
	plan, err := NewPlan(cfg)
	if err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = zap.NewNop()
	}
	f := &Fence{plan: plan, log: log.Named("netfence")}
	if _, err := os.Stat("/proc/thread-self/net/if_inet6"); errors.Is(err, os.ErrNotExist) {
		plan = plan.family(IPv4)
	}
	f.candidates = candidates(plan, cfg.Backend, kernelRelease(), findIPTables())
	if len(f.candidates) == 0 {
		return nil, fmt.Errorf("fence: backend %s: its programs are not installed", cfg.Backend)
	}
	return f, nil
}

// candidates lists the ways to put up p, best first.
func candidates(p Plan, forced Backend, kernel release, tools []iptables) []candidate {
	overNetlink := candidate{backend: nft{}, plan: p}
	rejectOnly := candidate{backend: nft{}, weaker: "connections are refused, not redirected",
		plan: p.without(func(c Chain, _ Rule) bool { return c.Type == "nat" })}
	var byTools []candidate
	for _, t := range tools {
		byTools = append(byTools, candidate{backend: t, plan: p})
	}
	for _, t := range tools {
		byTools = append(byTools, candidate{backend: t, weaker: "source-routed packets pass",
			plan: p.without(func(_ Chain, r Rule) bool { return r.Options })})
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

// Plan returns what the fence shall be.
func (f *Fence) Plan() Plan { return f.plan }

// Apply makes the kernel's rules those of the plan. When they already are, it
// writes nothing and the counters go on.
func (f *Fence) Apply(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.applyLocked(ctx)
	return err
}

// applyLocked reports what it found before it wrote.
func (f *Fence) applyLocked(ctx context.Context) ([]Finding, error) {
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
		if err := c.apply(ctx, c.plan); err != nil {
			errs = append(errs, fmt.Errorf("fence: writing %s rules: %w", c.name(), err))
			if errors.Is(err, ErrNotPermitted) || ctx.Err() != nil {
				break
			}
			continue
		}
		left, err := f.lookLocked(ctx, c)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("fence: %s rules were written and are not there: %s", c.name(), left[0])
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
		if err := b.remove(ctx); err != nil {
			f.log.Debug("rules of another backend cannot be looked for", zap.String("backend", string(b.name())), zap.Error(err))
		}
	}
}

// Check compares the kernel's rules with the plan and writes nothing. No
// finding and no error means that the fence stands.
func (f *Fence) Check(ctx context.Context) ([]Finding, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.checkLocked(ctx)
}

func (f *Fence) checkLocked(ctx context.Context) ([]Finding, error) {
	if f.active != nil {
		findings, err := f.lookLocked(ctx, f.active)
		f.noteLocked(f.active, findings, err)
		return findings, err
	}
	// Another process may have put up the fence: find the way that it took. A
	// way that we cannot even look at is not one that we took.
	var standing, readable *candidate
	var findings []Finding
	var errs []error
	for i := range f.candidates {
		c := &f.candidates[i]
		live, err := c.live(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("fence: reading %s rules: %w", c.name(), err))
			continue
		}
		if readable == nil {
			readable = c
		}
		if len(live) == 0 {
			continue
		}
		planned := c.planned(c.plan)
		if d := drift(planned, live); standing == nil || len(d) < len(findings) {
			standing, findings, f.status.Counters = c, d, tally(planned, live)
		}
	}
	if readable == nil {
		err := errors.Join(errs...)
		f.noteLocked(nil, nil, err)
		return nil, err
	}
	if standing == nil {
		findings = drift(readable.planned(readable.plan), nil)
	}
	f.noteLocked(standing, findings, nil)
	return findings, nil
}

func (f *Fence) lookLocked(ctx context.Context, c *candidate) ([]Finding, error) {
	live, err := c.live(ctx)
	if err != nil {
		return nil, fmt.Errorf("fence: reading %s rules: %w", c.name(), err)
	}
	planned := c.planned(c.plan)
	f.status.Counters = tally(planned, live)
	return drift(planned, live), nil
}

// noteLocked records a look at the rules through c, which is nil when no
// backend holds any.
func (f *Fence) noteLocked(c *candidate, findings []Finding, err error) {
	f.status.Checked, f.status.Findings, f.status.Err = time.Now(), findings, err
	if c == nil {
		f.status.Backend, f.status.Weaker = "", ""
		return
	}
	f.status.Backend, f.status.Weaker = c.name(), c.weaker
	if err == nil && len(findings) == 0 {
		f.active = c
	}
}

// Status returns what the last Apply or Check, also those of Run, found.
func (f *Fence) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Remove takes away every rule, chain and table of ours, whichever backend and
// whichever settings made them. Nothing to remove is no error. Connections
// that were redirected stay with our listener until they end.
func (f *Fence) Remove(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active, f.status.Backend = nil, ""
	return Remove(ctx)
}

// Remove is Fence.Remove for a program that has no plan, such as an uninstaller.
func Remove(ctx context.Context) error {
	var errs []error
	for _, b := range everyBackend() {
		if err := b.remove(ctx); err != nil {
			errs = append(errs, fmt.Errorf("fence: removing %s rules: %w", b.name(), err))
		}
	}
	return errors.Join(errs...)
}

func everyBackend() []backend {
	all := []backend{nft{}}
	for _, t := range findIPTables() {
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
