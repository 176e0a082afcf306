package rolecreds

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

// The causes that an Error tells apart.
const (
	CodeNotReady                = "not_ready"                  // the first attempt has not ended yet, or the daemon is stopping
	CodeDeniedAssumeRole        = "denied_assume_role"         // a policy refuses sts:AssumeRole or sts:TagSession, or the role does not exist
	CodeDeniedSetSourceIdentity = "denied_set_source_identity" // a policy refuses sts:SetSourceIdentity
	CodeSourceIdentityConflict  = "source_identity_conflict"   // the base session already carries another name
	CodeThrottled               = "throttled"                  // too many calls to STS from this account and region
	CodeUnreachable             = "unreachable"                // no connection, or no answer in time
	CodeClockSkew               = "clock_skew"                 // the machine's clock differs from AWS's
	CodeBaseCredentials         = "base_credentials"           // the credentials of the notebook itself are gone, expired or refused
	CodeExpired                 = "expired"                    // the last good credentials have ended; renewal has not been tried or has not ended yet
	CodeMisattributed           = "misattributed"              // STS answered for another name than the one asked for
	CodeFailed                  = "failed"                     // anything else: malformed answers, 5xx, a disabled region, invalid parameters
)

const (
	actionAssumeRole        = "sts:AssumeRole"
	actionSetSourceIdentity = "sts:SetSourceIdentity"
	actionTagSession        = "sts:TagSession"
)

// Error says why there are no credentials, or why the ones that are held
// could not be renewed. Its texts are one line each, hold no secret, and may be
// shown to anyone who may ask for credentials.
type Error struct {
	code, problem, remedy string
	err                   error
}

// Code is one of the Code constants, for programs.
func (e *Error) Code() string { return e.code }

// Remedy is what a person can do about it, "" when waiting is all.
func (e *Error) Remedy() string { return e.remedy }

// Error names the role and what went wrong with it.
func (e *Error) Error() string { return e.problem }

// Unwrap returns the error that the call ended with, if there was one.
func (e *Error) Unwrap() error { return e.err }

// denied reports whether only a person, by a change in IAM or in the
// settings, can make the next attempt succeed.
func (e *Error) denied() bool {
	switch e.code {
	case CodeDeniedAssumeRole, CodeDeniedSetSourceIdentity, CodeSourceIdentityConflict, CodeMisattributed:
		return true
	}
	return false
}

// baseError marks an error of the provider of the base credentials.
type baseError struct{ err error }

func (e *baseError) Error() string { return e.err.Error() }
func (e *baseError) Unwrap() error { return e.err }

// call is what explain has to know about a call besides its error.
type call struct {
	doing          string // "" = assuming the role
	role           role
	sourceIdentity string
	region         string    // "" when the client did not tell
	now            time.Time // when the error came back
}

func (c call) error(err error, code, remedy, format string, args ...any) *Error {
	doing := c.doing
	if doing == "" {
		doing = "assuming role " + c.role.arn
	}
	return &Error{
		code:    code,
		problem: doing + ": " + oneLine(fmt.Sprintf(format, args...)),
		remedy:  oneLine(remedy),
		err:     err,
	}
}

// explain finds the cause behind an error of the SDK.
func (c call) explain(err error) *Error {
	var base *baseError
	if errors.As(err, &base) {
		return c.error(err, CodeBaseCredentials,
			"check that the metadata service (notebook instance) or the container credentials endpoint (Studio) of this machine answers; its credentials are what the role is assumed with",
			"the base credentials cannot be read: %s", base.err)
	}
	// A connection that dies in the middle of an answer is a network error
	// first and a garbled answer second.
	if cause := c.explainNetwork(err); cause != nil {
		return cause
	}
	var garbled *smithy.DeserializationError
	if errors.As(err, &garbled) {
		return c.explainStatus(err, "an answer that is cut off or not from STS")
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return c.explainAPI(err, api)
	}
	return c.explainStatus(err, "an answer that is not from STS")
}

func (c call) explainAPI(err error, api smithy.APIError) *Error {
	code, message := api.ErrorCode(), api.ErrorMessage()
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	switch {
	case code == "AccessDenied" || code == "AccessDeniedException":
		return c.explainDenial(err, message)
	case throttled || httpStatus(err) == http.StatusTooManyRequests:
		return c.error(err, CodeThrottled,
			"nothing to do here, it is tried again with growing pauses; when it lasts, look for a program that calls STS too often: all callers of the account share one quota per region",
			"STS throttles the calls of this account (%s: %s)", code, message)
	}
	switch code {
	case "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure", "RequestInTheFuture":
		if cause := c.explainSignature(err, code, message); cause != nil {
			return cause
		}
		return c.error(err, CodeFailed,
			"look for a proxy that changes requests, or base credentials whose secret does not belong to their key",
			"STS refuses the signature (%s: %s)", code, message)
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException":
		return c.error(err, CodeBaseCredentials,
			"wait for the platform to rotate the credentials of the notebook; when it lasts, check that its execution role still exists and was not deleted and created again, and restart the notebook",
			"STS does not accept the base credentials (%s: %s)", code, message)
	case "RegionDisabledException":
		return c.error(err, CodeFailed,
			fmt.Sprintf("activate STS for region %s in the IAM console (Account settings), or use the endpoint of an active region", c.regionName()),
			"%s: %s", code, message)
	}
	if status := httpStatus(err); status >= 400 && status < 500 && code != unknownCode {
		return c.error(err, CodeFailed, "change what the message names, in the role or in the settings of nbidentityd", "STS answered HTTP %d: %s: %s", status, code, message)
	}
	if code == unknownCode {
		return c.explainStatus(err, "an answer that is not from STS")
	}
	return c.explainStatus(err, code+": "+message)
}

