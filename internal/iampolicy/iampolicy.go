// Package iampolicy makes the IAM documents with which a SageMaker notebook
// takes its own name, and proves what they let happen.
//
// Generate guarantees that each returned document is one that IAM stores as
// what it is (iameval.ParseDocument and its checks) and within IAM's size
// limits; that the calls which nbidentityd makes are allowed; and that the
// rows of Set.Rows say truthfully what else is: see package proof. It proves
// the documents together with AdministratorAccess wherever people work under a
// role, so a row that says "denied" holds whatever else is attached to that
// role. It cannot see service control policies or statements that somebody
// adds to a trust policy.
//
// # Documented AWS behaviour it relies on
//
// Since 2022 a role's trust policy must name the role itself; a role cannot be
// its own principal when it is created, so the account is the principal and
// aws:PrincipalArn names the role. sts:SetSourceIdentity is needed on both
// sides, and the Service Authorization Reference gives it sts:SourceIdentity
// but not sts:RoleSessionName, so it has a statement of its own. Any
// single-valued condition key can be a policy variable. A source identity
// cannot be changed and goes along into every further role, also into the
// roles of SageMaker jobs: each of them must let sagemaker.amazonaws.com set
// it. Resources of SageMaker drop capitals in their ARNs.
//
// # Choices
//
// Account, partition and names are written out instead of being parameters of
// the template or module: what was proved is what is deployed.
//
// The package is longer than most because a document stands beside the cases
// that prove it: document.go has the statements that the layouts share,
// selfassume.go, launcher.go and studio.go a layout each with its cases,
// options.go what is asked for.
package iampolicy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iameval"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/proof"
)

// Mode is a layout of roles.
type Mode string

// The modes.
const (
	// Self: one execution role, shared or not, assumes itself.
	Self Mode = "self"
	// PerNotebook: each notebook instance has an execution role, which assumes
	// itself under the one name that its trust policy knows.
	PerNotebook Mode = "per-notebook"
	// Launcher: each notebook instance has a launcher role that can only assume
	// the one work role, under the name in the launcher's tag.
	Launcher Mode = "launcher"
	// StudioPropagation: the Studio domain sets the source identity; the daemon
	// adds the session name.
	StudioPropagation Mode = "studio-propagation"
	// PerProfile: profiles share an execution role, from which the daemon
	// assumes the profile's own role.
	PerProfile Mode = "per-profile"
)

// Modes returns the modes with a line on each.
func Modes() []struct{ Mode, Summary string } {
	return []struct{ Mode, Summary string }{
		{string(Self), "one execution role assumes itself; names or patterns"},
		{string(PerNotebook), "one execution role for each notebook instance, which assumes itself"},
		{string(Launcher), "a launcher role for each notebook instance and one work role: the strongest"},
		{string(StudioPropagation), "the Studio domain sets the source identity, the daemon the session name"},
		{string(PerProfile), "one role for each Studio profile, assumed from one shared role"},
	}
}

// Set is what an administrator deploys.
type Set struct {
	Mode                       Mode
	Summary                    string // one line
	Partition, Account, Region string // Region may be empty
	Roles                      []Role
	Managed                    []ManagedPolicy
	DomainID                   string // may be empty
	Switch                     bool   // ExecutionRoleIdentityConfig of the domain is to be turned on
	Profiles                   []Profile
	// DaemonRole is role.arn of the daemon's settings; empty where the daemon
	// assumes the execution role itself.
	DaemonRole string
	Notes      []string // paragraphs that the administrator must know; further lines of one are commands
	Rows       []proof.Row

	world proof.World
	cases []proof.Case
}

// Role is one role of the set.
type Role struct {
	Name, Path, ARN string
	Description     string
	// Exists says that the role is the administrator's: its trust policy is
	// replaced. Others are made.
	Exists bool
	Tags   []Tag
	Trust  ordered.Object
	Inline []Policy
	// Works says that people or jobs work under the role, so that it needs
	// permissions which are not in this set.
	Works bool
}

// Tag of a role or of a user profile.
type Tag struct{ Key, Value string }

// Policy is an inline policy.
type Policy struct {
	Name     string
	Document ordered.Object
}

// ManagedPolicy is a policy of its own, attached to roles of the set. One
// without roles is for the administrator to attach.
type ManagedPolicy struct {
	Name, ARN   string
	Description string
	Document    ordered.Object
	Roles       []string // names
}

// Profile is a Studio user profile that must carry tags.
type Profile struct {
	Name string
	Tags []Tag
}

// Generate makes, checks and proves the documents.
func Generate(o Options) (*Set, error) {
	p, err := o.plan()
	if err != nil {
		return nil, err
	}
	b := &builder{plan: p, set: &Set{Mode: o.Mode, Partition: p.partition, Account: p.account, Region: o.Region, DomainID: o.DomainID, Switch: o.Mode == StudioPropagation}}
	switch o.Mode {
	case Self:
		b.self()
	case PerNotebook:
		b.perNotebook()
	case Launcher:
		b.launcher()
	case StudioPropagation:
		b.propagation()
	case PerProfile:
		b.perProfile()
	}
	b.downstream()
	if err := b.checkSizes(); err != nil {
		return nil, err
	}
	if err := b.addToWorld(); err != nil {
		return nil, err
	}
	b.set.Rows, err = b.world.Run(b.cases)
	if err != nil {
		return nil, fmt.Errorf("the documents do not do what they are made for; this is a defect of nbidentityd, nothing was written: %w", err)
	}
	b.set.world, b.set.cases = b.world, b.cases
	return b.set, nil
}

