package iameval

import (
	"strings"
	"testing"
)

// TestMissingKey is the truth table of an absent key for every operator, with
// every modifier. The same must hold for a key that is there without values.
func TestMissingKey(t *testing.T) {
	t.Parallel()
	value := map[string]string{"Bool": "true", "Numeric": "1", "Date": "2026-01-01", "IpAddress": "10.0.0.1", "NotIp": "10.0.0.1", "Binary": "QQ=="}
	for _, tt := range []struct {
		base    string
		negated bool
	}{
		{"StringEquals", false}, {"StringNotEquals", true},
		{"StringEqualsIgnoreCase", false}, {"StringNotEqualsIgnoreCase", true},
		{"StringLike", false}, {"StringNotLike", true},
		{"ArnEquals", false}, {"ArnNotEquals", true}, {"ArnLike", false}, {"ArnNotLike", true},
		{"Bool", false}, {"BinaryEquals", false},
		{"NumericEquals", false}, {"NumericNotEquals", true}, {"NumericLessThan", false},
		{"NumericLessThanEquals", false}, {"NumericGreaterThan", false}, {"NumericGreaterThanEquals", false},
		{"DateEquals", false}, {"DateNotEquals", true}, {"DateLessThan", false},
		{"DateLessThanEquals", false}, {"DateGreaterThan", false}, {"DateGreaterThanEquals", false},
		{"IpAddress", false}, {"NotIpAddress", true},
	} {
		want := "*"
		for prefix, v := range value {
			if strings.HasPrefix(tt.base, prefix) {
				want = v
			}
		}
		for name, expected := range map[string]bool{
			tt.base:                                tt.negated,
			tt.base + "IfExists":                   true,
			"ForAllValues:" + tt.base:              true,
			"ForAnyValue:" + tt.base:               false,
			"ForAllValues:" + tt.base + "IfExists": true,
			"ForAnyValue:" + tt.base + "IfExists":  false,
		} {
			c := Condition{Operator: name, Key: "aws:x", Values: []string{want}}
			for _, context := range []map[string][]string{nil, {"aws:x": {}}, {"aws:y": {"*"}}} {
				got, why := c.holds(newContextKeys(context), true)
				if got != expected {
					t.Errorf("%s with context %v: %v, want %v", name, context, got, expected)
				}
				if !got && !strings.Contains(why, "no such key") {
					t.Errorf("%s: %q does not say that the key is missing", name, why)
				}
			}
		}
	}
}

