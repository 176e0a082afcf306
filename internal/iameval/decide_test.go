package iameval

import (
	"strings"
	"testing"
)

// The cast: a shared execution role, its bare base session as the service
// makes it, and the session that a notebook works with.
const (
	account = "111122223333"
	role    = "arn:aws:iam::111122223333:role/service-role/ExecRole"
	base    = "arn:aws:sts::111122223333:assumed-role/ExecRole/SageMaker"
	alice   = "arn:aws:sts::111122223333:assumed-role/ExecRole/alice-nb"
)

func session(roleARN, sessionARN string) Principal {
	return Principal{Account: account, RoleARN: roleARN, SessionARN: sessionARN, UniqueID: "AROAEXECEXAMPLE"}
}

func TestEvaluateIdentity(t *testing.T) {
	t.Parallel()
	policies := []Policy{
		{"work", parse(t, `{"Version":"2012-10-17","Statement":[
		 {"Sid":"Read","Effect":"Allow","Action":["s3:Get*","s3:List*","s3:PutObjectTagging"],"Resource":["arn:aws:s3:::data","arn:aws:s3:::data/*","arn:aws:s3:::shared/*"]},
		 {"Sid":"NotIAM","Effect":"Allow","NotAction":["iam:*","s3:*","sts:*"],"NotResource":"arn:aws:ec2:*:*:instance/i-prod*"},
		 {"Sid":"Home","Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::data/${aws:SourceIdentity}/*"},
		 {"Sid":"HomeNot","Effect":"Allow","Action":"s3:DeleteObject","NotResource":"arn:aws:s3:::data/${aws:SourceIdentity}/*"}]}`)},
		{"guard", parse(t, `{"Version":"2012-10-17","Statement":[
		 {"Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::data/secret*","Condition":{"StringNotEquals":{"aws:SourceIdentity":"alice-nb"}}},
		 {"Sid":"HomeOnly","Effect":"Deny","Action":"s3:PutObjectTagging","NotResource":["arn:aws:s3:::data/${aws:SourceIdentity}/*","arn:aws:s3:::shared/*"]}]}`)},
	}
	for _, tt := range []struct {
		name, action, resource, sourceIdentity string
		want                                   Outcome
		sid, policy, reason                    string
	}{
		{"allowed", "s3:GetObject", "arn:aws:s3:::data/x", "bob-nb", Allowed, "Read", "work", `work Statement[0] "Read" allows s3:GetObject`},
		{"other resource", "s3:GetObject", "arn:aws:s3:::other/x", "bob-nb", ImplicitDeny, "Read", "work", "does not cover arn:aws:s3:::other/x"},
		{"deny beats allow", "s3:GetObject", "arn:aws:s3:::data/secret", "bob-nb", ExplicitDeny, "", "guard", "guard Statement[0] denies s3:GetObject"},
		{"deny of an absent key", "s3:GetObject", "arn:aws:s3:::data/secret", "", ExplicitDeny, "", "guard", "denies"},
		{"deny that does not apply", "s3:GetObject", "arn:aws:s3:::data/secret", "alice-nb", Allowed, "Read", "work", "allows"},
		{"NotAction", "ec2:StartInstances", "arn:aws:ec2:us-east-1:111122223333:instance/i-1", "", Allowed, "NotIAM", "work", "allows"},
		{"NotAction excludes", "iam:CreateUser", "*", "", ImplicitDeny, "", "", "no statement allows iam:CreateUser"},
		{"NotResource excludes", "ec2:StopInstances", "arn:aws:ec2:us-east-1:111122223333:instance/i-prod1", "", ImplicitDeny, "NotIAM", "work", "NotResource"},
		{"no resource at all", "athena:ListWorkGroups", "*", "", Allowed, "NotIAM", "work", "allows"},
		{"variable in the resource", "s3:PutObject", "arn:aws:s3:::data/bob-nb/x", "bob-nb", Allowed, "Home", "work", "allows"},
		{"variable of somebody else", "s3:PutObject", "arn:aws:s3:::data/bob-nb/x", "alice-nb", ImplicitDeny, "Home", "work", "does not cover"},
		{"unresolvable in Resource", "s3:PutObject", "arn:aws:s3:::data//x", "", ImplicitDeny, "Home", "work", "${aws:SourceIdentity} has no value"},
		{"unresolvable in NotResource", "s3:DeleteObject", "arn:aws:s3:::data/x", "", Allowed, "HomeNot", "work", "allows"},
		{"unresolvable beside another in NotResource", "s3:PutObjectTagging", "arn:aws:s3:::shared/x", "", Allowed, "Read", "work", "allows"},
		{"deny of all but an unresolvable home", "s3:PutObjectTagging", "arn:aws:s3:::data/x", "", ExplicitDeny, "HomeOnly", "guard", "denies"},
	} {
		context := map[string][]string{}
		if tt.sourceIdentity != "" {
			context["aws:SourceIdentity"] = []string{tt.sourceIdentity}
		}
		got := EvaluateIdentity(policies, Request{Principal: session(role, base), Action: tt.action, Resource: tt.resource, Context: context})
		if got.Outcome != tt.want || got.Sid != tt.sid || got.Policy != tt.policy || !strings.Contains(got.Reason, tt.reason) {
			t.Errorf("%s: %+v", tt.name, got)
		}
		if (got.Policy == "") != (got.Index == -1) {
			t.Errorf("%s: index %d of policy %q", tt.name, got.Index, got.Policy)
		}
	}
	if got := EvaluateIdentity(nil, Request{Action: "s3:GetObject"}); got.Outcome != ImplicitDeny || got.Index != -1 {
		t.Errorf("no policies: %+v", got)
	}
}

