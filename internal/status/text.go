package status

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// longest text of one field, in characters; what is longer ends in "…".
const maxField = 1000

// WriteText writes r for people in one Write: first the name, then aligned
// facts, then the problem with its remedy, then the notes. The error is w's.
func (r Report) WriteText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n\n", clean(r.headline()))

	row := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-17s%s\n", label, clean(value))
		}
	}
	row("state", string(r.State))
	row("identity", r.Identity.describe())
	row("role", r.RoleARN)
	row("session name", r.SessionName)
	row("source identity", r.SourceIdentity)
	row("verified", r.verification())
	row("credential", r.Credential.describe())
	if r.Vends > 0 || r.Failures > 0 {
		row("handed out", fmt.Sprintf("%s, %s", count(r.Vends, "time"), count(r.Failures, "failure")))
	}
	for _, f := range r.ConfigFiles {
		row("config file", f.describe())
	}
	if r.Fence != nil {
		row("fence", r.Fence.describe())
	}
	if r.Assurance != nil {
		row("assurance", r.Assurance.Level)
	}
	row("daemon", r.daemon())

	if p := r.Problem; p != nil {
		fmt.Fprintf(&b, "\nproblem (%s): %s\n", clean(p.Code), clean(p.Message))
		if p.Remedy != "" {
			fmt.Fprintf(&b, "what to do: %s\n", clean(p.Remedy))
		}
	}
	if r.Assurance != nil {
		r.Assurance.write(&b)
	}
	for i, n := range r.Notes {
		if i == 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "note: %s\n", clean(n))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// headline is the sentence that a data scientist reads and stops.
func (r Report) headline() string {
	name := r.SessionName
	if name == "" {
		name = r.Identity.Name
	}
	calls := "AWS calls from " + r.Identity.place()
	switch {
	case r.State == SteppedAside:
		return calls + " keep the platform's own identity: nbidentityd has stepped aside"
	case name == "":
		return calls + " have no name yet"
	case r.State == Starting:
		return calls + " will be made as " + name + ": waiting for the first credential"
	case r.State == Failed:
		return calls + " should be made as " + name + ", but there is no valid credential now"
	default:
		return calls + " are made as " + name
	}
}

func (i Identity) place() string {
	switch {
	case i.Kind == "space":
		return "this shared space"
	case i.Surface == "notebook-instance" || i.Surface == "":
		return "this notebook"
	default:
		return "this Studio app"
	}
}

func (i Identity) describe() string {
	if i.Name == "" {
		return ""
	}
	s := i.Name
	switch i.Kind {
	case "notebook":
		s = "notebook instance " + i.Name
	case "profile":
		s = "user profile " + i.Name
	case "space":
		s = "shared space " + i.Name + " (the person cannot be known)"
	}
	if i.Domain != "" {
		s += ", domain " + i.Domain
	}
	if i.Space != "" && i.Kind != "space" {
		s += ", space " + i.Space
	}
	return s
}

func (r Report) verification() string {
	switch {
	case r.Verified:
		return "yes: AWS sees " + r.CallerARN
	case r.CallerARN != "":
		return "NO: AWS sees " + r.CallerARN
	case r.Credential != nil:
		return "not yet"
	default:
		return ""
	}
}

func (c *Credential) describe() string {
	if c == nil {
		return ""
	}
	if c.SecondsLeft <= 0 {
		return fmt.Sprintf("…%s expired at %s", c.KeyIDSuffix, stamp(c.Expires))
	}
	s := fmt.Sprintf("…%s expires in %s at %s", c.KeyIDSuffix, left(c.SecondsLeft), stamp(c.Expires))
	if !c.NextRefresh.IsZero() {
		s += ", next refresh " + c.NextRefresh.UTC().Format("15:04:05")
	}
	return s
}

// write says why, and how to raise the level.
func (a *Assurance) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "\nassurance: %s\n", clean(a.Level))
	for _, r := range a.Reasons {
		fmt.Fprintf(b, "  %s\n", clean(r.Fact))
		if r.Raise != "" {
			fmt.Fprintf(b, "    to raise it: %s\n", clean(r.Raise))
		}
	}
}

func (f *Fence) describe() string {
	s := "not in place"
	if f.Intact {
		s = "in place (" + f.Backend + ")"
	}
	if f.Problem != "" {
		s += ": " + f.Problem
	}
	if f.Repairs > 0 {
		s += ", " + count(f.Repairs, "repair")
	}
	return s
}

func (f ConfigFile) describe() string {
	s := f.Path + ": "
	if f.Written {
		s += "written"
	} else {
		s += "not written"
	}
	if f.Immutable {
		s += ", immutable"
	} else if f.Unlocked != "" {
		s += ", watched (" + f.Unlocked + ")"
	}
	if f.Tampers > 0 {
		s += ", changed by somebody " + count(f.Tampers, "time")
	}
	if f.Problem != "" {
		s += " (" + f.Problem + ")"
	}
	return s
}

func (r Report) daemon() string {
	var parts []string
	if r.Version != "" {
		parts = append(parts, "version "+r.Version)
	}
	if !r.Started.IsZero() {
		parts = append(parts, "up since "+stamp(r.Started))
	}
	return strings.Join(parts, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// left renders a remaining life, rounded down.
func left(seconds int64) string {
	switch {
	case seconds < 120:
		return count(uint64(seconds), "second")
	case seconds < 2*3600:
		return count(uint64(seconds/60), "minute")
	default:
		return fmt.Sprintf("%s %d min", count(uint64(seconds/3600), "hour"), seconds%3600/60)
	}
}

func count(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// clean makes s safe for a terminal and one line long: whatever is not a
// printable character (escape sequences, line breaks, direction overrides,
// broken UTF-8) becomes "?".
func clean(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxField {
			b.WriteRune('…')
			break
		}
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
