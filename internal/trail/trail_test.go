package trail

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/evidence"
	"github.com/nbidentityd/nbidentityd/internal/trail/intake"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
)

const (
	execARN = "arn:aws:iam::111122223333:role/service-role/Exec"
	etlARN  = "arn:aws:iam::111122223333:role/etl"
)

// role returns a caller in a session of the execution role.
func role(session, key string, created int64) calls.Caller {
	return calls.Caller{Type: "AssumedRole", Principal: "AROAEXECEXAMPLE:" + session, Key: key, Created: created, Issuer: execARN}
}

func machine(key string) calls.Caller { return role("SageMaker", key, 0) }

func etl(session, key string, created int64) calls.Caller {
	return calls.Caller{Type: "AssumedRole", Principal: "AROAETLEXAMPLE:" + session, Key: key, Created: created, Issuer: etlARN}
}

func user(name string) calls.Caller {
	return calls.Caller{Type: "IAMUser", User: name, Key: "AKIA" + name + "EXAMPLE"}
}

// by returns the caller with a source identity.
func by(c calls.Caller, source string) calls.Caller {
	c.Source = source
	return c
}

// forwarded returns the caller as records show it when a service calls on for it.
func forwarded(c calls.Caller) calls.Caller {
	c.Key, c.InvokedBy = "ASIAFRESHEXAMPLE", "athena.amazonaws.com"
	return c
}

// issue is the execution role given to a caller under a name.
func issue(at int64, from calls.Caller, name, key, source string) evidence.Issue {
	return evidence.Issue{
		At: at, Key: key, Role: execARN, Session: name, Unique: "AROAEXECEXAMPLE:" + name, Source: source, Address: "10.0.0.1", Caller: &from, ID: "issue " + key,
	}
}

func etlIssue(at int64, from calls.Caller, name, key, source string) evidence.Issue {
	i := issue(at, from, name, key, source)
	i.Role, i.Unique = etlARN, "AROAETLEXAMPLE:"+name
	return i
}

func at(i evidence.Issue, address string) evidence.Issue {
	i.Address = address
	return i
}

// often repeats an issue, a second apart.
func often(times int, i evidence.Issue) []evidence.Issue {
	all := make([]evidence.Issue, times)
	for n := range all {
		all[n] = i
		all[n].At += int64(n)
		all[n].Key += fmt.Sprint(n)
		all[n].ID += fmt.Sprint(n)
	}
	return all
}

func name(n string, rung Rung, confidence Confidence) Answer {
	return Answer{Name: n, Kind: Notebook, Rung: rung, Confidence: confidence}
}

func no(reason Reason) Answer { return Answer{Reason: reason} }

