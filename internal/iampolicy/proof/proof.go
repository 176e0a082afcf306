// Package proof tries calls against IAM documents before anybody deploys them.
//
// It guarantees that a row says what the documents do: every try of a case is
// decided by package iameval, under both readings of whether
// sts:RoleSessionName is in the context of sts:SetSourceIdentity (AWS does not
// say; see iameval.AssumeRoleRequest), and Run fails unless each agrees with
// the result that the case states. So a table of rows can neither hide an abuse
// that is possible nor claim one that is not.
//
// It proves the documents, not the account: service control policies,
// permissions boundaries and what else is attached to the roles are not in it.
// Callers that work get AdministratorAccess added, the worst that can be
// attached to them.
package proof

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/iameval"
)

// Kind says what a case is about.
type Kind string

// The kinds.
const (
	Intended Kind = "intended" // what must work
	Abuse    Kind = "abuse"    // what somebody on a notebook may try
	Pitfall  Kind = "pitfall"  // what surprises administrators
)

// Result is what the documents do with a case.
type Result string

// The results. Possible is Allowed for what should better be denied.
const (
	Allowed  Result = "allowed"
	Denied   Result = "denied"
	Possible Result = "POSSIBLE"
)

// Role is a role of the world in which calls are tried.
type Role struct {
	ARN      string
	Tags     map[string]string
	Trust    iameval.Policy
	Policies []iameval.Policy
	// Works says that people work under the role: AdministratorAccess is added.
	Works bool
}

// World holds roles by a label; two labels may stand for two states of one role.
type World map[string]Role

// Caller makes a call: a session of a role of the world, or a service.
type Caller struct {
	Role           string // label
	Session        string // name of the session; default SageMaker, as SageMaker names its own
	SourceIdentity string // that the session has
	Service        string // instead of Role
}

// Try is one call: sts:AssumeRole on Target or, when Action is set, any other
// action.
type Try struct {
	Caller
	Target         string // label
	SessionName    string
	AsSource       string // the SourceIdentity that the call passes
	Tags           map[string]string
	Action         string
	Resource       string
	RequestContext map[string][]string
}

// Case is a number of calls that must all have the same result.
type Case struct {
	Kind Kind
	What string // one line
	Want Result
	Note string // one line more, for what the result means; may be empty
	Try  []Try
}

// Row is a case that was tried.
type Row struct {
	Kind   Kind   `json:"kind"`
	Result Result `json:"result"`
	What   string `json:"what"`
	By     string `json:"by,omitempty"` // what denied the first call
	Note   string `json:"note,omitempty"`
	Calls  int    `json:"calls"`
}

// administrator is the policy AdministratorAccess.
var administrator = iameval.Policy{Name: "AdministratorAccess", Document: iameval.Document{
	Version:    iameval.Version2012,
	Statements: []iameval.Statement{{Effect: iameval.Allow, Actions: []string{"*"}, Resources: []string{"*"}}},
}}

// moment is when all calls are made.
var moment = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Run tries every case. The error joins those whose result is not as stated.
func (w World) Run(cases []Case) ([]Row, error) {
	var rows []Row
	var errs []error
	for _, c := range cases {
		row := Row{Kind: c.Kind, Result: c.Want, What: c.What, Note: c.Note, Calls: len(c.Try)}
		if len(c.Try) == 0 {
			errs = append(errs, fmt.Errorf("%q: nothing is tried", c.What))
		}
		for i, t := range c.Try {
			for _, everywhere := range []bool{false, true} {
				allowed, by, err := w.try(t, everywhere)
				if err == nil && allowed != (c.Want != Denied) {
					err = fmt.Errorf("call %d is allowed: %t, sts:RoleSessionName everywhere: %t, %s", i, allowed, everywhere, by)
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("%q, stated as %s: %w", c.What, c.Want, err))
				}
				if i == 0 && c.Want == Denied {
					row.By = by
				}
			}
		}
		rows = append(rows, row)
	}
	return rows, errors.Join(errs...)
}

// attached are the policies with which sessions of the role are tried.
func (r Role) attached() []iameval.Policy {
	if r.Works {
		return append(slices.Clone(r.Policies), administrator)
	}
	return r.Policies
}

func (w World) try(t Try, everywhere bool) (allowed bool, by string, err error) {
	caller, err := w.caller(t.Caller)
	if err != nil {
		return false, "", err
	}
	if t.Action != "" {
		context := caller.Context(moment, "us-east-1")
		for k, v := range t.RequestContext {
			context[strings.ToLower(k)] = v
		}
		d := iameval.EvaluateIdentity(caller.Policies, iameval.Request{Principal: caller.Principal, Action: t.Action, Resource: t.Resource, Context: context})
		return d.Outcome == iameval.Allowed, "by " + denier("the identity policy", d.Outcome, d.Sid), nil
	}
	target, ok := w[t.Target]
	if !ok {
		return false, "", fmt.Errorf("no role %q", t.Target)
	}
	d := iameval.AssumeRole(iameval.AssumeRoleRequest{
		Caller: caller, Target: iameval.Role{ARN: target.ARN, Tags: target.Tags, Trust: target.Trust},
		SessionName: t.SessionName, SourceIdentity: t.AsSource, Tags: t.Tags, Context: t.RequestContext,
		Region: "us-east-1", Time: moment, SessionNameEverywhere: everywhere,
	})
	c, refused := d.Refusal()
	switch {
	case !refused:
		return true, "", nil
	case c.Refused == iameval.SideIdentity:
		by = "by " + denier("the identity policy", c.Outcome, c.Identity.Sid)
	case c.Refused == iameval.SideTrust:
		by = "by " + denier("the trust policy", c.Outcome, c.Trust.Sid)
	default:
		by = "by the " + string(c.Refused)
	}
	return false, by + ", on " + c.Action, nil
}

// denier names a statement only if it denied; one that merely failed to allow
// explains nothing in a table.
func denier(side string, o iameval.Outcome, sid string) string {
	if o == iameval.ExplicitDeny && sid != "" {
		return side + ", statement " + sid
	}
	return side
}

// caller builds the session or service.
func (w World) caller(c Caller) (iameval.Caller, error) {
	if c.Service != "" {
		return iameval.Caller{Principal: iameval.Principal{Service: c.Service}, SourceIdentity: c.SourceIdentity}, nil
	}
	r, ok := w[c.Role]
	if !ok {
		return iameval.Caller{}, fmt.Errorf("no role %q", c.Role)
	}
	parts := strings.SplitN(r.ARN, ":", 6)
	if len(parts) != 6 {
		return iameval.Caller{}, fmt.Errorf("role %q: %q is not an ARN", c.Role, r.ARN)
	}
	if c.Session == "" {
		c.Session = "SageMaker"
	}
	name := r.ARN[strings.LastIndexByte(r.ARN, '/')+1:]
	return iameval.Caller{
		Principal: iameval.Principal{
			Account: parts[4], RoleARN: r.ARN, UniqueID: "AROA" + strings.ToUpper(name),
			SessionARN: "arn:" + parts[1] + ":sts::" + parts[4] + ":assumed-role/" + name + "/" + c.Session,
		},
		Tags: r.Tags, SourceIdentity: c.SourceIdentity, TokenIssued: moment, Policies: r.attached(),
	}, nil
}
