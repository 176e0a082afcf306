package calls

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/trail/record"
)

func TestFieldsOfACall(t *testing.T) {
	t.Parallel()
	identity := `"userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:alice-nb","arn":"arn:aws:sts::111122223333:assumed-role/R/alice-nb","accountId":"111122223333","accessKeyId":"ASIAEXAMPLE","invokedBy":"athena.amazonaws.com","onBehalfOf":{"userId":"u-1"},"inScopeOf":{"sourceArn":"arn:aws:sagemaker:x"},"sessionContext":{"sessionIssuer":{"arn":"arn:aws:iam::111122223333:role/service-role/R"},"attributes":{"creationDate":"2026-07-01T20:43:33Z"},"sourceIdentity":"alice-nb"}}`
	caller := Caller{
		Type: "AssumedRole", Principal: "AROAEXAMPLE:alice-nb", ARN: "arn:aws:sts::111122223333:assumed-role/R/alice-nb", Account: "111122223333",
		Key: "ASIAEXAMPLE", InvokedBy: "athena.amazonaws.com", Source: "alice-nb", Created: 1782938613,
		Issuer: "arn:aws:iam::111122223333:role/service-role/R", Person: "u-1", Scope: "arn:aws:sagemaker:x",
	}
	tests := map[string]struct{ service, rest, resource string }{
		"an object":          {"s3.amazonaws.com", `"requestParameters":{"key":"a/b","bucketName":"data"}`, "s3://data/a/b"},
		"a bucket":           {"s3.amazonaws.com", `"requestParameters":{"bucketName":"data","Host":"h"}`, "s3://data/"},
		"a listed ARN":       {"sts.amazonaws.com", `"resources":[{"type":"x"},{"ARN":"arn:aws:iam::1:role/R"}],"requestParameters":{"roleArn":"other"}`, "arn:aws:iam::1:role/R"},
		"an ARN parameter":   {"lakeformation.amazonaws.com", `"requestParameters":{"clientName":"n","tableArn":"arn:aws:glue:t"}`, "arn:aws:glue:t"},
		"a name":             {"sagemaker.amazonaws.com", `"requestParameters":{"instanceId":"i-1","roleArn":"arn:r","trainingJobName":"train-1"}`, "train-1"},
		"not a session name": {"sts.amazonaws.com", `"requestParameters":{"roleSessionName":"s","roleArn":"arn:aws:iam::1:role/R"}`, "arn:aws:iam::1:role/R"},
		"none":               {"sts.amazonaws.com", `"requestParameters":{"names":["x"],"durationSeconds":1}`, ""},
		"null":               {"sts.amazonaws.com", `"requestParameters":null`, ""},
		"long":               {"x.amazonaws.com", `"requestParameters":{"someName":"` + strings.Repeat("é", 400) + `"}`, strings.Repeat("é", 149) + "…"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprintf(`{"eventTime":"2026-07-01T20:43:34Z","eventSource":%q,"eventName":"Do","awsRegion":"us-east-1","sourceIPAddress":"10.0.0.1","errorCode":"AccessDenied","eventID":"e","sharedEventID":"s","recipientAccountId":"111122223333",%s,%s}`, test.service, test.rest, identity)
			rec, err := record.NewReader(strings.NewReader(text)).Next()
			if err != nil {
				t.Fatal(err)
			}
			want := Call{
				Time: 1782938614, Service: test.service, Action: "Do", Region: "us-east-1", Address: "10.0.0.1", Error: "AccessDenied",
				Resource: test.resource, Account: "111122223333", ID: "e", Caller: &caller,
			}
			spool := NewSpool("")
			writer := spool.Writer()
			if err := errors.Join(writer.Add(rec), writer.Flush()); err != nil {
				t.Fatal(err)
			}
			if err := spool.Reader().Read(0, func(c *Call) {
				if diff := cmp.Diff(want, *c); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		caller Caller
		want   string
	}{
		{Caller{Type: "AssumedRole", Principal: "AROAEXAMPLE:alice-nb"}, "alice-nb"},
		{Caller{Type: "AssumedRole", ARN: "arn:aws:sts::111122223333:assumed-role/R/bob-nb"}, "bob-nb"},
		{Caller{Type: "AWSAccount", Principal: "AROAEXAMPLE:carol"}, "carol"},
		{Caller{Type: "AWSAccount", Principal: "AIDAEXAMPLE"}, ""},
		{Caller{Type: "IAMUser", Principal: "AIDAEXAMPLE:x", ARN: "arn:aws:iam::111122223333:user/u"}, ""},
		{Caller{Type: "AssumedRole", ARN: "arn:aws:sts::111122223333:assumed-role/R"}, ""},
	} {
		if got := test.caller.Session(); got != test.want {
			t.Errorf("%+v: %q, want %q", test.caller, got, test.want)
		}
	}
}

func TestSeen(t *testing.T) {
	t.Parallel()
	seen := NewSeen()
	const workers, each = 4, 20000
	var news [workers]int
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each { // every id is offered by two workers
				if seen.Add(fmt.Appendf(nil, "event-%d-%d", w/2, i)) {
					news[w]++
				}
			}
		})
	}
	group.Wait()
	if got, want := news[0]+news[1]+news[2]+news[3], workers/2*each; got != want {
		t.Errorf("%d new, want %d", got, want)
	}
	for range 2 {
		if !seen.Add(nil) {
			t.Error("an event without an id was taken for a duplicate")
		}
	}
}

