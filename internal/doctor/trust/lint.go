package trust

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/doctor/rolebook"
	"github.com/nbidentityd/nbidentityd/internal/iameval"
)

// service is who assumes roles for notebooks, apps and jobs.
const service = "sagemaker.amazonaws.com"

// lint finds what works and should not, or will break once sessions bear names.
func (c Case) lint(s *report.Sheet) {
	c.openNames(s)
	c.service(s)
	c.keyed(s)
	c.strongLauncher(s)
	c.roamingLauncher(s)
	c.renewable(s)
	for _, r := range []rolebook.Role{c.Base, c.Target} {
		if r.Boundary != "" {
			s.Note("permissions_boundary", "role %s has the permissions boundary %s, which was not evaluated", r.ARN.Name, r.Boundary)
		}
	}
}

// claims reports whether the trust policy lets the base session have this session
// name and source identity.
func (c Case) claims(session, source string) bool {
	r := c.request()
	r.SessionName, r.SourceIdentity = session, source
	return !slices.ContainsFunc(iameval.AssumeRole(r).Checks, func(check iameval.Check) bool {
		return check.Refused == iameval.SideSession || check.Trust.Outcome != iameval.Allowed
	})
}

// forges reports whether the base session can have calls attributed to a name:
// by the source identity, whatever the session is called, or where there is none
// by the session's name.
func (c Case) forges(name string) bool {
	return c.claims(name, name) || c.claims(c.SessionName, name) || c.BaseSource == "" && c.claims(name, "")
}

// openNames says whose names the base session can claim besides its own.
func (c Case) openNames(s *report.Sheet) {
	if c.forges(stranger) {
		f := report.Finding{
			ID: "name_open", Subject: c.Target.ARN.String(),
			Saw:   fmt.Sprintf("the trust policy of %s lets the session of a notebook take any name it likes", c.Target.ARN.Name),
			Means: "whoever reaches the base credentials of one notebook can act under the name of another; CloudTrail cannot tell",
			Hint:  "this writes the trust policy anew, for the names that are listed; to bind each name to its notebook by IAM itself, see nbidentityd policy launcher -h",
		}
		names := c.Names
		if names == "" {
			names = c.SourceIdentity
		}
		f.Commands = []string{"nbidentityd policy self -role " + c.Target.ARN.String() + " -name \"" + names + "\" -format cli > iam.sh", "sh iam.sh"}
		if !c.self() { // those documents would shut the launchers out
			f.Commands = []string{showTrust(c.Target.ARN.Name)}
			f.Hint = "bind sts:SourceIdentity and sts:RoleSessionName in this policy to the name of each notebook, as the documents of nbidentityd policy launcher do"
		}
		s.Find(f)
		return
	}
	if shared := c.shared(); shared != "" && c.BaseSource == "" {
		s.Note("names_shared", "the trust policy of %s lets every notebook with role %s take %s too; only a role or launcher of each notebook's own prevents that (nbidentityd policy launcher)",
			c.Target.ARN.Name, c.Base.ARN.Name, shared)
	}
}

// shared says which names of others the trust policy admits, "" when none.
func (c Case) shared() string {
	others := 0
	for _, name := range c.literals() {
		if name != c.SourceIdentity && c.forges(name) {
			others++
		}
	}
	for _, like := range c.nameValues() {
		if example := strings.NewReplacer("*", stranger, "?", "x").Replace(like); example != like && c.forges(example) {
			return fmt.Sprintf("names like %q", like)
		}
	}
	if others == 0 {
		return ""
	}
	return fmt.Sprintf("%d other names", others)
}

// SomeName is a name that the trust policy writes out, or one like a notebook's.
func (c Case) SomeName() string {
	if names := c.literals(); len(names) > 0 {
		return names[0]
	}
	if key := c.tagKey(); key != "" && c.Base.Tags[key] != "" {
		return c.Base.Tags[key]
	}
	return "alice-nb"
}

// literals are the names that the trust policy writes out.
func (c Case) literals() []string {
	return slices.DeleteFunc(c.nameValues(), func(v string) bool { return strings.ContainsAny(v, "*?$") })
}

// nameValues are what the trust policy's conditions say of the source identity.
func (c Case) nameValues() []string {
	var all []string
	for _, st := range c.Target.Trust.Statements {
		for _, k := range st.Conditions {
			if !strings.EqualFold(k.Key, "sts:SourceIdentity") {
				continue
			}
			for _, v := range k.Values {
				if !slices.Contains(all, v) {
					all = append(all, v)
				}
			}
		}
	}
	return all
}

