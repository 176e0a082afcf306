package report

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/trail"
)

const clock = "2006-01-02 15:04:05"

// WriteText writes tables that are at most columns wide; 0 is as wide as need be.
func (d *Document) WriteText(w io.Writer, columns int) error {
	b := bufio.NewWriter(w)
	for _, t := range []struct {
		show bool
		make func() table
	}{
		{d.Calls != nil, d.callTable}, {d.Groups != nil, d.groupTable}, {d.Conflicts != nil, d.conflictTable},
		{d.Queries != nil, d.queryTable}, {d.Jobs != nil, d.jobTable},
	} {
		if t.show {
			t := t.make()
			t.write(b, columns)
			fmt.Fprintln(b)
		}
	}
	if d.Sessions != nil {
		for _, s := range d.Sessions {
			writeSession(b, &s, "", columns)
		}
		fmt.Fprintln(b)
	}
	if rest := d.Rest(); rest != "" {
		fmt.Fprintln(b, rest)
	}
	d.Summary.write(b)
	return b.Flush()
}

// table is rows of cells. When they do not fit, the widest flexible column gives way.
type table struct {
	head     []string
	rows     [][]string
	least    []int // what each keeps
	flexible []int // columns that give way
	spare    []int // columns that are left out, in this order, when it is still too wide
}

func (t *table) add(cells ...string) {
	for i := range cells {
		cells[i] = Clean(cells[i])
	}
	t.rows = append(t.rows, cells)
}

func (t *table) write(b *bufio.Writer, limit int) {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], width(cell))
		}
	}
	shown := t.shrink(widths, limit)
	line := func(row []string) {
		var out strings.Builder
		for n, i := range shown {
			cell := fit(row[i], widths[i])
			out.WriteString(cell)
			if n < len(shown)-1 {
				out.WriteString(strings.Repeat(" ", widths[i]-width(cell)+gap))
			}
		}
		fmt.Fprintln(b, strings.TrimRight(out.String(), " "))
	}
	line(t.head)
	for _, row := range t.rows {
		line(row)
	}
}

const gap = 2 // columns of a terminal between those of a table

