// Package rolebook reads IAM roles as package iameval judges them: trust policy,
// tags, and the identity policies, inline and managed.
//
// A role whose trust policy can be read and whose policies cannot is still
// worth having, so each part has its own error. What it relies on: IAM sends
// documents percent-encoded, lists in pages, and shows a principal that no
// longer exists by its unique id.
package rolebook

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/iameval"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// API is the part of *iam.Client that is used.
type API interface {
	GetRole(context.Context, *iam.GetRoleInput, ...func(*iam.Options)) (*iam.GetRoleOutput, error)
	ListRolePolicies(context.Context, *iam.ListRolePoliciesInput, ...func(*iam.Options)) (*iam.ListRolePoliciesOutput, error)
	GetRolePolicy(context.Context, *iam.GetRolePolicyInput, ...func(*iam.Options)) (*iam.GetRolePolicyOutput, error)
	ListAttachedRolePolicies(context.Context, *iam.ListAttachedRolePoliciesInput, ...func(*iam.Options)) (*iam.ListAttachedRolePoliciesOutput, error)
	GetPolicy(context.Context, *iam.GetPolicyInput, ...func(*iam.Options)) (*iam.GetPolicyOutput, error)
	GetPolicyVersion(context.Context, *iam.GetPolicyVersionInput, ...func(*iam.Options)) (*iam.GetPolicyVersionOutput, error)
}

// NotFound is the error for a role that does not exist.
type NotFound struct {
	Want identity.RoleARN
	// Have is the role of that name that does exist, under another path or in
	// another account; zero when there is none.
	Have identity.RoleARN
}

func (e *NotFound) Error() string {
	if e.Have.Name == "" {
		return fmt.Sprintf("there is no role %s", e.Want)
	}
	return fmt.Sprintf("there is no role %s; the role of that name is %s", e.Want, e.Have)
}

// Role is what was read of one role.
type Role struct {
	ARN      identity.RoleARN
	ID       string // AROA…
	Tags     map[string]string
	Trust    iameval.Document
	Text     []byte // of the trust policy, as JSON
	Session  time.Duration
	Boundary string // ARN of the permissions boundary, "" when there is none

	Policies []Policy
	// Unread is why the list of policies is not whole; nil when it is.
	Unread error
}

// Policy is an identity policy of the role.
type Policy struct {
	iameval.Policy
	ARN string // of a managed policy; "" for an inline one
}

// Named are the policies in the form of iameval.
func (r Role) Named() []iameval.Policy {
	var all []iameval.Policy
	for _, p := range r.Policies {
		all = append(all, p.Policy)
	}
	return all
}

// TrustPolicy is the trust policy under the name by which people know it.
func (r Role) TrustPolicy() iameval.Policy {
	return iameval.Policy{Name: "trust policy of " + r.ARN.Name, Document: r.Trust}
}

// Book reads each role once, however many ask. It is safe for concurrent use.
type Book struct {
	api API

	mu    sync.Mutex
	pages map[identity.RoleARN]func() (Role, error)
}

// New returns an empty book.
func New(api API) *Book { return &Book{api: api, pages: map[identity.RoleARN]func() (Role, error){}} }

// Read returns a role. The context of the first to ask counts.
func (b *Book) Read(ctx context.Context, arn identity.RoleARN) (Role, error) {
	b.mu.Lock()
	page := b.pages[arn]
	if page == nil {
		page = sync.OnceValues(func() (Role, error) { return b.read(ctx, arn) })
		b.pages[arn] = page
	}
	b.mu.Unlock()
	return page()
}