func TestConditionValues(t *testing.T) {
	t.Parallel()
	const (
		arnA = "arn:aws:iam::111122223333:role/a"
		arnB = "arn:aws:iam::111122223333:role/b"
	)
	for _, tt := range []struct {
		operator string
		policy   []string
		request  []string
		want     bool
	}{
		{"StringEquals", []string{"a"}, []string{"a"}, true},
		{"StringEquals", []string{"a"}, []string{"A"}, false},
		{"StringEquals", []string{"b", "a"}, []string{"a"}, true},
		{"StringEquals", []string{"*"}, []string{"a"}, false},
		{"StringEquals", []string{""}, []string{""}, true},
		{"StringEquals", []string{"a"}, []string{""}, false},
		{"StringNotEquals", []string{"a"}, []string{"b"}, true},
		{"StringNotEquals", []string{"a", "b"}, []string{"b"}, false},
		{"StringEqualsIgnoreCase", []string{"aB"}, []string{"Ab"}, true},
		{"StringNotEqualsIgnoreCase", []string{"aB"}, []string{"Ab"}, false},
		{"StringLike", []string{"a*"}, []string{"abc"}, true},
		{"StringLike", []string{"a*"}, []string{"Abc"}, false},
		{"StringLike", []string{"*"}, []string{""}, true},
		{"StringNotLike", []string{"a*"}, []string{"abc"}, false},
		{"StringLike", []string{"a${*}"}, []string{"a*"}, true},
		{"StringLike", []string{"a${*}"}, []string{"ab"}, false},
		{"StringEquals", []string{"${$}{aws:userid}"}, []string{"${aws:userid}"}, true},
		{"StringEqualsIfExists", []string{"a"}, []string{"b"}, false},
		{"StringNotEqualsIfExists", []string{"a"}, []string{"a"}, false},

		{"ArnEquals", []string{"arn:aws:iam::*:role/?"}, []string{arnA}, true},
		{"ArnLike", []string{arnA, arnB}, []string{arnB}, true},
		{"ArnNotEquals", []string{arnA}, []string{arnB}, true},
		{"ArnNotLike", []string{"arn:aws:iam::*:role/*"}, []string{arnB}, false},
		{"ArnEquals", []string{arnA}, []string{"garbage"}, false},
		{"ArnEquals", []string{"garbage"}, []string{"garbage"}, false},
		{"ArnNotEquals", []string{arnA}, []string{"garbage"}, true},
		{"ArnEquals", []string{"${aws:PrincipalArn}"}, []string{"arn:aws:iam::111122223333:role/service-role/R"}, true},

		{"Bool", []string{"true"}, []string{"True"}, true},
		{"Bool", []string{"false"}, []string{"true"}, false},
		{"Bool", []string{"true"}, []string{"yes"}, false},

		{"Null", []string{"true"}, nil, true},
		{"Null", []string{"true"}, []string{}, true},
		{"Null", []string{"true"}, []string{""}, false},
		{"Null", []string{"false"}, nil, false},
		{"Null", []string{"false"}, []string{"a", "b"}, true},

		{"NumericEquals", []string{"10"}, []string{"10.0"}, true},
		{"NumericNotEquals", []string{"10"}, []string{"10.0"}, false},
		{"NumericNotEquals", []string{"10"}, []string{"ten"}, true},
		{"NumericLessThan", []string{"10"}, []string{"9"}, true},
		{"NumericLessThan", []string{"10"}, []string{"10"}, false},
		{"NumericLessThanEquals", []string{"10"}, []string{"10"}, true},
		{"NumericGreaterThan", []string{"-1"}, []string{"0"}, true},
		{"NumericGreaterThanEquals", []string{"10"}, []string{"9.99"}, false},
		{"NumericLessThan", []string{"10"}, []string{"NaN"}, false},
		{"NumericLessThan", []string{"10"}, []string{"-Inf"}, false},
		{"NumericLessThan", []string{"10"}, []string{""}, false},

		{"DateLessThan", []string{"2026-01-31T12:00:00Z"}, []string{"2026-01-31T11:59:59Z"}, true},
		{"DateLessThan", []string{"2026-01-31T12:00:00Z"}, []string{"2026-01-31T12:30:00+01:00"}, true},
		{"DateLessThan", []string{"2026-01-31T12:00:00.5Z"}, []string{"2026-01-31T12:00:00.4Z"}, true},
		{"DateGreaterThan", []string{"2020-01-01"}, []string{"1767225600"}, true},
		{"DateEquals", []string{"2026"}, []string{"2026-01-01T00:00:00Z"}, true},
		{"DateEquals", []string{"1767225600"}, []string{"2026-01-01T00:00Z"}, true},
		{"DateNotEquals", []string{"2026-01"}, []string{"2026-01-01"}, false},
		{"DateLessThanEquals", []string{"2026-01-01"}, []string{"2026-01-01"}, true},
		{"DateGreaterThanEquals", []string{"2026-01-01"}, []string{"2025-12-31T23:59:59Z"}, false},
		{"DateLessThan", []string{"2026-01-01"}, []string{"never"}, false},

		{"IpAddress", []string{"203.0.113.0/24"}, []string{"203.0.113.7"}, true},
		{"IpAddress", []string{"203.0.113.9/24"}, []string{"203.0.113.7"}, true},
		{"IpAddress", []string{"203.0.113.7"}, []string{"203.0.113.7"}, true},
		{"IpAddress", []string{"203.0.113.7"}, []string{"203.0.113.8"}, false},
		{"IpAddress", []string{"203.0.113.0/24"}, []string{"::ffff:203.0.113.7"}, true},
		{"IpAddress", []string{"2001:db8::/32"}, []string{"2001:db8::1"}, true},
		{"IpAddress", []string{"0.0.0.0/0"}, []string{"2001:db8::1"}, false},
		{"IpAddress", []string{"0.0.0.0/0"}, []string{"amazonaws.com"}, false},
		{"NotIpAddress", []string{"203.0.113.0/24"}, []string{"203.0.113.7"}, false},
		{"NotIpAddress", []string{"203.0.113.0/24"}, []string{"192.0.2.1"}, true},

		{"BinaryEquals", []string{"QUI="}, []string{"AB"}, true},
		{"BinaryEquals", []string{"QUI="}, []string{"QUI="}, false},

		// Several values in the request.
		{"ForAllValues:StringEquals", []string{"a", "b", "c"}, []string{"a", "b"}, true},
		{"ForAllValues:StringEquals", []string{"a", "b", "c"}, []string{"a", "d"}, false},
		{"ForAnyValue:StringEquals", []string{"a", "b"}, []string{"d", "b"}, true},
		{"ForAnyValue:StringEquals", []string{"a", "b"}, []string{"d", "e"}, false},
		{"ForAllValues:StringNotEquals", []string{"a", "b"}, []string{"c", "d"}, true},
		{"ForAllValues:StringNotEquals", []string{"a", "b"}, []string{"a", "c"}, false},
		{"ForAnyValue:StringNotEquals", []string{"a", "b"}, []string{"a", "b"}, false},
		{"ForAnyValue:StringNotEquals", []string{"a", "b"}, []string{"a", "c"}, true},
		{"ForAllValues:StringLike", []string{"nb-*"}, []string{"nb-1", "nb-2"}, true},
		{"ForAllValues:StringEquals", []string{"a"}, []string{""}, true},
		{"ForAnyValue:StringEquals", []string{""}, []string{""}, false},
		{"StringEquals", []string{"a"}, []string{"a", "b"}, false},
		{"StringNotEquals", []string{"z"}, []string{"a", "b"}, false},

		// Variables.
		{"StringEquals", []string{"${aws:PrincipalTag/nbidentity}"}, []string{"alice-nb"}, true},
		{"StringEquals", []string{"${AWS:principaltag/NBidentity}"}, []string{"alice-nb"}, true},
		{"StringEquals", []string{"${aws:PrincipalTag/nbidentity}"}, []string{"bob-nb"}, false},
		{"StringEquals", []string{"${aws:PrincipalTag/none}"}, []string{"alice-nb"}, false},
		{"StringEquals", []string{"${aws:PrincipalTag/none}"}, []string{""}, false},
		{"StringLike", []string{"${aws:PrincipalTag/none}*"}, []string{"alice-nb"}, false},
		{"StringLike", []string{"${aws:PrincipalTag/star}"}, []string{"alice-nb"}, false},
		{"StringLike", []string{"${aws:PrincipalTag/none}", "alice*"}, []string{"alice-nb"}, true},
		{"StringNotEquals", []string{"${aws:PrincipalTag/none}"}, []string{"alice-nb"}, true},
		{"StringNotEquals", []string{"${aws:PrincipalTag/none}", "z"}, []string{"alice-nb"}, true},
		{"StringNotEquals", []string{"${aws:PrincipalTag/none}", "alice-nb"}, []string{"alice-nb"}, false},
		{"StringNotLike", []string{"${aws:PrincipalTag/none}*"}, []string{"alice-nb"}, true},
		{"ArnNotLike", []string{"arn:aws:s3:::${aws:PrincipalTag/none}"}, []string{"arn:aws:s3:::x"}, true},
		{"ForAnyValue:StringNotEquals", []string{"${aws:PrincipalTag/none}"}, []string{"a", "b"}, true},
		{"StringNotEquals", []string{"${aws:PrincipalTag/nbidentity}"}, []string{"bob-nb"}, true},
		{"StringEquals", []string{"${aws:PrincipalTag/none, 'bob-nb'}"}, []string{"bob-nb"}, true},
		{"StringEqualsIfExists", []string{"${aws:PrincipalTag/none}"}, []string{"alice-nb"}, false},
		{"StringEquals", []string{"${aws:TagKeys}"}, []string{"a"}, false},

		// Operators without letter case.
		{"foranyvalue:stringequalsifexists", []string{"a"}, []string{"a"}, true},
	} {
		context := map[string][]string{
			"aws:PrincipalTag/nbidentity": {"alice-nb"}, "aws:PrincipalTag/star": {"*"}, "aws:TagKeys": {"a", "b"},
			"aws:PrincipalArn": {"arn:aws:iam::111122223333:role/service-role/R"},
		}
		if tt.request != nil {
			context["Test:Key"] = tt.request
		}
		c := Condition{Operator: tt.operator, Key: "test:kEY", Values: tt.policy}
		got, why := c.holds(newContextKeys(context), true)
		if got != tt.want {
			t.Errorf("%s %q with %q: %v (%s)", tt.operator, tt.policy, tt.request, got, why)
		}
		if got == (why != "") {
			t.Errorf("%s %q with %q: %v, reason %q", tt.operator, tt.policy, tt.request, got, why)
		}
	}
	// A hand-made condition that ParseDocument would refuse holds never.
	for _, c := range []Condition{{}, {Operator: "StringNotEquals", Key: "test:key", Values: []string{"${open"}}, {Operator: "Nonsense", Key: "test:key", Values: []string{"a"}}, {Operator: "StringEquals", Key: "test:key"}} {
		if got, _ := c.holds(newContextKeys(map[string][]string{"test:key": {"a"}}), true); got {
			t.Errorf("%+v holds", c)
		}
	}
}

