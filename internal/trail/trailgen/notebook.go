package trailgen

import (
	"fmt"

	"github.com/nbidentityd/nbidentityd/internal/trail"
)

// kind is how a notebook is set up, or what its user is up to.
type kind int

const (
	daemon    kind = iota // nbidentityd: session name and source identity
	script                // a lifecycle script: session name only
	domain                // Studio's own propagation: the base session has the source identity
	unmanaged             // base credentials only
	forger                // claims another's name with its base key, beside the daemon
	hidden                // the same, behind an address that many share
	thief                 // for hours nothing but another's name, from its own address
	climber               // a session without source identity takes another's name further up
)

// notebook is one instance or profile, and what it holds at the moment.
type notebook struct {
	number  int
	name    string
	kind    kind
	address string
	victim  string // whose name it forges

	base    *session // base credentials
	current *session // attributed credentials
	gap     bool     // the AssumeRole of the current session is missing
	job     int
}

var people = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kim", "leo", "mia", "nina", "oscar", "peggy", "quinn", "rosa", "sven", "trudy"}

func newNotebook(i int) *notebook {
	block, place := i/20, i%20
	name := func(place int) string { return fmt.Sprintf("%s-nb-%d", people[place], block) }
	n := &notebook{number: i, name: name(place), victim: name(0), address: fmt.Sprintf("10.%d.%d.%d", block/200, block%200, 10+place)}
	switch {
	case place <= 9:
		n.kind = daemon
	case place <= 12:
		n.kind = script
	case place <= 14:
		n.kind = domain
		n.name = fmt.Sprintf("%s-%d", people[place], block)
	case place == 15:
		n.kind = unmanaged
	case place == 16:
		n.kind = forger
	case place == 17:
		n.kind = hidden
	case place == 18:
		n.kind = thief
	default:
		n.kind = climber
	}
	if place == 8 || place == 9 || place == 17 {
		n.address = fmt.Sprintf("198.51.100.%d", block%250) // one gateway
	}
	return n
}

// session is temporary credentials, and what is known about calls made with them.
type session struct {
	caller
	direct    Expectation // for calls that carry its key
	forwarded Expectation // for calls that a service makes for it
}

func named(shape, name string, rung trail.Rung) Expectation {
	return Expectation{Shape: shape, Name: name, Rung: rung}
}

func unknown(shape string, reason trail.Reason) Expectation {
	return Expectation{Shape: shape, Reason: reason}
}

// assume makes the AssumeRole record by which a session begins.
type assume struct {
	at        int64
	by        caller
	address   string
	to        role
	name      string
	source    string
	expect    Expectation // for the call itself
	drop      bool
	noUser    bool // without assumedRoleUser, as some services' are
	shared    string
	recipient string
	copied    bool
	key       string // "" makes one
}

func (w *world) assume(a assume) caller {
	if a.key == "" {
		a.key = w.unique("ASIA")
	}
	source := a.source
	request := fmt.Sprintf(`{"roleArn":%q,"roleSessionName":%q,"durationSeconds":3600`, a.to.arn(), a.name)
	response := fmt.Sprintf(`{"credentials":{"accessKeyId":%q,"sessionToken":"REDACTED","expiration":"Jul 1, 2026, 9:43:34 PM"}`, a.key)
	if source != "" {
		request += fmt.Sprintf(`,"sourceIdentity":%q`, source)
		response += fmt.Sprintf(`,"sourceIdentity":%q`, source)
	}
	if !a.noUser {
		response += fmt.Sprintf(`,"assumedRoleUser":{"assumedRoleId":%q,"arn":"arn:aws:sts::%s:assumed-role/%s/%s"}`, a.to.id+":"+a.name, a.to.account, a.to.name, a.name)
	}
	w.emit(event{
		at: a.at, by: a.by, service: "sts", action: "AssumeRole", address: a.address, request: request + "}", response: response + "}",
		resource: a.to.arn(), expect: a.expect, drop: a.drop, shared: a.shared, recipient: a.recipient, copied: a.copied,
	})
	return caller{kind: "AssumedRole", role: a.to, session: a.name, key: a.key, created: a.at, source: source}
}

// rotate gives a notebook new base credentials. Two of three times the record of it is
// in the trail.
func (w *world) rotate(n *notebook, at int64, turn int) {
	service := caller{kind: "AWSService", invokedBy: "sagemaker.amazonaws.com"}
	source := ""
	if n.kind == domain {
		source = n.name
	}
	c := w.assume(assume{
		at: at, by: service, to: w.exec, name: "SageMaker", source: source, noUser: n.number%3 == 0, shared: w.uuid(),
		drop: (n.number+turn)%3 == 0, expect: named("service", "sagemaker.amazonaws.com", trail.RungPrincipal),
	})
	n.base = &session{caller: c, direct: named("bypass", n.name, trail.RungBaseKey)}
	switch {
	case n.kind == domain:
		n.base.direct = named("studio", n.name, trail.RungSource)
	case n.kind == unmanaged:
		n.base.direct = unknown("unmanaged", trail.NoClaim)
	case n.forges(turn) && n.kind == hidden:
		n.base.direct = unknown("disputed bypass", trail.Disputed)
	case n.forges(turn) && n.kind == thief:
		n.base.direct = unknown("stolen name bypass", trail.Disputed)
	}
	n.base.forwarded = n.base.direct
}