func (b *Book) read(ctx context.Context, arn identity.RoleARN) (Role, error) {
	out, err := b.api.GetRole(ctx, &iam.GetRoleInput{RoleName: &arn.Name})
	if err != nil {
		var api smithy.APIError
		if errors.As(err, &api) && api.ErrorCode() == "NoSuchEntity" {
			return Role{}, &NotFound{Want: arn}
		}
		return Role{}, explain("iam:GetRole", arn.String(), err)
	}
	if out.Role == nil {
		return Role{}, explain("iam:GetRole", arn.String(), errors.New("the answer is empty"))
	}
	got, err := identity.ParseRoleARN(aws.ToString(out.Role.Arn))
	if err != nil {
		return Role{}, fmt.Errorf("reading role %s: %w", arn, err)
	}
	if got.Account != arn.Account {
		return Role{}, fmt.Errorf("reading role %s: these credentials are of account %s, and IAM tells only about its own", arn, got.Account)
	}
	if got != arn {
		return Role{}, &NotFound{Want: arn, Have: got}
	}
	r := Role{ARN: arn, ID: aws.ToString(out.Role.RoleId), Tags: map[string]string{}, Session: time.Duration(aws.ToInt32(out.Role.MaxSessionDuration)) * time.Second}
	for _, t := range out.Role.Tags {
		r.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	if p := out.Role.PermissionsBoundary; p != nil {
		r.Boundary = aws.ToString(p.PermissionsBoundaryArn)
	}
	if r.Trust, r.Text, err = parse(out.Role.AssumeRolePolicyDocument); err != nil {
		return Role{}, fmt.Errorf("reading the trust policy of %s: %w", arn, err)
	}
	r.Unread = errors.Join(b.inline(ctx, &r), b.attached(ctx, &r))
	return r, nil
}

func (b *Book) inline(ctx context.Context, r *Role) error {
	var marker *string
	for {
		out, err := b.api.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: &r.ARN.Name, Marker: marker})
		if err != nil {
			return explain("iam:ListRolePolicies", r.ARN.String(), err)
		}
		for _, name := range out.PolicyNames {
			got, err := b.api.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &r.ARN.Name, PolicyName: &name})
			if err != nil {
				return explain("iam:GetRolePolicy", r.ARN.String(), err)
			}
			doc, _, err := parse(got.PolicyDocument)
			if err != nil {
				return fmt.Errorf("reading policy %s of %s: %w", name, r.ARN, err)
			}
			r.Policies = append(r.Policies, Policy{Policy: iameval.Policy{Name: name, Document: doc}})
		}
		if !out.IsTruncated {
			return nil
		}
		marker = out.Marker
	}
}

func (b *Book) attached(ctx context.Context, r *Role) error {
	var marker *string
	for {
		out, err := b.api.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: &r.ARN.Name, Marker: marker})
		if err != nil {
			return explain("iam:ListAttachedRolePolicies", r.ARN.String(), err)
		}
		for _, p := range out.AttachedPolicies {
			doc, err := b.managed(ctx, p.PolicyArn)
			if err != nil {
				return err
			}
			r.Policies = append(r.Policies, Policy{Policy: iameval.Policy{Name: aws.ToString(p.PolicyName), Document: doc}, ARN: aws.ToString(p.PolicyArn)})
		}
		if !out.IsTruncated {
			return nil
		}
		marker = out.Marker
	}
}

func (b *Book) managed(ctx context.Context, arn *string) (iameval.Document, error) {
	policy, err := b.api.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: arn})
	if err != nil {
		return iameval.Document{}, explain("iam:GetPolicy", aws.ToString(arn), err)
	}
	if policy.Policy == nil {
		return iameval.Document{}, explain("iam:GetPolicy", aws.ToString(arn), errors.New("the answer is empty"))
	}
	got, err := b.api.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: arn, VersionId: policy.Policy.DefaultVersionId})
	if err != nil {
		return iameval.Document{}, explain("iam:GetPolicyVersion", aws.ToString(arn), err)
	}
	if got.PolicyVersion == nil {
		return iameval.Document{}, explain("iam:GetPolicyVersion", aws.ToString(arn), errors.New("the answer is empty"))
	}
	doc, _, err := parse(got.PolicyVersion.Document)
	if err != nil {
		return iameval.Document{}, fmt.Errorf("reading policy %s: %w", aws.ToString(arn), err)
	}
	return doc, nil
}

func parse(encoded *string) (iameval.Document, []byte, error) {
	text, err := url.PathUnescape(aws.ToString(encoded))
	if err != nil {
		return iameval.Document{}, nil, err
	}
	doc, err := iameval.ParseDocument([]byte(text))
	return doc, []byte(text), err
}

// explain shortens the SDK's errors to what a person needs.
func explain(action, arn string, err error) error {
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		return fmt.Errorf("%s %s: %s: %s", action, arn, api.ErrorCode(), awscause.OneLine(api.ErrorMessage()))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s %s: no answer from IAM in time (a notebook in a VPC often has no way to IAM; ask from an administrator's machine)", action, arn)
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return fmt.Errorf("%s %s: %s", action, arn, awscause.OneLine(err.Error()))
}
