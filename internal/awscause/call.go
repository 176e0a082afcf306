package awscause

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Call is what has to be known about a call, besides its error, to explain it.
// All but Region and Own are required.
type Call struct {
	Doing    string        // begins every problem: "assuming role arn:…"
	Service  string        // as people know it: "STS"
	Endpoint string        // as PrivateLink knows it: "sts", "sagemaker.api"
	Region   string        // "" when the client did not tell
	Timeout  time.Duration // of the call

	// Denied says what it means that a policy refuses the call. The message is
	// AWS's and may hold anything.
	Denied func(message string) Cause

	// Own says what an error code means in this call alone; the zero Cause
	// when it means what it means everywhere. It is not asked about denials,
	// throttling and clocks.
	Own func(code, message string) Cause
}

// Error makes an Error of cause; err may be nil.
func (c Call) Error(cause Cause, err error) *Error {
	cause.Problem = c.Doing + ": " + cause.Problem
	return New(cause, err)
}

// Explain finds the cause behind an error of the SDK, which must have come back
// just now.
func (c Call) Explain(err error) *Error { return c.Error(c.cause(err), err) }

func (c Call) cause(err error) Cause {
	if _, said, ok := strings.Cut(err.Error(), "get identity: "); ok { // no type tells it
		return Cause{
			Code:    CodeBaseCredentials,
			Problem: "the base credentials cannot be read: " + strings.TrimPrefix(said, "get credentials: "),
			Remedy:  "check that the metadata service (notebook instance) or the container credentials endpoint (Studio) of this machine answers; the call is signed with its credentials",
			Passing: true,
		}
	}
	// A connection that dies in the middle of an answer is a network error
	// first and a garbled answer second.
	if cause := c.network(err); cause.Code != "" {
		return cause
	}
	checkEndpoint := "check the " + c.Service + " endpoint in the settings and any proxy on the way to it"
	var garbled *smithy.DeserializationError
	if errors.As(err, &garbled) {
		return c.answered(err, "an answer that is cut off or not from "+c.Service, checkEndpoint)
	}
	var api smithy.APIError
	switch {
	case !errors.As(err, &api):
		return c.answered(err, fmt.Sprintf("an answer that is not from %s: %s", c.Service, innermost(err)), checkEndpoint)
	case api.ErrorCode() == "UnknownError": // the SDK's word for none, as on the page of a load balancer
		return c.answered(err, "an answer that is not from "+c.Service, checkEndpoint)
	}
	return c.refused(err, api.ErrorCode(), api.ErrorMessage())
}

// refused is for answers that have an error code.
func (c Call) refused(err error, code, message string) Cause {
	said := code + ": " + message
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	switch {
	case code == "AccessDenied", code == "AccessDeniedException", code == "UnauthorizedOperation":
		return c.Denied(message)
	case throttled || httpStatus(err) == http.StatusTooManyRequests:
		return Cause{
			Code:    CodeThrottled,
			Problem: fmt.Sprintf("%s throttles the calls of this account (%s)", c.Service, said),
			Remedy:  fmt.Sprintf("nothing to do here, it is tried again with growing pauses; when it lasts, look for a program that calls %s too often: all callers of the account share one quota per region", c.Service),
			Passing: true,
		}
	}
	if cause := clock(err, code, message); cause.Code != "" {
		return cause
	}
	if c.Own != nil {
		if cause := c.Own(code, message); cause.Code != "" {
			return cause
		}
	}
	switch code {
	case "SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure":
		return Cause{
			Code:    CodeFailed,
			Problem: fmt.Sprintf("%s refuses the signature (%s)", c.Service, said),
			Remedy:  "look for a proxy that changes requests, or base credentials whose secret does not belong to their key",
			Passing: true,
		}
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException":
		return Cause{
			Code:    CodeBaseCredentials,
			Problem: fmt.Sprintf("%s does not accept the base credentials (%s)", c.Service, said),
			Remedy:  "wait for the platform to rotate the credentials of the notebook; when it lasts, check that its execution role still exists and was not deleted and created again, and restart the notebook",
			Passing: true,
		}
	}
	return c.answered(err, said, "change what the message names, in the role or in the settings of nbidentityd (the "+c.Service+" endpoint among them)")
}

// answered is for answers of which only the HTTP status says anything more.
func (c Call) answered(err error, what, remedy string) Cause {
	cause := Cause{Code: CodeFailed, Problem: what, Remedy: remedy, Passing: true}
	status := httpStatus(err)
	if status != 0 {
		cause.Problem = fmt.Sprintf("%s answered HTTP %d: %s", c.Service, status, what)
	}
	switch {
	case status >= 500:
		cause.Remedy = "nothing to do here, it is tried again; when it lasts, see the AWS Health Dashboard"
	case status >= 400:
		cause.Passing = false
	}
	return cause
}

// network returns the zero Cause for an error that is not about the way to AWS.
func (c Call) network(err error) Cause {
	region := c.Region
	if region == "" {
		region = "REGION"
	}
	cause := Cause{
		Code:    CodeUnreachable,
		Remedy:  fmt.Sprintf("give the notebook a way to %s: an interface VPC endpoint for com.amazonaws.%s.%s whose security group lets port 443 in, or a NAT gateway; a name that does not resolve needs private DNS on the endpoint", c.Service, region, c.Endpoint),
		Passing: true,
	}
	var (
		dns      *net.DNSError
		invalid  x509.CertificateInvalidError
		foreign  x509.UnknownAuthorityError
		hostname x509.HostnameError
		network  net.Error
		send     *smithyhttp.RequestSendError
	)
	switch {
	case errors.As(err, &dns):
		cause.Problem = fmt.Sprintf("the name %s does not resolve: %s", dns.Name, dns.Err)
	case errors.As(err, &invalid), errors.As(err, &foreign), errors.As(err, &hostname):
		cause.Problem = fmt.Sprintf("the TLS certificate of %s is not accepted: %s", c.Service, innermost(err))
		cause.Remedy = "check the endpoint, the clock and the certificate authorities of this machine; a proxy that breaks TLS open needs its authority among them"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		cause.Problem = fmt.Sprintf("no answer from %s within %s", c.Service, c.Timeout)
	case errors.As(err, &network), errors.As(err, &send), errors.Is(err, context.Canceled):
		cause.Problem = fmt.Sprintf("no connection to %s: %s", c.Service, innermost(err))
	default:
		return Cause{}
	}
	return cause
}

// httpStatus is the status of the answer behind err, 0 when there was none.
func httpStatus(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		return response.HTTPStatusCode()
	}
	return 0
}

// innermost is the last error of a chain: the SDK wraps a refused connection in
// six layers that repeat each other.
func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
