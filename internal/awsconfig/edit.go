package awsconfig

import "strings"

// editor turns a document without marks into one with them.
type editor struct {
	Managed
	doc     *document
	out     []line
	changes []Change

	inheritedRegion bool // botocore's [DEFAULT] sets a region
	touched         bool // the last live property is ours, commented out or moved: no indented line may follow it
	silenced        bool // the option that a continuation belongs to is commented out
	inDefault       bool // also true for what follows a section that we add at the top
}

func (e *editor) run() error {
	if err := e.inspectInherited(); err != nil {
		return err
	}
	if len(e.doc.defaults) == 0 {
		e.emit("", e.doc.newline, append([]string{beginNewMark, "[default]"}, e.block("[default]", false)...)...)
		e.inDefault, e.touched = true, true
	}
	for _, it := range e.doc.items {
		e.item(it)
	}
	return nil
}

// inspectInherited looks at [DEFAULT], which only botocore reads, and there as
// a part of every profile.
func (e *editor) inspectInherited() error {
	for _, it := range e.doc.items {
		if it.kind != option || it.section.name != "DEFAULT" {
			continue
		}
		if conflicting(it.key) && it.key != keyProcess {
			return it.bad(it.key+" in [DEFAULT] reaches every profile of botocore", "move it to the profile that needs it")
		}
		if it.key == keyRegion {
			e.inheritedRegion = true
		}
	}
	return nil
}

func (e *editor) item(it item) {
	switch {
	case it.kind == header:
		e.header(it)
	case !e.inDefault || it.kind == blank:
		e.emit("", it.eol, it.text)
	case it.kind == comment:
		if it.indented && e.touched {
			e.comment(it, "")
		} else {
			e.emit("", it.eol, it.text)
		}
	case it.kind == option:
		e.option(it)
	default:
		key, bad := findKey(it.text, e.unwanted)
		if bad || e.silenced {
			e.comment(it, key)
		} else {
			e.emit("", it.eol, it.text)
		}
	}
}

func (e *editor) header(it item) {
	after := e.inDefault
	e.inDefault = it.section.canonical != ""
	e.silenced = false
	var group []string
	switch {
	case e.inDefault && !it.section.plain, after && replacement(it.text) != it.text:
		group = []string{wasMark + it.text, replacement(it.text)}
		e.note(it, "", Rewritten)
	default:
		group = []string{it.text}
	}
	if e.inDefault {
		e.touched = true
		group = append(group, beginMark)
		group = append(group, e.block(it.section.canonical, e.hasRegion(it.section))...)
	}
	e.emit(e.doc.newline, it.eol, group...)
}

func (e *editor) option(it item) {
	_, bad := findKey(it.text, e.unwanted)
	e.silenced = bad || it.key == keyRegion && it.empty && e.Region != "" && !e.inheritedRegion
	e.touched = e.silenced || it.indented
	switch {
	case e.silenced:
		e.comment(it, it.key)
	case replacement(it.text) != it.text:
		e.emit(e.doc.newline, it.eol, wasMark+it.text, replacement(it.text))
		e.note(it, it.key, Rewritten)
	default:
		e.emit("", it.eol, it.text)
	}
}

func (e *editor) unwanted(key string) bool {
	return conflicting(key) || key == keySTS && e.STSRegionalEndpoints != ""
}

// hasRegion reports whether the user has a region that ours must not replace.
func (e *editor) hasRegion(s *section) bool {
	if e.inheritedRegion {
		return true
	}
	for _, it := range e.doc.items {
		if it.section == s && it.kind == option && it.key == keyRegion && !it.empty {
			return true
		}
	}
	return false
}

// block returns the managed lines and the end mark.
func (e *editor) block(section string, hasRegion bool) []string {
	lines := []string{keyProcess + " = " + e.CredentialProcess}
	e.changes = append(e.changes, Change{Section: section, Key: keyProcess, Action: Added})
	if e.STSRegionalEndpoints != "" {
		lines = append(lines, keySTS+" = "+e.STSRegionalEndpoints)
		e.changes = append(e.changes, Change{Section: section, Key: keySTS, Action: Added})
	}
	if e.Region == "" || hasRegion {
		return append(lines, endMark)
	}
	e.changes = append(e.changes, Change{Section: section, Key: keyRegion, Action: Added})
	return append(lines, keyRegion+" = "+e.Region, endMark+endRegion+e.Region)
}

func (e *editor) comment(it item, key string) {
	e.emit("", it.eol, offMark+it.text)
	e.note(it, key, CommentedOut)
}

func (e *editor) note(it item, key string, a Action) {
	c := Change{Line: it.num, Key: key, Action: a}
	if it.section != nil {
		c.Section = "[" + it.section.name + "]"
	}
	c.Secret = a == CommentedOut && (secret(key) || it.kind == continuation)
	e.changes = append(e.changes, c)
}

// emit writes a group of lines in place of one whose line end was eol. If that
// was the last of a text without a final newline, so is the group's last line.
func (e *editor) emit(newline, eol string, group ...string) {
	for i, text := range group {
		l := line{text: text, eol: eol}
		if i < len(group)-1 && eol == "" {
			l.eol = newline
		}
		e.out = append(e.out, l)
	}
}

// replacement is what a header or option is rewritten to: a form that means
// the same to every client. It is at column 0; a header's comment has a space
// before it, without which JavaScript sees no header; and '=' is where ':' was.
func replacement(text string) string {
	if c := canonicalHeader(text); c != "" {
		return c
	}
	text = strings.TrimLeft(text, " \t")
	if isHeader(text) {
		name, rest := text[:strings.LastIndexByte(text, ']')+1], text[strings.LastIndexByte(text, ']')+1:]
		if rest != "" && (rest[0] == '#' || rest[0] == ';') {
			return name + " " + rest
		}
		return text
	}
	if key, value, found := strings.Cut(text, ":"); found && !strings.Contains(text, "=") {
		return strings.TrimRight(key, " \t") + " = " + strings.TrimLeft(value, " \t")
	}
	return text
}
