// Package trail answers, from CloudTrail records alone, who made a call: which
// notebook or person, how that is known and how sure it is.
//
// It guarantees: an answer carries the rung that gave it and a confidence; a call that
// cannot be answered says why; answers do not depend on the order of the records; a
// name that the evidence disputes is never given as the answer. It does not guarantee
// that a name which nobody disputes is true: whoever holds a notebook's base
// credentials and claims another's name, before or instead of the daemon, from an
// address that nothing else is known about, is believed.
//
// It relies on documented or measured behaviour: the access key id in the response of
// AssumeRole is the one of the later calls; a session's creationDate is the second of
// its AssumeRole (117 of 117 records), also where a service calls with a key of its
// own; a source identity is inherited by every session that follows from one; Lake
// Formation's own source identity has the form V2.account.AROA..., names the querying
// role and is no identity of ours; the base credentials of a notebook are a session
// that AWS calls SageMaker.
//
// It is longer than most because every kind of evidence is held against all others in
// one index (index.go), which does not change any more when it answers: judge.go decides
// whose a session is, address.go whose an address, query.go and startup.go who is behind
// what services and start-up scripts call, tree.go what came from what.
package trail

import (
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
	"github.com/nbidentityd/nbidentityd/internal/trail/evidence"
)

// Rung is the kind of evidence that gave an answer.
type Rung string

// From the most to the least direct.
const (
	RungPrincipal     Rung = "principal"       // the caller is a user or a service, and says so
	RungSource        Rung = "source_identity" // the session carries a source identity
	RungKey           Rung = "access_key"      // the key leads to the AssumeRole that issued it, and on
	RungBaseKey       Rung = "base_key"        // the base credentials claimed a name in another call
	RungStart         Rung = "session_start"   // role, session and the second it began lead to an AssumeRole
	RungSessionName   Rung = "session_name"    // the session name is all there is
	RungLakeFormation Rung = "lake_formation"  // the query for which Lake Formation gave access
	RungJob           Rung = "job"             // whoever started the job that the credentials were issued to
)

// Rungs lists all rungs in order.
func Rungs() []Rung {
	return []Rung{RungPrincipal, RungSource, RungKey, RungBaseKey, RungStart, RungSessionName, RungLakeFormation, RungJob}
}

// Text says a kind of evidence in words.
func (r Rung) Text() string {
	switch r {
	case RungPrincipal:
		return "the caller is a user or a service, and says so"
	case RungSource:
		return "the session carries a source identity, which nobody can change later"
	case RungKey:
		return "the access key leads to the AssumeRole that issued it, and on to who asked for that"
	case RungBaseKey:
		return "made with base credentials, which claimed this name in another call"
	case RungStart:
		return "role, session and the second in which it began lead to its AssumeRole"
	case RungSessionName:
		return "the session name is all there is"
	case RungLakeFormation:
		return "read for a query, to which Lake Formation gave access"
	case RungJob:
		return "made by a job; the name is of whoever started it"
	}
	return string(r)
}

// Confidence says how much it would take for an answer to be wrong.
type Confidence string

const (
	// High: AWS recorded each link of the way to the name, and the name is a
	// source identity or a principal's own.
	High Confidence = "high"
	// Medium: the name is a session name that the caller chose, or the evidence
	// includes an address.
	Medium Confidence = "medium"
	// Low: a session name without the call that began the session, or a name
	// against the one that was claimed.
	Low Confidence = "low"
)

// Reason says why there is no name.
type Reason string

// The reasons.
const (
	NoIssue       Reason = "assume_role_missing"    // generic session name; the AssumeRole is not in the input
	NoClaim       Reason = "no_name_claimed"        // base or job credentials that never claimed a name
	Disputed      Reason = "disputed"               // the evidence names two
	Ambiguous     Reason = "ambiguous"              // several sessions fit and disagree
	UnknownName   Reason = "session_name_unknown"   // a session name that nothing else vouches for
	NoGrant       Reason = "no_lake_formation_call" // Lake Formation's session; its GetDataAccess is not in the input
	OtherAccount  Reason = "another_account"        // known by the number of its account alone
	NoCaller      Reason = "no_caller"              // the record names none
	CircularChain Reason = "circular"               // keys that issued each other; not from AWS
)

// Text says a reason in words.
func (r Reason) Text() string {
	switch r {
	case NoIssue:
		return "the AssumeRole that began this session is not in the input"
	case NoClaim:
		return "base or job credentials that never claimed a name"
	case Disputed:
		return "the evidence names more than one"
	case Ambiguous:
		return "several sessions fit, of different names"
	case UnknownName:
		return "nothing else vouches for this session name, and its AssumeRole is not in the input"
	case NoGrant:
		return "the GetDataAccess of this Lake Formation session is not in the input"
	case OtherAccount:
		return "a caller of another account, known by its account alone"
	case NoCaller:
		return "the record names no caller"
	case CircularChain:
		return "keys that issued each other, which AWS does not do"
	}
	return string(r)
}

