package evidence

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/record"
)

func collect(t *testing.T, text string) *Evidence {
	t.Helper()
	k, r := NewCollector(), record.NewReader(strings.NewReader(text))
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return Merge(k)
		} else if err != nil {
			t.Fatal(err)
		}
		k.Add(rec)
	}
}

// event returns a record of one call by alice-nb.
func event(service, action, rest string) string {
	return `{"eventTime":"2026-07-01T20:43:34Z","eventSource":"` + service + `.amazonaws.com","eventName":"` + action + `","sourceIPAddress":"10.0.0.1","eventID":"e-1",` +
		`"userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:alice-nb","accessKeyId":"ASIAEXAMPLE"},` + rest + `}`
}

func TestCollect(t *testing.T) {
	t.Parallel()
	const at = 1782938614
	caller := &calls.Caller{Type: "AssumedRole", Principal: "AROAEXAMPLE:alice-nb", Key: "ASIAEXAMPLE"}
	tests := map[string]struct {
		text string
		want Evidence
	}{
		"AssumeRole": {
			event("sts", "AssumeRole", `"requestParameters":{"roleArn":"arn:aws:iam::111122223333:role/p/R","roleSessionName":"alice-nb","sourceIdentity":"alice-nb"},"responseElements":{"credentials":{"accessKeyId":"ASIANEWEXAMPLE"},"assumedRoleUser":{"assumedRoleId":"AROAEXAMPLE:alice-nb"},"sourceIdentity":"alice-nb"}`),
			Evidence{Issues: []Issue{{At: at, Key: "ASIANEWEXAMPLE", Role: "arn:aws:iam::111122223333:role/p/R", Session: "alice-nb", Unique: "AROAEXAMPLE:alice-nb", Source: "alice-nb", Address: "10.0.0.1", Caller: caller, ID: "e-1"}}},
		},
		"AssumeRole without assumedRoleUser": {
			event("sts", "AssumeRole", `"requestParameters":{"roleArn":"r","roleSessionName":"i-1","sourceIdentity":"asked"},"responseElements":{"credentials":{"accessKeyId":"ASIANEWEXAMPLE"}}`),
			Evidence{Issues: []Issue{{At: at, Key: "ASIANEWEXAMPLE", Role: "r", Session: "i-1", Source: "asked", Address: "10.0.0.1", Caller: caller, ID: "e-1"}}},
		},
		"AssumeRole refused": {event("sts", "AssumeRole", `"errorCode":"AccessDenied","requestParameters":null,"responseElements":null`), Evidence{}},
		"another STS call":   {event("sts", "GetCallerIdentity", `"responseElements":{"credentials":{"accessKeyId":"x"}}`), Evidence{}},
		"opened":             {event("sagemaker", "CreatePresignedNotebookInstanceUrl", `"requestParameters":{"notebookInstanceName":"bob-nb"}`), Evidence{Openings: []Opening{{At: at, Name: "bob-nb", Caller: caller, ID: "e-1"}}}},
		"opened in Studio":   {event("sagemaker", "CreatePresignedDomainUrl", `"requestParameters":{"domainId":"d-1","userProfileName":"bob"}`), Evidence{Openings: []Opening{{At: at, Name: "bob", Caller: caller, ID: "e-1"}}}},
		"started":            {event("sagemaker", "StartNotebookInstance", `"awsRegion":"us-east-1","recipientAccountId":"111122223333","requestParameters":{"notebookInstanceName":"bob-nb"}`), Evidence{Starts: []Start{{At: at, Name: "bob-nb", Account: "111122223333", Region: "us-east-1", ID: "e-1"}}}},
		"starting refused":   {event("sagemaker", "StartNotebookInstance", `"errorCode":"ValidationException","requestParameters":{"notebookInstanceName":"bob-nb"}`), Evidence{}},
		"opening refused":    {event("sagemaker", "CreatePresignedNotebookInstanceUrl", `"errorCode":"AccessDenied","requestParameters":{"notebookInstanceName":"bob-nb"}`), Evidence{}},
		"training":           {event("sagemaker", "CreateTrainingJob", `"requestParameters":{"trainingJobName":"t","roleArn":"r"},"responseElements":{"trainingJobArn":"arn:t"}`), Evidence{Jobs: []Job{{At: at, Kind: "training", Name: "t", ARN: "arn:t", Role: "r", Caller: caller, ID: "e-1"}}}},
		"log of a job":       {event("logs", "CreateLogStream", `"requestParameters":{"logGroupName":"/aws/sagemaker/TrainingJobs","logStreamName":"t/algo-1-1"}`), Evidence{Streams: []Stream{{Key: "ASIAEXAMPLE", Job: "t", ID: "e-1"}}}},
		"another log":        {event("logs", "CreateLogStream", `"requestParameters":{"logGroupName":"/aws/lambda/x","logStreamName":"t/algo-1-1"}`), Evidence{}},
		"EMR grant": {
			event("lakeformation", "GetDataAccess", `"requestParameters":{"dataLocations":["s3://x"],"permissions":["SELECT","INSERT"],"auditContext":{"additionalAuditContext":"{\"platformType\":\"EMR\",\"queryId\":\"33333333-4444-5555-6666-77777777AAAA\"}"}},"additionalEventData":{"requesterService":"EMRSERVERLESS"}`),
			Evidence{Grants: []Grant{{At: at, Query: "33333333-4444-5555-6666-77777777aaaa", Permissions: "SELECT,INSERT", Engine: "EMRSERVERLESS", Caller: caller, ID: "e-1"}}},
		},
		"grant without a query": {
			event("lakeformation", "GetDataAccess", `"requestParameters":{"auditContext":{"additionalAuditContext":"{\"queryId\":\"NULL\"}"}}`),
			Evidence{Grants: []Grant{{At: at, Caller: caller, ID: "e-1"}}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.want.Sources = map[string]bool{}
			if diff := cmp.Diff(&test.want, collect(t, test.text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestDocumentedRecords reads the samples of AWS's own documentation.
func TestDocumentedRecords(t *testing.T) {
	t.Parallel()
	read := func(name string) *Evidence {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return collect(t, string(text))
	}
	query := read("start_query_execution.json").Queries
	if len(query) != 1 || query[0].Query != "33333333-4444-5555-6666-777777777777" || query[0].Text != "Select 10" || query[0].Caller.User != "johndoe" {
		t.Errorf("query: %+v", query)
	}
	if failed := read("start_query_execution_failed.json").Queries; len(failed) != 0 {
		t.Errorf("a refused query: %+v", failed)
	}
	grants := read("get_data_access.json").Grants
	want := Grant{
		At: 1782939707, Query: "33333333-4444-5555-6666-777777777777", Session: "AWSLF-00-AT-111122223333-EXAMPLE04",
		Table: "arn:aws:glue:us-east-2:111122223333:table/flights/flights_local", Permissions: "SELECT", CellLevel: true, Engine: "ATHENA",
		ID: "87658765-1111-2222-3333-876587658765",
	}
	if len(grants) != 1 {
		t.Fatalf("grants: %+v", grants)
	}
	if grants[0].Caller.ARN != "arn:aws:sts::111122223333:assumed-role/Admin/admin-session" {
		t.Errorf("caller: %+v", grants[0].Caller)
	}
	grants[0].Caller = nil
	if diff := cmp.Diff(want, grants[0]); diff != "" {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
	chain := read("assume_role_chained.json")
	if len(chain.Issues) != 1 || chain.Issues[0].Source != "JohnDoe" || chain.Issues[0].Caller.Source != "JohnDoe" || !chain.Sources["JohnDoe"] {
		t.Errorf("chain: %+v", chain)
	}
}

func TestMergeDoesNotDependOnOrder(t *testing.T) {
	t.Parallel()
	var texts []string
	for _, second := range []string{"34", "31", "39", "34"} {
		text := strings.Replace(event("sts", "AssumeRole", `"requestParameters":{"roleArn":"r"},"responseElements":{"credentials":{"accessKeyId":"ASIANEWEXAMPLE"}}`), ":34Z", ":"+second+"Z", 1)
		texts = append(texts, strings.Replace(text, "e-1", "e-"+string(rune('a'+len(texts))), 1))
	}
	forward := collect(t, strings.Join(texts, "\n"))
	backward := collect(t, texts[3]+texts[2]+texts[1]+texts[0])
	if diff := cmp.Diff(forward, backward); diff != "" {
		t.Errorf("(-forward +backward):\n%s", diff)
	}
}
