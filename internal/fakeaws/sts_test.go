package fakeaws

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/google/go-cmp/cmp"
)

// role returns the ARN of a role of the default scenario without a path.
func role(name string) string { return "arn:aws:iam::111122223333:role/" + name }

// denied is STS's refusal of a notebook's base session.
func denied(caller, action, role string) string {
	return "User: arn:aws:sts::111122223333:assumed-role/" + caller + "/SageMaker is not authorized to perform: " + action + " on resource: " + role
}

func TestAssumeRole(t *testing.T) {
	t.Parallel()
	const exec = "AmazonSageMaker-ExecutionRole"
	in := func(roleARN, session, source string, edits ...func(*sts.AssumeRoleInput)) *sts.AssumeRoleInput {
		in := &sts.AssumeRoleInput{RoleArn: &roleARN, RoleSessionName: &session}
		if source != "" {
			in.SourceIdentity = &source
		}
		for _, edit := range edits {
			edit(in)
		}
		return in
	}
	seconds := func(n int32) func(*sts.AssumeRoleInput) {
		return func(in *sts.AssumeRoleInput) { in.DurationSeconds = &n }
	}
	tag := func(k, v string) func(*sts.AssumeRoleInput) {
		return func(in *sts.AssumeRoleInput) { in.Tags = append(in.Tags, types.Tag{Key: &k, Value: &v}) }
	}
	transitive := func(k string) func(*sts.AssumeRoleInput) {
		return func(in *sts.AssumeRoleInput) { in.TransitiveTagKeys = append(in.TransitiveTagKeys, k) }
	}
	const profile = "SageMakerStudioExecutionRole_alice"
	for _, tt := range []struct {
		name     string
		notebook string
		in       *sts.AssumeRoleInput
		code     string // "" = granted
		text     string
	}{
		{"self", "alice-nb", in(executionRole, "alice-nb", "alice-nb"), "", ""},
		{"shared role: any name", "bob-nb", in(executionRole, "somebody", "else"), "", ""},
		{"900 s", "alice-nb", in(executionRole, "alice-nb", "alice-nb", seconds(900)), "", ""},
		{"launcher", "carol-nb", in(role("WorkRole"), "carol-nb", "carol-nb"), "", ""},
		{"profile role", "alice-nb", in(role(profile), "alice", "alice"), "", ""},
		{"profile role with tags", "alice-nb", in(role(profile), "alice", "alice", tag("team", "a b"), transitive("TEAM")), "", ""},

		{"no source identity where the trust asks for one", "alice-nb", in(executionRole, "alice-nb", ""),
			"AccessDenied", denied(exec, "sts:AssumeRole", executionRole)},
		{"no self-trust", "no-self-trust-nb", in(role("NoSelfTrust"), "x1", "x1"),
			"AccessDenied", denied("NoSelfTrust", "sts:AssumeRole", role("NoSelfTrust"))},
		{"no SetSourceIdentity in the trust policy", "no-set-in-trust-nb", in(role("NoSetSourceIdentityInTrust"), "x1", "x1"),
			"AccessDenied", denied("NoSetSourceIdentityInTrust", "sts:SetSourceIdentity", role("NoSetSourceIdentityInTrust"))},
		{"no SetSourceIdentity in the identity policy", "no-set-in-policy-nb", in(role("NoSetSourceIdentityInPolicy"), "x1", "x1"),
			"AccessDenied", denied("NoSetSourceIdentityInPolicy", "sts:SetSourceIdentity", role("NoSetSourceIdentityInPolicy"))},
		{"launcher under another name", "carol-nb", in(role("WorkRole"), "alice-nb", "alice-nb"),
			"AccessDenied", denied("carol-launch", "sts:AssumeRole", role("WorkRole"))},
		{"launcher with only the source identity right", "carol-nb", in(role("WorkRole"), "alice-nb", "carol-nb"),
			"AccessDenied", denied("carol-launch", "sts:AssumeRole", role("WorkRole"))},
		{"another's profile role", "alice-nb", in(role(profile), "bob", "bob"),
			"AccessDenied", denied(exec, "sts:AssumeRole", role(profile))},
		{"tags without TagSession", "alice-nb", in(executionRole, "alice-nb", "alice-nb", tag("team", "a")),
			"AccessDenied", denied(exec, "sts:TagSession", executionRole)},
		{"a role that does not exist", "alice-nb", in(role("Nobody"), "alice-nb", "alice-nb"),
			"AccessDenied", denied(exec, "sts:AssumeRole", role("Nobody"))},
		{"the right name at the wrong path", "alice-nb", in(role(exec), "alice-nb", "alice-nb"),
			"AccessDenied", denied(exec, "sts:AssumeRole", role(exec))},
		{"multi-factor code", "alice-nb", in(executionRole, "alice-nb", "alice-nb", func(in *sts.AssumeRoleInput) { in.TokenCode = aws.String("123456") }),
			"AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code."},

		{"one character", "alice-nb", in(executionRole, "a", "a"), "ValidationError",
			"2 validation errors detected: Value 'a' at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2; Value 'a' at 'sourceIdentity' failed to satisfy constraint: Member must have length greater than or equal to 2"},
		{"65 characters", "alice-nb", in(executionRole, strings.Repeat("a", 65), ""), "ValidationError",
			"1 validation error detected: Value '" + strings.Repeat("a", 65) + "' at 'roleSessionName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		{"a space in the name", "alice-nb", in(executionRole, "alice nb", "alice-nb"), "ValidationError",
			`1 validation error detected: Value 'alice nb' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*`},
		{"not ASCII", "alice-nb", in(executionRole, "älice", "alice-nb"), "ValidationError",
			`1 validation error detected: Value 'älice' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*`},
		{"a reserved source identity", "alice-nb", in(executionRole, "alice-nb", "aws:alice"), "ValidationError",
			`1 validation error detected: Value 'aws:alice' at 'sourceIdentity' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*`},
		{"899 s", "alice-nb", in(executionRole, "alice-nb", "alice-nb", seconds(899)), "ValidationError",
			"1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"},
		{"43201 s", "alice-nb", in(executionRole, "alice-nb", "alice-nb", seconds(43201)), "ValidationError",
			"1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200"},
		{"over the role's maximum, before chaining", "no-self-trust-nb", in(role("NoSelfTrust"), "x1", "x1", seconds(3601)), "ValidationError",
			"The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		{"over the cap of chaining, before authorisation", "no-self-trust-nb", in(executionRole, "x1", "x1", seconds(3601)), "ValidationError",
			"The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."},
		{"not an ARN", "alice-nb", in("AmazonSageMaker-ExecutionRole", "alice-nb", "alice-nb"), "ValidationError", "Request ARN is invalid"},
		{"tags twice", "alice-nb", in(executionRole, "alice-nb", "alice-nb", tag("k", "1"), tag("K", "2")), "InvalidParameterValue",
			"Duplicate tag keys found. Please note that Tag keys are case insensitive."},
		{"transitive key that is no tag", "alice-nb", in(executionRole, "alice-nb", "alice-nb", tag("k", "1"), transitive("z")), "InvalidParameterValue",
			"The specified transitive tag key must be included in the requested tags."},
		{"session policy that is no policy", "alice-nb", in(executionRole, "alice-nb", "alice-nb", func(in *sts.AssumeRoleInput) { in.Policy = aws.String("{}") }), "MalformedPolicyDocument", "This policy contains invalid Json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccount(t)
			out, err := stsClient(a, tt.notebook, baseCredentials(a, tt.notebook)).AssumeRole(context.Background(), tt.in)
			code, message := codeOf(t, err)
			if code != tt.code || message != tt.text && (tt.code != "MalformedPolicyDocument" || !strings.HasPrefix(message, tt.text)) {
				t.Fatalf("got  %s: %s\nwant %s: %s", code, message, tt.code, tt.text)
			}
			records := a.Records()
			r := records[len(records)-1]
			if code == "" {
				if got, want := aws.ToString(out.SourceIdentity), aws.ToString(tt.in.SourceIdentity); got != want {
					t.Errorf("source identity %q, want %q", got, want)
				}
				if strings.Contains(*out.AssumedRoleUser.Arn, "service-role") {
					t.Errorf("the session's ARN keeps the role's path: %s", *out.AssumedRoleUser.Arn)
				}
				line, err := r.Line()
				if err != nil {
					t.Fatal(err)
				}
				if packed := strings.Contains(string(line), "packedPolicySize"); packed != (len(tt.in.Tags) > 0) {
					t.Errorf("packed size in the record: %v, with %d tags", packed, len(tt.in.Tags))
				}
			} else if r.ErrorCode != code || r.RequestParameters != nil || r.ResponseElements != nil || r.Resources != nil {
				t.Errorf("record of a refused call: %s, %v, %v, %v", r.ErrorCode, r.RequestParameters, r.ResponseElements, r.Resources)
			}
		})
	}
}

