package iptables

import (
	"strconv"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

// saved holds what iptables-save printed of one family.
type saved []savedTable

type savedTable struct {
	name   string // nat, filter, …
	chains []string
	rules  []savedRule
}

type savedRule struct {
	chain, spec string
	packets     uint64
}

// target returns the chain that r hands packets to, or "".
func (r savedRule) target() string {
	words := strings.Fields(r.spec)
	for i, w := range words[:max(0, len(words)-1)] {
		if w == "-j" || w == "-g" {
			return words[i+1]
		}
	}
	return ""
}

func (s saved) table(name string) savedTable {
	for _, t := range s {
		if t.name == name {
			return t
		}
	}
	return savedTable{name: name}
}

func parseSaved(text string) saved {
	var out saved
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		switch {
		case strings.HasPrefix(l, "*"):
			out = append(out, savedTable{name: l[1:]})
		case len(out) == 0:
		case strings.HasPrefix(l, ":"):
			name, _, _ := strings.Cut(l[1:], " ")
			out[len(out)-1].chains = append(out[len(out)-1].chains, name)
		case strings.HasPrefix(l, "["):
			counts, rest, _ := strings.Cut(l[1:], "] -A ")
			packets, _, _ := strings.Cut(counts, ":")
			n, _ := strconv.ParseUint(packets, 10, 64)
			chain, spec, _ := strings.Cut(rest, " ")
			out[len(out)-1].rules = append(out[len(out)-1].rules, savedRule{chain: chain, spec: spec, packets: n})
		}
	}
	return out
}

func (t savedTable) sections(f plan.Family) []ruleset.Section {
	ours := func(chain string) bool { return strings.HasPrefix(chain, ownChains) }
	var out []ruleset.Section
	for _, chain := range t.chains {
		s := ruleset.Section{Where: where(f, t.name, chain), Head: ownHead, Shared: !ours(chain)}
		if s.Shared {
			s.Head = builtinHead
		}
		last := 0
		for _, r := range t.rules {
			if r.chain != chain {
				continue
			}
			s.Lines = append(s.Lines, ruleset.Line{Key: specKey(r.spec), Text: r.spec, Packets: r.packets})
			if ours(r.target()) {
				last = len(s.Lines)
			}
		}
		if s.Shared {
			s.Lines = s.Lines[:last]
		}
		if !s.Shared || last > 0 {
			out = append(out, s)
		}
	}
	return out
}
