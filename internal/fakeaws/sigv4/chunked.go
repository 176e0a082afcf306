package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// chunkSigner recomputes the chain of signatures in an aws-chunked body. Each
// signature covers the one before it; the first covers the request's.
type chunkSigner struct {
	key      []byte
	date     string
	scope    string
	previous string
}

// next returns the signature that follows in the chain. hashes are the lines
// that come after the previous signature.
func (s *chunkSigner) next(kind string, hashes ...string) string {
	lines := append([]string{algorithm + kind, s.date, s.scope, s.previous}, hashes...)
	s.previous = hex.EncodeToString(mac(s.key, strings.Join(lines, "\n")))
	return s.previous
}

func errChunk() *Error {
	return refuse(SignatureDoesNotMatch, "The chunk signature does not match")
}

// verify checks every chunk and, when there is one, the signed trailer. It
// returns the number of payload bytes.
func (s *chunkSigner) verify(body []byte, trailer bool) (int64, error) {
	malformed := refuse(IncompleteSignature, "The aws-chunked body is malformed")
	var total int64
	for {
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		size, signature, signed := strings.Cut(string(line), ";chunk-signature=")
		n, err := strconv.ParseUint(size, 16, 31)
		if !ok || !signed || err != nil || uint64(len(rest)) < n {
			return 0, malformed
		}
		if !equal(signature, s.next("-PAYLOAD", hash(nil), hash(rest[:n]))) {
			return 0, errChunk()
		}
		total += int64(n)
		body = rest[n:]
		if n == 0 {
			break
		}
		if body, ok = bytes.CutPrefix(body, []byte("\r\n")); !ok {
			return 0, malformed
		}
	}
	if !trailer {
		if !bytes.Equal(body, []byte("\r\n")) {
			return 0, malformed
		}
		return total, nil
	}
	return total, s.verifyTrailer(body)
}

// verifyTrailer reads "name:value" lines and then the signature over them, with
// nothing behind it but line ends.
func (s *chunkSigner) verifyTrailer(body []byte) error {
	var headers strings.Builder
	for {
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		name, value, isHeader := strings.Cut(string(line), ":")
		if !ok || !isHeader {
			return refuse(IncompleteSignature, "The trailer is not signed")
		}
		name, value, body = strings.ToLower(name), strings.Trim(value, " "), rest
		if name != "x-amz-trailer-signature" {
			headers.WriteString(name + ":" + value + "\n")
			continue
		}
		if !equal(value, s.next("-TRAILER", hash([]byte(headers.String())))) {
			return errChunk()
		}
		if len(body) != 0 && !bytes.Equal(body, []byte("\r\n")) {
			return refuse(IncompleteSignature, "Something follows the signed trailer")
		}
		return nil
	}
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
