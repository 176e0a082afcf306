package trail

import (
	"slices"
	"sort"

	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/evidence"
)

const (
	// startLimit is how many seconds may pass from the start of a notebook instance to
	// its first claim, for the two to belong together.
	startLimit = 20 * 60
	// scriptLimit is how long in seconds SageMaker lets a start-up script run.
	scriptLimit = 5 * 60
)

// startup is the time in which a notebook instance has base credentials and no daemon
// yet: until the first claim of its name. What the start-up script calls then, such as
// S3 for the package, it can call with nothing else.
//
// It needs the record of somebody starting the instance. Without one, new base
// credentials before their first claim may as well be those that AWS hands to an
// instance every few hours, and using these is a bypass.
type startup struct{ began, ready int64 }

// addStartups finds the start-ups, by name. A name that is disputed has none.
func (x *Index) addStartups() {
	claims := make(map[string][]*session) // in order of time, as x.sessions is
	for i := range x.sessions {
		if s := &x.sessions[i]; x.claims[s.ID] {
			name := x.claimed(s)
			claims[name] = append(claims[name], s)
		}
	}
	for _, start := range x.evidence.Starts { // in order of time
		of := claims[start.Name]
		of = of[sort.Search(len(of), func(i int) bool { return of[i].At >= start.At }):]
		if !slices.ContainsFunc(of, func(s *session) bool { return s.At == of[0].At && x.begins(s, &start) }) {
			continue
		}
		ups := x.startups[start.Name]
		up := startup{start.At, of[0].At}
		if last := len(ups) - 1; last >= 0 && ups[last].ready == up.ready {
			ups = ups[:last]
		}
		x.startups[start.Name] = append(ups, up)
	}
}

// begins reports whether a claim is the first of an instance that was started: soon
// after, with credentials that did not exist before.
func (x *Index) begins(claim *session, start *evidence.Start) bool {
	c := claim.Caller
	b := x.bases[c.Key]
	return b != nil && !b.disputed && claim.At-start.At <= startLimit && c.Created >= start.At && c.Account == start.Account && claim.Region == start.Region
}

// starting reports whether a call that goes around the attributed credentials of a name
// was made before there were any.
func (x *Index) starting(name string, c *calls.Call) bool {
	for _, up := range x.startups[name] {
		if max(up.began, up.ready-scriptLimit) <= c.Time && c.Time < up.ready && c.Caller.Created >= up.began {
			return true
		}
	}
	return false
}
