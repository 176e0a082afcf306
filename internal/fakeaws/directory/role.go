package directory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/iameval"
)

// Role is one IAM role. A stored role never changes; an edit replaces it.
type Role struct {
	Name       string
	ID         string // AROA…
	ARN        string // with path
	Trust      iameval.Policy
	Policies   []iameval.Policy
	Tags       map[string]string
	MaxSession time.Duration
	Created    time.Time
	Source     scenario.Role // as it was given, with the defaults

	// named maps the role ARNs in the trust policy's Principal elements to the
	// unique ids that they stood for when it was stored.
	named map[string]string
}

// Target is the role as AssumeRole sees it.
func (r *Role) Target() iameval.Role {
	return iameval.Role{ARN: r.ARN, Tags: r.Tags, Trust: r.Trust}
}

// Managed returns the managed policy of an ARN among the role's policies.
func (r *Role) Managed(arn string) (iameval.Policy, bool) {
	for i, p := range r.Source.Policies {
		if p.ARN == arn && arn != "" {
			return r.Policies[i], true
		}
	}
	return iameval.Policy{}, false
}

// buildLocked parses a role's documents.
func (d *Directory) buildLocked(r scenario.Role, id string, created time.Time) (*Role, error) {
	r.Trust = bytes.Clone(r.Trust) // the caller may go on using its bytes
	r.Policies = slices.Clone(r.Policies)
	for i := range r.Policies {
		r.Policies[i].Document = bytes.Clone(r.Policies[i].Document)
	}
	role := &Role{
		Name: r.Name, ID: id, ARN: d.roleARN(r.Path, r.Name), Tags: r.Tags,
		MaxSession: time.Duration(r.MaxSessionSeconds) * time.Second,
		Created:    created.UTC().Truncate(time.Second),
		Source:     r,
		named:      map[string]string{},
	}
	trust, err := iameval.ParseDocument(r.Trust)
	if err == nil {
		err = trust.CheckTrust()
	}
	if err == nil && iameval.Size(r.Trust) > iameval.MaxTrust {
		err = fmt.Errorf("%d characters; IAM takes at most %d", iameval.Size(r.Trust), iameval.MaxTrust)
	}
	if err == nil {
		err = d.resolveLocked(trust, role)
	}
	if err != nil {
		return nil, fmt.Errorf("role %s: trust policy: %w", r.Name, err)
	}
	role.Trust = iameval.Policy{Name: "trust policy of " + r.Name, Document: trust}
	inline := 0
	for _, p := range r.Policies {
		doc, err := iameval.ParseDocument(p.Document)
		if err == nil {
			err = doc.CheckIdentity()
		}
		size := iameval.Size(p.Document)
		if p.ARN == "" {
			inline += size
		} else if err == nil && size > iameval.MaxManaged {
			err = fmt.Errorf("%d characters; IAM takes at most %d in a managed policy", size, iameval.MaxManaged)
		}
		if err != nil {
			return nil, fmt.Errorf("role %s: policy %s: %w", r.Name, p.Name, err)
		}
		role.Policies = append(role.Policies, iameval.Policy{Name: p.Name, Document: doc})
	}
	if inline > iameval.MaxInline {
		return nil, fmt.Errorf("role %s: inline policies have %d characters; IAM takes at most %d in a role", r.Name, inline, iameval.MaxInline)
	}
	return role, nil
}

// resolveLocked replaces the role ARNs of this account in Principal elements
// by unique ids, in place. A role may name itself once it exists.
func (d *Directory) resolveLocked(trust iameval.Document, role *Role) error {
	own := "arn:" + d.partition + ":iam::" + d.account + ":role/"
	for _, s := range trust.Statements {
		for _, names := range [][]iameval.PrincipalName{s.Principals, s.NotPrincipals} {
			for i, n := range names {
				if n.Type != "AWS" || !strings.HasPrefix(n.ID, own) {
					continue
				}
				named := d.byName[n.ID[strings.LastIndexByte(n.ID, '/')+1:]]
				if named == nil || named.ARN != n.ID {
					return fmt.Errorf("%s: Invalid principal in policy: %q: there is no such role (create it first)", s.Name(), "AWS:"+n.ID)
				}
				role.named[n.ID] = named.ID
				names[i].ID = named.ID
			}
		}
	}
	return nil
}

// TrustText returns r's trust policy as iam:GetRole shows it: a role that was
// named and is gone appears by its unique id.
func (d *Directory) TrustText(r *Role) []byte {
	gone := map[string]string{}
	d.mu.Lock()
	for arn, id := range r.named {
		if d.byID[id] == nil {
			gone[arn] = id
		}
	}
	d.mu.Unlock()
	if len(gone) == 0 {
		return r.Source.Trust
	}
	var doc map[string]any
	if json.Unmarshal(r.Source.Trust, &doc) != nil {
		return r.Source.Trust // it parsed when it was stored
	}
	statements, ok := doc["Statement"].([]any)
	if !ok {
		statements = []any{doc["Statement"]}
	}
	for _, s := range statements {
		if s, ok := s.(map[string]any); ok {
			renamePrincipals(s["Principal"], gone)
			renamePrincipals(s["NotPrincipal"], gone)
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return r.Source.Trust
	}
	return text
}

func renamePrincipals(principal any, gone map[string]string) {
	kinds, _ := principal.(map[string]any)
	switch names := kinds["AWS"].(type) {
	case string:
		if id, ok := gone[names]; ok {
			kinds["AWS"] = id
		}
	case []any:
		for i, n := range names {
			if arn, ok := n.(string); ok && gone[arn] != "" {
				names[i] = gone[arn]
			}
		}
	}
}
