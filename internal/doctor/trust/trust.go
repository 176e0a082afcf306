// Package trust judges whether a notebook's base session may take its name, why
// not, and who else may take it.
//
// It is pure: it asks nobody and changes nothing. The decision is iameval's. The
// reason is found by counterfactuals: the request is changed in one respect
// after another, such as the tag of the launcher or the path of the role, and
// the first change with which the same policies would allow it names what is
// wrong. Every trust policy that a remedy proposes is the role's own with
// statements added (and dead principals removed, with which IAM takes no
// document), and has been evaluated: with it the call is allowed.
//
// What iameval does not know (service control policies, permissions boundaries,
// session policies, VPC endpoint policies) it cannot judge either. Conditions on
// what only STS sees, such as the caller's network, are taken to hold.
//
// It is longer than most because the judgement, its remedies and the warnings
// try the same changes of one request.
package trust

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/doctor/rolebook"
	"github.com/nbidentityd/nbidentityd/internal/iameval"
	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
)

// Case is the call that nbidentityd makes for one notebook.
type Case struct {
	Base   rolebook.Role // the execution role, whose session makes the call
	Target rolebook.Role // the role that is assumed; often the same

	SessionName    string
	SourceIdentity string
	Tags           map[string]string // session tags
	// BaseSource is the source identity that the base session already has: the
	// profile's name where the domain propagates it.
	BaseSource string
	Region     string
	Now        time.Time

	// Names is a command that lists the names that may be taken, for remedies;
	// "" when nothing can list them.
	Names string
}

// stranger is a name that no notebook has.
const stranger = "nbidentityd-doctor-stranger"

// baseSession is what SageMaker calls the sessions that it starts.
const baseSession = "SageMaker"

// Judge reports whether the base session may take the name, as far as the
// policies say, and finds what is wrong with them.
func (c Case) Judge(s *report.Sheet) (allowed bool) {
	allowed = true
	var found []report.Finding
	for _, check := range iameval.AssumeRole(c.request()).Checks {
		if c.granted(check) {
			continue
		}
		allowed = false
		for _, f := range c.explain(check) {
			// What one command mends is one finding.
			i := slices.IndexFunc(found, func(g report.Finding) bool { return slices.Equal(f.Commands, g.Commands) && len(f.Commands) > 0 })
			if i < 0 {
				found = append(found, f)
			} else if f.ID != found[i].ID {
				found[i].Saw += "; likewise for " + check.Action
			}
		}
	}
	for _, f := range found {
		s.Find(f)
	}
	if allowed {
		c.noteUnseen(s)
	}
	c.lint(s)
	return allowed
}

func (c Case) request() iameval.AssumeRoleRequest {
	return iameval.AssumeRoleRequest{
		Caller: c.caller(),
		Target: iameval.Role{ARN: c.Target.ARN.String(), Tags: c.Target.Tags, Trust: favoured(c.Target.TrustPolicy(), c.unseen())},

		SessionName: c.SessionName, SourceIdentity: c.SourceIdentity, Tags: c.Tags,
		Region: c.Region, Time: c.Now,
	}
}

func (c Case) caller() iameval.Caller {
	return iameval.Caller{
		Principal: iameval.Principal{
			Account: c.Base.ARN.Account, RoleARN: c.Base.ARN.String(), UniqueID: c.Base.ID,
			SessionARN: c.Base.ARN.SessionARN(baseSession),
		},
		Tags: maps.Clone(c.Base.Tags), SourceIdentity: c.BaseSource, TokenIssued: c.Now, Policies: c.policies(c.Base),
	}
}

// policies are the identity policies with which a session of r is judged.
func (c Case) policies(r rolebook.Role) []iameval.Policy {
	all := r.Named()
	for i := range all {
		all[i] = favoured(all[i], c.unseen())
	}
	return all
}

// granted reports whether nothing that was read refuses. Policies that could
// not be read are given the benefit of the doubt: whoever asks STS will see.
func (c Case) granted(check iameval.Check) bool {
	switch {
	case check.Refused == iameval.SideSession, check.Trust.Outcome != iameval.Allowed, check.Identity.Outcome == iameval.ExplicitDeny:
		return false
	case c.Base.Unread != nil, !check.IdentityNeeded:
		return true
	}
	return check.Identity.Outcome == iameval.Allowed
}

func (c Case) self() bool { return c.Base.ARN == c.Target.ARN }

