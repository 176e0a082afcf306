package sigv4

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	isoBasic   = "20060102T150405Z"
	isoDay     = "20060102"

	// maxPresign is the longest X-Amz-Expires, in seconds: seven days.
	maxPresign = 7 * 24 * 60 * 60
)

// claim is what a request says about its own signature; nothing in it is
// believed before the signature has been recomputed.
type claim struct {
	Credential

	scopeDate     string // YYYYMMDD
	signedHeaders []string
	signature     string
	presigned     bool
	expires       time.Duration // presigned only; 0 = not stated
}

// scope is the credential scope without the key id.
func (c *claim) scope() string {
	return c.scopeDate + "/" + c.Region + "/" + c.Service + "/" + terminator
}

// readClaim finds the signature in the Authorization header or in the query.
// When it fails the claim is filled as far as it could be read.
func readClaim(r *http.Request, query []parameter) (claim, error) {
	var c claim
	authorization := r.Header.Values("Authorization")
	inQuery := slices.ContainsFunc(query, func(p parameter) bool {
		return p.name == "X-Amz-Signature" || p.name == "X-Amz-Algorithm" || p.name == "X-Amz-Credential"
	})
	switch {
	case len(authorization) == 0 && !inQuery:
		return c, refuse(MissingAuthenticationToken, "Request is missing Authentication Token")
	case len(authorization) > 1:
		return c, refuse(IncompleteSignature, "Request has %d Authorization headers", len(authorization))
	case len(authorization) == 1 && inQuery:
		return c, refuse(IncompleteSignature, "Request is signed both in the Authorization header and in the query string")
	}

	var err error
	if inQuery {
		err = c.readQuery(query)
	} else {
		err = c.readAuthorization(authorization[0])
	}
	if err != nil {
		return c, err
	}
	if err := c.readDate(r, query); err != nil {
		return c, err
	}
	return c, c.readToken(r, query)
}

func (c *claim) readAuthorization(value string) error {
	scheme, rest, _ := strings.Cut(value, " ")
	if scheme != algorithm {
		return refuse(IncompleteSignature, "Unsupported algorithm in the Authorization header: only %s is accepted", algorithm)
	}
	parts := make(map[string]string, 3)
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.Trim(part, " "), "=")
		if !ok {
			return refuse(IncompleteSignature, "Not a valid key=value pair (missing equal-sign) in Authorization header")
		}
		if name != "Credential" && name != "SignedHeaders" && name != "Signature" {
			return refuse(IncompleteSignature, "Authorization header has an unknown parameter %.40q", name)
		}
		if _, repeated := parts[name]; repeated {
			return refuse(IncompleteSignature, "Authorization header has the parameter '%s' more than once", name)
		}
		parts[name] = value
	}
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if parts[name] == "" {
			return refuse(IncompleteSignature, "Authorization header requires '%s' parameter.", name)
		}
	}
	return c.readParts(parts["Credential"], parts["SignedHeaders"], parts["Signature"])
}

func (c *claim) readQuery(query []parameter) error {
	c.presigned = true
	var values [4]string
	for i, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature"} {
		value, err := one(query, name)
		if err != nil {
			return err
		}
		if value == "" {
			return refuse(IncompleteSignature, "AWS query-string parameters must include '%s'", name)
		}
		values[i] = value
	}
	if values[0] != algorithm {
		return refuse(IncompleteSignature, "Unsupported X-Amz-Algorithm: only %s is accepted", algorithm)
	}
	if err := c.readParts(values[1], values[2], values[3]); err != nil {
		return err
	}
	expires, err := one(query, "X-Amz-Expires")
	if err != nil {
		return err
	}
	if expires == "" {
		if s3Family(c.Service) {
			return refuse(IncompleteSignature, "AWS query-string parameters must include 'X-Amz-Expires'")
		}
		return nil
	}
	seconds, err := strconv.ParseUint(expires, 10, 32)
	if err != nil || seconds == 0 || seconds > maxPresign {
		return refuse(IncompleteSignature, "X-Amz-Expires must be a number of seconds from 1 to %d", maxPresign)
	}
	c.expires = time.Duration(seconds) * time.Second
	return nil
}

