// Package discovery asks AWS, with the notebook's base credentials, what the
// metadata file leaves out: who owns a private space, which role the notebook
// runs as, and whether the Studio domain puts the user's name into the session
// by itself.
//
// # Order of decisions
//
//  1. Unified Studio, or trusted identity propagation: [StepAside]. The platform
//     attributes the calls itself, and assuming the role again would drop that.
//  2. A notebook instance: its own name is the subject.
//  3. An app of a Studio user profile: the profile is the subject.
//  4. An app in a space: DescribeSpace. A private space's owner is the subject; a
//     shared space is a subject of its own, as nobody can tell who is typing. Spaces
//     of Studio Classic (KernelGateway, JupyterServer) that carry no sharing
//     type are shared, the only kind there was before sharing types.
//  5. The execution role: the setting, else the metadata file, else
//     DescribeNotebookInstance (notebook instance), DescribeUserProfile and then
//     the domain's default (profile, private space), or the domain's default for
//     spaces (shared space). Never from GetCallerIdentity, which has lost the path
//     of the role, and never from the name in the metadata service, which is AWS's
//     own.
//  6. For a profile: the domain's ExecutionRoleIdentityConfig. This one is soft:
//     it changes nothing about the name, so when it cannot be learnt it is
//     recorded as unknown.
//
// # What is guaranteed
//
// The name of a private space is never used as a subject: without its owner
// there is no answer. What AWS answers is checked by the same rules as the
// metadata file. A question that fails is asked again until the context ends:
// soon when the cause may pass, every minute or so when an administrator has to
// act first, since they may act while we wait.
//
// What was learnt is remembered in a file without secrets, so that a restart
// makes no Describe call. The memory holds for one resource (ARN, domain, space)
// and must not outlive the run of the app or instance, because role and domain
// setting may change while it is stopped: put it where a stop erases it, which
// the root file system of a notebook instance and /run and /var/tmp in Studio
// are. A memory that anyone but the daemon's own user could have written is
// ignored. Where the daemon runs as the notebook user, that user can forge it.
//
// It is longer than most because an answer may be asked for, waited for or
// remembered, and each must come to the same: question.go asks, memory.go
// remembers, discovery.go decides.
package discovery

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// SageMakerAPI is the part of *sagemaker.Client that is used. Its credentials
// must be the base credentials and its region the notebook's.
type SageMakerAPI interface {
	DescribeNotebookInstance(context.Context, *sagemaker.DescribeNotebookInstanceInput, ...func(*sagemaker.Options)) (*sagemaker.DescribeNotebookInstanceOutput, error)
	DescribeSpace(context.Context, *sagemaker.DescribeSpaceInput, ...func(*sagemaker.Options)) (*sagemaker.DescribeSpaceOutput, error)
	DescribeUserProfile(context.Context, *sagemaker.DescribeUserProfileInput, ...func(*sagemaker.Options)) (*sagemaker.DescribeUserProfileOutput, error)
	DescribeDomain(context.Context, *sagemaker.DescribeDomainInput, ...func(*sagemaker.Options)) (*sagemaker.DescribeDomainOutput, error)
}

// Config says how to discover.
type Config struct {
	SageMaker SageMakerAPI

	// RoleARN is the administrator's setting. When it is not empty it is taken
	// as it is, be it a template, and the execution role is not looked for.
	RoleARN string

	// StateFile is where answers are remembered; "" = nowhere. Its directory
	// must exist.
	StateFile string

	// TrustedIdentityPropagation tells that the environment variable
	// TRUSTED_IDENTITY_PROPOGATION_ENABLED (AWS's spelling) is set.
	TrustedIdentityPropagation bool

	// OnProblem, when not nil, is called by Discover with an *awscause.Error each time
	// a question fails and will be asked again, and with nil once it has been
	// answered after all.
	OnProblem func(error)

	Log *zap.Logger
}

