package iameval

import "strings"

// Wildcards inside a pattern. No rune of a text is negative, so a substituted
// variable can never act as a wildcard.
const (
	anyRun rune = -1 // *
	anyOne rune = -2 // ?
)

// pattern is a policy string with its wildcards told apart from its text.
type pattern []rune

// parsePattern reads * and ? as wildcards.
func parsePattern(s string) pattern {
	p := pattern(s)
	for i, r := range p {
		switch r {
		case '*':
			p[i] = anyRun
		case '?':
			p[i] = anyOne
		}
	}
	return p
}

func (p pattern) String() string {
	var b strings.Builder
	for _, r := range p {
		switch r {
		case anyRun:
			r = '*'
		case anyOne:
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// match reports whether the whole of s matches. It goes back only to the last
// star, so its time is at most len(p) × len(s).
func (p pattern) match(s []rune) bool {
	star, mark := -1, 0
	pi, si := 0, 0
	for si < len(s) {
		switch {
		case pi < len(p) && p[pi] == anyRun:
			star, mark = pi, si
			pi++
		case pi < len(p) && (p[pi] == anyOne || p[pi] == s[si]):
			pi++
			si++
		case star >= 0:
			mark++
			pi, si = star+1, mark
		default:
			return false
		}
	}
	for pi < len(p) && p[pi] == anyRun {
		pi++
	}
	return pi == len(p)
}

// matchARN compares the six colon-separated parts one by one, so a wildcard
// does not reach over a colon except in the last part. A lone * matches every
// ARN; a text that is no ARN matches nothing.
func (p pattern) matchARN(s string) bool {
	parts, ok := splitARN([]rune(s))
	if !ok {
		return false
	}
	if len(p) == 1 && p[0] == anyRun {
		return true
	}
	patterns, ok := splitARN(p)
	if !ok {
		return false
	}
	for i := range parts {
		if !pattern(patterns[i]).match(parts[i]) {
			return false
		}
	}
	return true
}

func splitARN(s []rune) (parts [6][]rune, ok bool) {
	n, start := 0, 0
	for i, r := range s {
		if r == ':' && n < 5 {
			parts[n] = s[start:i]
			n, start = n+1, i+1
		}
	}
	parts[n] = s[start:]
	return parts, n == 5
}

// arnAccount returns the account of an ARN, "" when there is none.
func arnAccount(arn string) string {
	parts, ok := splitARN([]rune(arn))
	if !ok {
		return ""
	}
	return string(parts[4])
}

func matchAction(name, action string) bool {
	return parsePattern(strings.ToLower(name)).match([]rune(strings.ToLower(action)))
}

// matchResource compares a Resource entry; an entry with an unresolvable
// variable matches nothing.
func matchResource(entry, resource string, variables bool, keys contextKeys) (bool, error) {
	if entry == "*" {
		return true, nil
	}
	p, err := expand(entry, variables, true, keys)
	if err != nil {
		return false, err
	}
	return p.matchARN(resource), nil
}
