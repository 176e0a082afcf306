package athena

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// world makes records that are random but for the few values that they share, so that
// every kind of link, dispute and contradiction comes up. Worlds share no value.
type world struct {
	*rand.Rand
	number  int
	serial  int
	holders map[string]string // by access key: a key belongs to one session
}

func (w *world) pick(values ...string) string {
	return strings.ReplaceAll(values[w.IntN(len(values))], "#", fmt.Sprint(w.number))
}

func (w *world) key() string {
	return w.pick("ASIA#K1", "ASIA#K2", "ASIA#K3", "ASIA#K4", "ASIA#K5", "ASIA#K6", "ASIA#K7", "")
}

func (w *world) role() (name, id string) {
	name = w.pick("one#", "two#")
	return name, "AROA" + strings.ToUpper(name)
}

func (w *world) session() string {
	return w.pick("SageMaker", "SageMaker", "alice#", "bob#", "carol#", "botocore-session-1", "AWSLF-#", "i-0123456789", "nb_x")
}

func (w *world) source() string {
	return w.pick("", "", "", "", "alice#", "bob#", "V2.111122223333.AROAEXAMPLE", "nb_x")
}

func (w *world) time() string { return fmt.Sprintf("2026-07-01T10:00:0%dZ", w.IntN(4)) }

// caller returns the JSON of a userIdentity.
func (w *world) caller() string {
	role, id := w.role()
	session := w.session()
	switch w.IntN(14) {
	case 0:
		return fmt.Sprintf(`{"type":"IAMUser","userName":"%s","arn":"arn:aws:iam::111122223333:user/x"}`, w.pick("alice#", "ops#", ""))
	case 1:
		return `{"type":"AWSService","invokedBy":"sagemaker.amazonaws.com"}`
	case 2:
		return fmt.Sprintf(`{"type":"AWSAccount","principalId":"%s","accountId":"444455556666"}`, w.pick(id+":"+session, "AIDAEXAMPLE"))
	case 3:
		return w.pick(`{"accountId":"111122223333"}`, `{"type":"Root","accountId":"111122223333"}`, `{"invokedBy":"kms.amazonaws.com"}`, `{"type":"FederatedUser","onBehalfOf":{"userId":"person#"}}`)
	}
	invoked, principal, scope, issuer := "", id+":"+session, "", fmt.Sprintf(`"sessionIssuer":{"arn":"arn:aws:iam::111122223333:role/%s"},`, role)
	if w.IntN(4) == 0 {
		invoked = `,"invokedBy":"athena.amazonaws.com"`
	}
	if w.IntN(8) == 0 {
		principal = ""
	}
	if w.IntN(8) == 0 {
		issuer = ""
	}
	if w.IntN(8) == 0 {
		scope = w.pick(`,"inScopeOf":{"sourceArn":"arn:job#"}`)
	}
	key := w.key()
	identity := fmt.Sprintf(`{"type":"AssumedRole","principalId":"%s","arn":"arn:aws:sts::111122223333:assumed-role/%s/%s","accessKeyId":"%s"%s%s,"sessionContext":{%s"sourceIdentity":"%s","attributes":{"creationDate":"%s"}}}`,
		principal, role, session, key, invoked, scope, issuer, w.source(), w.pick(w.time(), w.time(), w.time(), ""))
	if key == "" || invoked != "" {
		return identity
	}
	if w.holders[key] == "" {
		w.holders[key] = identity
	}
	return w.holders[key]
}

func (w *world) record() string {
	service, action, request, response, additional := "s3", "GetObject", "null", "null", "null"
	switch w.IntN(12) {
	case 0, 1, 2, 3, 4:
		service, action = "sts", "AssumeRole"
		role, id := w.role()
		session := w.session()
		request = fmt.Sprintf(`{"roleArn":"arn:aws:iam::111122223333:role/%s","roleSessionName":"%s","sourceIdentity":"%s"}`, role, session, w.source())
		user := ""
		if w.IntN(3) > 0 {
			user = fmt.Sprintf(`,"assumedRoleUser":{"assumedRoleId":"%s:%s"}`, id, session)
		}
		response = fmt.Sprintf(`{"credentials":{"accessKeyId":"%s"}%s}`, w.key(), user)
	case 5:
		service, action = "athena", "StartQueryExecution"
		response = fmt.Sprintf(`{"queryExecutionId":"0000000%d-1111-4111-8111-%012d"}`, w.IntN(2), w.number)
	case 6:
		service, action = "lakeformation", "GetDataAccess"
		request = fmt.Sprintf(`{"auditContext":{"additionalAuditContext":"{queryId: 0000000%d-1111-4111-8111-%012d}"}}`, w.IntN(2), w.number)
		additional = w.pick(`{"lakeFormationRoleSessionName":"AWSLF-#"}`)
	case 7:
		service, action, request = "sagemaker", "CreatePresignedNotebookInstanceUrl", w.pick(`{"notebookInstanceName":"carol#"}`)
	case 8:
		service, action, response = "sagemaker", "CreateTrainingJob", w.pick(`{"trainingJobArn":"arn:job#"}`)
	}
	failure := w.pick("", "", "", "", "", `"errorCode":"AccessDenied",`)
	w.serial++
	return fmt.Sprintf(`{"eventTime":"%s","eventSource":"%s.amazonaws.com","eventName":"%s","eventID":"%d-%d","sourceIPAddress":"%s",%s"userIdentity":%s,"requestParameters":%s,"responseElements":%s,"additionalEventData":%s}`,
		w.time(), service, action, w.number, w.serial, w.pick("10.0.#.1", "10.0.#.2", "10.0.#.3", "sagemaker.amazonaws.com"), failure, w.caller(), request, response, additional)
}