// builder collects a set and the cases that prove it.
type builder struct {
	*plan
	set   *Set
	world proof.World
	cases []proof.Case
	// jobGuard are the statements of the guard policy of job roles: a job is a
	// session off the notebook with whatever its role may.
	jobGuard []statement
}

func (b *builder) note(format string, args ...any) {
	b.set.Notes = append(b.set.Notes, fmt.Sprintf(format, args...))
}

func (b *builder) role(r Role) { b.set.Roles = append(b.set.Roles, r) }

func (b *builder) try(kind proof.Kind, want proof.Result, what, note string, tries ...proof.Try) {
	b.cases = append(b.cases, proof.Case{Kind: kind, What: what, Want: want, Note: note, Try: tries})
}

// checkSizes compares every document with IAM's limits.
func (b *builder) checkSizes() error {
	for _, r := range b.set.Roles {
		if n := size(r.Trust); n > b.trustLimit {
			return b.trustTooLarge(r, n)
		}
		inline := 0
		for _, p := range r.Inline {
			inline += size(p.Document)
		}
		if inline > iameval.MaxInline {
			return fmt.Errorf("the inline policies of role %s have %d characters together, IAM takes %d: name fewer job roles", r.Name, inline, iameval.MaxInline)
		}
	}
	for _, m := range b.set.Managed {
		if n := size(m.Document); n > iameval.MaxManaged {
			return fmt.Errorf("the managed policy %s has %d characters, IAM takes %d: name fewer job roles", m.Name, n, iameval.MaxManaged)
		}
	}
	return nil
}

// trustTooLarge says how many names fit and what to do about the others.
func (b *builder) trustTooLarge(r Role, n int) error {
	remedy := fmt.Sprintf("use mode %s, whose trust policies do not grow with the number of notebooks", Launcher)
	if b.Mode != Self {
		return fmt.Errorf("the trust policy of role %s has %d characters, IAM takes %d: shorten the path or the names", r.Name, n, b.trustLimit)
	}
	fit := func(limit int) int {
		return fewest(len(b.names), func(k int) bool {
			return size(b.selfTrust(r.ARN, b.names[:k])) > limit
		}) - 1
	}
	if b.trustLimit < iameval.MaxTrust {
		remedy = fmt.Sprintf("%d fit when the IAM quota \"Role trust policy length\" is raised to %d (trust limit %d); or write patterns; or %s",
			fit(iameval.MaxTrust), iameval.MaxTrust, iameval.MaxTrust, remedy)
	} else {
		remedy = "write patterns, or " + remedy
	}
	return fmt.Errorf("%d names make a trust policy of %d characters for role %s, IAM takes %d: the first %d names fit; %s",
		len(b.names), n, r.Name, b.trustLimit, max(0, fit(b.trustLimit)), remedy)
}

// fewest returns the smallest k in 1..n for which too holds, n+1 if there is
// none. too holds for every k from some k on.
func fewest(n int, too func(k int) bool) int {
	lo, hi := 1, n+1
	for lo < hi {
		if mid := (lo + hi) / 2; too(mid) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// addToWorld parses each document as IAM would and puts the roles among those
// that the mode brought for its cases.
func (b *builder) addToWorld() error {
	for _, r := range b.set.Roles {
		trust, err := parse(r.Trust, iameval.Document.CheckTrust)
		if err != nil {
			return fmt.Errorf("trust policy of role %s: %w", r.Name, err)
		}
		role := proof.Role{ARN: r.ARN, Tags: map[string]string{}, Trust: iameval.Policy{Name: "trust policy of " + r.Name, Document: trust}, Works: r.Works}
		for _, t := range r.Tags {
			role.Tags[t.Key] = t.Value
		}
		for _, p := range r.Inline {
			d, err := parse(p.Document, iameval.Document.CheckIdentity)
			if err != nil {
				return fmt.Errorf("policy %s of role %s: %w", p.Name, r.Name, err)
			}
			role.Policies = append(role.Policies, iameval.Policy{Name: p.Name, Document: d})
		}
		for _, m := range b.set.Managed {
			if slices.Contains(m.Roles, r.Name) {
				d, err := parse(m.Document, iameval.Document.CheckIdentity)
				if err != nil {
					return fmt.Errorf("policy %s: %w", m.Name, err)
				}
				role.Policies = append(role.Policies, iameval.Policy{Name: m.Name, Document: d})
			}
		}
		b.add(r.Name, role)
	}
	b.addVariants()
	return nil
}

func (b *builder) add(label string, r proof.Role) {
	if b.world == nil {
		b.world = proof.World{}
	}
	b.world[label] = r
}

// parse reads a document back and checks it for its place.
func parse(o ordered.Object, check func(iameval.Document) error) (iameval.Document, error) {
	text, err := ordered.JSON(o)
	if err != nil {
		return iameval.Document{}, err
	}
	d, err := iameval.ParseDocument(text)
	if err != nil {
		return d, err
	}
	return d, check(d)
}

func size(o ordered.Object) int {
	text, err := ordered.JSON(o)
	if err != nil {
		return iameval.MaxInline + 1 // parse, later, says why
	}
	return iameval.Size(text)
}

// lower returns s and, when it differs, its lower-case form: SageMaker drops
// capitals in the ARNs of its resources.
func lower(s string) []string {
	if l := strings.ToLower(s); l != s {
		return []string{s, l}
	}
	return []string{s}
}
