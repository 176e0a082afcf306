package sidecar

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/assurance"
	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/credserver"
	"github.com/nbidentityd/nbidentityd/internal/discovery"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/netfence"
	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/reach"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// assessEvery is how often the level of assurance is tried again.
const assessEvery = time.Minute

// raiseFence puts the packet rules around the platform's metadata service and
// keeps them. It stands after the daemon's end: an open gate would be worse than
// a closed one. Where none can be had, the reason shows in the status; what may pass,
// another program's lock on the rules say, is tried again.
func (d *Daemon) raiseFence(ctx context.Context, group *errgroup.Group, nb identity.Notebook) {
	if nb.Surface != identity.SurfaceNotebookInstance {
		d.noFence("Studio's credentials endpoint cannot be fenced")
		return
	}
	if !blueprint.Fenced(d.Settings) {
		d.noFence("it is switched off in the settings")
		return
	}
	cfg, err := blueprint.FenceConfig(d.Settings, uint32(os.Geteuid()), d.faces.imdsPort())
	if err != nil {
		d.Log.Error("not let through the fence", zap.Error(err))
	}
	fence, err := netfence.New(netfence.Config{Plan: cfg, Log: d.Log})
	if err == nil {
		err = fence.Apply(ctx)
	}
	if err != nil {
		d.Log.Error("no fence around the metadata service", zap.Error(err))
	}
	if fence == nil || errors.Is(err, netfence.ErrNotPermitted) {
		d.noFence(err.Error())
		return
	}
	d.mu.Lock()
	d.fence = fence
	d.mu.Unlock()
	group.Go(func() error { return fence.Run(ctx) })
	if port := d.faces.imdsPort(); port != 0 && d.Settings.Fence.Containers {
		group.Go(func() error {
			if err := d.serveContainers(ctx, port); err != nil {
				d.Log.Error("containers are refused", zap.Error(err))
			}
			return nil
		})
	}
}

func (d *Daemon) noFence(reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fenceless = reason
}

// assess tries, now and every minute, what each user can reach, and keeps the
// worst finding. A change of the level is logged.
func (d *Daemon) assess(ctx context.Context, facts discovery.Facts) {
	timer := time.NewTimer(assessEvery)
	defer timer.Stop()
	var last assurance.Level
	for {
		worst := d.assessOnce(ctx, facts)
		if ctx.Err() != nil {
			return
		}
		if worst.Level != last {
			d.Log.Info("assurance", zap.String("level", string(worst.Level)), zap.String("before", string(last)), zap.Any("reasons", worst.Reasons))
			last = worst.Level
		}
		d.mu.Lock()
		d.assurance = reportAssurance(worst)
		d.mu.Unlock()
		// On whole minutes of the clock, with the other looks: one wake-up.
		now := time.Now()
		timer.Reset(now.Truncate(assessEvery).Add(assessEvery).Sub(now))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

func (d *Daemon) assessOnce(ctx context.Context, facts discovery.Facts) assurance.Assessment {
	rank := map[assurance.Level]int{assurance.Enforced: 0, assurance.TamperEvident: 1, assurance.Advisory: 2}
	var worst assurance.Assessment
	for i, u := range d.users {
		seen := reach.Observe(ctx, reach.Config{
			User: u.Name, UID: uint32(u.UID), GIDs: u.Groups,
			Metadata:   d.metadataAddresses(),
			MarkHeader: credserver.MarkHeader, Mark: d.mark,
			Files: []string{d.Settings.MetadataFile, d.Settings.StateDir, "/proc/self/exe"},
		})
		if d.surface() != identity.SurfaceNotebookInstance {
			seen.BaseReached, seen.BaseReason = assurance.Yes, "Studio's credentials endpoint answers every process of the app"
		}
		seen.PlatformNames = platformNames(facts)
		seen.Fence, seen.FenceReason = d.fenceFact()
		if got := assurance.Assess(seen); i == 0 || rank[got.Level] > rank[worst.Level] {
			worst = got
		}
	}
	return worst
}

// metadataAddresses are where base credentials can be asked for: what the
// settings say, or the platform's own addresses; none in Studio.
func (d *Daemon) metadataAddresses() []netip.AddrPort {
	if d.surface() != identity.SurfaceNotebookInstance {
		return nil
	}
	if own := d.Settings.Endpoints.IMDS; own != "" {
		u, err := url.Parse(own)
		if err != nil {
			return nil // settings.Validate has parsed it
		}
		addr, err := netip.ParseAddrPort(u.Host)
		if err != nil {
			return nil // a name: what it leads to may change
		}
		return []netip.AddrPort{addr}
	}
	var all []netip.AddrPort
	for _, a := range plan.DefaultMetadata() {
		all = append(all, netip.AddrPortFrom(a, 80))
	}
	return all
}

func (d *Daemon) surface() identity.Surface {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.notebook.Surface
}

// platformNames is about private apps of a domain; a shared space never has its
// people's names.
func platformNames(f discovery.Facts) assurance.Answer {
	switch {
	case f.Subject.Kind != identity.KindProfile:
		return assurance.No
	case !f.PropagationKnown:
		return assurance.Unknown
	case f.PropagatesSourceIdentity:
		return assurance.Yes
	}
	return assurance.No
}

func (d *Daemon) fenceFact() (assurance.Answer, string) {
	d.mu.Lock()
	fence, reason := d.fence, d.fenceless
	d.mu.Unlock()
	if fence == nil {
		return assurance.No, reason
	}
	return judge(fence.Status())
}

// judge says whether a fence lets nobody by: one that only refuses where it should
// redirect does not.
func judge(s netfence.Status) (assurance.Answer, string) {
	switch {
	case s.Intact() && s.Weaker == netfence.SourceRouted:
		return assurance.No, s.Weaker
	case s.Intact():
		return assurance.Yes, ""
	case s.Err != nil:
		return assurance.No, s.Err.Error()
	case len(s.Findings) > 0:
		return assurance.No, s.Findings[0].String()
	}
	return assurance.Unknown, "it has not been looked at yet"
}

func reportAssurance(a assurance.Assessment) *status.Assurance {
	r := &status.Assurance{Level: string(a.Level), Checked: time.Now().UTC()}
	for _, reason := range a.Reasons {
		r.Reasons = append(r.Reasons, status.AssuranceReason{Fact: reason.Fact, Raise: reason.Raise})
	}
	return r
}

// reportFence is nil where there is nothing to fence.
func (d *Daemon) reportFenceLocked() *status.Fence {
	if d.fence == nil {
		if d.notebook.Surface != identity.SurfaceNotebookInstance {
			return nil
		}
		return &status.Fence{Problem: d.fenceless}
	}
	s := d.fence.Status()
	f := &status.Fence{Intact: s.Intact(), Backend: string(s.Backend), Repairs: s.Repairs, Problem: s.Weaker}
	if s.Err != nil {
		f.Problem = s.Err.Error()
	}
	return f
}
