package fakeaws

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/cloudtrail"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/directory"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

// defaultVersion is the only version that a managed policy has here.
const defaultVersion = "v1"

// iamReads is the handler of an IAM operation that tells about roles and their
// policies, nil for all others.
func iamReads(operation string) func(*exchange) (answer, *wire.Error) {
	return map[string]func(*exchange) (answer, *wire.Error){
		"GetRole":                  (*exchange).getRole,
		"ListRolePolicies":         (*exchange).listRolePolicies,
		"GetRolePolicy":            (*exchange).getRolePolicy,
		"ListAttachedRolePolicies": (*exchange).listAttachedRolePolicies,
		"GetPolicy":                (*exchange).getPolicy,
		"GetPolicyVersion":         (*exchange).getPolicyVersion,
	}[operation]
}

func missing(member string) *wire.Error {
	return &wire.Error{Status: 400, Code: "ValidationError", Message: "1 validation error detected: Value null at '" + member + "' failed to satisfy constraint: Member must not be null"}
}

func noSuchEntity(message string) *wire.Error {
	return &wire.Error{Status: 404, Code: "NoSuchEntity", Trail: "NoSuchEntityException", Message: message}
}

// namedRole is the role that the call names, once the caller may know of it.
func (x *exchange) namedRole() (*directory.Role, *wire.Error) {
	name := x.call.Form.Get("RoleName")
	if name == "" {
		return nil, missing("roleName")
	}
	role := x.directory.Role(name)
	arn := x.scope.Role("/", name)
	if role != nil {
		arn = role.ARN
	}
	if failure := x.authorize(x.call.Action, arn, nil); failure != nil {
		return nil, failure
	}
	if role == nil {
		return nil, noSuchEntity("The role with name " + name + " cannot be found.")
	}
	return role, nil
}

// getRole is iam:GetRole.
func (x *exchange) getRole() (answer, *wire.Error) {
	role, failure := x.namedRole()
	if failure != nil {
		return answer{}, failure
	}
	var tags strings.Builder
	for _, k := range tagNames(role.Tags) {
		tags.WriteString("<member><Key>" + wire.Escape(k) + "</Key><Value>" + wire.Escape(role.Tags[k]) + "</Value></member>")
	}
	if tags.Len() > 0 {
		tags.WriteString("</Tags>")
	}
	return x.query("<Role><Path>" + wire.Escape(role.Source.Path) + "</Path><RoleName>" + wire.Escape(role.Name) +
		"</RoleName><RoleId>" + role.ID + "</RoleId><Arn>" + wire.Escape(role.ARN) + "</Arn><CreateDate>" + cloudtrail.Time(role.Created) +
		"</CreateDate><AssumeRolePolicyDocument>" + encodePolicy(x.directory.TrustText(role)) +
		"</AssumeRolePolicyDocument><MaxSessionDuration>" + strconv.Itoa(role.Source.MaxSessionSeconds) + "</MaxSessionDuration>" +
		strings.Replace(tags.String(), "<member>", "<Tags><member>", 1) + "<RoleLastUsed/></Role>"), nil
}

// encodePolicy is RFC 3986 percent encoding, as IAM uses for documents.
func encodePolicy(text []byte) string {
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}

// attached are the role's managed policies, or its inline ones.
func attached(role *directory.Role, managed bool) []scenario.Policy {
	return slices.DeleteFunc(slices.Clone(role.Source.Policies), func(p scenario.Policy) bool { return (p.ARN != "") != managed })
}

