package rolebook_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/nbidentityd/nbidentityd/internal/doctor/rolebook"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

const (
	trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"sagemaker.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	work  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
)

// paged asks for one item a page.
type paged struct{ *iam.Client }

func (p paged) ListRolePolicies(ctx context.Context, in *iam.ListRolePoliciesInput, opts ...func(*iam.Options)) (*iam.ListRolePoliciesOutput, error) {
	in.MaxItems = aws.Int32(1)
	return p.Client.ListRolePolicies(ctx, in, opts...)
}

func (p paged) ListAttachedRolePolicies(ctx context.Context, in *iam.ListAttachedRolePoliciesInput, opts ...func(*iam.Options)) (*iam.ListAttachedRolePoliciesOutput, error) {
	in.MaxItems = aws.Int32(1)
	return p.Client.ListAttachedRolePolicies(ctx, in, opts...)
}

// book is that of a notebook whose role may do what the policy says.
func book(t *testing.T, allowed string) *rolebook.Book {
	t.Helper()
	account, err := fakeaws.New(fakeaws.Config{Scenario: scenario.Scenario{
		Roles: []scenario.Role{{Name: "R", Path: "/p/", Trust: []byte(trust), Tags: map[string]string{"a": "b"}, Policies: []scenario.Policy{
			{Name: "one", Document: []byte(work)}, {Name: "two", Document: []byte(work)},
			{Name: "three", ARN: "arn:aws:iam::111122223333:policy/three", Document: []byte(work)},
			{Name: "four", ARN: "arn:aws:iam::111122223333:policy/four", Document: []byte(allowed)},
		}}},
		Notebooks: []scenario.Notebook{{Name: "alice-nb", Role: "R"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: account.Transport()}
	metadata := imds.New(imds.Options{HTTPClient: client})
	return rolebook.New(paged{iam.New(iam.Options{Region: "us-east-1", HTTPClient: client, Retryer: aws.NopRetryer{},
		Credentials: ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = metadata })})})
}

func parse(t *testing.T, arn string) identity.RoleARN {
	t.Helper()
	r, err := identity.ParseRoleARN(arn)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRead(t *testing.T) {
	all := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}`
	b := book(t, all)
	r, err := b.Read(t.Context(), parse(t, "arn:aws:iam::111122223333:role/p/R"))
	if err != nil || r.Unread != nil {
		t.Fatal(err, r.Unread)
	}
	var names []string
	for _, p := range r.Policies {
		names = append(names, p.Name+"="+p.ARN)
	}
	const want = "one= two= three=arn:aws:iam::111122223333:policy/three four=arn:aws:iam::111122223333:policy/four"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("policies %s, want %s", got, want)
	}
	if string(r.Text) != trust || r.Tags["a"] != "b" || !strings.HasPrefix(r.ID, "AROA") || r.Session.Hours() != 1 || len(r.Trust.Statements) != 1 {
		t.Errorf("%+v", r)
	}
	var missing *rolebook.NotFound
	if _, err := b.Read(t.Context(), parse(t, "arn:aws:iam::111122223333:role/R")); !errors.As(err, &missing) || missing.Have.Path != "/p/" {
		t.Errorf("another path: %v", err)
	}
	if _, err := b.Read(t.Context(), parse(t, "arn:aws:iam::111122223333:role/None")); !errors.As(err, &missing) || missing.Have.Name != "" {
		t.Errorf("no role: %v", err)
	}
	if _, err := b.Read(t.Context(), parse(t, "arn:aws:iam::444455556666:role/p/R")); err == nil || errors.As(err, &missing) {
		t.Errorf("another account: %v", err)
	}
}

func TestReadInPart(t *testing.T) {
	for allowed, want := range map[string]string{
		"iam:GetRole":                              "iam:ListRolePolicies",
		"iam:Get*":                                 "iam:ListAttachedRolePolicies",
		`iam:List*","iam:GetRole`:                  "iam:GetRolePolicy",
		`iam:List*","iam:GetRole*`:                 "iam:GetPolicy",
		`iam:List*","iam:GetRole*","iam:GetPolicy`: "iam:GetPolicyVersion",
	} {
		r, err := book(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["`+allowed+`"],"Resource":"*"}]}`).
			Read(t.Context(), parse(t, "arn:aws:iam::111122223333:role/p/R"))
		if err != nil || r.Unread == nil || !strings.Contains(r.Unread.Error(), want+" ") || len(r.Text) == 0 {
			t.Errorf("%s: %v, %v", allowed, err, r.Unread)
		}
	}
	if _, err := book(t, work).Read(t.Context(), parse(t, "arn:aws:iam::111122223333:role/p/R")); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("nothing allowed: %v", err)
	}
}
