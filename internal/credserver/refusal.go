package credserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/credserver/document"
)

// coder is an error that names its cause for programs. Its Error text is
// written to be shown to the caller.
type coder interface {
	error
	Code() string
}

// remedier is a coder that knows what a person can do.
type remedier interface{ Remedy() string }

// refusal is the server's own coder.
type refusal struct {
	code, message string
	cause         error // for the log only
}

func (r *refusal) Code() string  { return r.code }
func (r *refusal) Error() string { return r.message }
func (r *refusal) Unwrap() error { return r.cause }

var (
	errForbidden = &refusal{code: "forbidden", message: "this uid may not ask; the daemon's settings name those who may"}
	errProxied   = &refusal{code: "forbidden", message: "requests from a browser or through a proxy are refused"}
	errBody      = &refusal{code: "bad_request", message: "a request has no body"}
	errMethod    = &refusal{code: "bad_request", message: "the method must be GET"}
	errNotFound  = &refusal{code: "not_found", message: "the paths are /v1/credentials, /v1/status, /v1/profiles/NAME and /metrics"}
)

// cause is what the caller was not told, if there is something.
func cause(err error) error {
	if r, ok := err.(*refusal); ok && r.cause != nil {
		return r.cause
	}
	return err
}

const maxMessage = 400 // bytes of an error's message

// explain returns what a caller is told about err. An error without a code may
// quote anything, so its text stays in the log.
func explain(err error) (code, message string) {
	var c coder
	if !errors.As(err, &c) || !validCode(c.Code()) {
		return "failed", "the credential could not be obtained; the daemon's log says why"
	}
	message = c.Error()
	if r, ok := c.(remedier); ok && r.Remedy() != "" {
		message += "; " + r.Remedy()
	}
	return c.Code(), oneLine(message)
}

// validCode keeps codes fit for a header, a metric label and a script.
func validCode(code string) bool {
	for _, c := range []byte(code) {
		if (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return code != "" && len(code) <= 40
}

// oneLine makes s fit for a header: printable, short, no line break.
func oneLine(s string) string {
	s = awscause.OneLine(s)
	return s[:min(len(s), maxMessage)]
}

// refuse answers with status and the reason in headers and body.
func refuse(w http.ResponseWriter, status int, code, message string) {
	body, err := json.Marshal(struct {
		Code, Message string
		Code2         string `json:"code"`
		Message2      string `json:"message"`
	}{code, message, code, message})
	if err != nil { // strings always encode
		body = []byte("{}")
	}
	h := w.Header()
	h.Set("Nbidentity-Error", code)
	h.Set("Nbidentity-Message", message)
	answer(w, status, "application/json", append(body, '\n'))
}

// answer writes a whole answer of known length.
func answer(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header() // keys in their canonical form need no Set
	h["Content-Type"] = []string{contentType}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["Cache-Control"] = noStore
	w.WriteHeader(status)
	w.Write(body) // a caller that is gone is its own business
}

// Values of headers that need no memory for each answer: net/http copies them.
var (
	noStore   = []string{"no-store"}
	jsonType  = []string{"application/json"}
	plainType = []string{"text/plain"}
)

// hand writes a credential.
func hand(w http.ResponseWriter, contentType []string, form document.Form) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = form.Length
	h["Cache-Control"] = noStore
	w.Write(form.Body)
}
