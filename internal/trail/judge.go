package trail

import (
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/evidence"
)

// verdict is who holds a session's credentials. Sessions of the same origin share it.
type verdict struct {
	name       string
	kind       Kind
	rung       Rung // when it is not that of the link to the session
	confidence Confidence
	claimed    string
	reason     Reason
	candidates []string
	conflict   *Conflict
	escape     Escape
}

func (v *verdict) same(w *verdict) bool {
	return v == w || v.name == w.name && v.name != "" && v.kind == w.kind
}

// judgeSessions decides who holds the credentials of each session, after those that it
// comes from. Chains are too long to recurse, if somebody likes.
func (x *Index) judgeSessions() {
	var chain []int32
	for i := range x.sessions {
		for at := int32(i); at != none && !x.sessions[at].queued; at = x.sessions[at].parent {
			x.sessions[at].queued = true
			chain = append(chain, at)
		}
		for ; len(chain) > 0; chain = chain[:len(chain)-1] {
			s := &x.sessions[chain[len(chain)-1]]
			s.verdict = x.decide(s)
		}
	}
}

func (x *Index) decide(s *session) *verdict {
	c := s.Caller
	source := x.personal(s.Source)
	if b := x.baseOf(c, s.parent); b != nil {
		if name := x.claimed(s); name != "" {
			return b.claim(name)
		}
		return b.direct()
	}
	switch {
	case byService(c):
		return x.judgeService(s, source)
	case !c.IsRoleSession():
		return x.withSource(s, x.principal(c), source)
	case s.parent != none:
		from := x.sessions[s.parent].verdict
		if from == nil {
			from = &verdict{reason: CircularChain}
		}
		return x.withSource(s, from, source)
	}
	if own := x.personal(c.Source); own != "" {
		return x.withSource(s, &verdict{name: own, kind: Notebook, confidence: High}, source)
	}
	if source != "" {
		return &verdict{name: source, kind: Notebook, confidence: High}
	}
	return x.bySessionName(c)
}

// baseOf returns the base credentials that a caller holds, nil if it holds others.
func (x *Index) baseOf(c *calls.Caller, parent int32) *base {
	if !x.isBase(c, parent) {
		return nil
	}
	if b := x.bases[c.Key]; b != nil {
		return b
	}
	if c.Key == "" || c.InvokedBy != "" { // a service calls for it, with a key of its own
		return x.baseStart[startOf(c)]
	}
	return nil
}

// claim decides about a session for which the credentials claimed a name.
func (b *base) claim(name string) *verdict {
	if v := b.decisions[name]; v != nil {
		return v
	}
	v := &verdict{name: name, kind: Notebook, confidence: Medium, conflict: b.conflict}
	switch {
	case !b.disputed && b.sourced:
		v.confidence = High
	case !b.disputed:
	case b.owner == "":
		v = &verdict{reason: Disputed, candidates: b.candidates(), claimed: name, conflict: b.conflict}
	case b.owner != name:
		v = &verdict{name: b.owner, kind: Notebook, rung: RungBaseKey, confidence: Low, claimed: name, conflict: b.conflict}
	}
	b.decisions[name] = v
	return v
}

// direct decides about the credentials themselves.
func (b *base) direct() *verdict {
	if v := b.decisions[""]; v != nil {
		return v
	}
	v := &verdict{reason: NoClaim, escape: Possible}
	switch {
	case b.source != "": // Studio's own propagation: they carry the name, so nothing is evaded
		v = &verdict{name: b.source, kind: Notebook, confidence: High}
	case len(b.names) == 0:
	case b.disputed && b.owner == "":
		v = &verdict{reason: Disputed, candidates: b.candidates(), escape: Bypass, conflict: b.conflict}
	case b.disputed:
		v = &verdict{name: b.owner, kind: Notebook, rung: RungBaseKey, confidence: Medium, escape: Bypass, conflict: b.conflict}
	default:
		v = &verdict{name: b.names[0], kind: Notebook, rung: RungBaseKey, confidence: Medium, escape: Bypass}
		if b.sourced {
			v.confidence = High
		}
	}
	b.decisions[""] = v
	return v
}

// candidates are the names that disputed credentials may belong to.
func (b *base) candidates() []string {
	names := slices.Clone(b.names)
	if owner := b.conflict.Owner; owner != "" && !slices.Contains(names, owner) {
		names = append(names, owner)
	}
	slices.Sort(names)
	return names
}

