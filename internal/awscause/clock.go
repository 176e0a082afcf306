package awscause

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// maxSkew is how far the machine's clock may be from AWS's before it is called
// wrong. AWS refuses signatures at five minutes.
const maxSkew = 4 * time.Minute

// Skew is the cause of whatever fails under a clock that is offset ahead of
// AWS's, negative when it is behind; wrong reports whether the offset is large
// enough to be one.
func Skew(offset time.Duration) (cause Cause, wrong bool) {
	side := "ahead of"
	if offset < 0 {
		side = "behind"
	}
	return Cause{
		Code:    CodeClockSkew,
		Problem: fmt.Sprintf("the clock of this machine is %s %s AWS's", offset.Abs().Round(time.Second), side),
		Remedy:  "set the clock of this machine (chronyc tracking shows whether it follows a time source)",
		Passing: true,
	}, offset.Abs() > maxSkew
}

// clock returns the zero Cause unless a signature is refused and the clock is to
// blame.
func clock(err error, code, message string) Cause {
	said := strings.Contains(message, "Signature expired") || strings.Contains(message, "not yet current")
	switch code {
	case "RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture":
		said = true
	case "SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure":
	default:
		return Cause{}
	}
	cause, wrong := Skew(clockOffset(err))
	switch {
	case wrong:
		return cause
	case said:
		cause.Problem = fmt.Sprintf("the clock of this machine differs from AWS's (%s: %s)", code, message)
		return cause
	}
	return Cause{}
}

// clockOffset compares the local clock with the Date of an answer that was not
// cached: positive when the local clock is ahead, 0 when nothing is known.
func clockOffset(err error) time.Duration {
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil || response.Response.Header.Get("Age") != "" {
		return 0
	}
	date, err := http.ParseTime(response.Response.Header.Get("Date"))
	if err != nil {
		return 0
	}
	return time.Now().Round(0).Sub(date)
}
