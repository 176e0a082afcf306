package main

import (
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

func call(session, source string) lab.Record {
	r := lab.Record{EventName: "GetCallerIdentity", UserAgent: "Boto3/1.2.3 md/Botocore#1.2.3"}
	r.UserIdentity.Type = "AssumedRole"
	r.UserIdentity.ARN = "arn:aws:sts::111122223333:assumed-role/Role/" + session
	r.UserIdentity.SessionContext.SourceIdentity = source
	return r
}

func TestJudge(t *testing.T) {
	named, platform := call("alice-nb", "alice-nb"), call(platformName, "")
	tests := []struct {
		name  string
		calls []lab.Record
		want  string
		v     verdict
		good  bool
	}{
		{"no call", nil, "alice-nb", verdict{}, false},
		{"right", []lab.Record{named, named}, "alice-nb", verdict{calls: 2}, true},
		{"one without a name", []lab.Record{named, platform}, "alice-nb", verdict{calls: 2, unattributed: 1}, false},
		{"session name alone", []lab.Record{call("alice-nb", "")}, "alice-nb", verdict{calls: 1, unattributed: 1}, false},
		{"another's", []lab.Record{call("bob-nb", "bob-nb")}, "alice-nb", verdict{calls: 1, misattributed: 1}, false},
		{"source identity alone", []lab.Record{call(platformName, "alice-nb")}, "alice-nb", verdict{calls: 1, misattributed: 1}, false},
		{"the platform's", []lab.Record{platform}, "", verdict{calls: 1}, true},
		{"a name where none may be", []lab.Record{platform, named}, "", verdict{calls: 2, misattributed: 1}, false},
		{"a session name where none may be", []lab.Record{call("alice-nb", "")}, "", verdict{calls: 1, misattributed: 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := judge(tt.calls, tt.want); got != tt.v || got.good() != tt.good {
				t.Errorf("got %v, good %v; want %v, good %v", got, got.good(), tt.v, tt.good)
			}
		})
	}
}

// Each kill may cost one request, not two, and none may make up for another.
func TestOneEach(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	kills := []time.Time{at(10), at(20)}
	tests := []struct {
		name   string
		failed []float64
		good   bool
	}{
		{"none", nil, true},
		{"one each", []float64{10.1, 20.1}, true},
		{"one that had begun before", []float64{9.9}, true},
		{"two at one kill", []float64{20.1, 20.2}, false},
		{"before any kill", []float64{3}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var report callReport
			for _, s := range tt.failed {
				report.Failures = append(report.Failures, callFailure{at(s), "refused"})
			}
			if err := oneEach(report, kills); (err == nil) != tt.good {
				t.Errorf("got %v", err)
			}
		})
	}
}
