package rolecreds

import (
	"strings"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/identity"
)

func FuzzDenial(f *testing.F) {
	f.Add("User: arn:aws:sts::111122223333:assumed-role/R/S is not authorized to perform: sts:AssumeRole on resource: " + testRole)
	f.Add("User: arn:aws:sts::111122223333:assumed-role/R/S is not authorized to perform: sts:AssumeRole on resource: x because no role trust policy allows the sts:AssumeRole action")
	f.Add("User: arn:aws:sts::1:assumed-role//S is not authorized to perform: sts:SetSourceIdentity on resource: x with an explicit deny in the resource control policy")
	f.Add(" is not authorized to perform: ")
	f.Add(`User: arn:aws:sts::111122223333:role/"},{"Effect":"Allow:assumed-role/R/S is not authorized to perform: sts:AssumeRole`)
	c, err := newCaller(testConfig(&memorySTS{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, message string) {
		cause := c.call().Explain(apiError("AccessDenied", message))
		if cause.Passing() || cause.Remedy() == "" || len(cause.Error()) > 2300 {
			t.Errorf("%q: %q %q", message, cause.Code(), cause.Error())
		}
		// Text from the wire may reach a statement that a person will paste.
		d := parseDenial(message)
		if base, ok := d.base(c.role); ok && strings.ContainsAny(base.String(), "\"\\* \n{}") {
			t.Errorf("base role %q from %q", base, message)
		}
	})
}

func TestDenial(t *testing.T) {
	const user = "User: arn:aws:sts::111122223333:assumed-role/Launch/SageMaker is not authorized to perform: sts:AssumeRole on resource: " + testRole
	for _, test := range []struct {
		message string
		want    denial
	}{
		{user, denial{action: actionAssumeRole}},
		{user + " because no identity-based policy allows the sts:AssumeRole action", denial{action: actionAssumeRole, policy: kindIdentity}},
		{user + " because no role trust policy allows the sts:AssumeRole action", denial{action: actionAssumeRole, policy: kindTrust}},
		{user + " because no session policy allows the sts:AssumeRole action", denial{action: actionAssumeRole, policy: "session policy"}},
		{user + " because no permissions boundary allows the sts:AssumeRole action", denial{action: actionAssumeRole, policy: "permissions boundary"}},
		{user + " with an explicit deny in the role trust policy", denial{action: actionAssumeRole, explicit: true, policy: kindTrust}},
		{user + " with an explicit deny in an identity-based policy", denial{action: actionAssumeRole, explicit: true, policy: kindIdentity}},
		{user + " with an explicit deny in a service control policy", denial{action: actionAssumeRole, explicit: true, policy: "service control policy"}},
		{user + " with an explicit deny in a resource control policy", denial{action: actionAssumeRole, explicit: true, policy: "resource control policy"}},
		{user + " with an explicit deny in a VPC endpoint policy", denial{action: actionAssumeRole, explicit: true, policy: "VPC endpoint policy"}},
		{user + " with an explicit deny in something new", denial{action: actionAssumeRole, explicit: true}},
	} {
		test.want.caller = "arn:aws:sts::111122223333:assumed-role/Launch/SageMaker"
		if got := parseDenial(test.message); got != test.want {
			t.Errorf("%s\n got %+v\nwant %+v", test.message, got, test.want)
		}
	}
	if got := parseDenial("Access denied"); got != (denial{}) {
		t.Errorf("%+v", got)
	}
	target, _ := identity.ParseRoleARN(testRole)
	if base, ok := parseDenial(user).base(target); !ok || base.String() != "arn:aws:iam::111122223333:role/Launch" {
		t.Errorf("base role %q", base)
	}
}
