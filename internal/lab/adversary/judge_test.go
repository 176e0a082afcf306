package main

import (
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	call := func(arn, source, agent string) lab.Record {
		var r lab.Record
		r.UserIdentity.ARN, r.UserAgent = arn, agent
		r.UserIdentity.SessionContext.SourceIdentity = source
		return r
	}
	const role = "arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/"
	got := judge([]lab.Record{
		call(role+"alice-nb", "alice-nb", ""),
		call(role+"SageMaker", "", ""),
		call(role+"SageMaker", "", "app/nbidentityd"), // disguised
		call(role+"alice-nb", "", ""),                 // the name in one place only
		call(role+"bob-nb", "alice-nb", ""),
		call(role+"alice-nb", "bob-nb", ""),
		call(role+"bob-nb", "bob-nb", ""),
	}, "alice-nb")
	if want := (tally{right: 1, none: 3, wrong: 3}); got != want {
		t.Errorf("judge: %+v, want %+v", got, want)
	}
}
