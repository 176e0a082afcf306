package fakeaws

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	a := newAccount(t, func(s *Scenario) {
		s.Profiles[1].Role = "SageMakerStudioExecutionRole_bob"
		s.Domain.SpaceRole = "JobRole"
	})
	c := sageMakerClient(a, "alice-nb", baseCredentials(a, "alice-nb"))
	ctx := context.Background()

	notebook, err := c.DescribeNotebookInstance(ctx, &sagemaker.DescribeNotebookInstanceInput{NotebookInstanceName: aws.String("alice-nb")})
	if err != nil {
		t.Fatal(err)
	}
	if *notebook.RoleArn != executionRole || notebook.RootAccess != types.RootAccessDisabled || notebook.CreationTime.IsZero() ||
		*notebook.NotebookInstanceArn != "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/alice-nb" {
		t.Errorf("notebook: %+v", notebook)
	}
	domain, err := c.DescribeDomain(ctx, &sagemaker.DescribeDomainInput{DomainId: aws.String(domainID)})
	if err != nil {
		t.Fatal(err)
	}
	if *domain.DefaultUserSettings.ExecutionRole != executionRole || *domain.DefaultSpaceSettings.ExecutionRole != role("JobRole") ||
		domain.DomainSettings.ExecutionRoleIdentityConfig != types.ExecutionRoleIdentityConfigDisabled {
		t.Errorf("domain: %+v", domain)
	}
	for name, want := range map[string]string{"alice": "", "bob": role("SageMakerStudioExecutionRole_bob")} {
		p, err := c.DescribeUserProfile(ctx, &sagemaker.DescribeUserProfileInput{DomainId: aws.String(domainID), UserProfileName: &name})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if p.UserSettings != nil {
			got = aws.ToString(p.UserSettings.ExecutionRole)
		}
		if got != want || *p.UserProfileName != name {
			t.Errorf("profile %s has the role %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]types.SharingType{"alice-space": types.SharingTypePrivate, "team-space": types.SharingTypeShared} {
		s, err := c.DescribeSpace(ctx, &sagemaker.DescribeSpaceInput{DomainId: aws.String(domainID), SpaceName: &name})
		if err != nil {
			t.Fatal(err)
		}
		if s.SpaceSharingSettings.SharingType != want || *s.OwnershipSettings.OwnerUserProfileName != "alice" || s.SpaceSettings.AppType != types.AppTypeJupyterLab {
			t.Errorf("space: %+v", s)
		}
	}
}

func TestDescribeWhatIsNotThere(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := sageMakerClient(a, "alice-nb", baseCredentials(a, "alice-nb"))
	ctx := context.Background()
	for name, tt := range map[string]struct {
		call func() error
		code string
		text string
	}{
		"notebook": {func() error {
			_, err := c.DescribeNotebookInstance(ctx, &sagemaker.DescribeNotebookInstanceInput{NotebookInstanceName: aws.String("nobody")})
			return err
		}, "ValidationException", "RecordNotFound"},
		"domain": {func() error {
			_, err := c.DescribeDomain(ctx, &sagemaker.DescribeDomainInput{DomainId: aws.String("d-other")})
			return err
		}, "ResourceNotFound", "Domain [d-other] does not exist."},
		"profile": {func() error {
			_, err := c.DescribeUserProfile(ctx, &sagemaker.DescribeUserProfileInput{DomainId: aws.String(domainID), UserProfileName: aws.String("nobody")})
			return err
		}, "ResourceNotFound", "UserProfile [nobody] does not exist in Domain [d-exampledomain]."},
		"space": {func() error {
			_, err := c.DescribeSpace(ctx, &sagemaker.DescribeSpaceInput{DomainId: aws.String(domainID), SpaceName: aws.String("nowhere")})
			return err
		}, "ResourceNotFound", "Space [nowhere] does not exist in Domain [d-exampledomain]."},
		"malformed domain": {func() error {
			_, err := c.DescribeDomain(ctx, &sagemaker.DescribeDomainInput{DomainId: aws.String("D-1")})
			return err
		}, "ValidationException", "1 validation error detected: Value 'D-1' at 'domainId' failed to satisfy constraint: Member must satisfy regular expression pattern: d-(-*[a-z0-9]){1,61}"},
	} {
		if code, text := codeOf(t, tt.call()); code != tt.code || text != tt.text {
			t.Errorf("%s: %s: %s", name, code, text)
		}
	}
	// Who may not look learns nothing about what exists.
	blind := sageMakerClient(a, "no-describe-nb", baseCredentials(a, "no-describe-nb"))
	_, err := blind.DescribeSpace(ctx, &sagemaker.DescribeSpaceInput{DomainId: aws.String(domainID), SpaceName: aws.String("nowhere")})
	if code, _ := codeOf(t, err); code != "AccessDeniedException" {
		t.Errorf("without permission: %s", code)
	}
}

func TestJobsTakeTheSourceIdentityAlong(t *testing.T) {
	t.Parallel()
	create := func(a *Account, p aws.CredentialsProvider, role string) error {
		_, err := sageMakerClient(a, "alice-nb", p).CreateTrainingJob(context.Background(), &sagemaker.CreateTrainingJobInput{
			TrainingJobName: aws.String("job"), RoleArn: &role,
			AlgorithmSpecification: &types.AlgorithmSpecification{TrainingInputMode: types.TrainingInputModeFile},
			OutputDataConfig:       &types.OutputDataConfig{S3OutputPath: aws.String("s3://b/o")},
			StoppingCondition:      &types.StoppingCondition{},
		})
		return err
	}
	for _, tt := range []struct {
		name       string
		role       string
		attributed bool
		code       string
		source     string // in SageMaker's AssumeRole record
		denied     string // in that record
	}{
		{"unattributed", role("JobRole"), false, "", "", ""},
		{"attributed", role("JobRole"), true, "", "alice-nb", ""},
		{"unattributed, role without SetSourceIdentity", role("JobRoleWithoutSourceIdentity"), false, "", "", ""},
		{"attributed, role without SetSourceIdentity", role("JobRoleWithoutSourceIdentity"), true, "ValidationException", "", "sts:SetSourceIdentity"},
		{"role that may not be passed", role("WorkRole"), true, "AccessDeniedException", "", ""},
		{"role that does not exist", role("JobRoleOfNobody"), true, "ValidationException", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccount(t)
			p := baseCredentials(a, "alice-nb")
			if tt.attributed {
				p = assume(t, a, "alice-nb", p, named("alice-nb"))
			}
			before := len(a.Records())
			if code, message := codeOf(t, create(a, p, tt.role)); code != tt.code {
				t.Fatalf("%s: %s, want %q", code, message, tt.code)
			}
			var text strings.Builder
			for _, r := range a.RecordsSince(before) {
				line, err := r.Line()
				if err != nil {
					t.Fatal(err)
				}
				if r.EventName == "AssumeRole" {
					text.Write(line)
				}
			}
			if tt.source != "" && !strings.Contains(text.String(), `"sourceIdentity":"`+tt.source+`"`) {
				t.Errorf("no record of SageMaker's session with source identity %s: %s", tt.source, text.String())
			}
			if tt.denied != "" && !strings.Contains(text.String(), "User: sagemaker.amazonaws.com is not authorized to perform: "+tt.denied) {
				t.Errorf("no record of SageMaker's refused AssumeRole: %s", text.String())
			}
		})
	}
}

