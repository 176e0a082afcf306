package lab

import "testing"

func call(session, source string) Record {
	r := Record{EventName: "ListBuckets", UserAgent: "Boto3/1.2.3 md/Botocore#1.2.3"}
	r.UserIdentity.Type = "AssumedRole"
	r.UserIdentity.ARN = "arn:aws:sts::111122223333:assumed-role/Role/" + session
	r.UserIdentity.SessionContext.SourceIdentity = source
	return r
}

func TestJudge(t *testing.T) {
	named, platform := call("alice-nb", "alice-nb"), call(PlatformName, "")
	tests := []struct {
		name  string
		calls []Record
		want  string
		v     Verdict
		good  bool
	}{
		{"no call", nil, "alice-nb", Verdict{}, false},
		{"right", []Record{named, named}, "alice-nb", Verdict{Calls: 2}, true},
		{"one without a name", []Record{named, platform}, "alice-nb", Verdict{Calls: 2, Unattributed: 1}, false},
		{"session name alone", []Record{call("alice-nb", "")}, "alice-nb", Verdict{Calls: 1, Unattributed: 1}, false},
		{"source identity alone", []Record{call(PlatformName, "alice-nb")}, "alice-nb", Verdict{Calls: 1, Misattributed: 1}, false},
		{"another's", []Record{call("bob-nb", "bob-nb")}, "alice-nb", Verdict{Calls: 1, Misattributed: 1}, false},
		{"another's source identity", []Record{call("alice-nb", "bob-nb")}, "alice-nb", Verdict{Calls: 1, Misattributed: 1}, false},
		{"the platform's", []Record{platform}, "", Verdict{Calls: 1}, true},
		{"no call where none has a name", nil, "", Verdict{}, false},
		{"a name where none may be", []Record{platform, named}, "", Verdict{Calls: 2, Misattributed: 1}, false},
		{"a session name where none may be", []Record{call("alice-nb", "")}, "", Verdict{Calls: 1, Misattributed: 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Judge(tt.calls, tt.want); got != tt.v || got.Good() != tt.good {
				t.Errorf("got %v, good %v; want %v, good %v", got, got.Good(), tt.v, tt.good)
			}
		})
	}
}
