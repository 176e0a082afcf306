package rolecreds

import (
	"testing"
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
	})
}