func TestSourceIdentityIsSticky(t *testing.T) {
	t.Parallel()
	a := newAccount(t, func(s *Scenario) { s.Domain.ExecutionRoleIdentityConfig = "USER_PROFILE_NAME" })
	base := containerCredentials(a, "alice-lab")
	client := stsClient(a, "", base)
	ctx := context.Background()

	out, err := client.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(executionRole), RoleSessionName: aws.String("alice")})
	if err != nil {
		t.Fatalf("inherited: %v", err)
	}
	if got := aws.ToString(out.SourceIdentity); got != "alice" {
		t.Errorf("inherited: the answer echoes %q", got)
	}
	if _, err := client.AssumeRole(ctx, named("alice")); err != nil {
		t.Errorf("the same value again: %v", err)
	}
	_, err = client.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(role("SageMakerStudioExecutionRole_bob")), RoleSessionName: aws.String("bob"), SourceIdentity: aws.String("bob")})
	code, message := codeOf(t, err)
	if want := denied("AmazonSageMaker-ExecutionRole", "sts:SetSourceIdentity", role("SageMakerStudioExecutionRole_bob")); code != "AccessDenied" || message != want {
		t.Errorf("another value: %s: %s\nwant %s", code, message, want)
	}
	_, err = client.AssumeRole(ctx, named("mallory"))
	if code, _ := codeOf(t, err); code != "AccessDenied" {
		t.Errorf("another value for itself: %q", code)
	}
}

