package denial

import (
	"strings"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/identity"
)

const testRole = "arn:aws:iam::111122223333:role/service-role/NotebookWork"

// Text from the wire may reach a statement that a person will paste.
func FuzzRemedy(f *testing.F) {
	f.Add("User: arn:aws:sts::1:assumed-role//S is not authorized to perform: sts:SetSourceIdentity on resource: x with an explicit deny in the resource control policy")
	f.Add(`User: arn:aws:sts::111122223333:role/"},{"Effect":"Allow:assumed-role/R/S is not authorized to perform: sts:AssumeRole`)
	target, err := identity.ParseRoleARN(testRole)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, message string) {
		d := Parse(message)
		if base, ok := d.base(target); ok && strings.ContainsAny(base.String(), "\"\\* \n{}") {
			t.Errorf("base role %q from %q", base, message)
		}
		if d.Reason() == "" || d.Remedy(target, ActionAssumeRole, "alice-nb") == "" {
			t.Errorf("%q is not explained", message)
		}
	})
}

func TestParse(t *testing.T) {
	const user = "User: arn:aws:sts::111122223333:assumed-role/Launch/SageMaker is not authorized to perform: sts:AssumeRole on resource: " + testRole
	for _, test := range []struct {
		message string
		want    Denial
	}{
		{user, Denial{Action: ActionAssumeRole}},
		{user + " because no identity-based policy allows the sts:AssumeRole action", Denial{Action: ActionAssumeRole, Policy: KindIdentity}},
		{user + " because no role trust policy allows the sts:AssumeRole action", Denial{Action: ActionAssumeRole, Policy: kindTrust}},
		{user + " because no session policy allows the sts:AssumeRole action", Denial{Action: ActionAssumeRole, Policy: "session policy"}},
		{user + " because no permissions boundary allows the sts:AssumeRole action", Denial{Action: ActionAssumeRole, Policy: "permissions boundary"}},
		{user + " with an explicit deny in the role trust policy", Denial{Action: ActionAssumeRole, Explicit: true, Policy: kindTrust}},
		{user + " with an explicit deny in an identity-based policy", Denial{Action: ActionAssumeRole, Explicit: true, Policy: KindIdentity}},
		{user + " with an explicit deny in a service control policy", Denial{Action: ActionAssumeRole, Explicit: true, Policy: "service control policy"}},
		{user + " with an explicit deny in a resource control policy", Denial{Action: ActionAssumeRole, Explicit: true, Policy: "resource control policy"}},
		{user + " with an explicit deny in a VPC endpoint policy", Denial{Action: ActionAssumeRole, Explicit: true, Policy: "VPC endpoint policy"}},
		{user + " with an explicit deny in something new", Denial{Action: ActionAssumeRole, Explicit: true}},
	} {
		test.want.caller = "arn:aws:sts::111122223333:assumed-role/Launch/SageMaker"
		if got := Parse(test.message); got != test.want {
			t.Errorf("%s\n got %+v\nwant %+v", test.message, got, test.want)
		}
	}
	if got := Parse("Access denied"); got != (Denial{}) {
		t.Errorf("%+v", got)
	}
	target, _ := identity.ParseRoleARN(testRole)
	if base, ok := Parse(user).base(target); !ok || base.String() != "arn:aws:iam::111122223333:role/Launch" {
		t.Errorf("base role %q", base)
	}
}