// judgeService decides about credentials that AWS handed out.
func (x *Index) judgeService(s *session, source string) *verdict {
	switch {
	case source != "": // a job started by an attributed session
		return &verdict{name: source, kind: Notebook, confidence: High}
	case x.bases[s.Key] != nil && s.Key != "":
		return x.bases[s.Key].direct()
	case serviceMade(s.Session):
		return &verdict{reason: NoClaim, escape: Possible}
	case strings.HasPrefix(s.Session, lakeFormationSession): // for whom, its grant tells
		return &verdict{reason: NoGrant}
	}
	return &verdict{name: s.Caller.InvokedBy, kind: Service, confidence: High}
}

// withSource decides about a session whose caller is known, when it was given a name
// that the caller did not have to give: a source identity, or a session name that is a
// notebook's. Users and services may speak for others, but not for a notebook; a
// notebook has no other name.
func (x *Index) withSource(s *session, caller *verdict, source string) *verdict {
	given := source
	if name := x.name(s.Session); given == "" && x.notebooks[name] {
		given = name
	}
	switch {
	case given == "" || given == caller.name || caller.conflict != nil:
		return caller
	case source == "" && (caller.name == "" || caller.confidence == Low):
		return caller
	case (caller.escape == Possible || caller.reason == OtherAccount) && x.notebooks[given]:
		// Of base credentials it would be a claim in the first step, which can be held
		// against other claims.
		conflict := x.conflict(conflictID{kind: Impersonation, name: given}, s, given)
		return &verdict{reason: Disputed, candidates: []string{given}, claimed: given, escape: caller.escape, conflict: conflict}
	case caller.name == "" || caller.confidence == Low:
		return &verdict{name: source, kind: Notebook, confidence: High}
	case caller.kind == Notebook:
		return x.denied(ChangedName, s, caller, given)
	case x.notebooks[given]:
		return x.denied(Impersonation, s, caller, given)
	}
	return &verdict{name: source, kind: Notebook, confidence: High}
}

// denied decides for the caller and against the name that it claimed.
func (x *Index) denied(kind ConflictKind, s *session, caller *verdict, given string) *verdict {
	v := *caller
	v.claimed = given
	v.confidence = Medium
	v.conflict = x.conflict(conflictID{kind: kind, name: given, owner: caller.name}, s, given)
	return &v
}

// bySessionName decides by the name of a role session of which the beginning is not
// known. It is a notebook's when something else vouches for the name, or when the role
// is one that notebooks run as; otherwise it may be any step of a longer chain. A role
// without an ARN may be of any account of the world, where anybody may choose the name.
func (x *Index) bySessionName(c *calls.Caller) *verdict {
	session := c.Session()
	if strings.HasPrefix(session, lakeFormationSession) {
		return &verdict{reason: NoGrant}
	}
	if generic(session) {
		v := &verdict{reason: NoIssue}
		if serviceMade(session) && x.roles[c.Issuer] {
			v = &verdict{reason: NoClaim, escape: Possible}
		}
		return v
	}
	name := x.name(session)
	switch {
	case c.Issuer == "" && !x.roles[roleID(c.Principal)]:
	case x.known[name]:
		return &verdict{name: name, kind: Notebook, rung: RungSessionName, confidence: Medium}
	case x.roles[c.Issuer]:
		return &verdict{name: name, kind: Notebook, rung: RungSessionName, confidence: Low}
	}
	return &verdict{reason: UnknownName, candidates: []string{name}}
}

// principal decides about a caller that is no role session.
func (x *Index) principal(c *calls.Caller) *verdict {
	v := &verdict{kind: User, rung: RungPrincipal, confidence: High}
	switch {
	case c.Type == "Root":
		v.name = "root of " + c.Account
	case byService(c):
		v.kind, v.name = Service, c.InvokedBy
	case c.Person != "" && c.User == "":
		v.name = c.Person
	case c.User != "":
		v.name = c.User
	case c.ARN != "":
		v.name = c.ARN[strings.LastIndexAny(c.ARN, ":/")+1:]
	case c.Type == "AWSAccount":
		return &verdict{reason: OtherAccount}
	default:
		return &verdict{reason: NoCaller}
	}
	return v
}

// Who answers for a call.
func (x *Index) Who(c *calls.Call) Answer { return x.call(c, x.caller(c.Caller)) }

// Asker answers for the calls of one block, for one goroutine. What is true of all calls
// of a caller it finds out once. It holds on to the block by the callers that it knows.
type Asker struct {
	index   *Index
	answers map[*calls.Caller]Answer
}

// Asker returns one.
func (x *Index) Asker() *Asker { return &Asker{x, make(map[*calls.Caller]Answer)} }