func TestGetRole(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	call := func(name string) (int, string) {
		t.Helper()
		r, body, err := rawCall{service: "iam", method: "POST", url: "https://iam.amazonaws.com/", form: "Action=GetRole&Version=2010-05-08&RoleName=" + name}.do(a)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, body
	}
	document := regexp.MustCompile(`<AssumeRolePolicyDocument>([^<]*)<`)
	trust := func(body string) string {
		t.Helper()
		m := document.FindStringSubmatch(body)
		if m == nil || strings.ContainsAny(m[1], " +\"{") {
			t.Fatalf("the trust policy is not percent-encoded: %s", body)
		}
		text, err := url.PathUnescape(m[1])
		if err != nil || !json.Valid([]byte(text)) {
			t.Fatalf("trust policy %q: %v", text, err)
		}
		return text
	}
	status, body := call("AmazonSageMaker-ExecutionRole")
	if status != 200 || !strings.Contains(body, "<Path>/service-role/</Path>") || !strings.Contains(body, "<Arn>"+executionRole+"</Arn>") || !strings.Contains(body, "<MaxSessionDuration>43200<") {
		t.Errorf("%d %s", status, body)
	}
	trust(body)
	if _, body := call("carol-launch"); strings.Contains(body, "<Tags>") { // only / roles may be read
		t.Log("tags shown")
	}
	if _, body := call("SageMakerStudioExecutionRole_alice"); !strings.Contains(body, "<Tags><member><Key>studiouserid</Key><Value>alice</Value></member>") || !strings.Contains(trust(body), executionRole) {
		t.Errorf("tags or principal missing: %s", body)
	}
	if status, body := call("nobody"); status != 404 || !strings.Contains(body, "<Code>NoSuchEntity</Code>") || !strings.Contains(body, "The role with name nobody cannot be found.") {
		t.Errorf("%d %s", status, body)
	}
	records := a.Records()
	if got := records[len(records)-1]; got.ErrorCode != "NoSuchEntityException" || got.RequestParameters == nil {
		t.Errorf("record: %+v", got)
	}
	// A principal that is gone appears by its unique id.
	gone := a.directory.Role("AmazonSageMaker-ExecutionRole").ID
	if err := a.RecreateRole("AmazonSageMaker-ExecutionRole"); err != nil {
		t.Fatal(err)
	}
	a.ChangeBaseSessions("", Rotate)
	if _, body := call("SageMakerStudioExecutionRole_alice"); !strings.Contains(trust(body), `"`+gone+`"`) || strings.Contains(trust(body), executionRole) {
		t.Errorf("a principal that was created again keeps its ARN: %s", trust(body))
	}
}