// forges reports whether a notebook claims another's name with the base credentials of
// this turn. The daily second turn leaves the others to show whose address it is.
func (n *notebook) forges(turn int) bool {
	return turn%4 == 2 && (n.kind == forger || n.kind == hidden || n.kind == thief)
}

// claim makes new attributed credentials, every half hour.
func (w *world) claim(n *notebook, at int64, turn int) {
	if n.kind == domain || n.kind == unmanaged {
		n.current = n.base
		return
	}
	name, source := n.name, n.name
	s := &session{direct: named("attributed", name, trail.RungSource), forwarded: named("forwarded", name, trail.RungStart)}
	n.gap = false
	switch {
	case n.kind == script || n.kind == climber:
		source = ""
		s.direct, s.forwarded = named("session name only", name, trail.RungKey), named("forwarded", name, trail.RungStart)
		if n.kind == script && w.chance(6) {
			n.gap = true
			s.direct = named("AssumeRole missing", name, trail.RungSessionName)
			s.forwarded = s.direct
		}
	case n.forges(turn) && n.kind == thief:
		name, source = n.victim, n.victim
		s.direct = unknown("stolen name", trail.Disputed)
		s.forwarded = s.direct
	case n.forges(turn) && n.kind == hidden:
		s.direct = unknown("disputed", trail.Disputed)
		s.forwarded = s.direct
	case n.forges(turn):
		s.direct, s.forwarded = named("beside a forgery", name, trail.RungKey), named("beside a forgery", name, trail.RungStart)
	}
	s.caller = w.assume(assume{at: at, by: n.base.caller, address: n.address, to: w.exec, name: name, source: source, expect: n.claiming(), drop: n.gap})
	n.current = s
}

// claiming is what is known about the call that claims a name, which is no bypass.
func (n *notebook) claiming() Expectation {
	e := n.base.direct
	e.Shape = "claim"
	return e
}

// forge claims the victim's name with the base credentials, and uses it.
func (w *world) forge(n *notebook, at int64) {
	c := w.assume(assume{at: at, by: n.base.caller, address: n.address, to: w.exec, name: n.victim, source: n.victim, expect: n.claiming()})
	expect := named("forged", n.name, trail.RungBaseKey)
	if n.kind == hidden {
		expect = unknown("forged, disputed", trail.Disputed)
	}
	for i := range 3 {
		w.work(at+1+int64(i), &session{caller: c, direct: expect, forwarded: expect}, n.address)
	}
}

// climb takes the victim's name from a session that has none for sure: as a source
// identity, and by way of a session that calls itself SageMaker.
func (w *world) climb(n *notebook, at int64) {
	expect := named("name taken further up", n.name, trail.RungKey)
	c := w.assume(assume{at: at, by: n.current.caller, address: n.address, to: w.exec, name: n.victim, source: n.victim, expect: n.current.direct})
	w.work(at+2, &session{caller: c, direct: expect, forwarded: expect}, n.address)
	fake := w.assume(assume{at: at + 1, by: n.current.caller, address: n.address, to: w.exec, name: "SageMaker", expect: n.current.direct})
	c = w.assume(assume{at: at + 3, by: fake, address: n.address, to: w.exec, name: n.victim, expect: expect})
	w.work(at+4, &session{caller: c, direct: expect, forwarded: expect}, n.address)
	w.work(at+5, &session{caller: fake, direct: expect, forwarded: expect}, n.address)
}

// work makes one call.
func (w *world) work(at int64, s *session, address string) {
	e := event{at: at, by: s.caller, address: address, expect: s.direct}
	serial := w.random.IntN(500)
	switch w.random.IntN(9) {
	case 0, 1, 2:
		e.service, e.action = "s3", "GetObject"
		e.request = fmt.Sprintf(`{"bucketName":"data-%d","key":"year=2026/part-%05d.parquet","Host":"data-%d.s3.us-east-1.amazonaws.com"}`, serial%7, serial, serial%7)
	case 3:
		e.service, e.action = "s3", "PutObject"
		e.request = fmt.Sprintf(`{"bucketName":"results","key":"run-%d/model.tar.gz"}`, serial)
		e.additional = `{"SignatureVersion":"SigV4","CipherSuite":"TLS_AES_128_GCM_SHA256","bytesTransferredIn":1048576,"x-amz-id-2":"EXAMPLE="}`
	case 4:
		e.service, e.action, e.request = "sagemaker", "DescribeEndpoint", fmt.Sprintf(`{"endpointName":"endpoint-%d"}`, serial%20)
	case 5:
		e.service, e.action, e.failure = "sagemaker", "DeleteEndpoint", "AccessDenied"
		e.request = fmt.Sprintf(`{"endpointName":"endpoint-%d"}`, serial%20)
	case 6:
		e.service, e.action, e.request = "glue", "GetTable", fmt.Sprintf(`{"databaseName":"sales","name":"t%d"}`, serial%40)
	case 7:
		e.service, e.action = "sts", "AssumeRole"
		e.failure = "AccessDenied"
	case 8: // a service calls on, with a key of its own and without the source identity
		e.service, e.action, e.expect = "kms", "Decrypt", s.forwarded
		e.request = `{"encryptionAlgorithm":"SYMMETRIC_DEFAULT","encryptionContext":{"aws:s3:arn":"arn:aws:s3:::results"}}`
		e.by.key, e.by.invokedBy = w.unique("ASIA"), "secretsmanager.amazonaws.com"
		if s.forwarded.Rung != trail.RungSource {
			e.by.source = ""
		}
		if w.chance(3) {
			e.by.key = ""
		}
	}
	w.emit(e)
}
