package trail

import (
	"maps"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/evidence"
)

// none is the index of no session.
const none = -1

// Index is the evidence, arranged for looking up. It does not change once made, so
// that several goroutines may ask it.
type Index struct {
	template identity.Template
	evidence *evidence.Evidence

	sessions  []session
	byKey     map[string]int32
	byStart   map[start][]int32
	bases     map[string]*base // by access key
	baseStart map[start]*base  // nil where two began in the same second

	names     map[string]string // by the session names and source identities in the evidence
	known     map[string]bool   // names that something vouches for
	notebooks map[string]bool   // names that base credentials claimed
	roles     map[string]bool   // ARNs and unique ids of the roles that notebooks run as
	claims    map[string]bool   // ids of the events that claimed
	copies    map[string]bool   // ids of the events that another account's copy replaces

	conflicts map[conflictID]*Conflict

	openings map[string]map[place][]opening // by name
	startups map[string][]startup           // by name
	jobs     map[string]*evidence.Job       // by ARN
	streams  map[string]*evidence.Job       // by access key; nil where two jobs claim it
	grants   map[string]grantAnswer         // by session name
	granted  map[string]grantAnswer         // by event id
}

// session is a set of temporary credentials.
type session struct {
	*evidence.Issue
	parent  int32 // the session whose credentials asked for this one
	verdict *verdict
	queued  bool // to be judged
}

// start is when a role session began: its principal id, or its role and name, and
// the second.
type start struct {
	who string
	at  int64
}

func startOf(c *calls.Caller) start { return start{c.Principal, c.Created} }

// base is one set of base credentials: the session that AWS hands to a machine.
type base struct {
	key       string
	source    string  // source identity that they carry themselves
	claims    []int32 // sessions for which it claimed a name
	names     []string
	sourced   bool // each claim came with a source identity
	conflict  *Conflict
	owner     string // of disputed credentials, when known
	disputed  bool
	decisions map[string]*verdict
}

// conflictID tells conflicts apart: those of base credentials by their key, the others
// by who claimed which name.
type conflictID struct {
	kind             ConflictKind
	key, name, owner string
}

// NewIndex arranges the evidence.
func NewIndex(e *evidence.Evidence, cfg Config) *Index {
	x := &Index{
		template: cfg.Template, evidence: e,
		byKey: make(map[string]int32, len(e.Issues)), byStart: make(map[start][]int32, 2*len(e.Issues)),
		bases: make(map[string]*base), baseStart: make(map[start]*base),
		names: make(map[string]string), known: make(map[string]bool), notebooks: make(map[string]bool), roles: make(map[string]bool), claims: make(map[string]bool),
		copies:    make(map[string]bool),
		conflicts: make(map[conflictID]*Conflict), openings: make(map[string]map[place][]opening), startups: make(map[string][]startup),
		jobs: make(map[string]*evidence.Job), streams: make(map[string]*evidence.Job),
		grants: make(map[string]grantAnswer), granted: make(map[string]grantAnswer),
	}
	x.addSpellings()
	x.addSessions()
	x.addBases()
	x.addNames()
	x.settleBases()
	for _, b := range x.bases {
		b.direct() // decided now, so that later it is only read
	}
	x.judgeSessions()
	x.addJobs()
	x.addGrants()
	x.addOpenings()
	x.addStartups()
	return x
}

// addSpellings finds out once whom each session name and source identity stands for.
func (x *Index) addSpellings() {
	add := func(s string) {
		if _, known := x.names[s]; !known {
			x.names[s] = x.name(s)
		}
	}
	for source := range x.evidence.Sources {
		add(source)
	}
	for i := range x.evidence.Issues {
		add(x.evidence.Issues[i].Session)
		add(x.evidence.Issues[i].Source)
	}
}

// addSessions takes each issue once: two accounts may have received the record, one of
// them without the caller's key and ARN.
func (x *Index) addSessions() {
	for i := range x.evidence.Issues {
		issue := &x.evidence.Issues[i]
		if known, ok := x.byKey[issue.Key]; ok && issue.Key != "" {
			kept, lost := fuller(x.sessions[known].Issue, issue)
			x.sessions[known].Issue = kept
			if lost.ID != "" { // else all records without an ID would be copies, and left out
				x.copies[lost.ID] = true
			}
			continue
		}
		if issue.Key != "" {
			x.byKey[issue.Key] = int32(len(x.sessions))
		}
		x.sessions = append(x.sessions, session{Issue: issue, parent: none})
	}
	for i := range x.sessions {
		s := &x.sessions[i]
		for _, who := range []string{s.Unique, s.Role + "/" + s.Session} {
			if who != "" && who != "/" {
				at := start{who, s.At}
				x.byStart[at] = append(x.byStart[at], int32(i))
			}
		}
	}
	for i := range x.sessions {
		x.sessions[i].parent, _, _ = x.find(x.sessions[i].Caller)
	}
}

// fuller returns the copy of a record that says more about the caller, and the other.
func fuller(a, b *evidence.Issue) (kept, lost *evidence.Issue) {
	says := func(i *evidence.Issue) (n int) {
		for _, field := range []string{i.Caller.Key, i.Caller.ARN, i.Caller.Source, i.Caller.Issuer, i.Unique} {
			if field != "" {
				n++
			}
		}
		return n
	}
	if says(b) > says(a) {
		return b, a
	}
	return a, b
}

// IsCopy reports whether a call is an AssumeRole of which another account's record
// says more.
func (x *Index) IsCopy(c *calls.Call) bool { return x.copies[c.ID] }

