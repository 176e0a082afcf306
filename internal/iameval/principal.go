package iameval

import "strings"

// Principal is who makes a request. Exactly one kind is filled: a role session
// (RoleARN and SessionARN), a user (UserARN), a service (Service) or a
// federated identity (Federated).
type Principal struct {
	Account string // 12 digits; "" for a service
	// RoleARN is the ARN of the session's role WITH its IAM path. It cannot be
	// rebuilt from SessionARN, which has lost the path.
	RoleARN    string
	SessionARN string // arn:aws:sts::account:assumed-role/Role/session
	UserARN    string
	UniqueID   string // AROA… of the role or AIDA… of the user
	Service    string // such as sagemaker.amazonaws.com
	Federated  string // provider, as in a trust policy
}

// ARN is the value of aws:PrincipalArn: the ARN of the role (with path) or of
// the user.
func (p Principal) ARN() string {
	if p.RoleARN != "" {
		return p.RoleARN
	}
	return p.UserARN
}

// CallerARN is how error texts and CloudTrail name the caller.
func (p Principal) CallerARN() string {
	for _, name := range []string{p.SessionARN, p.UserARN, p.Service, p.Federated} {
		if name != "" {
			return name
		}
	}
	return p.RoleARN
}

// userID is the value of aws:userid: AROA…:session for a role session.
func (p Principal) userID() string {
	if p.SessionARN == "" || p.UniqueID == "" {
		return p.UniqueID
	}
	return p.UniqueID + ":" + p.SessionARN[strings.LastIndexByte(p.SessionARN, '/')+1:]
}

// grant is how a Principal element names a caller.
type grant int

const (
	noGrant   grant = iota
	delegated       // by its account: the account's identity policies must agree
	direct          // itself, or everybody
)

// named reports how strongly n names p.
func (p Principal) named(n PrincipalName) grant {
	match := func(mine string) bool { return mine != "" && mine == n.ID }
	switch {
	case n.Type == "AWS" && n.ID == "*":
		return direct
	case n.Type == "Service" && match(p.Service), n.Type == "Federated" && match(p.Federated):
		return direct
	case n.Type != "AWS" || p.Service != "" || p.Federated != "":
		return noGrant
	case match(p.RoleARN), match(p.SessionARN), match(p.UserARN), match(p.UniqueID):
		return direct
	case match(p.Account), strings.HasSuffix(n.ID, ":root") && p.Account != "" && arnAccount(n.ID) == p.Account:
		return delegated
	}
	return noGrant
}

// namedBy returns the strongest grant of a Principal list.
func (p Principal) namedBy(names []PrincipalName) grant {
	best := noGrant
	for _, n := range names {
		best = max(best, p.named(n))
	}
	return best
}

// exempt reports whether a NotPrincipal list spares p from a Deny. AWS checks account,
// role and session one after the other, so each of them must be listed.
func (p Principal) exempt(names []PrincipalName) bool {
	var account, identity, session bool
	for _, n := range names {
		switch g := p.named(n); {
		case g == direct && (n.ID == "*" || n.Type != "AWS"):
			return true
		case g == delegated:
			account = true
		case g == direct && n.ID == p.SessionARN:
			session = true
		case g == direct:
			identity = true
		}
	}
	return account && identity && (session || p.SessionARN == "")
}
