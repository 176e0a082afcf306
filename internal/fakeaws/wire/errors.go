package wire

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/sigv4"
)

// Error is an error answer of a service, still to be spelt in a protocol.
type Error struct {
	Status  int
	Code    string // as on the wire
	Message string
	Trail   string // code in CloudTrail where that differs
	Denied  bool   // refused by a policy
	// NoMessage omits the Message element, as STS does for MalformedInput.
	NoMessage bool
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// TrailCode is the errorCode that CloudTrail records.
func (e *Error) TrailCode(p Protocol) string {
	switch {
	case p == EC2:
		return "Client." + e.Code
	case e.Trail != "":
		return e.Trail
	case e.Denied:
		return "AccessDenied"
	}
	return e.Code
}

// Denied is the refusal of a signed call by a policy.
func Denied(p Protocol, message string) *Error {
	e := &Error{Status: 403, Code: "AccessDenied", Message: message, Denied: true}
	switch p {
	case EC2:
		e.Code = "UnauthorizedOperation"
	case JSON, CBOR:
		e.Status, e.Code = 400, "AccessDeniedException"
	case RESTJSON:
		e.Code = "AccessDeniedException"
	}
	return e
}

// Unauthenticated is the refusal of a call whose signature or credentials are
// bad, in the words of the protocol.
func Unauthenticated(p Protocol, e *sigv4.Error) *Error {
	switch p {
	case S3:
		return s3Unauthenticated(e)
	case EC2:
		if e.Code == sigv4.ExpiredToken || e.Code == sigv4.RequestTimeTooSkewed || e.Code == sigv4.RequestExpired {
			return &Error{Status: 400, Code: "RequestExpired", Message: "Request has expired."}
		}
		return &Error{Status: 401, Code: "AuthFailure", Message: "AWS was not able to validate the provided access credentials"}
	case JSON, CBOR, RESTJSON:
		return jsonUnauthenticated(p, e)
	}
	a := &Error{Status: 403, Code: string(e.Code), Message: e.Message}
	switch e.Code {
	case sigv4.MissingAuthenticationToken:
		a.Message = "Request is missing Authentication Token"
	case sigv4.IncompleteSignature, sigv4.RequestExpired:
		a.Status = 400
	case sigv4.RequestTimeTooSkewed, sigv4.PayloadMismatch:
		a.Code = string(sigv4.SignatureDoesNotMatch)
	}
	return a
}

func jsonUnauthenticated(p Protocol, e *sigv4.Error) *Error {
	a := &Error{Status: 400, Message: e.Message}
	if p == RESTJSON {
		a.Status = 403
	}
	switch e.Code {
	case sigv4.MissingAuthenticationToken:
		a.Code, a.Message = "MissingAuthenticationTokenException", "Missing Authentication Token"
	case sigv4.IncompleteSignature:
		a.Code = "IncompleteSignatureException"
	case sigv4.InvalidClientTokenId:
		a.Code = "UnrecognizedClientException"
	case sigv4.ExpiredToken:
		a.Code = "ExpiredTokenException"
	default:
		a.Code = "InvalidSignatureException"
	}
	return a
}

func s3Unauthenticated(e *sigv4.Error) *Error {
	switch e.Code {
	case sigv4.MissingAuthenticationToken:
		return &Error{Status: 403, Code: "AccessDenied", Message: "Access Denied"}
	case sigv4.IncompleteSignature:
		return &Error{Status: 400, Code: "AuthorizationHeaderMalformed", Message: e.Message}
	case sigv4.InvalidClientTokenId:
		return &Error{Status: 403, Code: "InvalidAccessKeyId", Message: "The AWS Access Key Id you provided does not exist in our records."}
	case sigv4.ExpiredToken:
		return &Error{Status: 400, Code: "ExpiredToken", Message: "The provided token has expired."}
	case sigv4.RequestTimeTooSkewed:
		return &Error{Status: 403, Code: "RequestTimeTooSkewed", Message: "The difference between the request time and the current time is too large."}
	case sigv4.RequestExpired:
		return &Error{Status: 403, Code: "AccessDenied", Message: "Request has expired"}
	case sigv4.PayloadMismatch:
		return &Error{Status: 400, Code: string(e.Code), Message: e.Message}
	}
	return &Error{Status: 403, Code: "SignatureDoesNotMatch", Message: "The request signature we calculated does not match the signature you provided. Check your key and signing method."}
}

// body renders e for c's protocol: content type and body.
func (e *Error) body(c *Call, requestID string) (string, []byte) {
	text, id := Escape(e.Message), Escape(requestID)
	switch c.Protocol {
	case EC2:
		return "text/xml;charset=UTF-8", fmt.Appendf(nil, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>%s</RequestID></Response>",
			Escape(e.Code), text, id)
	case S3:
		return "application/xml", fmt.Appendf(nil, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message><RequestId>%s</RequestId><HostId>%s</HostId></Error>",
			Escape(e.Code), text, id, id)
	case JSON:
		return c.Type, e.json()
	case RESTJSON:
		return "application/json", e.json()
	case CBOR:
		return "application/cbor", cborMap("__type", e.Code, "message", e.Message)
	}
	message := "<Message>" + text + "</Message>"
	if e.NoMessage {
		message = ""
	}
	kind := "Sender"
	if e.Status >= 500 {
		kind = "Receiver"
	}
	return "text/xml", fmt.Appendf(nil, "<ErrorResponse xmlns=\"%s\">\n  <Error>\n    <Type>%s</Type>\n    <Code>%s</Code>\n    %s\n  </Error>\n  <RequestId>%s</RequestId>\n</ErrorResponse>\n",
		Namespace(c.Service), kind, Escape(e.Code), message, id)
}

func (e *Error) json() []byte {
	b, _ := json.Marshal(struct { // two strings always marshal
		Type    string `json:"__type"`
		Message string `json:"message"`
	}{e.Code, e.Message})
	return b
}

// Namespace is the XML namespace of a Query service's answers.
func Namespace(service string) string {
	switch service {
	case "sts":
		return "https://sts.amazonaws.com/doc/2011-06-15/"
	case "iam":
		return "https://iam.amazonaws.com/doc/2010-05-08/"
	case "ec2":
		return "http://ec2.amazonaws.com/doc/2016-11-15/"
	}
	return "http://" + service + ".amazonaws.com/doc/"
}

// cborMap renders a map of text to text.
func cborMap(pairs ...string) []byte {
	b := []byte{0xa0 | byte(len(pairs)/2)}
	for _, s := range pairs {
		b = append(b, 0x79, byte(len(s)>>8), byte(len(s)))
		b = append(b, s...)
	}
	return b
}

// Respond writes one answer with the headers that the protocol's clients look
// for. HEAD answers have no body.
func Respond(w http.ResponseWriter, r *http.Request, p Protocol, status int, contentType string, body []byte, requestID string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Amzn-Requestid", requestID)
	switch p {
	case S3:
		h.Set("X-Amz-Request-Id", requestID)
		h.Set("X-Amz-Id-2", requestID)
		h.Set("Server", "AmazonS3")
	case CBOR:
		h.Set("Smithy-Protocol", "rpc-v2-cbor")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client has gone; nobody is left to tell
	}
}

// RespondError writes e.
func RespondError(w http.ResponseWriter, r *http.Request, c *Call, e *Error, requestID string) {
	contentType, body := e.body(c, requestID)
	if c.Protocol == JSON || c.Protocol == RESTJSON {
		w.Header().Set("X-Amzn-Errortype", e.Code)
	}
	if c.Protocol == CBOR {
		w.Header().Set("X-Amzn-Query-Error", e.Code+";Sender")
	}
	Respond(w, r, c.Protocol, e.Status, contentType, body, requestID)
}

// Escape renders s as XML text.
func Escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder never fails
	return b.String()
}

// Throttled is the refusal of a call that came too soon.
func Throttled(p Protocol) *Error {
	switch p {
	case S3:
		return &Error{Status: 503, Code: "SlowDown", Message: "Please reduce your request rate."}
	case EC2:
		return &Error{Status: 503, Code: "RequestLimitExceeded", Message: "Request limit exceeded."}
	case Query:
		return &Error{Status: 400, Code: "Throttling", Message: "Rate exceeded"}
	case RESTJSON:
		return &Error{Status: 429, Code: "ThrottlingException", Message: "Rate exceeded"}
	}
	return &Error{Status: 400, Code: "ThrottlingException", Message: "Rate exceeded"}
}

// Failed is the answer of a service that has broken down.
func Failed(p Protocol, status int) *Error {
	e := &Error{Status: status, Code: "InternalFailure", Message: "The request processing has failed because of an unknown error, exception or failure."}
	switch {
	case status == http.StatusServiceUnavailable:
		e.Code, e.Message = "ServiceUnavailable", "Service is unable to handle request."
	case p == S3 || p == EC2:
		e.Code, e.Message = "InternalError", "We encountered an internal error. Please try again."
	}
	return e
}
