// Package imdstoken issues the session tokens of an instance metadata service
// and knows its own again without keeping them, so no number of requests makes
// it grow.
//
// A token is its expiry, a random part and a MAC over both and over the bearer
// it was issued to. Nobody else can use it, nobody can make or prolong one, and
// all of them die with the process. Within its life a token may be used any
// number of times, as AWS documents. Time is the process's own (monotonic), so
// setting the clock neither ends nor prolongs a life.
package imdstoken

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// Issuer issues tokens. Its methods may be called concurrently.
type Issuer struct {
	key     [32]byte
	started time.Time
}

const (
	stampSize = 8 // nanoseconds of the issuer's life at which the token's ends
	nonceSize = 10
	headSize  = stampSize + nonceSize
	macSize   = 24
	tokenSize = headSize + macSize
)

// Length is that of every token, in bytes.
const Length = tokenSize / 3 * 4

// New returns an issuer with a key of its own.
func New() *Issuer {
	i := &Issuer{started: time.Now()}
	rand.Read(i.key[:]) // never fails: the runtime stops the program instead
	return i
}

// Issue returns a token for the bearer, of characters that are safe in a header.
func (i *Issuer) Issue(bearer string, life time.Duration) string {
	raw := make([]byte, headSize, tokenSize)
	binary.BigEndian.PutUint64(raw, uint64(time.Since(i.started)+life))
	rand.Read(raw[stampSize:])
	return base64.URLEncoding.EncodeToString(i.mac(raw, raw, bearer))
}

// Left reports how long token still lives, and whether it is one of this
// issuer's for this bearer that does.
func (i *Issuer) Left(token, bearer string) (left time.Duration, ok bool) {
	if len(token) != Length {
		return 0, false
	}
	raw, err := base64.URLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != tokenSize { // line breaks are skipped in decoding
		return 0, false
	}
	var mac [macSize]byte
	if !hmac.Equal(raw[headSize:], i.mac(mac[:0], raw[:headSize], bearer)) {
		return 0, false
	}
	left = time.Duration(binary.BigEndian.Uint64(raw)) - time.Since(i.started)
	return left, left > 0
}

// mac appends the MAC of head and bearer. The head's length is fixed, so no two
// pairs are the same bytes.
func (i *Issuer) mac(to, head []byte, bearer string) []byte {
	h := hmac.New(sha256.New, i.key[:])
	h.Write(head)
	h.Write([]byte(bearer))
	var sum [sha256.Size]byte
	return append(to, h.Sum(sum[:0])[:macSize]...)
}
