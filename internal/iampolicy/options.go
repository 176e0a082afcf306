package iampolicy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iameval"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
)

// Options says for what documents are made. A role is given by its name, by
// path and name ("/service-role/ExecRole") or by its ARN, which then tells
// Partition and Account as well.
type Options struct {
	Mode Mode

	// Partition is aws, aws-cn, aws-us-gov, …. Default: that of a role's ARN or
	// of Region, else aws.
	Partition string
	Account   string // 12 digits; required unless a role is given by ARN
	Region    string // empty: ARNs and statements that hold in every region

	// Roles are the execution roles that exist: one for self and per-profile,
	// all of the domain for studio-propagation. Not for the other modes.
	Roles []string
	// JobRoles are further roles that are passed to SageMaker jobs. Their trust
	// policies are replaced, so that jobs of named sessions can start.
	JobRoles []string

	// Names are those of the notebook instances or user profiles. Mode self also
	// takes patterns of session names, with * and ?. Not for studio-propagation.
	Names []string
	// Template renders a name as session name, as in the daemon's settings.
	Template identity.Template
	// Kind of the names, for {kind} in the template. Default: profiles for
	// per-profile, else notebooks.
	Kind identity.Kind

	// DomainID is the Studio domain: for studio-propagation, and for {domain} in
	// the template.
	DomainID string
	// UserIDs gives the studiouserid of a profile where it is not its name.
	UserIDs map[string]string
	// Propagated says that the domain of a per-profile layout has
	// ExecutionRoleIdentityConfig=USER_PROFILE_NAME; it makes names unforgeable.
	Propagated bool

	// RolePath and RolePrefix go before a name in the ARN of a role that is
	// made for it. Defaults: per-notebook /nb/ and nb-, launcher /nb-launch/ and
	// launch-, per-profile / and SageMakerStudioExecutionRole_.
	RolePath, RolePrefix string
	// WorkRole is made for mode launcher. Default NotebookWork.
	WorkRole string
	// TagKey is the tag that binds a launcher to its name. Default nbidentity.
	TagKey string

	// Package is the S3 bucket, or bucket/prefix, from which lifecycle
	// configurations fetch nbidentityd with the base credentials. Those may then
	// read it, also under DenyUnattributed and with a launcher.
	Package string

	// DenyUnattributed adds, to self and per-notebook, the statement that denies
	// everything to sessions without a name.
	DenyUnattributed bool
	// TrustLimit is the account's quota of a trust policy, 2048 (default) to
	// 4096 characters.
	TrustLimit int
}

// plan is Options with everything resolved and checked.
type plan struct {
	Options
	partition, account string
	roles, jobRoles    []identity.RoleARN
	work               identity.RoleARN
	names              []name
	kind               identity.Kind
	path, prefix, tag  string
	trustLimit         int
}

// name is a name with its session name; for a pattern both are the pattern.
type name struct {
	name, session string
	pattern       bool
}

