package who

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/trail/intake"
	"github.com/nbidentityd/nbidentityd/internal/trail/report"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
	"github.com/nbidentityd/nbidentityd/internal/trail/trailgen"
)

// story is a small trail: alice-nb through the daemon, a bypass by bob-nb, a base key
// that claimed two names, and a session whose beginning is not there.
const story = `{"Records":[
{"eventTime":"2026-07-01T10:00:00Z","eventSource":"sts.amazonaws.com","eventName":"AssumeRole","eventID":"e1","sourceIPAddress":"10.0.0.1","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:SageMaker","arn":"arn:aws:sts::111122223333:assumed-role/R/SageMaker","accessKeyId":"ASIABASEAEXAMPLE","sessionContext":{"sessionIssuer":{"arn":"arn:aws:iam::111122223333:role/R"}}},"requestParameters":{"roleArn":"arn:aws:iam::111122223333:role/R","roleSessionName":"alice-nb","sourceIdentity":"alice-nb"},"responseElements":{"credentials":{"accessKeyId":"ASIAALICEEXAMPLE"},"assumedRoleUser":{"assumedRoleId":"AROAEXAMPLE:alice-nb"}}},
{"eventTime":"2026-07-01T10:01:00Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","eventID":"e2","sourceIPAddress":"10.0.0.1","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:alice-nb","accessKeyId":"ASIAALICEEXAMPLE","sessionContext":{"sourceIdentity":"alice-nb"}},"requestParameters":{"bucketName":"data","key":"part-1"}},
{"eventTime":"2026-07-01T10:02:00Z","eventSource":"sts.amazonaws.com","eventName":"AssumeRole","eventID":"e3","sourceIPAddress":"10.0.0.2","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:SageMaker","accessKeyId":"ASIABASEBEXAMPLE","sessionContext":{"sessionIssuer":{"arn":"arn:aws:iam::111122223333:role/R"}}},"requestParameters":{"roleArn":"arn:aws:iam::111122223333:role/R","roleSessionName":"bob-nb"},"responseElements":{"credentials":{"accessKeyId":"ASIABOBEXAMPLE"},"assumedRoleUser":{"assumedRoleId":"AROAEXAMPLE:bob-nb"}}},
{"eventTime":"2026-07-01T11:03:00Z","eventSource":"sagemaker.amazonaws.com","eventName":"DeleteEndpoint","eventID":"e4","errorCode":"AccessDenied","sourceIPAddress":"10.0.0.2","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:SageMaker","accessKeyId":"ASIABASEBEXAMPLE","sessionContext":{"sessionIssuer":{"arn":"arn:aws:iam::111122223333:role/R"}}},"requestParameters":{"endpointName":"prod"}},
{"eventTime":"2026-07-02T10:04:00Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","eventID":"e5","sourceIPAddress":"192.0.2.9","userIdentity":{"type":"AssumedRole","principalId":"AROAOTHER:botocore-session-1688990082","accessKeyId":"ASIALOSTEXAMPLE"},"requestParameters":{"bucketName":"data","key":"part-2"}}
]}`

// forgery makes bob's base key claim alice-nb as well.
const forgery = `{"eventTime":"2026-07-01T10:30:00Z","eventSource":"sts.amazonaws.com","eventName":"AssumeRole","eventID":"e6","sourceIPAddress":"10.0.0.2","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:SageMaker","accessKeyId":"ASIABASEBEXAMPLE","sessionContext":{"sessionIssuer":{"arn":"arn:aws:iam::111122223333:role/R"}}},"requestParameters":{"roleArn":"arn:aws:iam::111122223333:role/R","roleSessionName":"alice-nb"},"responseElements":{"credentials":{"accessKeyId":"ASIAFORGEDEXAMPLE"},"assumedRoleUser":{"assumedRoleId":"AROAEXAMPLE:alice-nb"}}}`

var now = time.Date(2026, 7, 2, 12, 0, 0, 0, time.UTC)

// ask runs the command on stdin.
func ask(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(t.Context(), args, Config{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Columns: 130, Now: now, TempDir: t.TempDir()})
	return code, out.String(), errs.String()
}

