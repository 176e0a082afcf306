// Package stsquery reads the parameters of sts:AssumeRole as strictly as STS.
//
// It relies on the STS API reference for limits and patterns, and on published
// recordings of live STS for the words: every violated constraint is listed in
// one ValidationError, in the order of the API model; a duration that is no
// number is a MalformedInput without a message. It checks nothing that needs
// the account: whether the role exists, its maximum session, policies.
package stsquery

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

// AssumeRole are the parameters of one call.
type AssumeRole struct {
	RoleARN           string
	SessionName       string
	SourceIdentity    string
	DurationSeconds   int // 0 = not sent
	ExternalID        string
	SerialNumber      string
	TokenCode         string
	Policy            string
	PolicyARNs        []string
	Tags              map[string]string
	TagOrder          []string // keys of Tags as sent
	TransitiveTagKeys []string
}

var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]*$`)
	externalID    = regexp.MustCompile(`^[A-Za-z0-9_+=,.@:/-]*$`)
	serialPattern = regexp.MustCompile(`^[A-Za-z0-9_+=/:,.@-]*$`)
	codePattern   = regexp.MustCompile(`^[0-9]*$`)
	tagKey        = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]+$`)
	tagValue      = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
	policyText    = regexp.MustCompile(`^[\x{0009}\x{000A}\x{000D}\x{0020}-\x{00FF}]+$`)
	roleARN       = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+$`)
)

// violations collects broken constraints in STS's words.
type violations []string

func (v *violations) add(value, member, constraint string, args ...any) {
	*v = append(*v, fmt.Sprintf("Value %sat '%s' failed to satisfy constraint: ", value, member)+fmt.Sprintf(constraint, args...))
}

// text checks a string member. written is the pattern as STS prints it.
func (v *violations) text(f url.Values, name string, least, most int, pattern *regexp.Regexp, written string) string {
	member := strings.ToLower(name[:1]) + name[1:]
	if !f.Has(name) {
		return ""
	}
	s := f.Get(name)
	quoted := "'" + s + "' "
	if pattern != nil && !pattern.MatchString(s) {
		v.add(quoted, member, "Member must satisfy regular expression pattern: %s", written)
	}
	if n := utf8.RuneCountInString(s); n > most {
		v.add(quoted, member, "Member must have length less than or equal to %d", most)
	} else if n < least {
		v.add(quoted, member, "Member must have length greater than or equal to %d", least)
	}
	return s
}

// Parse reads and checks a call.
func Parse(f url.Values) (AssumeRole, *wire.Error) {
	var p AssumeRole
	var v violations
	for _, name := range []string{"RoleArn", "RoleSessionName"} {
		if !f.Has(name) {
			v.add("null ", strings.ToLower(name[:1])+name[1:], "Member must not be null")
		}
	}
	p.RoleARN = v.text(f, "RoleArn", 20, 2048, nil, "")
	p.SessionName = v.text(f, "RoleSessionName", 2, 64, namePattern, `[\w+=,.@-]*`)
	p.PolicyARNs = listOf(f, "PolicyArns", ".arn")
	if len(p.PolicyARNs) > 10 {
		v.add("", "policyArns", "Member must have length less than or equal to 10")
	}
	p.Policy = v.text(f, "Policy", 1, 2048, policyText, `[\u0009\u000A\u000D\u0020-\u00FF]+`)
	if s := f.Get("DurationSeconds"); f.Has("DurationSeconds") {
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return p, &wire.Error{Status: 400, Code: "MalformedInput", NoMessage: true}
		}
		p.DurationSeconds = int(n)
		if n > 43200 {
			v.add("'"+s+"' ", "durationSeconds", "Member must have value less than or equal to 43200")
		} else if n < 900 {
			v.add("'"+s+"' ", "durationSeconds", "Member must have value greater than or equal to 900")
		}
	}
	failure := p.tags(f, &v)
	p.ExternalID = v.text(f, "ExternalId", 2, 1224, externalID, `[\w+=,.@:\/-]*`)
	p.SerialNumber = v.text(f, "SerialNumber", 9, 256, serialPattern, `[\w+=/:,.@-]*`)
	p.TokenCode = v.text(f, "TokenCode", 6, 6, codePattern, `[\d]*`)
	p.SourceIdentity = v.text(f, "SourceIdentity", 2, 64, namePattern, `[\w+=,.@-]*`)
	if len(v) > 0 {
		plural := ""
		if len(v) > 1 {
			plural = "s"
		}
		return p, invalid("%d validation error%s detected: %s", len(v), plural, strings.Join(v, "; "))
	}
	if failure != nil {
		return p, failure
	}
	if !roleARN.MatchString(p.RoleARN) {
		return p, invalid("Request ARN is invalid")
	}
	if len(p.Policy)+len(strings.Join(p.PolicyARNs, "")) > 2048 {
		return p, &wire.Error{Status: 400, Code: "PackedPolicyTooLarge", Message: "Packed size of session policies exceeds the limit"}
	}
	return p, nil
}

func invalid(format string, args ...any) *wire.Error {
	return &wire.Error{Status: 400, Code: "ValidationError", Message: fmt.Sprintf(format, args...)}
}

// tags reads session tags; the returned error counts only when no constraint
// is violated.
func (p *AssumeRole) tags(f url.Values, v *violations) *wire.Error {
	keys, values := listOf(f, "Tags", ".Key"), listOf(f, "Tags", ".Value")
	if len(keys) > 50 {
		v.add("", "tags", "Member must have length less than or equal to 50")
	}
	p.TransitiveTagKeys = listOf(f, "TransitiveTagKeys", "")
	if len(p.TransitiveTagKeys) > 50 {
		v.add("", "transitiveTagKeys", "Member must have length less than or equal to 50")
	}
	folded := map[string]bool{}
	var failure *wire.Error
	for i, k := range keys {
		member := fmt.Sprintf("tags.%d.member.", i+1)
		if !tagKey.MatchString(k) || utf8.RuneCountInString(k) > 128 {
			v.add("'"+k+"' ", member+"key", `Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+`)
		}
		value := ""
		if i < len(values) {
			value = values[i]
		}
		if !tagValue.MatchString(value) || utf8.RuneCountInString(value) > 256 {
			v.add("'"+value+"' ", member+"value", `Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*`)
		}
		if folded[strings.ToLower(k)] {
			failure = parameter("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		folded[strings.ToLower(k)] = true
		if p.Tags == nil {
			p.Tags = map[string]string{}
		}
		p.Tags[k] = value
		p.TagOrder = append(p.TagOrder, k)
	}
	for _, k := range p.TransitiveTagKeys {
		if !folded[strings.ToLower(k)] && failure == nil {
			failure = parameter("The specified transitive tag key must be included in the requested tags.")
		}
	}
	return failure
}

func parameter(message string) *wire.Error {
	return &wire.Error{Status: 400, Code: "InvalidParameterValue", Message: message}
}

// Inherit adds the caller's transitive tags to the new session's tags and
// returns all its tags and those that go on.
func (p AssumeRole) Inherit(inherited map[string]string) (tags, transitive map[string]string, err *wire.Error) {
	for k := range p.Tags {
		for old := range inherited {
			if strings.EqualFold(k, old) {
				return nil, nil, parameter("One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
			}
		}
	}
	if len(p.Tags)+len(inherited) == 0 {
		return nil, nil, nil
	}
	tags, transitive = maps.Clone(p.Tags), maps.Clone(inherited)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, inherited)
	for k, v := range p.Tags {
		if slices.ContainsFunc(p.TransitiveTagKeys, func(t string) bool { return strings.EqualFold(t, k) }) {
			if transitive == nil {
				transitive = map[string]string{}
			}
			transitive[k] = v
		}
	}
	return tags, transitive, nil
}

// PackedSize is PackedPolicySize in percent; 0 when neither a session policy
// nor tags were passed, and then the response omits it.
func (p AssumeRole) PackedSize() int {
	n := len(p.Policy) + len(strings.Join(p.PolicyARNs, ""))
	for k, v := range p.Tags {
		n += len(k) + len(v)
	}
	return (n*100 + 2047) / 2048
}

// listOf reads Name.member.N + suffix for N = 1, 2, …
func listOf(f url.Values, name, suffix string) []string {
	var list []string
	for n := 1; n <= 100; n++ {
		k := name + ".member." + strconv.Itoa(n) + suffix
		if !f.Has(k) {
			break
		}
		list = append(list, f.Get(k))
	}
	return list
}
