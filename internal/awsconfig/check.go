package awsconfig

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Finding is one way in which a text is not as it should be.
type Finding struct {
	File    string `json:"file"` // "config" or "credentials"
	Line    int    `json:"line"` // 1-based; 0 if something is missing
	Key     string `json:"key,omitempty"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Problem, f.Remedy)
}

// Check reports how config differs from what Apply would make of it. No
// finding means that Apply would change nothing.
func Check(config []byte, m Managed) []Finding {
	want, err := Apply(config, m)
	if syntax, ok := errors.AsType[*SyntaxError](err); ok {
		return []Finding{{File: "config", Line: syntax.Line, Problem: syntax.Problem, Remedy: syntax.Remedy}}
	}
	if err != nil {
		return []Finding{{File: "config", Problem: err.Error(), Remedy: "correct it by hand"}}
	}
	if bytes.Equal(config, want) {
		return nil
	}
	found := inspect(splitLines(config), splitLines(want))
	if len(found) > 0 {
		return found
	}
	n := 1
	have, wanted := splitLines(config), splitLines(want)
	for n <= min(len(have), len(wanted)) && have[n-1] == wanted[n-1] {
		n++
	}
	return []Finding{{File: "config", Line: n, Problem: "not as nbidentityd writes it", Remedy: repair}}
}

// Binds reports whether every client takes the credentials of its default
// profile from m.CredentialProcess, whatever else the user has changed in
// config. A text that Check finds fault with can still bind.
func Binds(config []byte, m Managed) bool {
	if tooLarge(config) {
		return false
	}
	doc, err := parse(splitLines(config))
	if err != nil || len(doc.defaults) == 0 {
		return false
	}
	bound, inDefault, open := 0, false, false // open: an indented line would add to the command
	for _, it := range doc.items {
		switch {
		case it.kind == header:
			if it.section.canonical != "" && !it.section.plain || inDefault && replacement(it.text) != it.text {
				return false // some clients do not see this header
			}
			inDefault, open = it.section.canonical != "", false
			continue
		case it.kind == blank:
			continue
		case it.indented && open:
			return false
		case it.kind == comment:
			continue
		}
		open = false
		key, bad := findKey(it.text, conflicting)
		inherited := it.section.name == "DEFAULT" && it.kind == option && key != keyProcess
		if !bad || !inDefault && !inherited {
			continue
		}
		if it.text != keyProcess+" = "+m.CredentialProcess {
			return false
		}
		bound++
		open = true
	}
	return bound == len(doc.defaults)
}

const repair = "let nbidentityd write the file again"

// inspect names what can be named: foreign lines in a block, conflicting keys
// outside, missing marks.
func inspect(have, want []line) []Finding {
	ours := map[string]bool{}
	inBlock := false
	for _, l := range want {
		switch {
		case strings.HasPrefix(l.text, beginPrefix):
			inBlock = true
		case strings.HasPrefix(l.text, endMark):
			inBlock = false
		}
		ours[l.text] = ours[l.text] || inBlock
	}
	var found []Finding
	add := func(n int, key, problem string) {
		found = append(found, Finding{File: "config", Line: n, Key: key, Problem: problem, Remedy: repair})
	}
	inDefault, begin, blocks := false, 0, 0
	for _, l := range have {
		switch value := strings.TrimFunc(l.text, isSpace); {
		case strings.HasPrefix(l.text, beginPrefix):
			begin = l.num
			blocks++
		case strings.HasPrefix(l.text, endMark):
			begin = 0
		case begin > 0 && l.num == begin+1 && canonicalHeader(l.text) != "":
			inDefault = true // the header of a section that we added
		case begin > 0 && !ours[l.text]:
			key, _ := valueOf(l.text)
			add(l.num, key, "a line inside the managed block was changed or added")
		case isHeader(value):
			inDefault = canonicalHeader(value) != ""
		case inDefault && begin == 0:
			if key, bad := findKey(l.text, conflicting); bad {
				add(l.num, key, key+" in the default profile conflicts with credential_process")
			}
		}
	}
	if begin > 0 {
		add(begin, "", "the managed block has lost its end mark")
	}
	if blocks == 0 {
		add(0, keyProcess, "the default profile has no managed block")
	}
	return found
}

// Shadows reports what wins over the managed keys although they are there:
// credential keys in [default] of the credentials file, which most clients
// prefer, and a [profile default] of the config that has no managed block. Of
// many it reports the first. Either text may be nil.
func Shadows(config, credentials []byte) []Finding {
	var found []Finding
	lines := splitLines(config)
	for i, l := range lines {
		managed := i+1 < len(lines) && strings.HasPrefix(lines[i+1].text, beginPrefix)
		if canonicalHeader(l.text) == "[profile default]" && !managed {
			found = append(found, Finding{File: "config", Line: l.num,
				Problem: "[profile default] hides [default] from most clients", Remedy: repair})
		}
	}
	if tooLarge(credentials) {
		return append(found, Finding{File: "credentials", Problem: "it is too large to look for keys that override credential_process",
			Remedy: fmt.Sprintf("make it smaller than %d lines", MaxLines)})
	}
	inDefault := false
	for _, l := range splitLines(credentials) {
		if len(found) >= maxFindings {
			break // who needs more to act
		}
		if isHeader(strings.TrimFunc(l.text, isSpace)) {
			inDefault = canonicalHeader(l.text) != ""
			continue
		}
		if key, bad := findKey(l.text, conflicting); bad && inDefault {
			found = append(found, Finding{File: "credentials", Line: l.num, Key: key,
				Problem: key + " in [default] of the credentials file overrides credential_process",
				Remedy:  "delete the line or move it to a named profile"})
		}
	}
	return found
}
