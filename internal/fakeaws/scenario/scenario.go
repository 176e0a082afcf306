// Package scenario describes one AWS account for the stand-in: its roles and
// their policies, notebook instances, a Studio domain with profiles, spaces
// and apps, and buckets.
//
// A scenario is strict JSON: an unknown key, a second value in the file, a
// name that SageMaker or IAM would refuse, and a reference to something that
// the scenario does not hold are errors that name the place. Whether the
// policies parse is checked by the account that is built from the scenario.
package scenario

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// Scenario is one account in one region.
type Scenario struct {
	// AccountID has 12 digits. Default 111122223333.
	AccountID string `json:"account_id"`
	// Region is the home region. Default us-east-1.
	Region string `json:"region"`
	// Partition of every ARN: aws, aws-cn, aws-us-gov, … Default aws.
	Partition string `json:"partition"`
	// BaseSession says how the platform's own sessions live.
	BaseSession BaseSession `json:"base_session"`
	// Roles of the account. Every role named elsewhere must be here.
	Roles []Role `json:"roles"`
	// Notebooks are classic notebook instances.
	Notebooks []Notebook `json:"notebooks"`
	// Domain is the Studio domain; required when there are profiles or spaces.
	Domain *Domain `json:"domain,omitempty"`
	// Profiles are the domain's user profiles.
	Profiles []Profile `json:"profiles"`
	// Spaces are the domain's spaces.
	Spaces []Space `json:"spaces"`
	// Apps are running Studio apps: the things that hold container credentials.
	Apps []App `json:"apps"`
	// Buckets that S3 lists and serves.
	Buckets []Bucket `json:"buckets"`
	// STSRequestsPerSecond is the quota of STS calls, 600 in a real account;
	// more are throttled. Default 0: no limit.
	STSRequestsPerSecond int `json:"sts_requests_per_second,omitempty"`
	// HourLasts is how long each hour of a session from AssumeRole lasts, for
	// trials that cannot wait for one to end. Default 1h.
	HourLasts Duration `json:"hour_lasts,omitempty"`
}

// BaseSession describes the sessions that SageMaker hands to notebooks and
// apps (role session name SageMaker).
type BaseSession struct {
	// Lifetime of a session. Default 6h.
	Lifetime Duration `json:"lifetime"`
	// RotateBefore is how long before a session's end the metadata endpoints
	// serve the next one; the old one lives on. Default a sixth of Lifetime.
	RotateBefore Duration `json:"rotate_before"`
}

// Role is one IAM role.
type Role struct {
	// Name without path.
	Name string `json:"name"`
	// Path begins and ends with a slash. Default "/".
	Path string `json:"path,omitempty"`
	// ID is the unique id, AROA and 17 characters. Default: a new one.
	ID string `json:"id,omitempty"`
	// Trust is the trust policy document.
	Trust json.RawMessage `json:"trust"`
	// Policies are the identity policies, inline ones and managed ones alike.
	Policies []Policy `json:"policies,omitempty"`
	// Tags of the role; they reach policies as aws:PrincipalTag and aws:ResourceTag.
	Tags map[string]string `json:"tags,omitempty"`
	// MaxSessionSeconds is MaxSessionDuration, 3600 to 43200. Default 3600.
	MaxSessionSeconds int `json:"max_session_seconds,omitempty"`
}

// Policy is one identity policy of a role.
type Policy struct {
	// Name of the policy.
	Name string `json:"name"`
	// ARN makes it a managed policy; empty means inline.
	ARN string `json:"arn,omitempty"`
	// Document is the policy itself.
	Document json.RawMessage `json:"document"`
}

// Notebook is a classic notebook instance.
type Notebook struct {
	Name string `json:"name"`
	// Role is the name of its execution role.
	Role string `json:"role"`
	// RootAccess is Enabled (default) or Disabled.
	RootAccess string `json:"root_access,omitempty"`
	// MinimumIMDSVersion is "2" (default) or "1", which also answers requests
	// without a token.
	MinimumIMDSVersion string `json:"minimum_imds_version,omitempty"`
}

