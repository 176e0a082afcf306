package awsconfig

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// line is one line of the text. num is its 1-based number in the text as given
// by the caller, kept through strip so that messages name the right line.
type line struct {
	text, eol string // eol is "", "\n" or "\r\n"
	num       int
}

func splitLines(data []byte) []line {
	var lines []line
	for s := string(data); s != ""; {
		text, rest, found := strings.Cut(s, "\n")
		l := line{text: text, num: len(lines) + 1}
		if found {
			l.eol = "\n"
			if t, ok := strings.CutSuffix(text, "\r"); ok {
				l.text, l.eol = t, "\r\n"
			}
		}
		lines, s = append(lines, l), rest
	}
	return lines
}

func joinLines(lines []line) []byte {
	var b []byte
	for _, l := range lines {
		b = append(append(b, l.text...), l.eol...)
	}
	return b
}

type kind int

const (
	blank kind = iota
	comment
	header
	option
	continuation
)

// item is a line as botocore's parser sees it.
type item struct {
	line
	kind     kind
	indented bool
	section  *section // nil before the first header
	key      string   // of an option, in lower case
	empty    bool     // an option without a value on its own line
}

type section struct {
	name      string // as botocore reads it
	canonical string // "[default]" or "[profile default]" if any client takes it for that, else ""
	plain     bool   // every client reads the header as the canonical one
	line      int
}

type document struct {
	items    []item
	defaults []*section // those with a canonical name, in order
	newline  string     // for lines added at the top
}

// parse reads lines the way Python's strict RawConfigParser and botocore's
// treatment of nested values do, and refuses what they refuse.
func parse(lines []line) (*document, error) {
	doc := &document{newline: "\n"}
	if len(lines) > 0 && lines[0].eol != "" {
		doc.newline = lines[0].eol
	}
	p := parser{doc: doc, seen: map[string]int{}}
	for _, l := range lines {
		if err := checkBytes(l); err != nil {
			return nil, err
		}
		it, err := p.next(l)
		if err != nil {
			return nil, err
		}
		doc.items = append(doc.items, it)
	}
	return doc, nil
}

type parser struct {
	doc     *document
	section *section
	seen    map[string]int // section, or section NUL key → line
	inValue bool           // an option is open for continuation lines
	nested  bool           // that option's own line has no value
	level   int            // indentation that a continuation must exceed
}

func (p *parser) next(l line) (item, error) {
	it := item{line: l, section: p.section}
	body := strings.TrimLeft(l.text, " \t")
	indent := len(l.text) - len(body)
	it.indented = indent > 0
	value := strings.TrimFunc(body, isSpace)
	switch {
	case body == "":
		it.kind = blank
	case body[0] == '#' || body[0] == ';':
		it.kind = comment
	case p.inValue && indent > p.level:
		it.kind = continuation
		return it, p.continued(it, value)
	case isHeader(value):
		p.level, p.inValue = indent, false
		it.kind = header
		err := p.open(&it, value)
		return it, err
	case p.section == nil:
		return it, l.bad("text before the first section header", "delete it or put it into a section")
	default:
		p.level, p.inValue = indent, true
		it.kind = option
		return it, p.option(&it, value)
	}
	return it, nil
}

func (p *parser) continued(it item, value string) error {
	if value[0] == '[' && strings.Contains(value, "]") {
		return it.bad("an indented section header, which some clients take for a part of the value above", "move it to the start of the line")
	}
	if p.nested && !strings.Contains(value, "=") {
		return it.bad("a nested line without '='", "write it as key = value")
	}
	return nil
}

