package fakeaws

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/cloudtrail"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/directory"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/stsquery"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
	"github.com/nbidentityd/nbidentityd/internal/iameval"
)

const (
	defaultSession = time.Hour // when DurationSeconds is not sent
	chainedSession = time.Hour // the cap for roles assumed by role sessions
)

func (x *exchange) sts() (answer, *wire.Error) {
	if x.call.Protocol != wire.Query || x.call.Form.Get("Version") != "2011-06-15" {
		return answer{}, &wire.Error{Status: 400, Code: "InvalidAction",
			Message: fmt.Sprintf("Could not find operation %s for version %s", x.call.Operation, x.call.Form.Get("Version"))}
	}
	switch x.call.Operation {
	case "AssumeRole":
		return x.assumeRole()
	case "GetCallerIdentity": // cannot be denied
		return x.query("<Arn>" + wire.Escape(x.session.ARN) + "</Arn><UserId>" + wire.Escape(x.session.ID()) + "</UserId><Account>" + x.scope.Account + "</Account>"), nil
	case "GetSessionToken", "GetFederationToken":
		return answer{}, wire.Denied(wire.Query, "Cannot call "+x.call.Operation+" with session credentials")
	}
	return answer{}, &wire.Error{Status: 400, Code: "InvalidAction",
		Message: fmt.Sprintf("Could not find operation %s for version 2011-06-15", x.call.Operation)}
}

// query wraps a result in the XML of the Query protocol.
func (x *exchange) query(result string) answer {
	op := x.call.Operation
	return answer{contentType: "text/xml", body: fmt.Appendf(nil,
		"<%[1]sResponse xmlns=\"%[2]s\">\n  <%[1]sResult>%[3]s</%[1]sResult>\n  <ResponseMetadata>\n    <RequestId>%[4]s</RequestId>\n  </ResponseMetadata>\n</%[1]sResponse>\n",
		op, wire.Namespace(x.call.Service), result, x.id)}
}

// stsDetails says through which endpoint a call to STS came.
func (x *exchange) stsDetails() any {
	kind := "regional"
	if host, _, err := net.SplitHostPort(x.http.Host); err == nil && host == "sts.amazonaws.com" || x.http.Host == "sts.amazonaws.com" {
		kind = "global"
	}
	type details struct {
		AWSServingRegion string `json:"awsServingRegion"`
		EndpointType     string `json:"endpointType"`
	}
	return struct{ RequestDetails details }{details{x.Account.scope.Region, kind}}
}

// assumeRole checks in STS's order: schema, the role's maximum, the cap of
// chaining, authorisation.
func (x *exchange) assumeRole() (answer, *wire.Error) {
	p, failure := stsquery.Parse(x.call.Form)
	if failure != nil {
		return answer{}, failure
	}
	lifetime := defaultSession
	if p.DurationSeconds != 0 {
		lifetime = time.Duration(p.DurationSeconds) * time.Second
	}
	role := x.directory.RoleByARN(p.RoleARN)
	if role != nil && lifetime > role.MaxSession {
		return answer{}, &wire.Error{Status: 400, Code: "ValidationError", Message: "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."}
	}
	if lifetime > chainedSession {
		return answer{}, &wire.Error{Status: 400, Code: "ValidationError", Message: "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."}
	}
	if p.TokenCode != "" || p.SerialNumber != "" {
		return answer{}, wire.Denied(wire.Query, "MultiFactorAuthentication failed with invalid MFA one time pass code.")
	}
	if role == nil {
		return answer{}, x.refuseSTS(iameval.ActionAssumeRole, p.RoleARN, "")
	}
	policies, failure := sessionPolicies(role, p)
	if failure != nil {
		return answer{}, failure
	}
	tags, transitive, failure := p.Inherit(x.session.TransitiveTags)
	if failure != nil {
		return answer{}, failure
	}
	network := x.network()
	d := iameval.AssumeRole(iameval.AssumeRoleRequest{
		Caller: x.caller, Target: role.Target(), SessionName: p.SessionName, SourceIdentity: p.SourceIdentity,
		Tags: p.Tags, TransitiveTagKeys: p.TransitiveTagKeys, ExternalID: p.ExternalID,
		Region: x.scope.Region, Time: x.now, Context: network,
	})
	if failure := x.refusal(d, role); failure != nil {
		return answer{}, failure
	}
	s := x.directory.Issue(directory.Grant{
		Role: role, Name: p.SessionName, SourceIdentity: d.SourceIdentity, Issued: x.now, Lifetime: time.Duration(lifetime.Hours() * float64(x.hour)),
		Tags: tags, TransitiveTags: transitive, Policies: policies,
	})
	return x.assumed(p, role, s), nil
}

