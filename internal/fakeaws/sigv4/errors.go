package sigv4

import "fmt"

// Code is the cause of a refusal. Services spell the same cause differently on
// the wire (a JSON service says InvalidSignatureException where STS says
// SignatureDoesNotMatch); the names here are those of STS and IAM.
type Code string

const (
	// MissingAuthenticationToken: the request is not signed at all.
	MissingAuthenticationToken Code = "MissingAuthenticationToken"
	// IncompleteSignature: the signature's parts are absent, repeated,
	// contradictory or malformed.
	IncompleteSignature Code = "IncompleteSignature"
	// InvalidClientTokenId: the key is unknown, or the token does not belong
	// to it.
	InvalidClientTokenId Code = "InvalidClientTokenId"
	// ExpiredToken: the session is over. Verify never finds this itself; the
	// caller's secret function returns it.
	ExpiredToken Code = "ExpiredToken"
	// SignatureDoesNotMatch: the recomputed signature differs, or something
	// that had to be signed was not.
	SignatureDoesNotMatch Code = "SignatureDoesNotMatch"
	// RequestTimeTooSkewed: signed too far in the past or the future. STS
	// reports it as SignatureDoesNotMatch with the same message, S3 under
	// this name.
	RequestTimeTooSkewed Code = "RequestTimeTooSkewed"
	// RequestExpired: a presigned request after its X-Amz-Expires.
	RequestExpired Code = "RequestExpired"
	// PayloadMismatch: x-amz-content-sha256 is not the hash of the body. S3
	// calls it XAmzContentSHA256Mismatch, others SignatureDoesNotMatch.
	PayloadMismatch Code = "XAmzContentSHA256Mismatch"
)

// Error says why a request was refused. It never holds a secret, a token or a
// computed signature, and its Message may be shown to the caller.
type Error struct {
	Code    Code
	Message string
	Err     error // what the secret function returned, if that was the cause
}

// Error returns the code and the message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap returns the secret function's error.
func (e *Error) Unwrap() error { return e.Err }

func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
