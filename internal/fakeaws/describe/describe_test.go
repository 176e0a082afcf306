package describe

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/resource"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

func call(operation, body string) *wire.Call {
	c := &wire.Call{Service: "sagemaker", Protocol: wire.JSON, Operation: operation}
	if err := json.Unmarshal([]byte(body), &c.Body); err != nil {
		panic(err)
	}
	return c
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct{ operation, body, want string }{
		{"DescribeSpace", `{"DomainId":"d-x","SpaceName":"s"}`, ""},
		{"ListNotebookInstances", `{}`, ""},
		{"DescribeSpace", `{}`, "2 validation errors detected: Value null at 'domainId' failed to satisfy constraint: Member must not be null; Value null at 'spaceName'"},
		{"DescribeSpace", `{"DomainId":"d-x","SpaceName":"s_"}`, "Value 's_' at 'spaceName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"},
		{"DescribeNotebookInstance", `{"NotebookInstanceName":"` + strings.Repeat("a", 64) + `"}`, "Member must have length less than or equal to 63"},
		{"DescribeNotebookInstance", `{"NotebookInstanceName":["a"]}`, "must be a string"},
	} {
		e := Check(call(tt.operation, tt.body))
		if (e != nil) != (tt.want != "") || e != nil && !strings.Contains(e.Message, tt.want) {
			t.Errorf("%s %s: %v, want %s", tt.operation, tt.body, e, tt.want)
		}
	}
}

func TestKnows(t *testing.T) {
	if !Knows(call("DescribeDomain", `{}`)) || Knows(call("DeleteDomain", `{}`)) || Knows(&wire.Call{Protocol: wire.CBOR, Operation: "DescribeDomain"}) {
		t.Error("operations are told apart wrongly")
	}
}

// TestADomainThatNeverHadASetting: DescribeDomain leaves the member out.
func TestADomainThatNeverHadASetting(t *testing.T) {
	s := scenario.Default()
	v := View{Scenario: s, Scope: resource.Scope{Partition: "aws-cn", Region: "cn-north-1", Account: s.AccountID}, Created: time.Unix(0, 0),
		RoleARN: func(name string) string { return "arn/" + name }}
	for setting, want := range map[string]bool{"": false, "DISABLED": true, "USER_PROFILE_NAME": true} {
		d := *s.Domain
		d.ExecutionRoleIdentityConfig = setting
		v.Scenario.Domain = &d
		o, e := v.Answer(call("DescribeDomain", `{"DomainId":"d-exampledomain"}`))
		if e != nil {
			t.Fatal(e)
		}
		if _, there := o["DomainSettings"]; there != want || o["DomainArn"] != "arn:aws-cn:sagemaker:cn-north-1:111122223333:domain/d-exampledomain" {
			t.Errorf("%q: %v", setting, o)
		}
	}
	v.Scenario.Domain = nil
	if _, e := v.Answer(call("DescribeDomain", `{"DomainId":"d-exampledomain"}`)); e == nil || e.Code != "ResourceNotFound" {
		t.Errorf("without a domain: %v", e)
	}
}
