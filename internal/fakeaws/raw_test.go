package fakeaws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// rawCall is a signed call that no SDK client makes.
type rawCall struct {
	notebook    string // default alice-nb
	service     string
	region      string // default us-east-1
	method, url string
	target      string // JSON 1.1
	body        string
	form        string
	plain       bool // http instead of https
	header      map[string]string
	credentials aws.CredentialsProvider       // default: the notebook's base session
	sign        func(c *aws.Credentials)      // spoils the credentials before signing
	after       func(r *http.Request)         // spoils the signed request
	at          func(now time.Time) time.Time // signing time
}

func (c rawCall) do(a *Account) (*http.Response, string, error) {
	if c.notebook == "" {
		c.notebook = "alice-nb"
	}
	if c.region == "" {
		c.region = "us-east-1"
	}
	if c.credentials == nil {
		c.credentials = baseCredentials(a, c.notebook)
	}
	if c.plain {
		c.url = strings.Replace(c.url, "https:", "http:", 1)
	}
	body := c.body + c.form
	r, err := http.NewRequest(c.method, c.url, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	if c.target != "" {
		r.Header.Set("X-Amz-Target", c.target)
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	}
	if c.form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	creds, err := c.credentials.Retrieve(context.Background())
	if err != nil {
		return nil, "", err
	}
	if c.sign != nil {
		c.sign(&creds)
	}
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	if c.service == "s3" {
		r.Header.Set("X-Amz-Content-Sha256", hash)
	}
	now := time.Now()
	if c.at != nil {
		now = c.at(now)
	}
	if creds.AccessKeyID != "" {
		if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hash, c.service, c.region, now, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = c.service == "s3" }); err != nil {
			return nil, "", err
		}
	}
	if c.after != nil {
		c.after(r)
	}
	resp, err := on(a, c.notebook).Do(r)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp, string(answer), err
}

func wantStatus(a *Account, status int, c rawCall) error {
	r, body, err := c.do(a)
	if err != nil {
		return err
	}
	if r.StatusCode != status {
		return fmt.Errorf("status %d, want %d: %s", r.StatusCode, status, body)
	}
	return nil
}