// service is about SageMaker itself, which assumes the role for apps and jobs
// and hands the source identity on.
func (c Case) service(s *report.Sheet) {
	if c.BaseSource != "" && Propagated(s, c.Base, c.BaseSource, c.Region, c.Now) {
		return
	}
	if broken, trusts := refusesSource(c.Target, c.SourceIdentity, c.Region, c.Now); broken && trusts {
		s.Find(report.Finding{
			ID: "jobs_trust", Subject: c.Target.ARN.String(),
			Saw:      fmt.Sprintf("the trust policy of %s lets %s assume it, but not do sts:SetSourceIdentity", c.Target.ARN.Name, service),
			Means:    "jobs that a notebook starts with its own role (get_execution_role() of the SageMaker SDK) are refused, because they take over its source identity",
			Commands: serviceCommand(c.Target, c.SourceIdentity, c.Region, c.Now),
		})
	}
}

// Propagated judges the execution role of a domain that sets source identities,
// and reports whether it found something.
func Propagated(s *report.Sheet, role rolebook.Role, sourceIdentity, region string, now time.Time) bool {
	broken, _ := refusesSource(role, sourceIdentity, region, now)
	if broken {
		s.Find(report.Finding{
			ID: "propagation_trust", Subject: role.ARN.String(),
			Saw:      fmt.Sprintf("the domain sets source identities, and the trust policy of %s does not let %s do sts:SetSourceIdentity", role.ARN.Name, service),
			Means:    "apps with this role do not start, or get no credentials",
			Commands: serviceCommand(role, sourceIdentity, region, now),
		})
	}
	return broken
}

// Job judges a role that is passed to SageMaker jobs by a session with a
// source identity.
func Job(s *report.Sheet, role rolebook.Role, sourceIdentity, region string, now time.Time) {
	broken, trusts := refusesSource(role, sourceIdentity, region, now)
	f := report.Finding{Subject: role.ARN.String(), Commands: serviceCommand(role, sourceIdentity, region, now)}
	switch {
	case !trusts:
		f.ID = "job_role_service"
		f.Saw = fmt.Sprintf("the trust policy of %s does not let %s assume it", role.ARN.Name, service)
		f.Means = "no job can run under this role"
	case broken:
		f.ID = "job_role_trust"
		f.Saw = fmt.Sprintf("the trust policy of %s lets %s assume it, but not do sts:SetSourceIdentity", role.ARN.Name, service)
		f.Means = "creating a job with this role fails with AccessDeniedException or ValidationError, because the job takes over the notebook's source identity"
	default:
		return
	}
	s.Find(f)
}

// refusesSource reports whether SageMaker may not hand the source identity on
// to the role, and whether it may assume the role at all.
func refusesSource(role rolebook.Role, sourceIdentity, region string, now time.Time) (broken, trusts bool) {
	d := iameval.AssumeRole(iameval.AssumeRoleRequest{
		Caller:      iameval.Caller{Principal: iameval.Principal{Service: service}},
		Target:      iameval.Role{ARN: role.ARN.String(), Tags: role.Tags, Trust: favoured(role.TrustPolicy(), sourceKeys)},
		SessionName: baseSession, SourceIdentity: sourceIdentity, Region: region, Time: now,
		Context: map[string][]string{"aws:SourceAccount": {role.ARN.Account}},
	})
	return !d.Allowed(), d.Checks[0].Refused == iameval.SideNone
}

// serviceCommand lets SageMaker assume the role with a source identity; where a
// statement denies that, it only shows the policy.
func serviceCommand(role rolebook.Role, sourceIdentity, region string, now time.Time) []string {
	actions := []string{iameval.ActionAssumeRole, iameval.ActionSetSourceIdentity}
	if _, trusts := refusesSource(role, sourceIdentity, region, now); trusts {
		actions = actions[1:] // on the conditions that somebody set for assuming it
	}
	text, doc, err := extend(role, []statement{{Sid: "SageMakerSourceIdentity", Effect: "Allow", Principal: map[string]string{"Service": service}, Action: actions}})
	if err != nil {
		return []string{showTrust(role.ARN.Name)}
	}
	mended := role
	mended.Trust = doc
	if broken, _ := refusesSource(mended, sourceIdentity, region, now); broken {
		return []string{showTrust(role.ARN.Name)}
	}
	return []string{updateTrust(role.ARN.Name, text)}
}

// keyed finds statements that hold for the session SageMaker and not for the
// named one, because of the session's name in aws:userid.
func (c Case) keyed(s *report.Sheet) {
	userID := func(session string) map[string][]string {
		return map[string][]string{"aws:userid": {c.Target.ID + ":" + session}}
	}
	for _, p := range c.Target.Policies {
		for _, st := range p.Document.Statements {
			i := slices.IndexFunc(st.Conditions, func(k iameval.Condition) bool {
				return strings.EqualFold(k.Key, "aws:userid") && holds(k, p.Document.Version, userID(baseSession)) != holds(k, p.Document.Version, userID(c.SessionName))
			})
			if i < 0 {
				continue
			}
			s.Find(report.Finding{
				ID: "keyed_policy", Subject: c.Target.ARN.String(),
				Saw:      fmt.Sprintf("%s of policy %s has the condition %s aws:userid %q", st.Name(), p.Name, st.Conditions[i].Operator, st.Conditions[i].Values),
				Means:    fmt.Sprintf("it treats the session %q, which all notebooks had so far, unlike the session %q: what it allows or denies changes once nbidentityd runs", baseSession, c.SessionName),
				Commands: []string{Case{Base: c.Target}.show(p.Name)},
				Hint:     "write the condition on the role instead (ArnEquals aws:PrincipalArn), or on aws:SourceIdentity",
			})
		}
	}
}

