package sigv4

import (
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// s3Family reports whether a service canonicalises as S3 does: the path is
// encoded once and never normalised, and the payload may be left unsigned.
func s3Family(service string) bool {
	switch service {
	case "s3", "s3express", "s3-object-lambda", "s3-outposts":
		return true
	}
	return false
}

// parameter is one decoded name and value of the query string.
type parameter struct{ name, value string }

// target returns the path, still encoded, and the parsed query as they went over
// the wire.
func target(r *http.Request) (path string, query []parameter, err error) {
	uri := r.RequestURI
	if uri == "" { // a client's request that never crossed a socket
		uri = r.URL.RequestURI()
	}
	path, raw, _ := strings.Cut(uri, "?")
	if _, rest, ok := strings.Cut(path, "://"); ok && !strings.HasPrefix(path, "/") {
		path = "/" // the absolute form, as a proxy gets it
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			path = rest[i:]
		}
	}
	if !strings.HasPrefix(path, "/") {
		return "", nil, refuse(IncompleteSignature, "The request target is not a path")
	}
	query, err = parseQuery(raw)
	return path, query, err
}

func parseQuery(raw string) ([]parameter, error) {
	var query []parameter
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, okName := decode(name, true)
		value, okValue := decode(value, true)
		if !okName || !okValue {
			return nil, refuse(IncompleteSignature, "The query string holds a malformed percent-encoding")
		}
		query = append(query, parameter{name, value})
	}
	return query, nil
}

func canonicalQuery(query []parameter, presigned bool) string {
	pairs := make([]parameter, 0, len(query))
	for _, p := range query {
		if presigned && p.name == "X-Amz-Signature" {
			continue
		}
		pairs = append(pairs, parameter{encode(p.name), encode(p.value)})
	}
	slices.SortFunc(pairs, func(a, b parameter) int {
		if n := strings.Compare(a.name, b.name); n != 0 {
			return n
		}
		return strings.Compare(a.value, b.value)
	})
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name + "=" + p.value)
	}
	return b.String()
}

// canonicalPath is the path as it is signed. S3 decodes what was sent and
// encodes it again, segment by segment, so that the sender's choice of escapes
// does not matter and %2F stays different from a slash. Every other service
// normalises the path and encodes what was sent once more.
func canonicalPath(path, service string) (string, error) {
	s3 := s3Family(service)
	if !s3 {
		path = normalise(path)
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if s3 {
			decoded, ok := decode(segment, false)
			if !ok {
				return "", refuse(IncompleteSignature, "The path holds a malformed percent-encoding")
			}
			segment = decoded
		}
		segments[i] = encode(segment)
	}
	return strings.Join(segments, "/"), nil
}

// normalise removes empty, "." and ".." segments and keeps a trailing slash.
func normalise(path string) string {
	var kept []string
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case "", ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, segment)
		}
	}
	if len(kept) == 0 {
		return "/"
	}
	clean := "/" + strings.Join(kept, "/")
	if strings.HasSuffix(path, "/") {
		clean += "/"
	}
	return clean
}

// canonicalHeaders renders the signed headers, one "name:value\n" each.
func canonicalHeaders(r *http.Request, names []string) (string, error) {
	var b strings.Builder
	for _, name := range names {
		values := headerValues(r, name)
		if len(values) == 0 {
			return "", refuse(SignatureDoesNotMatch, "The signed header '%.60s' is not in the request", name)
		}
		b.WriteString(name + ":")
		for i, value := range values {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(collapse(value))
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// headerValues finds a header where net/http keeps it: Host, Content-Length
// and Transfer-Encoding may be fields of the request instead.
func headerValues(r *http.Request, name string) []string {
	if name == "host" {
		host := r.Host
		if host == "" {
			host = r.URL.Host
		}
		return []string{host}
	}
	if values := r.Header[textproto.CanonicalMIMEHeaderKey(name)]; len(values) > 0 {
		return values
	}
	switch {
	case name == "content-length" && r.ContentLength >= 0:
		return []string{strconv.FormatInt(r.ContentLength, 10)}
	case name == "transfer-encoding":
		return r.TransferEncoding
	}
	return nil
}

// collapse trims a header value and makes each run of spaces one space.
func collapse(value string) string {
	value = strings.Trim(value, " \t")
	for strings.Contains(value, "  ") {
		value = strings.ReplaceAll(value, "  ", " ")
	}
	return value
}

const upperHex = "0123456789ABCDEF"

// encode percent-encodes every byte that RFC 3986 does not call unreserved.
func encode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}

// decode undoes percent-encoding, and a form's + for a space when plus is set.
func decode(s string, plus bool) (string, bool) {
	if !strings.ContainsAny(s, "%+") {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) {
				return "", false
			}
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			b = append(b, byte(high<<4|low))
			i += 2
		case c == '+' && plus:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return string(b), true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
