package rendering_test

import (
	"bytes"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/rendering"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

const execRole = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"

// samples are the sets whose text is kept in testdata, by file name.
func samples(t testing.TB) map[string]iampolicy.Options {
	t.Helper()
	template, err := identity.ParseTemplate("{kind}@{name}")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]iampolicy.Options{
		"self":          {Mode: iampolicy.Self, Roles: []string{execRole}, Names: []string{"alice-nb", "bob-nb"}},
		"self-patterns": {Mode: iampolicy.Self, Roles: []string{execRole}, Names: []string{"team-a-*", "on"}, JobRoles: []string{"/jobs/JobRole"}},
		"self-deny":     {Mode: iampolicy.Self, Roles: []string{execRole}, Names: []string{"alice-nb"}, Region: "us-east-1", Package: "example-bucket/nbidentityd", DenyUnattributed: true},
		"per-notebook": {Mode: iampolicy.PerNotebook, Account: "111122223333", Region: "cn-north-1", Names: []string{"bob-nb", "Alice-nb"},
			Template: template, JobRoles: []string{"JobRole"}, DenyUnattributed: true},
		"launcher": {Mode: iampolicy.Launcher, Account: "111122223333", Region: "us-gov-west-1", Names: []string{"alice-nb", "Bob-nb"}, Package: "example-bucket"},
		"studio-propagation": {Mode: iampolicy.StudioPropagation, DomainID: "d-exampledomain", Region: "us-east-1",
			Roles: []string{execRole, "arn:aws:iam::111122223333:role/SharedSpaces"}, JobRoles: []string{"JobRole"}},
		"per-profile": {Mode: iampolicy.PerProfile, Roles: []string{execRole}, Names: []string{"alice", "bob"}, UserIDs: map[string]string{"alice": "alice@example.com"}},
		"per-profile-propagated": {Mode: iampolicy.PerProfile, Roles: []string{execRole}, Names: []string{"alice", "bob"}, DomainID: "d-exampledomain",
			Region: "eu-west-1", Propagated: true, JobRoles: []string{"JobRole"}},
	}
}

func generate(t testing.TB, o iampolicy.Options) *iampolicy.Set {
	t.Helper()
	s, err := iampolicy.Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t testing.TB, s *iampolicy.Set, f rendering.Format) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := rendering.Write(&b, s, f); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
