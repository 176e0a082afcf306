package awscause

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// testCall is a call of a service that is neither of ours.
func testCall() Call {
	return Call{
		Doing:    "asking logs:DescribeLogGroups about the account",
		Service:  "CloudWatch Logs",
		Endpoint: "logs",
		Region:   "eu-west-1",
		Timeout:  7 * time.Second,
		Denied: func(message string) Cause {
			return Cause{Code: "denied_here", Problem: "denied: " + message, Remedy: "allow it"}
		},
	}
}

func apiError(code, message string) error {
	return &smithy.GenericAPIError{Code: code, Message: message}
}

// answer wraps err as the SDK does when an answer has come.
func answer(status int, err error, header ...string) error {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &smithy.OperationError{ServiceID: "Logs", OperationName: "Describe", Err: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status, Header: h}}, Err: err}}
}

func sent(err error) error {
	return &smithy.OperationError{ServiceID: "Logs", OperationName: "Describe", Err: &smithyhttp.RequestSendError{
		Err: &url.Error{Op: "Post", URL: "https://logs.eu-west-1.amazonaws.com/", Err: err}}}
}

func date(offset time.Duration) string {
	return time.Now().Add(offset).UTC().Format(http.TimeFormat)
}

func TestExplain(t *testing.T) {
	const endpoint = "com.amazonaws.eu-west-1.logs"
	mismatch := apiError("SignatureDoesNotMatch", "The request signature we calculated does not match")
	for _, test := range []struct {
		name    string
		err     func() error
		code    string
		passing bool
		problem string
		remedy  string
	}{
		{"no base credentials", func() error {
			return fmt.Errorf("get identity: %w", fmt.Errorf("get credentials: %w", errors.New("no EC2 IMDS role found")))
		}, CodeBaseCredentials, true, "cannot be read: no EC2 IMDS role found", "metadata service"},
		{"no base credentials, an API's answer", func() error {
			return fmt.Errorf("get identity: %w", apiError("AccessDenied", "wrong token"))
		}, CodeBaseCredentials, true, "wrong token", "container credentials"},
		{"no base credentials in time", func() error {
			return errors.Join(fmt.Errorf("get identity: %w", errors.New("metadata hangs")), context.DeadlineExceeded)
		}, CodeBaseCredentials, true, "metadata hangs", "metadata service"},
		{"no DNS", func() error { return sent(&net.DNSError{Err: "no such host", Name: "logs.example"}) },
			CodeUnreachable, true, "the name logs.example does not resolve: no such host", endpoint},
		{"refused", func() error { return sent(&net.OpError{Op: "dial", Err: errors.New("connection refused")}) },
			CodeUnreachable, true, "no connection to CloudWatch Logs: connection refused", endpoint},
		{"cut off before an answer", func() error { return sent(io.EOF) }, CodeUnreachable, true, "no connection to CloudWatch Logs: EOF", endpoint},
		{"reset within the answer", func() error {
			return answer(200, &smithy.DeserializationError{Err: &net.OpError{Op: "read", Err: errors.New("connection reset")}})
		}, CodeUnreachable, true, "connection reset", endpoint},
		{"time-out", func() error { return sent(context.DeadlineExceeded) }, CodeUnreachable, true, "no answer from CloudWatch Logs within 7s", "NAT"},
		{"unknown authority", func() error {
			return sent(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}})
		}, CodeUnreachable, true, "TLS certificate of CloudWatch Logs", "authorities"},
		{"expired certificate", func() error {
			return sent(&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}})
		}, CodeUnreachable, true, "TLS certificate of CloudWatch Logs", "the clock"},
		{"certificate of another", func() error {
			return sent(&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "logs.example"}})
		}, CodeUnreachable, true, "TLS certificate of CloudWatch Logs", "endpoint"},
		{"denied", func() error { return answer(403, apiError("AccessDeniedException", "no")) }, "denied_here", false, "denied: no", "allow it"},
		{"denied by EC2", func() error { return answer(403, apiError("UnauthorizedOperation", "no")) }, "denied_here", false, "denied: no", "allow it"},
		{"throttled", func() error { return answer(400, apiError("ThrottlingException", "Rate exceeded")) },
			CodeThrottled, true, "Rate exceeded", "calls CloudWatch Logs too often"},
		{"throttled by status", func() error { return answer(429, apiError("New", "slow")) }, CodeThrottled, true, "New: slow", "quota"},
		{"clock by code", func() error { return answer(400, apiError("RequestExpired", "old")) }, CodeClockSkew, true, "differs from AWS's (RequestExpired: old)", "chronyc"},
		{"clock by words", func() error { return apiError("InvalidSignatureException", "Signature not yet current: 1") },
			CodeClockSkew, true, "differs from AWS's", "chronyc"},
		{"clock by date, behind", func() error { return answer(403, mismatch, "Date", date(10*time.Minute)) },
			CodeClockSkew, true, "10m0s behind AWS's", "chronyc"},
		{"clock by date, ahead", func() error { return answer(403, mismatch, "Date", date(-26*time.Hour)) },
			CodeClockSkew, true, "26h0m0s ahead of AWS's", "chronyc"},
		{"date within bounds", func() error { return answer(403, mismatch, "Date", date(3*time.Minute)) }, CodeFailed, true, "refuses the signature", "proxy"},
		{"date of a cache", func() error { return answer(403, mismatch, "Date", date(10*time.Minute), "Age", "600") }, CodeFailed, true, "refuses the signature", "proxy"},
		{"no date", func() error { return answer(403, mismatch, "Date", "yesterday") }, CodeFailed, true, "refuses the signature", "proxy"},
		{"date of a refusal that is no clock's", func() error { return answer(403, apiError("AccessDenied", "no"), "Date", date(time.Hour)) }, "denied_here", false, "no", "allow it"},
		{"base refused", func() error { return answer(403, apiError("InvalidClientTokenId", "invalid")) }, CodeBaseCredentials, true, "does not accept", "rotate"},
		{"client's fault", func() error { return answer(400, apiError("ValidationError", "1 error")) },
			CodeFailed, false, "answered HTTP 400: ValidationError: 1 error", "change what the message names"},
		{"server's fault", func() error { return answer(500, apiError("InternalFailure", "")) }, CodeFailed, true, "HTTP 500: InternalFailure", "Health Dashboard"},
		{"page of a load balancer", func() error { return answer(503, apiError("UnknownError", "")) }, CodeFailed, true, "HTTP 503: an answer that is not from CloudWatch Logs", "Health"},
		{"page of a proxy", func() error { return answer(407, apiError("UnknownError", "")) }, CodeFailed, false, "HTTP 407: an answer that is not from", "proxy"},
		{"page of a portal", func() error {
			return answer(200, &smithy.DeserializationError{Err: errors.New("secret of the answer")})
		},
			CodeFailed, true, "HTTP 200: an answer that is cut off or not from CloudWatch Logs", "proxy"},
		{"something new", func() error { return errors.New("odd") }, CodeFailed, true, "not from CloudWatch Logs: odd", "endpoint"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := test.err()
				got := testCall().Explain(err)
				if got.Code() != test.code || got.Passing() != test.passing || !errors.Is(got, err) {
					t.Errorf("code %s, passing %v", got.Code(), got.Passing())
				}
				if !strings.HasPrefix(got.Error(), testCall().Doing+": ") || !strings.Contains(got.Error(), test.problem) || strings.Contains(got.Error(), "secret") {
					t.Errorf("problem %q", got)
				}
				if !strings.Contains(got.Remedy(), test.remedy) {
					t.Errorf("remedy %q", got.Remedy())
				}
			})
		})
	}
}

