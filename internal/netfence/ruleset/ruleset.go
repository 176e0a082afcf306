// Package ruleset is what the ways to keep packet rules have in common: how the
// rules that stand in the kernel, in the form that a way gives them, differ from
// the planned ones.
package ruleset

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
)

// ErrNotPermitted is the cause of every error that a missing capability
// brings about.
var ErrNotPermitted = errors.New("packet rules need CAP_NET_ADMIN in this network namespace")

// Permitted makes the kernel's refusal recognisable.
func Permitted(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return err
}

// Counters holds how many packets met the fence since its rules were last
// written; a repair starts them at zero. A redirected connection counts once,
// a refused one once for each packet.
type Counters struct {
	Redirected, Blocked                     uint64
	ContainersRedirected, ContainersBlocked uint64
}

func (c *Counters) add(t plan.Tally, packets uint64) {
	switch t {
	case plan.Redirected:
		c.Redirected += packets
	case plan.Blocked:
		c.Blocked += packets
	case plan.ContainersRedirected:
		c.ContainersRedirected += packets
	case plan.ContainersBlocked:
		c.ContainersBlocked += packets
	}
}

// Kind says how the kernel differs from the plan.
type Kind string

const (
	Missing  Kind = "missing"  // planned, not there
	Changed  Kind = "changed"  // there, but not as planned
	Foreign  Kind = "foreign"  // there, not planned, where only our rules should be
	Shadowed Kind = "shadowed" // ours is there, but a foreign rule is asked first
)

// Finding is one difference between the kernel and the plan.
type Finding struct {
	Kind  Kind
	Where string // table and chain
	Want  string // "" for a foreign rule
	Have  string // "" when missing
}

func (f Finding) String() string {
	switch f.Kind {
	case Missing:
		return fmt.Sprintf("%s: missing: %s", f.Where, f.Want)
	case Changed:
		return fmt.Sprintf("%s: changed: want %s, have %s", f.Where, f.Want, f.Have)
	default:
		return fmt.Sprintf("%s: %s: %s", f.Where, f.Kind, f.Have)
	}
}

// Section is a place that holds rules in order: a chain, in whichever form a
// way keeps it.
type Section struct {
	Where string
	Head  string // what must be equal besides the rules
	Lines []Line
	// Shared marks the beginning of a chain that also holds others' rules.
	Shared bool
}

// Line is a rule in the form of a way. Two rules are the same when their keys
// are.
type Line struct {
	Key, Text string
	Tally     plan.Tally // of a planned rule
	Packets   uint64     // of a live one
}

// Drift compares live sections with planned ones. Sections with the same name
// belong together; each name occurs once on either side.
func Drift(want, have []Section) []Finding {
	var out []Finding
	for _, w := range want {
		i := slices.IndexFunc(have, func(h Section) bool { return h.Where == w.Where })
		if i < 0 {
			out = append(out, Finding{Kind: Missing, Where: w.Where, Want: fmt.Sprintf("%s with %d rules", w.Head, len(w.Lines))})
			continue
		}
		if w.Head != have[i].Head {
			out = append(out, Finding{Kind: Changed, Where: w.Where, Want: w.Head, Have: have[i].Head})
		}
		for _, f := range driftLines(w.Where, w.Lines, have[i].Lines) {
			if f.Kind == Foreign && w.Shared {
				f.Kind = Shadowed
			}
			out = append(out, f)
		}
	}
	for _, h := range have {
		if !slices.ContainsFunc(want, func(w Section) bool { return h.Where == w.Where }) {
			out = append(out, Finding{Kind: Foreign, Where: h.Where, Have: fmt.Sprintf("%s with %d rules", h.Head, len(h.Lines))})
		}
	}
	return out
}

// driftLines reports the rules outside the longest common subsequence; where
// planned and live ones face each other, the one was changed into the other.
func driftLines(where string, want, have []Line) []Finding {
	common := make([][]int, len(want)+1)
	for i := range common {
		common[i] = make([]int, len(have)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(have) - 1; j >= 0; j-- {
			if want[i].Key == have[j].Key {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []Finding
	for i, j := 0, 0; i < len(want) || j < len(have); {
		switch {
		case i < len(want) && j < len(have) && want[i].Key == have[j].Key:
			i, j = i+1, j+1
		case i < len(want) && j < len(have) && common[i][j] == common[i+1][j+1]:
			out = append(out, Finding{Kind: Changed, Where: where, Want: want[i].Text, Have: have[j].Text})
			i, j = i+1, j+1
		case i < len(want) && (j == len(have) || common[i][j] == common[i+1][j]):
			out = append(out, Finding{Kind: Missing, Where: where, Want: want[i].Text})
			i++
		default:
			out = append(out, Finding{Kind: Foreign, Where: where, Have: have[j].Text})
			j++
		}
	}
	return out
}

// Tally sums the counters of the live rules that are planned ones.
func Tally(want, have []Section) Counters {
	var c Counters
	for _, w := range want {
		for _, h := range have {
			if h.Where != w.Where {
				continue
			}
			for _, l := range h.Lines {
				if i := slices.IndexFunc(w.Lines, func(p Line) bool { return p.Key == l.Key }); i >= 0 {
					c.add(w.Lines[i].Tally, l.Packets)
				}
			}
		}
	}
	return c
}