// holds evaluates one condition by itself.
func holds(k iameval.Condition, version string, keys map[string][]string) bool {
	doc := iameval.Document{Version: version, Statements: []iameval.Statement{
		{Effect: iameval.Allow, Actions: []string{"*"}, Resources: []string{"*"}, Conditions: []iameval.Condition{k}}}}
	d := iameval.EvaluateIdentity([]iameval.Policy{{Document: doc}}, iameval.Request{Action: "sts:AssumeRole", Resource: "*", Context: keys})
	return d.Outcome == iameval.Allowed
}

// harmless is what a launcher may do besides assuming its work role.
func harmless(action string) bool {
	action = strings.ToLower(action)
	for _, prefix := range []string{"sts:", "logs:createlog", "logs:describelogstreams", "logs:putlogevents", "sagemaker:describe", "sagemaker:list", "iam:get", "iam:list"} {
		if strings.HasPrefix(action, prefix) {
			return true
		}
	}
	switch action {
	case "sagemaker:stopnotebookinstance", "s3:getobject", "kms:decrypt":
		return true // auto-stop, and fetching the package
	}
	return false
}

// strongLauncher finds a launcher role that can do work without a name.
func (c Case) strongLauncher(s *report.Sheet) {
	if c.self() {
		return
	}
	for _, p := range c.Base.Policies {
		for _, st := range p.Document.Statements {
			bad := slices.DeleteFunc(slices.Clone(st.Actions), harmless)
			if st.Effect != iameval.Allow || len(bad) == 0 && len(st.NotActions) == 0 {
				continue
			}
			what := strings.Join(bad, ", ")
			if len(st.NotActions) > 0 {
				what = "all but " + strings.Join(st.NotActions, ", ")
			}
			command := "aws iam delete-role-policy --role-name " + c.Base.ARN.Name + " --policy-name " + quote(p.Name)
			if p.ARN != "" {
				command = "aws iam detach-role-policy --role-name " + c.Base.ARN.Name + " --policy-arn " + p.ARN
			}
			s.Find(report.Finding{
				ID: "launcher_permissions", Subject: c.Base.ARN.String(),
				Saw:      fmt.Sprintf("%s of policy %s lets the launcher role %s do %s itself", st.Name(), p.Name, c.Base.ARN.Name, what),
				Means:    "whoever reaches the base credentials can do this without a name; a launcher should only be able to assume " + c.Target.ARN.Name,
				Commands: []string{command},
				Hint:     "give the permission to " + c.Target.ARN.Name + " first, if notebooks need it; keep statements of this policy that only assume the work role",
			})
		}
	}
}

// roamingLauncher finds a launcher role that may assume other roles than its work
// role: those that trust the account ask for no name.
func (c Case) roamingLauncher(s *report.Sheet) {
	if c.self() {
		return
	}
	other, caller := c.Target.ARN, c.caller()
	other.Path, other.Name = "/", stranger
	d := iameval.EvaluateIdentity(caller.Policies, iameval.Request{
		Principal: caller.Principal, Action: iameval.ActionAssumeRole, Resource: other.String(), Context: caller.Context(c.Now, c.Region),
	})
	if d.Outcome != iameval.Allowed {
		return
	}
	s.Find(report.Finding{
		ID: "launcher_assumes_any", Subject: c.Base.ARN.String(),
		Saw:      fmt.Sprintf("%s on roles of any name", d.Reason),
		Means:    "whoever reaches the base credentials can assume, without a name, every role that trusts the account; a launcher should only be able to assume " + c.Target.ARN.Name,
		Commands: []string{c.show(d.Policy)},
		Hint:     "make the Resource of this statement " + c.Target.ARN.String(),
	})
}

// renewable notes that a named session can renew itself.
func (c Case) renewable(s *report.Sheet) {
	r := c.request()
	r.Caller.Principal = iameval.Principal{Account: c.Target.ARN.Account, RoleARN: c.Target.ARN.String(), UniqueID: c.Target.ID, SessionARN: c.Target.ARN.SessionARN(c.SessionName)}
	r.Caller.SourceIdentity, r.Caller.Tags, r.Caller.Policies = c.SourceIdentity, c.Target.Tags, c.policies(c.Target)
	if c.Target.Unread == nil && iameval.AssumeRole(r).Allowed() {
		s.Note("renewable", "a named session may assume %s again, so credentials that leave the notebook can be renewed for ever elsewhere; the trust policies of nbidentityd policy prevent it (Null aws:SourceIdentity)", c.Target.ARN.Name)
	}
}
