package iameval

import (
	"strings"
	"testing"
)

func TestGlob(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"**", "", true},
		{"?", "", false},
		{"?", "a", true},
		{"?", "é", true},
		{"??", "é", false},
		{"*?", "", false},
		{"?*", "abc", true},
		{"a*b", "ab", true},
		{"a*b", "abc", false},
		{"a*b*c", "abbbcbc", true},
		{"*ab", "aaab", true},
		{"*.txt", "a.txt.gz", false},
		{"a?c", "a*c", true},
		{"[a]", "a", false},
		{"a.c", "abc", false},
		{`a\*`, `a\b`, true},
		{"ABC", "abc", false},
		{"*alice*", "bob", false},
	} {
		if got := parsePattern(tt.pattern).match([]rune(tt.text)); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.text, got)
		}
	}
}

// TestGlobCatastrophe would take for ever with naive backtracking, of which the
// limit of go test would tell.
func TestGlobCatastrophe(t *testing.T) {
	t.Parallel()
	text := []rune(strings.Repeat("a", 5000))
	for _, pattern := range []string{
		strings.Repeat("*", 500) + "b",
		strings.Repeat("*a", 500) + "b",
		strings.Repeat("a*", 500) + "b",
		strings.Repeat("?*", 500) + "b",
		"*" + strings.Repeat("a", 500) + "b",
	} {
		if parsePattern(pattern).match(text) {
			t.Errorf("%.20s… matches", pattern)
		}
	}
}

func TestMatchARN(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, arn string
		want         bool
	}{
		{"*", "arn:aws:iam::111122223333:role/a", true},
		{"*", "alice", false},
		{"*", "*", false},
		{"arn:aws:iam::111122223333:role/nb-launch/*", "arn:aws:iam::111122223333:role/nb-launch/alice", true},
		{"arn:aws:iam::111122223333:role/nb-launch/*", "arn:aws:iam::111122223333:role/nb-launch", false},
		{"arn:aws:iam::111122223333:role/nb-launch/*", "arn:aws:iam::111122223333:role/x/nb-launch/alice", false},
		{"arn:aws:iam::*:role/a", "arn:aws:iam::444455556666:role/a", true},
		{"arn:aws:iam::1111????3333:role/a", "arn:aws:iam::111122223333:role/a", true},
		{"arn:*:role/a", "arn:aws:iam::111122223333:role/a", false},
		// The example of the user guide: a star does not reach over a colon …
		{"arn:aws:someservice:*:111122223333:finance/*", "arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt", false},
		// … except in the last part.
		{"arn:aws:logs:us-east-1:111122223333:*", "arn:aws:logs:us-east-1:111122223333:log-group:x:log-stream:y", true},
		{"arn:aws:s3:::bucket", "arn:aws:s3:::bucket2", false},
		{"arn:aws:s3:::Bucket", "arn:aws:s3:::bucket", false},
	} {
		if got := parsePattern(tt.pattern).matchARN(tt.arn); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.arn, got)
		}
	}
}

func TestMatchAction(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, action string
		want         bool
	}{
		{"*", "s3:GetObject", true},
		{"S3:getobject", "s3:GetObject", true},
		{"s3:Get*", "s3:GetObject", true},
		{"s3:Get?bject", "s3:GetObject", true},
		{"s3:*Tag*", "s3:GetObject", false},
		{"s3:Get", "s3:GetObject", false},
	} {
		if got := matchAction(tt.name, tt.action); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.name, tt.action, got)
		}
	}
}

// reference is the definition of a glob, without any cleverness.
func reference(p, s []rune) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == '*':
		return reference(p[1:], s) || len(s) > 0 && reference(p, s[1:])
	}
	return len(s) > 0 && (p[0] == '?' || p[0] == s[0]) && reference(p[1:], s[1:])
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("**a", "ba")
	f.Add("*a*b*", "xxaxxb")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		p, s := []rune(pattern), []rune(text)
		if len(p) > 12 || len(s) > 16 {
			return // the reference is exponential
		}
		if got, want := parsePattern(pattern).match(s), reference(p, s); got != want {
			t.Errorf("%q matches %q: %v, the reference says %v", pattern, text, got, want)
		}
	})
}

func TestResourceVariables(t *testing.T) {
	t.Parallel()
	keys := newContextKeys(map[string][]string{
		"aws:username": {"ali*"}, "AWS:PrincipalTag/Team": {"red"}, "aws:TagKeys": {"a", "b"}, "aws:PrincipalTag/empty": {""},
	})
	for _, tt := range []struct {
		entry, resource string
		want            bool
	}{
		{"arn:aws:s3:::home/${aws:username}/*", "arn:aws:s3:::home/ali*/x", true},
		{"arn:aws:s3:::home/${aws:username}/*", "arn:aws:s3:::home/alice/x", false}, // a value is no wildcard
		{"arn:aws:s3:::${aws:principaltag/team}", "arn:aws:s3:::red", true},
		{"arn:aws:s3:::${aws:PrincipalTag/none}", "arn:aws:s3:::", false},
		{"arn:aws:s3:::${aws:PrincipalTag/none}*", "arn:aws:s3:::x", false},
		{"arn:aws:s3:::${aws:PrincipalTag/none, 'every*'}", "arn:aws:s3:::every*", true},
		{"arn:aws:s3:::${aws:PrincipalTag/none, 'every*'}", "arn:aws:s3:::everyone", false},
		{"arn:aws:s3:::${aws:PrincipalTag/none,''}x", "arn:aws:s3:::x", true},
		{"arn:aws:s3:::${aws:PrincipalTag/empty}x", "arn:aws:s3:::x", true},
		{"arn:aws:s3:::${aws:PrincipalTag/Team, 'blue'}", "arn:aws:s3:::red", true},
		{"arn:aws:s3:::${aws:TagKeys}", "arn:aws:s3:::a", false}, // several values are no variable
		{"arn:aws:s3:::${*}${?}${$}", "arn:aws:s3:::*?$", true},
		{"arn:aws:s3:::${*}", "arn:aws:s3:::x", false},
		{"arn:aws:s3:::a$b", "arn:aws:s3:::a$b", true},
	} {
		got, _ := matchResource(tt.entry, tt.resource, true, keys)
		if got != tt.want {
			t.Errorf("%q covers %q: %v", tt.entry, tt.resource, got)
		}
	}
	if got, _ := matchResource("arn:aws:s3:::${aws:PrincipalTag/Team}", "arn:aws:s3:::${aws:PrincipalTag/Team}", false, keys); !got {
		t.Error("without variables the text does not match itself")
	}
}