func TestConditionReason(t *testing.T) {
	t.Parallel()
	keys := newContextKeys(map[string][]string{"sts:SourceIdentity": {"bob-nb"}, "aws:PrincipalTag/nbidentity": {"alice-nb"}, "aws:SourceIdentity": {"x\ny"}})
	for _, tt := range []struct {
		c    Condition
		want string
	}{
		{Condition{"StringEquals", "sts:SourceIdentity", []string{"${aws:PrincipalTag/nbidentity}"}},
			`condition StringEquals sts:SourceIdentity: the request has "bob-nb", expected "alice-nb"`},
		{Condition{"StringNotLike", "sts:SourceIdentity", []string{"bob*"}},
			`condition StringNotLike sts:SourceIdentity: the request has "bob-nb", expected anything but "bob*"`},
		{Condition{"StringEquals", "sts:RoleSessionName", []string{"a", "b"}},
			`condition StringEquals sts:RoleSessionName: the request has no such key, expected "a" or "b"`},
		{Condition{"StringEquals", "sts:SourceIdentity", []string{"${aws:PrincipalTag/none}"}},
			`condition StringEquals sts:SourceIdentity: ${aws:PrincipalTag/none} has no value in this request`},
		{Condition{"Null", "aws:SourceIdentity", []string{"true"}},
			`condition Null aws:SourceIdentity: expected the key to be absent`},
		{Condition{"Null", "aws:PrincipalTag/none", []string{"false"}},
			`condition Null aws:PrincipalTag/none: expected the key to be present`},
		{Condition{"StringEquals", "aws:SourceIdentity", []string{"1", "2", "3", "4", "5", "6"}},
			`condition StringEquals aws:SourceIdentity: the request has "x` + "\uFFFD" + `y", expected "1" or "2" or "3" or "4" or 2 more`},
	} {
		if _, why := tt.c.holds(keys, true); why != tt.want {
			t.Errorf("got  %s\nwant %s", why, tt.want)
		}
	}
}