func TestWho(t *testing.T) {
	t.Parallel()
	service := calls.Caller{Type: "AWSService", InvokedBy: "sagemaker.amazonaws.com"}
	alice := issue(100, machine("BASE-A"), "alice-nb", "KEY-A", "alice-nb")
	script := issue(100, machine("BASE-S"), "sam-nb", "KEY-S", "")
	tests := map[string]struct {
		issues []evidence.Issue
		caller calls.Caller
		want   Answer
	}{
		"a user":          {nil, user("ops"), Answer{Name: "ops", Kind: User, Rung: RungPrincipal, Confidence: High}},
		"root":            {nil, calls.Caller{Type: "Root", Account: "111122223333"}, Answer{Name: "root of 111122223333", Kind: User, Rung: RungPrincipal, Confidence: High}},
		"a service":       {nil, service, Answer{Name: "sagemaker.amazonaws.com", Kind: Service, Rung: RungPrincipal, Confidence: High}},
		"no type":         {nil, calls.Caller{Account: "1", InvokedBy: "kms.amazonaws.com"}, Answer{Name: "kms.amazonaws.com", Kind: Service, Rung: RungPrincipal, Confidence: High}},
		"Identity Center": {nil, calls.Caller{Type: "IdentityCenterUser", Person: "u-1"}, Answer{Name: "u-1", Kind: User, Rung: RungPrincipal, Confidence: High}},
		"federated":       {nil, calls.Caller{Type: "FederatedUser", ARN: "arn:aws:sts::111122223333:federated-user/fred"}, Answer{Name: "fred", Kind: User, Rung: RungPrincipal, Confidence: High}},
		"stranger":        {nil, calls.Caller{Type: "AWSAccount", Principal: "AIDAEXAMPLE"}, no(OtherAccount)},
		"nobody":          {nil, calls.Caller{}, no(NoCaller)},

		"source identity":                    {nil, by(role("x", "K", 5), "alice-nb"), name("alice-nb", RungSource, High)},
		"Lake Formation's is none":           {nil, by(role("SageMaker", "K", 5), "V2.111122223333.AROAEXAMPLE"), no(NoIssue)},
		"nearly Lake Formation's":            {nil, by(role("SageMaker", "K", 5), "V2.me"), name("V2.me", RungSource, High)},
		"key of a sourced session":           {[]evidence.Issue{alice}, role("alice-nb", "KEY-A", 100), name("alice-nb", RungKey, High)},
		"key of a named session":             {[]evidence.Issue{script}, role("sam-nb", "KEY-S", 100), name("sam-nb", RungKey, Medium)},
		"session and second, forwarded":      {[]evidence.Issue{alice}, forwarded(role("alice-nb", "", 100)), name("alice-nb", RungStart, High)},
		"session and second, no key":         {[]evidence.Issue{alice}, role("alice-nb", "", 100), name("alice-nb", RungStart, High)},
		"same session, another key":          {[]evidence.Issue{alice}, role("alice-nb", "OTHER", 100), name("alice-nb", RungSessionName, Medium)},
		"same session, another second":       {[]evidence.Issue{alice}, forwarded(role("alice-nb", "", 101)), name("alice-nb", RungSessionName, Medium)},
		"a name nothing vouches for":         {nil, role("who-nb", "K", 5), Answer{Reason: UnknownName, Candidates: []string{"who-nb"}}},
		"a session of a notebook's role":     {[]evidence.Issue{alice}, role("carol-nb", "K", 5), name("carol-nb", RungSessionName, Low)},
		"another role's session":             {[]evidence.Issue{alice}, etl("carol-nb", "K", 5), Answer{Reason: UnknownName, Candidates: []string{"carol-nb"}}},
		"SDK's session name":                 {nil, etl("botocore-session-1688990082", "K", 5), no(NoIssue)},
		"Go SDK's session name":              {nil, etl("aws-go-sdk-1688990082523310002", "K", 5), no(NoIssue)},
		"a name that begins like an SDK's":   {[]evidence.Issue{issue(1, machine("B"), "botocore-session-x", "K", "")}, role("botocore-session-x", "K", 1), name("botocore-session-x", RungKey, Medium)},
		"instance":                           {nil, etl("i-0dbc91f429e48eeed", "K", 5), no(NoIssue)},
		"a notebook called i-team":           {[]evidence.Issue{issue(1, machine("B"), "i-team", "K", "")}, role("i-team", "K", 1), name("i-team", RungKey, Medium)},
		"Glue":                               {nil, etl("GlueJobRunnerSession", "K", 5), no(NoIssue)},
		"Lake Formation session":             {nil, etl("AWSLF-00-AT-1-x", "K", 5), no(NoGrant)},
		"a stranger's role, known name":      {[]evidence.Issue{alice}, calls.Caller{Type: "AWSAccount", Principal: "AROASTRANGER:alice-nb"}, Answer{Reason: UnknownName, Candidates: []string{"alice-nb"}}},
		"another account's copy, known name": {[]evidence.Issue{alice}, calls.Caller{Type: "AWSAccount", Principal: "AROAEXECEXAMPLE:alice-nb"}, name("alice-nb", RungSessionName, Medium)},

		"bypass": {[]evidence.Issue{alice}, machine("BASE-A"), Answer{Name: "alice-nb", Kind: Notebook, Rung: RungBaseKey, Confidence: High, Escape: Bypass}},
		"bypass, by session name only": {
			[]evidence.Issue{script}, machine("BASE-S"), Answer{Name: "sam-nb", Kind: Notebook, Rung: RungBaseKey, Confidence: Medium, Escape: Bypass},
		},
		"bypass, issue of the base known": {
			[]evidence.Issue{issue(50, service, "SageMaker", "BASE-A", ""), alice}, machine("BASE-A"), Answer{Name: "alice-nb", Kind: Notebook, Rung: RungBaseKey, Confidence: High, Escape: Bypass},
		},
		"bypass to another role": {
			[]evidence.Issue{alice, etlIssue(200, machine("BASE-A"), "etl-run", "KEY-E", "")}, etl("etl-run", "KEY-E", 200),
			Answer{Name: "alice-nb", Kind: Notebook, Rung: RungBaseKey, Confidence: High, Escape: Bypass},
		},
		"base that claims nothing":       {[]evidence.Issue{alice}, machine("BASE-X"), Answer{Reason: NoClaim, Escape: Possible}},
		"base of a role of no notebook":  {nil, machine("BASE-X"), no(NoIssue)},
		"base with an issue, no claim":   {[]evidence.Issue{issue(50, service, "SageMaker", "BASE-X", "")}, machine("BASE-X"), Answer{Reason: NoClaim, Escape: Possible}},
		"base that works on, no claim":   {[]evidence.Issue{etlIssue(200, machine("BASE-X"), "etl-run", "KEY-E", "")}, etl("etl-run", "KEY-E", 200), Answer{Reason: NoClaim, Escape: Possible}},
		"generic claim of the role":      {[]evidence.Issue{issue(1, machine("BASE-X"), "botocore-session-1", "K", "")}, role("botocore-session-1", "K", 1), Answer{Reason: NoClaim, Escape: Possible}},
		"Studio's own source identity":   {[]evidence.Issue{issue(50, service, "SageMaker", "BASE-D", "dora")}, forwarded(role("SageMaker", "", 50)), name("dora", RungStart, High)},
		"a job with a source identity":   {[]evidence.Issue{issue(50, service, "SageMaker", "JOB", "dora")}, role("SageMaker", "JOB", 50), name("dora", RungKey, High)},
		"a service's own session":        {[]evidence.Issue{etlIssue(50, calls.Caller{Type: "AWSService", InvokedBy: "rds.amazonaws.com"}, "SLRManagement", "K", "")}, etl("SLRManagement", "", 50), Answer{Name: "rds.amazonaws.com", Kind: Service, Rung: RungStart, Confidence: High}},
		"a user's session":               {[]evidence.Issue{etlIssue(5, user("ops"), "aws-go-sdk-5", "K", "")}, etl("aws-go-sdk-5", "K", 5), Answer{Name: "ops", Kind: User, Rung: RungKey, Confidence: High}},
		"a user speaking for another":    {[]evidence.Issue{etlIssue(5, user("ops"), "x", "K", "jane")}, etl("x", "K", 5), name("jane", RungKey, High)},
		"chain, source identity at last": {[]evidence.Issue{etlIssue(5, role("SageMaker", "K0", 1), "x", "K1", ""), etlIssue(6, etl("x", "K1", 5), "y", "K2", "jane")}, etl("y", "K2", 6), name("jane", RungKey, High)},
		"chain of three": {
			[]evidence.Issue{script, etlIssue(200, role("sam-nb", "KEY-S", 100), "etl-run", "K1", ""), etlIssue(300, etl("etl-run", "K1", 200), "botocore-session-1", "K2", ""), etlIssue(400, etl("botocore-session-1", "K2", 300), "deep", "K3", "")},
			etl("deep", "K3", 400), name("sam-nb", RungKey, Medium),
		},
		"chain whose first step is missing": {
			[]evidence.Issue{etlIssue(300, etl("etl-run", "K1", 200), "botocore-session-1", "K2", "")}, etl("botocore-session-1", "K2", 300), Answer{Reason: UnknownName, Candidates: []string{"etl-run"}},
		},
		"chain from a session that carries it": {
			[]evidence.Issue{etlIssue(300, by(etl("etl-run", "K1", 200), "alice-nb"), "botocore-session-1", "K2", "")}, etl("botocore-session-1", "K2", 300), name("alice-nb", RungKey, High),
		},
		"keys that issue each other": {
			[]evidence.Issue{etlIssue(1, etl("a", "K1", 2), "a", "K2", ""), etlIssue(2, etl("a", "K2", 1), "a", "K1", "")}, etl("a", "K1", 2), no(CircularChain),
		},
		"a key that issued itself": {[]evidence.Issue{etlIssue(1, etl("a", "K1", 1), "a", "K1", "")}, etl("a", "K1", 1), no(CircularChain)},
		"two at once":              {[]evidence.Issue{etlIssue(9, role("alice-nb", "KEY-A", 100), "job", "K1", ""), etlIssue(9, role("sam-nb", "KEY-S", 100), "job", "K2", ""), alice, script}, etl("job", "", 9), no(Ambiguous)},
		"two at once of one name":  {[]evidence.Issue{etlIssue(9, role("alice-nb", "KEY-A", 100), "job", "K1", ""), etlIssue(9, role("alice-nb", "KEY-A", 100), "job", "K2", ""), alice}, etl("job", "", 9), name("alice-nb", RungStart, High)},
	}
	for label, test := range tests {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			e := &evidence.Evidence{Issues: test.issues, Sources: map[string]bool{}}
			got := NewIndex(e, Config{}).Who(&calls.Call{Caller: &test.caller, Time: 1000})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestForgeries(t *testing.T) {
	t.Parallel()
	const alices, bobs, gateway = "10.0.0.1", "10.0.0.2", "198.51.100.1"
	// Both notebooks as they should be: credentials of two days each.
	honest := func(address func(string) string) []evidence.Issue {
		var issues []evidence.Issue
		for day := range int64(2) {
			for hour := range int64(10) {
				when := day*86400 + hour*1800
				issues = append(issues,
					at(issue(when, machine(fmt.Sprint("BASE-A", day)), "alice-nb", fmt.Sprintf("KEY-A%d-%d", day, hour), "alice-nb"), address(alices)),
					at(issue(when+1, machine(fmt.Sprint("BASE-B", day)), "bob-nb", fmt.Sprintf("KEY-B%d-%d", day, hour), "bob-nb"), address(bobs)))
			}
		}
		return issues
	}
	own := func(a string) string { return a }
	shared := func(string) string { return gateway }
	disputed := Answer{Reason: Disputed, Candidates: []string{"alice-nb", "bob-nb"}, Claimed: "alice-nb"}
	const now = 2 * 86400
	tests := map[string]struct {
		issues []evidence.Issue
		caller calls.Caller
		want   Answer
		alarms []ConflictKind
	}{
		"nothing wrong": {honest(own), by(role("alice-nb", "KEY-A1-3", 1), "alice-nb"), name("alice-nb", RungSource, High), nil},
		"two names, the address tells": {
			append(honest(own), at(issue(86400+99, machine("BASE-B1"), "alice-nb", "FORGED", "alice-nb"), bobs)), by(role("alice-nb", "FORGED", 1), "alice-nb"),
			Answer{Name: "bob-nb", Kind: Notebook, Rung: RungBaseKey, Confidence: Low, Claimed: "alice-nb"}, []ConflictKind{TwoNames},
		},
		"two names, the owner's sessions": {
			append(honest(own), at(issue(86400+99, machine("BASE-B1"), "alice-nb", "FORGED", "alice-nb"), bobs)), by(role("bob-nb", "KEY-B1-3", 1), "bob-nb"),
			name("bob-nb", RungKey, Medium), []ConflictKind{TwoNames},
		},
		"two names, the victim's sessions": {
			append(honest(own), at(issue(86400+99, machine("BASE-B1"), "alice-nb", "FORGED", "alice-nb"), bobs)), by(role("alice-nb", "KEY-A1-3", 1), "alice-nb"),
			name("alice-nb", RungSource, High), []ConflictKind{TwoNames},
		},
		"two names behind one address": {
			append(honest(shared), at(issue(86400+99, machine("BASE-B1"), "alice-nb", "FORGED", "alice-nb"), gateway)), by(role("alice-nb", "FORGED", 1), "alice-nb"),
			disputed, []ConflictKind{TwoNames},
		},
		"two names, nothing else known": {
			[]evidence.Issue{at(issue(1, machine("B"), "alice-nb", "K1", ""), bobs), at(issue(2, machine("B"), "bob-nb", "K2", ""), bobs)}, role("alice-nb", "K1", 1),
			disputed, []ConflictKind{TwoNames},
		},
		"direct call of disputed credentials": {
			[]evidence.Issue{at(issue(1, machine("B"), "alice-nb", "K1", ""), bobs), at(issue(2, machine("B"), "bob-nb", "K2", ""), bobs)}, machine("B"),
			Answer{Reason: Disputed, Candidates: []string{"alice-nb", "bob-nb"}, Escape: Bypass}, []ConflictKind{TwoNames},
		},
		"from another's address": {
			append(honest(own), at(issue(86400+3600, machine("THIEF"), "alice-nb", "STOLEN", "alice-nb"), bobs)), by(role("alice-nb", "STOLEN", 1), "alice-nb"),
			disputed, []ConflictKind{OtherAddress},
		},
		"from another's address, more often than anywhere": {
			append(honest(own), often(50, at(issue(86400+3600, machine("THIEF"), "alice-nb", "STOLEN", "alice-nb"), bobs))...), by(role("alice-nb", "STOLEN0", 1), "alice-nb"),
			disputed, []ConflictKind{OtherAddress},
		},
		"two names, at an address long given up": {
			append(honest(own), at(issue(9*86400, machine("BASE-S"), "sam-nb", "KEY-S", "sam-nb"), alices), at(issue(9*86400+60, machine("BASE-S"), "alice-nb", "FORGED", "alice-nb"), alices)),
			by(role("sam-nb", "KEY-S", 1), "sam-nb"),
			Answer{Reason: Disputed, Candidates: []string{"alice-nb", "sam-nb"}, Claimed: "sam-nb"}, []ConflictKind{TwoNames},
		},
		"from an address long given up": {
			append(honest(own), at(issue(now+86400, machine("LATER"), "alice-nb", "MOVED", "alice-nb"), bobs)), by(role("alice-nb", "MOVED", 1), "alice-nb"),
			name("alice-nb", RungSource, High), nil,
		},
		"from a new address": {
			append(honest(own), at(issue(now, machine("LATER"), "alice-nb", "MOVED", "alice-nb"), "10.0.0.77")), by(role("alice-nb", "MOVED", 1), "alice-nb"),
			name("alice-nb", RungSource, High), nil,
		},
		"by a user": {
			append(honest(own), issue(now, user("mallory"), "alice-nb", "FAKE", "alice-nb")), by(role("alice-nb", "FAKE", now), "alice-nb"),
			Answer{Name: "mallory", Kind: User, Rung: RungKey, Confidence: Medium, Claimed: "alice-nb"}, []ConflictKind{Impersonation},
		},
		"by a user, as session name": {
			append(honest(own), issue(now, user("mallory"), "alice-nb", "FAKE", "")), role("alice-nb", "FAKE", now),
			Answer{Name: "mallory", Kind: User, Rung: RungKey, Confidence: Medium, Claimed: "alice-nb"}, []ConflictKind{Impersonation},
		},
		"by a session of another notebook": {
			append(honest(own), issue(now, machine("BASE-S"), "sam-nb", "KEY-S", ""), issue(now+1, role("sam-nb", "KEY-S", now), "alice-nb", "FAKE", "alice-nb")), by(role("alice-nb", "FAKE", now+1), "alice-nb"),
			Answer{Name: "sam-nb", Kind: Notebook, Rung: RungKey, Confidence: Medium, Claimed: "alice-nb"}, []ConflictKind{ChangedName},
		},
		"by base credentials that claimed none, by way of another role": {
			append(honest(own), at(etlIssue(now, machine("BASE-M"), "step", "KEY-M", ""), bobs), at(issue(now+1, etl("step", "KEY-M", now), "alice-nb", "FAKE", "alice-nb"), bobs)), by(role("alice-nb", "FAKE", now+1), "alice-nb"),
			Answer{Reason: Disputed, Candidates: []string{"alice-nb"}, Claimed: "alice-nb", Escape: Possible}, []ConflictKind{Impersonation},
		},
		"by a user of another account": {
			append(honest(own), issue(now, calls.Caller{Type: "AWSAccount", Principal: "AIDASTRANGER"}, "alice-nb", "FAKE", "alice-nb")), by(role("alice-nb", "FAKE", now), "alice-nb"),
			Answer{Reason: Disputed, Candidates: []string{"alice-nb"}, Claimed: "alice-nb"}, []ConflictKind{Impersonation},
		},
		"by a session that calls itself SageMaker": {
			append(honest(own), issue(now, machine("BASE-S"), "sam-nb", "KEY-S", ""), issue(now+1, role("sam-nb", "KEY-S", now), "SageMaker", "FAKE", ""), issue(now+2, role("SageMaker", "FAKE", now+1), "alice-nb", "FAKE2", "")),
			role("alice-nb", "FAKE2", now+2), Answer{Name: "sam-nb", Kind: Notebook, Rung: RungKey, Confidence: Medium, Claimed: "alice-nb"}, []ConflictKind{ChangedName},
		},
	}
	for label, test := range tests {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			e := &evidence.Evidence{Issues: test.issues, Sources: map[string]bool{}}
			for range 5 { // in any order
				rand.Shuffle(len(e.Issues), func(i, j int) { e.Issues[i], e.Issues[j] = e.Issues[j], e.Issues[i] })
				x := NewIndex(e, Config{})
				got := x.Who(&calls.Call{Caller: &test.caller, Time: now})
				if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(Answer{}, "Conflict")); diff != "" {
					t.Fatalf("(-want +got):\n%s", diff)
				}
				var alarms []ConflictKind
				for _, c := range x.Conflicts() {
					alarms = append(alarms, c.Kind)
				}
				if diff := cmp.Diff(test.alarms, alarms); diff != "" {
					t.Fatalf("alarms (-want +got):\n%s", diff)
				}
				if got.Conflict == nil && (got.Claimed != "" || got.Reason == Disputed) {
					t.Errorf("no conflict goes with %+v", got)
				}
			}
		})
	}
}