// readParts takes the three parts that both forms share.
func (c *claim) readParts(credential, signedHeaders, signature string) error {
	fields := strings.Split(credential, "/")
	if len(fields) != 5 || slices.Contains(fields, "") {
		return refuse(IncompleteSignature,
			"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term")
	}
	c.KeyID, c.scopeDate, c.Region, c.Service = fields[0], fields[1], fields[2], fields[3]
	if fields[4] != terminator {
		return refuse(IncompleteSignature, "Credential should be scoped with a valid terminator: '%s'", terminator)
	}
	c.signature = signature
	c.signedHeaders = strings.Split(signedHeaders, ";")
	for i, name := range c.signedHeaders {
		if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, " \t\r\n:,") {
			return refuse(IncompleteSignature, "SignedHeaders must be a semicolon-delimited list of lower-case header names")
		}
		if i > 0 && name <= c.signedHeaders[i-1] {
			return refuse(IncompleteSignature, "SignedHeaders must be sorted and without repetition")
		}
	}
	return nil
}

// readDate sets Signed from X-Amz-Date (query or header) or else from Date.
func (c *claim) readDate(r *http.Request, query []parameter) error {
	value, err := oneOf(r.Header, query, "X-Amz-Date")
	if err != nil {
		return err
	}
	name := "X-Amz-Date"
	if value == "" {
		if dates := r.Header.Values("Date"); len(dates) == 1 {
			name, value = "Date", dates[0]
		}
		if value == "" || c.presigned {
			return refuse(IncompleteSignature,
				"Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
		}
	}
	if c.Signed, err = parseDate(name, value); err != nil {
		return err
	}
	if name == "Date" && !slices.Contains(c.signedHeaders, "date") {
		return notSigned("date")
	}
	if day := c.Signed.Format(isoDay); day != c.scopeDate {
		return refuse(SignatureDoesNotMatch,
			"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%.8s' != '%s', from '%s'.",
			c.scopeDate, day, c.Signed.Format(isoBasic))
	}
	return nil
}

// parseDate reads ISO 8601 basic format and, in a Date header, also the forms
// that HTTP and mail use.
func parseDate(name, value string) (time.Time, error) {
	t, err := time.Parse(isoBasic, value)
	if err == nil && t.Format(isoBasic) == value { // time.Parse also takes fractions
		return t, nil
	}
	if name == "Date" {
		for _, layout := range []string{http.TimeFormat, time.RFC1123Z} {
			if t, err := time.Parse(layout, value); err == nil {
				return t.UTC(), nil
			}
		}
	}
	return time.Time{}, refuse(IncompleteSignature, "Date must be in ISO-8601 'basic format'; the value of '%s' is not", name)
}

func (c *claim) readToken(r *http.Request, query []parameter) error {
	token, err := oneOf(r.Header, query, "X-Amz-Security-Token")
	c.Token = token
	return err
}

// one returns the only value of a query parameter, "" when it is absent.
func one(query []parameter, name string) (string, error) {
	var value string
	var found bool
	for _, p := range query {
		if p.name != name {
			continue
		}
		if found {
			return "", refuse(IncompleteSignature, "The query-string parameter '%s' is given more than once", name)
		}
		value, found = p.value, true
	}
	return value, nil
}

// oneOf returns the only value of a field that may stand in the header or in
// the query, "" when it is in neither.
func oneOf(header http.Header, query []parameter, name string) (string, error) {
	value, err := one(query, name)
	if err != nil {
		return "", err
	}
	values := header[textproto.CanonicalMIMEHeaderKey(name)]
	if value != "" {
		values = append(slices.Clone(values), value)
	}
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", refuse(IncompleteSignature, "'%s' is given more than once", name)
}

func notSigned(name string) *Error {
	return refuse(SignatureDoesNotMatch, "'%s' must be a 'SignedHeader' in the AWS Authorization.", fmt.Sprintf("%.60s", name))
}
