package netfence

import (
	"fmt"
	"slices"
)

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

// section is a place that holds rules in order: a chain, in whichever form a
// backend keeps it.
type section struct {
	where string
	head  string // what must be equal besides the rules
	lines []line
	// shared marks the beginning of a chain that also holds others' rules.
	shared bool
}

// line is a rule in a backend's form. Two rules are the same when their keys
// are.
type line struct {
	key, text string
	tally     Tally // of a planned rule
	packets   uint64
}

// drift compares live sections with planned ones. Sections with the same name
// belong together; each name occurs once on either side.
func drift(want, have []section) []Finding {
	var out []Finding
	for _, w := range want {
		i := slices.IndexFunc(have, func(h section) bool { return h.where == w.where })
		if i < 0 {
			out = append(out, Finding{Kind: Missing, Where: w.where, Want: fmt.Sprintf("%s with %d rules", w.head, len(w.lines))})
			continue
		}
		if w.head != have[i].head {
			out = append(out, Finding{Kind: Changed, Where: w.where, Want: w.head, Have: have[i].head})
		}
		for _, f := range driftLines(w.where, w.lines, have[i].lines) {
			if f.Kind == Foreign && w.shared {
				f.Kind = Shadowed
			}
			out = append(out, f)
		}
	}
	for _, h := range have {
		if !slices.ContainsFunc(want, func(w section) bool { return h.where == w.where }) {
			out = append(out, Finding{Kind: Foreign, Where: h.where, Have: fmt.Sprintf("%s with %d rules", h.head, len(h.lines))})
		}
	}
	return out
}

// driftLines reports the rules outside the longest common subsequence; where
// planned and live ones face each other, the one was changed into the other.
func driftLines(where string, want, have []line) []Finding {
	common := make([][]int, len(want)+1)
	for i := range common {
		common[i] = make([]int, len(have)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(have) - 1; j >= 0; j-- {
			if want[i].key == have[j].key {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []Finding
	for i, j := 0, 0; i < len(want) || j < len(have); {
		switch {
		case i < len(want) && j < len(have) && want[i].key == have[j].key:
			i, j = i+1, j+1
		case i < len(want) && j < len(have) && common[i][j] == common[i+1][j+1]:
			out = append(out, Finding{Kind: Changed, Where: where, Want: want[i].text, Have: have[j].text})
			i, j = i+1, j+1
		case i < len(want) && (j == len(have) || common[i][j] == common[i+1][j]):
			out = append(out, Finding{Kind: Missing, Where: where, Want: want[i].text})
			i++
		default:
			out = append(out, Finding{Kind: Foreign, Where: where, Have: have[j].text})
			j++
		}
	}
	return out
}

// tally sums the counters of the live rules that are planned ones.
func tally(want, have []section) Counters {
	var c Counters
	for _, w := range want {
		for _, h := range have {
			if h.where != w.where {
				continue
			}
			for _, l := range h.lines {
				if i := slices.IndexFunc(w.lines, func(p line) bool { return p.key == l.key }); i >= 0 {
					c.add(w.lines[i].tally, l.packets)
				}
			}
		}
	}
	return c
}