// TestSameAnswersOnNonsense compares the queries with the local run on thousands of
// small worlds in which keys issue each other, sessions begin together, and everybody
// claims everything.
func TestSameAnswersOnNonsense(t *testing.T) {
	t.Parallel()
	if os.Getenv(duckdb) == "" {
		t.Skipf("needs DuckDB: %s is a Python that has the package duckdb", duckdb)
	}
	seed := uint64(1)
	if os.Getenv(size) != "" {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	var records strings.Builder
	for number := range 800 {
		w := &world{Rand: random, number: number, holders: make(map[string]string)}
		for range 4 + w.IntN(16) {
			records.WriteString(w.record() + "\n")
		}
	}
	path := filepath.Join(t.TempDir(), "records.json")
	if err := os.WriteFile(path, []byte(records.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	local := askLocal(t, path)
	counts, leftOver := compare(t, local, askDuckDB(t, records.String()))
	t.Logf("%d calls compared, %d left to the local run: %v", len(local), leftOver, counts)
	if leftOver == 0 || leftOver > len(local)/5 {
		t.Errorf("%d of %d calls left to the local run", leftOver, len(local))
	}
}

// TestDeepChain has a chain longer than Athena can follow: its end is left to the
// local run and not named wrongly.
func TestDeepChain(t *testing.T) {
	t.Parallel()
	var records strings.Builder
	caller := `{"type":"IAMUser","userName":"ops"}`
	const length = 14
	for i := range length {
		key := fmt.Sprintf("ASIADEEP%dEXAMPLE", i)
		fmt.Fprintf(&records, `{"eventTime":"2026-07-01T10:00:%02dZ","eventSource":"sts.amazonaws.com","eventName":"AssumeRole","eventID":"%d","userIdentity":%s,"requestParameters":{"roleArn":"arn:aws:iam::111122223333:role/r","roleSessionName":"step-%d"},"responseElements":{"credentials":{"accessKeyId":"%s"}}}`+"\n", i, i, caller, i, key)
		caller = fmt.Sprintf(`{"type":"AssumedRole","principalId":"AROAEXAMPLE:step-%d","accessKeyId":"%s"}`, i, key)
	}
	path := filepath.Join(t.TempDir(), "records.json")
	if err := os.WriteFile(path, []byte(records.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	queried := askDuckDB(t, records.String())
	_, leftOver := compare(t, askLocal(t, path), queried)
	if leftOver != length-9 { // the user's own call, and eight sessions'
		t.Errorf("%d of %d calls left to the local run, want %d", leftOver, length, length-9)
	}
	if a := queried["8"]; a.Name != "ops" || a.Rung != "access_key" {
		t.Errorf("%+v", a)
	}
}

// TestHostileText has quotes, control characters and SQL in every text of a record.
func TestHostileText(t *testing.T) {
	t.Parallel()
	const hostile = `'; DROP TABLE who_calls; --\u0000\u202e\"%_\\`
	var records strings.Builder
	for i, field := range []string{hostile, "'", "%", `\\`, "nb_", "", "$.a", "{name}"} {
		fmt.Fprintf(&records, `{"eventTime":"2026-07-01T10:00:00Z","eventSource":"sts.amazonaws.com","eventName":"AssumeRole","eventID":"%d-1","sourceIPAddress":"%[2]s","errorCode":"","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE%[1]d:SageMaker","accessKeyId":"ASIA%[1]d%[2]s","sessionContext":{"sessionIssuer":{"arn":"%[2]s"},"attributes":{"creationDate":"%[2]s"}}},"requestParameters":{"roleArn":"%[2]s","roleSessionName":"%[2]s","sourceIdentity":"who-%[1]d-%[2]s"},"responseElements":{"credentials":{"accessKeyId":"ASIB%[1]d%[2]s"}}}`+"\n", i, field)
		fmt.Fprintf(&records, `{"eventTime":"2026-07-01T10:00:00Z","eventSource":"s3.amazonaws.com","eventName":"%[2]s","eventID":"%[1]d-2","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE%[1]d:SageMaker","accessKeyId":"ASIA%[1]d%[2]s","sessionContext":{}}}`+"\n", i, field)
		fmt.Fprintf(&records, `{"eventTime":"2026-07-01T10:00:00Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","eventID":"%[1]d-3","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE%[1]d:%[2]s","accessKeyId":"ASIB%[1]d%[2]s"}}`+"\n", i, field)
	}
	path := filepath.Join(t.TempDir(), "records.json")
	if err := os.WriteFile(path, []byte(records.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	counts, leftOver := compare(t, askLocal(t, path), askDuckDB(t, records.String()))
	if leftOver != 0 || counts["base_key"] < 7 || counts["access_key"] < 7 {
		t.Errorf("%d left, %v", leftOver, counts)
	}
}