// Domain is a Studio domain.
type Domain struct {
	// ID is "d-" and up to 61 lower-case letters, digits and inner hyphens.
	ID string `json:"id"`
	// Name of the domain. Default: its id.
	Name string `json:"name,omitempty"`
	// ExecutionRoleIdentityConfig is DISABLED or USER_PROFILE_NAME: with the
	// latter, SageMaker sets the profile's name as source identity. Left out, it
	// is disabled and DescribeDomain does not mention it.
	ExecutionRoleIdentityConfig string `json:"execution_role_identity_config,omitempty"`
	// UserRole is the execution role in the default user settings.
	UserRole string `json:"user_role"`
	// SpaceRole is the execution role in the default space settings, used by
	// shared spaces. Default: UserRole.
	SpaceRole string `json:"space_role,omitempty"`
}

// PropagateProfileName is the value of ExecutionRoleIdentityConfig that makes
// SageMaker set a source identity.
const PropagateProfileName = "USER_PROFILE_NAME"

// Profile is a user profile of the domain.
type Profile struct {
	Name string `json:"name"`
	// Role is the execution role. Default: the domain's UserRole, and then
	// DescribeUserProfile does not mention one.
	Role string `json:"role,omitempty"`
}

// The two kinds of spaces.
const (
	Private = "Private"
	Shared  = "Shared"
)

// Space is a space of the domain. Its execution role is the owner's when it
// is private and the domain's SpaceRole when it is shared.
type Space struct {
	Name string `json:"name"`
	// Owner is a profile; required for a private space.
	Owner string `json:"owner,omitempty"`
	// Sharing is Private or Shared.
	Sharing string `json:"sharing"`
}

// App is a running Studio app of a profile or of a space.
type App struct {
	// Name by which this file and the stand-in know the app; unique.
	Name string `json:"name"`
	// Type is JupyterServer, KernelGateway, JupyterLab, CodeEditor, …
	Type string `json:"type"`
	// AppName is SageMaker's name of the app. Default "default".
	AppName string `json:"app_name,omitempty"`
	// Profile or Space: exactly one.
	Profile string `json:"profile,omitempty"`
	Space   string `json:"space,omitempty"`
}

// Bucket is an S3 bucket.
type Bucket struct {
	Name string `json:"name"`
	// Directory whose files are the bucket's objects, read only. Empty: the
	// bucket is empty.
	Directory string `json:"directory,omitempty"`
	// Region that alone answers for the bucket. Empty: every region does.
	Region string `json:"region,omitempty"`
}

// Duration is a time.Duration written as text, like "90s" or "6h".
type Duration time.Duration

// MarshalText renders d as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads "90s", "6h", "1h30m".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

//go:embed default.json
var defaultJSON []byte

// DefaultJSON returns the text of the default scenario.
func DefaultJSON() []byte { return bytes.Clone(defaultJSON) }

// Default returns the default scenario: notebook instances alice-nb and
// bob-nb on one shared execution role, a domain with profiles alice and bob,
// a private and a shared space, and set-ups that AWS refuses.
func Default() Scenario {
	s, err := Parse("default.json", defaultJSON)
	if err != nil {
		panic(err) // embedded, and covered by a test
	}
	return s
}

// Load reads a scenario file.
func Load(path string) (Scenario, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Scenario{}, fmt.Errorf("reading scenario: %w", err)
	}
	return Parse(path, data)
}

// Parse reads a scenario, fills in the defaults and validates it. file is the
// name used in errors.
func Parse(file string, data []byte) (Scenario, error) {
	var s Scenario
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Scenario{}, fmt.Errorf("scenario %s: %w", file, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Scenario{}, fmt.Errorf("scenario %s: data after the first JSON value (at byte %d)", file, d.InputOffset())
	}
	s = s.WithDefaults()
	if err := s.Validate(); err != nil {
		return Scenario{}, fmt.Errorf("scenario %s: %w", file, err)
	}
	return s, nil
}
