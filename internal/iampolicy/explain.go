package iampolicy

import (
	"fmt"
	"io"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy/proof"
)

// indent is where a row's text begins, and a little.
const indent = "                      "

// Explain writes the table of what the documents allow and deny, and the notes,
// for people.
func (s *Set) Explain(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n", s.Mode, s.Summary)
	calls, possible := 0, 0
	for _, r := range s.Rows {
		calls += r.Calls
		if r.Result == proof.Possible && r.Kind == proof.Abuse {
			possible++
		}
		fmt.Fprintf(&b, "%-8s  %-8s  %s\n", r.Result, r.Kind, r.What)
		for _, more := range []string{r.Note, r.By} {
			if more != "" {
				b.WriteString(Wrap(more, indent, indent) + "\n")
			}
		}
	}
	fmt.Fprintf(&b, "\n%d calls, each decided with and without sts:RoleSessionName in the context of sts:SetSourceIdentity,\n"+
		"with AdministratorAccess on every role under which people work. Abuses that stay possible: %d.\n", calls, possible)
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "\n%s\n", Wrap(n, "- ", "  "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Wrap breaks text at spaces into lines of at most 78 characters, of which the
// first begins with first and the others with rest. A word longer than that
// has a line of its own. Further lines of text are commands: they are indented
// and stay whole, to be copied.
func Wrap(text, first, rest string) string {
	text, commands, _ := strings.Cut(text, "\n")
	var b strings.Builder
	line := first
	fresh := true
	for word := range strings.FieldsSeq(text) {
		if !fresh && len(line)+1+len(word) > 78 {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, fresh = rest, true
		}
		if !fresh {
			line += " "
		}
		line += word
		fresh = false
	}
	b.WriteString(line)
	for command := range strings.Lines(commands) {
		b.WriteString("\n" + rest + "  " + strings.TrimSuffix(command, "\n"))
	}
	return b.String()
}