// Who answers for a call, as [Index.Who] does.
func (k *Asker) Who(c *calls.Call) Answer {
	if c.Caller.InvokedBy != "" { // with a key of its own each time
		return k.index.Who(c)
	}
	a, known := k.answers[c.Caller]
	if !known {
		a = k.index.caller(c.Caller)
		k.answers[c.Caller] = a
	}
	return k.index.call(c, a)
}

// call answers for a call of which the caller's answer is a.
func (x *Index) call(c *calls.Call, a Answer) Answer {
	if a.Name == "" {
		x.byLakeFormation(c, &a)
	}
	if a.Name == "" {
		x.byJob(c.Caller, &a)
	}
	switch {
	case a.Escape != NoEscape && x.daemons(c):
		a.Escape = NoEscape
	case a.Escape == Bypass && a.Conflict == nil && x.starting(a.Name, c):
		a.Escape = StartUp
	}
	if a.Name != "" && a.Kind == Notebook {
		a.Opener, a.OpenedAt = x.opener(a.Name, c)
	}
	return a
}

// caller answers for whoever holds the caller's credentials.
func (x *Index) caller(c *calls.Caller) Answer {
	if !c.IsRoleSession() {
		return x.principal(c).answer(RungPrincipal)
	}
	i, rung, ambiguous := x.find(c)
	source := x.personal(c.Source)
	var v *verdict
	switch {
	case i != none:
		v = x.sessions[i].verdict
	default:
		if b := x.baseOf(c, none); b != nil {
			v, rung = b.direct(), RungBaseKey
		}
	}
	switch {
	case source != "" && (v == nil || v.conflict == nil):
		return Answer{Name: source, Kind: Notebook, Rung: RungSource, Confidence: High}
	case v != nil:
		return v.answer(rung)
	case ambiguous:
		return Answer{Reason: Ambiguous}
	}
	return x.bySessionName(c).answer(RungSessionName)
}

func (v *verdict) answer(link Rung) Answer {
	a := Answer{
		Name: v.name, Kind: v.kind, Rung: link, Confidence: v.confidence, Claimed: v.claimed,
		Reason: v.reason, Candidates: v.candidates, Conflict: v.conflict, Escape: v.escape,
	}
	if v.rung == RungBaseKey {
		a.Rung = v.rung
	}
	if v.name == "" {
		a.Rung = ""
	}
	return a
}

// daemons reports whether a call with base credentials is one that the daemon makes.
func (x *Index) daemons(c *calls.Call) bool {
	switch c.Service + " " + c.Action {
	case "sts.amazonaws.com AssumeRole":
		return c.Error != "" || x.claims[c.ID]
	case "sts.amazonaws.com GetCallerIdentity", "sagemaker.amazonaws.com DescribeNotebookInstance", "sagemaker.amazonaws.com DescribeSpace",
		"sagemaker.amazonaws.com DescribeUserProfile", "sagemaker.amazonaws.com DescribeDomain":
		return true
	}
	return false
}

// addJobs prepares byJob.
func (x *Index) addJobs() {
	byName := make(map[string]*evidence.Job)
	for i := range x.evidence.Jobs {
		job := &x.evidence.Jobs[i]
		if job.ARN != "" {
			x.jobs[job.ARN] = job
		}
		if other, taken := byName[job.Name]; taken && (other == nil || *other.Caller != *job.Caller) {
			job = nil
		}
		byName[x.evidence.Jobs[i].Name] = job
	}
	for _, stream := range x.evidence.Streams {
		job := byName[stream.Job]
		if other, taken := x.streams[stream.Key]; taken && other != job {
			job = nil
		}
		x.streams[stream.Key] = job
	}
}

// byJob names the starter of the job that credentials were issued to, when AWS says so.
// A log that the session opened only hints at the job: anyone can open one.
func (x *Index) byJob(c *calls.Caller, a *Answer) {
	if job := x.jobs[c.Scope]; job != nil && a.Conflict == nil {
		if starter := x.caller(job.Caller); starter.Name != "" {
			*a = Answer{Name: starter.Name, Kind: starter.Kind, Rung: RungJob, Confidence: starter.Confidence, Job: jobName(job), StartedBy: starter.Name}
			return
		}
	}
	if job := x.streams[c.Key]; job != nil {
		a.Job, a.StartedBy = jobName(job), x.caller(job.Caller).Name
	}
}

// Job is work that somebody started.
type Job struct {
	evidence.Job
	Answer Answer // who started it
}

// Jobs returns the jobs that were started, the newest first.
func (x *Index) Jobs() []Job {
	jobs := make([]Job, 0, len(x.evidence.Jobs))
	for _, job := range slices.Backward(x.evidence.Jobs) {
		jobs = append(jobs, Job{job, x.caller(job.Caller)})
	}
	return jobs
}