var (
	accountPattern   = lazyregexp.New(`^[0-9]{12}$`)
	partitionPattern = lazyregexp.New(`^aws(-[a-z]+)*$`)
	regionPattern    = lazyregexp.New(`^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$`)
	rolePattern      = lazyregexp.New(`^[A-Za-z0-9_+=,.@-]{1,64}$`)
	pathPattern      = lazyregexp.New(`^/([A-Za-z0-9_+=,.@-]+/)*$`)
	tagPattern       = lazyregexp.New(`^[A-Za-z0-9_.:+@-]{1,128}$`)
	userIDPattern    = lazyregexp.New(`^[A-Za-z0-9_.:/=+@-]{1,256}$`)
	domainPattern    = lazyregexp.New(`^d-(-*[a-z0-9]){1,61}$`)
	packagePattern   = lazyregexp.New(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.-]+)*/?$`)
	sessionPattern   = lazyregexp.New(`^[A-Za-z0-9_+=,.@*?-]{1,64}$`)
)

// regionPartitions maps the beginnings of region names outside partition aws.
var regionPartitions = map[string]string{
	"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc", "us-iso-": "aws-iso",
	"us-isob-": "aws-iso-b", "eu-isoe-": "aws-iso-e", "us-isof-": "aws-iso-f", "eu-isof-": "aws-iso-f",
}

func (o Options) plan() (*plan, error) {
	p := &plan{Options: o, tag: cmp.Or(o.TagKey, "nbidentity"), trustLimit: cmp.Or(o.TrustLimit, iameval.MaxTrustDefault)}
	steps := []func() error{p.checkMode, p.resolvePlace, p.resolveRoles, p.resolveNames, p.checkRest}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// checkMode refuses options that the mode has no use for, because whoever gave
// them expects something of them.
func (p *plan) checkMode() error {
	known := slices.ContainsFunc(Modes(), func(m struct{ Mode, Summary string }) bool { return m.Mode == string(p.Mode) })
	one, some := len(p.Roles) == 1, len(p.Roles) > 0
	made := p.Mode == PerNotebook || p.Mode == Launcher || p.Mode == PerProfile
	switch {
	case !known:
		return fmt.Errorf("there is no mode %q", p.Mode)
	case (p.Mode == Self || p.Mode == PerProfile) && !one:
		return fmt.Errorf("mode %s is for one execution role: name it", p.Mode)
	case p.Mode == StudioPropagation && !some:
		return errors.New("mode studio-propagation is for all execution roles of the domain: name them, those of shared spaces included")
	case (p.Mode == PerNotebook || p.Mode == Launcher) && some:
		return fmt.Errorf("mode %s makes a role for each notebook: an execution role cannot be named", p.Mode)
	case p.Mode == StudioPropagation && len(p.Names) > 0:
		return errors.New("mode studio-propagation needs no names: the domain sets them")
	case p.Mode != StudioPropagation && len(p.Names) == 0:
		return fmt.Errorf("mode %s needs the names of the notebooks or profiles", p.Mode)
	case p.Mode == StudioPropagation && p.DomainID == "":
		return errors.New("mode studio-propagation needs the id of the domain")
	case p.Mode == StudioPropagation && p.Template.String() != "{name}":
		return errors.New("mode studio-propagation knows the template {name} only: the session name must equal the source identity that the domain sets")
	case p.DenyUnattributed && p.Mode != Self && p.Mode != PerNotebook:
		return fmt.Errorf("deny-unattributed is for the modes %s and %s: in mode %s the role without a name has no permissions, or the name is set before the session begins", Self, PerNotebook, p.Mode)
	case p.Propagated && p.Mode != PerProfile:
		return fmt.Errorf("propagated is for mode %s; for a domain that sets source identities use mode %s", PerProfile, StudioPropagation)
	case len(p.UserIDs) > 0 && p.Mode != PerProfile:
		return fmt.Errorf("user ids are for mode %s", PerProfile)
	case p.WorkRole != "" && p.Mode != Launcher, p.TagKey != "" && p.Mode != Launcher:
		return fmt.Errorf("work role and tag are for mode %s", Launcher)
	case (p.RolePath != "" || p.RolePrefix != "") && !made:
		return fmt.Errorf("mode %s makes no roles: role path and prefix have no use", p.Mode)
	}
	return nil
}

// resolvePlace finds partition and account.
func (p *plan) resolvePlace() error {
	p.partition, p.account = p.Partition, p.Account
	agree := func(have *string, found, from string) error {
		if *have != "" && *have != found {
			return fmt.Errorf("%s belongs to %s, not to %s", from, found, *have)
		}
		*have = found
		return nil
	}
	for _, spec := range slices.Concat(p.Roles, p.JobRoles, []string{p.WorkRole}) {
		if !strings.HasPrefix(spec, "arn:") {
			continue
		}
		r, err := identity.ParseRoleARN(spec)
		if err != nil {
			return err
		}
		if err := errors.Join(agree(&p.partition, r.Partition, spec), agree(&p.account, r.Account, spec)); err != nil {
			return err
		}
	}
	if p.Region != "" {
		if !regionPattern.MatchString(p.Region) {
			return fmt.Errorf("%q is not a region", p.Region)
		}
		partition := "aws"
		for prefix, of := range regionPartitions {
			if strings.HasPrefix(p.Region, prefix) {
				partition = of
			}
		}
		if err := agree(&p.partition, partition, "region "+p.Region); err != nil {
			return err
		}
	}
	p.partition = cmp.Or(p.partition, "aws")
	switch {
	case p.account == "":
		return errors.New("the account is missing: give its 12 digits, or the role's ARN")
	case !accountPattern.MatchString(p.account):
		return fmt.Errorf("%q is not an account: want 12 digits", p.account)
	case !partitionPattern.MatchString(p.partition):
		return fmt.Errorf("%q is not a partition", p.partition)
	}
	return nil
}

// resolveRoles reads the roles and the path and prefix of those to be made.
func (p *plan) resolveRoles() error {
	var err error
	if p.roles, err = p.readRoles(p.Roles); err != nil {
		return err
	}
	jobs, err := p.readRoles(p.JobRoles)
	if err != nil {
		return err
	}
	for _, r := range jobs {
		if !slices.Contains(p.roles, r) {
			p.jobRoles = append(p.jobRoles, r)
		}
	}
	defaults := map[Mode][2]string{
		PerNotebook: {"/nb/", "nb-"}, Launcher: {"/nb-launch/", "launch-"}, PerProfile: {"/", "SageMakerStudioExecutionRole_"},
	}[p.Mode]
	p.path, p.prefix = cmp.Or(p.RolePath, defaults[0]), cmp.Or(p.RolePrefix, defaults[1])
	if p.path == "" {
		return nil // the mode makes none
	}
	if !pathPattern.MatchString(p.path) {
		return fmt.Errorf("%q is not a role path: it begins and ends with a slash", p.path)
	}
	if p.Mode != Launcher {
		return nil
	}
	if p.path == "/" {
		return errors.New("launchers need a path of their own: the work role trusts every role under it")
	}
	if p.work, err = p.readRole(cmp.Or(p.WorkRole, "NotebookWork")); err != nil {
		return err
	}
	for _, r := range append(slices.Clone(p.jobRoles), p.work) {
		if strings.HasPrefix(r.Path, p.path) {
			return fmt.Errorf("role %s is under the path of the launchers: the work role trusts every role there", r.Name)
		}
	}
	return nil
}

func (p *plan) readRoles(specs []string) ([]identity.RoleARN, error) {
	var all []identity.RoleARN
	for _, spec := range specs {
		r, err := p.readRole(spec)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(all, func(s identity.RoleARN) bool { return strings.EqualFold(s.Name, r.Name) }); i >= 0 {
			return nil, fmt.Errorf("role %s is named twice: names of roles are unique in an account, whatever their path and capitals", r.Name)
		}
		all = append(all, r)
	}
	return all, nil
}

func (p *plan) readRole(spec string) (identity.RoleARN, error) {
	r := identity.RoleARN{Partition: p.partition, Account: p.account, Path: "/", Name: spec}
	if strings.HasPrefix(spec, "arn:") {
		var err error
		if r, err = identity.ParseRoleARN(spec); err != nil {
			return r, err
		}
	} else if i := strings.LastIndexByte(spec, '/'); i >= 0 {
		r.Path, r.Name = "/"+strings.TrimPrefix(spec[:i+1], "/"), spec[i+1:]
	}
	if !rolePattern.MatchString(r.Name) || !pathPattern.MatchString(r.Path) || len(r.Path) > 512 {
		return r, fmt.Errorf("%q is not a role: give its name, path and name, or ARN", spec)
	}
	return r, nil
}

// resolveNames renders the names as session names, sorted.
func (p *plan) resolveNames() error {
	p.kind = p.Kind
	if p.kind == "" {
		p.kind = identity.KindNotebook
		if p.Mode == PerProfile {
			p.kind = identity.KindProfile
		}
	}
	text := p.Template.String()
	for _, field := range []string{"{space}", "{app}"} {
		if len(p.Names) > 0 && strings.Contains(text, field) && !p.allPatterns() {
			return fmt.Errorf("the template has %s, which differs from session to session: use mode self with patterns of session names", field)
		}
	}
	if strings.Contains(text, "{domain}") && p.DomainID == "" && p.kind != identity.KindNotebook && !p.allPatterns() {
		return errors.New("the template has {domain}: give the domain's id")
	}
	for _, s := range slices.Sorted(slices.Values(p.Names)) {
		n, err := p.readName(s)
		if err != nil {
			return err
		}
		for _, other := range p.names {
			switch {
			case other.session == n.session:
				return fmt.Errorf("name %q is given twice", s)
			case strings.EqualFold(other.name, n.name) && p.Mode != Self:
				return fmt.Errorf("names %q and %q differ only in capitals: names of roles do not distinguish them", other.name, s)
			}
		}
		p.names = append(p.names, n)
	}
	return nil
}

func (p *plan) allPatterns() bool {
	return !slices.ContainsFunc(p.Names, func(s string) bool { return !strings.ContainsAny(s, "*?") })
}

func (p *plan) readName(s string) (name, error) {
	n := name{name: s, session: s, pattern: strings.ContainsAny(s, "*?")}
	switch {
	case n.pattern && p.Mode != Self:
		return n, fmt.Errorf("%q: mode %s binds each role to one name and takes no patterns", s, p.Mode)
	case n.pattern && !sessionPattern.MatchString(s):
		return n, fmt.Errorf("%q is not a pattern of session names: letters, digits and _+=,.@- with * and ?, at most 64", s)
	case n.pattern && len(s) < 2 && s != "*":
		return n, fmt.Errorf("pattern %q matches no session name: they have at least two characters", s)
	case n.pattern:
		return n, nil
	}
	if err := identity.CheckName(s); err != nil {
		return n, err
	}
	subject := identity.Subject{Kind: p.kind, Name: s}
	if p.kind != identity.KindNotebook {
		subject.Domain = p.DomainID
	}
	var err error
	if n.session, err = p.Template.Format(subject); err != nil {
		return n, err
	}
	if n.session == "SageMaker" {
		return n, errors.New("name \"SageMaker\": its sessions could not be told from those without a name: rename it, or use a template such as nb-{name}")
	}
	if role := p.prefix + s; p.path != "" && !rolePattern.MatchString(role) {
		return n, fmt.Errorf("the role of %s would be called %s, %d characters; IAM takes 64 of A-Z a-z 0-9 _+=,.@-: choose a shorter role prefix than %q", s, role, len(role), p.prefix)
	}
	return n, nil
}

func (p *plan) checkRest() error {
	if p.DomainID != "" && !domainPattern.MatchString(p.DomainID) {
		return fmt.Errorf("%q is not a domain id: want d- and lower-case letters and digits", p.DomainID)
	}
	if !tagPattern.MatchString(p.tag) || strings.HasPrefix(strings.ToLower(p.tag), "aws:") {
		return fmt.Errorf("%q is not a tag key that can be written in a policy variable", p.tag)
	}
	if p.trustLimit < iameval.MaxTrustDefault || p.trustLimit > iameval.MaxTrust {
		return fmt.Errorf("trust limit %d: IAM's quota is %d, and can be raised to %d", p.trustLimit, iameval.MaxTrustDefault, iameval.MaxTrust)
	}
	if p.Package != "" && !packagePattern.MatchString(p.Package) {
		return fmt.Errorf("%q is not a bucket or bucket/prefix", p.Package)
	}
	for profile, id := range p.UserIDs {
		if !slices.ContainsFunc(p.names, func(n name) bool { return n.name == profile }) {
			return fmt.Errorf("user id %q is for profile %q, which is not among the names", id, profile)
		}
		if !userIDPattern.MatchString(id) {
			return fmt.Errorf("user id %q of profile %q is not the value of a tag", id, profile)
		}
	}
	for _, taken := range slices.Concat(p.roles, p.jobRoles, []identity.RoleARN{p.work}) {
		for _, n := range p.names {
			if p.path != "" && strings.EqualFold(p.prefix+n.name, taken.Name) {
				return fmt.Errorf("role %s is to be made for %s and is also named as an existing role", taken.Name, n.name)
			}
		}
	}
	return nil
}

// made is the role that is made for a name.
func (p *plan) made(n name) identity.RoleARN {
	return identity.RoleARN{Partition: p.partition, Account: p.account, Path: p.path, Name: p.prefix + n.name}
}
