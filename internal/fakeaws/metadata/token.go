package metadata

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// tokens issues session tokens and knows its own again without keeping them:
// a token is its expiry (8 bytes, Unix nanoseconds), a random part and a MAC
// over both, in URL-safe base64.
type tokens struct{ key [32]byte }

const (
	nonceSize = 10
	macSize   = 24
	tokenSize = 8 + nonceSize + macSize
)

func newTokens() *tokens {
	var t tokens
	_, _ = rand.Read(t.key[:]) // never fails: the runtime stops the program instead
	return &t
}

func (t *tokens) issue(now time.Time, ttl time.Duration) string {
	raw := make([]byte, 8+nonceSize, tokenSize)
	binary.BigEndian.PutUint64(raw, uint64(now.Add(ttl).UnixNano()))
	_, _ = rand.Read(raw[8:])
	return base64.URLEncoding.EncodeToString(append(raw, t.mac(raw)...))
}

// check reports whether token was issued here and how long it still lives.
func (t *tokens) check(token string, now time.Time) (left time.Duration, ok bool) {
	raw, err := base64.URLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != tokenSize {
		return 0, false
	}
	if !hmac.Equal(raw[8+nonceSize:], t.mac(raw[:8+nonceSize])) {
		return 0, false
	}
	left = time.Unix(0, int64(binary.BigEndian.Uint64(raw))).Sub(now)
	return left, left > 0
}

func (t *tokens) mac(message []byte) []byte {
	h := hmac.New(sha256.New, t.key[:])
	h.Write(message)
	return h.Sum(nil)[:macSize]
}
