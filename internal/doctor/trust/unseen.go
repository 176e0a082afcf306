package trust

import (
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/iameval"
)

// unseenKeys are the condition keys of a call to STS whose values cannot be known
// from here: the way that it takes, and the organization of the account. To
// iameval they would be absent, which is what no request is.
var unseenKeys = []string{
	"aws:SourceIp", "aws:VpcSourceIp", "aws:SourceVpc", "aws:SourceVpcArn", "aws:SourceVpce",
	"aws:VpceAccount", "aws:VpceOrgID", "aws:VpceOrgPaths",
	"aws:Ec2InstanceSourceVpc", "aws:Ec2InstanceSourcePrivateIPv4", "ec2:SourceInstanceARN", "ec2:RoleDelivery",
	"aws:PrincipalOrgID", "aws:PrincipalOrgPaths", "aws:ResourceOrgID", "aws:ResourceOrgPaths",
	"aws:UserAgent", "aws:Referer",
}

// sourceKeys say for what SageMaker assumes a role. Its page on the confused
// deputy has people put them into trust policies; which resource it will be is
// not known from here, the account is.
var sourceKeys = []string{"aws:SourceArn", "aws:SourceOrgID", "aws:SourceOrgPaths"}

// unseen are the keys that this case does not know.
func (c Case) unseen() []string {
	if c.Region == "" {
		return append(slices.Clone(unseenKeys), "aws:RequestedRegion")
	}
	return unseenKeys
}

// favoured is a policy in which conditions on the keys go the caller's way: an
// Allow does without them, a Deny with one never applies.
func favoured(p iameval.Policy, keys []string) iameval.Policy {
	on := func(k iameval.Condition) bool { return isOneOf(k.Key, keys) }
	var kept []iameval.Statement
	for _, st := range p.Document.Statements {
		if st.Effect == iameval.Deny && slices.ContainsFunc(st.Conditions, on) {
			continue
		}
		st.Conditions = slices.DeleteFunc(slices.Clone(st.Conditions), on)
		kept = append(kept, st)
	}
	p.Document.Statements = kept
	return p
}

func isOneOf(key string, keys []string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) })
}

// noteUnseen says that the call is allowed only if conditions hold that were not
// evaluated.
func (c Case) noteUnseen(s *report.Sheet) {
	strict := c.request()
	strict.Target.Trust, strict.Caller.Policies = c.Target.TrustPolicy(), c.Base.Named()
	if !slices.ContainsFunc(iameval.AssumeRole(strict).Checks, func(check iameval.Check) bool { return !c.granted(check) }) {
		return
	}
	var keys []string
	for _, p := range append(c.Base.Named(), c.Target.TrustPolicy()) {
		for _, st := range p.Document.Statements {
			for _, k := range st.Conditions {
				if isOneOf(k.Key, c.unseen()) && !slices.Contains(keys, k.Key) {
					keys = append(keys, k.Key)
				}
			}
		}
	}
	s.Note("conditions_unseen", "the policies of %s and %s have conditions on %s, which only STS can evaluate; they are taken to let nbidentityd through", c.Base.ARN.Name, c.Target.ARN.Name, strings.Join(keys, ", "))
}
