package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/doctor/trust"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// Check reports what cannot be asked together.
func (a Admin) Check() error {
	switch {
	case a.Notebook != "" && a.Domain != "":
		return errors.New("-notebook and -domain: ask about one of them")
	case a.Profile != "" && a.Domain == "":
		return errors.New("-profile-name: the domain is missing (-domain)")
	case a.Notebook != "" && identity.CheckName(a.Notebook) != nil:
		return identity.CheckName(a.Notebook)
	case a.Profile != "" && identity.CheckName(a.Profile) != nil:
		return identity.CheckName(a.Profile)
	case a.AWS.Region == "":
		return errors.New("the region is missing: give -region, or set AWS_REGION")
	}
	if a.Role == "" {
		return nil
	}
	_, err := identity.ParseRoleARN(a.Role)
	return err
}

func (a Admin) onlyRole() bool   { return a.Notebook == "" && a.Domain == "" }
func (a Admin) onlyDomain() bool { return a.Domain != "" && a.Profile == "" }

// notebook is what a metadata file would say, as far as it is known. The
// account is the one that the credentials belong to.
func (a Admin) notebook(c caller) (identity.Notebook, error) {
	nb := identity.Notebook{Region: a.AWS.Region, DomainID: a.Domain}
	nb.Account, nb.Partition = c.account()
	if nb.Account == "" {
		return nb, fmt.Errorf("AWS answers with %.120q for whose credentials these are", c.arn)
	}
	prefix := "arn:" + nb.Partition + ":sagemaker:" + nb.Region + ":" + nb.Account + ":"
	switch {
	case a.Notebook != "":
		nb.Surface, nb.InstanceName = identity.SurfaceNotebookInstance, a.Notebook
		nb.ResourceARN = prefix + "notebook-instance/" + a.Notebook
	case a.Domain != "":
		nb.Surface, nb.UserProfile = identity.SurfaceStudioProfile, a.Profile
		nb.ResourceARN = prefix + "user-profile/" + a.Domain + "/" + a.Profile
	}
	return nb, nil
}

// wholeDomain looks at the domain's own execution roles.
func (e *examination) wholeDomain(ctx context.Context, s *report.Sheet) error {
	c, err := e.cloud()
	if err != nil {
		return err
	}
	if _, err := e.caller(); err != nil {
		return errNoName
	}
	ask, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	out, err := c.sagemaker.DescribeDomain(ask, &sagemaker.DescribeDomainInput{DomainId: &e.Admin.Domain})
	if err != nil {
		return fmt.Errorf("DescribeDomain: %s", awscause.OneLine(err.Error()))
	}
	propagates := out.DomainSettings != nil && out.DomainSettings.ExecutionRoleIdentityConfig == types.ExecutionRoleIdentityConfigUserProfileName
	if !propagates {
		s.Note("propagation", "the domain sets no source identity (ExecutionRoleIdentityConfig)")
		return nil
	}
	s.Note("propagation", "the domain sets each profile's name as source identity itself, but not in shared spaces")
	book, err := e.books()
	if err != nil {
		return err
	}
	read, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	for _, name := range domainRoles(out) {
		arn, err := identity.ParseRoleARN(name)
		if err != nil {
			continue
		}
		role, err := book.Read(read, arn)
		if err != nil {
			s.Gap("role "+arn.Name, "%v", err)
			continue
		}
		trust.Propagated(s, role, "alice", e.Admin.AWS.Region, time.Now())
	}
	return nil
}

// domainRoles are the ARNs of a domain's own execution roles, each once.
func domainRoles(out *sagemaker.DescribeDomainOutput) []string {
	var roles []string
	if d := out.DefaultUserSettings; d != nil {
		roles = append(roles, aws.ToString(d.ExecutionRole))
	}
	if d := out.DefaultSpaceSettings; d != nil && !slices.Contains(roles, aws.ToString(d.ExecutionRole)) {
		roles = append(roles, aws.ToString(d.ExecutionRole))
	}
	return roles
}