// find returns the session whose credentials a caller holds, and how that is known. Of
// several sessions that began in the same second it returns none, unless they were
// judged to be of the same name.
func (x *Index) find(c *calls.Caller) (_ int32, by Rung, ambiguous bool) {
	if i, ok := x.byKey[c.Key]; ok && c.Key != "" {
		return i, RungKey, false
	}
	if c.Created == 0 || !c.IsRoleSession() {
		return none, "", false
	}
	fits := x.byStart[startOf(c)]
	if len(fits) == 0 && c.Issuer != "" {
		fits = x.byStart[start{c.Issuer + "/" + c.Session(), c.Created}]
	}
	found := int32(none)
	for _, i := range fits {
		s := &x.sessions[i]
		// A caller that shows its own key did not get it here, if another key
		// was issued here. Only services call with keys of their own.
		if c.Key != "" && c.InvokedBy == "" && s.Key != "" {
			continue
		}
		switch {
		case found == none:
			found = i
		case x.sessions[found].verdict == nil || s.verdict == nil || !x.sessions[found].verdict.same(s.verdict):
			return none, "", true
		}
	}
	return found, RungStart, false
}

// addBases finds the base credentials among those that asked for others, and which
// names they claimed.
func (x *Index) addBases() {
	for i := range x.sessions {
		s := &x.sessions[i]
		c := s.Caller
		if c.Key == "" || c.InvokedBy != "" || !x.isBase(c, s.parent) {
			continue
		}
		b := x.bases[c.Key]
		if b == nil {
			b = &base{key: c.Key, source: x.personal(c.Source), sourced: true, decisions: make(map[string]*verdict)}
			x.bases[c.Key] = b
			if other, taken := x.baseStart[startOf(c)]; taken && other != b {
				b = nil
			}
			x.baseStart[startOf(c)] = b
			b = x.bases[c.Key]
		}
		name := x.claimed(s)
		if name == "" {
			continue
		}
		b.claims = append(b.claims, int32(i))
		b.sourced = b.sourced && x.personal(s.Source) != ""
		if s.ID != "" { // else every AssumeRole without an ID would be a claim
			x.claims[s.ID] = true
		}
		if at, found := slices.BinarySearch(b.names, name); !found {
			b.names = slices.Insert(b.names, at, name)
		}
	}
}

// isBase reports whether a caller holds credentials that AWS handed to a machine. The
// session name alone proves nothing: whoever assumes a role may choose "SageMaker".
func (x *Index) isBase(c *calls.Caller, parent int32) bool {
	return c.IsRoleSession() && serviceMade(c.Session()) && (parent == none || byService(x.sessions[parent].Caller))
}

func byService(c *calls.Caller) bool {
	return c.Type == "AWSService" || c.Type == "" && c.InvokedBy != ""
}

// claimed returns the name that base credentials claimed by asking for the session:
// its source identity, or its name if the role assumed itself. Assuming another role
// under some session name is work, and claims nothing.
func (x *Index) claimed(s *session) string {
	if source := x.personal(s.Source); source != "" {
		return source
	}
	itself := s.Role != "" && s.Role == s.Caller.Issuer || roleID(s.Unique) != "" && roleID(s.Unique) == roleID(s.Caller.Principal)
	if generic(s.Session) || !itself {
		return ""
	}
	return x.name(s.Session)
}

// roleID returns the unique id of the role in a principal id, AROA...:session.
func roleID(principal string) string {
	id, _, found := strings.Cut(principal, ":")
	if !found {
		return ""
	}
	return id
}

// addNames collects the names that something vouches for, and the roles of notebooks.
func (x *Index) addNames() {
	for source := range x.evidence.Sources {
		if name := x.personal(source); name != "" {
			x.known[name] = true
		}
	}
	for _, opening := range x.evidence.Openings {
		x.known[opening.Name] = true
	}
	for _, b := range x.bases {
		for _, name := range b.names {
			x.known[name], x.notebooks[name] = true, true
		}
		for _, i := range b.claims {
			s := &x.sessions[i]
			x.roles[s.Caller.Issuer], x.roles[roleID(s.Caller.Principal)] = true, true
			if x.claimed(s) == x.name(s.Session) { // not a step further under a name for the work
				x.roles[s.Role], x.roles[roleID(s.Unique)] = true, true
			}
		}
	}
	delete(x.roles, "")
}

// Conflicts returns the alarms, the newest first.
func (x *Index) Conflicts() []*Conflict {
	return slices.SortedFunc(maps.Values(x.conflicts), func(a, b *Conflict) int {
		switch {
		case a.Last != b.Last:
			return int(max(-1, min(1, b.Last-a.Last)))
		case a.Kind != b.Kind:
			return strings.Compare(string(a.Kind), string(b.Kind))
		}
		return strings.Compare(a.Key+strings.Join(a.Names, " "), b.Key+strings.Join(b.Names, " "))
	})
}

// conflict returns the alarm of that kind, made by the first claim and extended by the
// later ones.
func (x *Index) conflict(id conflictID, s *session, names ...string) *Conflict {
	c := x.conflicts[id]
	if c == nil {
		slices.Sort(names)
		c = &Conflict{Kind: id.kind, Key: s.Caller.Key, Names: names, Owner: id.owner, First: s.At, Last: s.At}
		x.conflicts[id] = c
	}
	c.First, c.Last = min(c.First, s.At), max(c.Last, s.At)
	c.Claims++
	if at, found := slices.BinarySearch(c.Addresses, s.Address); !found && s.Address != "" {
		c.Addresses = slices.Insert(c.Addresses, at, s.Address)
	}
	return c
}