// RoleSource says where the execution role was found.
type RoleSource string

// The sources, in their order of precedence.
const (
	RoleFromSetting  RoleSource = "setting"
	RoleFromMetadata RoleSource = "metadata"
	RoleFromInstance RoleSource = "notebook-instance"
	RoleFromProfile  RoleSource = "user-profile"
	RoleFromDomain   RoleSource = "domain"
)

// Facts is what the rest of the daemon needs to know. It holds no secret.
type Facts struct {
	Subject          identity.Subject `json:"subject"`
	ExecutionRoleARN string           `json:"execution_role_arn"`
	RoleSource       RoleSource       `json:"role_source"`

	// PropagatesSourceIdentity: the domain already puts the user profile's
	// name into every session as source identity.
	PropagatesSourceIdentity bool `json:"propagates_source_identity"`
	// PropagationKnown is false when the domain could not be asked;
	// PropagatesSourceIdentity is then false and means nothing.
	PropagationKnown bool `json:"propagation_known"`
}

// StepAside is the error for a notebook whose calls the platform attributes by
// itself: explain and exit without doing anything.
type StepAside struct{ Reason string }

func (s StepAside) Error() string { return "stepping aside: " + s.Reason }

// Aside returns a StepAside when the platform names notebook nb's users itself,
// else nil. It asks nobody.
func Aside(nb identity.Notebook, trustedIdentityPropagation bool) error {
	if trustedIdentityPropagation {
		return StepAside{"trusted identity propagation is on: AWS records the Identity Center user itself, and a session of our own would drop that"}
	}
	if nb.Surface == identity.SurfaceUnifiedStudio {
		return StepAside{"this is SageMaker Unified Studio, which names its users in session name and source identity itself and rewrites the AWS configuration at each start"}
	}
	return nil
}

// Discover finds out who the calls of notebook nb are made for, and as which role.
// Its errors are a StepAside, an *awscause.Error that asking again cannot change,
// or the end of ctx, joined with the last *awscause.Error if there was one.
func Discover(ctx context.Context, cfg Config, nb identity.Notebook) (Facts, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if err := Aside(nb, cfg.TrustedIdentityPropagation); err != nil {
		return Facts{}, err
	}
	d := &discovery{Config: cfg, nb: nb}
	if cfg.StateFile != "" {
		d.recall()
	}
	facts, err := d.facts(ctx)
	if err != nil {
		return Facts{}, err
	}
	if d.asked && cfg.StateFile != "" {
		d.remember(facts)
	}
	return facts, nil
}

// discovery is one run of Discover.
type discovery struct {
	Config
	nb identity.Notebook

	recalled Facts // from the state file; zero when there is none
	asked    bool  // AWS has answered a question
	domain   *sagemaker.DescribeDomainOutput
}

func (d *discovery) facts(ctx context.Context) (Facts, error) {
	subject, err := d.subject(ctx)
	if err != nil {
		return Facts{}, err
	}
	facts := Facts{Subject: subject}
	if facts.ExecutionRoleARN, facts.RoleSource, err = d.role(ctx, subject); err != nil {
		return Facts{}, err
	}
	facts.PropagatesSourceIdentity, facts.PropagationKnown = d.propagation(ctx, subject)
	if ctx.Err() != nil {
		return Facts{}, fmt.Errorf("discovering who the calls of %s are made for: %w", d.nb.ResourceARN, ctx.Err())
	}
	return facts, nil
}

func (d *discovery) subject(ctx context.Context) (identity.Subject, error) {
	switch d.nb.Surface {
	case identity.SurfaceNotebookInstance:
		return d.newSubject(identity.KindNotebook, d.nb.InstanceName), nil
	case identity.SurfaceStudioProfile:
		return d.newSubject(identity.KindProfile, d.nb.UserProfile), nil
	case identity.SurfaceStudioSpace:
		if d.recalled.Subject.Name != "" {
			return d.recalled.Subject, nil
		}
		return d.spaceSubject(ctx)
	}
	return identity.Subject{}, fmt.Errorf("discovering who uses a notebook of surface %q: unknown surface", d.nb.Surface)
}