func TestS3(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "b", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"secret": "outside", "b/sub/package.rpm": "0123456789"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../secret", filepath.Join(dir, "b", "link")); err != nil {
		t.Fatal(err)
	}
	a := newAccount(t, func(s *Scenario) {
		s.Buckets = append(s.Buckets, scenario.Bucket{Name: "files", Directory: filepath.Join(dir, "b")})
	})
	const host = "https://files.s3.us-east-1.amazonaws.com"
	for _, tt := range []struct {
		method, url, byteRange string
		status                 int
		want                   string
	}{
		{"GET", "https://s3.us-east-1.amazonaws.com/", "", 200, "<Bucket><Name>files</Name>"},
		{"GET", host + "/?list-type=2&prefix=sub", "", 200, "<Key>sub/package.rpm</Key>"},
		{"GET", host + "/?list-type=2&prefix=none", "", 200, "<KeyCount>0</KeyCount>"},
		{"GET", host + "/?location", "", 200, "LocationConstraint"},
		{"GET", host + "/sub/package.rpm", "", 200, "0123456789"},
		{"GET", "https://s3.us-east-1.amazonaws.com/files/sub/package.rpm", "", 200, "0123456789"},
		{"GET", host + "/sub/package.rpm", "bytes=2-4", 206, "234"},
		{"GET", host + "/sub/package.rpm", "bytes=-3", 206, "789"},
		{"GET", host + "/sub/package.rpm", "bytes=8-100", 206, "89"},
		{"GET", host + "/sub/package.rpm", "bytes=10-", 416, "InvalidRange"},
		{"GET", host + "/sub/package.rpm", "bytes=9223372036854775807-9223372036854775807", 416, "InvalidRange"},
		{"GET", host + "/sub/package.rpm", "bytes=x", 416, "InvalidRange"},
		{"HEAD", host + "/sub/package.rpm", "", 200, ""},
		{"HEAD", host + "/", "", 200, ""},
		{"GET", host + "/sub", "", 404, "NoSuchKey"},
		{"GET", host + "/nothing", "", 404, "NoSuchKey"},
		{"GET", host + "/link", "", 404, "NoSuchKey"},
		{"GET", host + "/../secret", "", 404, "NoSuchKey"},
		{"GET", host + "/sub/%00", "", 404, "NoSuchKey"},
		{"GET", "https://s3.us-east-1.amazonaws.com/foreign/k", "", 404, "NoSuchBucket"},
		{"PUT", host + "/new", "", 200, ""},
		{"DELETE", host + "/sub/package.rpm", "", 204, ""},
		{"POST", host + "/big?uploads", "", 200, "<UploadId>"},
	} {
		call := rawCall{service: "s3", method: tt.method, url: tt.url}
		if tt.byteRange != "" {
			call.header = map[string]string{"Range": tt.byteRange}
		}
		r, body, err := call.do(a)
		if err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != tt.status || !strings.Contains(body, tt.want) || tt.status/100 == 2 && tt.method == http.MethodGet && len(tt.want) <= 10 && tt.byteRange != "" && body != tt.want {
			t.Errorf("%s %s %s: %d %s", tt.method, tt.url, tt.byteRange, r.StatusCode, body)
		}
		if strings.Contains(body, "outside") {
			t.Errorf("%s leaves the bucket's directory", tt.url)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "b", "sub", "package.rpm")); err != nil {
		t.Errorf("a call changed the bucket's directory: %v", err)
	}
}

