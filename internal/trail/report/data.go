package report

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// WriteJSON writes one object. Its strings hold what the records do; what could act on a
// terminal is escaped, of which encoding/json escapes a part.
func (d *Document) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(escaper{w})
	e.SetIndent("", " ")
	return e.Encode(d)
}

// escaper writes JSON with escapes for what is not shown. It is given whole characters.
type escaper struct{ w io.Writer }

func (e escaper) Write(text []byte) (int, error) {
	b := bufio.NewWriter(e.w)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r < 0x7f || shown(r) {
			b.Write(text[i : i+size]) // Flush keeps the error
		} else {
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(b, `\u%04x`, unit)
			}
		}
		i += size
	}
	if err := b.Flush(); err != nil {
		return 0, err
	}
	return len(text), nil
}

// WriteCSV writes the one list that was asked for, calls before groups before the
// others. Trees of sessions have a column for their depth.
func (d *Document) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	row := func(cells ...string) {
		for i := range cells {
			cells[i] = harmless(cells[i])
		}
		_ = c.Write(cells) // Flush keeps the error
	}
	at := func(t time.Time) string { return t.Format(time.RFC3339) }
	switch {
	case d.Calls != nil:
		row("time", "name", "kind", "rung", "confidence", "reason", "candidates", "claimed", "escape", "conflict", "action", "resource", "region", "address", "error", "account", "caller", "access_key_id", "source_identity", "invoked_by", "job", "started_by", "opened_by", "event_id")
		for _, r := range d.Calls {
			row(at(r.Time), r.Name, string(r.Kind), string(r.Rung), string(r.Confidence), string(r.Reason), strings.Join(r.Candidates, " "), r.Claimed, string(r.Escape), r.Conflict, r.Action, r.Resource, r.Region, r.Address, r.Error, r.Account, r.Caller, r.Key, r.Source, r.InvokedBy, r.Job, r.StartedBy, r.Opener, r.EventID)
		}
	case d.Groups != nil:
		row(d.By, "calls", "errors", "escapes", "disputed", "names", "first", "last")
		for _, g := range d.Groups {
			row(g.Key, strconv.Itoa(g.Calls), strconv.Itoa(g.Errors), strconv.Itoa(g.Escapes), strconv.Itoa(g.Disputed), strconv.Itoa(g.Names), at(g.First), at(g.Last))
		}
	case d.Conflicts != nil:
		row("kind", "text", "names", "owner", "access_key_id", "addresses", "claims", "first", "last")
		for _, x := range d.Conflicts {
			row(string(x.Kind), x.Text, strings.Join(x.Names, " "), x.Owner, x.Key, strings.Join(x.Addresses, " "), strconv.Itoa(x.Claims), at(x.First), at(x.Last))
		}
	case d.Queries != nil:
		row("time", "name", "reason", "query_id", "text", "table", "permissions", "cell_level", "engine", "reads", "objects")
		for _, q := range d.Queries {
			for _, t := range append([]Table(nil), tablesOf(&q)...) {
				row(at(q.Time), q.Name, string(q.Reason), q.ID, q.Text, t.ARN, t.Permissions, strconv.FormatBool(t.CellLevel), t.Engine, strconv.Itoa(q.Reads), strings.Join(q.Objects, " "))
			}
		}
	case d.Jobs != nil:
		row("time", "name", "kind", "job", "role")
		for _, j := range d.Jobs {
			row(at(j.Time), j.Name, j.Kind, j.Job, j.Role)
		}
	case d.Sessions != nil:
		row("depth", "at", "name", "reason", "role", "session", "access_key_id", "address", "claimed", "escape")
		var walk func(depth int, sessions []Session)
		walk = func(depth int, sessions []Session) {
			for _, s := range sessions {
				when := ""
				if s.At != nil {
					when = at(*s.At)
				}
				row(strconv.Itoa(depth), when, s.Name, string(s.Reason), s.Role, s.Session, s.Key, s.Address, s.Claimed, string(s.Escape))
				walk(depth+1, s.Children)
			}
		}
		walk(0, d.Sessions)
	}
	c.Flush()
	return c.Error()
}

// tablesOf returns the tables of a query, an empty one if there are none.
func tablesOf(q *Query) []Table {
	if len(q.Tables) == 0 {
		return []Table{{}}
	}
	return q.Tables
}

// harmless returns a cell that no spreadsheet takes for a formula.
func harmless(s string) string {
	s = Clean(s)
	if s == "" {
		return s
	}
	first := []rune(strings.TrimLeft(s, " "))
	if len(first) > 0 && strings.ContainsRune("=+-@|%＝＋－＠", first[0]) {
		return "'" + s
	}
	return s
}
