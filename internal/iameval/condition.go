package iameval

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// contextKeys is a request context with its keys in lower case.
type contextKeys map[string][]string

func newContextKeys(context map[string][]string) contextKeys {
	keys := make(contextKeys, len(context))
	for k, values := range context {
		k = strings.ToLower(k)
		keys[k] = append(keys[k], values...)
	}
	return keys
}

// get returns the values of a key; none means that the key is absent.
func (k contextKeys) get(key string) []string { return k[strings.ToLower(key)] }

// Set operators.
const (
	forAllValues = "ForAllValues:"
	forAnyValue  = "ForAnyValue:"
)

// operator is a parsed condition operator.
type operator struct {
	comparison
	name     string // canonical, in full
	set      string // "", forAllValues or forAnyValue
	ifExists bool
}

// comparison is an operator without set operator and IfExists.
type comparison struct {
	base      string
	negated   bool
	strings   bool // its values may hold policy variables
	wildcards bool
	// valid says what is wrong with a policy value, nil when nothing is.
	valid func(want string) error
	// equal compares one policy value with one request value, before negation.
	equal func(want pattern, got string) bool
}

const nullOperator = "Null"

func parseOperator(s string) (operator, error) {
	var op operator
	rest := s
	for _, set := range []string{forAllValues, forAnyValue} {
		if len(rest) > len(set) && strings.EqualFold(rest[:len(set)], set) {
			op.set, rest = set, rest[len(set):]
			break
		}
	}
	const suffix = "IfExists"
	if cut := len(rest) - len(suffix); cut > 0 && strings.EqualFold(rest[cut:], suffix) {
		op.ifExists, rest = true, rest[:cut]
	}
	c, ok := comparisonNamed(rest)
	if !ok {
		return op, fmt.Errorf("%q is not a condition operator: use one such as StringEquals, StringLike, ArnLike, Bool or Null", clip(s))
	}
	op.comparison = c
	if c.base == nullOperator && (op.ifExists || op.set != "") {
		return op, fmt.Errorf("%q: Null itself asks whether the key exists: use plain Null", clip(s))
	}
	op.name = op.set + c.base
	if op.ifExists {
		op.name += suffix
	}
	return op, nil
}

// comparisonNamed looks an operator up; letter case does not count.
func comparisonNamed(name string) (comparison, bool) {
	arn := func(want pattern, got string) bool { return want.matchARN(got) }
	exact := func(want pattern, got string) bool { return want.String() == got }
	like := func(want pattern, got string) bool { return want.match([]rune(got)) }
	fold := func(want pattern, got string) bool { return strings.EqualFold(want.String(), got) }
	for _, c := range []comparison{
		{base: "StringEquals", strings: true, equal: exact},
		{base: "StringNotEquals", negated: true, strings: true, equal: exact},
		{base: "StringEqualsIgnoreCase", strings: true, equal: fold},
		{base: "StringNotEqualsIgnoreCase", negated: true, strings: true, equal: fold},
		{base: "StringLike", strings: true, wildcards: true, equal: like},
		{base: "StringNotLike", negated: true, strings: true, wildcards: true, equal: like},
		{base: "ArnEquals", strings: true, wildcards: true, equal: arn},
		{base: "ArnLike", strings: true, wildcards: true, equal: arn},
		{base: "ArnNotEquals", negated: true, strings: true, wildcards: true, equal: arn},
		{base: "ArnNotLike", negated: true, strings: true, wildcards: true, equal: arn},
		{base: "Bool", valid: validBool, equal: fold},
		{base: nullOperator, valid: validBool, equal: fold},
		{base: "BinaryEquals", valid: validBinary, equal: equalBinary},
		{base: "IpAddress", valid: validPrefix, equal: inPrefix},
		{base: "NotIpAddress", negated: true, valid: validPrefix, equal: inPrefix},
	} {
		if strings.EqualFold(c.base, name) {
			return c, true
		}
	}
	for _, family := range []string{"Numeric", "Date"} {
		if len(name) > len(family) && strings.EqualFold(name[:len(family)], family) {
			return ordered(family, name[len(family):])
		}
	}
	return comparison{}, false
}

// ordered returns the comparison of a family that has an order.
func ordered(family, relation string) (comparison, bool) {
	parse := parseNumber
	if family == "Date" {
		parse = parseDate
	}
	for _, r := range []struct {
		name    string
		negated bool
		accept  func(got, want float64) bool
	}{
		{"Equals", false, func(got, want float64) bool { return got == want }},
		{"NotEquals", true, func(got, want float64) bool { return got == want }},
		{"LessThan", false, func(got, want float64) bool { return got < want }},
		{"LessThanEquals", false, func(got, want float64) bool { return got <= want }},
		{"GreaterThan", false, func(got, want float64) bool { return got > want }},
		{"GreaterThanEquals", false, func(got, want float64) bool { return got >= want }},
	} {
		if strings.EqualFold(r.name, relation) {
			return comparison{
				base:    family + r.name,
				negated: r.negated,
				valid:   func(want string) error { _, err := parse(want); return err },
				equal: func(want pattern, got string) bool {
					w, errWant := parse(want.String())
					g, errGot := parse(got)
					return errWant == nil && errGot == nil && r.accept(g, w)
				},
			}, true
		}
	}
	return comparison{}, false
}

