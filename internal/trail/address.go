package trail

import (
	"net/netip"
	"slices"
)

// nearby is how close in seconds two claims from one address must be for the address
// to have been the same machine's: addresses are given to other machines in time, and
// the daemon claims every half hour.
const nearby = 2 * 3600

// addresses knows from where each name was claimed, by credentials that claimed no
// other.
type addresses struct {
	index  *Index
	claims map[string]map[string][]int64 // address, name → times, ascending
	total  map[string]int                // claims of a name
}

func newAddresses(x *Index) *addresses {
	a := &addresses{index: x, claims: make(map[string]map[string][]int64), total: make(map[string]int)}
	for _, b := range x.bases {
		if len(b.names) == 1 {
			a.add(b, 1)
		}
	}
	for _, names := range a.claims {
		for _, times := range names {
			slices.Sort(times)
		}
	}
	return a
}

func (a *addresses) add(b *base, sign int) {
	for _, i := range b.claims {
		s := &a.index.sessions[i]
		if _, err := netip.ParseAddr(s.Address); err != nil {
			continue // a service's name
		}
		names := a.claims[s.Address]
		if names == nil {
			names = make(map[string][]int64)
			a.claims[s.Address] = names
		}
		if sign > 0 {
			names[b.names[0]] = append(names[b.names[0]], s.At)
		} else if at, found := slices.BinarySearch(names[b.names[0]], s.At); found {
			names[b.names[0]] = slices.Delete(names[b.names[0]], at, at+1)
		}
		a.total[b.names[0]] += sign
	}
}

// settle decides which base credentials are disputed, and whose they are.
func (a *addresses) settle() {
	foreign := make(map[*base]string)
	homes := a.homes()
	for _, b := range a.index.bases {
		if owner := a.foreign(b, homes); owner != "" {
			foreign[b] = owner
		}
	}
	for b, owner := range foreign {
		a.add(b, -1) // no evidence of whose address it is
		b.disputed = true
		for _, i := range b.claims {
			b.conflict = a.index.conflict(conflictID{OtherAddress, b.key, b.names[0], owner}, &a.index.sessions[i], b.names[0])
		}
	}
	for _, b := range a.index.bases {
		if len(b.names) < 2 {
			continue
		}
		b.disputed, b.owner = true, a.owner(b)
		for _, i := range b.claims {
			b.conflict = a.index.conflict(conflictID{kind: TwoNames, key: b.key}, &a.index.sessions[i], slices.Clone(b.names)...)
		}
		b.conflict.Owner = b.owner
	}
}

// homes returns the address from which each name was claimed most often.
func (a *addresses) homes() map[string]string {
	homes := make(map[string]string)
	for address, names := range a.claims {
		for name, times := range names {
			home, ok := homes[name]
			most := len(a.claims[home][name])
			if !ok || len(times) > most || len(times) == most && address < home {
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
		here := a.claims[s.Address]
		if here == nil || homes[n] == s.Address {
			continue
		}
		best := ""
		for m, times := range here {
			if m == n || homes[m] != s.Address || len(times) <= len(here[n]) || 5*len(times) < 4*a.total[m] || len(a.claims[homes[n]][m]) > 0 {
				continue
			}
			if near(times, s.At) && (best == "" || m < best) {
				best = m
			}
		}
		if best != "" {
			return best
		}
	}
	return ""
}

func near(times []int64, at int64) bool {
	i, _ := slices.BinarySearch(times, at)
	return i < len(times) && times[i]-at <= nearby || i > 0 && at-times[i-1] <= nearby
}

// owner returns which of the names that the credentials claimed is theirs: the only one
// that other credentials claimed from the same address. "" when the addresses do not
// tell.
func (a *addresses) owner(b *base) string {
	owner := ""
	for _, i := range b.claims {
		var names []string
		for name, times := range a.claims[a.index.sessions[i].Address] {
			if len(times) > 0 {
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
