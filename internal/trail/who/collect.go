package who

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/trail"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/evidence"
	"github.com/nbidentityd/nbidentityd/internal/trail/report"
)

// newest keeps the newest calls, up to a limit; 0 is none.
type newest struct {
	limit int
	rows  rows // a heap with the oldest on top, once full
	left  int
}

type rows []report.Call

func (r rows) Len() int           { return len(r) }
func (r rows) Less(i, j int) bool { return report.Newer(&r[i], &r[j]) > 0 }
func (r rows) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *rows) Push(x any)        { *r = append(*r, x.(report.Call)) }
func (r *rows) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}

func (n *newest) add(c *calls.Call, a *trail.Answer) {
	if n.limit > 0 && len(n.rows) == n.limit {
		oldest := &n.rows[0]
		at := oldest.Time.Unix()
		if c.Time < at || c.Time == at && c.ID >= oldest.EventID {
			n.left++
			return
		}
	}
	n.addRow(report.NewCall(c, a))
}

func (n *newest) addRow(row report.Call) {
	if n.limit == 0 {
		n.rows = append(n.rows, row)
		return
	}
	heap.Push(&n.rows, row)
	if len(n.rows) > n.limit {
		heap.Pop(&n.rows)
		n.left++
	}
}

// sorted returns the calls, the newest first.
func (n *newest) sorted() []report.Call {
	slices.SortFunc(n.rows, func(a, b report.Call) int { return report.Newer(&a, &b) })
	if n.rows == nil {
		return []report.Call{}
	}
	return n.rows
}

// merge adds what another goroutine collected.
func (p *part) merge(o *part) {
	s, t := &p.summary, &o.summary
	s.Calls += t.Calls
	s.Named += t.Named
	s.Escapes += t.Escapes
	s.BaseCalls += t.BaseCalls
	s.StartUps += t.StartUps
	s.Disputed += t.Disputed
	s.Copies += t.Copies
	for rung, n := range t.Rungs {
		s.Rungs[rung] += n
	}
	for reason, n := range t.Reasons {
		s.Reasons[reason] += n
	}
	for _, pair := range [][2]*newest{{&p.newest, &o.newest}, {&p.escapes, &o.escapes}} {
		for _, row := range pair[1].rows {
			pair[0].addRow(row)
		}
		pair[0].left += pair[1].left
	}
	mergeGroups(p.groups, o.groups)
	mergeGroups(p.actions, o.actions)
	for name, hours := range o.timelines {
		if p.timelines[name] == nil {
			p.timelines[name] = hours
			continue
		}
		for start, hour := range hours {
			if have := p.timelines[name][start]; have != nil {
				have.Calls += hour.Calls
				have.Escapes += hour.Escapes
			} else {
				p.timelines[name][start] = hour
			}
		}
	}
	for session, read := range o.objects {
		have := p.objects[session]
		if have == nil {
			p.objects[session] = read
			continue
		}
		reads := have.reads + read.reads
		for _, object := range read.first {
			have.add(object)
		}
		have.reads = reads
	}
}

func mergeGroups(into, from map[string]*group) {
	for key, g := range from {
		have := into[key]
		if have == nil {
			into[key] = g
			continue
		}
		have.calls += g.calls
		have.errors += g.errors
		have.escapes += g.escapes
		have.disputed += g.disputed
		have.first, have.last = min(have.first, g.first), max(have.last, g.last)
		for name := range g.names {
			have.names[name] = true
		}
	}
}

// document arranges what was collected.
func (p *part) document() *report.Document {
	o := p.o
	doc := &report.Document{Summary: p.summary, By: o.by}
	conflicts := p.conflicts()
	doc.Summary.Conflicts = len(conflicts)
	if o.conflicts || o.html != "" {
		doc.Conflicts = conflicts
	}
	if o.showCalls() {
		doc.Calls, doc.Left = p.newest.sorted(), p.newest.left
	}
	if o.by != "" {
		doc.Groups, doc.RowsLeft = first(groups(p.groups, o.by), o.limit)
	}
	if o.sessions {
		doc.Sessions, doc.RowsLeft = p.sessions()
	}
	if o.queries {
		doc.Queries, doc.RowsLeft = p.queries()
	}
	if o.jobs {
		doc.Jobs, doc.RowsLeft = first(p.jobs(), o.limit)
	}
	if o.html != "" {
		doc.Escapes = p.escapes.sorted()
		doc.Actions, _ = first(groups(p.actions, "action"), maxActions)
		doc.Timelines = p.lines()
	}
	return doc
}

