package iameval

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The actions that sts:AssumeRole can need, each decided on its own.
const (
	ActionAssumeRole        = "sts:AssumeRole"
	ActionSetSourceIdentity = "sts:SetSourceIdentity"
	ActionTagSession        = "sts:TagSession"
)

// Caller is a principal with what its session carries.
type Caller struct {
	Principal
	// Tags are the principal's tags: those of the role or user, overridden by
	// session tags. TransitiveTags are the session tags among them that go
	// along into every role assumed from here.
	Tags           map[string]string
	TransitiveTags map[string]string
	// SourceIdentity that the session already has; it cannot change any more.
	SourceIdentity string
	TokenIssued    time.Time // zero for long-term credentials
	Policies       []Policy  // identity policies; none for a service
}

// Role is a role that somebody wants to assume.
type Role struct {
	ARN   string // with path
	Tags  map[string]string
	Trust Policy
}

// AssumeRoleRequest is one sts:AssumeRole call.
type AssumeRoleRequest struct {
	Caller            Caller
	Target            Role
	SessionName       string
	SourceIdentity    string
	Tags              map[string]string
	TransitiveTagKeys []string
	ExternalID        string
	Region            string    // that serves the call
	Time              time.Time // of the call
	// Context adds keys that only the caller of this package knows, such as
	// aws:SourceIp; letter case does not count. They replace computed ones.
	Context map[string][]string
	// SessionNameEverywhere puts sts:RoleSessionName also into the context of
	// sts:SetSourceIdentity and sts:TagSession. The Service Authorization
	// Reference lists the key for sts:AssumeRole alone, so the default is that
	// a condition on it in a statement for the other two never matches. What
	// IAM really does is not documented; policies that hold under both
	// settings are safe.
	SessionNameEverywhere bool
}

// Side is the policy kind, or the rule, that refused an action.
type Side string

// The sides; the values read well after "refused by".
const (
	SideNone     Side = ""
	SideIdentity Side = "identity-based policy"
	SideTrust    Side = "role trust policy"
	SideSession  Side = "source identity of the session" // set before, and not to be changed
)

// Check is the decision on one action.
type Check struct {
	Action  string
	Refused Side // SideNone when the action is allowed
	// Outcome tells an explicit from an implicit deny on the refusing side.
	Outcome Outcome
	Reason  string
	// Identity and Trust are what each side says by itself, and
	// IdentityNeeded whether the identity side had to allow. For a service,
	// which has no identity policies, Identity is an implicit deny.
	Identity       Decision
	Trust          Decision
	IdentityNeeded bool
}

// AssumeRoleDecision has a check for each action that the call needs, in the
// order sts:AssumeRole, sts:SetSourceIdentity, sts:TagSession.
type AssumeRoleDecision struct {
	Checks []Check
	// SourceIdentity of the new session if the call is allowed: the one that
	// was passed or the one inherited.
	SourceIdentity string
}

// Allowed reports whether every action is allowed.
func (d AssumeRoleDecision) Allowed() bool {
	_, refused := d.Refusal()
	return !refused
}

// Refusal returns the first check that refused. A decision without checks,
// which AssumeRole never returns, counts as refused.
func (d AssumeRoleDecision) Refusal() (c Check, refused bool) {
	for _, c := range d.Checks {
		if c.Refused != SideNone {
			return c, true
		}
	}
	return c, len(d.Checks) == 0
}

// AssumeRole decides whether a call to sts:AssumeRole is authorised.
//
// Same account: a trust policy that names the caller itself (role, session,
// user, unique id or everybody) suffices; one that names the account also
// needs an identity policy. Other account: both sides must allow. A service
// needs the trust policy alone. A role does not trust itself unless its trust
// policy says so. sts:SetSourceIdentity is needed when a source identity is
// passed or inherited, on both sides always. sts:TagSession is needed when
// tags are passed or inherited, by the same rule as sts:AssumeRole.
func AssumeRole(r AssumeRoleRequest) AssumeRoleDecision {
	d := AssumeRoleDecision{SourceIdentity: r.SourceIdentity}
	if d.SourceIdentity == "" {
		d.SourceIdentity = r.Caller.SourceIdentity
	}
	d.Checks = append(d.Checks, r.check(ActionAssumeRole, d.SourceIdentity))
	if d.SourceIdentity != "" {
		c := r.check(ActionSetSourceIdentity, d.SourceIdentity)
		if sticky := r.Caller.SourceIdentity; sticky != "" && sticky != d.SourceIdentity {
			c.Refused, c.Outcome = SideSession, ImplicitDeny
			c.Reason = fmt.Sprintf("the session already has the source identity %q, which cannot change to %q", clip(sticky), clip(d.SourceIdentity))
		}
		d.Checks = append(d.Checks, c)
	}
	if len(r.Tags)+len(r.Caller.TransitiveTags) > 0 {
		d.Checks = append(d.Checks, r.check(ActionTagSession, d.SourceIdentity))
	}
	return d
}

