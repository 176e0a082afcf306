package main

import (
	"errors"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/clients"
)

func call(arn, sourceIdentity string) lab.Record {
	r := lab.Record{EventName: "ListBuckets", UserAgent: "Boto3/1.2.3 md/Botocore#1.2.3"}
	r.UserIdentity.Type = "AssumedRole"
	r.UserIdentity.ARN = arn
	r.UserIdentity.SessionContext.SourceIdentity = sourceIdentity
	return r
}

// A cell of the table must not look right when anything about it is wrong.
func TestWord(t *testing.T) {
	const role = "arn:aws:sts::111122223333:assumed-role/Role/"
	right, nobody := []lab.Record{call(role+"alice-nb", "alice-nb")}, []lab.Record{call(role+"SageMaker", "")}
	failed := errors.New("exit status 1")
	boto, java := clients.Client{Agent: "Boto3/"}, clients.Client{Agent: "Boto3/", FallsThrough: true}
	container, process := column{face: containerFace, alone: true, container: true}, column{face: containerFace, container: true}
	for _, tt := range []struct {
		name   string
		column column
		client clients.Client
		result result
		want   string
	}{
		{"right", container, boto, result{calls: right, vended: containerFace}, containerFace},
		{"by another face", container, boto, result{calls: right, vended: imdsFace}, "FAILED"},
		{"by two faces", container, boto, result{calls: right, vended: "unix+container"}, "FAILED"},
		{"nobody's", container, boto, result{calls: nobody, vended: containerFace}, "FAILED"},
		{"no call", container, boto, result{vended: containerFace}, "FAILED"},
		{"it failed", container, boto, result{calls: right, vended: containerFace, ended: failed}, "FAILED"},
		{"another client", container, clients.Client{Agent: "aws-cli/"}, result{calls: right, vended: containerFace}, "FAILED"},
		{"process fails, the end", process, boto, result{ended: failed}, refuses},
		{"process fails, went on", process, boto, result{calls: right, vended: containerFace}, "FAILED"},
		{"process fails, nobody's", process, boto, result{calls: nobody, ended: failed}, "FAILED"},
		{"process fails, falls through", process, java, result{calls: right, vended: containerFace}, containerFace},
		{"process fails, stays", process, java, result{ended: failed}, "FAILED"},
		{"no token file", container, clients.Client{NoTokenFile: true}, result{ended: failed}, cannot},
		{"hangs", column{hangs: true}, java, result{ended: failed}, waits},
		{"hangs, went past", column{hangs: true}, java, result{calls: nobody, ended: failed}, "FAILED"},
		{"hangs, ended well", column{hangs: true}, java, result{}, "FAILED"},
	} {
		if got := tt.result.word(tt.column, tt.client, "alice-nb"); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
