package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

func call(arn, sourceIdentity string) lab.Record {
	r := lab.Record{EventName: "ListBuckets", UserAgent: "Boto3/1.2.3 md/Botocore#1.2.3"}
	r.UserIdentity.Type = "AssumedRole"
	r.UserIdentity.ARN = arn
	r.UserIdentity.SessionContext.SourceIdentity = sourceIdentity
	return r
}

func TestJudge(t *testing.T) {
	const role = "arn:aws:sts::111122223333:assumed-role/Role/"
	tests := []struct {
		name  string
		calls []lab.Record
		want  verdict
		good  bool
	}{
		{"no call", nil, verdict{}, false},
		{"right", []lab.Record{call(role+"alice-nb", "alice-nb"), call(role+"alice-nb", "alice-nb")}, verdict{calls: 2}, true},
		{"platform's session", []lab.Record{call(role+"alice-nb", "alice-nb"), call(role+"SageMaker", "")}, verdict{calls: 2, unattributed: 1}, false},
		{"session name alone", []lab.Record{call(role+"alice-nb", "")}, verdict{calls: 1, unattributed: 1}, false},
		{"source identity alone", []lab.Record{call(role+"SageMaker", "alice-nb")}, verdict{calls: 1, misattributed: 1}, false},
		{"another's", []lab.Record{call(role+"bob-nb", "bob-nb")}, verdict{calls: 1, misattributed: 1}, false},
		{"another's source identity", []lab.Record{call(role+"alice-nb", "bob-nb")}, verdict{calls: 1, misattributed: 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := judge(tt.calls, "alice-nb")
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(verdict{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.good() != tt.good {
				t.Errorf("good = %v", got.good())
			}
		})
	}
}