func (p *parser) open(it *item, value string) error {
	s := &section{name: value[1:strings.LastIndexByte(value, ']')], line: it.num}
	it.section, p.section = s, s
	s.canonical = canonicalHeader(value)
	if rest := strings.TrimFunc(value[strings.LastIndexByte(value, ']')+1:], isSpace); rest != "" && rest[0] != '#' && rest[0] != ';' {
		return it.bad("text after a section header", "put it on a line of its own")
	}
	if strings.ContainsAny(value[:strings.IndexByte(value, ']')], "#;") {
		return it.bad("a comment sign in a section name, where some clients see no header", "rename the section")
	}
	if first, ok := p.seen[s.name]; ok && s.name != "DEFAULT" {
		return it.bad(fmt.Sprintf("section [%s] is already on line %d", s.name, first), "merge the two")
	}
	p.seen[s.name] = it.num
	if s.canonical == "" {
		return nil
	}
	s.plain = plainHeader(it.text, s.canonical)
	for _, d := range p.doc.defaults {
		if d.canonical == s.canonical {
			return it.bad(fmt.Sprintf("section %s is already on line %d", s.canonical, d.line), "merge the two")
		}
		if !d.plain || !s.plain {
			// To respell one could hide the other from clients that read it so far.
			return it.bad(fmt.Sprintf("a second default section, after line %d, and not both are spelt plainly", d.line), "merge the two")
		}
	}
	p.doc.defaults = append(p.doc.defaults, s)
	return nil
}

func (p *parser) option(it *item, value string) error {
	i := strings.IndexAny(value, "=:")
	if i < 0 {
		return it.bad("neither a section, a comment nor key = value", "correct or delete it")
	}
	it.key = strings.ToLower(strings.TrimFunc(value[:i], isSpace))
	if it.key == "" {
		return it.bad("a value without a key", "correct or delete it")
	}
	id := p.section.name + "\x00" + it.key
	if first, ok := p.seen[id]; ok {
		return it.bad(fmt.Sprintf("key %s is already on line %d", it.key, first), "delete one of the two")
	}
	p.seen[id] = it.num
	it.empty = strings.TrimFunc(value[i+1:], isSpace) == ""
	p.nested = it.empty
	return nil
}

func (l line) bad(problem, remedy string) error {
	return &SyntaxError{Line: l.num, Problem: problem, Remedy: remedy}
}

// checkBytes refuses characters at which the clients disagree where a line
// or a word ends.
func checkBytes(l line) error {
	if !utf8.ValidString(l.text) {
		return l.bad("not UTF-8", "save the file as UTF-8")
	}
	if l.num == 1 && strings.HasPrefix(l.text, "\ufeff") {
		return l.bad("a byte order mark", "save the file as UTF-8 without one")
	}
	for _, r := range l.text {
		switch {
		case r == '\r':
			return l.bad("a carriage return inside the line", "end lines with LF or CR LF")
		case r < ' ' && r != '\t', r == 0x7f, r == 0x85, r == 0x2028, r == 0x2029:
			return l.bad(fmt.Sprintf("control character %U", r), "delete it")
		}
	}
	if r, _ := utf8.DecodeRuneInString(strings.TrimLeft(l.text, " \t")); r > 0x7f && isSpace(r) {
		return l.bad(fmt.Sprintf("it starts with %U, a space only to some clients", r), "replace it by an ordinary space or delete it")
	}
	return nil
}

// isSpace is the union of what the clients trim.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' }

// isHeader follows botocore: a bracket, at least one character, and a closing
// bracket anywhere after it.
func isHeader(value string) bool {
	return strings.HasPrefix(value, "[") && strings.LastIndexByte(value, ']') > 1
}

// canonicalHeader returns the plain spelling of a header that at least one
// client takes for the default profile's, and "" for any other line.
func canonicalHeader(text string) string {
	value := strings.TrimFunc(text, isSpace)
	if !isHeader(value) {
		return ""
	}
	name := value[1:max(1, strings.IndexByte(value, ']'))]
	if strings.TrimFunc(name, isSpace) == "default" {
		return "[default]"
	}
	// botocore splits the name like a shell and looks at the second word of
	// two, for every name that begins with "profile".
	words := strings.Fields(strings.NewReplacer(`"`, "", `'`, "", `\`, "").Replace(name))
	if len(words) == 2 && strings.HasPrefix(words[0], "profile") && words[1] == "default" {
		return "[profile default]"
	}
	return ""
}

// plainHeader reports whether text is understood by every client as the
// canonical header: nothing but blanks or a comment after it.
func plainHeader(text, canonical string) bool {
	rest, ok := strings.CutPrefix(text, canonical)
	if !ok || strings.ContainsAny(rest, "[]") {
		return false
	}
	trimmed := strings.TrimLeft(rest, " \t")
	return trimmed == "" || len(trimmed) < len(rest) && (trimmed[0] == '#' || trimmed[0] == ';')
}
