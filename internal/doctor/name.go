package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/discovery"
	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/rolecreds"
)

// errNoName is why checks that need the name give up: another check says why.
var errNoName = errors.New("the name or the role is not known")

// ask is discovery that gives up at the first problem.
func (e *examination) ask(ctx context.Context, nb identity.Notebook, role string) (discovery.Facts, error) {
	c, err := e.cloud()
	if err != nil {
		return discovery.Facts{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*callTime)
	defer cancel()
	var first error
	found, err := discovery.Discover(ctx, discovery.Config{
		SageMaker: c.sagemaker, RoleARN: role,
		OnProblem: func(problem error) {
			if first == nil && problem != nil {
				first = problem
				cancel()
			}
		},
	}, nb)
	if first != nil {
		return found, first
	}
	return found, err
}

// findFacts finds out who and as which roles: the execution role, and the one
// that the settings may name in its place.
func (e *examination) findFacts(ctx context.Context) (facts, error) {
	nb, err := e.notebook()
	if err != nil {
		return facts{}, errNoName
	}
	if _, err := e.caller(); err != nil {
		return facts{}, errNoName // and why
	}
	want := e.Settings.Role.ARN
	if e.Admin != nil {
		want = e.Admin.Role
	}
	var f facts
	if e.Admin != nil && e.Admin.onlyRole() {
		f.Facts = discovery.Facts{ExecutionRoleARN: want, RoleSource: discovery.RoleFromSetting}
	} else if f.Facts, err = e.ask(ctx, nb, ""); err != nil && want != "" {
		f.Facts, err = e.ask(ctx, nb, want)
	}
	if err != nil {
		return facts{}, err
	}
	if f.RoleSource != discovery.RoleFromSetting || e.Admin != nil && e.Admin.onlyRole() {
		if f.base, err = identity.ParseRoleARN(f.ExecutionRoleARN); err != nil {
			return facts{}, err
		}
	}
	f.target = f.base
	if want != "" {
		expanded, err := rolecreds.ExpandRoleARN(want, nb.Account, nb.Partition, f.Subject.Name)
		if err == nil {
			f.target, err = identity.ParseRoleARN(expanded)
		}
		if err != nil {
			return facts{}, err
		}
	}
	if f.Subject.Name == "" { // a role alone: its trust policy knows the names
		return f, nil
	}
	f.sessionName, f.sourceIdentity, err = blueprint.Names(e.Settings.Identity, f.Facts)
	return f, err
}

// checkName is about what nbidentityd has to ask SageMaker.
func (e *examination) checkName(ctx context.Context, s *report.Sheet) error {
	if e.aside() || e.Admin != nil && (e.Admin.onlyRole() || e.Admin.onlyDomain()) {
		return report.ErrNotApplicable
	}
	f, err := e.facts()
	var cause *awscause.Error
	switch {
	case err == nil:
		e.noteName(f, s)
		return nil
	case errors.As(err, &cause):
		e.explainName(ctx, s, cause)
		return nil
	}
	return err
}

func (e *examination) noteName(f facts, s *report.Sheet) {
	switch {
	case f.Subject.Kind == identity.KindSharedSpace:
		s.Note("shared_space", "this is a shared space: its calls carry the name of the space, %s, and who of its users made them cannot be known", f.Subject.Name)
	case len(f.Subject.Name) == 1:
		s.Note("short_name", "the name %s has one character, and STS wants two: it is written %s", f.Subject.Name, f.sessionName)
	case f.sessionName != "" && f.sessionName != f.Subject.Name:
		s.Note("template", "by the settings' template the name %s is written %s", f.Subject.Name, f.sessionName)
	}
}

func (e *examination) explainName(ctx context.Context, s *report.Sheet, cause *awscause.Error) {
	nb, err := e.notebook()
	if err != nil {
		return
	}
	f := report.Finding{Subject: nb.ResourceARN, Saw: cause.Error(), Hint: cause.Remedy(),
		Means: "nbidentityd cannot find out the name or the role of this notebook, so SDKs get an error instead of credentials"}
	switch cause.Code() {
	case discovery.CodeDeniedDescribe:
		f.ID = "describe_denied"
		f.Commands = e.allowDescribe(nb)
	case discovery.CodeNotFound:
		f.ID = "resource_unknown"
		f.Commands = []string{fmt.Sprintf("aws sagemaker list-notebook-instances --region %s", nb.Region)}
		if nb.DomainID != "" {
			f.Commands = []string{fmt.Sprintf("aws sagemaker list-spaces --region %s --domain-id-equals %s", nb.Region, nb.DomainID),
				fmt.Sprintf("aws sagemaker list-user-profiles --region %s --domain-id-equals %s", nb.Region, nb.DomainID)}
		}
	case discovery.CodeOwnerUnknown:
		f.ID = "owner_unknown"
		f.Commands = []string{fmt.Sprintf("aws sagemaker describe-space --region %s --domain-id %s --space-name %s", nb.Region, nb.DomainID, nb.Space)}
	case discovery.CodeRoleUnknown:
		f.ID = "role_unknown"
		f.Commands = []string{"printf '\\n[role]\\narn = \"arn:%s:iam::%s:role/%s\"\\n' " + nb.Partition + " " + nb.Account + " EXECUTION-ROLE >> " + e.SettingsPath}
	default:
		e.awsFinding(s, "sagemaker", sageMakerHost(ctx, nb.Region), nb.Region, e.Settings.Endpoints.SageMaker, cause)
		return
	}
	s.Find(f)
}

// allowDescribe lets the execution role ask who it is.
func (e *examination) allowDescribe(nb identity.Notebook) []string {
	role := "EXECUTION-ROLE"
	if c, err := e.caller(); err == nil {
		if name, ok := roleName(c.arn); ok {
			role = name
		}
	}
	prefix := "arn:" + nb.Partition + ":sagemaker:" + nb.Region + ":" + nb.Account + ":"
	document := fmt.Sprintf(`{
 "Version": "2012-10-17",
 "Statement": [
  {
   "Sid": "NbIdentityDescribe",
   "Effect": "Allow",
   "Action": [
    "sagemaker:DescribeNotebookInstance",
    "sagemaker:DescribeSpace",
    "sagemaker:DescribeUserProfile",
    "sagemaker:DescribeDomain"
   ],
   "Resource": [
    "%[1]snotebook-instance/*",
    "%[1]sspace/*",
    "%[1]suser-profile/*",
    "%[1]sdomain/*"
   ]
  }
 ]
}`, prefix)
	return []string{"aws iam put-role-policy --role-name " + role + " --policy-name NbIdentityDescribe --policy-document '" + document + "'"}
}

// checkInstance is about settings of a notebook instance that let its user
// become root, or make the metadata service easier to abuse.
func (e *examination) checkInstance(ctx context.Context, s *report.Sheet) error {
	nb, err := e.notebook()
	if err != nil {
		return errNoName
	}
	if nb.Surface != identity.SurfaceNotebookInstance {
		return report.ErrNotApplicable
	}
	if f, err := e.facts(); err != nil || f.Subject.Name == "" {
		return errNoName
	}
	c, err := e.cloud()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	out, err := c.sagemaker.DescribeNotebookInstance(ctx, &sagemaker.DescribeNotebookInstanceInput{NotebookInstanceName: &nb.InstanceName})
	if err != nil {
		return fmt.Errorf("DescribeNotebookInstance: %s", awscause.OneLine(err.Error()))
	}
	update := func(flags string) []string {
		at := " --region " + nb.Region + " --notebook-instance-name " + nb.InstanceName
		stopped := "aws sagemaker wait notebook-instance-stopped" + at
		return []string{"aws sagemaker stop-notebook-instance" + at, stopped,
			"aws sagemaker update-notebook-instance" + at + " " + flags, stopped, "aws sagemaker start-notebook-instance" + at}
	}
	arn := aws.ToString(out.NotebookInstanceArn)
	if out.RootAccess != types.RootAccessDisabled {
		s.Find(report.Finding{ID: "root_access", Subject: arn, Saw: "root access is enabled for the notebook's users",
			Means:    "a user who becomes root can end nbidentityd, take the fence down and use the base credentials, which have no name",
			Commands: update("--root-access Disabled"),
			Hint:     "nbidentityd itself runs as root either way. Users can then no longer install system packages; accept it with -ignore root_access"})
	}
	if m := out.InstanceMetadataServiceConfiguration; m == nil || aws.ToString(m.MinimumInstanceMetadataServiceVersion) != "2" {
		s.Find(report.Finding{ID: "imds_v1", Subject: arn, Saw: "the metadata service also answers without a token (version 1)",
			Means:    "a request that a program is talked into making, or a proxy, is enough to get the base credentials",
			Commands: update("--instance-metadata-service-configuration MinimumInstanceMetadataServiceVersion=2")})
	}
	return nil
}

// checkDomain is about what a Studio domain does by itself.
func (e *examination) checkDomain(ctx context.Context, s *report.Sheet) error {
	if e.Admin != nil && e.Admin.onlyDomain() {
		return e.wholeDomain(ctx, s)
	}
	nb, err := e.notebook()
	if err != nil {
		return errNoName
	}
	if nb.DomainID == "" || e.aside() {
		return report.ErrNotApplicable
	}
	f, err := e.facts()
	switch {
	case err != nil:
		return errNoName
	case f.Subject.Kind != identity.KindProfile:
	case !f.PropagationKnown:
		return errors.New("whether the domain sets source identities could not be asked (sagemaker:DescribeDomain)")
	case f.PropagatesSourceIdentity:
		s.Note("propagation", "domain %s sets the profile's name as source identity itself; nbidentityd adds the session name", nb.DomainID)
	default:
		s.Note("propagation", "domain %s sets no source identity (ExecutionRoleIdentityConfig); turned on, the name in private apps could not be shed even here: see nbidentityd policy studio-propagation -h", nb.DomainID)
	}
	return nil
}