func TestCalls(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		want []string // name and event of each call
		code int
	}{
		"all, newest first":         {nil, []string{"e5 ", "e4 bob-nb", "e3 bob-nb", "e2 alice-nb", "e1 alice-nb"}, Done},
		"a name":                    {[]string{"--name", "alice-nb"}, []string{"e2 alice-nb", "e1 alice-nb"}, Done},
		"two names":                 {[]string{"--name", "alice-nb", "--name=bob*"}, []string{"e4 bob-nb", "e3 bob-nb", "e2 alice-nb", "e1 alice-nb"}, Done},
		"an action":                 {[]string{"--action", "S3:getobject"}, []string{"e5 ", "e2 alice-nb"}, Done},
		"actions":                   {[]string{"--action", "s*:*e*Endpoint"}, []string{"e4 bob-nb"}, Done},
		"not a part of an action":   {[]string{"--action", "GetObject"}, nil, Done},
		"a part of a resource":      {[]string{"--resource", "part-"}, []string{"e5 ", "e2 alice-nb"}, Done},
		"a resource with wildcards": {[]string{"--resource", "s3://*/part-2"}, []string{"e5 "}, Done},
		"an address":                {[]string{"--ip", "10.0.0.2"}, []string{"e4 bob-nb", "e3 bob-nb"}, Done},
		"a network":                 {[]string{"--ip", "10.1.2.3/8"}, []string{"e4 bob-nb", "e3 bob-nb", "e2 alice-nb", "e1 alice-nb"}, Done},
		"since a day":               {[]string{"--since", "2026-07-02"}, []string{"e5 "}, Done},
		"since hours ago":           {[]string{"--since", "25h"}, []string{"e5 ", "e4 bob-nb"}, Done},
		"until days ago":            {[]string{"--until", "1d"}, []string{"e4 bob-nb", "e3 bob-nb", "e2 alice-nb", "e1 alice-nb"}, Done},
		"between":                   {[]string{"--since", "2026-07-01T10:01", "--until", "2026-07-01 10:02:00"}, []string{"e2 alice-nb"}, Done},
		"unattributed":              {[]string{"--unattributed"}, []string{"e5 "}, Done},
		"escapes":                   {[]string{"--escapes"}, []string{"e4 bob-nb"}, Found},
		"no escapes":                {[]string{"--escapes", "--name", "alice-nb"}, nil, Done},
		"limit":                     {[]string{"--limit", "2"}, []string{"e5 ", "e4 bob-nb"}, Done},
		"no limit":                  {[]string{"--limit=0"}, []string{"e5 ", "e4 bob-nb", "e3 bob-nb", "e2 alice-nb", "e1 alice-nb"}, Done},
	}
	for label, test := range tests {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			for _, workers := range []string{"1", "3"} {
				code, stdout, stderr := ask(t, story, append(test.args, "--format", "json", "--workers", workers, "-")...)
				if code != test.code || stderr != "" {
					t.Fatalf("code %d, stderr %s", code, stderr)
				}
				var doc report.Document
				if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, c := range doc.Calls {
					got = append(got, c.EventID+" "+c.Name)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if label == "limit" && (doc.Left != 3 || doc.Summary.Calls != 5) {
					t.Errorf("left %d of %d", doc.Left, doc.Summary.Calls)
				}
			}
		})
	}
}

func TestViews(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want []string // in the output, in this order
		code int
	}{
		{nil, []string{"TIME (UTC)", "2026-07-02 10:04:00  ?", "assume_role_missing", "bob-nb", "BYPASS", "5 calls, 4 named", "1 escapes"}, Done},
		{[]string{"--by", "name"}, []string{"NAME", "alice-nb", "2", "bob-nb", "2", "(not attributed)", "1"}, Done},
		{[]string{"--by", "action"}, []string{"ACTION", "s3:GetObject", "sts:AssumeRole", "sagemaker:DeleteEndpoint"}, Done},
		{[]string{"--by", "resource"}, []string{"RESOURCE", "arn:aws:iam::111122223333:role/R", "s3://data/", "prod"}, Done},
		{[]string{"--by", "hour"}, []string{"HOUR", "2026-07-02 10:00", "2026-07-01 11:00", "2026-07-01 10:00"}, Done},
		{[]string{"--conflicts"}, []string{"CONFLICT", "5 calls"}, Done},
		{[]string{"--sessions"}, []string{"R/SageMaker", "R/bob-nb", "= bob-nb", "R/SageMaker", "R/alice-nb", "= alice-nb"}, Done},
		{[]string{"--sessions", "--name", "alice-nb"}, []string{"R/SageMaker", "R/alice-nb"}, Done},
		{[]string{"--queries"}, []string{"QUERY"}, Done},
		{[]string{"--jobs"}, []string{"STARTED BY"}, Done},
	} {
		code, stdout, stderr := ask(t, story, append(test.args, "-")...)
		if code != test.code || stderr != "" {
			t.Fatalf("%v: code %d, stderr %s", test.args, code, stderr)
		}
		rest := stdout
		for _, want := range test.want {
			_, after, found := strings.Cut(rest, want)
			if !found {
				t.Fatalf("%v: no %q in what follows in\n%s", test.args, want, stdout)
			}
			rest = after
		}
	}
	for _, view := range [][]string{{"--by", "name"}, {"--sessions"}, {"--format", "csv", "--by", "name"}} {
		if _, stdout, stderr := ask(t, story, append(view, "--limit", "1", "-")...); !strings.Contains(stdout+stderr, " more rows; --limit shows more") {
			t.Errorf("%v: nothing says that there is more:\n%s%s", view, stdout, stderr)
		}
	}
	code, stdout, _ := ask(t, story+forgery, "--conflicts", "-")
	if code != Found || !strings.Contains(stdout, "two_names") || !strings.Contains(stdout, "alice-nb and bob-nb") {
		t.Errorf("code %d:\n%s", code, stdout)
	}
	for until, want := range map[string]int{"2026-07-01T10:02": Done, "2026-07-01T10:15": Found} { // it lasts from 10:02 to 10:30
		if code, stdout, _ = ask(t, story+forgery, "--conflicts", "--until", until, "-"); code != want {
			t.Errorf("until %s: code %d:\n%s", until, code, stdout)
		}
	}
	if code, stdout, _ = ask(t, story+forgery, "--conflicts", "--name", "carol", "-"); code != Done {
		t.Errorf("somebody else's conflicts: code %d:\n%s", code, stdout)
	}
}

