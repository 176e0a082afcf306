package trust

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/doctor/rolebook"
	"github.com/nbidentityd/nbidentityd/internal/iameval"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// role is a role with a trust policy of these statements.
func role(t *testing.T, arn, statements string) rolebook.Role {
	t.Helper()
	name, err := identity.ParseRoleARN(arn)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(`{"Version":"2012-10-17","Statement":[` + statements + `]}`)
	doc, err := iameval.ParseDocument(text)
	if err == nil {
		err = doc.CheckTrust()
	}
	if err != nil {
		t.Fatal(err)
	}
	return rolebook.Role{ARN: name, ID: "AROAEXAMPLE", Trust: doc, Text: text}
}

// with adds an identity policy of these statements.
func with(t *testing.T, r rolebook.Role, name, statements string) rolebook.Role {
	t.Helper()
	doc, err := iameval.ParseDocument([]byte(`{"Version":"2012-10-17","Statement":[` + statements + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Policies = append(slices.Clone(r.Policies), rolebook.Policy{Policy: iameval.Policy{Name: name, Document: doc}})
	return r
}

const (
	exec = "arn:aws:iam::111122223333:role/service-role/ExecRole"
	serv = `{"Effect":"Allow","Principal":{"Service":"sagemaker.amazonaws.com"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"]}`
	may  = `{"Effect":"Allow","Action":["sts:AssumeRole","sts:SetSourceIdentity"],"Resource":"` + exec + `"}`
)

// allow is a trust statement for the execution role itself.
func allow(action, conditions string) string {
	return `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":` + action + `,"Condition":{"ArnEquals":{"aws:PrincipalArn":"` + exec + `"}` + conditions + `}}`
}

// self is the call of the notebook alice-nb whose execution role assumes itself.
func self(r rolebook.Role) Case {
	return Case{Base: r, Target: r, SessionName: "alice-nb", SourceIdentity: "alice-nb", Region: "us-east-1", Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

// judge returns the ids of what is found and noted.
func judge(c Case) (allowed bool, found, noted []string) {
	r := report.Examine(context.Background(), []report.Check{{Name: "trust", Run: func(_ context.Context, s *report.Sheet) error {
		allowed = c.Judge(s)
		return nil
	}}})
	for _, f := range r.Findings {
		found = append(found, f.ID)
	}
	for _, n := range r.Notes {
		noted = append(noted, n.ID)
	}
	return allowed, found, noted
}

// TestUnseenConditions: on conditions that only STS can evaluate nobody is told
// that the call is refused.
func TestUnseenConditions(t *testing.T) {
	t.Parallel()
	const name = `,"StringEquals":{"sts:SourceIdentity":"alice-nb"`
	good := func(more string) rolebook.Role {
		return role(t, exec, serv+","+allow(`"sts:AssumeRole"`, name+more+`},"Null":{"aws:SourceIdentity":"true"}`)+","+allow(`"sts:SetSourceIdentity"`, name+`}`))
	}
	const fromVPC = `{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEqualsIfExists":{"aws:SourceVpc":"vpc-1"},"Bool":{"aws:ViaAWSService":"false"}}}`
	for _, tt := range []struct {
		name    string
		role    rolebook.Role
		allowed bool
		found   []string
		noted   []string
	}{
		{"none", with(t, good(""), "p", may), true, nil, nil},
		{"organization in the trust policy", with(t, good(`,"aws:PrincipalOrgID":"o-example"`), "p", may), true, nil, []string{"conditions_unseen"}},
		{"network in a Deny", with(t, with(t, good(""), "p", may), "vpc", fromVPC), true, nil, []string{"conditions_unseen"}},
		{"both, and another that fails", with(t, with(t, good(`,"aws:SourceVpce":"vpce-1","sts:ExternalId":"x"`), "p", may), "vpc", fromVPC), false, []string{"trust_condition"}, nil},
		{"a Deny on another key", with(t, with(t, good(""), "p", may), "other", `{"Effect":"Deny","Action":"sts:*","Resource":"*","Condition":{"StringNotEquals":{"sts:ExternalId":"x"}}}`), false, []string{"permission_denied"}, nil},
	} {
		allowed, found, noted := judge(self(tt.role))
		if allowed != tt.allowed || !slices.Equal(found, tt.found) || !slices.Equal(noted, tt.noted) {
			t.Errorf("%s: allowed %t, found %q, noted %q", tt.name, allowed, found, noted)
		}
	}
	// Without a region nothing is known of aws:RequestedRegion either.
	nowhere := self(with(t, with(t, good(""), "p", may), "region", `{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:RequestedRegion":"eu-west-1"}}}`))
	if allowed, _, _ := judge(nowhere); allowed {
		t.Error("the region's Deny is passed over")
	}
	nowhere.Region = ""
	if allowed, _, _ := judge(nowhere); !allowed {
		t.Error("an unknown region is taken for another")
	}
}

// TestServiceWithSource: a trust policy for SageMaker with the conditions that
// SageMaker's page on the confused deputy asks for is no broken one, and what
// mends another fault of it leaves them in force.
func TestServiceWithSource(t *testing.T) {
	t.Parallel()
	const job = "arn:aws:iam::111122223333:role/JobRole"
	guarded := func(actions, account string) string {
		return `{"Effect":"Allow","Principal":{"Service":"sagemaker.amazonaws.com"},"Action":` + actions + `,
		 "Condition":{"StringEquals":{"aws:SourceAccount":"` + account + `"},"ArnLike":{"aws:SourceArn":"arn:aws:sagemaker:us-east-1:111122223333:training-job/*"}}}`
	}
	for _, tt := range []struct {
		name, trust string
		want        []string
	}{
		{"both actions", guarded(`["sts:AssumeRole","sts:SetSourceIdentity"]`, "111122223333"), nil},
		{"no source identity", guarded(`"sts:AssumeRole"`, "111122223333"), []string{"job_role_trust"}},
		{"another account", guarded(`["sts:AssumeRole","sts:SetSourceIdentity"]`, "444455556666"), []string{"job_role_service"}},
	} {
		r := report.Examine(context.Background(), []report.Check{{Name: "job", Run: func(_ context.Context, s *report.Sheet) error {
			Job(s, role(t, job, tt.trust), "alice-nb", "us-east-1", time.Now())
			return nil
		}}})
		var found []string
		for _, f := range r.Findings {
			found = append(found, f.ID)
			if f.ID == "job_role_trust" && strings.Count(f.Commands[0], "sts:AssumeRole") != 1 {
				t.Errorf("%s: the remedy lets SageMaker assume the role for everybody: %s", tt.name, f.Commands[0])
			}
		}
		if !slices.Equal(found, tt.want) {
			t.Errorf("%s: %q", tt.name, found)
		}
	}
}

// TestOpenNames: a name is open also where only one of its two places is.
func TestOpenNames(t *testing.T) {
	t.Parallel()
	const bare = `,"Null":{"aws:SourceIdentity":"true"}`
	for _, tt := range []struct {
		name, assume, set string // conditions on either action
		found, noted      []string
	}{
		{"bound", `,"StringEquals":{"sts:SourceIdentity":"alice-nb","sts:RoleSessionName":"alice-nb"}`, `,"StringEquals":{"sts:SourceIdentity":"alice-nb"}`, nil, nil},
		{"neither", ``, ``, []string{"name_open"}, nil},
		{"only the session name is bound", `,"StringEquals":{"sts:RoleSessionName":"alice-nb"}`, ``, []string{"name_open"}, nil},
		{"only the source identity is bound", `,"StringEquals":{"sts:SourceIdentity":"alice-nb"}`, `,"StringEquals":{"sts:SourceIdentity":"alice-nb"}`, nil, nil},
		{"the source identity may be left out", `,"StringEqualsIfExists":{"sts:SourceIdentity":"alice-nb"}`, `,"StringEquals":{"sts:SourceIdentity":"alice-nb"}`, []string{"name_open"}, nil},
		{"a list", `,"StringEquals":{"sts:SourceIdentity":["alice-nb","bob-nb"]}`, `,"StringEquals":{"sts:SourceIdentity":["alice-nb","bob-nb"]}`, nil, []string{"names_shared"}},
		{"a list, own session name", `,"StringEquals":{"sts:SourceIdentity":["alice-nb","bob-nb"],"sts:RoleSessionName":"alice-nb"}`, `,"StringEquals":{"sts:SourceIdentity":["alice-nb","bob-nb"]}`, nil, []string{"names_shared"}},
		{"a pattern", `,"StringLike":{"sts:SourceIdentity":"alice-*"}`, `,"StringLike":{"sts:SourceIdentity":"alice-*"}`, nil, []string{"names_shared"}},
		{"any", `,"StringLike":{"sts:SourceIdentity":"*"}`, `,"StringLike":{"sts:SourceIdentity":"*"}`, []string{"name_open"}, nil},
	} {
		r := with(t, role(t, exec, serv+","+allow(`"sts:AssumeRole"`, bare+tt.assume)+","+allow(`"sts:SetSourceIdentity"`, tt.set)), "p", may)
		allowed, found, noted := judge(self(r))
		if !allowed || !slices.Equal(found, tt.found) || !slices.Equal(noted, tt.noted) {
			t.Errorf("%s: allowed %t, found %q, noted %q", tt.name, allowed, found, noted)
		}
	}
}

// TestLauncherThatAssumesAny: a launcher whose right to assume is not confined to
// the work role can take roles that ask for no name.
func TestLauncherThatAssumesAny(t *testing.T) {
	t.Parallel()
	const launcher, work = "arn:aws:iam::111122223333:role/nb-launch/alice", "arn:aws:iam::111122223333:role/NotebookWork"
	const trusted = `,"StringEquals":{"sts:SourceIdentity":"alice-nb","sts:RoleSessionName":"alice-nb"},"Null":{"aws:SourceIdentity":"true"}`
	statement := func(effect, resource string) string {
		return `{"Effect":"` + effect + `","Action":["sts:AssumeRole","sts:SetSourceIdentity"],` + resource + `}`
	}
	for _, tt := range []struct {
		name, policy string
		want         []string
	}{
		{"the work role", statement("Allow", `"Resource":"`+work+`"`), nil},
		{"any role", statement("Allow", `"Resource":"*"`), []string{"launcher_assumes_any"}},
		{"any role of the account", statement("Allow", `"Resource":"arn:aws:iam::111122223333:role/*"`), []string{"launcher_assumes_any"}},
		{"any role, and all others denied", statement("Allow", `"Resource":"*"`) + "," + statement("Deny", `"NotResource":"`+work+`"`), nil},
	} {
		c := self(with(t, role(t, launcher, serv), "p", tt.policy))
		c.Target = role(t, work, strings.ReplaceAll(allow(`"sts:AssumeRole"`, trusted)+","+allow(`"sts:SetSourceIdentity"`, ""), exec, launcher))
		if allowed, found, noted := judge(c); !allowed || !slices.Equal(found, tt.want) || noted != nil {
			t.Errorf("%s: allowed %t, found %q, noted %q", tt.name, allowed, found, noted)
		}
	}
}

// TestRemedyForAProfilesOwnRole: where the domain sets source identities and each
// profile has a role of its own, the remedy lets no other profile have it.
func TestRemedyForAProfilesOwnRole(t *testing.T) {
	t.Parallel()
	const own = "arn:aws:iam::111122223333:role/Profile_alice"
	c := self(with(t, role(t, exec, serv), "p", strings.ReplaceAll(may, exec, own)))
	c.Target, c.SessionName, c.SourceIdentity, c.BaseSource = role(t, own, serv), "alice", "alice", "alice"
	commands := c.putTrust()
	if len(commands) != 1 {
		t.Fatalf("%q", commands)
	}
	text := commands[0][strings.Index(commands[0], "{") : strings.LastIndex(commands[0], "}")+1]
	doc, err := iameval.ParseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c.Target.Trust = doc
	for name, want := range map[string]bool{"alice": true, "bob": false} {
		c.SessionName, c.SourceIdentity, c.BaseSource = name, name, name
		if got := iameval.AssumeRole(c.request()).Allowed(); got != want {
			t.Errorf("%s may take alice's role: %t", name, got)
		}
	}
}

// TestOpenWorkRole: the documents for a role that assumes itself are no remedy
// for one that another role assumes, which they would shut out.
func TestOpenWorkRole(t *testing.T) {
	t.Parallel()
	const work = "arn:aws:iam::111122223333:role/NotebookWork"
	c := self(with(t, role(t, exec, serv), "p", strings.ReplaceAll(may, exec, work)))
	c.Target = role(t, work, allow(`["sts:AssumeRole","sts:SetSourceIdentity"]`, ""))
	r := report.Examine(context.Background(), []report.Check{{Name: "trust", Run: func(_ context.Context, s *report.Sheet) error {
		c.Judge(s)
		return nil
	}}})
	for _, f := range r.Findings {
		if f.ID == "name_open" && !strings.Contains(strings.Join(f.Commands, "\n"), "policy self") {
			return
		}
	}
	t.Errorf("%+v", r.Findings)
}