func (op operator) checkValue(want string, variables bool) error {
	if op.valid != nil {
		return op.valid(want)
	}
	_, err := parseTemplate(want, variables)
	return err
}

func validBool(want string) error {
	if strings.EqualFold(want, "true") || strings.EqualFold(want, "false") {
		return nil
	}
	return errors.New("must be true or false")
}

func validBinary(want string) error {
	if _, err := base64.StdEncoding.DecodeString(want); err != nil {
		return errors.New("must be base64")
	}
	return nil
}

func equalBinary(want pattern, got string) bool {
	b, err := base64.StdEncoding.DecodeString(want.String())
	return err == nil && string(b) == got
}

// parseNumber takes decimal notation only: no hexadecimal, infinity or NaN.
func parseNumber(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, errors.New("must be a number")
	}
	return n, nil
}

// parseDate takes the W3C forms of ISO 8601 and Unix seconds; four digits are
// a year. The result is in Unix seconds, exact to the microsecond.
func parseDate(s string) (float64, error) {
	for _, layout := range []string{"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01", "2006"} {
		if t, err := time.Parse(layout, s); err == nil {
			return float64(t.Unix()) + float64(t.Nanosecond()/1000)/1e6, nil
		}
	}
	n, err := parseNumber(s)
	if err != nil {
		return 0, errors.New("must be a date such as 2026-01-31T12:00:00Z or Unix seconds")
	}
	return n, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, errors.New("must be an IP address or a range in CIDR notation")
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func validPrefix(want string) error {
	_, err := parsePrefix(want)
	return err
}

func inPrefix(want pattern, got string) bool {
	p, err := parsePrefix(want.String())
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(got)
	return err == nil && p.Contains(a.Unmap())
}

// holds evaluates the condition. When it does not hold, why says so in words.
func (c Condition) holds(keys contextKeys, variables bool) (ok bool, why string) {
	op, err := parseOperator(c.Operator)
	if err != nil {
		return false, err.Error()
	}
	fail := func(format string, args ...any) (bool, string) {
		return false, fmt.Sprintf("condition %s %s: ", op.name, clip(c.Key)) + fmt.Sprintf(format, args...)
	}
	got := keys.get(c.Key)
	if op.base == nullOperator {
		got = []string{strconv.FormatBool(len(got) == 0)}
	} else if done, ok := op.withoutKey(got); done {
		if !ok {
			return fail("the request has no such key, expected %s", quoteAll(c.Values))
		}
		return true, ""
	}
	if len(got) > 1 && op.set == "" {
		return fail("the key has several values: use %s or %s", forAllValues, forAnyValue)
	}
	var wants []pattern
	var missing error
	for _, v := range c.Values {
		w, err := expand(v, op.strings && variables, op.wildcards, keys)
		var u unresolved
		switch {
		case errors.As(err, &u):
			missing = err // null, to which nothing is equal or like
		case err != nil:
			return fail("%v", err)
		default:
			wants = append(wants, w)
		}
	}
	if missing != nil && len(wants) == 0 && !op.negated {
		return fail("%v", missing)
	}
	if op.accepts(wants, got) {
		return true, ""
	}
	if op.base == nullOperator {
		return fail("expected the key to be %s", map[string]string{"true": "present", "false": "absent"}[got[0]])
	}
	expanded := make([]string, len(wants))
	for i, w := range wants {
		expanded[i] = w.String()
	}
	verb := "expected"
	if op.negated {
		verb = "expected anything but"
	}
	detail := ""
	if missing != nil {
		detail = fmt.Sprintf(" (%v)", missing)
	}
	return fail("the request has %s, %s %s%s", quoteAll(got), verb, quoteAll(expanded), detail)
}

// withoutKey settles the cases in which there is no value to compare. A set
// operator takes a lone empty string for an empty set too, and goes before
// IfExists.
func (op operator) withoutKey(got []string) (done, ok bool) {
	empty := len(got) == 0 || (op.set != "" && len(got) == 1 && got[0] == "")
	switch {
	case !empty:
		return false, false
	case op.set != "":
		return true, op.set == forAllValues
	}
	return true, op.ifExists || op.negated
}

// accepts compares at least one request value with the policy's alternatives.
func (op operator) accepts(wants []pattern, got []string) bool {
	for _, g := range got {
		hit := false
		for _, w := range wants {
			hit = hit || op.equal(w, g)
		}
		switch hit = hit != op.negated; {
		case hit && op.set == forAnyValue:
			return true
		case !hit && op.set != forAnyValue:
			return false
		}
	}
	return op.set != forAnyValue
}

// quoteAll lists values for a message.
func quoteAll(values []string) string {
	const limit = 4
	var quoted []string
	for i, v := range values {
		if i == limit {
			quoted = append(quoted, fmt.Sprintf("%d more", len(values)-limit))
			break
		}
		quoted = append(quoted, strconv.Quote(clip(v)))
	}
	return strings.Join(quoted, " or ")
}
