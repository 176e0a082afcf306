package athena

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/trail"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/intake"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
	"github.com/nbidentityd/nbidentityd/internal/trail/trailgen"
)

const (
	// duckdb is the environment variable with a Python that has the package duckdb.
	duckdb = "NBIDENTITYD_DUCKDB_PYTHON"
	// trino is the environment variable with a directory that holds trino-parser and
	// what it needs: trino-grammar, antlr4-runtime, guava, failureaccess.
	trino = "NBIDENTITYD_TRINO_JARS"
	// size is the environment variable that makes TestSameAnswers larger.
	size = "NBIDENTITYD_TRAIL_RECORDS"
)

// parse parses each statement and one that is none.
const parse = `
import io.trino.sql.parser.SqlParser;
import java.nio.file.*;
public class Parse {
    public static void main(String[] args) throws Exception {
        int good = 0;
        for (String file : args) {
            try {
                new SqlParser().createStatement(Files.readString(Path.of(file)));
                good++;
            } catch (io.trino.sql.parser.ParsingException e) {
                System.out.println(file + ": " + e.getMessage());
            }
        }
        System.out.println(good + " parsed");
    }
}
`

// TestTrinoGrammar parses the queries with Trino's own parser. The table's statement is
// Hive's, which Athena hands to another parser.
func TestTrinoGrammar(t *testing.T) {
	t.Parallel()
	jars := os.Getenv(trino)
	if jars == "" {
		t.Skipf("needs Trino's parser: %s is the directory of its jars", trino)
	}
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip("needs java on the PATH")
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := []string{"-cp", filepath.Join(jars, "*"), write("Parse.java", parse)}
	statements := Queries()
	for i, s := range statements {
		args = append(args, write(fmt.Sprintf("%02d.sql", i+1), s))
	}
	args = append(args, write("broken.sql", strings.Replace(statements[0], "SELECT", "SELECT FROM", 1)))
	out, err := exec.CommandContext(t.Context(), java, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "broken.sql") || lines[1] != strconv.Itoa(len(statements))+" parsed" {
		t.Errorf("%d statements, of which the broken one alone must be refused:\n%s", len(statements), out)
	}
	t.Logf("%d statements, and a broken one refused", len(statements))
}

// run makes the table in DuckDB, which knows three of Trino's functions by other names,
// and runs the statements.
const run = `
import duckdb, json, sys
records, statements, answers = sys.argv[1:4]
db = duckdb.connect()
db.execute("SET memory_limit = '2GB'")
db.execute("SET TimeZone = 'UTC'")
db.execute("CREATE MACRO json_extract_scalar(text, path) AS json_extract_string(text, path)")
db.execute("CREATE MACRO regexp_like(text, pattern) AS regexp_matches(text, pattern)")
db.execute("CREATE MACRO from_iso8601_timestamp(text) AS CAST(text AS TIMESTAMPTZ)")
db.execute("CREATE MACRO to_unixtime(t) AS epoch(t)")
db.execute("CREATE MACRO from_unixtime(t) AS to_timestamp(t)")
columns = {name: "VARCHAR" for name in (
    "eventTime eventSource eventName awsRegion sourceIPAddress errorCode requestParameters responseElements "
    "additionalEventData eventID recipientAccountId").split()}
columns["userIdentity"] = ("STRUCT(type VARCHAR, principalId VARCHAR, arn VARCHAR, accountId VARCHAR, invokedBy VARCHAR, accessKeyId VARCHAR, "
    "userName VARCHAR, onBehalfOf STRUCT(userId VARCHAR), inScopeOf STRUCT(sourceArn VARCHAR), sessionContext STRUCT("
    "attributes STRUCT(creationDate VARCHAR), sessionIssuer STRUCT(arn VARCHAR), sourceIdentity VARCHAR))")
db.execute("CREATE TABLE cloudtrail_logs AS SELECT * FROM read_json(?, format = 'newline_delimited', columns = " + repr(columns) + ")", [records])
for s in json.load(open(statements)):
    try:
        db.execute(s.replace(" WITH (format = 'PARQUET')", ""))
    except Exception as e:
        sys.exit(s[:200] + "\n" + str(e))
rows = db.execute("SELECT id, name, kind, rung, confidence, reason, escapes, conflict FROM who_answers").fetchall()
with open(answers, "w") as f:
    for row in rows:
        f.write(json.dumps(dict(zip("ID Name Kind Rung Confidence Reason Escape Conflict".split(), row))) + "\n")
print(duckdb.__version__)
`

// line is an answer of either side.
type line struct {
	ID, Name, Kind, Rung, Confidence, Reason, Escape string
	Conflict                                         bool
}

