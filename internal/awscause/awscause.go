// Package awscause says why a call to AWS failed: a code for programs, a
// sentence for people, a remedy, and whether the cause may pass by itself.
//
// Whatever was on the wire, its texts are one line of printable ASCII each, of
// bounded length. They quote what AWS and the SDK say, which is no secret: an
// answer that cannot be read is never quoted.
//
// It makes no call and decides nothing about the next one. It does not know
// which permission a call needs: the caller says what a denial means
// ([Call].Denied).
//
// What it relies on: the error codes that all services share; the Date of a
// refusal, which tells AWS's clock; refusal of signatures that are more than
// five minutes old; interface VPC endpoints named com.amazonaws.REGION.NAME.
// The SDK has no type for credentials that cannot be fetched, only the words
// "get identity".
package awscause

import "strings"

// The codes that mean the same in every call.
const (
	CodeThrottled       = "throttled"        // too many calls from this account and region
	CodeUnreachable     = "unreachable"      // no connection, or no answer in time
	CodeClockSkew       = "clock_skew"       // the machine's clock differs from AWS's
	CodeBaseCredentials = "base_credentials" // the notebook's own credentials are gone, expired or refused
	CodeFailed          = "failed"           // anything else: malformed answers, 5xx, invalid parameters
)

// Cause is what an Error is made of.
type Cause struct {
	Code    string // for programs; lower case and underscores
	Problem string // what went wrong
	Remedy  string // what a person can do about it; "" when waiting is all
	Passing bool   // may pass without anybody's doing
}

// Error is a Cause and the error behind it. Its texts may be shown to anyone
// who may ask.
type Error struct {
	cause Cause
	err   error
}

// New makes an Error of cause; err may be nil.
func New(cause Cause, err error) *Error {
	cause.Problem, cause.Remedy = OneLine(cause.Problem), OneLine(cause.Remedy)
	return &Error{cause: cause, err: err}
}

// Code is the cause for programs.
func (e *Error) Code() string { return e.cause.Code }

// Remedy is what a person can do about it, "" when waiting is all.
func (e *Error) Remedy() string { return e.cause.Remedy }

// Passing reports whether the cause may pass without anybody's doing.
func (e *Error) Passing() bool { return e.cause.Passing }

// Error says what was being done and what went wrong with it.
func (e *Error) Error() string { return e.cause.Problem }

// Unwrap returns the error that the call ended with, if there was one.
func (e *Error) Unwrap() error { return e.err }

// maxLine is how long a text may be, in bytes; the rest becomes an ellipsis.
const maxLine = 2048

// OneLine makes text from the wire safe for a log line, a header and a
// terminal: printable ASCII, one line, bounded.
func OneLine(s string) string {
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
		if b.Len() >= maxLine {
			b.WriteString("...")
			break
		}
	}
	return b.String()
}
