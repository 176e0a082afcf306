// Package sigv4 decides whether a request carries a valid AWS Signature
// Version 4. It only verifies and shares no code with any signer, so that it
// can judge one.
//
// # What it guarantees
//
// A request is accepted only when the signature, recomputed from the secret
// that belongs to the claimed key and token, covers the method, the path, the
// whole query string, every signed header, the body and the time, when the
// time is within [Skew] of now (or a presigned request's lifetime lasts), and
// when the scope's date is that of the signature. Host, every x-amz-* header
// and, when it is what dates the request, Date must be signed. Signatures are
// compared in constant time. Whatever is repeated, contradictory or malformed
// is refused, never guessed at.
//
// # What it does not do
//
// Signatures are not remembered, so a replay within the skew is accepted, as
// AWS does. SigV4a (ECDSA) and event streams are refused. Whether the region
// and service of the scope suit the endpoint is the caller's question.
//
// # Documented behaviour it relies on
//
// "AWS Signature Version 4 for API requests" (IAM user guide) and
// "Authenticating Requests" (S3 API reference): canonical request, string to
// sign, derived key, presigned query parameters, chunked uploads. Paths are
// normalised and encoded twice except for S3, which does neither. The payload
// hash is that of the body; only S3 lets x-amz-content-sha256 replace it by
// UNSIGNED-PAYLOAD or a streaming form, and demands that header. In a streaming
// form whose chunks are signed, each chunk's signature is verified too.
//
// The package is longer than most because it checks all of a signature's forms:
// header and query (authorization.go), canonical request, chunks.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Skew is how far the signing time may be from now, in either direction.
const Skew = 5 * time.Minute

// Credential is what a request was signed with.
type Credential struct {
	KeyID   string
	Token   string // session token, "" for a long-term key
	Region  string
	Service string    // signing name, such as "sts"
	Signed  time.Time // UTC, whole seconds
}

// Read returns what r claims to be signed with, without believing it: enough
// to route a request and to word an error. The error is an [*Error].
func Read(r *http.Request) (Credential, error) {
	_, query, err := target(r)
	if err != nil {
		return Credential{}, err
	}
	c, err := readClaim(r, query)
	return c.Credential, err
}

// Verify recomputes the signature of r, whose body has been read into body.
// secret returns the secret access key for a key and the session token that
// came with it ("" = none); when it fails with an [*Error] Verify returns that,
// and otherwise an InvalidClientTokenId that wraps it. As AWS does, Verify asks
// for the secret before it looks at the time and the signature.
//
// Every error is an [*Error]. The Credential that comes with an error holds
// what could be read of the claim, none of it proven.
func Verify(r *http.Request, body []byte, now time.Time, secret func(keyID, token string) (string, error)) (Credential, error) {
	path, query, err := target(r)
	if err != nil {
		return Credential{}, err
	}
	c, err := readClaim(r, query)
	if err != nil {
		return c.Credential, err
	}
	key, err := secret(c.KeyID, c.Token)
	if err != nil {
		var refused *Error
		if !errors.As(err, &refused) {
			refused = &Error{InvalidClientTokenId, "The security token included in the request is invalid.", err}
		}
		return c.Credential, refused
	}
	return c.Credential, c.verify(r, path, query, body, now, key)
}

func (c *claim) verify(r *http.Request, path string, query []parameter, body []byte, now time.Time, secret string) error {
	if err := c.checkTime(now); err != nil {
		return err
	}
	if err := c.checkCoverage(r); err != nil {
		return err
	}
	payload, err := c.payloadHash(r, query, body)
	if err != nil {
		return err
	}
	canonical, err := c.canonicalRequest(r, path, query, payload)
	if err != nil {
		return err
	}
	date := c.Signed.Format(isoBasic)
	signingKey := deriveKey(secret, c.scopeDate, c.Region, c.Service)
	toSign := strings.Join([]string{algorithm, date, c.scope(), hash([]byte(canonical))}, "\n")
	want := hex.EncodeToString(mac(signingKey, toSign))
	if !equal(c.signature, want) {
		return refuse(SignatureDoesNotMatch,
			"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	if !strings.HasPrefix(payload, streamingSigned) {
		return nil
	}
	chunks := chunkSigner{key: signingKey, date: date, scope: c.scope(), previous: want}
	n, err := chunks.verify(body, payload != streamingSigned)
	if err != nil {
		return err
	}
	if r.Header.Get("X-Amz-Decoded-Content-Length") != strconv.FormatInt(n, 10) {
		return refuse(IncompleteSignature, "x-amz-decoded-content-length is not the length of the payload")
	}
	return nil
}

// checkTime compares the signing time, and a presigned lifetime, with now.
func (c *claim) checkTime(now time.Time) error {
	now = now.UTC()
	if earliest := now.Add(-Skew); c.expires == 0 && c.Signed.Before(earliest) {
		return refuse(RequestTimeTooSkewed, "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			c.Signed.Format(isoBasic), earliest.Format(isoBasic), now.Format(isoBasic))
	}
	if latest := now.Add(Skew); c.Signed.After(latest) {
		return refuse(RequestTimeTooSkewed, "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			c.Signed.Format(isoBasic), latest.Format(isoBasic), now.Format(isoBasic))
	}
	if c.expires > 0 && now.After(c.Signed.Add(c.expires)) {
		return refuse(RequestExpired, "Request has expired")
	}
	return nil
}

// checkCoverage refuses a request that carries something unsigned which AWS
// would act on.
func (c *claim) checkCoverage(r *http.Request) error {
	if !slices.Contains(c.signedHeaders, "host") {
		return notSigned("host")
	}
	for name := range r.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-") && !slices.Contains(c.signedHeaders, name) {
			return notSigned(name)
		}
	}
	return nil
}

const (
	unsignedPayload   = "UNSIGNED-PAYLOAD"
	streamingUnsigned = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	streamingSigned   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamingTrailer  = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
)

// payloadHash returns the last line of the canonical request.
func (c *claim) payloadHash(r *http.Request, query []parameter, body []byte) (string, error) {
	stated, err := oneOf(r.Header, query, "X-Amz-Content-Sha256")
	if err != nil {
		return "", err
	}
	s3 := s3Family(c.Service)
	switch stated {
	case "":
		if s3 && c.presigned {
			return unsignedPayload, nil
		}
		if s3 {
			return "", refuse(IncompleteSignature, "Missing required header for this request: x-amz-content-sha256")
		}
		return hash(body), nil
	case unsignedPayload, streamingUnsigned, streamingSigned, streamingTrailer:
		if !s3 {
			return "", refuse(SignatureDoesNotMatch, "The service %.40s does not accept %s", c.Service, stated)
		}
		return stated, nil
	}
	if actual := hash(body); stated != actual {
		return "", refuse(PayloadMismatch, "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return stated, nil
}

func (c *claim) canonicalRequest(r *http.Request, path string, query []parameter, payload string) (string, error) {
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	uri, err := canonicalPath(path, c.Service)
	if err != nil {
		return "", err
	}
	headers, err := canonicalHeaders(r, c.signedHeaders)
	if err != nil {
		return "", err
	}
	return strings.Join([]string{
		method, uri, canonicalQuery(query, c.presigned), headers, strings.Join(c.signedHeaders, ";"), payload,
	}, "\n"), nil
}

func deriveKey(secret, date, region, service string) []byte {
	key := mac([]byte("AWS4"+secret), date)
	key = mac(key, region)
	key = mac(key, service)
	return mac(key, terminator)
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

func equal(got, want string) bool {
	return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}
