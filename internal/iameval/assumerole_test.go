package iameval

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	workRole = "arn:aws:iam::111122223333:role/WorkRole"
	launcher = "arn:aws:iam::111122223333:role/nb-launch/alice"
)

// call is an AssumeRole request with what nearly all tests share.
func call(caller Caller, target Role, name, sourceIdentity string) AssumeRoleRequest {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	caller.TokenIssued = now.Add(-time.Minute)
	return AssumeRoleRequest{Caller: caller, Target: target, SessionName: name, SourceIdentity: sourceIdentity, Region: "us-east-1", Time: now}
}

// expect checks which action, if any, was refused and by which side.
func expect(t *testing.T, r AssumeRoleRequest, action string, side Side, reason string) {
	t.Helper()
	d := AssumeRole(r)
	c, refused := d.Refusal()
	if refused != (side != SideNone) || refused == d.Allowed() || (refused && (c.Action != action || c.Refused != side)) {
		t.Errorf("refused %v: %s by %q, want %s by %q\n%+v", refused, c.Action, c.Refused, action, side, d)
	}
	if !strings.Contains(c.Reason, reason) {
		t.Errorf("reason %q does not say %q", c.Reason, reason)
	}
}

// TestSelfAssumption is mode A: the shared role assumes itself under a name
// that its trust policy lists.
func TestSelfAssumption(t *testing.T) {
	t.Parallel()
	exec := Role{ARN: role, Trust: Policy{"ExecRole trust", document(t, "self_trust")}}
	own := []Policy{{"ExecRole permissions", document(t, "self_permissions")}}
	bare := Caller{Principal: session(role, base), Policies: own}
	other := Caller{Principal: session("arn:aws:iam::111122223333:role/Other", "arn:aws:sts::111122223333:assumed-role/Other/x"), Policies: own}
	attributed := Caller{Principal: session(role, alice), SourceIdentity: "alice-nb", Policies: own}
	mallory := Caller{Principal: session(role, base), SourceIdentity: "mallory", Policies: own}
	noPath := bare
	noPath.RoleARN = "arn:aws:iam::111122223333:role/ExecRole"
	foreign := bare
	foreign.Principal = Principal{Account: "444455556666", RoleARN: strings.ReplaceAll(role, account, "444455556666"), SessionARN: strings.ReplaceAll(base, account, "444455556666")}
	powerless := bare
	powerless.Policies = nil
	for _, tt := range []struct {
		name   string
		r      AssumeRoleRequest
		action string
		side   Side
		reason string
	}{
		{"intended", call(bare, exec, "alice-nb", "alice-nb"), "", SideNone, ""},
		{"other session name", call(bare, exec, "bob-nb", "alice-nb"), ActionAssumeRole, SideTrust, `sts:RoleSessionName: the request has "bob-nb", expected "alice-nb"`},
		{"other source identity", call(bare, exec, "alice-nb", "bob-nb"), ActionAssumeRole, SideTrust, `sts:SourceIdentity: the request has "bob-nb"`},
		{"both names other", call(bare, exec, "bob-nb", "bob-nb"), ActionAssumeRole, SideTrust, "bob-nb"},
		{"letter case", call(bare, exec, "alice-nb", "Alice-nb"), ActionAssumeRole, SideTrust, "Alice-nb"},
		{"wildcard as name", call(bare, exec, "*", "*"), ActionAssumeRole, SideTrust, `"*"`},
		{"no source identity", call(bare, exec, "alice-nb", ""), ActionAssumeRole, SideTrust, "sts:SourceIdentity: the request has no such key"},
		{"other role", call(other, exec, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, "aws:PrincipalArn"},
		{"role of that name without the path", call(noPath, exec, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, "aws:PrincipalArn"},
		{"other account", call(foreign, exec, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, "Principal does not name"},
		{"attributed session renews itself", call(attributed, exec, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, "aws:SourceIdentity: expected the key to be absent"},
		{"attributed session renews itself silently", call(attributed, exec, "alice-nb", ""), ActionAssumeRole, SideTrust, "expected the key to be absent"},
		{"changed source identity", call(mallory, exec, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, "expected the key to be absent"},
		{"no identity policy", call(powerless, exec, "alice-nb", "alice-nb"), ActionAssumeRole, SideIdentity, "no statement allows sts:AssumeRole"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect(t, tt.r, tt.action, tt.side, tt.reason)
		})
	}
}

// TestSelfAssumptionWithTags serves per-notebook roles by one managed policy
// keyed on the tag of the role itself.
func TestSelfAssumptionWithTags(t *testing.T) {
	t.Parallel()
	exec := Role{ARN: role, Tags: map[string]string{"NbIdentity": "alice-nb"}, Trust: Policy{"trust", parse(t, `{"Statement":{"Effect":"Allow","Principal":{"AWS":"`+role+`"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"]}}`)}}
	bare := Caller{Principal: session(role, base), Tags: exec.Tags, Policies: []Policy{{"managed", parse(t, `{"Version":"2012-10-17","Statement":
	 {"Effect":"Allow","Action":["sts:AssumeRole","sts:SetSourceIdentity"],"Resource":"*","Condition":{"StringEquals":{"sts:SourceIdentity":"${aws:ResourceTag/nbidentity}"}}}}`)}}}
	expect(t, call(bare, exec, "alice-nb", "alice-nb"), "", SideNone, "")
	expect(t, call(bare, exec, "bob-nb", "bob-nb"), ActionSetSourceIdentity, SideIdentity, `expected "alice-nb"`)
	exec.Tags = nil
	expect(t, call(bare, exec, "alice-nb", "alice-nb"), ActionSetSourceIdentity, SideIdentity, "${aws:ResourceTag/nbidentity} has no value")
}

// TestLauncher is mode B: IAM checks the name against the launcher's tag.
func TestLauncher(t *testing.T) {
	t.Parallel()
	work := Role{ARN: workRole, Trust: Policy{"WorkRole trust", document(t, "work_trust")}}
	policies := []Policy{{"launcher", document(t, "launcher_permissions")}}
	tagged := func(roleARN, tag string) Caller {
		c := Caller{Principal: session(roleARN, "arn:aws:sts::111122223333:assumed-role/alice/SageMaker"), Policies: policies}
		if tag != "" {
			c.Tags = map[string]string{"nbidentity": tag}
		}
		return c
	}
	ok := tagged(launcher, "alice-nb")
	worker := Caller{Principal: session(workRole, "arn:aws:sts::111122223333:assumed-role/WorkRole/alice-nb"), Tags: ok.Tags, SourceIdentity: "alice-nb", Policies: policies}
	sticky := tagged(launcher, "alice-nb")
	sticky.SourceIdentity = "bob-nb"
	empty := tagged(launcher, "")
	empty.Tags = map[string]string{"nbidentity": ""}
	for _, tt := range []struct {
		name   string
		r      AssumeRoleRequest
		action string
		side   Side
		reason string
	}{
		{"intended", call(ok, work, "alice-nb", "alice-nb"), "", SideNone, ""},
		{"bob's launcher as bob", call(tagged("arn:aws:iam::111122223333:role/nb-launch/bob", "bob-nb"), work, "bob-nb", "bob-nb"), "", SideNone, ""},
		{"other source identity", call(ok, work, "alice-nb", "bob-nb"), ActionAssumeRole, SideTrust, `the request has "bob-nb", expected "alice-nb"`},
		{"other session name", call(ok, work, "bob-nb", "alice-nb"), ActionAssumeRole, SideTrust, `sts:RoleSessionName: the request has "bob-nb"`},
		{"no source identity", call(ok, work, "alice-nb", ""), ActionAssumeRole, SideTrust, "no such key"},
		{"tag absent", call(tagged(launcher, ""), work, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, "${aws:PrincipalTag/nbidentity} has no value"},
		{"tag absent and no names", call(tagged(launcher, ""), work, "", ""), ActionAssumeRole, SideTrust, "no such key"},
		{"tag empty and no names", call(empty, work, "", ""), ActionAssumeRole, SideTrust, "no such key"},
		{"role outside the path", call(tagged("arn:aws:iam::111122223333:role/alice", "alice-nb"), work, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, "aws:PrincipalArn"},
		{"role with the path in its name", call(tagged("arn:aws:iam::111122223333:role/x/nb-launch/alice", "alice-nb"), work, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, "aws:PrincipalArn"},
		{"attributed session renews itself", call(worker, work, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, ""},
		{"changed source identity", call(sticky, work, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, "expected the key to be absent"},
		{"another role than the work role", call(ok, Role{ARN: "arn:aws:iam::111122223333:role/Admin", Trust: work.Trust}, "alice-nb", "alice-nb"), ActionAssumeRole, SideIdentity, "does not cover"},
		{"the service cannot take the work role", call(Caller{Principal: Principal{Service: "sagemaker.amazonaws.com"}}, work, "alice-nb", "alice-nb"), ActionAssumeRole, SideTrust, "Principal does not name sagemaker.amazonaws.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect(t, tt.r, tt.action, tt.side, tt.reason)
		})
	}
	// Session tags could forge the principal tag, so passing them must fail.
	forged := call(ok, work, "alice-nb", "alice-nb")
	forged.Tags = map[string]string{"nbidentity": "bob-nb"}
	expect(t, forged, ActionTagSession, SideTrust, "no statement allows sts:TagSession")
	// A tag that the request itself carries is no principal tag.
	forged.SessionName, forged.SourceIdentity = "bob-nb", "bob-nb"
	expect(t, forged, ActionAssumeRole, SideTrust, `expected "alice-nb"`)
}

// TestServices: the service takes execution, launcher and job roles; a job
// that inherits a source identity needs sts:SetSourceIdentity in its trust.
func TestServices(t *testing.T) {
	t.Parallel()
	service := Caller{Principal: Principal{Service: "sagemaker.amazonaws.com"}}
	job := Role{ARN: "arn:aws:iam::111122223333:role/Job", Trust: Policy{"Job trust", document(t, "job_trust")}}
	old := Role{ARN: launcher, Trust: Policy{"Launcher trust", document(t, "launcher_trust")}}
	studio := Role{ARN: role, Trust: Policy{"Studio trust", document(t, "propagation_service")}}
	expect(t, call(service, old, "SageMaker", ""), "", SideNone, "")
	expect(t, call(service, job, "SageMaker", "alice-nb"), "", SideNone, "")
	expect(t, call(service, studio, "SageMaker", "alice"), "", SideNone, "")
	expect(t, call(service, old, "SageMaker", "alice-nb"), ActionSetSourceIdentity, SideTrust, "no statement allows sts:SetSourceIdentity")
	expect(t, call(Caller{Principal: Principal{Service: "ec2.amazonaws.com"}}, job, "x", ""), ActionAssumeRole, SideTrust, "does not name ec2.amazonaws.com")
}

// TestPropagation: the base session already has a source identity and only the
// session name is added.
func TestPropagation(t *testing.T) {
	t.Parallel()
	exec := Role{ARN: role, Trust: Policy{"trust", document(t, "propagation_trust")}}
	own := []Policy{{"permissions", document(t, "self_permissions")}}
	studio := Caller{Principal: session(role, base), SourceIdentity: "alice", Policies: own}
	bare := Caller{Principal: session(role, base), Policies: own}
	loose := exec // a trust policy without any condition
	loose.Trust = Policy{"loose trust", parse(t, `{"Statement":{"Effect":"Allow","Principal":{"AWS":"`+role+`"},"Action":"sts:*"}}`)}

	expect(t, call(studio, exec, "alice", ""), "", SideNone, "")
	expect(t, call(studio, exec, "alice", "alice"), "", SideNone, "")
	if d := AssumeRole(call(studio, exec, "alice", "")); d.SourceIdentity != "alice" {
		t.Errorf("the new session inherits %q", d.SourceIdentity)
	}
	expect(t, call(studio, exec, "bob", ""), ActionAssumeRole, SideTrust, `sts:RoleSessionName: the request has "bob", expected "alice"`)
	expect(t, call(studio, exec, "alice", "bob"), ActionAssumeRole, SideTrust, `the request has "bob", expected "alice"`)
	expect(t, call(studio, exec, "bob", "bob"), ActionAssumeRole, SideTrust, "bob")
	expect(t, call(bare, exec, "alice", "alice"), ActionAssumeRole, SideTrust, "aws:SourceIdentity")
	expect(t, call(bare, exec, "alice", ""), ActionAssumeRole, SideTrust, "aws:SourceIdentity")
	// No policy can permit a change.
	expect(t, call(studio, loose, "bob", "bob"), ActionSetSourceIdentity, SideSession, `"alice", which cannot change to "bob"`)
	expect(t, call(studio, loose, "bob", "alice"), "", SideNone, "")
}

// TestDenyUnattributed is the optional deny of mode A.
func TestDenyUnattributed(t *testing.T) {
	t.Parallel()
	policies := []Policy{
		{"work", parse(t, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)},
		{"deny", document(t, "deny_unattributed")},
	}
	bare := Caller{Principal: session(role, base)}
	attributed := Caller{Principal: session(role, alice), SourceIdentity: "alice-nb"}
	for _, tt := range []struct {
		caller Caller
		action string
		via    string
		want   Outcome
	}{
		{bare, "s3:ListAllMyBuckets", "false", ExplicitDeny},
		{bare, "sts:GetFederationToken", "false", ExplicitDeny},
		{bare, "sts:TagSession", "false", ExplicitDeny},
		{bare, "sagemaker:CreatePresignedNotebookInstanceUrl", "false", ExplicitDeny},
		{bare, "sts:AssumeRole", "false", Allowed},
		{bare, "STS:setsourceidentity", "false", Allowed},
		{bare, "logs:PutLogEvents", "false", Allowed},
		{bare, "sagemaker:DescribeNotebookInstance", "false", Allowed},
		{bare, "s3:GetObject", "true", Allowed},
		{attributed, "s3:ListAllMyBuckets", "false", Allowed},
		{attributed, "sagemaker:CreateEndpoint", "false", Allowed},
	} {
		context := tt.caller.Context(time.Unix(0, 0), "us-east-1")
		context["aws:viaawsservice"] = []string{tt.via}
		got := EvaluateIdentity(policies, Request{Principal: tt.caller.Principal, Action: tt.action, Resource: "*", Context: context})
		if got.Outcome != tt.want || (tt.want == ExplicitDeny && got.Sid != "DenyUnattributed") {
			t.Errorf("%s by %s via %s: %+v", tt.action, tt.caller.CallerARN(), tt.via, got)
		}
	}
	// The deny does not stand in the way of the daemon's own calls.
	exec := Role{ARN: role, Trust: Policy{"trust", document(t, "self_trust")}}
	bare.Policies = policies
	expect(t, call(bare, exec, "alice-nb", "alice-nb"), "", SideNone, "")
}

// TestIfExistsHole shows why source identity is never tested with IfExists.
func TestIfExistsHole(t *testing.T) {
	t.Parallel()
	trust := func(operator string) Role {
		return Role{ARN: role, Trust: Policy{"trust", parse(t, `{"Statement":{"Effect":"Allow","Principal":{"AWS":"`+role+`"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"],
		 "Condition":{"`+operator+`":{"sts:SourceIdentity":"alice-nb"}}}}`)}}
	}
	bare := Caller{Principal: session(role, base), Policies: []Policy{{"own", document(t, "self_permissions")}}}
	expect(t, call(bare, trust("StringEquals"), "x", ""), ActionAssumeRole, SideTrust, "no such key")
	expect(t, call(bare, trust("StringEqualsIfExists"), "x", ""), "", SideNone, "") // the hole
	expect(t, call(bare, trust("ForAllValues:StringEquals"), "x", ""), "", SideNone, "")
	expect(t, call(bare, trust("StringEqualsIfExists"), "x", "bob-nb"), ActionAssumeRole, SideTrust, "bob-nb")
}

// TestSides is the table of which side must allow what.
func TestSides(t *testing.T) {
	t.Parallel()
	const both = `["sts:AssumeRole","sts:SetSourceIdentity"]`
	identity := func(effect, actions string) []Policy {
		return []Policy{{"identity", parse(t, `{"Statement":{"Effect":"`+effect+`","Action":`+actions+`,"Resource":"*"}}`)}}
	}
	trust := func(principal, actions string) Policy {
		return Policy{"trust", parse(t, `{"Statement":{"Effect":"Allow","Principal":`+principal+`,"Action":`+actions+`}}`)}
	}
	const (
		byRole    = `{"AWS":"` + role + `"}`
		bySession = `{"AWS":"` + base + `"}`
		byID      = `{"AWS":"AROAEXECEXAMPLE"}`
		byRoot    = `{"AWS":"arn:aws:iam::111122223333:root"}`
		byService = `{"Service":"sagemaker.amazonaws.com"}`
	)
	same, cross := role, "arn:aws:iam::444455556666:role/Target"
	for _, tt := range []struct {
		name           string
		target         string
		trust          Policy
		identity       []Policy
		sourceIdentity string
		action         string
		side           Side
		outcome        Outcome
	}{
		{"self, default trust of the service: no implicit self-trust", same, trust(byService, both), identity("Allow", both), "", ActionAssumeRole, SideTrust, ImplicitDeny},
		{"same account, role named, no identity", same, trust(byRole, both), nil, "", "", SideNone, Allowed},
		{"same account, session named, no identity", same, trust(bySession, both), nil, "", "", SideNone, Allowed},
		{"same account, id named, no identity", same, trust(byID, both), nil, "", "", SideNone, Allowed},
		{"same account, everybody, no identity", same, trust(`"*"`, both), nil, "", "", SideNone, Allowed},
		{"same account, root, no identity", same, trust(byRoot, both), nil, "", ActionAssumeRole, SideIdentity, ImplicitDeny},
		{"same account, root and identity", same, trust(byRoot, both), identity("Allow", both), "", "", SideNone, Allowed},
		{"same account, identity only", same, trust(byService, both), identity("Allow", both), "", ActionAssumeRole, SideTrust, ImplicitDeny},
		{"same account, role named, identity denies", same, trust(byRole, both), identity("Deny", both), "", ActionAssumeRole, SideIdentity, ExplicitDeny},
		{"cross account, role named, no identity", cross, trust(byRole, both), nil, "", ActionAssumeRole, SideIdentity, ImplicitDeny},
		{"cross account, everybody, no identity", cross, trust(`"*"`, both), nil, "", ActionAssumeRole, SideIdentity, ImplicitDeny},
		{"cross account, root and identity", cross, trust(byRoot, both), identity("Allow", both), "", "", SideNone, Allowed},
		{"cross account, identity only", cross, trust(byService, both), identity("Allow", both), "", ActionAssumeRole, SideTrust, ImplicitDeny},
		{"source identity, role named, no identity", same, trust(byRole, both), nil, "alice-nb", ActionSetSourceIdentity, SideIdentity, ImplicitDeny},
		{"source identity, missing on the identity side", same, trust(byRole, both), identity("Allow", `"sts:AssumeRole"`), "alice-nb", ActionSetSourceIdentity, SideIdentity, ImplicitDeny},
		{"source identity, missing on the trust side", same, trust(byRole, `"sts:AssumeRole"`), identity("Allow", both), "alice-nb", ActionSetSourceIdentity, SideTrust, ImplicitDeny},
		{"source identity, denied on the identity side", same, trust(byRole, both), identity("Deny", `"sts:SetSourceIdentity"`), "alice-nb", ActionSetSourceIdentity, SideIdentity, ExplicitDeny},
		{"source identity, both sides", same, trust(byRole, both), identity("Allow", both), "alice-nb", "", SideNone, Allowed},
		{"a target that is no ARN", "ExecRole", trust(byRole, both), nil, "", ActionAssumeRole, SideIdentity, ImplicitDeny},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := call(Caller{Principal: session(role, base), Policies: tt.identity}, Role{ARN: tt.target, Trust: tt.trust}, "alice-nb", tt.sourceIdentity)
			expect(t, r, tt.action, tt.side, "")
			if c, refused := AssumeRole(r).Refusal(); refused && c.Outcome != tt.outcome {
				t.Errorf("outcome %v, want %v", c.Outcome, tt.outcome)
			}
			// A sticky source identity needs the same permissions when nothing is passed.
			if tt.sourceIdentity != "" {
				r.Caller.SourceIdentity, r.SourceIdentity = tt.sourceIdentity, ""
				expect(t, r, tt.action, tt.side, "")
			}
		})
	}
	denying := Role{ARN: same, Trust: Policy{"trust", parse(t, `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:*"},{"Sid":"No","Effect":"Deny","Principal":"*","Action":"sts:SetSourceIdentity"}]}`)}}
	r := call(Caller{Principal: session(role, base), Policies: identity("Allow", both)}, denying, "a", "alice-nb")
	expect(t, r, ActionSetSourceIdentity, SideTrust, `trust Statement[1] "No" denies sts:SetSourceIdentity`)
	if c, _ := AssumeRole(r).Refusal(); c.Outcome != ExplicitDeny || c.Trust.Sid != "No" {
		t.Errorf("%+v", c)
	}
	if AssumeRole(AssumeRoleRequest{}).Allowed() || (AssumeRoleDecision{}).Allowed() {
		t.Error("the empty request or decision is allowed")
	}
	// Two unknown accounts are not the same account.
	expect(t, call(Caller{}, Role{ARN: "ExecRole", Trust: trust(`"*"`, both)}, "a", ""), ActionAssumeRole, SideIdentity, "")
}

// TestSessionNameEverywhere pins the one open question to its switch.
func TestSessionNameEverywhere(t *testing.T) {
	t.Parallel()
	exec := Role{ARN: role, Trust: Policy{"trust", parse(t, `{"Statement":{"Effect":"Allow","Principal":{"AWS":"`+role+`"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"],
	 "Condition":{"StringEquals":{"sts:RoleSessionName":"alice-nb"}}}}`)}}
	r := call(Caller{Principal: session(role, base), Policies: []Policy{{"own", document(t, "self_permissions")}}}, exec, "alice-nb", "alice-nb")
	expect(t, r, ActionSetSourceIdentity, SideTrust, "sts:RoleSessionName: the request has no such key")
	r.SessionNameEverywhere = true
	expect(t, r, "", SideNone, "")
}

func TestTagSession(t *testing.T) {
	t.Parallel()
	exec := Role{ARN: role, Trust: Policy{"trust", parse(t, `{"Version":"2012-10-17","Statement":[
	 {"Effect":"Allow","Principal":{"AWS":"`+role+`"},"Action":"sts:AssumeRole","Condition":{"StringLike":{"aws:RequestTag/Team":"*"}}},
	 {"Effect":"Allow","Principal":{"AWS":"`+role+`"},"Action":"sts:TagSession","Condition":{
	  "StringEquals":{"aws:RequestTag/team":["red","blue"]},"ForAllValues:StringEquals":{"aws:TagKeys":["team","cost"],"sts:TransitiveTagKeys":"team"}}}]}`)}}
	tagged := func(tags map[string]string, transitive ...string) AssumeRoleRequest {
		r := call(Caller{Principal: session(role, base)}, exec, "a", "")
		r.Tags, r.TransitiveTagKeys = tags, transitive
		return r
	}
	expect(t, tagged(map[string]string{"team": "red"}), "", SideNone, "")
	expect(t, tagged(map[string]string{"team": "red", "cost": "1"}, "team"), "", SideNone, "")
	expect(t, tagged(nil), ActionAssumeRole, SideTrust, "aws:RequestTag/Team")
	expect(t, tagged(map[string]string{"team": "green"}), ActionTagSession, SideTrust, `the request has "green"`)
	expect(t, tagged(map[string]string{"team": "red", "evil": "1"}), ActionTagSession, SideTrust, `aws:TagKeys`)
	expect(t, tagged(map[string]string{"team": "red", "cost": "1"}, "cost"), ActionTagSession, SideTrust, "sts:TransitiveTagKeys")
	// A condition on the source identity does not hold for sts:TagSession.
	withIdentity := tagged(map[string]string{"team": "red"})
	withIdentity.SourceIdentity, withIdentity.Caller.Policies = "alice-nb", []Policy{{"own", document(t, "self_permissions")}}
	withIdentity.Target.Trust = Policy{"t", parse(t, `{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:*","Condition":{"StringEquals":{"sts:SourceIdentity":"alice-nb"}}}}`)}
	expect(t, withIdentity, ActionTagSession, SideTrust, "sts:SourceIdentity: the request has no such key")
	// Inherited transitive tags need the permission too.
	r := call(Caller{Principal: session(role, base), TransitiveTags: map[string]string{"team": "red"}}, Role{ARN: role, Trust: Policy{"t", parse(t, `{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}`)}}, "a", "")
	expect(t, r, ActionTagSession, SideTrust, "")
}

// TestRevocation kills one notebook's sessions on a shared role.
func TestRevocation(t *testing.T) {
	t.Parallel()
	policies := []Policy{{"p", parse(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
	 {"Sid":"Revoke","Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:SourceIdentity":"alice-nb"},"DateLessThan":{"aws:TokenIssueTime":"2026-01-31T12:00:00Z"}}}]}`)}}
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		who    string
		issued time.Time
		want   Outcome
	}{{"alice-nb", noon.Add(-time.Second), ExplicitDeny}, {"alice-nb", noon, Allowed}, {"bob-nb", noon.Add(-time.Hour), Allowed}} {
		c := Caller{Principal: session(role, alice), SourceIdentity: tt.who, TokenIssued: tt.issued}
		got := EvaluateIdentity(policies, Request{Principal: c.Principal, Action: "s3:GetObject", Resource: "arn:aws:s3:::b/k", Context: c.Context(noon.Add(time.Hour), "us-east-1")})
		if got.Outcome != tt.want {
			t.Errorf("%s issued %v: %+v", tt.who, tt.issued, got)
		}
	}
}

// TestExtraContext: keys that only the server knows reach the policies and
// replace computed ones, and the caller's map stays as it was.
func TestExtraContext(t *testing.T) {
	t.Parallel()
	exec := Role{ARN: role, Trust: Policy{"trust", parse(t, `{"Statement":{"Effect":"Allow","Principal":{"AWS":"`+role+`"},"Action":"sts:AssumeRole",
	 "Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"Bool":{"aws:SecureTransport":"false"},"StringEquals":{"sts:ExternalId":"x","aws:ResourceAccount":"111122223333"}}}}`)}}
	r := call(Caller{Principal: session(role, base)}, exec, "a", "")
	r.ExternalID = "x"
	r.Context = map[string][]string{"AWS:SourceIP": {"10.1.2.3"}, "aws:SecureTransport": {"false"}}
	before := maps.Clone(r.Context)
	expect(t, r, "", SideNone, "")
	if !maps.EqualFunc(before, r.Context, slices.Equal) {
		t.Errorf("context changed: %v", r.Context)
	}
	r.Context["AWS:SourceIP"] = []string{"192.0.2.1"}
	expect(t, r, ActionAssumeRole, SideTrust, "aws:SourceIp")
}

// TestCallerContext also pins aws:PrincipalArn to the role ARN with its path.
func TestCallerContext(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 13, 0, 0, 0, time.FixedZone("", 3600))
	got := newContextKeys(Caller{
		Principal: session(role, alice), SourceIdentity: "alice-nb", Tags: map[string]string{"NbIdentity": "alice-nb"}, TokenIssued: now.Add(-time.Hour),
	}.Context(now, "us-east-1"))
	for key, want := range map[string]string{
		"aws:PrincipalArn": role, "aws:userid": "AROAEXECEXAMPLE:alice-nb", "aws:PrincipalAccount": account,
		"aws:SourceIdentity": "alice-nb", "aws:PrincipalTag/nbidentity": "alice-nb", "aws:PrincipalType": "AssumedRole",
		"aws:CurrentTime": "2026-01-31T12:00:00Z", "aws:EpochTime": "1769860800", "aws:TokenIssueTime": "2026-01-31T11:00:00Z",
		"aws:RequestedRegion": "us-east-1", "aws:ViaAWSService": "false", "aws:PrincipalIsAWSService": "false",
		"aws:username": "", "aws:PrincipalServiceName": "",
	} {
		if v := strings.Join(got.get(key), ","); v != want {
			t.Errorf("%s is %q, want %q", key, v, want)
		}
	}
	got = newContextKeys(Caller{Principal: Principal{Account: account, UserARN: "arn:aws:iam::111122223333:user/dev/ann", UniqueID: "AIDAANNEXAMPLE"}}.Context(now, ""))
	if got.get("aws:username")[0] != "ann" || got.get("aws:userid")[0] != "AIDAANNEXAMPLE" || len(got.get("aws:TokenIssueTime"))+len(got.get("aws:RequestedRegion")) != 0 {
		t.Errorf("user: %v", got)
	}
	got = newContextKeys(Caller{Principal: Principal{Service: "sagemaker.amazonaws.com"}}.Context(now, ""))
	if got.get("aws:PrincipalIsAWSService")[0] != "true" || got.get("aws:PrincipalServiceName")[0] != "sagemaker.amazonaws.com" || len(got.get("aws:PrincipalArn")) != 0 {
		t.Errorf("service: %v", got)
	}
}
