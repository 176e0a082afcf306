package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/trail"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/intake"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// hostile are contents that somebody may put into a record.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, "=HYPERLINK(\"http://x\")", "+1", "-1+2", "@SUM(A1)", "\t=1", "  =1", "＝1", "|cmd",
	"\x1b[2J\x1b]0;owned\x07", "two\nlines\r\n", "\u202eevil", "a\u0300\u0301\u0302", "\xff\xfe", "null\x00byte", "</style><b>", "javascript:alert(1)", strings.Repeat("W", 100000), "表形式", "{{.}}",
}

func document(value string) *Document {
	at := noon
	d := &Document{
		Summary: Summary{Calls: 3, Named: 1, Escapes: 1, Conflicts: 1, Rungs: map[string]int{"access_key": 1}, Reasons: map[string]int{"disputed": 2}, Read: intake.Stats{Records: 3, Inputs: 1, First: noon.Unix(), Last: noon.Unix()}},
		Calls: []Call{
			{Time: noon, Name: value, Rung: trail.RungKey, Confidence: trail.High, Action: value, Resource: value, Address: value, Error: value, Caller: value, Opener: value, OpenedAt: &at, EventID: value, Source: value},
			{Time: noon, Reason: trail.Disputed, Candidates: []string{value, value}, Claimed: value, Conflict: value, Action: "s3:GetObject"},
			{Time: noon, Reason: trail.UnknownName, Candidates: []string{value}, Escape: trail.Bypass, Job: value, StartedBy: value, Action: "s3:GetObject"},
		},
		By:        "name",
		Groups:    []Group{{Key: value, Calls: 1, First: noon, Last: noon}},
		Conflicts: []Conflict{{Kind: trail.TwoNames, Text: value, Names: []string{value}, Key: value, Addresses: []string{value}, First: noon, Last: noon}},
		Sessions:  []Session{{Session: value, Role: value, Key: value, Children: []Session{{At: &at, Name: value, Session: value, Address: value, Claimed: value}}}},
		Queries:   []Query{{Time: noon, Name: value, ID: value, Text: value, Tables: []Table{{ARN: value, Permissions: value}}, Objects: []string{value}}},
		Jobs:      []Job{{Time: noon, Name: value, Kind: value, Job: value, Role: value}},
		Timelines: []Timeline{{Name: value, Calls: 2, Hours: []Hour{{Start: noon, Calls: 1}, {Start: noon.Add(5 * time.Hour), Calls: 1, Escapes: 1}}}},
		Actions:   []Group{{Key: value, Calls: 1}},
		Left:      7,
	}
	d.Escapes = d.Calls[2:]
	return d
}

