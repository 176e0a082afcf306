package sigv4_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/sigv4"
)

// TestEveryByteCounts changes one byte at a time of everything that a signature
// covers. A change that decoding would undo is not made: the low bit of a byte
// always changes what the byte means.
func TestEveryByteCounts(t *testing.T) {
	for name, o := range orders {
		if o.path == "/bucket//a///b/../c/./d/" {
			continue // flipping a dot makes a slash, which S3 keeps: covered by "s3 escapes"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			original := o.sign(t, "https://service.us-east-1.amazonaws.com", now)
			body := []byte(o.body)
			if _, err := sigv4.Verify(original, body, now, secretOf); err != nil {
				t.Fatal(err)
			}
			try := func(what string, change func(r *http.Request, body []byte)) {
				t.Helper()
				r := original.Clone(t.Context())
				spoiled := append([]byte(nil), body...)
				change(r, spoiled)
				if _, err := sigv4.Verify(r, spoiled, now, secretOf); err == nil {
					t.Errorf("accepted with a change of %s", what)
				} else {
					code(t, err)
				}
			}
			path, query := original.URL.EscapedPath(), original.URL.RawQuery
			wire := path
			if query != "" {
				wire += "?" + query
			}
			for i := range len(o.method) {
				try("the method", func(r *http.Request, _ []byte) { r.Method = flip(o.method, i) })
			}
			for i := range len(wire) {
				try("the request line at "+wire[i:], func(r *http.Request, _ []byte) { r.RequestURI = flip(wire, i) })
			}
			for i := range len(original.Host) {
				try("the host", func(r *http.Request, _ []byte) { r.Host = flip(original.Host, i) })
			}
			signed := signedHeaders(original)
			for header, values := range original.Header {
				if header != "Authorization" && !strings.Contains(signed, ";"+strings.ToLower(header)+";") {
					continue
				}
				for n, value := range values {
					for i := range len(value) {
						if value[i] == ' ' && header != "Authorization" {
							continue // runs of spaces are collapsed
						}
						try(header+" at "+value[i:], func(r *http.Request, _ []byte) { r.Header[header][n] = flip(value, i) })
					}
				}
				try("removing "+header, func(r *http.Request, _ []byte) { delete(r.Header, header) })
				try("repeating "+header, func(r *http.Request, _ []byte) { r.Header[header] = append(r.Header[header], "x") })
			}
			try("an added x-amz header", func(r *http.Request, _ []byte) { r.Header.Set("X-Amz-Security-Extra", "x") })
			try("an added parameter", func(r *http.Request, _ []byte) { r.RequestURI = strings.TrimSuffix(path+"?x=y&"+query, "&") })
			if o.payload == "" {
				for i := range min(len(body), 200) {
					try("the body", func(_ *http.Request, body []byte) { body[i] ^= 1 })
				}
			}
			for i := range len(session.SecretAccessKey) {
				_, err := sigv4.Verify(original, body, now, func(string, string) (string, error) { return flip(session.SecretAccessKey, i), nil })
				if got := code(t, err); got != sigv4.SignatureDoesNotMatch {
					t.Errorf("with another secret: %q", got)
				}
			}
		})
	}
}

func flip(s string, i int) string {
	b := []byte(s)
	b[i] ^= 1
	return string(b)
}

// signedHeaders returns ";name;name;" of either form.
func signedHeaders(r *http.Request) string {
	list := r.URL.Query().Get("X-Amz-SignedHeaders")
	if _, rest, ok := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders="); ok {
		list, _, _ = strings.Cut(rest, ",")
	}
	return ";" + list + ";"
}

func TestClock(t *testing.T) {
	signed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	header, presigned := orders["sts"], orders["presigned s3"] // 3600 s
	tests := []struct {
		name  string
		order order
		now   time.Duration
		want  sigv4.Code
	}{
		{"at once", header, 0, ""},
		{"at the end of the skew", header, sigv4.Skew, ""},
		{"after the skew", header, sigv4.Skew + time.Second, sigv4.RequestTimeTooSkewed},
		{"before its time, within the skew", header, -sigv4.Skew, ""},
		{"before its time", header, -sigv4.Skew - time.Second, sigv4.RequestTimeTooSkewed},
		{"a day late", header, 24 * time.Hour, sigv4.RequestTimeTooSkewed},
		{"presigned, at its end", presigned, time.Hour, ""},
		{"presigned, after its end", presigned, time.Hour + time.Second, sigv4.RequestExpired},
		{"presigned, before its time", presigned, -sigv4.Skew - time.Second, sigv4.RequestTimeTooSkewed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := test.order.sign(t, "https://service.amazonaws.com", signed)
			_, err := sigv4.Verify(r, []byte(test.order.body), signed.Add(test.now), secretOf)
			if got := code(t, err); got != test.want {
				t.Errorf("code = %q, want %q", got, test.want)
			}
		})
	}
	r := header.sign(t, "https://service.amazonaws.com", signed)
	_, err := sigv4.Verify(r, []byte(header.body), signed.Add(time.Hour), secretOf)
	const want = "RequestTimeTooSkewed: Signature expired: 20260102T030405Z is now earlier than 20260102T035905Z (20260102T040405Z - 5 min.)"
	if err.Error() != want {
		t.Errorf("error = %q, want %q", err, want)
	}
}

