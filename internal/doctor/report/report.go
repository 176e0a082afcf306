// Package report is what an examination comes to: findings, each with what was
// seen, what it means and the commands that mend it; notes, which nobody has to
// act on; and what could not be looked at, with the reason.
//
// The JSON keys and the ids of findings are a promise to scripts: ids may be
// added, none is renamed. Texts may quote what AWS, a home directory or a process
// contained; they reach the report as one line of printable ASCII each, and
// never hold a secret, which is the business of whoever makes a finding.
package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
)

// Finding is one thing that is wrong.
type Finding struct {
	ID      string `json:"id"`                // such as trust_self_missing
	Subject string `json:"subject,omitempty"` // what it is about: an ARN, a path, a process
	Saw     string `json:"saw"`
	Means   string `json:"means"`
	// Commands mend it, in this order, when pasted into a shell. They may
	// have several lines.
	Commands []string `json:"commands"`
	// Hint is what a command cannot say; "" when there is nothing.
	Hint string `json:"hint,omitempty"`
}

// Note is something that a person should know and need not act on.
type Note struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

// Gap is a check that could not be made.
type Gap struct {
	Check  string `json:"check"`
	Reason string `json:"reason"`
}

// Report is the result of an examination.
type Report struct {
	Version  string    `json:"version"` // of nbidentityd
	Subject  string    `json:"subject"` // "notebook instance alice-nb"
	Findings []Finding `json:"findings"`
	Notes    []Note    `json:"notes"`
	Gaps     []Gap     `json:"gaps"`
	Checks   []string  `json:"checks"` // those that were made, in whole or in part
}

// ErrNotApplicable is what a check returns that has nothing to look at.
var ErrNotApplicable = errors.New("not applicable")

// Check looks at one thing. Checks run side by side.
type Check struct {
	Name string // for people, as in "trust policy"
	// Run adds to the sheet until it is done or ctx ends. What it returns is
	// why it could not look; nil also when it found something.
	Run func(ctx context.Context, s *Sheet) error
}

// Sheet is where a check writes. It is safe for concurrent use; what is written
// after the examination has ended is dropped.
type Sheet struct {
	mu       sync.Mutex
	closed   bool
	findings []Finding
	notes    []Note
	gaps     []Gap
}

// Find adds a finding, unless there is one of the same id and subject.
func (s *Sheet) Find(f Finding) {
	f.Saw, f.Means, f.Hint, f.Subject = awscause.OneLine(f.Saw), awscause.OneLine(f.Means), awscause.OneLine(f.Hint), awscause.OneLine(f.Subject)
	s.mu.Lock()
	defer s.mu.Unlock()
	same := func(g Finding) bool { return g.ID == f.ID && g.Subject == f.Subject }
	if !s.closed && !slices.ContainsFunc(s.findings, same) {
		s.findings = append(s.findings, f)
	}
}

// Note adds a note, once.
func (s *Sheet) Note(id, format string, args ...any) {
	n := Note{id, awscause.OneLine(fmt.Sprintf(format, args...))}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && !slices.Contains(s.notes, n) {
		s.notes = append(s.notes, n)
	}
}

// Gap says what could not be looked at, beside other things that could.
func (s *Sheet) Gap(check, format string, args ...any) {
	g := Gap{check, awscause.OneLine(fmt.Sprintf(format, args...))}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && !slices.Contains(s.gaps, g) {
		s.gaps = append(s.gaps, g)
	}
}

// Found reports whether there is a finding.
func (s *Sheet) Found() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.findings) > 0
}

// Has reports whether there is a finding of that id.
func (s *Sheet) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.findings, func(f Finding) bool { return f.ID == id })
}

// Copy adds all of s to another sheet.
func (s *Sheet) Copy(to *Sheet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.findings {
		to.Find(f)
	}
	for _, n := range s.notes {
		to.Note(n.ID, "%s", n.Text)
	}
	for _, g := range s.gaps {
		to.Gap(g.Check, "%s", g.Reason)
	}
}

// Examine makes all checks side by side and waits for them until ctx ends. A
// check that does not end then, which reading a hung file system can cause, is
// left behind and reported as a gap.
func Examine(ctx context.Context, checks []Check) Report {
	sheet := &Sheet{}
	type ended struct {
		index int
		err   error
	}
	done := make(chan ended, len(checks))
	for i, c := range checks {
		go func() { done <- ended{i, c.Run(ctx, sheet)} }()
	}
	outcome := make([]error, len(checks))
	for i := range outcome {
		outcome[i] = errTooLate
	}
	for left := len(checks); left > 0; {
		select {
		case e := <-done:
			outcome[e.index] = e.err
			left--
			continue
		case <-ctx.Done():
		}
		drain(done, left, func(e ended) { outcome[e.index] = e.err })
		break
	}
	var r Report
	for i, c := range checks {
		switch {
		case outcome[i] == nil:
			r.Checks = append(r.Checks, c.Name)
		case !errors.Is(outcome[i], ErrNotApplicable):
			sheet.Gap(c.Name, "%v", outcome[i])
		}
	}
	sheet.mu.Lock()
	defer sheet.mu.Unlock()
	sheet.closed = true
	r.Findings, r.Notes, r.Gaps = sheet.findings, sheet.notes, sheet.gaps
	r.order()
	return r
}

// drain takes what has come in by now, and what the last checks have to say
// about the end of the time.
func drain[T any](from <-chan T, left int, take func(T)) {
	over := time.After(grace)
	for ; left > 0; left-- {
		select {
		case v := <-from:
			take(v)
		case <-over:
			return
		}
	}
}

// grace is how long after the end of the time a check may still say why.
const grace = 200 * time.Millisecond

// order makes reports of the same state alike: checks end in any order.
func (r *Report) order() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(rank(a.ID)-rank(b.ID), cmp.Compare(a.ID+a.Subject, b.ID+b.Subject))
	})
	slices.SortStableFunc(r.Notes, func(a, b Note) int { return cmp.Compare(a.ID+a.Text, b.ID+b.Text) })
	slices.SortStableFunc(r.Gaps, func(a, b Gap) int { return cmp.Compare(a.Check+a.Reason, b.Check+b.Reason) })
}

// rank puts first what keeps other things from working.
func rank(id string) int {
	for i, prefix := range []string{"settings", "metadata", "users", "unit", "daemon", "clock", "base", "sts", "sagemaker", "role", "propagation", "trust", "permission", "launcher", "denied"} {
		if strings.HasPrefix(id, prefix) {
			return i
		}
	}
	return 100
}

// Without returns r without the findings of these ids, which somebody has
// accepted; they are kept as notes.
func (r Report) Without(ids []string) Report {
	kept := []Finding{}
	for _, f := range r.Findings {
		if slices.Contains(ids, f.ID) {
			r.Notes = append(r.Notes, Note{f.ID, "ignored as asked: " + f.Saw})
			continue
		}
		kept = append(kept, f)
	}
	r.Findings = kept
	return r
}
