package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// The causes that an Error tells apart.
const (
	CodeDeniedDescribe  = "denied_describe"  // a policy refuses the Describe call
	CodeNotFound        = "not_found"        // SageMaker does not know the resource
	CodeOwnerUnknown    = "owner_unknown"    // a private space without an owner, or a sharing type that is new
	CodeRoleUnknown     = "role_unknown"     // the answer names no usable execution role
	CodeThrottled       = "throttled"        // too many calls from this account and region
	CodeUnreachable     = "unreachable"      // no connection, or no answer in time
	CodeClockSkew       = "clock_skew"       // the machine's clock differs from AWS's
	CodeBaseCredentials = "base_credentials" // the notebook's own credentials are gone, expired or refused
	CodeNoMetadata      = "no_metadata"      // the metadata file did not appear, or stayed half-written
	CodeFailed          = "failed"           // anything else
)

// Error says why something could not be learnt. Its texts are one line each
// and hold no secret.
type Error struct {
	code, problem, remedy string
	passing               bool // may go away without anybody's doing
	err                   error
}

// Code is one of the Code constants, for programs.
func (e *Error) Code() string { return e.code }

// Remedy is what a person can do about it, "" when waiting is all.
func (e *Error) Remedy() string { return e.remedy }

// Error names the question and what went wrong with it.
func (e *Error) Error() string { return e.problem }

// Unwrap returns the error that the call ended with, if there was one.
func (e *Error) Unwrap() error { return e.err }

// error makes an Error that only somebody's doing can change.
func (q question) error(code, remedy string, err error, format string, args ...any) *Error {
	return &Error{
		code:    code,
		problem: oneLine(fmt.Sprintf("asking %s about %s: ", q.action, q.resource) + fmt.Sprintf(format, args...)),
		remedy:  oneLine(remedy),
		err:     err,
	}
}

// transient makes an Error that may pass.
func (q question) transient(code, remedy string, err error, format string, args ...any) *Error {
	e := q.error(code, remedy, err, format, args...)
	e.passing = true
	return e
}

// explain finds the cause behind an error of the SDK.
func (q question) explain(err error) *Error {
	// The SDK has no type for credentials that could not be fetched.
	if text := err.Error(); strings.Contains(text, "get identity: ") {
		return q.transient(CodeBaseCredentials,
			"check that the metadata service (notebook instance) or the container credentials endpoint (Studio) of this machine answers",
			err, "the base credentials cannot be read: %s", innermost(err))
	}
	var (
		send    *smithyhttp.RequestSendError
		network net.Error
		api     smithy.APIError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return q.unreachable(err, "no answer within %s", q.timeout)
	case errors.As(err, &send), errors.As(err, &network):
		return q.unreachable(err, "no connection: %s", innermost(err))
	case errors.As(err, &api):
		return q.explainAPI(err, api)
	}
	return q.explainStatus(err, "an answer that is not SageMaker's")
}

func (q question) unreachable(err error, format string, args ...any) *Error {
	return q.transient(CodeUnreachable, fmt.Sprintf(
		"give the notebook a way to the SageMaker API: an interface VPC endpoint for com.amazonaws.%s.sagemaker.api whose security group lets port 443 in, or a NAT gateway; a name that does not resolve needs private DNS on the endpoint", q.region),
		err, format, args...)
}

func (q question) explainAPI(err error, api smithy.APIError) *Error {
	code, message := api.ErrorCode(), api.ErrorMessage()
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	switch {
	case throttled || httpStatus(err) == http.StatusTooManyRequests:
		return q.transient(CodeThrottled, "", err, "SageMaker throttles the calls of this account (%s: %s)", code, message)
	case code == "ValidationException" && strings.Contains(message, "RecordNotFound"):
		return q.notFound(err, code, message)
	}
	switch code {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		return q.denied(err, message)
	case "ResourceNotFound", "ResourceNotFoundException":
		return q.notFound(err, code, message)
	case "RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture", "InvalidSignatureException", "SignatureDoesNotMatch":
		if strings.HasPrefix(code, "Request") || strings.Contains(message, "Signature expired") || strings.Contains(message, "not yet current") {
			return q.transient(CodeClockSkew, "set the clock of this machine (chronyc tracking shows whether it follows a time source)",
				err, "the clock of this machine differs from AWS's (%s: %s)", code, message)
		}
		return q.transient(CodeBaseCredentials, "look for a proxy that changes requests", err, "SageMaker refuses the signature (%s: %s)", code, message)
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException":
		return q.transient(CodeBaseCredentials,
			"wait for the platform to rotate the credentials of the notebook; when it lasts, check that its execution role still exists, and restart the notebook",
			err, "SageMaker does not accept the base credentials (%s: %s)", code, message)
	}
	return q.explainStatus(err, code+": "+message)
}

// denied names the policy to change, as far as AWS tells which it is.
func (q question) denied(err error, message string) *Error {
	remedy := fmt.Sprintf("allow %s on %s in a policy of the execution role", q.action, q.resource)
	switch {
	case strings.Contains(message, "VPC endpoint policy"):
		remedy = fmt.Sprintf("allow %s on %s in the policy of the VPC endpoint for com.amazonaws.%s.sagemaker.api", q.action, q.resource, q.region)
	case strings.Contains(message, "explicit deny"):
		remedy = fmt.Sprintf("find the statement that denies %s on %s (the message names the type of policy) and exempt the execution role", q.action, q.resource)
	case strings.Contains(message, "service control policy"), strings.Contains(message, "permissions boundary"):
		remedy += "; the message names a further policy that must allow it"
	}
	return q.error(CodeDeniedDescribe, remedy, err, "access denied (%s)", message)
}

func (q question) notFound(err error, code, message string) *Error {
	return q.error(CodeNotFound, "check that the SageMaker endpoint in the settings belongs to region "+q.region+" and that the resource has not been deleted",
		err, "SageMaker does not know it (%s: %s)", code, message)
}

// explainStatus is for answers of which only the HTTP status says anything.
func (q question) explainStatus(err error, what string) *Error {
	status := httpStatus(err)
	switch {
	case status >= 500:
		return q.transient(CodeFailed, "", err, "SageMaker answered HTTP %d: %s", status, what)
	case status >= 400:
		return q.error(CodeFailed, "check the SageMaker endpoint in the settings and any proxy on the way to it", err, "SageMaker answered HTTP %d: %s", status, what)
	}
	return q.transient(CodeFailed, "check the SageMaker endpoint in the settings and any proxy on the way to it", err, "%s: %s", what, innermost(err))
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

// oneLine makes text from the wire safe for a log line and a terminal: printable
// ASCII, one line, at most about 1,000 bytes.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > 1000 {
		s = s[:1000] + "..."
	}
	return s
}
