package credserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
)

// maxBody is the smallest limit that a client puts on a credential process's
// output (aws-sdk-go v1), in bytes.
const maxBody = 8 << 10

// credential is a checked value of the provider, rendered once for each face.
type credential struct {
	value     aws.Credentials
	expires   time.Time   // as handed out: whole seconds, UTC
	audit     *zap.Logger // of the lines that say who got it: what they share is laid down once
	process   []byte      // process-credentials JSON and a newline
	container []byte      // container-credentials JSON
	imds      []byte      // the metadata service's document
}

// vend returns the credential to hand to who, having recorded it, or a refusal.
func (f *face) vend(ctx context.Context, who caller) (*credential, error) {
	c, err := f.server.current(ctx, f.patience)
	if err != nil {
		f.server.failures.Add(1)
		return nil, err
	}
	f.recordVend(who, c)
	return c, nil
}

// current asks the provider, which may take so long to have its first
// credential, and checks what it says.
func (s *Server) current(ctx context.Context, patience time.Duration) (*credential, error) {
	waiting := &patientContext{Context: ctx, patience: patience}
	defer waiting.cancel()
	value, err := s.credentials.Retrieve(waiting)
	if err != nil {
		var coded coder
		if waiting.Err() != nil && !errors.As(err, &coded) {
			return nil, &refusal{code: "not_ready", message: "there is no credential yet; ask again in a few seconds", cause: err}
		}
		return nil, err
	}
	c := s.rendered.Load()
	if c == nil || c.value != value {
		if c, err = render(value); err != nil {
			return nil, err
		}
		c.audit = s.log.With(zap.String("key_id_suffix", suffix(value.AccessKeyID)), zap.Time("expires", c.expires))
		s.rendered.Store(c)
	}
	if c.expired() {
		return nil, &refusal{code: "expired", message: fmt.Sprintf("the last credential expired at %s and none has replaced it", c.expires.Format(time.RFC3339))}
	}
	return c, nil
}

// expired judges by the wall clock, as AWS does: a suspended machine's monotonic
// clock may have stood still.
func (c *credential) expired() bool { return !c.expires.After(time.Now().Round(0)) }

// render checks what can be checked for the credential's whole life and lays
// down its bytes.
func render(v aws.Credentials) (*credential, error) {
	switch {
	case v.AccessKeyID == "" || v.SecretAccessKey == "" || v.SessionToken == "":
		return nil, &refusal{code: "failed", message: "the credentials source returned an incomplete credential"}
	case !v.CanExpire || v.Expires.IsZero():
		return nil, &refusal{code: "failed", message: "the credentials source returned a credential without an expiry"}
	}
	c := &credential{
		value:   v,
		expires: v.Expires.Round(0).UTC().Truncate(time.Second),
	}
	if err := c.layDown(time.Now()); err != nil {
		return nil, err
	}
	return c, nil
}

const stamp = "2006-01-02T15:04:05Z"

// layDown writes the bytes of each face. updated is when the credential became
// known.
func (c *credential) layDown(updated time.Time) (err error) {
	v, expiration := c.value, c.expires.Format(stamp)
	if c.process, err = encode(struct {
		Version         int
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
		AccountID       string `json:"AccountId,omitempty"`
	}{1, v.AccessKeyID, v.SecretAccessKey, v.SessionToken, expiration, v.AccountID}); err != nil {
		return err
	}
	if c.container, err = encode(struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
		Expiration      string
		AccountID       string `json:"AccountId,omitempty"`
	}{v.AccessKeyID, v.SecretAccessKey, v.SessionToken, expiration, v.AccountID}); err != nil {
		return err
	}
	c.imds, err = encode(struct {
		Code, LastUpdated, Type string
		AccessKeyID             string `json:"AccessKeyId"`
		SecretAccessKey         string
		Token                   string
		Expiration              string
	}{"Success", updated.UTC().Format(stamp), "AWS-HMAC", v.AccessKeyID, v.SecretAccessKey, v.SessionToken, expiration})
	return err
}

// encode returns v as JSON and a newline.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding the credential: %w", err)
	}
	if b.Len() > maxBody {
		return nil, &refusal{code: "failed", message: fmt.Sprintf("the credential takes %d bytes, more than the %d that every client accepts", b.Len(), maxBody)}
	}
	return b.Bytes(), nil
}

// suffix is how a key id is named in logs.
func suffix(keyID string) string {
	if len(keyID) <= 4 {
		return ""
	}
	return keyID[len(keyID)-4:]
}
