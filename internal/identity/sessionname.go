package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
)

const (
	minSessionName = 2
	maxSessionName = 64

	escape     = "nb_" // before a rendering of one character
	hashDigits = 16    // of a shortened rendering
	keptPrefix = maxSessionName - len("_") - hashDigits

	maxLiteral = 32 // keeps at least 15 characters of the fields in a shortened name
)

var (
	sessionNamePattern = lazyregexp.New(`^[A-Za-z0-9_+=,.@-]*$`)
	shortenedPattern   = lazyregexp.New(`_[0-9a-f]{16}$`)
	placeholderPattern = lazyregexp.New(`\{[^{}]*\}`)

	placeholders = []string{"name", "kind", "domain", "space", "app"}
	plainName    = Template{source: "{name}", parts: []part{{field: "name"}}, pattern: regexp.MustCompile(`^([A-Za-z0-9-]*)$`)}
)

// CheckSessionName returns an error unless STS takes s as a role session name.
func CheckSessionName(s string) error {
	if len(s) < minSessionName || len(s) > maxSessionName || !sessionNamePattern.MatchString(s) {
		return fmt.Errorf("%.80q is not a session name: expected %d to %d of the characters A-Z a-z 0-9 _ + = , . @ -", s, minSessionName, maxSessionName)
	}
	return nil
}

// CheckSourceIdentity returns an error unless STS takes s as a source identity:
// the rules of a session name, and not beginning with "aws:".
func CheckSourceIdentity(s string) error {
	if strings.HasPrefix(strings.ToLower(s), "aws:") {
		return fmt.Errorf("%.80q is not a source identity: the prefix aws: is reserved", s)
	}
	if CheckSessionName(s) != nil {
		return fmt.Errorf("%.80q is not a source identity: expected %d to %d of the characters A-Z a-z 0-9 _ + = , . @ -", s, minSessionName, maxSessionName)
	}
	return nil
}

// shortened reports whether sessionName has the form of a rendering that was too
// long, whose subject [Template.Parse] therefore cannot give.
func shortened(sessionName string) bool {
	return len(sessionName) == maxSessionName && shortenedPattern.MatchString(sessionName)
}

// Template says how a subject is written in a session name: literal text and the
// placeholders {name}, {kind}, {domain}, {space} and {app}. The zero value is the
// template {name}.
type Template struct {
	source  string
	parts   []part
	pattern *regexp.Regexp // one group for each field, in the order of parts
}

// part is a literal or a field.
type part struct{ literal, field string }

// ParseTemplate checks and compiles a template. It must hold {name}, no placeholder
// twice, at most 32 characters of literal text from the STS alphabet, and between
// two placeholders one of _ + = , . @ at least.
func ParseTemplate(s string) (Template, error) {
	t := Template{source: s}
	expr := "^"
	literals, at := 0, 0
	addLiteral := func(text string) {
		if text != "" {
			t.parts = append(t.parts, part{literal: text})
			expr += regexp.QuoteMeta(text)
			literals += len(text)
		}
	}
	for _, span := range placeholderPattern.FindAllStringIndex(s, -1) {
		literal, field := s[at:span[0]], s[span[0]+1:span[1]-1]
		switch {
		case !slices.Contains(placeholders, field):
			return Template{}, fmt.Errorf("session name template %.80q: unknown placeholder {%.40s}: expected {%s}", s, field, strings.Join(placeholders, "}, {"))
		case slices.Contains(t.parts, part{field: field}):
			return Template{}, fmt.Errorf("session name template %.80q: {%s} occurs twice", s, field)
		case at > 0 && !strings.ContainsAny(literal, "_+=,.@"):
			return Template{}, fmt.Errorf("session name template %.80q: expected one of _ + = , . @ before {%s}, to tell it from the placeholder before", s, field)
		}
		addLiteral(literal)
		t.parts = append(t.parts, part{field: field})
		expr += `([A-Za-z0-9-]*)`
		at = span[1]
	}
	addLiteral(s[at:])
	for _, p := range t.parts {
		if !sessionNamePattern.MatchString(p.literal) {
			return Template{}, fmt.Errorf("session name template %.80q: %.40q is outside the characters A-Z a-z 0-9 _ + = , . @ -", s, p.literal)
		}
	}
	if !slices.Contains(t.parts, part{field: "name"}) {
		return Template{}, fmt.Errorf("session name template %.80q: expected the placeholder {name}", s)
	}
	if literals > maxLiteral {
		return Template{}, fmt.Errorf("session name template %.80q: %d characters of literal text: expected at most %d", s, literals, maxLiteral)
	}
	t.pattern = regexp.MustCompile(expr + "$")
	return t, nil
}

// String is the template as it was written.
func (t Template) String() string { return t.orPlainName().source }

func (t Template) orPlainName() Template {
	if t.parts == nil {
		return plainName
	}
	return t
}

// Format writes s as a session name, which is a valid source identity too. It
// fails if a field that the template uses is not legal or the name is empty.
func (t Template) Format(s Subject) (string, error) {
	t = t.orPlainName()
	var b strings.Builder
	for _, p := range t.parts {
		if p.field == "" {
			b.WriteString(p.literal)
			continue
		}
		value := *s.field(p.field)
		if !legalField(p.field, value) {
			return "", fmt.Errorf("formatting a session name by %q: %.80q is not a legal %s", t.source, value, p.field)
		}
		b.WriteString(value)
	}
	full := b.String()
	switch {
	case len(full) < minSessionName:
		return escape + full, nil
	case len(full) > maxSessionName || shortened(full):
		sum := sha256.Sum256([]byte(full))
		return full[:keptPrefix] + "_" + hex.EncodeToString(sum[:])[:hashDigits], nil
	}
	return full, nil
}

// Parse is the inverse of Format: the subject it returns has the fields of the
// template, and Format gives sessionName for it. It reports false for everything
// that Format does not write, and for shortened names.
func (t Template) Parse(sessionName string) (Subject, bool) {
	t = t.orPlainName()
	full := sessionName
	if rest, ok := strings.CutPrefix(full, escape); ok && len(rest) == 1 && t.bare() {
		full = rest
	}
	m := t.pattern.FindStringSubmatch(full)
	if m == nil {
		return Subject{}, false
	}
	var s Subject
	group := 0
	for _, p := range t.parts {
		if p.field == "" {
			continue
		}
		group++
		*s.field(p.field) = m[group]
	}
	if again, err := t.Format(s); err != nil || again != sessionName {
		return Subject{}, false
	}
	return s, true
}

// bare reports whether the template is {name} and nothing else.
func (t Template) bare() bool { return len(t.parts) == 1 }

// field is the part of s that a placeholder stands for.
func (s *Subject) field(placeholder string) *string {
	switch placeholder {
	case "name":
		return &s.Name
	case "kind":
		return (*string)(&s.Kind)
	case "domain":
		return &s.Domain
	case "space":
		return &s.Space
	default:
		return &s.App
	}
}

func legalField(placeholder, value string) bool {
	switch placeholder {
	case "name":
		return legalName(value)
	case "kind":
		return slices.Contains([]Kind{KindNotebook, KindProfile, KindSharedSpace}, Kind(value))
	case "domain":
		return value == "" || legalDomain(value)
	default:
		return value == "" || legalName(value)
	}
}