// TestBadCredentials goes through the ways to be refused before AWS knows who
// is calling, in the words of each protocol. Nothing of it reaches the trail.
func TestBadCredentials(t *testing.T) {
	t.Parallel()
	stsCall := rawCall{service: "sts", method: "POST", url: "https://sts.us-east-1.amazonaws.com/", form: "Action=GetCallerIdentity&Version=2011-06-15"}
	jsonCall := rawCall{service: "sagemaker", method: "POST", url: "https://api.sagemaker.us-east-1.amazonaws.com/", target: "SageMaker.ListNotebookInstances", body: "{}"}
	s3Call := rawCall{service: "s3", method: "GET", url: "https://s3.us-east-1.amazonaws.com/"}
	ec2Call := rawCall{service: "ec2", method: "POST", url: "https://ec2.us-east-1.amazonaws.com/", form: "Action=DescribeInstances&Version=2016-11-15"}
	restCall := rawCall{service: "lambda", method: "GET", url: "https://lambda.us-east-1.amazonaws.com/2015-03-31/functions"}
	token := func(c *aws.Credentials) { c.SessionToken = strings.Repeat("A", 400) }
	noToken := func(c *aws.Credentials) { c.SessionToken = "" }
	secret := func(c *aws.Credentials) { c.SecretAccessKey = strings.Repeat("x", 40) }
	key := func(c *aws.Credentials) { c.AccessKeyID = "ASIA" + strings.Repeat("A", 16) }
	unsigned := func(c *aws.Credentials) { *c = aws.Credentials{} }
	early := func(now time.Time) time.Time { return now.Add(-6 * time.Minute) }
	late := func(now time.Time) time.Time { return now.Add(6 * time.Minute) }
	with := func(c rawCall, sign func(*aws.Credentials)) rawCall { c.sign = sign; return c }
	dated := func(c rawCall, at func(time.Time) time.Time) rawCall { c.at = at; return c }
	spoil := func(c rawCall, after func(*http.Request)) rawCall { c.after = after; return c }
	for _, tt := range []struct {
		name   string
		call   rawCall
		status int
		want   string // in the answer
	}{
		{"sts: foreign token", with(stsCall, token), 403, "<Code>InvalidClientTokenId</Code>\n    <Message>The security token included in the request is invalid.</Message>"},
		{"sts: no token", with(stsCall, noToken), 403, "<Code>InvalidClientTokenId</Code>"},
		{"sts: unknown key", with(stsCall, key), 403, "<Code>InvalidClientTokenId</Code>"},
		{"sts: wrong secret", with(stsCall, secret), 403, "<Code>SignatureDoesNotMatch</Code>"},
		{"sts: unsigned", with(stsCall, unsigned), 403, "<Code>MissingAuthenticationToken</Code>"},
		{"sts: signed too long ago", dated(stsCall, early), 403, "<Code>SignatureDoesNotMatch</Code>\n    <Message>Signature expired: "},
		{"sts: signed in the future", dated(stsCall, late), 403, "<Code>SignatureDoesNotMatch</Code>\n    <Message>Signature not yet current: "},
		{"sts: body changed", spoil(stsCall, func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15&x=1"))
			r.ContentLength = -1
		}), 403, "<Code>SignatureDoesNotMatch</Code>"},
		{"sts: half an authorization", spoil(stsCall, func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x") }), 400, "<Code>IncompleteSignature</Code>"},
		{"sts: signed for another region", rawCall{service: "sts", region: "eu-west-1", method: "POST", url: stsCall.url, form: stsCall.form}, 403, "Credential should be scoped to a valid region."},
		{"sts: global endpoint, signed for another region", rawCall{service: "sts", region: "eu-west-1", method: "POST", url: "https://sts.amazonaws.com/", form: stsCall.form}, 403, "Credential should be scoped to a valid region."},
		{"iam: signed for another region", rawCall{service: "iam", region: "eu-west-1", method: "POST", url: "https://iam.amazonaws.com/", form: "Action=GetRole&Version=2010-05-08&RoleName=x"}, 403, "Credential should be scoped to a valid region."},
		{"sts: signed for another service", rawCall{service: "sagemaker", method: "POST", url: stsCall.url, form: stsCall.form}, 403, "Credential should be scoped to correct service: &#39;sts&#39;."},
		{"json: foreign token", with(jsonCall, token), 400, `{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`},
		{"json: wrong secret", with(jsonCall, secret), 400, `{"__type":"InvalidSignatureException",`},
		{"json: unsigned", with(jsonCall, unsigned), 400, `{"__type":"MissingAuthenticationTokenException",`},
		{"s3: unknown key", with(s3Call, key), 403, "<Code>InvalidAccessKeyId</Code>"},
		{"s3: wrong secret", with(s3Call, secret), 403, "<Code>SignatureDoesNotMatch</Code>"},
		{"s3: signed too long ago", dated(s3Call, early), 403, "<Code>RequestTimeTooSkewed</Code>"},
		{"ec2: wrong secret", with(ec2Call, secret), 401, "<Code>AuthFailure</Code>"},
		{"rest-json: wrong secret", with(restCall, secret), 403, `{"__type":"InvalidSignatureException",`},
		{"rest-json: foreign token", with(restCall, token), 403, `{"__type":"UnrecognizedClientException",`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccount(t)
			r, body, err := tt.call.do(a)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("%d %s\nwant %d … %s", r.StatusCode, body, tt.status, tt.want)
			}
			if got := r.Header.Get("X-Amzn-Requestid"); got == "" {
				t.Error("no request id")
			}
			if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-amz-json") && r.Header.Get("X-Amzn-Errortype") == "" {
				t.Error("no X-Amzn-ErrorType")
			}
			if n := len(a.Records()); n != 1 { // SageMaker's own AssumeRole
				t.Errorf("%d records, want 1", n)
			}
			if n := a.Rejections(); len(n) != 1 || n[0].SourceIP != "10.0.0.7" {
				t.Errorf("rejections: %+v", n)
			}
		})
	}
}

// TestDeniedInEachProtocol is about calls whose caller is known and not
// allowed: each leaves a record.
func TestDeniedInEachProtocol(t *testing.T) {
	t.Parallel()
	const user = "User: arn:aws:sts::111122223333:assumed-role/NoDescribe/SageMaker is not authorized to perform: "
	for _, tt := range []struct {
		name      string
		call      rawCall
		status    int
		want      string
		errorCode string
	}{
		{"query", rawCall{service: "iam", method: "POST", url: "https://iam.amazonaws.com/", form: "Action=GetRole&Version=2010-05-08&RoleName=NoDescribe"},
			403, user + "iam:GetRole on resource: role NoDescribe because no identity-based policy allows the iam:GetRole action", "AccessDenied"},
		{"ec2", rawCall{service: "ec2", method: "POST", url: "https://ec2.us-east-1.amazonaws.com/", form: "Action=RunInstances&Version=2016-11-15"},
			403, "<Code>UnauthorizedOperation</Code>", "Client.UnauthorizedOperation"},
		{"json", rawCall{service: "athena", method: "POST", url: "https://athena.us-east-1.amazonaws.com/", target: "AmazonAthena.StartQueryExecution", body: `{}`},
			400, user + "athena:StartQueryExecution on resource: arn:aws:athena:us-east-1:111122223333:workgroup/primary because", "AccessDenied"},
		{"s3", rawCall{service: "s3", method: "GET", url: "https://s3.us-east-1.amazonaws.com/bucket?list-type=2"},
			403, user + "s3:ListBucket on resource: &#34;arn:aws:s3:::bucket&#34; because no identity-based policy allows the s3:ListBucket action", "AccessDenied"},
		{"rest-json", rawCall{service: "lambda", method: "GET", url: "https://lambda.us-east-1.amazonaws.com/2015-03-31/functions/"},
			403, user + "lambda:ListFunctions because no identity-based policy", "AccessDenied"},
		{"cbor", rawCall{service: "monitoring", method: "POST", url: "https://monitoring.us-east-1.amazonaws.com/service/GraniteServiceVersion20100801/operation/PutMetricData", header: map[string]string{"Smithy-Protocol": "rpc-v2-cbor"}},
			400, user + "cloudwatch:PutMetricData because", "AccessDenied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccount(t)
			tt.call.notebook = "no-describe-nb"
			r, body, err := tt.call.do(a)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("%d %s\nwant %d … %s", r.StatusCode, body, tt.status, tt.want)
			}
			records := a.Records()
			last := records[len(records)-1]
			if last.ErrorCode != tt.errorCode || len(records) != 2 || last.RequestID != r.Header.Get("X-Amzn-Requestid") {
				t.Errorf("%d records, the last with %q, request id %s", len(records), last.ErrorCode, last.RequestID)
			}
		})
	}
}