func TestRefusals(t *testing.T) {
	const scope = "ASIAIOSFODNN7EXAMPLE/20260102/us-east-1/sts/aws4_request"
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	authorization := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", value) }
	}
	replace := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			value := r.Header.Get("Authorization")
			if !strings.Contains(value, old) {
				t.Errorf("no %q in %q", old, value)
			}
			r.Header.Set("Authorization", strings.Replace(value, old, new, 1))
		}
	}
	tests := []struct {
		name   string
		change func(*http.Request)
		want   sigv4.Code
	}{
		{"unsigned", func(r *http.Request) { r.Header.Del("Authorization") }, sigv4.MissingAuthenticationToken},
		{"two headers", func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, sigv4.IncompleteSignature},
		{"empty header", authorization(""), sigv4.IncompleteSignature},
		{"other scheme", authorization("Bearer abc"), sigv4.IncompleteSignature},
		{"other algorithm", replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), sigv4.IncompleteSignature},
		{"no parts", authorization("AWS4-HMAC-SHA256"), sigv4.IncompleteSignature},
		{"no signature", authorization("AWS4-HMAC-SHA256 Credential=" + scope + ", SignedHeaders=host;x-amz-date"), sigv4.IncompleteSignature},
		{"no signed headers", authorization("AWS4-HMAC-SHA256 Credential=" + scope + ", Signature=00"), sigv4.IncompleteSignature},
		{"no credential", authorization("AWS4-HMAC-SHA256 SignedHeaders=host, Signature=00"), sigv4.IncompleteSignature},
		{"repeated part", replace("Signature=", "Signature=00, Signature="), sigv4.IncompleteSignature},
		{"unknown part", replace("Signature=", "Extra=1, Signature="), sigv4.IncompleteSignature},
		{"four elements", replace("/us-east-1", ""), sigv4.IncompleteSignature},
		{"empty region", replace("us-east-1", ""), sigv4.IncompleteSignature},
		{"other terminator", replace("aws4_request", "aws5_request"), sigv4.IncompleteSignature},
		{"other scope date", replace("20260102", "20260103"), sigv4.SignatureDoesNotMatch},
		{"other region", replace("us-east-1", "us-west-2"), sigv4.SignatureDoesNotMatch},
		{"other service", replace("/sts/", "/iam/"), sigv4.SignatureDoesNotMatch},
		{"unknown key", replace("ASIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN8EXAMPLE"), sigv4.InvalidClientTokenId},
		{"host not signed", replace("host;", ""), sigv4.SignatureDoesNotMatch},
		{"token not signed", replace(";x-amz-security-token", ""), sigv4.SignatureDoesNotMatch},
		{"date not signed", replace(";x-amz-date", ""), sigv4.SignatureDoesNotMatch},
		{"signed headers unsorted", replace("host;x-amz-date", "x-amz-date;host"), sigv4.IncompleteSignature},
		{"signed headers repeated", replace("host;", "host;host;"), sigv4.IncompleteSignature},
		{"signed headers in capitals", replace("host;", "Host;"), sigv4.IncompleteSignature},
		{"signed header absent", replace("host;", "host;if-match;"), sigv4.SignatureDoesNotMatch},
		{"signature cut", func(r *http.Request) { v := r.Header.Get("Authorization"); r.Header.Set("Authorization", v[:len(v)-1]) }, sigv4.SignatureDoesNotMatch},
		{"no date", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, sigv4.IncompleteSignature},
		{"two dates", func(r *http.Request) { r.Header.Add("X-Amz-Date", "20260102T030405Z") }, sigv4.IncompleteSignature},
		{"malformed date", func(r *http.Request) { r.Header.Set("X-Amz-Date", "2026-01-02T03:04:05Z") }, sigv4.IncompleteSignature},
		{"fractional date", func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260102T030405.5Z") }, sigv4.IncompleteSignature},
		{"another date", func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260102T030406Z") }, sigv4.SignatureDoesNotMatch},
		{"unsigned Date instead", func(r *http.Request) { r.Header.Del("X-Amz-Date"); r.Header.Set("Date", now.Format(http.TimeFormat)) }, sigv4.SignatureDoesNotMatch},
		{"two tokens", func(r *http.Request) { r.Header.Add("X-Amz-Security-Token", "x") }, sigv4.IncompleteSignature},
		{"token in header and query", func(r *http.Request) { r.URL.RawQuery = "X-Amz-Security-Token=x" }, sigv4.IncompleteSignature},
		{"no token", func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") }, sigv4.InvalidClientTokenId},
		{"both forms", func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=x" }, sigv4.IncompleteSignature},
		{"malformed query", func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, sigv4.IncompleteSignature},
		{"unsigned payload", func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, sigv4.SignatureDoesNotMatch},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := orders["sts"]
			r := o.sign(t, "https://sts.us-east-1.amazonaws.com", now)
			test.change(r)
			_, err := sigv4.Verify(r, []byte(o.body), now, secretOf)
			if got := code(t, err); got != test.want {
				t.Errorf("error = %v, want %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), session.SecretAccessKey[:12]) {
				t.Errorf("error tells the secret: %v", err)
			}
		})
	}
}

func TestPayloadRules(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name    string
		order   order
		body    string
		without bool // without x-amz-content-sha256
		want    sigv4.Code
	}{
		{"s3 wrong body", order{method: "PUT", service: "s3", body: "right"}, "wrong", false, sigv4.PayloadMismatch},
		{"sts wrong body", order{method: "POST", service: "sts", body: "right"}, "wrong", false, sigv4.SignatureDoesNotMatch},
		{"s3 event stream", order{method: "PUT", service: "s3", payload: "STREAMING-AWS4-HMAC-SHA256-EVENTS"}, "", false, sigv4.PayloadMismatch},
		{"s3 any body when unsigned", order{method: "PUT", service: "s3", body: "right", payload: "UNSIGNED-PAYLOAD"}, "wrong", false, ""},
		{"s3 chunks without signatures", order{method: "PUT", service: "s3", payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "5\r\nright\r\n0\r\n\r\n", false, sigv4.IncompleteSignature},
		{"s3 chunks with false signatures", order{method: "PUT", service: "s3", payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "0;chunk-signature=" + emptyHash + "\r\n\r\n", false, sigv4.SignatureDoesNotMatch},
		{"s3 chunk size beyond the body", order{method: "PUT", service: "s3", payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "7fffffff;chunk-signature=" + emptyHash + "\r\n\r\n", false, sigv4.IncompleteSignature},
		{"s3 empty stream", order{method: "PUT", service: "s3", payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"}, "", false, sigv4.IncompleteSignature},
		{"presigned s3 without a lifetime", order{method: "GET", service: "s3", presign: 1 << 20}, "", false, sigv4.IncompleteSignature},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := test.order.sign(t, "https://service.amazonaws.com", now)
			_, err := sigv4.Verify(r, []byte(test.body), now, secretOf)
			if got := code(t, err); got != test.want {
				t.Errorf("error = %v, want %q", err, test.want)
			}
		})
	}
	t.Run("s3 demands the header", func(t *testing.T) {
		r := order{method: "GET", service: "s3"}.sign(t, "https://service.amazonaws.com", now)
		r.Header.Del("X-Amz-Content-Sha256")
		_, err := sigv4.Verify(r, nil, now, secretOf)
		if got := code(t, err); got != sigv4.IncompleteSignature {
			t.Errorf("error = %v", err)
		}
	})
}

func TestSecretErrors(t *testing.T) {
	now := time.Now()
	r := orders["sts"].sign(t, "https://sts.amazonaws.com", now)
	body := []byte(orders["sts"].body)

	_, err := sigv4.Verify(r, body, now, func(string, string) (string, error) { return "", io.ErrUnexpectedEOF })
	if code(t, err) != sigv4.InvalidClientTokenId || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("plain error became %v", err)
	}
	expired := &sigv4.Error{Code: sigv4.ExpiredToken, Message: "The security token included in the request is expired"}
	got, err := sigv4.Verify(r, body, now, func(string, string) (string, error) { return "", expired })
	if err != error(expired) {
		t.Errorf("typed error became %v", err)
	}
	if got.Service != "sts" || got.KeyID != session.AccessKeyID {
		t.Errorf("claim with the error = %+v", got)
	}
}

func TestRequestTarget(t *testing.T) {
	now := time.Now()
	for target, want := range map[string]sigv4.Code{
		"/":                          "",
		"http://sts.amazonaws.com/":  "",
		"http://sts.amazonaws.com":   "",
		"http://sts.amazonaws.com/x": sigv4.SignatureDoesNotMatch,
		"/http://x":                  sigv4.SignatureDoesNotMatch,
		"*":                          sigv4.IncompleteSignature,
		"sts.amazonaws.com:443":      sigv4.IncompleteSignature,
		"?":                          sigv4.IncompleteSignature,
	} {
		r := orders["sts"].sign(t, "https://sts.amazonaws.com", now)
		r.RequestURI = target
		_, err := sigv4.Verify(r, []byte(orders["sts"].body), now, secretOf)
		if got := code(t, err); got != want {
			t.Errorf("%q: error = %v, want %q", target, err, want)
		}
	}
}
