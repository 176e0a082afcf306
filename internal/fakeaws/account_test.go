package fakeaws

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

const (
	executionRole = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"
	domainID      = "d-exampledomain"
)

func newAccount(t testing.TB, edits ...func(*Scenario)) *Account {
	t.Helper()
	s := DefaultScenario()
	for _, edit := range edits {
		edit(&s)
	}
	a, err := New(Config{Scenario: s})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// on is the transport of a notebook instance.
func on(a *Account, notebook string) *http.Client {
	return &http.Client{Transport: a.TransportFor(Client{Notebook: notebook, Address: "10.0.0.7"})}
}

// baseCredentials are those that the SDK finds on a notebook instance.
func baseCredentials(a *Account, notebook string) aws.CredentialsProvider {
	return ec2rolecreds.New(func(o *ec2rolecreds.Options) {
		o.Client = imds.New(imds.Options{HTTPClient: on(a, notebook)})
	})
}

func stsClient(a *Account, notebook string, p aws.CredentialsProvider) *sts.Client {
	return sts.New(sts.Options{Region: "us-east-1", HTTPClient: on(a, notebook), Credentials: p, Retryer: aws.NopRetryer{}})
}

func sageMakerClient(a *Account, notebook string, p aws.CredentialsProvider) *sagemaker.Client {
	return sagemaker.New(sagemaker.Options{Region: "us-east-1", HTTPClient: on(a, notebook), Credentials: p, Retryer: aws.NopRetryer{}})
}

// assume returns credentials of a role, or fails the test.
func assume(t testing.TB, a *Account, notebook string, p aws.CredentialsProvider, in *sts.AssumeRoleInput) aws.CredentialsProvider {
	t.Helper()
	out, err := stsClient(a, notebook, p).AssumeRole(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	c := out.Credentials
	return credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
}

// named asks for the execution role under a name.
func named(name string) *sts.AssumeRoleInput {
	return &sts.AssumeRoleInput{RoleArn: aws.String(executionRole), RoleSessionName: aws.String(name), SourceIdentity: aws.String(name)}
}

// codeOf is the error code that an SDK client saw, "" for success.
func codeOf(t testing.TB, err error) (code, message string) {
	t.Helper()
	if err == nil {
		return "", ""
	}
	var e smithy.APIError
	if !errors.As(err, &e) {
		t.Fatalf("not an API error: %v", err)
	}
	return e.ErrorCode(), e.ErrorMessage()
}

func callerARN(t testing.TB, c *sts.Client) string {
	t.Helper()
	out, err := c.GetCallerIdentity(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return *out.Arn
}

func TestTheNameLands(t *testing.T) {
	a := newAccount(t)
	base := baseCredentials(a, "alice-nb")
	if got, want := callerARN(t, stsClient(a, "alice-nb", base)), "arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/SageMaker"; got != want {
		t.Errorf("before: %s, want %s", got, want)
	}
	mine := assume(t, a, "alice-nb", base, named("alice-nb"))
	if got, want := callerARN(t, stsClient(a, "alice-nb", mine)), "arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/alice-nb"; got != want {
		t.Errorf("after: %s, want %s", got, want)
	}
	var last Record
	for _, r := range a.Records() {
		last = r
	}
	if got := last.UserIdentity.SessionContext.SourceIdentity; got != "alice-nb" {
		t.Errorf("source identity in the record: %q", got)
	}
}

func TestASessionDiesWithItsRole(t *testing.T) {
	a := newAccount(t)
	base := aws.NewCredentialsCache(baseCredentials(a, "alice-nb"))
	mine := assume(t, a, "alice-nb", base, named("alice-nb"))
	client := stsClient(a, "alice-nb", mine)
	callerARN(t, client)
	if err := a.RecreateRole("AmazonSageMaker-ExecutionRole"); err != nil {
		t.Fatal(err)
	}
	_, err := client.GetCallerIdentity(context.Background(), nil)
	code, message := codeOf(t, err)
	if code != "InvalidClientTokenId" || message != "The security token included in the request is invalid." {
		t.Errorf("after the role was created again: %s: %s", code, message)
	}
	a.ChangeBaseSessions("", Rotate)
	fresh := assume(t, a, "alice-nb", baseCredentials(a, "alice-nb"), named("alice-nb"))
	callerARN(t, stsClient(a, "alice-nb", fresh))

	// The profile roles trusted the old role by its unique id.
	_, err = stsClient(a, "alice-nb", baseCredentials(a, "alice-nb")).AssumeRole(context.Background(), &sts.AssumeRoleInput{
		RoleArn: aws.String("arn:aws:iam::111122223333:role/SageMakerStudioExecutionRole_alice"), RoleSessionName: aws.String("alice"), SourceIdentity: aws.String("alice")})
	if code, _ := codeOf(t, err); code != "AccessDenied" {
		t.Errorf("a role that trusted the old role answers %q to the new one", code)
	}
}

func TestEditsCountAtOnce(t *testing.T) {
	a := newAccount(t)
	base := baseCredentials(a, "alice-nb")
	mine := sageMakerClient(a, "alice-nb", assume(t, a, "alice-nb", base, named("alice-nb")))
	in := &sagemaker.DescribeNotebookInstanceInput{NotebookInstanceName: aws.String("alice-nb")}
	if _, err := mine.DescribeNotebookInstance(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	role := a.directory.Role("AmazonSageMaker-ExecutionRole").Source
	role.Policies = role.Policies[:1]
	if err := a.PutRole(role); err != nil {
		t.Fatal(err)
	}
	_, err := mine.DescribeNotebookInstance(context.Background(), in)
	code, message := codeOf(t, err)
	want := "User: arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/alice-nb is not authorized to perform: sagemaker:DescribeNotebookInstance on resource: arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/alice-nb because no identity-based policy allows the sagemaker:DescribeNotebookInstance action"
	if code != "AccessDeniedException" || message != want {
		t.Errorf("after the policy was taken away:\n%s: %s\nwant\n%s", code, message, want)
	}
}

// containerCredentials are those that the SDK finds in a Studio app.
func containerCredentials(a *Account, app string) aws.CredentialsProvider {
	return endpointcreds.New("http://169.254.170.2"+a.ContainerPath(app), func(o *endpointcreds.Options) {
		o.HTTPClient = on(a, "")
	})
}

func presign(a *Account) (string, error) {
	r, err := sts.NewPresignClient(stsClient(a, "alice-nb", baseCredentials(a, "alice-nb"))).PresignGetCallerIdentity(context.Background(), nil)
	if err != nil {
		return "", err
	}
	return r.URL, nil
}