func TestOwn(t *testing.T) {
	c := testCall()
	var asked []string
	c.Own = func(code, message string) Cause {
		asked = append(asked, code+" "+message)
		if code != "ResourceNotFound" {
			return Cause{}
		}
		return Cause{Code: "not_found", Problem: "it is gone"}
	}
	for code, want := range map[string]string{
		"ResourceNotFound":      "not_found",
		"SignatureDoesNotMatch": CodeFailed,
		"ExpiredToken":          CodeBaseCredentials,
		"AccessDenied":          "denied_here",
		"Throttling":            CodeThrottled,
		"RequestExpired":        CodeClockSkew,
	} {
		if got := c.Explain(answer(400, apiError(code, "m"))); got.Code() != want {
			t.Errorf("%s: %v", code, got)
		}
	}
	if len(asked) != 3 {
		t.Errorf("asked about %q", asked)
	}
}

func TestRegionUnknown(t *testing.T) {
	c := testCall()
	c.Region = ""
	if got := c.Explain(sent(io.EOF)).Remedy(); !strings.Contains(got, "com.amazonaws.REGION.logs") {
		t.Errorf("remedy %q", got)
	}
}

func TestSkew(t *testing.T) {
	for offset, wrong := range map[time.Duration]bool{0: false, 4 * time.Minute: false, -4 * time.Minute: false, 241 * time.Second: true, -5 * time.Minute: true} {
		if cause, got := Skew(offset); got != wrong || cause.Code != CodeClockSkew || cause.Remedy == "" {
			t.Errorf("%s: %+v, %v", offset, cause, got)
		}
	}
}

// Text from the wire reaches logs, headers and terminals.
func FuzzExplain(f *testing.F) {
	f.Add(403, "AccessDenied", "a\r\nX-Injected: 1\x1b[31m\u202e"+strings.Repeat("x", 5000), "")
	f.Add(200, "", "get identity: \x00", "Thu, 01 Jan 1970 00:00:00 GMT")
	f.Add(400, "RequestExpired", "\xff\xfe", "Fri, 31 Dec 9999 23:59:59 GMT")
	f.Add(-1, "UnknownError", "", "x")
	f.Fuzz(func(t *testing.T, status int, code, message, date string) {
		got := testCall().Explain(answer(status, apiError(code, message), "Date", date))
		for _, text := range []string{got.Error(), got.Remedy()} {
			if text == "" || len(text) > maxLine+4 || OneLine(text) != text ||
				strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("not one clean line: %q", text)
			}
		}
		if got.Code() == "" || !strings.HasPrefix(got.Error(), testCall().Doing) {
			t.Errorf("%q: %q", got.Code(), got)
		}
	})
}
