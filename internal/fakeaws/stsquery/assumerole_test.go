package stsquery

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const good = "RoleArn=arn:aws:iam::111122223333:role/R&RoleSessionName=alice-nb"

func parse(t *testing.T, query string) (AssumeRole, string) {
	t.Helper()
	f, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	p, failure := Parse(f)
	if failure == nil {
		return p, ""
	}
	return p, failure.Code + ": " + failure.Message
}

func TestParse(t *testing.T) {
	p, failure := parse(t, good+"&SourceIdentity=a_%2B%3D,.@-&DurationSeconds=900&ExternalId=x1&Tags.member.1.Key=k&Tags.member.1.Value=v&Tags.member.2.Key=l&Tags.member.2.Value=&TransitiveTagKeys.member.1=k&PolicyArns.member.1.arn=arn:aws:iam::aws:policy/P")
	want := AssumeRole{
		RoleARN: "arn:aws:iam::111122223333:role/R", SessionName: "alice-nb", SourceIdentity: "a_+=,.@-", DurationSeconds: 900, ExternalID: "x1",
		PolicyARNs: []string{"arn:aws:iam::aws:policy/P"}, Tags: map[string]string{"k": "v", "l": ""}, TagOrder: []string{"k", "l"}, TransitiveTagKeys: []string{"k"},
	}
	if diff := cmp.Diff(want, p); failure != "" || diff != "" {
		t.Errorf("%s %s", failure, diff)
	}
	if got := p.PackedSize(); got < 1 || got > 100 {
		t.Errorf("packed size %d %%", got)
	}
	if got := (AssumeRole{}).PackedSize(); got != 0 {
		t.Errorf("packed size of nothing: %d", got)
	}
}

func TestRefusals(t *testing.T) {
	repeat := strings.Repeat
	tags := ""
	for i := range 51 {
		n := strconv.Itoa(i + 1)
		tags += "&Tags.member." + n + ".Key=k" + n
	}
	for _, tt := range []struct{ query, want string }{
		{"", "ValidationError: 2 validation errors detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null; Value null at 'roleSessionName' failed to satisfy constraint: Member must not be null"},
		{"RoleArn=&RoleSessionName=", "ValidationError: 2 validation errors detected: Value '' at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20; Value '' at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2"},
		{good + "&SourceIdentity=", "ValidationError: 1 validation error detected: Value '' at 'sourceIdentity' failed to satisfy constraint: Member must have length greater than or equal to 2"},
		{good + "&SourceIdentity=%0A%0A", "ValidationError: 1 validation error detected: Value '\n\n' at 'sourceIdentity' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*"},
		{good + "&DurationSeconds=", "MalformedInput: "},
		{good + "&DurationSeconds=1e3", "MalformedInput: "},
		{good + "&DurationSeconds=99999999999999999999", "MalformedInput: "},
		{good + "&DurationSeconds=-1", "ValidationError: 1 validation error detected: Value '-1' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"},
		{good + "&ExternalId=x", "at 'externalId' failed to satisfy constraint: Member must have length greater than or equal to 2"},
		{good + "&TokenCode=12345", "at 'tokenCode' failed to satisfy constraint: Member must have length greater than or equal to 6"},
		{good + "&SerialNumber=1", "at 'serialNumber' failed to satisfy constraint"},
		{good + "&Policy=" + repeat("a", 2049), "at 'policy' failed to satisfy constraint: Member must have length less than or equal to 2048"},
		{good + "&Policy=%E2%82%AC", "at 'policy' failed to satisfy constraint: Member must satisfy regular expression pattern"},
		{good + "&Policy=" + repeat("a", 2000) + "&PolicyArns.member.1.arn=" + repeat("a", 100), "PackedPolicyTooLarge: "},
		{good + tags, "Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50"},
		{good + "&Tags.member.1.Key=%22", "at 'tags.1.member.key' failed to satisfy constraint"},
		{good + "&Tags.member.1.Key=k&Tags.member.1.Value=" + repeat("a", 257), "at 'tags.1.member.value' failed to satisfy constraint"},
		{strings.Replace(good, "role/R", "user/R", 1), "ValidationError: Request ARN is invalid"},
		{strings.Replace(good, "arn:aws:iam", "arn:azure:iam", 1), "ValidationError: Request ARN is invalid"},
		{"RoleArn=arn:aws:sts::111122223333:assumed-role/R/s&RoleSessionName=aa", "ValidationError: Request ARN is invalid"},
	} {
		if _, got := parse(t, tt.query); !strings.Contains(got, tt.want) {
			t.Errorf("%.100s\n got: %s\nwant: %s", tt.query, got, tt.want)
		}
	}
}

func TestInherit(t *testing.T) {
	p := AssumeRole{Tags: map[string]string{"A": "1", "b": "2"}, TransitiveTagKeys: []string{"a"}}
	tags, transitive, failure := p.Inherit(map[string]string{"c": "3"})
	if failure != nil {
		t.Fatal(failure)
	}
	if diff := cmp.Diff([]map[string]string{{"A": "1", "b": "2", "c": "3"}, {"A": "1", "c": "3"}}, []map[string]string{tags, transitive}); diff != "" {
		t.Error(diff)
	}
	if _, _, failure := p.Inherit(map[string]string{"B": "x"}); failure == nil || failure.Code != "InvalidParameterValue" {
		t.Errorf("hiding an inherited tag: %v", failure)
	}
	if tags, transitive, _ := (AssumeRole{}).Inherit(nil); tags != nil || transitive != nil {
		t.Errorf("tags from nowhere: %v %v", tags, transitive)
	}
}

// FuzzParse: whatever is accepted keeps the limits that the rest relies on.
func FuzzParse(f *testing.F) {
	f.Add(good + "&SourceIdentity=alice-nb&DurationSeconds=900&Tags.member.1.Key=k&TransitiveTagKeys.member.1=k")
	f.Add("RoleArn=%00&Tags.member.1.Value=x&PolicyArns.member.1.arn=")
	f.Fuzz(func(t *testing.T, query string) {
		form, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		p, failure := Parse(form)
		if failure != nil {
			if failure.Status != 400 || failure.Code == "" {
				t.Errorf("refused with %+v", failure)
			}
			return
		}
		n := utf8.RuneCountInString(p.SessionName)
		if n < 2 || n > 64 || strings.Trim(p.SessionName, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=,.@-") != "" {
			t.Errorf("session name %q", p.SessionName)
		}
		if p.DurationSeconds != 0 && (p.DurationSeconds < 900 || p.DurationSeconds > 43200) || len(p.Tags) > 50 || len(p.Tags) != len(p.TagOrder) {
			t.Errorf("%+v", p)
		}
	})
}