// refusal words the first check that refused, or the session policy that does
// not allow the call; nil when all is allowed.
func (x *exchange) refusal(d iameval.AssumeRoleDecision, role *directory.Role) *wire.Error {
	c, refused := d.Refusal()
	if !refused {
		for _, c := range d.Checks {
			if failure := x.sessionAllows(c.Action, role.ARN); failure != nil {
				return failure
			}
		}
		return nil
	}
	suffix := ""
	if c.Outcome == iameval.ExplicitDeny {
		suffix = map[iameval.Side]string{
			iameval.SideIdentity: " with an explicit deny in an identity-based policy",
			iameval.SideTrust:    " with an explicit deny in the role trust policy",
		}[c.Refused]
	}
	x.log.Info("refused to assume a role", zap.String("caller", x.session.ARN), zap.String("role_arn", role.ARN),
		zap.String("action", c.Action), zap.String("reason", c.Reason))
	return x.refuseSTS(c.Action, role.ARN, suffix)
}

// sessionAllows applies the caller's session policies, if it has any, to a
// call that everything else allows.
func (x *exchange) sessionAllows(action, roleARN string) *wire.Error {
	if x.session.Policies == nil {
		return nil
	}
	keys := x.caller.Context(x.now, x.scope.Region)
	for k, v := range x.network() {
		keys[k] = v
	}
	d := iameval.EvaluateIdentity(x.session.Policies, iameval.Request{Principal: x.caller.Principal, Action: action, Resource: roleARN, Context: keys})
	switch d.Outcome {
	case iameval.Allowed:
		return nil
	case iameval.ExplicitDeny:
		return x.refuseSTS(action, roleARN, " with an explicit deny in a session policy")
	}
	return x.refuseSTS(action, roleARN, " because no session policy allows the "+action+" action")
}

