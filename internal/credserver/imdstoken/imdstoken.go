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
	"hash"
	"sync"
	"time"
)

// Issuer issues tokens. Its methods may be called concurrently.
type Issuer struct {
	started time.Time
	hashes  sync.Pool // of hash.Hash with the key in it, which takes time
}

var encoding = base64.URLEncoding.Strict()

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
	key := make([]byte, 32)
	rand.Read(key) // never fails: the runtime stops the program instead
	i := &Issuer{started: time.Now()}
	i.hashes.New = func() any { return hmac.New(sha256.New, key) }
	return i
}

// Issue returns a token for the bearer, of characters that are safe in a header.
func (i *Issuer) Issue(bearer string, life time.Duration) string {
	raw := make([]byte, headSize, tokenSize)
	binary.BigEndian.PutUint64(raw, uint64(time.Since(i.started)+life))
	rand.Read(raw[stampSize:])
	return encoding.EncodeToString(i.mac(raw, raw, bearer))
}

// Valid reports whether token is one of this issuer's for this bearer and still
// lives.
func (i *Issuer) Valid(token, bearer string) bool {
	var raw [tokenSize]byte
	if len(token) != Length {
		return false
	}
	n, err := encoding.Decode(raw[:], []byte(token))
	if err != nil || n != tokenSize { // line breaks are skipped in decoding
		return false
	}
	var mac [macSize]byte
	if !hmac.Equal(raw[headSize:], i.mac(mac[:0], raw[:headSize], bearer)) {
		return false
	}
	return i.lives(raw[:])
}

// Lives reports whether a token that was Valid still is: the short way, without
// looking at its MAC again.
func (i *Issuer) Lives(token string) bool {
	var raw [tokenSize]byte
	if len(token) != Length {
		return false
	}
	n, err := encoding.Decode(raw[:], []byte(token))
	return err == nil && n == tokenSize && i.lives(raw[:])
}

func (i *Issuer) lives(raw []byte) bool {
	return time.Duration(binary.BigEndian.Uint64(raw)) > time.Since(i.started)
}

// mac appends the MAC of head and bearer. The head's length is fixed, so no two
// pairs are the same bytes.
func (i *Issuer) mac(to, head []byte, bearer string) []byte {
	h := i.hashes.Get().(hash.Hash)
	defer i.hashes.Put(h)
	h.Reset()
	h.Write(head)
	h.Write([]byte(bearer))
	var sum [sha256.Size]byte
	return append(to, h.Sum(sum[:0])[:macSize]...)
}
