package fakeaws

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden records anew")

// volatile are the parts of a record that differ from run to run.
var volatile = []struct {
	pattern *regexp.Regexp
	to      string
}{
	{regexp.MustCompile(`"ASIA[A-Z2-7]{16}"`), `"ASIA…"`},
	{regexp.MustCompile(`AROA[A-Z2-7]{17}`), `AROA…`},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`), `UUID`},
	{regexp.MustCompile(`"aws-sdk-go-v2/[^"]*"`), `"aws-sdk-go-v2/…"`},
}

// golden renders a record, indented and without what is volatile. The order of
// the keys is kept.
func golden(t *testing.T, r Record) string {
	t.Helper()
	line, err := r.Line()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, line, "", " "); err != nil {
		t.Fatal(err)
	}
	s := text.String()
	for _, v := range volatile {
		s = v.pattern.ReplaceAllString(s, v.to)
	}
	return s
}

// TestRecords compares each shape of record with a golden one. Inside the
// bubble the clock starts at 2000-01-01.
func TestRecords(t *testing.T) {
	for _, tt := range []struct {
		name string // of the golden file
		call func(a *Account) error
	}{
		{"service_assume_role", func(a *Account) error {
			_, err := baseCredentials(a, "alice-nb").Retrieve(context.Background())
			return err
		}},
		{"service_assume_role_propagated", func(a *Account) error {
			if err := a.SetPropagation(true); err != nil {
				return err
			}
			_, err := containerCredentials(a, "alice-lab").Retrieve(context.Background())
			return err
		}},
		{"get_caller_identity", func(a *Account) error {
			_, err := stsClient(a, "alice-nb", baseCredentials(a, "alice-nb")).GetCallerIdentity(context.Background(), nil)
			return err
		}},
		{"assume_role", func(a *Account) error {
			in := named("alice-nb")
			in.DurationSeconds = aws.Int32(3600)
			_, err := stsClient(a, "alice-nb", baseCredentials(a, "alice-nb")).AssumeRole(context.Background(), in)
			return err
		}},
		{"assume_role_denied", func(a *Account) error {
			in := named("alice-nb")
			in.RoleArn = aws.String(role("NoSelfTrust"))
			_, _ = stsClient(a, "no-self-trust-nb", baseCredentials(a, "no-self-trust-nb")).AssumeRole(context.Background(), in)
			return nil
		}},
		{"attributed_describe", func(a *Account) error {
			mine := assume(t, a, "alice-nb", baseCredentials(a, "alice-nb"), named("alice-nb"))
			_, err := sageMakerClient(a, "alice-nb", mine).DescribeNotebookInstance(context.Background(), &sagemaker.DescribeNotebookInstanceInput{NotebookInstanceName: aws.String("alice-nb")})
			return err
		}},
		{"describe_denied", func(a *Account) error {
			_, _ = sageMakerClient(a, "no-describe-nb", baseCredentials(a, "no-describe-nb")).DescribeNotebookInstance(context.Background(), &sagemaker.DescribeNotebookInstanceInput{NotebookInstanceName: aws.String("alice-nb")})
			return nil
		}},
		{"create_endpoint", func(a *Account) error {
			mine := assume(t, a, "alice-nb", baseCredentials(a, "alice-nb"), named("alice-nb"))
			_, err := sageMakerClient(a, "alice-nb", mine).CreateEndpoint(context.Background(), &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("c")})
			return err
		}},
		{"list_buckets", func(a *Account) error {
			return wantStatus(a, 200, rawCall{service: "s3", method: "GET", url: "https://s3.us-east-1.amazonaws.com/"})
		}},
		{"get_object_denied", func(a *Account) error {
			return wantStatus(a, 403, rawCall{notebook: "no-describe-nb", service: "s3", method: "GET", url: "https://bucket.s3.us-east-1.amazonaws.com/a/b.txt"})
		}},
		{"start_query_execution", func(a *Account) error {
			return wantStatus(a, 200, rawCall{service: "athena", method: "POST", url: "https://athena.us-east-1.amazonaws.com/",
				target: "AmazonAthena.StartQueryExecution", body: `{"QueryString":"select 1","WorkGroup":"primary"}`})
		}},
		{"describe_instances_denied", func(a *Account) error {
			return wantStatus(a, 403, rawCall{service: "ec2", method: "POST", url: "https://ec2.us-east-1.amazonaws.com/", form: "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-1"})
		}},
		{"get_role_denied_plain_http", func(a *Account) error {
			return wantStatus(a, 403, rawCall{service: "iam", method: "POST", url: "https://iam.amazonaws.com/", form: "Action=GetRole&Version=2010-05-08&RoleName=nobody", plain: true, notebook: "no-describe-nb"})
		}},
		{"global_endpoint", func(a *Account) error {
			c := sts.New(sts.Options{Region: "us-east-1", HTTPClient: on(a, "alice-nb"), Credentials: baseCredentials(a, "alice-nb"), BaseEndpoint: aws.String("https://sts.amazonaws.com")})
			_, err := c.GetCallerIdentity(context.Background(), nil)
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				if err := tt.call(a); err != nil {
					t.Fatal(err)
				}
				records := a.Records()
				got := golden(t, records[len(records)-1])
				file := filepath.Join("testdata", tt.name+".json")
				if *update {
					if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("record (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestNoSecretInRecords(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	mine := assume(t, a, "alice-nb", baseCredentials(a, "alice-nb"), named("alice-nb"))
	callerARN(t, stsClient(a, "alice-nb", mine))
	var all bytes.Buffer
	for _, r := range a.Records() {
		line, err := r.Line()
		if err != nil {
			t.Fatal(err)
		}
		all.Write(line)
	}
	for _, p := range []aws.CredentialsProvider{mine, baseCredentials(a, "alice-nb")} {
		c, err := p.Retrieve(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(all.Bytes(), []byte(c.SecretAccessKey)) || bytes.Contains(all.Bytes(), []byte(c.SessionToken)) {
			t.Error("a record holds a secret")
		}
		if !bytes.Contains(all.Bytes(), []byte(c.AccessKeyID)) {
			t.Error("no record holds the access key id")
		}
	}
}
