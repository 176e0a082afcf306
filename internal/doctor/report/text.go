package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

var errTooLate = errors.New("it did not end in time")

// columns is the width of the text, but for commands, which must not be broken.
const columns = 100

// MarshalJSON writes lists that are empty as [], never as null.
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report
	p := plain(r)
	p.Findings, p.Notes, p.Gaps, p.Checks = list(p.Findings), list(p.Notes), list(p.Gaps), list(p.Checks)
	for i := range p.Findings {
		p.Findings[i].Commands = list(p.Findings[i].Commands)
	}
	return json.Marshal(p)
}

func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// Verdict is the first line for people.
func (r Report) Verdict() string {
	about := r.Subject
	if about == "" {
		about = "this machine"
	}
	switch n := len(r.Findings); {
	case n == 0 && len(r.Checks) == 0:
		return "nothing could be checked on " + about
	case n == 0:
		return "nothing wrong found with " + about
	case n == 1:
		return "1 thing is wrong with " + about
	default:
		return fmt.Sprintf("%d things are wrong with %s", n, about)
	}
}

// WriteText renders the report for people, at most 100 columns wide where it
// can be broken.
func (r Report) WriteText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintln(&b, r.Verdict())
	for i, f := range r.Findings {
		fmt.Fprintf(&b, "\n%d. %s", i+1, f.ID)
		if f.Subject != "" {
			fmt.Fprintf(&b, "  (%s)", f.Subject)
		}
		b.WriteByte('\n')
		field(&b, "seen", f.Saw)
		field(&b, "means", f.Means)
		for j, c := range f.Commands {
			label := ""
			if j == 0 {
				label = "do"
			}
			command(&b, label, c)
		}
		field(&b, "hint", f.Hint)
	}
	section(&b, "notes", r.Notes, func(n Note) string { return n.Text })
	section(&b, "could not be checked", joined(r.Gaps), func(g Gap) string { return g.Check + ": " + g.Reason })
	if len(r.Checks) > 0 {
		b.WriteByte('\n')
		wrap(&b, "checked: ", "  ", strings.Join(r.Checks, ", "))
	}
	_, err := w.Write(b.Bytes())
	return err
}

func section[T any](b *bytes.Buffer, title string, items []T, text func(T) string) {
	if len(items) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, item := range items {
		wrap(b, "  - ", "    ", text(item))
	}
}

// joined makes one gap of those that have the same reason.
func joined(gaps []Gap) []Gap {
	var all []Gap
	for _, g := range gaps {
		i := slices.IndexFunc(all, func(h Gap) bool { return h.Reason == g.Reason })
		if i < 0 {
			all = append(all, g)
			continue
		}
		all[i].Check += ", " + g.Check
	}
	return all
}

const margin = 10

func field(b *bytes.Buffer, label, text string) {
	if text != "" {
		wrap(b, fmt.Sprintf("   %-*s", margin-3, label), strings.Repeat(" ", margin), text)
	}
}

// command is never wrapped: it is to be pasted.
func command(b *bytes.Buffer, label, text string) {
	lead := fmt.Sprintf("   %-*s", margin-3, label)
	for i, line := range strings.Split(text, "\n") {
		if i == 0 {
			fmt.Fprintf(b, "%s%s\n", lead, line)
			continue
		}
		fmt.Fprintf(b, "%s%s\n", strings.Repeat(" ", margin), line)
	}
}

// wrap breaks text at spaces. A word that is too long stays whole, since it may
// be an ARN or a path that somebody copies.
func wrap(b *bytes.Buffer, first, next, text string) {
	b.WriteString(first)
	at := len(first)
	fresh := true
	for word := range strings.FieldsSeq(text) {
		if !fresh && at+1+len(word) > columns {
			b.WriteString("\n" + next)
			at, fresh = len(next), true
		}
		if !fresh {
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
		fresh = false
	}
	b.WriteByte('\n')
}