func TestConflictsInWords(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		conflict Conflict
		want     string
	}{
		{Conflict{Kind: TwoNames, Names: []string{"a", "b"}}, "one base key claimed the names a and b"},
		{Conflict{Kind: TwoNames, Names: []string{"a", "b"}, Owner: "b"}, "one base key claimed the names a and b; by its address it is b's"},
		{Conflict{Kind: OtherAddress, Names: []string{"a"}, Owner: "b"}, "a was claimed from an address that is b's"},
		{Conflict{Kind: Impersonation, Names: []string{"a"}, Owner: "ops"}, "the notebook name a was claimed by ops, which is no notebook"},
		{Conflict{Kind: Impersonation, Names: []string{"a"}}, "the notebook name a was claimed by somebody who showed no name before: base credentials by way of another role, or a user of another account"},
		{Conflict{Kind: ChangedName, Names: []string{"a"}, Owner: "b"}, "a session of b claimed the name a"},
	} {
		if got := test.conflict.Text(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestEscapesAreNotTheDaemonsCalls(t *testing.T) {
	t.Parallel()
	claim := issue(100, machine("B"), "alice-nb", "K", "alice-nb")
	x := NewIndex(&evidence.Evidence{Issues: []evidence.Issue{claim}}, Config{})
	for _, test := range []struct {
		call calls.Call
		want Escape
	}{
		{calls.Call{Service: "sts.amazonaws.com", Action: "AssumeRole", ID: claim.ID}, NoEscape},
		{calls.Call{Service: "sts.amazonaws.com", Action: "AssumeRole", ID: "another"}, Bypass},
		{calls.Call{Service: "sts.amazonaws.com", Action: "AssumeRole", ID: "refused", Error: "AccessDenied"}, NoEscape},
		{calls.Call{Service: "sagemaker.amazonaws.com", Action: "DescribeSpace"}, NoEscape},
		{calls.Call{Service: "sagemaker.amazonaws.com", Action: "DeleteSpace"}, Bypass},
		{calls.Call{Service: "s3.amazonaws.com", Action: "GetObject"}, Bypass},
	} {
		test.call.Caller = new(machine("B"))
		if got := x.Who(&test.call); got.Escape != test.want || got.Name != "alice-nb" {
			t.Errorf("%s %s: %+v", test.call.Action, test.call.ID, got)
		}
	}
}

// TestStartUp tells what an instance's start-up script calls before the daemon is there
// from a bypass. Only somebody's starting the instance makes the difference.
func TestStartUp(t *testing.T) {
	t.Parallel()
	const began, created, ready = 1000, 1100, 1400
	machine := func(key string, created int64) calls.Caller {
		c := role("SageMaker", key, created)
		c.Account = "111122223333"
		return c
	}
	claim := func(at int64, from calls.Caller, name string) evidence.Issue {
		i := issue(at, from, name, fmt.Sprint("KEY-", name, at), name)
		i.Region = "us-east-1"
		return i
	}
	start := evidence.Start{At: began, Name: "alice-nb", Account: "111122223333", Region: "us-east-1"}
	alice := claim(ready, machine("B", created), "alice-nb")
	elsewhere, abroad, bobs := start, start, start
	elsewhere.Region, abroad.Account, bobs.Name = "eu-west-1", "444455556666", "bob-nb"
	for name, test := range map[string]struct {
		starts []evidence.Start
		issues []evidence.Issue
		at     int64
		want   Escape
	}{
		"the script's":                           {[]evidence.Start{start}, []evidence.Issue{alice}, ready - 1, StartUp},
		"as early as it may run":                 {[]evidence.Start{start}, []evidence.Issue{alice}, ready - scriptLimit, StartUp},
		"before a script may run":                {[]evidence.Start{start}, []evidence.Issue{alice}, ready - scriptLimit - 1, Bypass},
		"in the second of the claim":             {[]evidence.Start{start}, []evidence.Issue{alice}, ready, Bypass},
		"later":                                  {[]evidence.Start{start}, []evidence.Issue{alice}, ready + 1, Bypass},
		"nobody started it":                      {nil, []evidence.Issue{alice}, ready - 1, Bypass},
		"started in another region":              {[]evidence.Start{elsewhere}, []evidence.Issue{alice}, ready - 1, Bypass},
		"started in another account":             {[]evidence.Start{abroad}, []evidence.Issue{alice}, ready - 1, Bypass},
		"another was started":                    {[]evidence.Start{bobs}, []evidence.Issue{alice}, ready - 1, Bypass},
		"started twice":                          {[]evidence.Start{start, {At: began + 50, Name: "alice-nb", Account: "111122223333", Region: "us-east-1"}}, []evidence.Issue{alice}, ready - 1, StartUp},
		"new credentials while it runs":          {[]evidence.Start{start}, []evidence.Issue{claim(ready-200, machine("B0", began+10), "alice-nb"), alice}, ready - 1, Bypass},
		"credentials of before":                  {[]evidence.Start{start}, []evidence.Issue{claim(ready, machine("B", began-1), "alice-nb")}, ready - 1, Bypass},
		"claimed long after":                     {[]evidence.Start{start}, []evidence.Issue{claim(began+startLimit+1, machine("B", created), "alice-nb")}, began + startLimit, Bypass},
		"claimed as late as may be":              {[]evidence.Start{start}, []evidence.Issue{claim(began+startLimit, machine("B", created), "alice-nb")}, began + startLimit - 1, StartUp},
		"first claimed by credentials of before": {[]evidence.Start{start}, []evidence.Issue{claim(ready, machine("B0", began-1), "alice-nb"), claim(ready+9, machine("B", created), "alice-nb")}, ready - 1, Bypass},
		"first claimed by a forger":              {[]evidence.Start{start}, []evidence.Issue{claim(ready, machine("F", created), "alice-nb"), claim(ready+1, machine("F", created), "bob-nb"), claim(ready+9, machine("B", created), "alice-nb")}, ready - 1, Bypass},
		"two names":                              {[]evidence.Start{start, bobs}, []evidence.Issue{alice, claim(ready+9, machine("B", created), "bob-nb")}, ready - 1, Bypass},
	} {
		t.Run(name, func(t *testing.T) {
			from := *test.issues[len(test.issues)-1].Caller
			x := NewIndex(&evidence.Evidence{Issues: test.issues, Starts: test.starts}, Config{})
			got := x.Who(&calls.Call{Service: "s3.amazonaws.com", Action: "GetObject", Time: test.at, Caller: &from})
			if got.Escape != test.want || got.Name != "alice-nb" && got.Reason != Disputed {
				t.Errorf("%+v, want escape %q", got, test.want)
			}
			if asked := x.Asker().Who(&calls.Call{Service: "s3.amazonaws.com", Action: "GetObject", Time: test.at, Caller: &from}); !cmp.Equal(asked, got) {
				t.Errorf("an Asker says %+v", asked)
			}
		})
	}
}

func TestLakeFormation(t *testing.T) {
	t.Parallel()
	alice, bob := by(role("alice-nb", "KA", 1), "alice-nb"), by(role("bob-nb", "KB", 1), "bob-nb")
	generic := calls.Caller{Type: "AWSAccount", Principal: "AROAX:SageMaker"}
	e := &evidence.Evidence{
		Queries: []evidence.Query{{At: 1, Query: "q1", Caller: &alice, Text: "SELECT 1"}, {At: 9, Query: "q2", Caller: &bob}},
		Grants: []evidence.Grant{
			{At: 2, Query: "q1", Session: "AWSLF-1", Caller: &generic, ID: "g1", Table: "t1"},
			{At: 3, Session: "AWSLF-2", Caller: &bob, ID: "g2"},
			{At: 4, Query: "q1", Session: "AWSLF-3", Caller: &alice, ID: "g3", Table: "t2"},
			{At: 5, Query: "q2", Session: "AWSLF-3", Caller: &bob, ID: "g4"},
			{At: 6, Query: "gone", Session: "AWSLF-4", Caller: &generic, ID: "g5"},
			{At: 7, Query: "q1", Session: "AWSLF-6", Caller: &alice, ID: "g6"},
		},
	}
	service := calls.Caller{Type: "AWSService", InvokedBy: "lakeformation.amazonaws.com"}
	for _, session := range []string{"AWSLF-6", "AWSLF-7"} { // of which the AssumeRole is in the trail, too
		e.Issues = append(e.Issues, etlIssue(5, service, session, "K"+session, "V2.111122223333.AROAEXAMPLE"))
	}
	x := NewIndex(e, Config{})
	lake := func(session string) calls.Caller {
		return by(calls.Caller{Type: "AssumedRole", Principal: "AROALAKE:" + session, Key: "K" + session, Created: 5}, "V2.111122223333.AROAEXAMPLE")
	}
	for label, test := range map[string]struct {
		call calls.Call
		want Answer
	}{
		"by the query":            {calls.Call{Caller: new(lake("AWSLF-1"))}, name("alice-nb", RungLakeFormation, High)},
		"by the caller":           {calls.Call{Caller: new(lake("AWSLF-2"))}, name("bob-nb", RungLakeFormation, High)},
		"of two":                  {calls.Call{Caller: new(lake("AWSLF-3"))}, Answer{Reason: Ambiguous, Candidates: []string{"alice-nb", "bob-nb"}}},
		"of a query not seen":     {calls.Call{Caller: new(lake("AWSLF-4"))}, no(NoIssue)},
		"of a grant not seen":     {calls.Call{Caller: new(lake("AWSLF-5"))}, no(NoGrant)},
		"whose issue is known":    {calls.Call{Caller: new(lake("AWSLF-6"))}, name("alice-nb", RungLakeFormation, High)},
		"without its grant":       {calls.Call{Caller: new(lake("AWSLF-7"))}, no(NoGrant)},
		"the grant itself":        {calls.Call{ID: "g1", Caller: &generic}, name("alice-nb", RungLakeFormation, High)},
		"a grant that names some": {calls.Call{ID: "g4", Caller: &bob}, name("bob-nb", RungSource, High)},
	} {
		if diff := cmp.Diff(test.want, x.Who(&test.call)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", label, diff)
		}
	}
	var got []string
	for _, q := range x.Queries() {
		got = append(got, fmt.Sprintf("%s %s %d", q.Query.Query, q.Answer.Name, len(q.Grants)))
	}
	if diff := cmp.Diff([]string{"q2 bob-nb 1", "gone  1", " bob-nb 1", "q1 alice-nb 3"}, got); diff != "" {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	alice, bob := by(role("alice-nb", "KA", 1), "alice-nb"), by(role("bob-nb", "KB", 1), "bob-nb")
	service := calls.Caller{Type: "AWSService", InvokedBy: "sagemaker.amazonaws.com"}
	e := &evidence.Evidence{
		Issues: []evidence.Issue{issue(5, service, "SageMaker", "JOB1", ""), issue(6, service, "SageMaker", "JOB2", ""), issue(7, service, "SageMaker", "JOB3", "")},
		Jobs: []evidence.Job{
			{Kind: "training", Name: "t1", ARN: "arn:t1", Caller: &alice},
			{Kind: "training", Name: "twice", Caller: &alice}, {Kind: "processing", Name: "twice", Caller: &bob},
			{Kind: "training", Name: "again", Caller: &alice}, {Kind: "training", Name: "again", Caller: new(alice)}, // read by two goroutines
		},
		Streams: []evidence.Stream{{Key: "JOB3", Job: "again"}, {Key: "JOB1", Job: "t1"}, {Key: "JOB2", Job: "twice"}, {Key: "JOB2", Job: "t1"}},
	}
	x := NewIndex(e, Config{})
	scoped := role("SageMaker", "JOB2", 6)
	scoped.Scope = "arn:t1"
	for label, test := range map[string]struct {
		caller calls.Caller
		want   Answer
	}{
		"by the scope":         {scoped, Answer{Name: "alice-nb", Kind: Notebook, Rung: RungJob, Confidence: High, Job: "training t1", StartedBy: "alice-nb"}},
		"a hint":               {role("SageMaker", "JOB1", 5), Answer{Reason: NoClaim, Escape: Possible, Job: "training t1", StartedBy: "alice-nb"}},
		"a hint to one of two": {role("SageMaker", "JOB3", 7), Answer{Reason: NoClaim, Escape: Possible, Job: "training again", StartedBy: "alice-nb"}},
		"hints that disagree":  {role("SageMaker", "JOB2", 6), Answer{Reason: NoClaim, Escape: Possible}},
	} {
		if diff := cmp.Diff(test.want, x.Who(&calls.Call{Caller: &test.caller})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", label, diff)
		}
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	e := &evidence.Evidence{Issues: []evidence.Issue{
		issue(100, machine("BASE-A"), "alice-nb", "KEY-A", "alice-nb"),
		issue(100, calls.Caller{Type: "AWSService", InvokedBy: "sagemaker.amazonaws.com"}, "SageMaker", "BASE-B", ""),
		issue(150, machine("BASE-B"), "bob-nb", "KEY-B", ""),
		etlIssue(200, role("alice-nb", "KEY-A", 100), "etl-run", "K1", ""), etlIssue(300, etl("etl-run", "K1", 200), "deep", "K2", ""),
		issue(500, machine("BASE-A"), "alice-nb", "KEY-A2", "alice-nb"), etlIssue(50, user("ops"), "x", "K3", ""),
		etlIssue(1, etl("a", "K5", 2), "a", "K6", ""), etlIssue(2, etl("a", "K6", 1), "a", "K5", ""),
	}}
	var got []string
	var walk func(indent string, nodes []*Node)
	walk = func(indent string, nodes []*Node) {
		for _, n := range nodes {
			got = append(got, fmt.Sprintf("%s%s %s %s", indent, n.Key, n.Session, n.Answer.Name))
			walk(indent+"  ", n.Children)
		}
	}
	walk("", NewIndex(e, Config{}).Tree())
	want := []string{
		"BASE-A SageMaker alice-nb", "  KEY-A alice-nb alice-nb", "    K1 etl-run alice-nb", "      K2 deep alice-nb", "  KEY-A2 alice-nb alice-nb",
		"BASE-B SageMaker bob-nb", "  KEY-B bob-nb bob-nb",
		"AKIAopsEXAMPLE ops ops", "  K3 x ops",
		"K6 a ", "  K5 a ", "K5 a ", "  K6 a ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLongChain follows a chain that somebody made as long as they could: its length is
// neither a depth of the stack nor one of what is shown, and is not walked again for
// each of its sessions. Not parallel, for it limits all stacks.
func TestLongChain(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(2 << 20))
	const length = 40_000
	issues := []evidence.Issue{issue(1, user("mallory"), "step", "KEY0", "")}
	for i := 1; i < length; i++ {
		issues = append(issues, issue(int64(i+1), role("step", fmt.Sprint("KEY", i-1), int64(i)), "step", fmt.Sprint("KEY", i), ""))
	}
	slices.Reverse(issues) // a wrong clock is enough
	x := NewIndex(&evidence.Evidence{Issues: issues}, Config{})
	if got := x.Who(&calls.Call{Caller: new(role("step", fmt.Sprint("KEY", length-1), length))}); got.Name != "mallory" {
		t.Errorf("%+v", got)
	}
	issued, deep := 0, 0
	var walk func(depth int, nodes []*Node)
	walk = func(depth int, nodes []*Node) {
		deep = max(deep, depth)
		for _, n := range nodes {
			if n.At != 0 {
				issued++
			}
			walk(depth+1, n.Children)
		}
	}
	walk(0, x.Tree())
	if issued != length || deep > deepest+1 {
		t.Errorf("%d sessions, at most %d deep", issued, deep)
	}
}

func TestOpeners(t *testing.T) {
	t.Parallel()
	ann, ben := user("ann"), user("ben")
	e := &evidence.Evidence{Openings: []evidence.Opening{{At: 10, Name: "alice-nb", Caller: &ann}, {At: 20, Name: "alice-nb", Caller: &ben}}}
	x := NewIndex(e, Config{})
	for when, want := range map[int64]string{9: "", 10: "ann", 19: "ann", 20: "ben", 1000: "ben"} {
		if got := x.Who(&calls.Call{Time: when, Caller: new(by(role("x", "K", 1), "alice-nb"))}); got.Opener != want {
			t.Errorf("at %d: opened by %q, want %q", when, got.Opener, want)
		}
	}
}

// TestOpenersOfNamesakes has notebooks of one name in two accounts and in two regions.
func TestOpenersOfNamesakes(t *testing.T) {
	t.Parallel()
	const own, other, third = "111122223333", "444455556666", "777788889999"
	ann, ben := user("ann"), user("ben")
	e := &evidence.Evidence{Openings: []evidence.Opening{
		{At: 10, Name: "alice-nb", Caller: &ann, Account: own, Region: "us-east-1"}, {At: 20, Name: "alice-nb", Caller: &ben, Account: other, Region: "us-east-1"},
		{At: 30, Name: "alice-nb", Caller: &ben, Account: own, Region: "eu-west-1"}, {At: 40, Name: "alice-nb", Caller: &ben, Account: own, Region: "us-east-1"},
	}}
	x := NewIndex(e, Config{})
	for _, test := range []struct {
		account string
		at      int64
		want    string
	}{{own, 25, "ann"}, {other, 25, "ben"}, {third, 25, ""}, {own, 35, ""}, {own, 45, "ben"}} {
		caller := by(role("x", "K", 1), "alice-nb")
		caller.Account = test.account
		if got := x.Who(&calls.Call{Time: test.at, Caller: &caller}); got.Opener != test.want {
			t.Errorf("at %d in %s: opened by %q, want %q", test.at, test.account, got.Opener, test.want)
		}
	}
}

func TestCopiesOfOtherAccounts(t *testing.T) {
	t.Parallel()
	full := etlIssue(10, by(role("alice-nb", "KA", 1), "alice-nb"), "partner", "K", "")
	full.ID = "full"
	bare := full
	bare.Caller, bare.ID = &calls.Caller{Type: "AWSAccount", Principal: "AROAEXECEXAMPLE:alice-nb"}, "bare"
	for _, order := range [][]evidence.Issue{{full, bare}, {bare, full}} {
		x := NewIndex(&evidence.Evidence{Issues: order}, Config{})
		if got := x.Who(&calls.Call{Caller: new(etl("partner", "K", 10))}); got.Name != "alice-nb" || got.Confidence != High {
			t.Errorf("%+v", got)
		}
		if x.IsCopy(&calls.Call{ID: "full"}) || !x.IsCopy(&calls.Call{ID: "bare"}) {
			t.Error("the wrong copy was dropped")
		}
	}
}

// TestRecordsWithoutAnEventID sees that one that is a copy, or a claim, does not speak
// for all others that have no ID either.
func TestRecordsWithoutAnEventID(t *testing.T) {
	t.Parallel()
	claim := issue(10, machine("B"), "alice-nb", "K", "alice-nb")
	claim.ID = ""
	x := NewIndex(&evidence.Evidence{Issues: []evidence.Issue{claim, claim}}, Config{})
	call := calls.Call{Service: "sts.amazonaws.com", Action: "AssumeRole", Caller: new(machine("B"))}
	if x.IsCopy(&call) {
		t.Error("every call without an ID is taken for a copy, and left out")
	}
	if got := x.Who(&call); got.Escape != Bypass {
		t.Errorf("every AssumeRole without an ID is taken for the daemon's: %+v", got)
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	template, err := identity.ParseTemplate("{kind}.{name}")
	if err != nil {
		t.Fatal(err)
	}
	session, err := template.Format(identity.Subject{Kind: identity.KindNotebook, Name: "alice-nb"})
	if err != nil {
		t.Fatal(err)
	}
	x := NewIndex(&evidence.Evidence{Issues: []evidence.Issue{issue(1, machine("B"), session, "K", "")}}, Config{Template: template})
	if got := x.Who(&calls.Call{Caller: new(role(session, "K", 1))}); got.Name != "alice-nb" {
		t.Errorf("%q gave %+v", session, got)
	}
}

// TestPublicTrail counts what links the records of a real account, which the daemon
// never ran in.
func TestPublicTrail(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("NBIDENTITYD_TRAIL_DATA")
	if dir == "" {
		t.Skip("needs data: NBIDENTITYD_TRAIL_DATA names a directory with the records of invictus-ir/aws_dataset")
	}
	inputs, _, err := source.Find([]string{filepath.Join(dir, "CloudTrail")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	read, err := intake.Read(t.Context(), inputs, nil, intake.Config{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer read.Spool.Close()
	if s := read.Stats; s.Records != 2900 || s.Broken+s.Foreign+s.Failed+s.Duplicates != 0 {
		t.Errorf("%+v", s)
	}
	x := NewIndex(read.Evidence, Config{})
	sessions, byKey, byStart, second, named := 0, 0, 0, 0, 0
	for b := range read.Spool.Blocks() {
		err := read.Spool.Reader().Read(b, func(c *calls.Call) {
			if c.Caller.Type != "AssumedRole" {
				return
			}
			sessions++
			i, rung, _ := x.find(c.Caller)
			switch rung {
			case RungKey:
				byKey++
			case RungStart:
				byStart++
			}
			if i != none && x.sessions[i].At == c.Caller.Created {
				second++
			}
			if x.Who(c).Name != "" {
				named++
			}
		})
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	t.Logf("%d keys issued, %d role sessions named", len(x.sessions), named)
	if len(x.sessions) != 36 || sessions != 76 || byKey != 70 || byStart != 6 || second != 76 {
		t.Errorf("%d keys; of %d records %d link by key, %d by start, %d begin in the second of the AssumeRole; want 36, 76, 70, 6, 76", len(x.sessions), sessions, byKey, byStart, second)
	}
}