// TestMalformedCalls is about signed calls that make no sense.
func TestMalformedCalls(t *testing.T) {
	t.Parallel()
	stsURL, smURL := "https://sts.us-east-1.amazonaws.com/", "https://api.sagemaker.us-east-1.amazonaws.com/"
	for _, tt := range []struct {
		name   string
		call   rawCall
		status int
		want   string
	}{
		{"no action", rawCall{service: "sts", method: "POST", url: stsURL, form: "Version=2011-06-15"}, 400, "MissingAction"},
		{"wrong version", rawCall{service: "sts", method: "POST", url: stsURL, form: "Action=AssumeRole&Version=2012-01-01"}, 400, "InvalidAction"},
		{"action with markup", rawCall{service: "sts", method: "POST", url: stsURL, form: "Action=<x>&Version=2011-06-15"}, 404, "UnknownOperationException"},
		{"duration in words", rawCall{service: "sts", method: "POST", url: stsURL, form: "Action=AssumeRole&Version=2011-06-15&RoleSessionName=aa&RoleArn=" + executionRole + "&DurationSeconds=an+hour"}, 400, "<Code>MalformedInput</Code>\n    \n"},
		{"nothing given", rawCall{service: "sts", method: "POST", url: stsURL, form: "Action=AssumeRole&Version=2011-06-15"}, 400,
			"2 validation errors detected: Value null at &#39;roleArn&#39; failed to satisfy constraint: Member must not be null; Value null at &#39;roleSessionName&#39;"},
		{"broken form", rawCall{service: "sts", method: "POST", url: stsURL, form: "Action=%zz"}, 400, "MalformedQueryString"},
		{"broken JSON", rawCall{service: "sagemaker", method: "POST", url: smURL, target: "SageMaker.DescribeSpace", body: `{"a":`}, 400, "SerializationException"},
		{"JSON list", rawCall{service: "sagemaker", method: "POST", url: smURL, target: "SageMaker.DescribeSpace", body: `[]`}, 400, "SerializationException"},
		{"wrong type", rawCall{service: "sagemaker", method: "POST", url: smURL, target: "SageMaker.DescribeDomain", body: `{"DomainId":7}`}, 400, "SerializationException"},
		{"empty body", rawCall{service: "sagemaker", method: "POST", url: smURL, target: "SageMaker.DescribeDomain"}, 400, "Value null at 'domainId' failed to satisfy constraint: Member must not be null"},
		{"name with a slash", rawCall{service: "sagemaker", method: "POST", url: smURL, target: "SageMaker.DescribeNotebookInstance", body: `{"NotebookInstanceName":"a/b"}`}, 400,
			"Value 'a/b' at 'notebookInstanceName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9])*"},
		{"S3 method", rawCall{service: "s3", method: "PATCH", url: "https://s3.us-east-1.amazonaws.com/b/k"}, 405, "MethodNotAllowed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccount(t)
			r, body, err := tt.call.do(a)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("%d %s\nwant %d … %s", r.StatusCode, body, tt.status, tt.want)
			}
		})
	}
}

func TestTooLargeABody(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	r, body, err := rawCall{service: "s3", method: "PUT", url: "https://s3.us-east-1.amazonaws.com/b/k", body: strings.Repeat("x", maxBody+1)}.do(a)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != 413 {
		t.Errorf("%d %s", r.StatusCode, body)
	}
}

func readCloser(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
