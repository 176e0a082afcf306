package trailgen

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nbidentityd/nbidentityd/internal/trail"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
)

// score compares answers with what is known.
type score struct {
	Answerable   int // calls of which the trail tells who made them
	Right        int // of these, answered with that name
	Wrong        int // calls answered with another name, or with one where the trail tells none
	Unanswerable int // calls of which the trail does not tell, and no name was given
	Calls        int
	Escapes      int // bypasses not seen as such, or calls taken for one

	Rungs    map[trail.Rung]*rungScore
	Reasons  map[trail.Reason]int // given for unanswerable calls
	Shapes   map[string]int       // calls, by shape
	Mistakes []string             // the first few
}

// rungScore is the score of one kind of evidence.
type rungScore struct {
	Given int // answers by this rung
	Right int // of these, right
	There int // calls for which this is the evidence
	Found int // of these, answered right by whatever rung
}

// newScore returns an empty score.
func newScore() *score {
	return &score{Rungs: make(map[trail.Rung]*rungScore), Reasons: make(map[trail.Reason]int), Shapes: make(map[string]int)}
}

func (s *score) rung(r trail.Rung) *rungScore {
	if s.Rungs[r] == nil {
		s.Rungs[r] = new(rungScore)
	}
	return s.Rungs[r]
}

// Add takes the answer for a call.
func (s *score) Add(c *calls.Call, want Expectation, got trail.Answer) {
	s.Calls++
	s.Shapes[want.Shape]++
	right := got.Name == want.Name && want.Name != ""
	if want.Name != "" {
		s.Answerable++
		s.rung(want.Rung).There++
		if right {
			s.Right++
			s.rung(want.Rung).Found++
		}
	}
	if got.Name != "" {
		s.rung(got.Rung).Given++
		if right {
			s.rung(got.Rung).Right++
		} else {
			s.Wrong++
		}
	}
	if want.Name == "" && got.Name == "" && got.Reason != "" {
		s.Unanswerable++
		s.Reasons[got.Reason]++
	}
	if bypass := strings.Contains(want.Shape, "bypass"); bypass != (got.Escape == trail.Bypass) && !(bypass && c.Action == "AssumeRole" && c.Error != "") {
		s.Escapes++
		s.mistake("%s %s: escape %q, shape %s; event %s", c.Service, c.Action, got.Escape, want.Shape, c.ID)
	}
	if startUp := want.Shape == "start-up"; startUp != (got.Escape == trail.StartUp) {
		s.Escapes++
		s.mistake("%s %s: escape %q, shape %s; event %s", c.Service, c.Action, got.Escape, want.Shape, c.ID)
	}
	if right || want.Name == "" && got.Name == "" && got.Reason == want.Reason {
		return
	}
	s.mistake("%s %s by %s: %q by %s (%s), expected %q by %s (%s); event %s, shape %s",
		c.Service, c.Action, c.Caller.ARN, got.Name, got.Rung, got.Reason, want.Name, want.Rung, want.Reason, c.ID, want.Shape)
}

func (s *score) mistake(format string, args ...any) {
	if len(s.Mistakes) < 20 {
		s.Mistakes = append(s.Mistakes, fmt.Sprintf(format, args...))
	}
}

// WriteText writes the score by shape, rung and reason, and as its last line the sum.
func (s *score) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "shape\tcalls")
	for _, shape := range slices.Sorted(maps.Keys(s.Shapes)) {
		fmt.Fprintf(t, "%s\t%d\n", shape, s.Shapes[shape])
	}
	fmt.Fprintln(t, "\t\nrung\tanswers\tright\tprecision\tcalls with this evidence\tanswered right\trecall")
	for _, rung := range trail.Rungs() {
		if line := s.Rungs[rung]; line != nil {
			fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%d\t%d\t%s\n", rung, line.Given, line.Right, percent(line.Right, line.Given), line.There, line.Found, percent(line.Found, line.There))
		}
	}
	fmt.Fprintln(t, "\t\nwhy not\tcalls")
	for _, reason := range slices.Sorted(maps.Keys(s.Reasons)) {
		fmt.Fprintf(t, "%s\t%d\n", reason, s.Reasons[reason])
	}
	fmt.Fprintf(t, "\t\n")
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "who: %d answerable, %d right, %d wrong, %d unanswerable\n", s.Answerable, s.Right, s.Wrong, s.Unanswerable)
	return err
}

func percent(part, whole int) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f%%", 100*float64(part)/float64(whole))
}