func TestTextFitsAndCannotActOnATerminal(t *testing.T) {
	t.Parallel()
	for _, value := range hostile {
		for _, limit := range []int{80, 132} {
			var b bytes.Buffer
			if err := document(value).WriteText(&b, limit); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(b.String(), "\n")
			for i, line := range lines {
				if i < len(lines)-4 && width(line) > limit {
					t.Errorf("%.20q: a line of %d columns, limit %d: %.200q", value, width(line), limit, line)
				}
				for _, r := range line {
					if !unicode.IsPrint(r) && r != ' ' || unicode.Is(unicode.M, r) || r == utf8.RuneError {
						t.Fatalf("%.20q: character %U in %.100q", value, r, line)
					}
				}
			}
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	d := &Document{
		Summary: Summary{Calls: 1234, Named: 1200, Rungs: map[string]int{"access_key": 1100, "base_key": 100}, Reasons: map[string]int{"disputed": 34}, Escapes: 100, Read: intake.Stats{Records: 1300, Inputs: 2, Duplicates: 66, First: noon.Unix(), Last: noon.Unix() + 60}},
		Calls: []Call{
			{Time: noon, Name: "alice-nb", Rung: trail.RungKey, Confidence: trail.High, Action: "s3:GetObject", Resource: "s3://data/part-00001.parquet", Address: "10.0.0.1"},
			{Time: noon, Reason: trail.Disputed, Candidates: []string{"alice-nb", "bob-nb"}, Claimed: "bob-nb", Escape: trail.Bypass, Action: "sagemaker:DeleteEndpoint", Error: "AccessDenied"},
		},
		Left: 1232,
	}
	var b bytes.Buffer
	if err := d.WriteText(&b, 120); err != nil {
		t.Fatal(err)
	}
	want := `TIME (UTC)           WHO                   HOW             CALL                RESOURCE        FROM      NOTE
2026-07-01 12:00:00  alice-nb              access_…, high  s3:GetObject        s3://da…arquet  10.0.0.1
2026-07-01 12:00:00  ? alice-nb or bob-nb  disputed        sagemaker…Endpoint                            BYPASS;…sDenied

1232 more calls; --limit shows more
1,234 calls, 1,200 named (access_key 1,100, base_key 100); 34 not (disputed 34)
100 escapes, 0 calls by base credentials that claimed no name, 0 conflicts
read 1,300 records in 2 inputs, 2026-07-01 12:00:00 to 2026-07-01 12:01:00; skipped 66 duplicates
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestJSONCannotActOnATerminal sees that it holds what the record holds, and shows
// nothing of it but what can be printed.
func TestJSONCannotActOnATerminal(t *testing.T) {
	t.Parallel()
	for _, value := range append(hostile, "\u009b2J", "\x7f", "\U000e0001tag") {
		var b bytes.Buffer
		d := document(value)
		if err := d.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		for _, r := range b.String() {
			if r != '\n' && !unicode.IsPrint(r) || unicode.Is(unicode.M, r) || r == utf8.RuneError {
				t.Errorf("%.20q: character %U", value, r)
			}
		}
		var back Document
		if err := json.Unmarshal(b.Bytes(), &back); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(value, "\ufffd"); back.Calls[0].Resource != want && value != "\xff\xfe" {
			t.Errorf("%.40q became %.40q", value, back.Calls[0].Resource)
		}
	}
}

func TestCSVHoldsNoFormula(t *testing.T) {
	t.Parallel()
	views := map[string]func(d *Document){
		"calls":     func(d *Document) {},
		"groups":    func(d *Document) { d.Calls = nil },
		"conflicts": func(d *Document) { d.Calls, d.Groups = nil, nil },
		"queries":   func(d *Document) { d.Calls, d.Groups, d.Conflicts = nil, nil, nil },
		"jobs":      func(d *Document) { d.Calls, d.Groups, d.Conflicts, d.Queries = nil, nil, nil, nil },
		"sessions":  func(d *Document) { d.Calls, d.Groups, d.Conflicts, d.Queries, d.Jobs = nil, nil, nil, nil, nil },
	}
	for view, choose := range views {
		for _, value := range hostile {
			d := document(value)
			choose(d)
			var b bytes.Buffer
			if err := d.WriteCSV(&b); err != nil {
				t.Fatal(err)
			}
			rows, err := csv.NewReader(&b).ReadAll()
			if err != nil || len(rows) < 2 {
				t.Fatalf("%s, %.20q: %d rows, %v", view, value, len(rows), err)
			}
			for _, row := range rows {
				for _, cell := range row {
					if trimmed := strings.TrimLeft(cell, " \t"); trimmed != "" && strings.ContainsAny(trimmed[:1], "=+-@|") {
						t.Errorf("%s, %.20q: cell %.60q", view, value, cell)
					}
				}
			}
		}
	}
}

func TestJSONCanBeReadBack(t *testing.T) {
	t.Parallel()
	for _, value := range hostile {
		d := document(value)
		var b bytes.Buffer
		if err := d.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		var back Document
		if err := json.Unmarshal(b.Bytes(), &back); err != nil {
			t.Fatalf("%.20q: %v", value, err)
		}
		if back.Calls[0].Name != strings.ToValidUTF8(value, "\ufffd\ufffd") && back.Calls[0].Name != value {
			t.Errorf("%.20q came back as %.40q", value, back.Calls[0].Name)
		}
		if strings.Contains(b.String(), "<script") {
			t.Errorf("%.20q: a tag in JSON, which may be put into a page", value)
		}
	}
	var b bytes.Buffer
	if err := (&Document{Calls: []Call{}}).WriteJSON(&b); err != nil || !strings.Contains(b.String(), `"calls": []`) || strings.Contains(b.String(), "groups") {
		t.Errorf("no calls: %s (%v)", b.String(), err)
	}
}

func TestHTMLIsInert(t *testing.T) {
	t.Parallel()
	tags := regexp.MustCompile(`<[a-zA-Z/!]`)
	count := func(value string) (string, int) {
		var b bytes.Buffer
		if err := document(value).WriteHTML(&b, "Who "+value); err != nil {
			t.Fatal(err)
		}
		return b.String(), len(tags.FindAllString(b.String(), -1))
	}
	page, want := count("harmless")
	for _, value := range hostile {
		text, got := count(value)
		if got != want {
			t.Errorf("%.30q: %d tags, want %d", value, got, want)
		}
		if strings.Contains(text, "ZgotmplZ") || strings.ContainsRune(text, '\u202e') || strings.Contains(text, "\x1b") {
			t.Errorf("%.30q got through", value)
		}
	}
	if strings.Contains(page, "http://") || strings.Contains(page, "https://") || strings.Contains(page, " src=") || strings.Contains(page, "@import") {
		t.Error("the page refers to something outside")
	}
	if !strings.Contains(page, "default-src 'none'") && !strings.Contains(page, "default-src &#39;none&#39;") {
		t.Error("no content security policy")
	}
}

func TestHTMLOfManyRows(t *testing.T) {
	t.Parallel()
	d := &Document{Calls: make([]Call, 10000)}
	for i := range d.Calls {
		d.Calls[i] = Call{Time: noon, Name: fmt.Sprint("notebook-", i), Action: "s3:GetObject", Resource: strings.Repeat("x", 100)}
	}
	var n counter
	if err := d.WriteHTML(&n, "Who"); err != nil {
		t.Fatal(err)
	}
	if n > 8<<20 {
		t.Errorf("%d bytes for 10,000 rows", n)
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func TestEmptyDocument(t *testing.T) {
	t.Parallel()
	for _, d := range []*Document{{}, {Calls: []Call{}, Groups: []Group{}, Sessions: []Session{}}, {Timelines: []Timeline{{Name: "x"}}}} {
		for _, write := range []func(io.Writer) error{
			func(w io.Writer) error { return d.WriteText(w, 80) }, d.WriteJSON, d.WriteCSV, func(w io.Writer) error { return d.WriteHTML(w, "") },
		} {
			if err := write(io.Discard); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestNewCall(t *testing.T) {
	t.Parallel()
	c := &calls.Call{Time: noon.Unix(), Service: "s3.amazonaws.com", Action: "GetObject", ID: "e", Caller: &calls.Caller{Principal: "AROAEXAMPLE:x", Key: "K"}}
	a := &trail.Answer{Name: "alice-nb", Conflict: &trail.Conflict{Kind: trail.TwoNames, Names: []string{"a", "b"}}, OpenedAt: noon.Unix(), Opener: "ann"}
	want := Call{
		Time: noon, Name: "alice-nb", Conflict: "one base key claimed the names a and b", Action: "s3:GetObject", Caller: "AROAEXAMPLE:x", Key: "K", Opener: "ann", OpenedAt: &noon, EventID: "e",
	}
	if diff := cmp.Diff(want, NewCall(c, a)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzFit(f *testing.F) {
	for _, s := range hostile[:10] {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, limit%200)
		if got := fit(Clean(s), limit); width(got) > limit {
			t.Errorf("fit(%q, %d) = %q, %d columns", s, limit, got, width(got))
		}
	})
}
