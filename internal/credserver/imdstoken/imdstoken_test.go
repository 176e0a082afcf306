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
	if !i.Valid(token, "uid 1000") {
		t.Error("a good token does not pass")
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
		if i.Valid(bad.token, bad.bearer) {
			t.Errorf("%s passes", name)
		}
	}
	for at := range token {
		for _, bit := range []byte{1, 2, 4, 8, 16} {
			forged := token[:at] + string(token[at]^bit) + token[at+1:]
			if i.Valid(forged, "uid 1000") {
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
		if !i.Valid(token, "x") {
			t.Error("dead before its end")
		}
		time.Sleep(time.Millisecond)
		if i.Valid(token, "x") {
			t.Error("alive at its end")
		}
	})
}

// Whatever is sent, only what was issued passes.
func FuzzValid(f *testing.F) {
	i := New()
	f.Add(i.Issue("a bearer that is not guessed", time.Hour), "y")
	f.Add("", "x")
	f.Add(strings.Repeat("A", Length), "x")
	f.Fuzz(func(t *testing.T, token, bearer string) {
		if i.Valid(token, bearer) {
			t.Errorf("%q passes for %q", token, bearer)
		}
	})
}

func BenchmarkValid(b *testing.B) {
	i := New()
	token := i.Issue("uid 1000", time.Hour)
	for b.Loop() {
		i.Valid(token, "uid 1000")
	}
}

// A token that was good lives to its end and no longer.
func TestLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := New()
		token := i.Issue("1000", time.Minute)
		for _, after := range []time.Duration{0, 59 * time.Second, 60 * time.Second, time.Hour} {
			begin := time.Now()
			time.Sleep(after - begin.Sub(i.started))
			if want := after < time.Minute; i.Lives(token) != want || i.Valid(token, "1000") != want {
				t.Errorf("after %v: lives %v, valid %v, want %v", after, i.Lives(token), i.Valid(token, "1000"), want)
			}
		}
		if i.Lives("") || i.Lives("x") || i.Lives(strings.Repeat("x", 1000)) {
			t.Error("what is no token lives")
		}
	})
}