// shrink makes widths fit the limit and returns which columns are shown.
func (t *table) shrink(widths []int, limit int) (shown []int) {
	for i := range widths {
		shown = append(shown, i)
	}
	if limit == 0 {
		return shown
	}
	sum := func(of func(i int) int) (total int) {
		for _, i := range shown {
			total += of(i) + gap
		}
		return total - gap
	}
	least := func(i int) int {
		if slices.Contains(t.flexible, i) {
			return min(t.least[i], widths[i])
		}
		return widths[i]
	}
	for _, i := range t.spare {
		if sum(least) > limit {
			shown = slices.DeleteFunc(shown, func(j int) bool { return i == j })
		}
	}
	for total := sum(func(i int) int { return widths[i] }); total > limit; total-- {
		widest := -1
		for _, i := range shown {
			if widths[i] > least(i) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return shown
}

func (d *Document) callTable() table {
	t := table{
		head:  []string{"TIME (UTC)", "WHO", "HOW", "CALL", "RESOURCE", "FROM", "NOTE"},
		least: []int{0, 22, 8, 18, 8, 9, 6}, flexible: []int{1, 2, 3, 4, 5, 6}, spare: []int{5, 2, 6},
	}
	for i := range d.Calls {
		c := &d.Calls[i]
		t.add(c.Time.Format(clock), c.Who(), c.How(), c.Action, c.Resource, c.Address, c.Note())
	}
	return t
}

func (d *Document) groupTable() table {
	t := table{
		head:  []string{strings.ToUpper(d.By), "CALLS", "ERRORS", "ESCAPES", "DISPUTED", "NAMES", "FIRST (UTC)", "LAST (UTC)"},
		least: []int{12, 0, 0, 0, 0, 0, 0, 0}, flexible: []int{0}, spare: []int{6, 5, 4},
	}
	for _, g := range d.Groups {
		t.add(g.Key, number(g.Calls), number(g.Errors), number(g.Escapes), number(g.Disputed), number(g.Names), g.First.Format(clock), g.Last.Format(clock))
	}
	return t
}

func (d *Document) conflictTable() table {
	t := table{
		head:  []string{"LAST (UTC)", "CONFLICT", "ACCESS KEY", "CLAIMS", "SINCE", "FROM", "WHAT"},
		least: []int{0, 9, 8, 0, 0, 9, 20}, flexible: []int{2, 5, 6}, spare: []int{4, 5, 2},
	}
	for _, c := range d.Conflicts {
		t.add(c.Last.Format(clock), string(c.Kind), c.Key, number(c.Claims), c.First.Format(clock), strings.Join(c.Addresses, " "), c.Text)
	}
	return t
}

func (d *Document) queryTable() table {
	t := table{
		head:  []string{"TIME (UTC)", "WHO", "QUERY", "TABLES", "READS", "OBJECTS", "TEXT"},
		least: []int{0, 10, 8, 12, 0, 10, 16}, flexible: []int{1, 2, 3, 5, 6}, spare: []int{2, 5},
	}
	for _, q := range d.Queries {
		var tables []string
		for _, table := range q.Tables {
			name := table.ARN[strings.LastIndex(table.ARN, ":")+1:]
			filtered := ""
			if table.CellLevel {
				filtered = ", filtered"
			}
			tables = append(tables, strings.TrimPrefix(name, "table/")+" ("+table.Permissions+filtered+")")
		}
		who := q.Name
		if who == "" {
			who = "? " + string(q.Reason)
		}
		t.add(q.Time.Format(clock), who, q.ID, strings.Join(tables, " "), number(q.Reads), strings.Join(q.Objects, " "), q.Text)
	}
	return t
}

func (d *Document) jobTable() table {
	t := table{head: []string{"TIME (UTC)", "STARTED BY", "KIND", "JOB", "ROLE"}, least: []int{0, 10, 6, 12, 8}, flexible: []int{1, 2, 3, 4}, spare: []int{4}}
	for _, j := range d.Jobs {
		who := j.Name
		if who == "" {
			who = "?"
		}
		t.add(j.Time.Format(clock), who, j.Kind, j.Job, j.Role)
	}
	return t
}

// writeSession writes a tree, one line for each set of credentials.
func writeSession(b *bufio.Writer, s *Session, indent string, columns int) {
	when := "before          "
	if s.At != nil {
		when = s.At.Format("2006-01-02 15:04")
	}
	who := s.Name
	if who == "" {
		who = "? " + string(s.Reason)
	}
	role := s.Role[strings.LastIndex(s.Role, "/")+1:]
	if role != "" {
		role += "/"
	}
	line := fmt.Sprintf("%s  %s%s%s  %s  = %s", when, indent, role, s.Session, s.Key, who)
	if s.Address != "" {
		line += "  from " + s.Address
	}
	if s.Claimed != "" {
		line += "  CLAIMED " + s.Claimed
	}
	if s.Escape == trail.Bypass && s.Session != "SageMaker" {
		line += "  BYPASS"
	}
	if line = Clean(line); columns > 0 {
		line = fit(line, columns)
	}
	fmt.Fprintln(b, line)
	for i := range s.Children {
		writeSession(b, &s.Children[i], indent+"  ", columns)
	}
}

func (s *Summary) write(b *bufio.Writer) {
	fmt.Fprintf(b, "%s calls, %s named", number(s.Calls), number(s.Named))
	list(b, s.Rungs)
	fmt.Fprintf(b, "; %s not", number(s.Calls-s.Named))
	list(b, s.Reasons)
	fmt.Fprintf(b, "\n%s escapes, %s calls by base credentials that claimed no name, %s conflicts", number(s.Escapes), number(s.BaseCalls), number(s.Conflicts))
	if s.StartUps > 0 {
		fmt.Fprintf(b, "; %s calls of start-up scripts, before the daemon was there", number(s.StartUps))
	}
	fmt.Fprintln(b)
	r := &s.Read
	fmt.Fprintf(b, "read %s records in %s inputs", number(r.Records), number(r.Inputs))
	if r.Records > 0 {
		fmt.Fprintf(b, ", %s to %s", time.Unix(r.First, 0).UTC().Format(clock), time.Unix(r.Last, 0).UTC().Format(clock))
	}
	for _, skipped := range []struct {
		count int
		what  string
	}{
		{r.Duplicates, "duplicates"}, {s.Copies, "copies of other accounts"}, {r.Insights, "insights"}, {r.Foreign, "objects that are no records"},
		{r.Broken, "broken places"}, {r.Failed, "unreadable inputs"}, {s.DigestFiles, "digest or insight files"}, {s.OtherFiles, "other files"}, {s.OtherFolders, "folders of other logs"},
	} {
		if skipped.count > 0 {
			fmt.Fprintf(b, "; skipped %s %s", number(skipped.count), skipped.what)
		}
	}
	fmt.Fprintln(b)
}

// list writes counts in parentheses, the largest first.
func list(b *bufio.Writer, counts map[string]int) {
	if len(counts) == 0 {
		return
	}
	keys := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		if counts[x] != counts[y] {
			return counts[y] - counts[x]
		}
		return strings.Compare(x, y)
	})
	for i, key := range keys {
		keys[i] = fmt.Sprintf("%s %s", key, number(counts[key]))
	}
	fmt.Fprintf(b, " (%s)", strings.Join(keys, ", "))
}

// number writes a count with commas.
func number(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
