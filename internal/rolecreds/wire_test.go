package rolecreds

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answers makes a transport that gives the same answer to everything.
func answers(status int, body string, header ...string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {"text/xml"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
	}
}

func refuses(err error) roundTrip {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

func xmlError(code, message string) string {
	return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>` + code +
		`</Code><Message>` + message + `</Message></Error><RequestId>11112222-3333-4444-5555-666677778888</RequestId></ErrorResponse>`
}

// realClient is an sts.Client with everything that could multiply calls left at its default.
func realClient(rt http.RoundTripper) *sts.Client {
	return sts.New(sts.Options{
		Region:     "eu-west-1",
		HTTPClient: &http.Client{Transport: rt},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIABASEEXAMPLE", SecretAccessKey: "base", SessionToken: "base"}, nil
		}),
	})
}

func dated(offset time.Duration) string {
	return time.Now().Add(offset).UTC().Format(http.TimeFormat)
}

type brokenBody struct{ err error }

func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }
func (b brokenBody) Close() error             { return nil }

func TestCausesOnTheWire(t *testing.T) {
	const denied = "User: arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/SageMaker is not authorized to perform: "
	for _, test := range []struct {
		name      string
		transport func() roundTrip
		code      string
		problem   string
		remedy    string
	}{
		{"denied, no suffix", func() roundTrip {
			return answers(403, xmlError("AccessDenied", denied+"sts:AssumeRole on resource: "+testRole))
		}, CodeDeniedAssumeRole, "does not say which policy", `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"sts:AssumeRole","Condition":{"ArnEquals":{"aws:PrincipalArn":"` + testRole + `"}}}`},
		{"denied by trust", func() roundTrip {
			return answers(403, xmlError("AccessDenied", denied+"sts:AssumeRole on resource: "+testRole+" because no role trust policy allows the sts:AssumeRole action"))
		}, CodeDeniedAssumeRole, "no role trust policy allows it", "add to the trust policy of " + testRole},
		{"denied by identity", func() roundTrip {
			return answers(403, xmlError("AccessDenied", denied+"sts:AssumeRole on resource: "+testRole+" because no identity-based policy allows the sts:AssumeRole action"))
		}, CodeDeniedAssumeRole, "no identity-based policy allows it", `{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"` + testRole + `"}`},
		{"denied by SCP", func() roundTrip {
			return answers(403, xmlError("AccessDenied", denied+"sts:AssumeRole on resource: "+testRole+" with an explicit deny in a service control policy: arn:aws:organizations::444455556666:policy/p-1"))
		}, CodeDeniedAssumeRole, "an explicit deny in a service control policy", "an Allow elsewhere cannot outweigh it"},
		{"denied by VPC endpoint", func() roundTrip {
			return answers(403, xmlError("AccessDenied", denied+"sts:AssumeRole on resource: "+testRole+" because no VPC endpoint policy allows the sts:AssumeRole action"))
		}, CodeDeniedAssumeRole, "no VPC endpoint policy", "let the VPC endpoint policy"},
		{"denied tags", func() roundTrip {
			return answers(403, xmlError("AccessDenied", denied+"sts:TagSession on resource: "+testRole))
		}, CodeDeniedAssumeRole, "sts:TagSession", "set no session tags"},
		{"denied source identity", func() roundTrip {
			return answers(403, xmlError("AccessDenied", denied+"sts:SetSourceIdentity on resource: "+testRole))
		}, CodeDeniedSetSourceIdentity, "sts:SetSourceIdentity", `"StringEquals":{"sts:SourceIdentity":"alice-nb"}`},
		{"denied in other words", func() roundTrip {
			return answers(403, xmlError("AccessDenied", "Roles may not be assumed by root accounts."))
		}, CodeDeniedAssumeRole, "Roles may not", "trust policy"},
		{"throttled", func() roundTrip { return answers(400, xmlError("Throttling", "Rate exceeded")) }, awscause.CodeThrottled, "Rate exceeded", "quota"},
		{"throttled by status", func() roundTrip { return answers(429, xmlError("SomethingNew", "Slow")) }, awscause.CodeThrottled, "SomethingNew", "quota"},
		{"request expired", func() roundTrip { return answers(400, xmlError("RequestExpired", "Request has expired.")) }, awscause.CodeClockSkew, "Request has expired", "clock"},
		{"clock behind", func() roundTrip {
			return answers(403, xmlError("SignatureDoesNotMatch", "Signature expired: 20260102T030405Z is now earlier than 20260102T045905Z (20260102T050405Z - 5 min.)"), "Date", dated(2*time.Hour))
		}, awscause.CodeClockSkew, "2h0m0s behind AWS's", "clock"},
		{"clock ahead", func() roundTrip {
			return answers(403, xmlError("SignatureDoesNotMatch", "Signature not yet current: 20260102T030405Z"), "Date", dated(-time.Hour))
		}, awscause.CodeClockSkew, "1h0m0s ahead of AWS's", "clock"},
		{"clock told by the date alone", func() roundTrip {
			return answers(403, xmlError("SignatureDoesNotMatch", "The request signature we calculated does not match"), "Date", dated(10*time.Minute))
		}, awscause.CodeClockSkew, "10m0s behind AWS's", "clock"},
		{"cached date", func() roundTrip {
			return answers(403, xmlError("SignatureDoesNotMatch", "The request signature we calculated does not match"), "Date", dated(10*time.Minute), "Age", "600")
		}, awscause.CodeFailed, "refuses the signature", "proxy"},
		{"wrong signature", func() roundTrip {
			return answers(403, xmlError("SignatureDoesNotMatch", "The request signature we calculated does not match"))
		}, awscause.CodeFailed, "refuses the signature", "proxy"},
		{"base expired", func() roundTrip {
			return answers(403, xmlError("ExpiredToken", "The security token included in the request is expired"))
		}, awscause.CodeBaseCredentials, "expired", "rotate"},
		{"base expired, modelled", func() roundTrip {
			return answers(400, xmlError("ExpiredTokenException", "The security token included in the request is expired"))
		}, awscause.CodeBaseCredentials, "expired", "rotate"},
		{"base unknown", func() roundTrip {
			return answers(403, xmlError("InvalidClientTokenId", "The security token included in the request is invalid."))
		}, awscause.CodeBaseCredentials, "invalid", "execution role still exists"},
		{"region disabled", func() roundTrip {
			return answers(403, xmlError("RegionDisabledException", "STS is not activated in this region for account:111122223333. Your account administrator can activate STS in this region using the IAM Console."))
		}, awscause.CodeFailed, "not activated", "eu-west-1"},
		{"validation", func() roundTrip {
			return answers(400, xmlError("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."))
		}, awscause.CodeFailed, "MaxSessionDuration", "change what the message names"},
		{"500", func() roundTrip { return answers(500, xmlError("InternalFailure", "Boom")) }, awscause.CodeFailed, "HTTP 500: InternalFailure", "tried again"},
		{"503 page", func() roundTrip { return answers(503, "<html><body>Service Unavailable</body></html>") }, awscause.CodeFailed, "HTTP 503: an answer that is not from STS", "tried again"},
		{"502 empty", func() roundTrip { return answers(502, "") }, awscause.CodeFailed, "HTTP 502", "tried again"},
		{"403 page of a proxy", func() roundTrip { return answers(403, "<html><p>Blocked</html>") }, awscause.CodeFailed, "HTTP 403", "proxy"},
		{"200 page of a portal", func() roundTrip { return answers(200, "<html><body>Sign in</body></html>") }, awscause.CodeFailed, "HTTP 200", "proxy"},
		{"200 empty", func() roundTrip { return answers(200, "") }, awscause.CodeFailed, "not from STS", "proxy"},
		{"200 JSON", func() roundTrip { return answers(200, `{"a":1}`) }, awscause.CodeFailed, "not from STS", "proxy"},
		{"200 truncated", func() roundTrip {
			return answers(200, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>ASIA`)
		}, awscause.CodeFailed, "cut off", "proxy"},
		{"200 bad time", func() roundTrip {
			return answers(200, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><Expiration>tomorrow</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`)
		}, awscause.CodeFailed, "cut off or not from STS", "proxy"},
		{"200 half the fields", func() roundTrip {
			return answers(200, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>ASIAHALFEXAMPLE</AccessKeyId></Credentials></AssumeRoleResult></AssumeRoleResponse>`)
		}, awscause.CodeFailed, "without all of", "proxy"},
		{"reset in the answer", func() roundTrip {
			return func(r *http.Request) (*http.Response, error) {
				resp, err := answers(200, "")(r)
				resp.Body = brokenBody{&net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}}
				return resp, err
			}
		}, awscause.CodeUnreachable, "connection reset by peer", "VPC endpoint"},
		{"no DNS", func() roundTrip {
			return refuses(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "sts.eu-west-1.amazonaws.com", IsNotFound: true}})
		}, awscause.CodeUnreachable, "sts.eu-west-1.amazonaws.com does not resolve", "com.amazonaws.eu-west-1.sts"},
		{"refused", func() roundTrip { return refuses(errDial) }, awscause.CodeUnreachable, "connection refused", "NAT"},
		{"EOF", func() roundTrip { return refuses(io.EOF) }, awscause.CodeUnreachable, "EOF", "VPC endpoint"},
		{"foreign certificate", func() roundTrip { return refuses(x509.UnknownAuthorityError{}) }, awscause.CodeUnreachable, "certificate", "authorities"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls int
				rt := test.transport()
				s := New(testConfig(realClient(roundTrip(func(r *http.Request) (*http.Response, error) {
					calls++
					return rt(r)
				}))))
				s.caller, _ = newCaller(s.cfg)
				_, cause := s.caller.assume(t.Context())
				if cause == nil || cause.Code() != test.code {
					t.Fatalf("cause %v, want %s", cause, test.code)
				}
				t.Logf("%s\n    %s", cause, cause.Remedy())
				if !strings.Contains(cause.Error(), test.problem) || !strings.HasPrefix(cause.Error(), "assuming role "+testRole+": ") {
					t.Errorf("problem %q does not say %q", cause.Error(), test.problem)
				}
				if !strings.Contains(cause.Remedy(), test.remedy) {
					t.Errorf("remedy %q does not say %q", cause.Remedy(), test.remedy)
				}
				if calls != 1 {
					t.Errorf("%d requests for one attempt", calls)
				}
				for _, text := range []string{cause.Error(), cause.Remedy()} {
					if awscause.OneLine(text) != text {
						t.Errorf("not one clean line: %q", text)
					}
				}
			})
		})
	}
}

func TestHangOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, testConfig(realClient(roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}))))
		time.Sleep(callTimeout)
		e := mustFail(t, s, awscause.CodeUnreachable)
		if !strings.Contains(e.Error(), "no answer from STS within 10s") {
			t.Errorf("%v", e)
		}
	})
}

func TestBaseCredentials(t *testing.T) {
	for _, test := range []struct {
		name     string
		provider aws.CredentialsProvider
		says     string
	}{
		{"gone", aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, fmt.Errorf("no EC2 IMDS role found: %w", errDial)
		}), "no EC2 IMDS role found"},
		{"hang", aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			<-ctx.Done()
			return aws.Credentials{}, ctx.Err()
		}), "deadline exceeded"},
		{"empty", aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, nil }), "no keys"},
		{"broken text", aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("line one\r\nX-Injected: 1\x1b[31m")
		}), "line one X-Injected: 1 [31m"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := sts.New(sts.Options{Region: "eu-west-1", Credentials: test.provider, HTTPClient: &http.Client{Transport: refuses(errors.New("must not be called"))}})
				s := start(t, testConfig(client))
				time.Sleep(callTimeout)
				e := mustFail(t, s, awscause.CodeBaseCredentials)
				if !strings.Contains(e.Error(), test.says) {
					t.Errorf("%v", e)
				}
			})
		})
	}
}