// TestUnknownOperations are calls that the account does not know: authorised,
// recorded, answered in the shape of the protocol.
func TestUnknownOperations(t *testing.T) {
	t.Parallel()
	everything := func(s *Scenario) {
		s.Roles[0].Policies[1].Document = []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	}
	a := newAccount(t, everything)
	for _, tt := range []struct {
		call  rawCall
		event string
		want  string
	}{
		{rawCall{service: "iam", method: "POST", url: "https://iam.amazonaws.com/", form: "Action=ListRoles&Version=2010-05-08"}, "ListRoles", "<ListRolesResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">"},
		{rawCall{service: "ec2", method: "GET", url: "https://ec2.us-east-1.amazonaws.com/?Action=DescribeInstances&Version=2016-11-15"}, "DescribeInstances", "<requestId>"},
		{rawCall{service: "kms", method: "POST", url: "https://kms.us-east-1.amazonaws.com/", target: "TrentService.Decrypt", body: `{"CiphertextBlob":"eA=="}`}, "Decrypt", "{}"},
		{rawCall{service: "lakeformation", method: "POST", url: "https://lakeformation.us-east-1.amazonaws.com/ListResources", body: "{}", header: map[string]string{"Content-Type": "application/json"}}, "ListResources", "{}"},
		{rawCall{service: "lambda", method: "GET", url: "https://lambda.us-east-1.amazonaws.com/2015-03-31/functions"}, "ListFunctions", "{}"},
		{rawCall{service: "sagemaker", method: "POST", url: "https://runtime.sagemaker.us-east-1.amazonaws.com/endpoints/e/invocations", body: "x"}, "InvokeEndpoint", "{}"},
		{rawCall{service: "sagemaker", method: "POST", url: "https://api.sagemaker.us-east-1.amazonaws.com/", target: "SageMaker.CreateModel", body: `{"ModelName":"m"}`}, "CreateModel", `{"ModelArn":"arn:aws:sagemaker:us-east-1:111122223333:model/m"}`},
	} {
		r, body, err := tt.call.do(a)
		if err != nil {
			t.Fatal(err)
		}
		records := a.Records()
		last := records[len(records)-1]
		if r.StatusCode != 200 || !strings.Contains(body, tt.want) || last.EventName != tt.event || last.EventSource != tt.call.service+".amazonaws.com" {
			t.Errorf("%s: %d %s; record %s %s", tt.event, r.StatusCode, body, last.EventSource, last.EventName)
		}
	}
}

func TestPresignedCallerIdentity(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	presigned, err := presign(a)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a replay within the lifetime is accepted, as by AWS
		r, err := on(a, "").Get(presigned)
		if err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != 200 {
			t.Errorf("status %d", r.StatusCode)
		}
		_ = r.Body.Close()
	}
	r, err := on(a, "").Get(presigned + "0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode != 403 {
		t.Errorf("with a changed signature: status %d", r.StatusCode)
	}
}