// check decides one action on the target role.
func (r AssumeRoleRequest) check(action, sourceIdentity string) Check {
	req := Request{
		Principal: r.Caller.Principal,
		Action:    action,
		Resource:  r.Target.ARN,
		Context:   r.context(action, sourceIdentity),
	}
	c := Check{
		Action:   action,
		Identity: EvaluateIdentity(r.Caller.Policies, req),
		Trust:    EvaluateTrust(r.Target.Trust, req),
	}
	account := arnAccount(r.Target.ARN)
	foreign := account == "" || account != r.Caller.Account
	service := r.Caller.Service != "" || r.Caller.Federated != ""
	c.IdentityNeeded = !service && (foreign || c.Trust.Delegated || action == ActionSetSourceIdentity)
	switch {
	case c.Identity.Outcome == ExplicitDeny:
		c.refuse(SideIdentity, c.Identity)
	case c.Trust.Outcome != Allowed:
		c.refuse(SideTrust, c.Trust)
	case c.IdentityNeeded && c.Identity.Outcome != Allowed:
		c.refuse(SideIdentity, c.Identity)
	default:
		c.Outcome, c.Reason = Allowed, c.Trust.Reason
		if c.IdentityNeeded {
			c.Reason += " and " + c.Identity.Reason
		}
	}
	return c
}

func (c *Check) refuse(side Side, d Decision) {
	c.Refused, c.Outcome, c.Reason = side, d.Outcome, string(side)+": "+d.Reason
}

// context is the request context of one action of the call.
func (r AssumeRoleRequest) context(action, sourceIdentity string) map[string][]string {
	keys := r.Caller.Context(r.Time, r.Region)
	set := func(key, value string) {
		if value != "" {
			keys[key] = []string{value}
		}
	}
	set("aws:resourceaccount", arnAccount(r.Target.ARN))
	for k, v := range r.Target.Tags {
		keys["aws:resourcetag/"+strings.ToLower(k)] = []string{v}
		keys["iam:resourcetag/"+strings.ToLower(k)] = []string{v}
	}
	if action == ActionAssumeRole || r.SessionNameEverywhere {
		set("sts:rolesessionname", r.SessionName)
	}
	if action != ActionTagSession {
		set("sts:sourceidentity", sourceIdentity)
	}
	if action == ActionAssumeRole {
		set("sts:externalid", r.ExternalID)
	}
	if action != ActionSetSourceIdentity && len(r.Tags) > 0 {
		for k, v := range r.Tags {
			keys["aws:requesttag/"+strings.ToLower(k)] = []string{v}
		}
		keys["aws:tagkeys"] = slices.Sorted(maps.Keys(r.Tags))
		keys["sts:transitivetagkeys"] = r.TransitiveTagKeys
	}
	for k, v := range r.Context {
		keys[strings.ToLower(k)] = v
	}
	return keys
}

// Context returns the global condition keys, in lower case, that AWS sets on
// any request of the caller at a time in a region. Keys about the network and
// the resource are the business of whoever sees the request. The map is fresh.
func (c Caller) Context(now time.Time, region string) map[string][]string {
	service := c.Service != ""
	keys := map[string][]string{
		"aws:currenttime":           {now.UTC().Format(time.RFC3339)},
		"aws:epochtime":             {strconv.FormatInt(now.Unix(), 10)},
		"aws:viaawsservice":         {"false"},
		"aws:securetransport":       {"true"},
		"aws:principalisawsservice": {strconv.FormatBool(service)},
	}
	set := func(key, value string) {
		if value != "" {
			keys[key] = []string{value}
		}
	}
	set("aws:requestedregion", region)
	set("aws:principalservicename", c.Service)
	set("aws:principalaccount", c.Account)
	set("aws:principalarn", c.ARN())
	set("aws:userid", c.userID())
	set("aws:sourceidentity", c.SourceIdentity)
	switch {
	case c.SessionARN != "":
		set("aws:principaltype", "AssumedRole")
	case c.UserARN != "":
		set("aws:principaltype", "User")
		set("aws:username", c.UserARN[strings.LastIndexByte(c.UserARN, '/')+1:])
	}
	if !c.TokenIssued.IsZero() {
		set("aws:tokenissuetime", c.TokenIssued.UTC().Format(time.RFC3339))
		set("aws:multifactorauthpresent", "false")
	}
	for k, v := range c.Tags {
		keys["aws:principaltag/"+strings.ToLower(k)] = []string{v}
	}
	return keys
}
