package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// WithDefaults returns s with every empty optional field filled in. The
// slices of s are not changed.
func (s Scenario) WithDefaults() Scenario {
	s.AccountID = cmp.Or(s.AccountID, "111122223333")
	s.Region = cmp.Or(s.Region, "us-east-1")
	s.Partition = cmp.Or(s.Partition, "aws")
	s.BaseSession.Lifetime = cmp.Or(s.BaseSession.Lifetime, Duration(6*time.Hour))
	s.HourLasts = cmp.Or(s.HourLasts, Duration(time.Hour))
	s.BaseSession.RotateBefore = cmp.Or(s.BaseSession.RotateBefore, s.BaseSession.Lifetime/6)
	s.Roles = slices.Clone(s.Roles)
	for i := range s.Roles {
		s.Roles[i].Path = cmp.Or(s.Roles[i].Path, "/")
		s.Roles[i].MaxSessionSeconds = cmp.Or(s.Roles[i].MaxSessionSeconds, 3600)
	}
	s.Notebooks = slices.Clone(s.Notebooks)
	for i := range s.Notebooks {
		s.Notebooks[i].RootAccess = cmp.Or(s.Notebooks[i].RootAccess, "Enabled")
		s.Notebooks[i].MinimumIMDSVersion = cmp.Or(s.Notebooks[i].MinimumIMDSVersion, "2")
	}
	if s.Domain != nil {
		d := *s.Domain
		d.Name = cmp.Or(d.Name, d.ID)
		d.SpaceRole = cmp.Or(d.SpaceRole, d.UserRole)
		s.Domain = &d
	}
	s.Apps = slices.Clone(s.Apps)
	for i := range s.Apps {
		s.Apps[i].AppName = cmp.Or(s.Apps[i].AppName, "default")
	}
	return s
}