// unknownCode is what the SDK calls an error without a code, such as the page
// of a load balancer.
const unknownCode = "UnknownError"

func (c call) explainDenial(err error, message string) *Error {
	d := parseDenial(message)
	action := d.action
	if action == "" {
		action = actionAssumeRole
		for _, a := range []string{actionSetSourceIdentity, actionTagSession} {
			if strings.Contains(message, a) {
				action = a
			}
		}
	}
	code := CodeDeniedAssumeRole
	remedy := d.remedy(c.role, action, c.sourceIdentity)
	switch action {
	case actionSetSourceIdentity:
		code = CodeDeniedSetSourceIdentity
		if d.policy == "" && !d.explicit {
			remedy = "sts:SetSourceIdentity is needed on both sides; " + remedy
		}
	case actionTagSession:
		remedy += "; or set no session tags"
	case actionAssumeRole:
		if !d.explicit && d.policy != kindIdentity {
			remedy += "; conditions count too: a trust policy may refuse a base session that already carries a source identity, or a name that it does not list"
		}
	}
	return c.error(err, code, remedy, "access denied for %s: %s (%s)", action, d.reason(), message)
}

// explainSignature returns nil when the clock is not to blame.
func (c call) explainSignature(err error, code, message string) *Error {
	offset, known := c.clockOffset(err)
	said := code == "RequestExpired" || code == "RequestTimeTooSkewed" || code == "RequestInTheFuture" ||
		strings.Contains(message, "Signature expired") || strings.Contains(message, "not yet current")
	if known && offset.Abs() > maxSkew {
		return c.clockSkew(err, offset)
	}
	if said {
		return c.error(err, CodeClockSkew, clockRemedy, "the clock of this machine differs from AWS's (%s: %s)", code, message)
	}
	return nil
}

const clockRemedy = "set the clock of this machine (chronyc tracking shows whether it follows a time source)"

func (c call) clockSkew(err error, offset time.Duration) *Error {
	return c.error(err, CodeClockSkew, clockRemedy, "the clock of this machine is %s AWS's", describeOffset(offset))
}

// describeOffset says "1h2m3s ahead of" or "… behind".
func describeOffset(offset time.Duration) string {
	if offset < 0 {
		return fmt.Sprintf("%s behind", (-offset).Round(time.Second))
	}
	return fmt.Sprintf("%s ahead of", offset.Round(time.Second))
}

// clockOffset compares the local clock with the Date of the answer: positive
// when the local clock is ahead.
func (c call) clockOffset(err error) (offset time.Duration, known bool) {
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil || response.Response.Header.Get("Age") != "" {
		return 0, false
	}
	date, parseErr := http.ParseTime(response.Response.Header.Get("Date"))
	if parseErr != nil {
		return 0, false
	}
	return c.now.Round(0).Sub(date), true
}

// explainNetwork returns nil for an error that is not about the way to STS.
func (c call) explainNetwork(err error) *Error {
	network := fmt.Sprintf("give the notebook a way to STS: an interface VPC endpoint for com.amazonaws.%s.sts whose security group lets port 443 in, or a NAT gateway; a name that does not resolve needs private DNS on the endpoint", c.regionName())
	var (
		dns      *net.DNSError
		cert     *x509.CertificateInvalidError
		untrust  x509.UnknownAuthorityError
		hostname x509.HostnameError
		send     *smithyhttp.RequestSendError
		timeout  net.Error
		op       *net.OpError
	)
	switch {
	case errors.As(err, &dns):
		return c.error(err, CodeUnreachable, network, "the name %s does not resolve: %s", dns.Name, dns.Err)
	case errors.As(err, &cert), errors.As(err, &untrust), errors.As(err, &hostname):
		return c.error(err, CodeUnreachable,
			"check the endpoint, the clock and the certificate authorities of this machine; a proxy that breaks TLS open needs its authority among them",
			"the TLS certificate of STS is not accepted: %s", lastError(err))
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return c.error(err, CodeUnreachable, network, "no answer from STS within %s", callTimeout)
	case errors.As(err, &op), errors.As(err, &send), errors.Is(err, context.Canceled):
		return c.error(err, CodeUnreachable, network, "no connection to STS: %s", lastError(err))
	}
	return nil
}

// explainStatus is for answers of which only the HTTP status says anything.
func (c call) explainStatus(err error, what string) *Error {
	status := httpStatus(err)
	switch {
	case status >= 500:
		return c.error(err, CodeFailed, "nothing to do here, it is tried again; when it lasts, see the AWS Health Dashboard", "STS answered HTTP %d: %s", status, what)
	case status != 0:
		return c.error(err, CodeFailed, "check the STS endpoint and any proxy on the way to it", "STS answered HTTP %d: %s", status, what)
	}
	return c.error(err, CodeFailed, "check the STS endpoint and any proxy on the way to it", "%s", what)
}

func (c call) regionName() string {
	if c.region == "" {
		return "REGION"
	}
	return c.region
}

// httpStatus is the status of the answer behind err, 0 when there was none.
func httpStatus(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		return response.HTTPStatusCode()
	}
	return 0
}

// lastError is the innermost error of a chain: the SDK wraps a refused
// connection in six layers that repeat each other.
func lastError(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// oneLine makes text from the wire safe for a log line, a header and a
// terminal: printable ASCII, one line, bounded.
func oneLine(s string) string {
	const limit = 2048
	var b strings.Builder
	space := false
	for _, r := range s {
		if r <= ' ' || r == 0x7f {
			space = true
			continue
		}
		if r > '~' {
			r = '?'
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		b.WriteRune(r)
		if b.Len() >= limit {
			b.WriteString("...")
			break
		}
	}
	return b.String()
}