func (x *exchange) refuseSTS(action, roleARN, suffix string) *wire.Error {
	return wire.Denied(wire.Query, fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s%s", x.session.ARN, action, roleARN, suffix))
}

// sessionPolicies parses the policies passed in a call; nil when none were.
func sessionPolicies(role *directory.Role, p stsquery.AssumeRole) ([]iameval.Policy, *wire.Error) {
	var policies []iameval.Policy
	malformed := func(message string) *wire.Error {
		return &wire.Error{Status: 400, Code: "MalformedPolicyDocument", Message: message}
	}
	if p.Policy != "" {
		doc, err := iameval.ParseDocument([]byte(p.Policy))
		if err == nil {
			err = doc.CheckIdentity()
		}
		if err != nil {
			return nil, malformed("This policy contains invalid Json or statements: " + err.Error())
		}
		policies = append(policies, iameval.Policy{Name: "session policy", Document: doc})
	}
	for _, arn := range p.PolicyARNs {
		managed, ok := role.Managed(arn)
		if !ok {
			return nil, malformed("Policy " + arn + " does not exist or is not attachable.")
		}
		policies = append(policies, managed)
	}
	return policies, nil
}

// assumed renders a granted AssumeRole and what its record says.
func (x *exchange) assumed(p stsquery.AssumeRole, role *directory.Role, s *directory.Session) answer {
	var xml strings.Builder
	fmt.Fprintf(&xml, "\n    <AssumedRoleUser>\n      <AssumedRoleId>%s</AssumedRoleId>\n      <Arn>%s</Arn>\n    </AssumedRoleUser>", wire.Escape(s.ID()), wire.Escape(s.ARN))
	fmt.Fprintf(&xml, "\n    <Credentials>\n      <AccessKeyId>%s</AccessKeyId>\n      <SecretAccessKey>%s</SecretAccessKey>\n      <SessionToken>%s</SessionToken>\n      <Expiration>%s</Expiration>\n    </Credentials>",
		s.KeyID, s.Secret, s.Token, cloudtrail.Time(s.Expires))
	if s.SourceIdentity != "" {
		fmt.Fprintf(&xml, "\n    <SourceIdentity>%s</SourceIdentity>", wire.Escape(s.SourceIdentity))
	}
	packed := p.PackedSize()
	if packed > 0 {
		fmt.Fprintf(&xml, "\n    <PackedPolicySize>%d</PackedPolicySize>", packed)
	}
	done := x.query(xml.String() + "\n  ")
	parameters := cloudtrail.AssumeRoleParameters{
		IncomingTransitiveTags: x.session.TransitiveTags,
		RoleARN:                p.RoleARN,
		RoleSessionName:        p.SessionName,
		SourceIdentity:         p.SourceIdentity,
		ExternalID:             p.ExternalID,
		Policy:                 p.Policy,
		TransitiveTagKeys:      p.TransitiveTagKeys,
		DurationSeconds:        p.DurationSeconds,
	}
	for _, k := range p.TagOrder {
		parameters.Tags = append(parameters.Tags, cloudtrail.Tag{Key: k, Value: p.Tags[k]})
	}
	for _, arn := range p.PolicyARNs {
		parameters.PolicyARNs = append(parameters.PolicyARNs, cloudtrail.PolicyARN{ARN: arn})
	}
	done.parameters = parameters
	elements := issued(s)
	elements.PackedPolicySize = packed
	done.elements = elements
	done.resources = []cloudtrail.Resource{{AccountID: x.scope.Account, Type: "AWS::IAM::Role", ARN: role.ARN}}
	return done
}

// issued is what a record says of a new session.
func issued(s *directory.Session) cloudtrail.AssumeRoleResponse {
	return cloudtrail.AssumeRoleResponse{
		Credentials: cloudtrail.IssuedCredentials{
			AccessKeyID: s.KeyID, SessionToken: cloudtrail.Hidden, Expiration: cloudtrail.Expiration(s.Expires),
		},
		AssumedRoleUser: &cloudtrail.AssumedRoleUser{AssumedRoleID: s.ID(), ARN: s.ARN},
		SourceIdentity:  s.SourceIdentity,
	}
}

// sageMakerPrincipal is who assumes roles for notebooks, apps and jobs.
const sageMakerPrincipal = "sagemaker.amazonaws.com"

// serviceAssume lets SageMaker assume a role, and records that.
func (a *Account) serviceAssume(roleName, sessionName, sourceIdentity string, lifetime time.Duration, now time.Time) (*directory.Session, *wire.Error) {
	r := Record{
		EventVersion:       cloudtrail.Version,
		UserIdentity:       cloudtrail.UserIdentity{Type: "AWSService", InvokedBy: sageMakerPrincipal},
		EventTime:          cloudtrail.Time(now),
		EventSource:        "sts.amazonaws.com",
		EventName:          "AssumeRole",
		AWSRegion:          a.scope.Region,
		SourceIPAddress:    sageMakerPrincipal,
		UserAgent:          sageMakerPrincipal,
		RequestID:          newUUID(),
		EventID:            newUUID(),
		ReadOnly:           true,
		EventType:          "AwsApiCall",
		ManagementEvent:    true,
		RecipientAccountID: a.scope.Account,
		SharedEventID:      newUUID(),
		EventCategory:      "Management",
	}
	var d iameval.AssumeRoleDecision
	role := a.directory.Role(roleName)
	if role != nil {
		d = iameval.AssumeRole(iameval.AssumeRoleRequest{
			Caller: iameval.Caller{Principal: iameval.Principal{Service: sageMakerPrincipal}},
			Target: role.Target(), SessionName: sessionName, SourceIdentity: sourceIdentity, Region: a.scope.Region, Time: now,
		})
	}
	if c, refused := d.Refusal(); refused {
		action, arn := c.Action, a.scope.Role("/", roleName)
		if role == nil {
			action = iameval.ActionAssumeRole
		} else {
			arn = role.ARN
		}
		e := wire.Denied(wire.Query, fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s", sageMakerPrincipal, action, arn))
		r.ErrorCode, r.ErrorMessage = "AccessDenied", e.Message
		a.trail.Add(r)
		return nil, e
	}
	s := a.directory.Issue(directory.Grant{
		Role: role, Name: sessionName, SourceIdentity: sourceIdentity, Issued: now, Lifetime: lifetime,
	})
	r.RequestParameters = cloudtrail.AssumeRoleParameters{
		RoleARN: role.ARN, RoleSessionName: sessionName, SourceIdentity: sourceIdentity, DurationSeconds: int(lifetime.Seconds()),
	}
	r.ResponseElements = issued(s)
	r.Resources = []cloudtrail.Resource{{AccountID: a.scope.Account, Type: "AWS::IAM::Role", ARN: role.ARN}}
	a.trail.Add(r)
	return s, nil
}

// tagNames are a role's tag keys in order.
func tagNames(tags map[string]string) []string {
	names := make([]string, 0, len(tags))
	for k := range tags {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}