func (d *discovery) spaceSubject(ctx context.Context) (identity.Subject, error) {
	q := d.question("DescribeSpace", "space/"+d.nb.DomainID+"/"+d.nb.Space)
	out, err := ask(ctx, d, q, func(ctx context.Context) (*sagemaker.DescribeSpaceOutput, error) {
		return d.SageMaker.DescribeSpace(ctx, &sagemaker.DescribeSpaceInput{
			DomainId: &d.nb.DomainID, SpaceName: &d.nb.Space,
		})
	})
	if err != nil {
		return identity.Subject{}, err
	}
	var sharing types.SharingType
	if s := out.SpaceSharingSettings; s != nil {
		sharing = s.SharingType
	}
	if sharing == "" && (d.nb.AppType == "KernelGateway" || d.nb.AppType == "JupyterServer") {
		sharing = types.SharingTypeShared
	}
	switch sharing {
	case types.SharingTypeShared:
		return d.newSubject(identity.KindSharedSpace, d.nb.Space), nil
	case types.SharingTypePrivate:
	default:
		return identity.Subject{}, q.unusable(CodeOwnerUnknown, "see the space in the SageMaker console; private and shared spaces are supported",
			"the sharing type is %.40q, so it is not known whose space this is", sharing)
	}
	var owner string
	if o := out.OwnershipSettings; o != nil {
		owner = aws.ToString(o.OwnerUserProfileName)
	}
	if identity.CheckName(owner) != nil {
		return identity.Subject{}, q.unusable(CodeOwnerUnknown, "delete the space and create it again as its user, so that it has an owner",
			"the space is private and its owner %.80q is not the name of a user profile", owner)
	}
	if d.nb.UserProfile != "" && d.nb.UserProfile != owner {
		d.Log.Warn("metadata file names another user than the owner of the space, taking the owner",
			zap.String("user_profile", d.nb.UserProfile), zap.String("owner", owner))
	}
	return d.newSubject(identity.KindProfile, owner), nil
}

// newSubject completes a name with what the metadata file says.
func (d *discovery) newSubject(kind identity.Kind, name string) identity.Subject {
	return identity.Subject{Kind: kind, Name: name, Domain: d.nb.DomainID, Space: d.nb.Space, App: d.nb.App}
}

func (d *discovery) role(ctx context.Context, subject identity.Subject) (string, RoleSource, error) {
	switch {
	case d.RoleARN != "":
		return d.RoleARN, RoleFromSetting, nil
	case d.nb.ExecutionRoleARN != "":
		return d.nb.ExecutionRoleARN, RoleFromMetadata, nil
	case d.recalled.ExecutionRoleARN != "":
		return d.recalled.ExecutionRoleARN, d.recalled.RoleSource, nil
	case subject.Kind == identity.KindNotebook:
		return d.instanceRole(ctx, subject)
	case subject.Kind == identity.KindProfile:
		return d.profileRole(ctx, subject)
	default:
		return d.sharedSpaceRole(ctx)
	}
}

func (d *discovery) instanceRole(ctx context.Context, subject identity.Subject) (string, RoleSource, error) {
	q := d.question("DescribeNotebookInstance", "notebook-instance/"+subject.Name)
	out, err := ask(ctx, d, q, func(ctx context.Context) (*sagemaker.DescribeNotebookInstanceOutput, error) {
		return d.SageMaker.DescribeNotebookInstance(ctx, &sagemaker.DescribeNotebookInstanceInput{NotebookInstanceName: &subject.Name})
	})
	if err != nil {
		return "", "", err
	}
	return d.checkRole(q, out.RoleArn, RoleFromInstance)
}