// TestDenyByAnUnresolvedVariable is the example of "Policy variables with no
// value": who has no tag is denied, as SageMaker's own managed policies rely on
// for sessions without a source identity.
func TestDenyByAnUnresolvedVariable(t *testing.T) {
	t.Parallel()
	policies := []Policy{{"p", parse(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
	 {"Sid":"Owner","Effect":"Deny","Action":"sagemaker:*","Resource":"*","Condition":{"StringNotEquals":{"aws:ResourceTag/owner":"${aws:SourceIdentity}"}}}]}`)}}
	for source, want := range map[string]Outcome{"": ExplicitDeny, "bob-nb": ExplicitDeny, "alice-nb": Allowed} {
		context := map[string][]string{"aws:ResourceTag/owner": {"alice-nb"}}
		if source != "" {
			context["aws:SourceIdentity"] = []string{source}
		}
		if got := EvaluateIdentity(policies, Request{Action: "sagemaker:DeleteApp", Resource: "*", Context: context}); got.Outcome != want {
			t.Errorf("source identity %q: %+v", source, got)
		}
	}
}

func TestReasonListsNearMisses(t *testing.T) {
	t.Parallel()
	one := `{"Effect":"Allow","Action":"s3:GetObject","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}`
	d := parse(t, `{"Statement":[`+strings.Repeat(one+",", 5)+one+`]}`)
	got := EvaluateIdentity([]Policy{{"p", d}}, Request{Action: "s3:GetObject", Resource: "*"})
	if got.Index != 0 || strings.Count(got.Reason, "no such key") != 3 || !strings.HasSuffix(got.Reason, "and 3 more statements") {
		t.Errorf("%+v", got)
	}
}

func TestPrincipals(t *testing.T) {
	t.Parallel()
	var (
		caller  = session(role, base)
		user    = Principal{Account: account, UserARN: "arn:aws:iam::111122223333:user/dev/ann", UniqueID: "AIDAANNEXAMPLE"}
		service = Principal{Service: "sagemaker.amazonaws.com"}
		saml    = Principal{Account: account, Federated: "arn:aws:iam::111122223333:saml-provider/x"}
	)
	for _, tt := range []struct {
		element string // Principal or NotPrincipal and its value
		p       Principal
		want    Outcome
		through bool // the account
	}{
		{`"Principal":"*"`, caller, Allowed, false},
		{`"Principal":{"AWS":"*"}`, caller, Allowed, false},
		{`"Principal":{"AWS":"111122223333"}`, caller, Allowed, true},
		{`"Principal":{"AWS":"arn:aws:iam::111122223333:root"}`, caller, Allowed, true},
		{`"Principal":{"AWS":"arn:aws:iam::444455556666:root"}`, caller, ImplicitDeny, false},
		{`"Principal":{"AWS":"` + role + `"}`, caller, Allowed, false},
		{`"Principal":{"AWS":"arn:aws:iam::111122223333:role/ExecRole"}`, caller, ImplicitDeny, false}, // path missing
		{`"Principal":{"AWS":"arn:aws:iam::444455556666:role/service-role/ExecRole"}`, caller, ImplicitDeny, false},
		{`"Principal":{"AWS":"` + base + `"}`, caller, Allowed, false},
		{`"Principal":{"AWS":"` + alice + `"}`, caller, ImplicitDeny, false},
		{`"Principal":{"AWS":"AROAEXECEXAMPLE"}`, caller, Allowed, false},
		{`"Principal":{"AWS":"AROAOLDEXAMPLE"}`, caller, ImplicitDeny, false},
		{`"Principal":{"AWS":["444455556666","` + account + `","` + role + `"]}`, caller, Allowed, false}, // strongest wins
		{`"Principal":{"Service":"sagemaker.amazonaws.com"}`, caller, ImplicitDeny, false},
		{`"Principal":{"Service":"sagemaker.amazonaws.com"}`, service, Allowed, false},
		{`"Principal":{"Service":"ec2.amazonaws.com"}`, service, ImplicitDeny, false},
		{`"Principal":{"AWS":"` + account + `"}`, service, ImplicitDeny, false},
		{`"Principal":{"AWS":"` + user.UserARN + `"}`, user, Allowed, false},
		{`"Principal":{"AWS":"AIDAANNEXAMPLE"}`, user, Allowed, false},
		{`"Principal":{"AWS":"arn:aws:iam::111122223333:user/ann"}`, user, ImplicitDeny, false},
		{`"Principal":{"Federated":"` + saml.Federated + `"}`, saml, Allowed, false},
		{`"Principal":{"AWS":"` + account + `"}`, saml, ImplicitDeny, false},
		{`"Principal":{"AWS":"` + account + `"}`, Principal{}, ImplicitDeny, false},
		{`"Principal":{"CanonicalUser":"` + account + `"}`, caller, ImplicitDeny, false},
		// An Allow with NotPrincipal lets in whoever is not mentioned at all.
		{`"NotPrincipal":{"AWS":"` + account + `"}`, caller, ImplicitDeny, false},
		{`"NotPrincipal":{"AWS":"` + alice + `"}`, caller, Allowed, false},
	} {
		d := parse(t, `{"Version":"2012-10-17","Statement":{"Effect":"Allow",`+tt.element+`,"Action":"sts:AssumeRole"}}`)
		got := EvaluateTrust(Policy{"trust", d}, Request{Principal: tt.p, Action: "sts:AssumeRole", Resource: role})
		if got.Outcome != tt.want || got.Delegated != tt.through {
			t.Errorf("%s with %s: %+v", tt.element, tt.p.CallerARN(), got)
		}
	}
	// The strongest of several statements counts, in either order.
	for _, order := range [][2]string{{account, role}, {role, account}} {
		d := parse(t, `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"`+order[0]+`"},"Action":"sts:*"},{"Effect":"Allow","Principal":{"AWS":"`+order[1]+`"},"Action":"sts:*"}]}`)
		if got := EvaluateTrust(Policy{"trust", d}, Request{Principal: caller, Action: "sts:AssumeRole", Resource: role}); got.Outcome != Allowed || got.Delegated {
			t.Errorf("%q: %+v", order, got)
		}
	}
	// Hand-made emptiness names nobody.
	if g := (Principal{}).namedBy([]PrincipalName{{Type: "AWS"}, {Type: "Service"}, {Type: "Federated"}, {}}); g != noGrant {
		t.Errorf("an empty name matches: %v", g)
	}
	// A Deny with NotPrincipal spares only who is listed with account, role and session.
	for list, want := range map[string]Outcome{
		`"` + base + `"`:                   ExplicitDeny,
		`"` + role + `"`:                   ExplicitDeny,
		`"` + role + `","` + account + `"`: ExplicitDeny,
		`"` + base + `","` + role + `"`:    ExplicitDeny,
		`"` + base + `","` + role + `","arn:aws:iam::111122223333:root"`:  Allowed,
		`"` + alice + `","` + role + `","arn:aws:iam::111122223333:root"`: ExplicitDeny,
		`"` + base + `","AROAEXECEXAMPLE","` + account + `"`:              Allowed,
		`"*"`: Allowed,
	} {
		d := parse(t, `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:*"},{"Effect":"Deny","NotPrincipal":{"AWS":[`+list+`]},"Action":"sts:*"}]}`)
		got := EvaluateTrust(Policy{"trust", d}, Request{Principal: caller, Action: "sts:AssumeRole", Resource: role})
		if got.Outcome != want {
			t.Errorf("NotPrincipal %s: %+v", list, got)
		}
	}
}