func TestQueries(t *testing.T) {
	t.Parallel()
	identity := func(session string) string {
		return `"userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:` + session + `","accessKeyId":"K` + session + `","sessionContext":{"sourceIdentity":"V2.111122223333.AROAEXAMPLE"}}`
	}
	lines := strings.Join([]string{
		`{"eventTime":"2026-07-01T10:00:00Z","eventSource":"athena.amazonaws.com","eventName":"StartQueryExecution","eventID":"q","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:x","sessionContext":{"sourceIdentity":"alice-nb"}},"requestParameters":{"queryString":"SELECT 1 FROM t","workGroup":"w"},"responseElements":{"queryExecutionId":"33333333-4444-5555-6666-777777777777"}}`,
		`{"eventTime":"2026-07-01T10:00:01Z","eventSource":"lakeformation.amazonaws.com","eventName":"GetDataAccess","eventID":"g",` + identity("SageMaker") + `,"requestParameters":{"tableArn":"arn:aws:glue:us-east-1:111122223333:table/db/t","permissions":["SELECT"],"auditContext":{"additionalAuditContext":"{queryId: 33333333-4444-5555-6666-777777777777}"},"cellLevelSecurityEnforced":true},"additionalEventData":{"lakeFormationRoleSessionName":"AWSLF-1","requesterService":"ATHENA"}}`,
		`{"eventTime":"2026-07-01T10:00:02Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","eventID":"o1",` + identity("AWSLF-1") + `,"requestParameters":{"bucketName":"lake","key":"t/1"}}`,
		`{"eventTime":"2026-07-01T10:00:03Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","eventID":"o2",` + identity("AWSLF-1") + `,"requestParameters":{"bucketName":"lake","key":"t/1"}}`,
		`{"eventTime":"2026-07-01T10:00:03Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","eventID":"o3",` + identity("AWSLF-2") + `,"requestParameters":{"bucketName":"lake","key":"t/2"}}`,
		`{"eventTime":"2026-07-01T10:00:03Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","eventID":"o4","errorCode":"AccessDenied",` + identity("AWSLF-1") + `,"requestParameters":{"bucketName":"lake","key":"t/3"}}`,
		`{"eventTime":"2026-07-01T10:00:03Z","eventSource":"s3.amazonaws.com","eventName":"PutObject","eventID":"o5",` + identity("AWSLF-1") + `,"requestParameters":{"bucketName":"lake","key":"t/4"}}`,
		`{"eventTime":"2026-07-01T10:00:03Z","eventSource":"kms.amazonaws.com","eventName":"Decrypt","eventID":"o6",` + identity("AWSLF-1") + `,"requestParameters":{"keyId":"k"}}`,
	}, "\n")
	_, stdout, _ := ask(t, lines, "--queries", "--format", "json", "-")
	var doc report.Document
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatal(err)
	}
	want := []report.Query{{
		Time: time.Date(2026, 7, 1, 10, 0, 0, 0, time.UTC), Name: "alice-nb", Rung: "source_identity", ID: "33333333-4444-5555-6666-777777777777", Text: "SELECT 1 FROM t", WorkGroup: "w",
		Tables: []report.Table{{ARN: "arn:aws:glue:us-east-1:111122223333:table/db/t", Permissions: "SELECT", CellLevel: true, Engine: "ATHENA"}}, Objects: []string{"s3://lake/t/1"}, Reads: 2,
	}}
	if diff := cmp.Diff(want, doc.Queries); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "no PATH"}, {[]string{"--bogus", "-"}, "bogus"}, {[]string{"--by", "moon", "-"}, "--by moon"}, {[]string{"--format", "xml", "-"}, "--format xml"},
		{[]string{"--since", "yesterday", "-"}, "--since"}, {[]string{"--until", "-5h", "-"}, "--until"}, {[]string{"--ip", "home", "-"}, "--ip"},
		{[]string{"--by", "name", "--sessions", "-"}, "only one of"}, {[]string{"--html", "x", "--jobs", "-"}, "--html"}, {[]string{"--workers", "0", "-"}, "--workers"},
		{[]string{"--template", "{nobody}", "-"}, "--template"}, {[]string{"--since", "1h", "--until", "2h", "-"}, "before"},
	} {
		code, stdout, stderr := ask(t, "", test.args...)
		if code != Usage || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%v: code %d, stdout %q, stderr %q", test.args, code, stdout, stderr)
		}
	}
	if code, _, stderr := ask(t, "", "--help"); code != Done || !strings.Contains(stderr, "--unattributed") {
		t.Errorf("help: code %d, %s", code, stderr)
	}
	if code, _, stderr := ask(t, "", "/does/not/exist"); code != Failed || !strings.Contains(stderr, "/does/not/exist") {
		t.Errorf("a missing path: code %d, %s", code, stderr)
	}
	if code, _, stderr := ask(t, "\x1f\x8bxx", "-"); code != Failed || !strings.Contains(stderr, "none of the inputs") {
		t.Errorf("no gzip: code %d, %s", code, stderr)
	}
	if code, _, stderr := ask(t, "", "s3://bucket/x"); code != Failed || !strings.Contains(stderr, "s3://bucket/x") {
		t.Errorf("a place without a way to it: code %d, %s", code, stderr)
	}
	if code, _, _ := ask(t, story, "--", "-"); code != Done {
		t.Errorf("paths behind --: code %d", code)
	}
}