// explain is what is wrong on either side for one action.
func (c Case) explain(check iameval.Check) (found []report.Finding) {
	if check.Refused == iameval.SideSession {
		return []report.Finding{{
			ID: "source_identity_conflict", Subject: c.Base.ARN.String(),
			Saw:      fmt.Sprintf("the sessions of this app begin with the source identity %q, and nbidentityd would set %q", c.BaseSource, c.SourceIdentity),
			Means:    "AWS lets nobody change a source identity, so the role cannot be assumed and every call of the notebook fails",
			Commands: []string{"sed -i 's/^ *source_identity *=.*/source_identity = \"{name}\"/' /etc/nbidentityd/nbidentityd.toml", "systemctl reload-or-restart nbidentityd"},
		}}
	}
	if check.Trust.Outcome != iameval.Allowed {
		found = append(found, c.trustFinding(check))
	}
	needed := check.IdentityNeeded || check.Trust.Outcome != iameval.Allowed // our remedy names the account
	switch {
	case check.Identity.Outcome == iameval.ExplicitDeny:
		found = append(found, report.Finding{
			ID: "permission_denied", Subject: c.Base.ARN.String(),
			Saw:      check.Identity.Reason,
			Means:    fmt.Sprintf("the Deny outweighs every Allow, so %s cannot do %s and the notebook gets no credentials", c.Base.ARN.Name, check.Action),
			Commands: []string{c.show(check.Identity.Policy)},
			Hint:     "take " + check.Action + " on " + c.Target.ARN.String() + " out of the Deny (NotAction or NotResource)",
		})
	case needed && c.Base.Unread == nil && check.Identity.Outcome != iameval.Allowed:
		found = append(found, c.permissionFinding(check.Action))
	}
	return found
}

// show is the command that prints one identity policy of the base role.
func (c Case) show(policy string) string {
	for _, p := range c.Base.Policies {
		if p.Name == policy && p.ARN != "" {
			return "aws iam get-policy-version --policy-arn " + p.ARN + " --version-id $(aws iam get-policy --policy-arn " + p.ARN + " --query Policy.DefaultVersionId --output text)"
		}
	}
	return "aws iam get-role-policy --role-name " + c.Base.ARN.Name + " --policy-name " + quote(policy)
}

func (c Case) permissionFinding(action string) report.Finding {
	id := "permission_assume_role"
	switch action {
	case iameval.ActionSetSourceIdentity:
		id = "permission_set_source_identity"
	case iameval.ActionTagSession:
		id = "permission_tag_session"
	}
	return report.Finding{
		ID: id, Subject: c.Base.ARN.String(),
		Saw:      fmt.Sprintf("no identity policy of %s allows %s on %s", c.Base.ARN.Name, action, c.Target.ARN),
		Means:    "the trust policy alone is not enough, so STS refuses nbidentityd and the notebook gets no credentials",
		Commands: []string{c.putPermission()},
	}
}

var deadPrincipal = lazyregexp.New(`^A(ROA|IDA)[A-Z0-9]{16,}$`)

// trustFinding says why the trust policy refuses the action.
func (c Case) trustFinding(check iameval.Check) report.Finding {
	role := c.Target.ARN.Name
	f := report.Finding{Subject: c.Target.ARN.String(), Means: "STS refuses nbidentityd, so the notebook gets no credentials"}
	if check.Trust.Outcome == iameval.ExplicitDeny {
		f.ID = "trust_denies"
		f.Saw = check.Trust.Reason
		f.Commands = []string{showTrust(role)}
		f.Hint = "take the call of " + c.Base.ARN.String() + " under the name " + c.SessionName + " out of this Deny; no Allow outweighs it"
		return f
	}
	f.Commands = c.putTrust()
	if len(f.Commands) == 0 {
		f.Commands = []string{showTrust(role)}
		f.Hint = "no statement can be added that would help: another one denies the call, or the policy is at its size limit"
	}
	if key := c.tagKey(); key != "" && c.Base.Tags[key] != c.SourceIdentity && c.wouldAllow(check.Action, func(r *iameval.AssumeRoleRequest) { r.Caller.Tags[key] = c.SourceIdentity }) {
		f.ID, f.Subject = "launcher_tag", c.Base.ARN.String()
		f.Saw = fmt.Sprintf("the tag %s of %s is %q, and the trust policy of %s lets it take only the name in that tag", key, c.Base.ARN.Name, c.Base.Tags[key], role)
		f.Commands = []string{fmt.Sprintf("aws iam tag-role --role-name %s --tags %s", c.Base.ARN.Name, quote("Key="+key+",Value="+c.SourceIdentity))}
		return f
	}
	switch {
	case c.BaseSource != "" && c.wouldAllow(check.Action, func(r *iameval.AssumeRoleRequest) { r.Caller.SourceIdentity = "" }):
		f.ID = "propagation_conflict"
		f.Saw = fmt.Sprintf("the domain sets the source identity %q itself, and the trust policy of %s wants base sessions without one", c.BaseSource, role)
	case c.BaseSource == "" && c.wouldAllow(check.Action, func(r *iameval.AssumeRoleRequest) { r.Caller.SourceIdentity = c.SourceIdentity }):
		f.ID = "propagation_off"
		f.Saw = fmt.Sprintf("the trust policy of %s wants base sessions whose source identity the domain has set, and this domain sets none (ExecutionRoleIdentityConfig)", role)
	case c.wouldAllow(check.Action, func(r *iameval.AssumeRoleRequest) {
		r.Caller.RoleARN = strings.Replace(r.Caller.RoleARN, ":role"+c.Base.ARN.Path, ":role/", 1)
	}):
		f.ID = "trust_path"
		f.Saw = fmt.Sprintf("the trust policy of %s names the role without its path; it is %s", role, c.Base.ARN)
	case check.Action == iameval.ActionSetSourceIdentity && c.wouldAllow(check.Action, func(r *iameval.AssumeRoleRequest) { r.SessionNameEverywhere = true }):
		f.ID = "trust_session_name_condition"
		f.Saw = fmt.Sprintf("in the trust policy of %s a condition on sts:RoleSessionName stands in the statement that allows sts:SetSourceIdentity, which does not have that key", role)
	case c.names(check.Action):
		f.ID = "trust_name"
		f.Saw = fmt.Sprintf("the trust policy of %s does not let it take the name %s (%s)", role, c.SourceIdentity, check.Trust.Reason)
	case c.dead():
		f.ID = "trust_dead_principal"
		f.Saw = fmt.Sprintf("the trust policy of %s names a principal that is gone, by its unique id: a role that was deleted and made again is another one", role)
	case c.conditional(check):
		f.ID = "trust_condition"
		f.Saw = fmt.Sprintf("a condition in the trust policy of %s does not hold: %s", role, check.Trust.Reason)
	case check.Action == iameval.ActionSetSourceIdentity:
		f.ID = "trust_set_source_identity"
		f.Saw = fmt.Sprintf("no statement in the trust policy of %s lets %s do sts:SetSourceIdentity", role, c.Base.ARN)
	case check.Action == iameval.ActionTagSession:
		f.ID = "trust_tag_session"
		f.Saw = fmt.Sprintf("no statement in the trust policy of %s lets %s do sts:TagSession", role, c.Base.ARN)
	case c.self():
		f.ID = "trust_self_missing"
		f.Saw = fmt.Sprintf("no statement in the trust policy of %s lets the role assume itself; since 2022 no role may unless it says so", role)
	default:
		f.ID = "trust_base_missing"
		f.Saw = fmt.Sprintf("no statement in the trust policy of %s lets %s assume it", role, c.Base.ARN)
	}
	return f
}

