package document

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

func TestKeySuffix(t *testing.T) {
	for in, want := range map[string]string{"": "", "ABCD": "", "ABCDE": "BCDE"} {
		s := Set{value: aws.Credentials{AccessKeyID: in}}
		if got := s.KeySuffix(); got != want {
			t.Errorf("KeySuffix of %q = %q, want %q", in, got, want)
		}
	}
}

// The expiry that is written is never later than the true one, and a credential
// ends by the wall clock.
func TestExpiry(t *testing.T) {
	v := aws.Credentials{AccessKeyID: "ASIATESTEXAMPLE", SecretAccessKey: "s", SessionToken: "t", CanExpire: true}
	v.Expires = time.Now().Add(999 * time.Millisecond)
	s, err := New(v)
	if err != nil {
		t.Fatal(err)
	}
	if s.Expires.After(v.Expires) || s.Expires.Nanosecond() != 0 || !s.Of(v) {
		t.Errorf("expires %v, want no later than %v in whole seconds", s.Expires, v.Expires)
	}
	v.Expires = time.Now().Add(-time.Second)
	if s, err = New(v); err != nil || !s.Expired() {
		t.Errorf("after its end: %v, %v", s, err)
	}
}