// first returns as many rows as a limit allows, 0 being none, and how many are left.
func first[T any](rows []T, limit int) (shown []T, left int) {
	if limit == 0 || len(rows) <= limit {
		return rows, 0
	}
	return rows[:limit], len(rows) - limit
}

func groups(from map[string]*group, by string) []report.Group {
	all := make([]report.Group, 0, len(from))
	for key, g := range from {
		all = append(all, report.Group{
			Key: key, Calls: g.calls, Errors: g.errors, Escapes: g.escapes, Disputed: g.disputed, Names: len(g.names),
			First: time.Unix(g.first, 0).UTC(), Last: time.Unix(g.last, 0).UTC(),
		})
	}
	report.SortGroups(all, by)
	return all
}

// What a page shows at the most.
const (
	maxActions   = 20
	maxTimelines = 60
)

// lines returns the timelines of the names with the most calls.
func (p *part) lines() []report.Timeline {
	lines := make([]report.Timeline, 0, len(p.timelines))
	for name, hours := range p.timelines {
		line := report.Timeline{Name: name}
		for _, h := range hours {
			line.Calls += h.Calls
			line.Hours = append(line.Hours, *h)
		}
		slices.SortFunc(line.Hours, func(a, b report.Hour) int { return a.Start.Compare(b.Start) })
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b report.Timeline) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Name, b.Name))
	})
	return lines[:min(len(lines), maxTimelines)]
}

func (p *part) conflicts() []report.Conflict {
	shown := []report.Conflict{}
	for _, c := range p.index.Conflicts() {
		if p.o.overlaps(c.First, c.Last) && (len(p.o.names) == 0 || slices.ContainsFunc(append(slices.Clone(c.Names), c.Owner), p.o.wantsName)) {
			shown = append(shown, report.NewConflict(c))
		}
	}
	return shown
}

// sessions returns the trees in which a wanted name holds credentials.
func (p *part) sessions() (shown []report.Session, left int) {
	roots, left := first(slices.DeleteFunc(p.index.Tree(), func(root *trail.Node) bool { return !p.wantsTree(root) }), p.o.limit)
	shown = []report.Session{}
	for _, root := range roots {
		shown = append(shown, report.NewSession(root))
	}
	return shown, left
}

func (p *part) wantsTree(n *trail.Node) bool {
	if (n.At == 0 || p.o.within(n.At)) && p.o.wantsAnswer(&n.Answer) && (n.At != 0 || len(p.o.names) > 0 || p.o.since == 0) {
		return true
	}
	return slices.ContainsFunc(n.Children, p.wantsTree)
}

func (p *part) queries() (shown []report.Query, left int) {
	wanted, left := first(slices.DeleteFunc(p.index.Queries(), func(q trail.Query) bool { return !p.o.within(q.At) || !p.o.wantsAnswer(&q.Answer) }), p.o.limit)
	shown = []report.Query{}
	for _, q := range wanted {
		row := report.Query{
			Time: time.Unix(q.At, 0).UTC(), Name: q.Answer.Name, Rung: q.Answer.Rung, Reason: q.Answer.Reason,
			ID: q.Query.Query, Text: q.Text, WorkGroup: q.WorkGroup, Database: q.DatabaseName,
		}
		p.addGrants(&row, q.Grants)
		shown = append(shown, row)
	}
	return shown, left
}

func (p *part) addGrants(row *report.Query, grants []evidence.Grant) {
	counted := make(map[string]bool)
	var read objects
	for _, g := range grants {
		table := report.Table{ARN: g.Table, Permissions: g.Permissions, CellLevel: g.CellLevel, Engine: g.Engine}
		if !slices.Contains(row.Tables, table) {
			row.Tables = append(row.Tables, table)
		}
		if o := p.objects[g.Session]; o != nil && !counted[g.Session] {
			counted[g.Session] = true
			row.Reads += o.reads
			for _, object := range o.first {
				read.add(object)
			}
		}
	}
	row.Objects = read.first
}

func (p *part) jobs() []report.Job {
	shown := []report.Job{}
	for _, j := range p.index.Jobs() {
		if p.o.within(j.At) && p.o.wantsAnswer(&j.Answer) {
			shown = append(shown, report.Job{Time: time.Unix(j.At, 0).UTC(), Name: j.Answer.Name, Kind: j.Kind, Job: cmp.Or(j.ARN, j.Name), Role: j.Role})
		}
	}
	return shown
}
