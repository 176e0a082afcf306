package sidecar

import (
	"errors"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/assurance"
	"github.com/nbidentityd/nbidentityd/internal/netfence"
)

func TestJudge(t *testing.T) {
	looked := time.Unix(1, 0)
	for _, test := range []struct {
		name   string
		status netfence.Status
		want   assurance.Answer
		reason string
	}{
		{"whole", netfence.Status{Checked: looked}, assurance.Yes, ""},
		{"refuses", netfence.Status{Checked: looked, Weaker: netfence.Refusing}, assurance.Yes, ""},
		{"lets some by", netfence.Status{Checked: looked, Weaker: netfence.SourceRouted}, assurance.No, netfence.SourceRouted},
		{"gone", netfence.Status{Checked: looked, Err: errors.New("no rules")}, assurance.No, "no rules"},
		{"not looked at", netfence.Status{}, assurance.Unknown, "it has not been looked at yet"},
	} {
		if got, reason := judge(test.status); got != test.want || reason != test.reason {
			t.Errorf("%s: %v, %q, want %v, %q", test.name, got, reason, test.want, test.reason)
		}
	}
}