func (d *discovery) profileRole(ctx context.Context, subject identity.Subject) (string, RoleSource, error) {
	q := d.question("DescribeUserProfile", "user-profile/"+d.nb.DomainID+"/"+subject.Name)
	out, err := ask(ctx, d, q, func(ctx context.Context) (*sagemaker.DescribeUserProfileOutput, error) {
		return d.SageMaker.DescribeUserProfile(ctx, &sagemaker.DescribeUserProfileInput{
			DomainId: &d.nb.DomainID, UserProfileName: &subject.Name,
		})
	})
	if err != nil {
		return "", "", err
	}
	if s := out.UserSettings; s != nil && aws.ToString(s.ExecutionRole) != "" {
		return d.checkRole(q, s.ExecutionRole, RoleFromProfile)
	}
	q = d.domainQuestion()
	domain, err := d.describeDomain(ctx, q)
	if err != nil {
		return "", "", err
	}
	var role *string
	if s := domain.DefaultUserSettings; s != nil {
		role = s.ExecutionRole
	}
	return d.checkRole(q, role, RoleFromDomain)
}

func (d *discovery) sharedSpaceRole(ctx context.Context) (string, RoleSource, error) {
	q := d.domainQuestion()
	domain, err := d.describeDomain(ctx, q)
	if err != nil {
		return "", "", err
	}
	var role *string
	if s := domain.DefaultSpaceSettings; s != nil {
		role = s.ExecutionRole
	}
	return d.checkRole(q, role, RoleFromDomain)
}

// checkRole holds a role that AWS named to the rules of the metadata file.
func (d *discovery) checkRole(q question, arn *string, source RoleSource) (string, RoleSource, error) {
	if !d.legalRole(aws.ToString(arn)) {
		return "", "", q.unusable(CodeRoleUnknown, "name the execution role in the settings of nbidentityd",
			"the answer gives the execution role as %.120q, expected the ARN of a role in account %s", aws.ToString(arn), d.nb.Account)
	}
	return *arn, source, nil
}

func (d *discovery) legalRole(arn string) bool {
	role, err := identity.ParseRoleARN(arn)
	return err == nil && role.Partition == d.nb.Partition && role.Account == d.nb.Account
}

func (d *discovery) domainQuestion() question {
	return d.question("DescribeDomain", "domain/"+d.nb.DomainID)
}

// describeDomain asks at most once.
func (d *discovery) describeDomain(ctx context.Context, q question) (*sagemaker.DescribeDomainOutput, error) {
	if d.domain != nil {
		return d.domain, nil
	}
	out, err := ask(ctx, d, q, func(ctx context.Context) (*sagemaker.DescribeDomainOutput, error) {
		return d.SageMaker.DescribeDomain(ctx, &sagemaker.DescribeDomainInput{DomainId: &d.nb.DomainID})
	})
	if err != nil {
		return nil, err
	}
	d.domain = out
	return out, nil
}

// propagation reports whether the domain marks this user's sessions, and whether
// that is known.
func (d *discovery) propagation(ctx context.Context, subject identity.Subject) (propagates, known bool) {
	if subject.Kind != identity.KindProfile {
		return false, true // neither notebook instances nor shared spaces are marked
	}
	if d.recalled.PropagationKnown {
		return d.recalled.PropagatesSourceIdentity, true
	}
	out, err := d.describeDomain(ctx, d.domainQuestion().softly())
	if err != nil {
		var problem *awscause.Error
		if errors.As(err, &problem) && ctx.Err() == nil {
			d.Log.Warn("not known whether the domain propagates the user's name",
				zap.String("code", problem.Code()), zap.Error(problem), zap.String("remedy", problem.Remedy()))
		}
		return false, false
	}
	s := out.DomainSettings
	return s != nil && s.ExecutionRoleIdentityConfig == types.ExecutionRoleIdentityConfigUserProfileName, true
}