// numbered returns a record and the call that it is of. Most callers occur again.
func numbered(i int) (*record.Record, Call) {
	id, bucket, scope := fmt.Sprintf("%032x", i*7919), strings.Repeat("é", i%50), fmt.Sprint("scope ", i%1000)
	service := ""
	if i%7 == 0 {
		scope, service = id, "athena.amazonaws.com"
	}
	rec := &record.Record{Time: int64(i) - 5, EventID: []byte(id), EventSource: []byte("s3.amazonaws.com"), RequestParameters: fmt.Appendf(nil, `{"bucketName":%q}`, bucket)}
	rec.Identity.Session.Created, rec.Identity.InScopeOf = -int64(i%1000), []byte(scope)
	rec.Identity.InvokedBy = []byte(service)
	return rec, Call{Time: rec.Time, ID: id, Service: "s3.amazonaws.com", Resource: "s3://" + bucket + "/", Caller: &Caller{Created: -int64(i % 1000), Scope: scope, InvokedBy: service}}
}

func TestSpoolGivesBackWhatItGot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool := NewSpool(dir)
	defer spool.Close()
	const writers, each = 3, 30000
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			writer := spool.Writer()
			for i := range each {
				rec, _ := numbered(w*each + i)
				if err := writer.Add(rec); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(writer.Flush(), writer.Flush()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	seen := make(map[int64]bool)
	for b := range spool.Blocks() {
		err := spool.Reader().Read(b, func(c *Call) {
			_, want := numbered(int(c.Time + 5))
			got := *c
			if got.Caller = want.Caller; got != want || *c.Caller != *want.Caller {
				t.Fatalf("(-want +got):\n%s", cmp.Diff(want, *c))
			}
			seen[c.Time] = true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != writers*each {
		t.Errorf("%d calls, want %d", len(seen), writers*each)
	}
}

func TestSpoolGoesToAFileWithoutAName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool := NewSpool(dir)
	spool.memory = MemoryLimit - 10
	writer := spool.Writer()
	for i := range 20000 {
		rec, _ := numbered(i)
		if err := writer.Add(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Flush(); err != nil {
		t.Fatal(err)
	}
	if spool.file == nil || spool.memory > MemoryLimit {
		t.Fatalf("file %v, %d bytes in memory", spool.file, spool.memory)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); left != nil {
		t.Errorf("left in the directory: %v", left)
	}
	total := 0
	for b := range spool.Blocks() {
		if err := spool.Reader().Read(b, func(*Call) { total++ }); err != nil {
			t.Fatal(err)
		}
	}
	if total != 20000 {
		t.Errorf("%d calls", total)
	}
	if _, err := spool.file.WriteAt(make([]byte, spool.end), 0); err != nil {
		t.Fatal(err)
	}
	if err := spool.Reader().Read(0, func(*Call) {}); err == nil {
		t.Error("a spoilt file is read without an error")
	}
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	if err := spool.Reader().Read(0, func(*Call) {}); !errors.Is(err, os.ErrClosed) && !errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSpoolWithoutRoom(t *testing.T) {
	t.Parallel()
	spool := NewSpool(filepath.Join(t.TempDir(), "absent"))
	spool.memory = MemoryLimit
	writer := spool.Writer()
	rec, _ := numbered(1)
	if err := errors.Join(writer.Add(rec), writer.Flush()); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("error %v", err)
	}
}
