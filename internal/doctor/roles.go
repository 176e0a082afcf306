package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/doctor/rolebook"
	"github.com/nbidentityd/nbidentityd/internal/doctor/trust"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/rolecreds"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// readTime bounds the reading of one role, which is a dozen calls.
const readTime = 6 * time.Second

// verdict is what the policies say, where they could be read.
type verdict struct {
	sheet   *report.Sheet
	allowed bool
}

// judge reads the roles and judges them.
func (e *examination) judge(ctx context.Context) (verdict, error) {
	f, err := e.facts()
	if err != nil {
		return verdict{}, errNoName
	}
	book, err := e.books()
	if err != nil {
		return verdict{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	v := verdict{sheet: &report.Sheet{}}
	target, err := book.Read(ctx, f.target)
	var missing *rolebook.NotFound
	if errors.As(err, &missing) {
		v.sheet.Find(e.missingRole(missing, f))
		return v, nil
	}
	if err != nil {
		return verdict{}, err
	}
	base := target
	if f.base != f.target {
		if f.base.Name == "" {
			return verdict{}, errors.New("the execution role is not known, and it is what the trust policy must name")
		}
		if base, err = book.Read(ctx, f.base); err != nil {
			return verdict{}, err
		}
	}
	c := trust.Case{
		Base: base, Target: target, SessionName: f.sessionName, SourceIdentity: f.sourceIdentity,
		Tags: e.Settings.Role.Tags, Now: time.Now(), Names: e.names(f),
	}
	if nb, err := e.notebook(); err == nil {
		c.Region = nb.Region
	}
	if c.SessionName == "" {
		c.SourceIdentity = c.SomeName()
		c.SessionName = c.SourceIdentity
	}
	if f.PropagatesSourceIdentity {
		c.BaseSource = f.Subject.Name
	}
	if base.Unread != nil {
		v.sheet.Gap("permissions of "+base.ARN.Name, "%v", base.Unread)
	}
	v.allowed = c.Judge(v.sheet)
	return v, nil
}

// names is a command that lists the names that share the role.
func (e *examination) names(f facts) string {
	nb, err := e.notebook()
	switch {
	case err != nil || f.Subject.Name == "":
		return ""
	case f.Subject.Kind == identity.KindNotebook:
		return "$(aws sagemaker list-notebook-instances --region " + nb.Region + " --query 'NotebookInstances[].NotebookInstanceName' --output text | tr '\\t' ',')"
	case f.Subject.Kind == identity.KindProfile:
		return "$(aws sagemaker list-user-profiles --region " + nb.Region + " --domain-id-equals " + nb.DomainID + " --query 'UserProfiles[].UserProfileName' --output text | tr '\\t' ',')"
	}
	return f.Subject.Name
}

func (e *examination) missingRole(missing *rolebook.NotFound, f facts) report.Finding {
	found := report.Finding{ID: "role_missing", Subject: missing.Want.String(), Saw: missing.Error(),
		Means: "STS refuses nbidentityd (with the same words as for a policy that does not allow it), so the notebook gets no credentials"}
	switch {
	case missing.Have.Name != "":
		found.Commands = []string{"sed -i 's|" + missing.Want.String() + "|" + missing.Have.String() + "|' " + e.SettingsPath, "systemctl reload-or-restart " + unit}
	case f.base != f.target:
		found.Commands = []string{policyCommand(f) + " > iam.sh", "sh iam.sh"}
	default:
		found.Commands = []string{"aws iam list-roles --query \"Roles[?RoleName=='" + missing.Want.Name + "'].Arn\""}
		found.Hint = "give the notebook another execution role, or create this one again; sessions of the old one stay dead"
	}
	return found
}

// policyCommand makes the documents for this layout of roles.
func policyCommand(f facts) string {
	if f.base != f.target && f.base.Name != "" {
		return fmt.Sprintf("nbidentityd policy launcher -account %s -name %s -work-role %s -format cli", f.target.Account, f.Subject.Name, f.target.Name)
	}
	if f.PropagatesSourceIdentity {
		return fmt.Sprintf("nbidentityd policy studio-propagation -role %s -domain %s -format cli", f.target, f.Subject.Domain)
	}
	return fmt.Sprintf("nbidentityd policy self -role %s -name %s -format cli", f.target, f.Subject.Name)
}

func (e *examination) checkTrust(_ context.Context, s *report.Sheet) error {
	if e.aside() || e.Admin != nil && e.Admin.onlyDomain() {
		return report.ErrNotApplicable
	}
	v, err := e.judged()
	if err != nil {
		return err
	}
	v.sheet.Copy(s)
	return nil
}

// checkAssume sees whether the role can be assumed, by what the daemon says or,
// when it does not run, by trying.
func (e *examination) checkAssume(ctx context.Context, s *report.Sheet) error {
	if e.aside() {
		return report.ErrNotApplicable
	}
	f, err := e.facts()
	if err != nil {
		return errNoName
	}
	r, err := e.status()
	switch {
	case err == nil && r.RoleARN != "" && r.RoleARN != f.target.String():
		s.Find(report.Finding{ID: "role_changed", Subject: f.target.String(), Saw: fmt.Sprintf("the daemon assumes %s, and by now %s is the role", r.RoleARN, f.target),
			Means: "the notebook still has the rights of the earlier role", Commands: []string{"rm -f " + e.Settings.StateDir + "/discovery.json", "systemctl restart " + unit}})
		return nil
	case err == nil && r.Problem == nil && r.Credential != nil:
		if !r.Verified && r.CallerARN != "" {
			s.Find(report.Finding{ID: "misattributed", Subject: f.target.String(), Saw: "AWS sees the daemon's credentials as " + r.CallerARN,
				Means: "calls bear another name than they should", Commands: []string{"systemctl restart " + unit}})
		}
		return nil
	case err == nil && r.Problem != nil && strings.HasPrefix(r.Problem.Code, "denied_") || err == nil && r.Problem != nil && r.Problem.Code == rolecreds.CodeSourceIdentityConflict:
		return e.refused(s, f, *r.Problem)
	case err == nil && r.State == status.Starting:
		s.Note("starting", "the daemon has just started and has no credentials yet")
		return nil
	}
	c, err := e.caller()
	if err != nil {
		return errNoName
	}
	if c.session() == f.sessionName {
		return errors.New("the base credentials cannot be reached as this user, which is as it should be behind a fence; run doctor as root to try")
	}
	problem, err := e.try(ctx, f)
	if err != nil || problem == nil {
		return err
	}
	return e.refused(s, f, *problem)
}

// try assumes the role once, as the daemon would. The problem is nil when it
// worked.
func (e *examination) try(ctx context.Context, f facts) (*status.Problem, error) {
	c, err := e.cloud()
	if err != nil {
		return nil, err
	}
	source := rolecreds.New(rolecreds.Config{
		STS: c.sts, RoleARN: f.target.String(), SessionName: f.sessionName, SourceIdentity: f.sourceIdentity, Tags: e.Settings.Role.Tags, Log: zap.NewNop(),
	})
	ctx, cancel := context.WithTimeout(ctx, 2*callTime)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		st := source.Status()
		switch {
		case st.State == rolecreds.StateReady, st.State == rolecreds.StateDegraded:
			return nil, nil
		case st.State == rolecreds.StateFailing:
			return &status.Problem{Code: st.Code, Message: st.Problem, Remedy: st.Remedy}, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("STS did not answer in time")
		case <-ended:
			return nil, errors.New("it ended before STS answered")
		case <-tick.C:
		}
	}
}

// refused is what a refusal by STS comes to, beside what the policies say.
func (e *examination) refused(s *report.Sheet, f facts, p status.Problem) error {
	v, err := e.judged()
	known := err == nil
	if known && !v.allowed {
		return nil // explained by what was found there
	}
	found := report.Finding{Subject: f.target.String(), Saw: p.Message, Hint: p.Remedy,
		Means:    "the notebook gets no credentials",
		Commands: []string{policyCommand(f) + " > iam.sh", "sh iam.sh"}}
	switch p.Code {
	case rolecreds.CodeDeniedAssumeRole:
		found.ID = "assume_role_denied"
	case rolecreds.CodeDeniedSetSourceIdentity:
		found.ID = "set_source_identity_denied"
	case rolecreds.CodeSourceIdentityConflict:
		found.ID = "source_identity_conflict"
		found.Commands = []string{"sed -i 's/^ *source_identity *=.*/source_identity = \"{name}\"/' " + e.SettingsPath, "systemctl reload-or-restart " + unit}
	case awscause.CodeFailed:
		found.ID = "sts_failed"
		found.Commands = []string{"nbidentity status"}
	default:
		return nil // the way to STS, the clock, the base credentials: found where they belong
	}
	if known && (found.ID == "assume_role_denied" || found.ID == "set_source_identity_denied") {
		found.ID = "denied_elsewhere"
		found.Saw += "; the role's own policies, as far as they could be read, allow it"
		found.Means = "something above the role refuses it: a service control policy, a permissions boundary, a session policy, or the policy of a VPC endpoint for STS"
		found.Commands = []string{
			"aws iam get-role --role-name " + f.target.Name + " --query Role.PermissionsBoundary",
			"aws ec2 describe-vpc-endpoints --filters 'Name=service-name,Values=com.amazonaws.*.sts' --query 'VpcEndpoints[].PolicyDocument'",
		}
		found.Hint = "service control policies are seen from the organization's management account. " + p.Remedy
	} else if !known {
		found.Hint = "the policies could not be read from here: nbidentityd doctor on an administrator's machine reads them and prints the one statement that is missing. The commands here, run by an administrator, write the documents anew; on a role that several notebooks share, name all of them. " + p.Remedy
	}
	s.Find(found)
	return nil
}

// checkJobRoles is about roles that are passed to jobs.
func (e *examination) checkJobRoles(ctx context.Context, s *report.Sheet) error {
	if len(e.JobRoles) == 0 {
		return report.ErrNotApplicable
	}
	f, err := e.facts()
	if err != nil {
		return errNoName
	}
	book, err := e.books()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	nb, err := e.notebook()
	if err != nil {
		return errNoName
	}
	source := f.sourceIdentity
	if source == "" {
		source = "alice-nb"
	}
	for _, name := range e.JobRoles {
		arn, err := identity.ParseRoleARN(name)
		if err != nil {
			if arn, err = identity.ParseRoleARN(identity.RoleARN{Partition: f.target.Partition, Account: f.target.Account, Path: "/", Name: name}.String()); err != nil {
				return err
			}
		}
		role, err := book.Read(ctx, arn)
		var missing *rolebook.NotFound
		if errors.As(err, &missing) && missing.Have.Name != "" {
			role, err = book.Read(ctx, missing.Have) // named without its path
		}
		if errors.As(err, &missing) {
			s.Find(report.Finding{ID: "job_role_missing", Subject: arn.String(), Saw: missing.Error(), Means: "no job can run under it",
				Commands: []string{"aws iam list-roles --query 'Roles[].Arn'"}, Hint: "name another role with -job-role"})
			continue
		}
		if err != nil {
			s.Gap("job role "+name, "%v", err)
			continue
		}
		trust.Job(s, role, source, nb.Region, time.Now())
	}
	return nil
}

// roleName is the role of a session's ARN.
func roleName(session string) (string, bool) {
	_, rest, found := strings.Cut(session, ":assumed-role/")
	name, _, ok := strings.Cut(rest, "/")
	return name, found && ok
}