// askDuckDB answers for records, one JSON object a line.
func askDuckDB(t *testing.T, records string) map[string]line {
	t.Helper()
	python := os.Getenv(duckdb)
	if python == "" {
		t.Skipf("needs DuckDB: %s is a Python that has the package duckdb", duckdb)
	}
	dir := t.TempDir()
	statements, err := json.Marshal(Queries())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"records": records, "statements": string(statements), "run.py": run} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	cmd := exec.CommandContext(t.Context(), python, "run.py", "records", "statements", "answers")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("DuckDB %s: %v", strings.TrimSpace(string(out)), time.Since(began).Round(time.Millisecond))
	text, err := os.ReadFile(filepath.Join(dir, "answers"))
	if err != nil {
		t.Fatal(err)
	}
	answers := make(map[string]line)
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var a line
		if err := decoder.Decode(&a); err == io.EOF {
			return answers
		} else if err != nil {
			t.Fatal(err)
		}
		if _, twice := answers[a.ID]; twice {
			t.Fatalf("two answers for %s", a.ID)
		}
		answers[a.ID] = a
	}
}

// askLocal answers for what is at a path.
func askLocal(t *testing.T, path string) map[string]line {
	t.Helper()
	inputs, _, err := source.Find([]string{path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	read, err := intake.Read(t.Context(), inputs, nil, intake.Config{Workers: 2, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer read.Spool.Close()
	index := trail.NewIndex(read.Evidence, trail.Config{})
	answers := make(map[string]line)
	for b := range read.Spool.Blocks() {
		err := read.Spool.Reader().Read(b, func(c *calls.Call) {
			if index.IsCopy(c) {
				return
			}
			a := index.Who(c)
			l := line{
				ID: strings.Clone(c.ID), Name: strings.Clone(a.Name), Kind: string(a.Kind), Rung: string(a.Rung), Confidence: string(a.Confidence),
				Reason: string(a.Reason), Escape: string(a.Escape), Conflict: a.Conflict != nil,
			}
			if l.Name == "" {
				l.Kind, l.Confidence = "", ""
			}
			answers[l.ID] = l
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return answers
}

// left is the reason of calls that the queries leave to the local run.
const left = "left_to_local"

// compare reports each call of which the queries say something else than the local
// run, and returns how many calls there are by evidence, and how many were left.
func compare(t *testing.T, local, queried map[string]line) (counts map[string]int, leftOver int) {
	t.Helper()
	counts = make(map[string]int)
	differences := 0
	for id, want := range local {
		got, ok := queried[id]
		if ok && got.Reason == left && got.Name == "" {
			leftOver++
			continue
		}
		label := want.Rung
		if want.Name == "" {
			label = "(" + want.Reason + ")"
		}
		counts[label]++
		if got != want {
			if differences++; differences <= 20 {
				t.Errorf("%s (-local +queried):\n%s", id, cmp.Diff(want, got))
			}
		}
	}
	for id := range queried {
		if _, ok := local[id]; !ok {
			t.Errorf("%s is answered by the queries alone", id)
		}
	}
	if differences > 0 {
		t.Errorf("%d differences", differences)
	}
	return counts, leftOver
}

// recordLines returns the records of a generated trail, whole ones only, one a line.
func recordLines(t *testing.T, dir string) string {
	t.Helper()
	const first = `{"eventVersion"`
	var all strings.Builder
	err := filepath.WalkDir(filepath.Join(dir, "AWSLogs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "/CloudTrail/") {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		unzipped, err := gzip.NewReader(file)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(unzipped)
		if err != nil {
			return err
		}
		for part := range strings.SplitSeq(string(text), first) {
			part = first + strings.TrimSuffix(strings.TrimSuffix(part, ","), "]}")
			if json.Valid([]byte(part)) {
				all.WriteString(part + "\n")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestSameAnswers compares the queries with the local run, call by call.
func TestSameAnswers(t *testing.T) {
	t.Parallel()
	cfg := trailgen.Config{Seed: 5, Records: 10_000, Notebooks: 40, Days: 1, Start: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)}
	if s := os.Getenv(size); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", size, err)
		}
		cfg.Records = n
	}
	if os.Getenv(duckdb) == "" {
		t.Skipf("needs DuckDB: %s is a Python that has the package duckdb", duckdb)
	}
	dir := t.TempDir()
	truth, err := trailgen.Write(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	records := recordLines(t, dir)
	if got, want := strings.Count(records, "\n"), truth.Calls+truth.Duplicates+truth.Copies; got != want {
		t.Fatalf("%d records, want %d", got, want)
	}
	local, queried := askLocal(t, dir), askDuckDB(t, records)
	counts, leftOver := compare(t, local, queried)
	if leftOver != 0 {
		t.Errorf("%d calls left to the local run, of which this trail has none", leftOver)
	}
	for _, rung := range trail.Rungs() {
		if counts[string(rung)] == 0 {
			t.Errorf("no call is answered by %s", rung)
		}
	}
	for _, label := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%-28s %7d", label, counts[label])
	}
	t.Logf("%d records, %d calls compared, %d left to the local run", strings.Count(records, "\n"), len(local), leftOver)
}