// wouldAllow reports whether the trust policy would allow action if the request
// were different.
func (c Case) wouldAllow(action string, change func(*iameval.AssumeRoleRequest)) bool {
	r := c.request()
	if r.Caller.Tags == nil {
		r.Caller.Tags = map[string]string{}
	}
	change(&r)
	for _, check := range iameval.AssumeRole(r).Checks {
		if check.Action == action {
			return check.Trust.Outcome == iameval.Allowed
		}
	}
	return false
}

// names reports whether only the conditions on the name refuse the action.
func (c Case) names(action string) bool {
	return c.without(action, func(k iameval.Condition) bool {
		return strings.EqualFold(k.Key, "sts:SourceIdentity") || strings.EqualFold(k.Key, "sts:RoleSessionName")
	})
}

// without reports whether the trust policy less the conditions that drop names
// would allow the action.
func (c Case) without(action string, drop func(iameval.Condition) bool) bool {
	c.Target.Trust.Statements = slices.Clone(c.Target.Trust.Statements)
	for i := range c.Target.Trust.Statements {
		st := &c.Target.Trust.Statements[i]
		if st.Effect == iameval.Allow {
			st.Conditions = slices.DeleteFunc(slices.Clone(st.Conditions), drop)
		}
	}
	return c.wouldAllow(action, func(*iameval.AssumeRoleRequest) {})
}

// conditional reports whether some statement names caller and action, but for
// its conditions.
func (c Case) conditional(check iameval.Check) bool {
	return c.without(check.Action, func(iameval.Condition) bool { return true })
}

// dead reports whether the trust policy names a role or user that is gone.
func (c Case) dead() bool {
	for _, st := range c.Target.Trust.Statements {
		if slices.ContainsFunc(st.Principals, isDead) {
			return true
		}
	}
	return false
}

func isDead(p iameval.PrincipalName) bool { return p.Type == "AWS" && deadPrincipal.MatchString(p.ID) }

var tagVariable = lazyregexp.New(`\$\{aws:PrincipalTag/([^}',]+)\}`)

// tagKey is the tag of the base role to which the trust policy binds the name,
// "" when there is none.
func (c Case) tagKey() string {
	for _, st := range c.Target.Trust.Statements {
		for _, k := range st.Conditions {
			if !strings.EqualFold(k.Key, "sts:SourceIdentity") && !strings.EqualFold(k.Key, "sts:RoleSessionName") {
				continue
			}
			for _, v := range k.Values {
				if m := tagVariable.FindStringSubmatch(v); m != nil {
					return m[1]
				}
			}
		}
	}
	return ""
}