func TestPlacesAreTheCallers(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	var asked []source.Place
	cfg := Config{Stdout: &out, Stderr: &errs, Now: now, Fetch: func(_ context.Context, p source.Place) ([]source.Input, source.Skipped, error) {
		if asked = append(asked, p); p.URL == "s3://other/" {
			return nil, source.Skipped{}, fmt.Errorf("no bucket %s", p.URL)
		}
		return []source.Input{{Name: "object", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(story)), nil }}}, source.Skipped{Folders: 2}, nil
	}}
	if code := Run(t.Context(), []string{"s3://trail/AWSLogs"}, cfg); code != Done || !strings.Contains(out.String(), "5 calls") || !strings.Contains(out.String(), "skipped 2 folders of other logs") {
		t.Errorf("code %d: %s%s", code, out.String(), errs.String())
	}
	if code := Run(t.Context(), []string{"s3://other/"}, cfg); code != Failed || !strings.Contains(errs.String(), "no bucket") {
		t.Errorf("code %d: %s", code, errs.String())
	}
	out.Reset()
	if code := Run(t.Context(), []string{"--lookup", "--region", "us-east-1,eu-west-1", "--since", "2026-06-30", "--until", "2026-08-01"}, cfg); code != Done || !strings.Contains(out.String(), "5 calls") {
		t.Errorf("code %d: %s%s", code, out.String(), errs.String())
	}
	day := func(month time.Month, day int) time.Time {
		return time.Date(2026, month, day, 0, 0, 0, 0, time.UTC).Local()
	}
	want := []source.Place{{URL: "s3://trail/AWSLogs"}, {URL: "s3://other/"}, {Regions: []string{"us-east-1", "eu-west-1"}, Since: day(6, 30), Until: day(8, 1)}}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	for _, args := range [][]string{{"--region", "us-east-1", "-"}, {"--lookup", "--region", "a,,b"}, {"--lookup", "--bucket", "s3://xyz"}, {"--lookup", "--athena"}} {
		if code := Run(t.Context(), args, cfg); code != Usage {
			t.Errorf("%v: code %d", args, code)
		}
	}
}