// Base credentials that STS refuses must not be taken from a cache again.
func TestStaleBaseCredentialsAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		cache := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			reads++
			return aws.Credentials{AccessKeyID: fmt.Sprintf("ASIABASE%dEXAMPLE", reads), SecretAccessKey: "base", SessionToken: "base"}, nil
		}))
		var signed []string
		client := sts.New(sts.Options{Region: "eu-west-1", Credentials: cache, HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			signed = append(signed, r.Header.Get("Authorization"))
			return answers(403, xmlError("ExpiredToken", "The security token included in the request is expired"))(r)
		})}})
		c, _ := newCaller(testConfig(client))
		c.assume(t.Context())
		c.assume(t.Context())
		if reads != 2 || !strings.Contains(signed[1], "ASIABASE2EXAMPLE") {
			t.Errorf("%d reads, signed %q", reads, signed)
		}
	})
}

// Answers of STS come from the network: whatever they hold, nothing panics and
// nothing half is served.
func FuzzAnswer(f *testing.F) {
	good := `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>` +
		`<Credentials><AccessKeyId>ASIAFUZZEXAMPLE</AccessKeyId><SecretAccessKey>fuzz</SecretAccessKey><SessionToken>fuzz</SessionToken><Expiration>2126-01-02T03:04:05Z</Expiration></Credentials>` +
		`<AssumedRoleUser><Arn>` + testSession + `</Arn><AssumedRoleId>AROAEXAMPLE:alice-nb</AssumedRoleId></AssumedRoleUser><SourceIdentity>alice-nb</SourceIdentity></AssumeRoleResult></AssumeRoleResponse>`
	f.Add(200, good)
	f.Add(200, good[:len(good)/2])
	f.Add(200, strings.Replace(good, "alice-nb</Arn>", "bob-nb</Arn>", 1))
	f.Add(403, xmlError("AccessDenied", "User: x is not authorized to perform: sts:SetSourceIdentity on resource: y with an explicit deny in a"))
	f.Add(400, xmlError("Throttling", "\x1b\r\n"))
	f.Add(502, "<html>")
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 100 || status > 599 {
			t.Skip()
		}
		c, err := newCaller(testConfig(realClient(answers(status, body))))
		if err != nil {
			t.Fatal(err)
		}
		a, cause := c.assume(t.Context())
		switch {
		case cause != nil:
			if cause.Code() == "" || awscause.OneLine(cause.Error()) != cause.Error() || awscause.OneLine(cause.Remedy()) != cause.Remedy() {
				t.Errorf("cause %q %q %q", cause.Code(), cause.Error(), cause.Remedy())
			}
		case a.lease.creds.AccessKeyID == "" || a.lease.creds.SecretAccessKey == "" || a.lease.creds.SessionToken == "" || !a.lease.valid(time.Now()):
			t.Error("half an answer accepted")
		case !strings.Contains(body, testName):
			t.Error("a foreign name accepted")
		}
	})
}