var (
	accountPattern   = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern    = regexp.MustCompile(`^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$`)
	partitionPattern = regexp.MustCompile(`^aws(-[a-z]+)*$`)
	rolePattern      = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)
	pathPattern      = regexp.MustCompile(`^/([!-.0-~]+/)*$`)
	roleIDPattern    = regexp.MustCompile(`^AROA[A-Z0-9]{17}$`)
	namePattern      = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$`)
	domainPattern    = regexp.MustCompile(`^d-(-*[a-z0-9]){1,61}$`)
	bucketPattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
)

// appTypes are the app types of the SageMaker API.
var appTypes = []string{"JupyterServer", "KernelGateway", "DetailedProfiler", "TensorBoard", "CodeEditor",
	"JupyterLab", "RStudioServerPro", "RSessionGateway", "Canvas"}

// checker collects problems.
type checker struct{ errs []error }

func (c *checker) that(ok bool, format string, args ...any) {
	if !ok {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

// Validate returns every problem of s, joined. It expects the defaults to be
// filled in.
func (s Scenario) Validate() error {
	var c checker
	c.that(accountPattern.MatchString(s.AccountID), "account_id %q is not 12 digits", s.AccountID)
	c.that(regionPattern.MatchString(s.Region), "region %q is not a region name", s.Region)
	c.that(partitionPattern.MatchString(s.Partition), "partition %q is not a partition name", s.Partition)
	c.that(s.HourLasts > 0 && s.HourLasts <= Duration(time.Hour), "hour_lasts must be positive and at most 1h")
	c.that(s.BaseSession.Lifetime > 0, "base_session.lifetime must be positive")
	c.that(s.BaseSession.RotateBefore > 0 && s.BaseSession.RotateBefore < s.BaseSession.Lifetime,
		"base_session.rotate_before must lie between 0 and the lifetime %v", time.Duration(s.BaseSession.Lifetime))
	c.that(s.STSRequestsPerSecond >= 0, "sts_requests_per_second is negative")
	s.checkRoles(&c)
	s.checkNotebooks(&c)
	s.checkDomain(&c)
	s.checkSpaces(&c)
	s.checkApps(&c)
	seen := map[string]bool{}
	for i, b := range s.Buckets {
		c.that(bucketPattern.MatchString(b.Name), "buckets[%d]: %q is not a bucket name", i, b.Name)
		c.that(!seen[b.Name], "buckets[%d]: %q is there twice", i, b.Name)
		seen[b.Name] = true
	}
	return errors.Join(c.errs...)
}

// Check returns the problems of one role.
func (r Role) Check() error {
	var c checker
	c.that(rolePattern.MatchString(r.Name), "role %q: not a role name (1 to 64 of [A-Za-z0-9_+=,.@-])", r.Name)
	c.that(len(r.Path) <= 512 && pathPattern.MatchString(r.Path), "role %s: path %q must begin and end with a slash", r.Name, r.Path)
	c.that(r.ID == "" || roleIDPattern.MatchString(r.ID), "role %s: id %q is not AROA and 17 capitals or digits", r.Name, r.ID)
	c.that(r.MaxSessionSeconds >= 3600 && r.MaxSessionSeconds <= 43200, "role %s: max_session_seconds %d is not within 3600..43200", r.Name, r.MaxSessionSeconds)
	c.that(len(r.Trust) > 0, "role %s: trust is missing", r.Name)
	c.that(len(r.Tags) <= 50, "role %s: more than 50 tags", r.Name)
	names := map[string]bool{}
	for i, p := range r.Policies {
		c.that(p.Name != "", "role %s: policies[%d] has no name", r.Name, i)
		c.that(!names[p.Name], "role %s: policy %q is there twice", r.Name, p.Name)
		c.that(len(p.Document) > 0, "role %s: policy %q has no document", r.Name, p.Name)
		names[p.Name] = true
	}
	return errors.Join(c.errs...)
}

func (s Scenario) checkRoles(c *checker) {
	names, ids := map[string]bool{}, map[string]bool{}
	for _, r := range s.Roles {
		if err := r.Check(); err != nil {
			c.errs = append(c.errs, err)
		}
		c.that(!names[r.Name], "role %s is there twice (IAM ignores the path here)", r.Name)
		c.that(r.ID == "" || !ids[r.ID], "role %s: another role has id %s", r.Name, r.ID)
		names[r.Name], ids[r.ID] = true, true
	}
}

func (s Scenario) checkNotebooks(c *checker) {
	seen := map[string]bool{}
	for _, n := range s.Notebooks {
		c.that(namePattern.MatchString(n.Name), "notebook %q: not a notebook instance name", n.Name)
		c.that(!seen[n.Name], "notebook %s is there twice", n.Name)
		c.that(s.hasRole(n.Role), "notebook %s: no role %q in roles", n.Name, n.Role)
		c.that(n.RootAccess == "Enabled" || n.RootAccess == "Disabled", "notebook %s: root_access %q is neither Enabled nor Disabled", n.Name, n.RootAccess)
		c.that(n.MinimumIMDSVersion == "1" || n.MinimumIMDSVersion == "2", "notebook %s: minimum_imds_version %q is neither 1 nor 2", n.Name, n.MinimumIMDSVersion)
		seen[n.Name] = true
	}
}

func (s Scenario) checkDomain(c *checker) {
	if s.Domain == nil {
		c.that(len(s.Profiles)+len(s.Spaces)+len(s.Apps) == 0, "profiles, spaces and apps need a domain")
		return
	}
	d := *s.Domain
	c.that(domainPattern.MatchString(d.ID), "domain: id %q is not like d-exampledomain", d.ID)
	c.that(slices.Contains([]string{"", "DISABLED", PropagateProfileName}, d.ExecutionRoleIdentityConfig),
		"domain: execution_role_identity_config %q is neither USER_PROFILE_NAME nor DISABLED", d.ExecutionRoleIdentityConfig)
	c.that(s.hasRole(d.UserRole), "domain: user_role: no role %q in roles", d.UserRole)
	c.that(s.hasRole(d.SpaceRole), "domain: space_role: no role %q in roles", d.SpaceRole)
	seen := map[string]bool{}
	for _, p := range s.Profiles {
		c.that(namePattern.MatchString(p.Name), "profile %q: not a user profile name", p.Name)
		c.that(!seen[p.Name], "profile %s is there twice", p.Name)
		c.that(p.Role == "" || s.hasRole(p.Role), "profile %s: no role %q in roles", p.Name, p.Role)
		seen[p.Name] = true
	}
}

func (s Scenario) checkSpaces(c *checker) {
	seen := map[string]bool{}
	for _, sp := range s.Spaces {
		c.that(namePattern.MatchString(sp.Name), "space %q: not a space name", sp.Name)
		c.that(!seen[sp.Name], "space %s is there twice", sp.Name)
		c.that(sp.Sharing == Private || sp.Sharing == Shared, "space %s: sharing %q is neither Private nor Shared", sp.Name, sp.Sharing)
		c.that(sp.Owner != "" || sp.Sharing != Private, "space %s: a private space needs an owner", sp.Name)
		c.that(sp.Owner == "" || s.hasProfile(sp.Owner), "space %s: no profile %q in profiles", sp.Name, sp.Owner)
		seen[sp.Name] = true
	}
}

func (s Scenario) checkApps(c *checker) {
	seen := map[string]bool{}
	for _, a := range s.Apps {
		c.that(a.Name != "", "an app has no name")
		c.that(!seen[a.Name], "app %s is there twice", a.Name)
		c.that(slices.Contains(appTypes, a.Type), "app %s: unknown type %q", a.Name, a.Type)
		c.that(namePattern.MatchString(a.AppName), "app %s: app_name %q is not an app name", a.Name, a.AppName)
		c.that((a.Profile == "") != (a.Space == ""), "app %s: give either profile or space", a.Name)
		c.that(a.Profile == "" || s.hasProfile(a.Profile), "app %s: no profile %q in profiles", a.Name, a.Profile)
		c.that(a.Space == "" || s.hasSpace(a.Space), "app %s: no space %q in spaces", a.Name, a.Space)
		seen[a.Name] = true
	}
}

func (s Scenario) hasRole(name string) bool {
	return slices.ContainsFunc(s.Roles, func(r Role) bool { return r.Name == name })
}

func (s Scenario) hasProfile(name string) bool {
	return slices.ContainsFunc(s.Profiles, func(p Profile) bool { return p.Name == name })
}

func (s Scenario) hasSpace(name string) bool {
	return slices.ContainsFunc(s.Spaces, func(sp Space) bool { return sp.Name == name })
}
