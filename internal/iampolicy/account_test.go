package iampolicy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/proof"
)

const (
	administratorJSON = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	publishedJSON     = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"sts:AssumeRole","Resource":"*"}]}`
	anyTrustJSON      = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
)

// bench is an account with the roles of a set, and whoever tries to abuse them.
type bench struct {
	t      *testing.T
	set    *Set
	aws    *fakeaws.Account
	client *http.Client
	roles  map[string]scenario.Role // by label
}

func newBench(t *testing.T, s *Set) *bench {
	t.Helper()
	b := &bench{t: t, set: s, roles: map[string]scenario.Role{}}
	sc := fakeaws.Scenario{AccountID: s.Account, Region: regionOf(s), Partition: s.Partition}
	for label, r := range s.world {
		if strings.Contains(r.ARN, ":"+s.Account+":") {
			b.roles[label] = b.role(label, r)
		}
	}
	names := map[string]bool{}
	for label, r := range b.roles {
		if label == r.Name || !slices.ContainsFunc(s.Roles, func(sr Role) bool { return sr.Name == r.Name }) {
			sc.Roles = append(sc.Roles, r)
			names[r.Name] = true
		}
	}
	sc.Roles = append(sc.Roles, scenario.Role{Name: "starter", Trust: json.RawMessage(anyTrustJSON),
		Policies: []scenario.Policy{{Name: "all", Document: json.RawMessage(administratorJSON)}}})
	account, err := fakeaws.New(fakeaws.Config{Scenario: sc})
	if err != nil {
		t.Fatal(err)
	}
	b.aws, b.client = account, &http.Client{Transport: account.TransportFor(fakeaws.Client{})}
	return b
}

func regionOf(s *Set) string {
	if s.Region != "" {
		return s.Region
	}
	return "us-east-1"
}

// role writes a role of the world as a scenario's, with the set's own text.
func (b *bench) role(label string, r proof.Role) scenario.Role {
	b.t.Helper()
	path := r.ARN[strings.Index(r.ARN, ":role/")+len(":role"):]
	i := strings.LastIndexByte(path, '/') + 1
	out := scenario.Role{Path: path[:i], Name: path[i:], Tags: r.Tags, Trust: json.RawMessage(anyTrustJSON)}
	text := func(o ordered.Object) json.RawMessage {
		data, err := ordered.JSON(o)
		if err != nil {
			b.t.Fatal(err)
		}
		return data
	}
	for _, sr := range b.set.Roles {
		if sr.ARN != r.ARN {
			continue
		}
		out.Trust = text(sr.Trust)
		for _, p := range sr.Inline {
			out.Policies = append(out.Policies, scenario.Policy{Name: p.Name, Document: text(p.Document)})
		}
	}
	for _, m := range b.set.Managed {
		if slices.Contains(m.Roles, out.Name) {
			out.Policies = append(out.Policies, scenario.Policy{Name: m.Name, ARN: m.ARN, Document: text(m.Document)})
		}
	}
	if label == "blanket" {
		out.Policies = append(out.Policies, scenario.Policy{Name: "published", Document: json.RawMessage(publishedJSON)})
	}
	if r.Works {
		out.Policies = append(out.Policies, scenario.Policy{Name: "AdministratorAccess", ARN: "arn:" + b.set.Partition + ":iam::aws:policy/AdministratorAccess", Document: json.RawMessage(administratorJSON)})
	}
	return out
}

// session is credentials as SageMaker or an earlier AssumeRole gave them.
func (b *bench) session(role, name, source string) aws.Credentials {
	b.t.Helper()
	body, err := json.Marshal(map[string]string{"role": role, "session_name": name, "source_identity": source, "lifetime": "1h"})
	if err != nil {
		b.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	b.aws.Admin().ServeHTTP(w, httptest.NewRequest("POST", "/sessions", bytes.NewReader(body)))
	var c struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || w.Code != 200 {
		b.t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
}

// call makes a signed call and returns the error's code and text.
func (b *bench) call(c aws.Credentials, service, target string, body any) (int, string) {
	b.t.Helper()
	data, method := []byte(nil), "GET"
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			b.t.Fatal(err)
		}
		method = "POST"
	}
	region := regionOf(b.set)
	r, err := http.NewRequest(method, "https://"+service+"."+region+".amazonaws.com/", bytes.NewReader(data))
	if err != nil {
		b.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	if target != "" {
		r.Header.Set("X-Amz-Target", target)
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	}
	if err := v4.NewSigner().SignHTTP(context.Background(), c, r, hex.EncodeToString(sum[:]), service, region, time.Now()); err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// outcome of a try: allowed, or the refusal in AWS's words.
type outcome struct {
	allowed bool
	refusal string
	// reached is false when the account cannot make such a call.
	reached bool
}

func (b *bench) try(t proof.Try) outcome {
	b.t.Helper()
	switch {
	case t.Service == sageMaker && len(t.Tags) == 0: // SageMaker takes roles for jobs; the name is that of who starts one
		return b.job(b.session("starter", "starter", t.AsSource), b.set.world[t.Target].ARN)
	case t.Service != "" || !strings.Contains(b.set.world[t.Role].ARN, ":"+b.set.Account+":"):
		return outcome{}
	}
	role := b.roles[t.Role]
	if err := b.aws.PutRole(role); err != nil { // it may be one of several states
		b.t.Fatal(err)
	}
	defer func() {
		if original, ok := b.roles[role.Name]; ok {
			if err := b.aws.PutRole(original); err != nil {
				b.t.Fatal(err)
			}
		}
	}()
	name := t.Session
	if name == "" {
		name = "SageMaker"
	}
	c := b.session(role.Name, name, t.SourceIdentity)
	switch {
	case t.Action == "":
		return b.assume(c, t)
	case t.Action == "iam:PassRole":
		return b.job(c, t.Resource)
	case t.Action == "s3:ListAllMyBuckets":
		return said(b.call(c, "s3", "", nil))
	case t.Action == "sagemaker:UpdateDomain", t.Action == "sagemaker:CreateApp":
		return said(b.call(c, "sagemaker", "SageMaker."+strings.TrimPrefix(t.Action, "sagemaker:"),
			map[string]string{"DomainId": "d-exampledomain", "SpaceName": "x", "AppType": "JupyterLab", "AppName": "default"}))
	}
	return outcome{}
}

func said(status int, text string) outcome {
	return outcome{allowed: status == 200, refusal: text, reached: true}
}

func (b *bench) job(c aws.Credentials, role string) outcome {
	return said(b.call(c, "sagemaker", "SageMaker.CreateTrainingJob", map[string]string{"TrainingJobName": "job", "RoleArn": role}))
}

func (b *bench) assume(c aws.Credentials, t proof.Try) outcome {
	b.t.Helper()
	region := regionOf(b.set)
	client := sts.New(sts.Options{Region: region, HTTPClient: b.client, BaseEndpoint: aws.String("https://sts." + region + ".amazonaws.com"),
		Credentials: credentials.StaticCredentialsProvider{Value: c}})
	in := &sts.AssumeRoleInput{RoleArn: aws.String(b.set.world[t.Target].ARN), RoleSessionName: aws.String(t.SessionName)}
	if t.AsSource != "" {
		in.SourceIdentity = aws.String(t.AsSource)
	}
	for k, v := range t.Tags {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(k), Value: aws.String(v)})
	}
	out, err := client.AssumeRole(context.Background(), in)
	if err != nil {
		var api smithy.APIError
		if !errors.As(err, &api) {
			b.t.Fatal(err)
		}
		return outcome{refusal: api.ErrorCode() + ": " + api.ErrorMessage(), reached: true}
	}
	if got := aws.ToString(out.AssumedRoleUser.Arn); !strings.HasSuffix(got, "/"+t.SessionName) {
		b.t.Errorf("the session is %s, wanted the name %s", got, t.SessionName)
	}
	if want := t.AsSource; want != "" && aws.ToString(out.SourceIdentity) != want {
		b.t.Errorf("the source identity is %q, wanted %q", aws.ToString(out.SourceIdentity), want)
	}
	return outcome{allowed: true, reached: true}
}

// TestInAnAccount makes the calls of every table in a strict account: real
// signatures, real AssumeRole. Not there: services other than SageMaker, other
// accounts, and actions on IAM and SageMaker that the account has not.
func TestInAnAccount(t *testing.T) {
	for name, o := range layouts() {
		t.Run(name, func(t *testing.T) {
			s := mustGenerate(t, o)
			b := newBench(t, s)
			made, assumed, abuses := 0, 0, 0
			for _, c := range s.cases {
				for i, try := range c.Try {
					got := b.try(try)
					if !got.reached {
						continue
					}
					made++
					if try.Action == "" && try.Service == "" {
						assumed++
						if c.Kind == proof.Abuse && c.Want == proof.Denied {
							abuses++
						}
					}
					if got.allowed != (c.Want != proof.Denied) {
						t.Errorf("%q, call %d: allowed: %t, want %s: %s", c.What, i, got.allowed, c.Want, got.refusal)
					}
					if !got.allowed && !strings.Contains(got.refusal, "AccessDenied") && !strings.Contains(got.refusal, "Could not assume role") &&
						!strings.Contains(got.refusal, "ValidationError") {
						t.Errorf("%q, call %d: refused for another reason: %s", c.What, i, got.refusal)
					}
				}
			}
			t.Logf("%d calls, %d AssumeRole, of which %d abuses refused", made, assumed, abuses)
			if made < 12 || assumed < 8 || abuses < 5 {
				t.Errorf("only %d calls were made, %d AssumeRole, %d abuses", made, assumed, abuses)
			}
		})
	}
}

// TestJobRoleWithoutSourceIdentity shows what happens to jobs when a job role
// has the trust policy that SageMaker's console makes.
func TestJobRoleWithoutSourceIdentity(t *testing.T) {
	o := layouts()["launcher, one"]
	s := mustGenerate(t, o)
	b := newBench(t, s)
	named := b.session("W", "alice-nb", "alice-nb")
	if got := b.job(named, "arn:aws:iam::111122223333:role/J"); !got.allowed {
		t.Errorf("a named session cannot start a job: %s", got.refusal)
	}
	old := b.roles["J"]
	old.Trust = json.RawMessage(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":%q},"Action":"sts:AssumeRole"}]}`, sageMaker))
	if err := b.aws.PutRole(old); err != nil {
		t.Fatal(err)
	}
	if got := b.job(named, "arn:aws:iam::111122223333:role/J"); got.allowed || !strings.Contains(got.refusal, "Could not assume role") {
		t.Errorf("allowed: %t, %s", got.allowed, got.refusal)
	}
}
