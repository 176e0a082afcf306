package wire

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// hidden replaces the value of a parameter that holds a secret.
const hidden = "HIDDEN_DUE_TO_SECURITY_REASONS"

// Parameters are the requestParameters of c's CloudTrail record: keys begin
// with a lower-case letter, lists in a Query are lists, secrets are withheld.
// It returns nil when there are none.
func (c *Call) Parameters() any {
	var p map[string]any
	switch c.Protocol {
	case S3:
		p = map[string]any{"Host": c.s3Host}
		if c.Bucket != "" {
			p["bucketName"] = c.Bucket
		}
		if c.Key != "" {
			p["key"] = c.Key
		}
	case Query, EC2:
		p = formParameters(c.Form)
	default:
		if c.Body != nil {
			p = lowerKeys(c.Body).(map[string]any)
		}
	}
	if len(p) == 0 {
		return nil
	}
	return p
}

// Elements renders an answer as CloudTrail's responseElements.
func Elements(answer map[string]any) any { return lowerKeys(answer) }

// formParameters folds RoleName=x&Tags.member.1.Key=y into a tree. Only the
// first level of a list is folded; that is all CloudTrail readers look at.
func formParameters(form map[string][]string) map[string]any {
	p := map[string]any{}
	for _, k := range slices.Sorted(mapKeys(form)) {
		if k == "Action" || k == "Version" || strings.HasPrefix(k, "X-Amz-") || len(form[k]) == 0 {
			continue
		}
		name, list, isList := strings.Cut(k, ".")
		name = lowerFirst(name)
		if !isList {
			p[name] = withhold(name, form[k][0])
			continue
		}
		entry := map[string]any{lowerFirst(list): withhold(list, form[k][0])}
		old, _ := p[name].([]any)
		p[name] = append(old, entry)
	}
	return p
}

func mapKeys(m map[string][]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func lowerKeys(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[lowerFirst(k)] = withhold(k, lowerKeys(e))
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = lowerKeys(e)
		}
		return l
	default:
		return v
	}
}

func withhold(key string, v any) any {
	k := strings.ToLower(key)
	if strings.Contains(k, "password") || strings.Contains(k, "secretaccesskey") || strings.Contains(k, "secretstring") ||
		strings.Contains(k, "secretbinary") || strings.HasSuffix(k, "sessiontoken") {
		return hidden
	}
	return v
}

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[n:]
}
