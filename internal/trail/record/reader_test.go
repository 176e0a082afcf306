package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// one returns a record of which n is the mark.
func one(n int) string {
	return fmt.Sprintf(`{"eventVersion":"1.08","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:alice-nb","arn":"arn:aws:sts::111122223333:assumed-role/R/alice-nb","accessKeyId":"ASIA%dEXAMPLE","sessionContext":{"sessionIssuer":{"type":"Role","arn":"arn:aws:iam::111122223333:role/service-role/R"},"attributes":{"creationDate":"2026-07-01T20:43:33Z"},"sourceIdentity":"alice-nb"}},"eventTime":"2026-07-01T20:43:34Z","eventSource":"s3.amazonaws.com","eventName":"ListBuckets","requestParameters":{"a":[{"b":1.5e3},{"c":null}],"q":"say \"hi\""},"eventID":"e-%d"}`, n, n)
}

type outcome struct {
	IDs []string
	Bad []string
}

func readAll(t testing.TB, src io.Reader) outcome {
	t.Helper()
	return readWith(NewReader(src))
}

func readWith(r *Reader) outcome {
	var got outcome
	for {
		rec, err := r.Next()
		var bad *BadError
		switch {
		case errors.Is(err, io.EOF):
			return got
		case errors.As(err, &bad):
			got.Bad = append(got.Bad, bad.Error())
		case err != nil:
			got.Bad = append(got.Bad, err.Error())
			return got
		default:
			got.IDs = append(got.IDs, string(rec.EventID))
		}
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func TestShapes(t *testing.T) {
	t.Parallel()
	envelope := func(n int) string {
		return `{"version":"0","detail-type":"AWS API Call via CloudTrail","source":"aws.s3","detail":` + one(n) + `}`
	}
	pretty := func(s string) string {
		var b bytes.Buffer
		if err := json.Indent(&b, []byte(s), "", "  "); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	tests := map[string]struct {
		input string
		want  int
		bad   []string
	}{
		"empty":            {"", 0, nil},
		"delivered":        {`{"Records":[` + one(0) + "," + one(1) + `]}`, 2, nil},
		"delivered pretty": {pretty(`{"Records":[` + one(0) + "," + one(1) + `]}`), 2, nil},
		"no records":       {`{"Records":[]}`, 0, nil},
		"concatenated":     {`{"Records":[` + one(0) + `]}{"Records":[` + one(1) + "]}\n", 2, nil},
		"bare array":       {"[" + one(0) + ",\n" + one(1) + "]", 2, nil},
		"slurped files":    {`[{"Records":[` + one(0) + `]},{"Records":[` + one(1) + `]}]`, 2, nil},
		"lines":            {one(0) + "\n" + one(1) + "\r\n\r\n" + one(2), 3, nil},
		"byte-order mark":  {"\xef\xbb\xbf" + one(0), 1, nil},
		"lookup-events": {`{"Events":[{"EventId":"e-0","Resources":[{"ResourceType":"x"}],"CloudTrailEvent":` + quoted(one(0)) + `},
			{"CloudTrailEvent":` + quoted(one(1)) + `,"Username":"alice-nb"}],"NextToken":"abc","More":{"Events":[1]}}`, 2, nil},
		"EventBridge lines":      {envelope(0) + "\n" + envelope(1), 2, nil},
		"filter-log-events":      {`{"searchedLogStreams":[],"events":[{"timestamp":1,"message":` + quoted(one(0)) + `},{"message":` + quoted(envelope(1)) + `}]}`, 2, nil},
		"subscription batches":   {`{"messageType":"DATA_MESSAGE","owner":"1","logEvents":[{"id":"3","message":` + quoted(one(0)) + `}]}{"messageType":"DATA_MESSAGE","logEvents":[{"message":` + quoted(one(1)) + `}]}`, 2, nil},
		"exported log lines":     {"2026-07-01T20:43:34.123Z " + one(0) + "\n2026-07-01T20:43:35Z " + one(1) + "\n", 2, nil},
		"two lists in an object": {`{"a":1,"Events":[` + one(0) + `],"events":[` + one(1) + `],"z":{}}`, 2, nil},
		"digest file":            {`{"awsAccountId":"111122223333","logFiles":[{"s3Object":"x"}]}`, 0, []string{"offset 0: a JSON object without eventName, eventSource and eventTime"}},
		"another event":          {`{"detail-type":"EC2 Instance State-change","detail":{"state":"running"}}` + one(0), 1, []string{"offset 0: a JSON object without eventName, eventSource and eventTime"}},
		"truncated list":         {`{"Records":[` + one(0), 1, []string{fmt.Sprintf("offset %d: the input ends inside the list of records", len(one(0))+12)}},
		"truncated record":       {`{"Records":[` + one(0) + "," + one(1)[:200], 1, []string{fmt.Sprintf("offset %d: the input ends inside a record", len(one(0))+13)}},
		"garbage between":        {one(0) + "\nhello, {world}\n" + one(1), 2, []string{fmt.Sprintf("offset %d: neither a record nor the end of the list of records", len(one(0))+1)}},
		"garbage line":           {"oops\n" + one(0), 1, []string{"offset 0: neither a record nor the end of the list of records"}},
		"numbers":                {"[1,2," + one(0) + "]", 1, []string{"offset 1: neither a record nor the end of the list of records"}},
		"impossible time":        {strings.Replace(one(0), "07-01T20:43:34", "02-30T20:43:34", 1), 0, []string{"offset 0: eventTime is not a time"}},
		"control character":      {strings.Replace(one(0), "ListBuckets", "List\nBuckets", 1) + one(1), 1, []string{"offset 0: a control character in a string"}},
		"list behind a cut list": {`{"Records":[` + one(0)[:100] + `{"Records":[` + one(1) + `]}`, 1, []string{"offset 12: a record with something else behind its end"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := readAll(t, strings.NewReader(test.input))
			if len(got.IDs) != test.want {
				t.Errorf("read %d records %v, want %d; bad: %v", len(got.IDs), got.IDs, test.want, got.Bad)
			}
			if test.bad != nil {
				if name == "list behind a cut list" {
					if len(got.Bad) != 1 {
						t.Errorf("reports: %q", got.Bad)
					}
				} else if diff := cmp.Diff(test.bad, got.Bad); diff != "" {
					t.Errorf("reports (-want +got):\n%s", diff)
				}
			}
			for _, slow := range []io.Reader{iotest.OneByteReader(strings.NewReader(test.input)), iotest.DataErrReader(strings.NewReader(test.input))} {
				if diff := cmp.Diff(got, readAll(t, slow)); diff != "" {
					t.Errorf("read in other pieces (-whole +pieces):\n%s", diff)
				}
			}
		})
	}
}

// TestBrokenNeighbour breaks the middle one of three records at places all over, in several ways
// and expects the other two each time.
func TestBrokenNeighbour(t *testing.T) {
	t.Parallel()
	victim := one(1)
	wrap := map[string]func(s string) string{
		"list":  func(s string) string { return `{"Records":[` + one(0) + "," + s + "," + one(2) + `]}` },
		"lines": func(s string) string { return one(0) + "\n" + s + "\n" + one(2) + "\n" },
	}
	breaks := map[string]func(i int) string{
		"truncated": func(i int) string { return victim[:i] },
		"beheaded":  func(i int) string { return victim[i:] },
		"one lost":  func(i int) string { return victim[:i] + victim[i+1:] },
	}
	for _, c := range "\"{}[]:,\\\x00x\xff" {
		breaks["set to "+fmt.Sprintf("%q", c)] = func(i int) string { return victim[:i] + string(c) + victim[i+1:] }
		breaks["inserted "+fmt.Sprintf("%q", c)] = func(i int) string { return victim[:i] + string(c) + victim[i:] }
	}
	r := NewReader(nil)
	for in, frame := range wrap {
		for how, cut := range breaks {
			for i := len(how) % 5; i < len(victim); i += 5 {
				text := frame(cut(i))
				r.Reset(strings.NewReader(text))
				got := readWith(r)
				if len(got.IDs) < 2 || got.IDs[0] != "e-0" || got.IDs[len(got.IDs)-1] != "e-2" || len(got.IDs) > 3 {
					t.Fatalf("%s, %s at %d: read %v, bad %v\n%s", in, how, i, got.IDs, got.Bad, cut(i))
				}
				if len(got.IDs) == 2 && len(got.Bad) == 0 && cut(i) != "" {
					t.Fatalf("%s, %s at %d: a record went without a report\n%s", in, how, i, cut(i))
				}
			}
		}
	}
}

func TestLongInputs(t *testing.T) {
	t.Parallel()
	long := strings.Replace(one(1), `"a":`, `"pad":"`+strings.Repeat("x", MaxRecord-2000)+`","a":`, 1)
	tooLong := strings.Replace(one(1), `"a":`, `"pad":"`+strings.Repeat("x", MaxRecord)+`","a":`, 1)
	unclosed := `{"Records":[{"eventVersion":"` + strings.Repeat("x", 3*MaxRecord)
	tests := map[string]struct {
		input string
		want  []string
		bad   int
	}{
		"nearly 4 MiB":            {one(0) + long + one(2), []string{"e-0", "e-1", "e-2"}, 0},
		"over 4 MiB":              {one(0) + tooLong + one(2), []string{"e-0", "e-2"}, 1},
		"a string without end":    {one(0) + unclosed, []string{"e-0"}, 1},
		"a string, then a record": {unclosed + `"` + one(2) + "]}", []string{"e-2"}, 1},
		"white space":             {strings.Repeat(" \n", 2*MaxRecord) + one(0), []string{"e-0"}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := readAll(t, iotest.HalfReader(strings.NewReader(test.input)))
			if diff := cmp.Diff(test.want, got.IDs); diff != "" || len(got.Bad) != test.bad {
				t.Errorf("%d reports %v; records (-want +got):\n%s", len(got.Bad), got.Bad, diff)
			}
		})
	}
}

// TestHostileInputsTakeLinearTime would not end if each of the braces cost a look at
// all that follows.
func TestHostileInputsTakeLinearTime(t *testing.T) {
	t.Parallel()
	for name, unit := range map[string]string{
		"open objects":     `{"a":[`,
		"braces":           "{,",
		"nested arrays":    "[{",
		"containers":       `{"Records":[`,
		"broken records":   `{"eventVersion":x`,
		"foreign objects":  `{},`,
		"unclosed strings": `{"`,
		"nested envelopes": `{"detail":`,
		"empty lists":      `{"Events":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			input := strings.Repeat(unit, (1<<18)/len(unit)) + "\n" + one(7)
			r, reports := NewReader(strings.NewReader(input)), 0
			for {
				_, err := r.Next()
				var bad *BadError
				if errors.Is(err, io.EOF) {
					break
				} else if errors.As(err, &bad) {
					reports++
				}
			}
			t.Log(reports, "reports")
			if len(r.open) > 2*maxContainers || cap(r.buf) > MaxRecord {
				t.Errorf("holds %d containers, %d bytes", len(r.open), cap(r.buf))
			}
		})
	}
}

func TestReadErrorIsReturned(t *testing.T) {
	t.Parallel()
	broken := errors.New("gzip: invalid checksum")
	r := NewReader(io.MultiReader(strings.NewReader(one(0)+one(1)[:50]), iotest.ErrReader(broken)))
	var got []string
	for range 10 {
		rec, err := r.Next()
		if err == nil {
			got = append(got, string(rec.EventID))
			continue
		}
		got = append(got, err.Error())
		if errors.Is(err, broken) {
			break
		}
	}
	want := []string{"e-0", fmt.Sprintf("offset %d: the input ends inside a record", len(one(0))), broken.Error()}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	raw := []byte(`{"a":{"b":"x\u00e9y","b":"last"},"n":null,"s":"{\"k\":\"in text\"}","l":["1",{"z":2}]}`)
	for _, test := range []struct {
		path []string
		want string
	}{
		{[]string{"a", "b"}, "last"}, {[]string{"n", "b"}, ""}, {[]string{"s", "k"}, "in text"},
		{[]string{"l"}, ""}, {[]string{"missing"}, ""}, {nil, ""},
	} {
		if got := String(raw, test.path...); got != test.want {
			t.Errorf("String(%v) = %q, want %q", test.path, got, test.want)
		}
	}
	var elements []string
	for e := range Elements(Raw(raw, "l")) {
		elements = append(elements, string(e))
	}
	if diff := cmp.Diff([]string{`"1"`, `{"z":2}`}, elements); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
	for _, broken := range []string{"", `"`, `"\`, `"\u12`, "{", `{"a"`, `{"a":`, "[", `["`, `{"a":"\u`, "nul"} {
		String([]byte(broken), "a", "b")
		for range Elements([]byte(broken)) {
		}
	}
}

// invictus returns the files of the public data set, which is named by an environment
// variable.
func invictus(t testing.TB) []string {
	dir := os.Getenv("NBIDENTITYD_TRAIL_DATA")
	if dir == "" {
		t.Skip("needs data: NBIDENTITYD_TRAIL_DATA names a directory with the records of invictus-ir/aws_dataset")
	}
	files, err := filepath.Glob(filepath.Join(dir, "CloudTrail", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files under %s: %v", dir, err)
	}
	return files
}

func TestPublicRecords(t *testing.T) {
	total := 0
	for _, file := range invictus(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var want struct{ Records []json.RawMessage }
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		r := NewReader(bytes.NewReader(text))
		for i := range want.Records {
			rec, err := r.Next()
			if err != nil {
				t.Fatalf("%s, record %d: %v", file, i, err)
			}
			if diff := cmp.Diff(oracle(want.Records[i]), taken(rec)); diff != "" {
				t.Fatalf("%s, record %d (-encoding/json +got):\n%s", file, i, diff)
			}
			total++
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if total != 2900 {
		t.Errorf("%d records, want 2900", total)
	}
}

// invictusText is the public data set in one piece, nil without it.
func invictusText(b *testing.B) []byte {
	if os.Getenv("NBIDENTITYD_TRAIL_DATA") == "" {
		return nil
	}
	var all []byte
	for _, file := range invictus(b) {
		text, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, text...)
	}
	return all
}