// Kind says what a name is the name of.
type Kind string

// The kinds.
const (
	Notebook Kind = "notebook" // or a person: whatever the session names stand for
	User     Kind = "user"     // an IAM user, a federated user or root
	Service  Kind = "service"  // an AWS service on its own
)

// Escape says that a call went around the attributed credentials.
type Escape string

// The escapes.
const (
	NoEscape Escape = ""
	Bypass   Escape = "bypass"   // made with base credentials that have claimed a name elsewhere
	StartUp  Escape = "start_up" // the same, but while the instance started, before the daemon was there
	Possible Escape = "possible" // made with base credentials that never did: a job, an app without nbidentityd, or a bypass
)

// Answer is who made a call.
type Answer struct {
	Name       string // "" when it cannot be said
	Kind       Kind
	Rung       Rung
	Confidence Confidence

	Reason     Reason   // why there is no name
	Candidates []string // names that the evidence offers when it does not decide
	Claimed    string   // name in the record, or of its chain, when Name is another
	Escape     Escape
	Conflict   *Conflict // that the call's credentials are part of
	StartedBy  string    // who started the job that the session seems to serve
	Job        string    // name of that job
	Opener     string    // who opened the notebook last before the call
	OpenedAt   int64     // Unix seconds
}

// ConflictKind tells the alarms apart.
type ConflictKind string

// The conflicts.
const (
	TwoNames      ConflictKind = "two_names"       // one base key claimed two names
	OtherAddress  ConflictKind = "foreign_address" // a name was claimed from another notebook's address
	Impersonation ConflictKind = "impersonation"   // a notebook's name was claimed by something that is no notebook, or not known to be
	ChangedName   ConflictKind = "changed_name"    // a notebook's session claimed another name further on
)

// Conflict is an alarm: somebody claimed a name that other evidence denies.
type Conflict struct {
	Kind        ConflictKind
	Key         string   // of the credentials that claimed first
	Names       []string // that the evidence offers, sorted
	Owner       string   // whose credentials they are, when the addresses tell
	Addresses   []string // that the claims came from, sorted
	First, Last int64    // Unix seconds
	Claims      int      // calls that claimed
}

// Text says a conflict in words.
func (c *Conflict) Text() string {
	names := strings.Join(c.Names, " and ")
	switch c.Kind {
	case TwoNames:
		text := "one base key claimed the names " + names
		if c.Owner != "" {
			text += "; by its address it is " + c.Owner + "'s"
		}
		return text
	case OtherAddress:
		return c.Names[0] + " was claimed from an address that is " + c.Owner + "'s"
	case Impersonation:
		if c.Owner == "" {
			return "the notebook name " + c.Names[0] + " was claimed by somebody who showed no name before: base credentials by way of another role, or a user of another account"
		}
		return "the notebook name " + c.Names[0] + " was claimed by " + c.Owner + ", which is no notebook"
	case ChangedName:
		return "a session of " + c.Owner + " claimed the name " + c.Names[0]
	}
	return string(c.Kind) + ": " + names
}

// Config says how names are written.
type Config struct {
	Template identity.Template // of session names and source identities
}

var (
	lakeFormationSource = lazyregexp.New(`^V2\.\d{12}\.ARO[A-Z0-9]+$`)
	instanceSession     = lazyregexp.New(`^i-[0-9a-f]{8,17}$`)
	sdkSession          = lazyregexp.New(`^(aws-go-sdk-|botocore-session-|aws-sdk-js-|aws-sdk-java-|AWS-CLI-session-)[0-9]+$`)
)

const lakeFormationSession = "AWSLF-"

// generic reports whether a session name is one that AWS or an SDK makes up, so that
// it names nobody.
func generic(session string) bool {
	return session == "" || serviceMade(session) || strings.HasPrefix(session, lakeFormationSession) || sdkSession.MatchString(session)
}

// serviceMade reports whether a session name is one under which AWS hands credentials
// to a machine: a notebook's base credentials, or a job's.
func serviceMade(session string) bool {
	return session == "SageMaker" || session == "GlueJobRunnerSession" || strings.HasPrefix(session, "i-") && instanceSession.MatchString(session)
}

// name returns who a session name or source identity stands for.
func (x *Index) name(s string) string {
	if name, ok := x.names[s]; ok {
		return name
	}
	if subject, ok := x.template.Parse(s); ok && subject.Name != "" {
		return subject.Name
	}
	return s
}

// personal returns who a source identity stands for, "" for one that Lake Formation
// made up.
func (x *Index) personal(source string) string {
	if source == "" || strings.HasPrefix(source, "V2.") && lakeFormationSource.MatchString(source) {
		return ""
	}
	return x.name(source)
}

// jobName says a job in words.
func jobName(j *evidence.Job) string { return j.Kind + " " + j.Name }
