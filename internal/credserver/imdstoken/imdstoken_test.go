package imdstoken

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestToken(t *testing.T) {
	i := New()
	token := i.Issue("uid 1000", time.Minute)
	if len(token) != Length || strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		t.Errorf("token %q", token)
	}
	if left, ok := i.Left(token, "uid 1000"); !ok || left > time.Minute || left < 50*time.Second {
		t.Errorf("left %v, %v", left, ok)
	}
	if again := i.Issue("uid 1000", time.Minute); again == token {
		t.Error("two tokens are the same")
	}
	for name, bad := range map[string]struct{ token, bearer string }{
		"empty":          {"", "uid 1000"},
		"another bearer": {token, "uid 1001"},
		"longer bearer":  {token, "uid 10000"},
		"no bearer":      {token, ""},
		"foreign":        {New().Issue("uid 1000", time.Minute), "uid 1000"},
		"cut":            {token[:Length-4], "uid 1000"},
		"longer":         {token + token[:4], "uid 1000"},
		"line break":     {token[:Length-1] + "\n", "uid 1000"},
		"zeros":          {base64.URLEncoding.EncodeToString(make([]byte, tokenSize)), "uid 1000"},
	} {
		if _, ok := i.Left(bad.token, bad.bearer); ok {
			t.Errorf("%s passes", name)
		}
	}
	for at := range token {
		for _, bit := range []byte{1, 2, 4, 8, 16} {
			forged := token[:at] + string(token[at]^bit) + token[at+1:]
			if _, ok := i.Left(forged, "uid 1000"); ok {
				t.Errorf("byte %d changed by %d passes", at, bit)
			}
		}
	}
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := New()
		time.Sleep(time.Hour)
		token := i.Issue("x", time.Minute)
		time.Sleep(time.Minute - time.Millisecond)
		if left, ok := i.Left(token, "x"); !ok || left != time.Millisecond {
			t.Errorf("before its end: %v, %v", left, ok)
		}
		time.Sleep(time.Millisecond)
		if left, ok := i.Left(token, "x"); ok {
			t.Errorf("at its end: %v", left)
		}
	})
}

// Whatever is sent, only what was issued passes.
func FuzzLeft(f *testing.F) {
	i := New()
	f.Add(i.Issue("a bearer that is not guessed", time.Hour), "y")
	f.Add("", "x")
	f.Add(strings.Repeat("A", Length), "x")
	f.Fuzz(func(t *testing.T, token, bearer string) {
		if _, ok := i.Left(token, bearer); ok {
			t.Errorf("%q passes for %q", token, bearer)
		}
	})
}

func BenchmarkLeft(b *testing.B) {
	i := New()
	token := i.Issue("uid 1000", time.Hour)
	for b.Loop() {
		i.Left(token, "uid 1000")
	}
}
