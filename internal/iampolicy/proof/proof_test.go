package proof_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/iameval"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/proof"
)

func policy(t *testing.T, text string) iameval.Policy {
	t.Helper()
	d, err := iameval.ParseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return iameval.Policy{Name: "policy", Document: d}
}

const open = `{"Version":"2012-10-17","Statement":[
 {"Sid":"Open","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"]}]}`

// depends holds under one reading of sts:SetSourceIdentity's context only.
const depends = `{"Version":"2012-10-17","Statement":[
 {"Sid":"Depends","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"],
  "Condition":{"StringEquals":{"sts:RoleSessionName":"alice-nb"}}}]}`

func world(t *testing.T) proof.World {
	return proof.World{
		"open":    {ARN: "arn:aws:iam::111122223333:role/open", Trust: policy(t, open)},
		"depends": {ARN: "arn:aws:iam::111122223333:role/depends", Trust: policy(t, depends)},
		"worker":  {ARN: "arn:aws:iam::111122223333:role/p/worker", Works: true},
		"idle": {ARN: "arn:aws:iam::111122223333:role/idle", Policies: []iameval.Policy{policy(t,
			`{"Version":"2012-10-17","Statement":[{"Sid":"No","Effect":"Deny","Action":"s3:*","Resource":"*"}]}`)}},
		"broken": {ARN: "worker"},
	}
}

func assume(role, target string) proof.Try {
	return proof.Try{Caller: proof.Caller{Role: role}, Target: target, SessionName: "alice-nb", AsSource: "alice-nb"}
}

func TestRows(t *testing.T) {
	rows, err := world(t).Run([]proof.Case{
		{Kind: proof.Intended, What: "assume", Want: proof.Allowed, Try: []proof.Try{assume("worker", "open"), assume("worker", "open")}},
		{Kind: proof.Abuse, What: "assume without permission", Want: proof.Denied, Try: []proof.Try{assume("idle", "open")}},
		{Kind: proof.Abuse, What: "change the name", Want: proof.Denied, Try: []proof.Try{
			{Caller: proof.Caller{Role: "worker", Session: "bob-nb", SourceIdentity: "bob-nb"}, Target: "open", SessionName: "alice-nb", AsSource: "alice-nb"}}},
		{Kind: proof.Abuse, What: "read", Want: proof.Possible, Note: "why", Try: []proof.Try{{Caller: proof.Caller{Role: "worker"}, Action: "s3:GetObject", Resource: "*"}}},
		{Kind: proof.Pitfall, What: "read when idle", Want: proof.Denied, Try: []proof.Try{{Caller: proof.Caller{Role: "idle"}, Action: "s3:GetObject", Resource: "*"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []proof.Row{
		{Kind: proof.Intended, Result: proof.Allowed, What: "assume", Calls: 2},
		{Kind: proof.Abuse, Result: proof.Denied, What: "assume without permission", By: "by the identity policy, on sts:AssumeRole", Calls: 1},
		{Kind: proof.Abuse, Result: proof.Denied, What: "change the name", By: "by the source identity of the session, on sts:SetSourceIdentity", Calls: 1},
		{Kind: proof.Abuse, Result: proof.Possible, What: "read", Note: "why", Calls: 1},
		{Kind: proof.Pitfall, Result: proof.Denied, What: "read when idle", By: "by the identity policy, statement No", Calls: 1},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestFalseStatements(t *testing.T) {
	for _, test := range []struct {
		name string
		c    proof.Case
		want string
	}{
		{"denied although allowed", proof.Case{What: "x", Want: proof.Denied, Try: []proof.Try{assume("worker", "open")}}, "stated as denied: call 0 is allowed: true"},
		{"allowed although denied", proof.Case{What: "x", Want: proof.Allowed, Try: []proof.Try{assume("idle", "open")}}, "call 0 is allowed: false"},
		{"possible although denied", proof.Case{What: "x", Want: proof.Possible, Try: []proof.Try{assume("idle", "open")}}, "stated as POSSIBLE"},
		{"the second call differs", proof.Case{What: "x", Want: proof.Allowed, Try: []proof.Try{assume("worker", "open"), assume("idle", "open")}}, "call 1 is allowed: false"},
		{"allowed under one reading only", proof.Case{What: "x", Want: proof.Allowed, Try: []proof.Try{assume("worker", "depends")}}, "everywhere: false"},
		{"denied under one reading only", proof.Case{What: "x", Want: proof.Denied, Try: []proof.Try{assume("worker", "depends")}}, "everywhere: true"},
		{"nothing is tried", proof.Case{What: "x", Want: proof.Denied}, "nothing is tried"},
		{"no such caller", proof.Case{What: "x", Want: proof.Denied, Try: []proof.Try{assume("nobody", "open")}}, `no role "nobody"`},
		{"no such target", proof.Case{What: "x", Want: proof.Denied, Try: []proof.Try{assume("worker", "nothing")}}, `no role "nothing"`},
		{"no ARN", proof.Case{What: "x", Want: proof.Denied, Try: []proof.Try{assume("broken", "open")}}, "not an ARN"},
	} {
		if _, err := world(t).Run([]proof.Case{test.c}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}