// page renders one page of a list: MaxItems from Marker on.
func (x *exchange) page(list string, items []scenario.Policy, render func(scenario.Policy) string) (answer, *wire.Error) {
	from, size := 0, 100
	for _, p := range []struct {
		name string
		to   *int
		most int
	}{{"Marker", &from, len(items)}, {"MaxItems", &size, 1000}} {
		text := x.call.Form.Get(p.name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > p.most {
			return answer{}, &wire.Error{Status: 400, Code: "ValidationError", Message: "Invalid " + p.name + ": " + text}
		}
		*p.to = n
	}
	end := min(len(items), from+size)
	var b strings.Builder
	for _, p := range items[from:end] {
		b.WriteString("<member>" + render(p) + "</member>")
	}
	xml := "<" + list + ">" + b.String() + "</" + list + ">"
	if end < len(items) {
		return x.query(xml + "<IsTruncated>true</IsTruncated><Marker>" + strconv.Itoa(end) + "</Marker>"), nil
	}
	return x.query(xml + "<IsTruncated>false</IsTruncated>"), nil
}

func (x *exchange) listRolePolicies() (answer, *wire.Error) {
	role, failure := x.namedRole()
	if failure != nil {
		return answer{}, failure
	}
	return x.page("PolicyNames", attached(role, false), func(p scenario.Policy) string { return wire.Escape(p.Name) })
}

func (x *exchange) getRolePolicy() (answer, *wire.Error) {
	role, failure := x.namedRole()
	if failure != nil {
		return answer{}, failure
	}
	name := x.call.Form.Get("PolicyName")
	if name == "" {
		return answer{}, missing("policyName")
	}
	for _, p := range attached(role, false) {
		if p.Name == name {
			return x.query("<RoleName>" + wire.Escape(role.Name) + "</RoleName><PolicyName>" + wire.Escape(name) +
				"</PolicyName><PolicyDocument>" + encodePolicy(p.Document) + "</PolicyDocument>"), nil
		}
	}
	return answer{}, noSuchEntity("The role policy with name " + name + " cannot be found.")
}

func (x *exchange) listAttachedRolePolicies() (answer, *wire.Error) {
	role, failure := x.namedRole()
	if failure != nil {
		return answer{}, failure
	}
	return x.page("AttachedPolicies", attached(role, true), func(p scenario.Policy) string {
		return "<PolicyName>" + wire.Escape(p.Name) + "</PolicyName><PolicyArn>" + wire.Escape(p.ARN) + "</PolicyArn>"
	})
}

// namedPolicy is the managed policy that the call names. The account knows those
// that are attached to a role.
func (x *exchange) namedPolicy() (scenario.Policy, *wire.Error) {
	arn := x.call.Form.Get("PolicyArn")
	if arn == "" {
		return scenario.Policy{}, missing("policyArn")
	}
	if failure := x.authorize(x.call.Action, arn, nil); failure != nil {
		return scenario.Policy{}, failure
	}
	for _, role := range x.directory.Roles() {
		for _, p := range attached(role, true) {
			if p.ARN == arn {
				return p, nil
			}
		}
	}
	return scenario.Policy{}, noSuchEntity("Policy " + arn + " does not exist or is not attachable.")
}

func (x *exchange) getPolicy() (answer, *wire.Error) {
	p, failure := x.namedPolicy()
	if failure != nil {
		return answer{}, failure
	}
	return x.query("<Policy><PolicyName>" + wire.Escape(p.Name) + "</PolicyName><Arn>" + wire.Escape(p.ARN) +
		"</Arn><Path>/</Path><DefaultVersionId>" + defaultVersion + "</DefaultVersionId><IsAttachable>true</IsAttachable><CreateDate>" +
		cloudtrail.Time(x.created) + "</CreateDate></Policy>"), nil
}

func (x *exchange) getPolicyVersion() (answer, *wire.Error) {
	p, failure := x.namedPolicy()
	if failure != nil {
		return answer{}, failure
	}
	version := x.call.Form.Get("VersionId")
	switch version {
	case "":
		return answer{}, missing("versionId")
	case defaultVersion:
		return x.query("<PolicyVersion><Document>" + encodePolicy(p.Document) + "</Document><VersionId>" + defaultVersion +
			"</VersionId><IsDefaultVersion>true</IsDefaultVersion><CreateDate>" + cloudtrail.Time(x.created) + "</CreateDate></PolicyVersion>"), nil
	}
	return answer{}, noSuchEntity("Policy " + p.ARN + " version " + version + " does not exist or is not attachable.")
}
