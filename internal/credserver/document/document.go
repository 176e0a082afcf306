// Package document writes a credential down as each kind of client wants to read
// it: as the output of a credential process, as a container's credentials and as
// the metadata service's document. All three are made once for a credential.
//
// It guarantees that no credential is written that is incomplete or has no
// expiry, that the expiry written is never later than the true one, and that no
// document is longer than every client accepts.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// MaxBody is the smallest limit that a client puts on a credential process's
// output (aws-sdk-go v1), in bytes.
const MaxBody = 8 << 10

const stamp = "2006-01-02T15:04:05Z"

// Set is a credential in all its forms.
type Set struct {
	Expires   time.Time // as written: whole seconds, UTC
	Process   Form      // process-credentials JSON and a newline
	Container Form      // container-credentials JSON
	IMDS      Form      // the metadata service's document

	value aws.Credentials
}

// Form is one form of a credential.
type Form struct {
	Body   []byte
	Length []string // the header Content-Length
}

// New checks what can be checked for the credential's whole life and writes it
// down. The errors' text is for whoever asks, and holds no secret.
func New(v aws.Credentials) (*Set, error) {
	switch {
	case v.AccessKeyID == "" || v.SecretAccessKey == "" || v.SessionToken == "":
		return nil, errors.New("the credentials source returned an incomplete credential")
	case !v.CanExpire || v.Expires.IsZero():
		return nil, errors.New("the credentials source returned a credential without an expiry")
	}
	s := &Set{value: v, Expires: v.Expires.Round(0).UTC().Truncate(time.Second)}
	if err := s.write(time.Now()); err != nil {
		return nil, err
	}
	return s, nil
}

// Of reports whether s is of this credential.
func (s *Set) Of(v aws.Credentials) bool { return s.value == v }

// Expired judges by the wall clock, as AWS does: a suspended machine's monotonic
// clock may have stood still.
func (s *Set) Expired() bool { return !s.Expires.After(time.Now().Round(0)) }

// KeySuffix is how the key is named in logs.
func (s *Set) KeySuffix() string {
	id := s.value.AccessKeyID
	if len(id) <= 4 {
		return ""
	}
	return id[len(id)-4:]
}

// write makes the forms. known is when the credential became known.
func (s *Set) write(known time.Time) (err error) {
	v, expiration := s.value, s.Expires.Format(stamp)
	if s.Process, err = encode(struct {
		Version         int
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
		AccountID       string `json:"AccountId,omitempty"`
	}{1, v.AccessKeyID, v.SecretAccessKey, v.SessionToken, expiration, v.AccountID}); err != nil {
		return err
	}
	if s.Container, err = encode(struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
		Expiration      string
		AccountID       string `json:"AccountId,omitempty"`
	}{v.AccessKeyID, v.SecretAccessKey, v.SessionToken, expiration, v.AccountID}); err != nil {
		return err
	}
	s.IMDS, err = encode(struct {
		Code, LastUpdated, Type string
		AccessKeyID             string `json:"AccessKeyId"`
		SecretAccessKey         string
		Token                   string
		Expiration              string
	}{"Success", known.UTC().Format(stamp), "AWS-HMAC", v.AccessKeyID, v.SecretAccessKey, v.SessionToken, expiration})
	return err
}

// encode returns v as JSON and a newline.
func encode(v any) (Form, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return Form{}, fmt.Errorf("encoding the credential: %w", err)
	}
	if b.Len() > MaxBody {
		return Form{}, fmt.Errorf("the credential takes %d bytes, more than the %d that every client accepts", b.Len(), MaxBody)
	}
	return Form{Body: b.Bytes(), Length: []string{strconv.Itoa(b.Len())}}, nil
}