func TestPropagation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		app  string
		on   bool
		want string
	}{
		{"alice-lab", true, "alice"},
		{"alice-classic", true, "alice"},
		{"bob-code", true, "bob"},
		{"team-lab", true, ""},
		{"alice-lab", false, ""},
	} {
		a := newAccount(t)
		if err := a.SetPropagation(tt.on); err != nil {
			t.Fatal(err)
		}
		callerARN(t, stsClient(a, "", containerCredentials(a, tt.app)))
		records := a.Records()
		if got := records[1].UserIdentity.SessionContext.SourceIdentity; got != tt.want {
			t.Errorf("%s, propagation %v: source identity %q, want %q", tt.app, tt.on, got, tt.want)
		}
	}
}

func TestTransitiveTags(t *testing.T) {
	t.Parallel()
	a := newAccount(t, func(s *Scenario) {
		for i := range s.Roles {
			if s.Roles[i].Name == "SageMakerStudioExecutionRole_alice" {
				s.Roles[i].Trust = []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:*"}]}`)
				s.Roles[i].Policies[0].Document = []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:*","Resource":"*"}]}`)
			}
		}
	})
	target := aws.String(role("SageMakerStudioExecutionRole_alice"))
	first := &sts.AssumeRoleInput{RoleArn: target, RoleSessionName: aws.String("alice"), SourceIdentity: aws.String("alice"),
		Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("blue")}, {Key: aws.String("once"), Value: aws.String("1")}}, TransitiveTagKeys: []string{"team"}}
	mine := assume(t, a, "alice-nb", baseCredentials(a, "alice-nb"), first)
	client := stsClient(a, "alice-nb", mine)
	second := &sts.AssumeRoleInput{RoleArn: target, RoleSessionName: aws.String("alice"),
		Tags: []types.Tag{{Key: aws.String("Team"), Value: aws.String("red")}}}
	_, err := client.AssumeRole(context.Background(), second)
	if code, message := codeOf(t, err); code != "InvalidParameterValue" || !strings.Contains(message, "conflicts with a transitive tag key") {
		t.Errorf("a tag that hides an inherited one: %s: %s", code, message)
	}
	second.Tags = nil
	if _, err := client.AssumeRole(context.Background(), second); err != nil {
		t.Fatal(err)
	}
	records := a.Records()
	line, err := records[len(records)-1].Line()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(line), `"incomingTransitiveTags":{"team":"blue"}`) || strings.Contains(string(line), "once") {
		t.Errorf("record of the second hop: %s", line)
	}
}

func TestSessionPolicies(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	in := named("alice-nb")
	in.Policy = aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sagemaker:ListNotebookInstances","Resource":"*"}}`)
	mine := assume(t, a, "alice-nb", baseCredentials(a, "alice-nb"), in)
	if _, err := sageMakerClient(a, "alice-nb", mine).ListNotebookInstances(context.Background(), nil); err != nil {
		t.Errorf("what both policies allow: %v", err)
	}
	_, err := stsClient(a, "alice-nb", mine).AssumeRole(context.Background(), &sts.AssumeRoleInput{
		RoleArn: aws.String(role("SageMakerStudioExecutionRole_alice")), RoleSessionName: aws.String("alice")})
	code, message := codeOf(t, err)
	if code != "AccessDenied" {
		t.Errorf("what the session policy does not allow: %s: %s", code, message)
	}
}

func TestSTSQuota(t *testing.T) {
	t.Parallel()
	a := newAccount(t, func(s *Scenario) { s.STSRequestsPerSecond = 3 })
	client := stsClient(a, "alice-nb", aws.NewCredentialsCache(baseCredentials(a, "alice-nb")))
	throttled := map[string]int{}
	for range 10 { // far less than a second
		_, err := client.GetCallerIdentity(context.Background(), nil)
		code, _ := codeOf(t, err)
		throttled[code]++
	}
	if throttled["Throttling"] < 4 || throttled[""] < 3 || len(throttled) != 2 {
		t.Errorf("ten calls with a quota of three a second: %v", throttled)
	}
}

func TestOtherSTSOperations(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	client := stsClient(a, "alice-nb", baseCredentials(a, "alice-nb"))
	_, err := client.GetSessionToken(context.Background(), nil)
	code, message := codeOf(t, err)
	if diff := cmp.Diff([]string{"AccessDenied", "Cannot call GetSessionToken with session credentials"}, []string{code, message}); diff != "" {
		t.Error(diff)
	}
	_, err = client.GetAccessKeyInfo(context.Background(), &sts.GetAccessKeyInfoInput{AccessKeyId: aws.String("ASIAIOSFODNN7EXAMPLE")})
	if code, _ := codeOf(t, err); code != "InvalidAction" {
		t.Errorf("an operation that is not there: %q", code)
	}
}