func TestBrokenInputIsReported(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := ask(t, "{oops}\n"+story, "-")
	if code != Done || !strings.Contains(stdout, "5 calls") || !strings.Contains(stderr, "standard input: offset 0:") || !strings.Contains(stdout, "skipped 1 broken places") {
		t.Errorf("code %d\n%s\n%s", code, stdout, stderr)
	}
	_, _, stderr = ask(t, strings.Repeat("{}\n", 100)+story, "-")
	if lines := strings.Count(stderr, "\n"); lines != maxReports+1 || !strings.Contains(stderr, "80 more such places") {
		t.Errorf("%d lines:\n%s", lines, stderr)
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	_, stdout, _ := ask(t, story, "--format", "csv", "-")
	if rows, err := csv.NewReader(strings.NewReader(stdout)).ReadAll(); err != nil || len(rows) != 6 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	page := filepath.Join(t.TempDir(), "page.html")
	if code, stdout, stderr := ask(t, story+forgery, "--html", page, "-"); code != Done || stdout != "" || !strings.Contains(stderr, "wrote") {
		t.Errorf("code %d, %s%s", code, stdout, stderr)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", "two_names", "Top actions", "alice-nb", "s3:GetObject", "Escapes"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %q in the page", want)
		}
	}
	if _, stdout, _ := ask(t, story, "--html", "-", "-"); !strings.HasPrefix(stdout, "<!doctype html>") {
		t.Errorf("standard output begins %.40q", stdout)
	}
	if code, _, stderr := ask(t, story, "--html", filepath.Join(page, "x"), "-"); code != Failed || !strings.Contains(stderr, "page") {
		t.Errorf("code %d, %s", code, stderr)
	}
}

// TestWorkersAgree compares the output for a generated trail, read by one goroutine and
// by several, in one order and another.
func TestWorkersAgree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := trailgen.Write(dir, trailgen.Config{Seed: 5, Records: 1000, Notebooks: 20, Days: 1, Start: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)}); err != nil {
		t.Fatal(err)
	}
	own, other := filepath.Join(dir, "AWSLogs", "111122223333"), filepath.Join(dir, "AWSLogs", "444455556666")
	for _, view := range [][]string{{"--limit", "200"}, {"--by", "resource"}, {"--sessions"}, {"--queries"}, {"--html", "-"}} {
		_, first, _ := ask(t, "", append([]string{"--format", "json", "--workers", "1", own, other}, view...)...)
		_, second, _ := ask(t, "", append([]string{"--format", "json", "--workers", "4", other, own}, view...)...)
		if diff := cmp.Diff(strings.Split(first, "\n"), strings.Split(second, "\n")); diff != "" {
			t.Errorf("%v (-one +four):\n%.2000s", view, diff)
		}
		if len(first) < 1000 {
			t.Errorf("%v: only %s", view, first)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	p := new(intake.Progress)
	p.Stored.Store(25)
	p.Plain.Store(50_000_000)
	p.Records.Store(1234)
	if got, want := status(p, 0, 100, time.Second), "25 %, 1234 records, 50 MB/s, 3s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := status(p, 0, 0, time.Second), "1234 records, 50 MB/s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("signal"))
	var out, errs bytes.Buffer
	if code := Run(ctx, []string{"-"}, Config{Stdin: strings.NewReader(story), Stdout: &out, Stderr: &errs, Now: now, Terminal: true}); code != Failed || out.Len() > 0 {
		t.Errorf("code %d, %s", code, out.String())
	}
}

func FuzzWild(f *testing.F) {
	f.Add("s3:*", "s3:GetObject")
	f.Add("*a*b?", "xxaxxbx")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if got := wild(pattern, s); got != byTable(pattern, s) {
			t.Errorf("wild(%q, %q) = %t", pattern, s, got)
		}
	})
}

// byTable says the same as wild by the definition, for each end of s and ever
// longer ends of pattern.
func byTable(pattern, s string) bool {
	matched := make([]bool, len(s)+1) // by the end of pattern so far: s[i:]
	matched[len(s)] = true
	for p := len(pattern) - 1; p >= 0; p-- {
		longer := make([]bool, len(s)+1)
		for i := len(s); i >= 0; i-- {
			switch {
			case pattern[p] == '*':
				longer[i] = matched[i] || i < len(s) && longer[i+1]
			case i < len(s):
				longer[i] = (pattern[p] == '?' || pattern[p] == s[i]) && matched[i+1]
			}
		}
		matched = longer
	}
	return matched[0]
}
