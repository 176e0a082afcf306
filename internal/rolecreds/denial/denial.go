// Package denial reads what STS says when it refuses an assumption, and says what
// to change in which policy. It is pure.
package denial

import (
	"fmt"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// Denial is what an AccessDenied of STS says.
//
// The text is documented (IAM user guide, "Troubleshoot access denied error
// messages"): User: ARN is not authorized to perform: ACTION on resource: ARN,
// and then, not always, because no KIND policy allows the ACTION action, or
// with an explicit deny in a KIND policy.
type Denial struct {
	Action   string // "sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession", or "" when the text has another shape
	caller   string // ARN of the caller, or ""
	Explicit bool   // an explicit deny, as opposed to a missing allow
	Policy   string // one of policyKinds, or "" when STS does not say
}

// The actions that an assumption takes.
const (
	ActionAssumeRole        = "sts:AssumeRole"
	ActionSetSourceIdentity = "sts:SetSourceIdentity"
	ActionTagSession        = "sts:TagSession"
)

// The kinds of policy that STS can blame.
const (
	kindTrust    = "role trust policy"
	KindIdentity = "identity-based policy"
)

var policyKinds = []string{
	kindTrust, KindIdentity, "service control policy", "resource control policy",
	"permissions boundary", "session policy", "VPC endpoint policy",
}

// Parse reads the message of an AccessDenied. It never fails: what it
// does not recognise stays empty.
func Parse(message string) Denial {
	var d Denial
	head, tail, found := strings.Cut(message, " is not authorized to perform: ")
	if !found {
		return d
	}
	if caller, ok := strings.CutPrefix(head, "User: "); ok {
		d.caller = caller
	}
	d.Action, tail, _ = strings.Cut(tail, " ")
	if _, reason, ok := strings.Cut(tail, " with an explicit deny in "); ok {
		d.Explicit = true
		d.Policy = policyKind(reason)
	} else if _, reason, ok := strings.Cut(tail, " because no "); ok {
		d.Policy = policyKind(reason)
	}
	return d
}

// policyKind finds the kind that reason begins with, article or not.
func policyKind(reason string) string {
	for _, article := range []string{"an ", "a ", "the "} {
		if s, ok := strings.CutPrefix(reason, article); ok {
			reason = s
			break
		}
	}
	for _, kind := range policyKinds {
		if len(reason) >= len(kind) && strings.EqualFold(reason[:len(kind)], kind) {
			return kind
		}
	}
	return ""
}

// base is the role of the caller, when it is an assumed role. The path of the
// role is not on the wire, so only the target itself is known with its path.
func (d Denial) base(target identity.RoleARN) (role identity.RoleARN, ok bool) {
	account, rest, _ := strings.Cut(d.caller, ":assumed-role/")
	name, session, _ := strings.Cut(rest, "/")
	role, err := identity.ParseRoleARN(strings.Replace(account, ":sts:", ":iam:", 1) + ":role/" + name)
	if err != nil || role.Path != "/" || session == "" {
		return identity.RoleARN{}, false
	}
	if role.Name == target.Name && role.Account == target.Account {
		return target, true
	}
	return role, true
}

// Reason says in a few words who refused.
func (d Denial) Reason() string {
	switch {
	case d.Policy == "" && d.Explicit:
		return "an explicit deny forbids it"
	case d.Policy == "":
		return "STS does not say which policy is missing"
	case d.Explicit:
		return "an explicit deny in a " + d.Policy + " forbids it"
	default:
		return "no " + d.Policy + " allows it"
	}
}

// Remedy says what to change so that target can be assumed. wanted is the
// action that was refused, sourceIdentity the value it was asked for.
func (d Denial) Remedy(target identity.RoleARN, wanted, sourceIdentity string) string {
	caller, known := d.base(target)
	base := "(the role of this notebook)"
	if known {
		base = caller.String()
	}
	trust := fmt.Sprintf("add to the trust policy of %s the statement %s", target, trustStatement(target, caller, known, wanted, sourceIdentity))
	permission := fmt.Sprintf(`add to the permissions of %s the statement {"Effect":"Allow","Action":%q,"Resource":%q}`, base, wanted, target)
	self := caller == target
	switch {
	case d.Explicit:
		where := "a policy"
		if d.Policy != "" {
			where = "a " + d.Policy
		}
		who := base
		if !self {
			who += " or " + target.String()
		}
		return fmt.Sprintf("find the Deny for %s in %s that applies to %s and exempt this call from it; an Allow elsewhere cannot outweigh it", wanted, where, who)
	case d.Policy == kindTrust:
		return trust
	case d.Policy == KindIdentity:
		return permission
	case d.Policy != "":
		return fmt.Sprintf("let the %s that applies to %s allow %s on %s", d.Policy, base, wanted, target)
	case self: // it exists: the caller is one of its sessions
		return trust + "; and " + permission
	default:
		return fmt.Sprintf("check that the role exists (a role that does not is refused with the same text); %s; and %s", trust, permission)
	}
}

// trustStatement lets base do wanted to target. The account is the principal
// and the role a condition, since a role cannot name itself as the principal
// of its own trust policy when it is created.
func trustStatement(target, base identity.RoleARN, known bool, wanted, sourceIdentity string) string {
	principal := target.Account
	var conditions []string
	if known {
		principal = base.Account
		conditions = append(conditions, fmt.Sprintf(`"ArnEquals":{"aws:PrincipalArn":%q}`, base))
	}
	if wanted == ActionSetSourceIdentity {
		conditions = append(conditions, fmt.Sprintf(`"StringEquals":{"sts:SourceIdentity":%q}`, sourceIdentity))
	}
	condition := ""
	if len(conditions) > 0 {
		condition = fmt.Sprintf(`,"Condition":{%s}`, strings.Join(conditions, ","))
	}
	return fmt.Sprintf(`{"Effect":"Allow","Principal":{"AWS":"arn:%s:iam::%s:root"},"Action":%q%s}`,
		target.Partition, principal, wanted, condition)
}
