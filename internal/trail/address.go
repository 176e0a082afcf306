package trail

import (
	"net/netip"
	"slices"
)

// Two claims from one address must be so many seconds close for the address to have been
// the same machine's: addresses are given to other machines in time.
const (
	nearby   = 2 * 3600  // the daemon claims every half hour
	sameDays = 24 * 3600 // with other base credentials, after these are given up
)

// addresses knows from where each name was claimed, by credentials that claimed no
// other and are not disputed.
type addresses struct {
	index *Index
	stays map[string]map[string]*stay // by address and name
	total map[string]int              // turns of a name, of all addresses
}

// claimEvery is in how many seconds the daemon claims its name again.
const claimEvery = 1800

// stay is the claims of a name from one address. They are weighed by the half hours in
// which there were some: a forger may claim as often as it likes.
type stay struct {
	times []int64 // ascending
	turns int     // half hours
}

func newAddresses(x *Index) *addresses {
	a := &addresses{index: x, stays: make(map[string]map[string]*stay), total: make(map[string]int)}
	for _, b := range x.bases {
		if len(b.names) == 1 && !b.disputed {
			a.add(b)
		}
	}
	for _, names := range a.stays {
		for name, here := range names {
			slices.Sort(here.times)
			for i, at := range here.times {
				if i == 0 || at/claimEvery != here.times[i-1]/claimEvery {
					here.turns++
				}
			}
			a.total[name] += here.turns
		}
	}
	return a
}

func (a *addresses) add(b *base) {
	for _, i := range b.claims {
		s := &a.index.sessions[i]
		if _, err := netip.ParseAddr(s.Address); err != nil {
			continue // a service's name
		}
		names := a.stays[s.Address]
		if names == nil {
			names = make(map[string]*stay)
			a.stays[s.Address] = names
		}
		here := names[b.names[0]]
		if here == nil {
			here = new(stay)
			names[b.names[0]] = here
		}
		here.times = append(here.times, s.At)
	}
}

// settleBases decides which base credentials are disputed, and whose they are.
func (x *Index) settleBases() {
	foreign := make(map[*base]string)
	a := newAddresses(x)
	homes := a.homes()
	for _, b := range x.bases {
		if owner := a.foreign(b, homes); owner != "" {
			foreign[b] = owner
		}
	}
	for b, owner := range foreign {
		b.disputed = true
		for _, i := range b.claims {
			b.conflict = x.conflict(conflictID{OtherAddress, b.key, b.names[0], owner}, &x.sessions[i], b.names[0])
		}
	}
	a = newAddresses(x) // those are no evidence of whose address it is
	for _, b := range x.bases {
		if len(b.names) < 2 {
			continue
		}
		b.disputed, b.owner = true, a.owner(b)
		for _, i := range b.claims {
			b.conflict = x.conflict(conflictID{kind: TwoNames, key: b.key}, &x.sessions[i], slices.Clone(b.names)...)
		}
		b.conflict.Owner = b.owner
	}
}

// homes returns the address from which each name was claimed in the most half hours.
func (a *addresses) homes() map[string]string {
	homes := make(map[string]string)
	for address, names := range a.stays {
		for name, here := range names {
			home, ok := homes[name]
			if !ok || here.turns > a.stays[home][name].turns || here.turns == a.stays[home][name].turns && address < home {
				homes[name] = address
			}
		}
	}
	return homes
}

// foreign returns whose address the credentials claimed a name from, when it is
// another's: n is at home elsewhere, where m never is; m is at home here and claimed
// here at about the same time. Names behind one shared address are at home together, so
// they raise no alarm.
func (a *addresses) foreign(b *base, homes map[string]string) string {
	if len(b.names) != 1 {
		return ""
	}
	n := b.names[0]
	for _, i := range b.claims {
		s := &a.index.sessions[i]
		here := a.stays[s.Address]
		if here == nil || homes[n] == s.Address {
			continue
		}
		best := ""
		for m, its := range here {
			if m == n || homes[m] != s.Address || its.turns <= here[n].turns || 5*its.turns < 4*a.total[m] || a.stays[homes[n]][m] != nil {
				continue
			}
			if near(its.times, s.At, nearby) && (best == "" || m < best) {
				best = m
			}
		}
		if best != "" {
			return best
		}
	}
	return ""
}

func near(times []int64, at, within int64) bool {
	i, _ := slices.BinarySearch(times, at)
	return i < len(times) && times[i]-at <= within || i > 0 && at-times[i-1] <= within
}

// owner returns which of the names that the credentials claimed is theirs: the only one
// that other credentials claimed from the same address in those days. "" when the
// addresses do not tell.
func (a *addresses) owner(b *base) string {
	owner := ""
	for _, i := range b.claims {
		s := &a.index.sessions[i]
		var names []string
		for name, here := range a.stays[s.Address] {
			if near(here.times, s.At, sameDays) {
				names = append(names, name)
			}
		}
		if len(names) != 1 || !slices.Contains(b.names, names[0]) {
			continue
		}
		if owner != "" && owner != names[0] {
			return ""
		}
		owner = names[0]
	}
	return owner
}
