package iameval

import (
	"errors"
	"fmt"
	"strings"
)

// Policy is a document under the name by which people know it.
type Policy struct {
	Name     string
	Document Document
}

// Request is one action on one resource with its request context.
type Request struct {
	Principal Principal
	Action    string // service:Action
	Resource  string // ARN, or "*" for an action that has no resource
	// Context holds the condition keys; letter case does not count. A key
	// without a value is absent.
	Context map[string][]string
}

// Outcome is what a set of policies says about a request.
type Outcome int

// ImplicitDeny, the zero value, means that nothing allows the request.
const (
	ImplicitDeny Outcome = iota
	ExplicitDeny
	Allowed
)

func (o Outcome) String() string {
	switch o {
	case Allowed:
		return "allowed"
	case ExplicitDeny:
		return "explicit deny"
	}
	return "implicit deny"
}

// Decision is an outcome and the statement behind it. For an implicit deny it
// is the Allow statement that came nearest to matching, if any came near.
type Decision struct {
	Outcome Outcome
	Policy  string // name of the policy; "" when no statement came near
	Sid     string
	Index   int // of the statement, -1 when no statement came near
	// Delegated says that a trust policy allows the caller only through its
	// account, so that an identity policy must allow the request as well.
	Delegated bool
	Reason    string // one line for people
}

// EvaluateIdentity decides by the identity policies of the caller.
func EvaluateIdentity(policies []Policy, req Request) Decision {
	return evaluate(policies, req, false)
}

// EvaluateTrust decides by the trust policy of the role that is the request's
// resource. An Allowed that is Delegated does not suffice alone.
func EvaluateTrust(trust Policy, req Request) Decision {
	return evaluate([]Policy{trust}, req, true)
}

// stage is how far a statement got in matching a request.
type stage int

const (
	failedAction stage = iota
	failedPrincipal
	failedResource
	failedCondition
	applies
)

func evaluate(policies []Policy, req Request, trust bool) Decision {
	keys := newContextKeys(req.Context)
	allowed := noGrant
	nearest := failedAction
	d := Decision{Index: -1}
	var misses []string
	for _, p := range policies {
		variables := p.Document.Version == Version2012
		for _, s := range p.Document.Statements {
			reached, g, why := s.test(req, keys, trust, variables)
			where := strings.TrimSpace(p.Name + " " + s.Name())
			found := Decision{Policy: p.Name, Sid: s.Sid, Index: s.Index}
			switch {
			case reached == applies && s.Effect == Deny:
				found.Outcome = ExplicitDeny
				found.Reason = fmt.Sprintf("%s denies %s", where, clip(req.Action))
				return found
			case s.Effect != Allow:
			case reached == applies && g > allowed:
				allowed, d = g, found
				d.Outcome, d.Delegated = Allowed, g == delegated
				d.Reason = fmt.Sprintf("%s allows %s", where, clip(req.Action))
			case reached != applies && allowed == noGrant && reached > nearest:
				nearest, d, misses = reached, found, []string{where + ": " + why}
			case reached != applies && reached == nearest && reached != failedAction:
				misses = append(misses, where+": "+why)
			}
		}
	}
	if d.Outcome != Allowed {
		d.Reason = "no statement allows " + clip(req.Action)
		const limit = 3
		if len(misses) > limit {
			misses = append(misses[:limit], fmt.Sprintf("and %d more statements", len(misses)-limit))
		}
		if len(misses) > 0 {
			d.Reason += "; nearest: " + strings.Join(misses, "; ")
		}
	}
	return d
}

// test matches a statement against a request. When it does not apply, why says
// which element stopped it.
func (s Statement) test(req Request, keys contextKeys, trust, variables bool) (reached stage, g grant, why string) {
	if !s.hasAction(req.Action) {
		return failedAction, noGrant, "other actions"
	}
	g = direct
	if trust {
		if g = s.grants(req.Principal); g == noGrant {
			return failedPrincipal, noGrant, fmt.Sprintf("Principal does not name %s", clip(req.Principal.CallerARN()))
		}
	} else if ok, why := s.hasResource(req.Resource, keys, variables); !ok {
		return failedResource, noGrant, why
	}
	for _, c := range s.Conditions {
		if ok, why := c.holds(keys, variables); !ok {
			return failedCondition, noGrant, why
		}
	}
	return applies, g, ""
}

func (s Statement) hasAction(action string) bool {
	for _, a := range s.Actions {
		if matchAction(a, action) {
			return true
		}
	}
	for _, a := range s.NotActions {
		if matchAction(a, action) {
			return false
		}
	}
	return len(s.NotActions) > 0
}

// grants reports how the statement names the caller. A NotPrincipal is read in
// the way that grants less: for a Deny the caller must be listed in full to be
// spared, for an Allow any mention excludes it.
func (s Statement) grants(p Principal) grant {
	if len(s.NotPrincipals) == 0 {
		return p.namedBy(s.Principals)
	}
	spared := p.namedBy(s.NotPrincipals) != noGrant
	if s.Effect == Deny {
		spared = p.exempt(s.NotPrincipals)
	}
	if spared {
		return noGrant
	}
	return direct
}

// hasResource reports whether the statement covers the resource. An entry with a
// variable without a value matches no resource, in NotResource too: there it
// excludes nothing.
func (s Statement) hasResource(resource string, keys contextKeys, variables bool) (bool, string) {
	list := s.Resources
	if len(list) == 0 {
		list = s.NotResources
	}
	why := ""
	for _, r := range list {
		hit, err := matchResource(r, resource, variables, keys)
		var u unresolved
		switch {
		case hit && len(s.NotResources) == 0:
			return true, ""
		case hit:
			return false, fmt.Sprintf("NotResource %q excludes %s", clip(r), clip(resource))
		case err != nil && len(s.NotResources) > 0 && !errors.As(err, &u):
			return false, "NotResource: " + err.Error()
		case err != nil:
			why = " (" + err.Error() + ")"
		}
	}
	if len(s.NotResources) > 0 {
		return true, ""
	}
	return false, fmt.Sprintf("Resource %s does not cover %s%s", quoteAll(list), clip(resource), why)
}
