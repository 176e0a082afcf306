package awsconfig

import "strings"

// The marks. Each holds a colon, which makes `aws configure set` take the line
// for an option and insert new keys after it, and so after our block.
const (
	beginMark    = "# nbidentityd: begin (managed; changes up to the end mark are undone)"
	beginNewMark = "# nbidentityd: begin new section (managed; changes up to the end mark are undone)"
	endMark      = "# nbidentityd: end"
	endRegion    = ", added region "
	offMark      = "#nbidentityd off: " // followed by the line that is commented out
	wasMark      = "#nbidentityd was: " // followed by the original of the next line

	beginPrefix    = "# nbidentityd: begin"
	beginNewPrefix = "# nbidentityd: begin new section"
)

func marked(lines []line) bool {
	for _, l := range lines {
		if hasMark(l.text) {
			return true
		}
	}
	return false
}

func hasMark(text string) bool {
	for _, m := range []string{beginPrefix, endMark, offMark, wasMark} {
		if strings.HasPrefix(text, m) {
			return true
		}
	}
	return false
}

// stripped is a line on its way out of strip.
type stripped struct {
	line
	restored bool // was commented out by us
	added    bool // the header of a section that we added
}

// strip undoes Apply. It is lenient: a damaged block loses what is certainly
// ours, and the user's own additions to it stay.
func strip(lines []line) []line {
	var out []stripped
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		switch {
		case strings.HasPrefix(l.text, beginPrefix):
			body, next := block(lines, i)
			out = append(out, body...)
			i = next - 1
		case strings.HasPrefix(l.text, endMark):
		case strings.HasPrefix(l.text, offMark):
			l.text = l.text[len(offMark):]
			out = append(out, stripped{line: l, restored: true})
		case strings.HasPrefix(l.text, wasMark):
			original := l.text[len(wasMark):]
			if i+1 < len(lines) && lines[i+1].text == replacement(original) {
				i++
				l.text, l.eol = original, lines[i].eol
				out = append(out, stripped{line: l})
			} // else the user has changed the rewritten line since, which stays
		default:
			out = append(out, stripped{line: l})
		}
	}
	out = dropSuperseded(dropAdded(out))
	kept := make([]line, len(out))
	for i, s := range out {
		kept[i] = s.line
	}
	if n := len(kept); n > 0 && lines[len(lines)-1].eol == "" {
		kept[n-1].eol = "" // the last line of the text is the one without an end
	}
	return kept
}

// block reads the managed block that begins at line i. It returns what is the
// user's in it and the index of the line after it.
func block(lines []line, i int) (kept []stripped, next int) {
	first := i + 1
	added := strings.HasPrefix(lines[i].text, beginNewPrefix) && first < len(lines) && canonicalHeader(lines[first].text) != ""
	if added {
		kept = append(kept, stripped{line: lines[first], added: true})
		first++
	}
	end := first
	for end < len(lines) && !strings.HasPrefix(lines[end].text, beginPrefix) &&
		!strings.HasPrefix(lines[end].text, endMark) && !isHeader(strings.TrimFunc(lines[end].text, isSpace)) {
		end++
	}
	if end == len(lines) || !strings.HasPrefix(lines[end].text, endMark) {
		// The end mark is lost: only lines that directly follow are ours.
		end = first
		for end < len(lines) && ownKey(lines[end].text, "") {
			end++
		}
		return kept, end
	}
	_, region, _ := strings.Cut(lines[end].text, endRegion)
	for _, l := range lines[first:end] {
		switch text := l.text; {
		case strings.TrimSpace(text) == "", ownKey(text, region):
		case strings.HasPrefix(text, offMark):
			l.text = text[len(offMark):]
			kept = append(kept, stripped{line: l, restored: true})
		case strings.HasPrefix(text, wasMark):
		default:
			kept = append(kept, stripped{line: l})
		}
	}
	return kept, end + 1
}

// ownKey reports whether a line in the block is ours, whatever its value has
// become; but a region other than the one we added is the user's choice.
func ownKey(text, region string) bool {
	key, value := valueOf(text)
	return key == keyProcess || key == keySTS || key == keyRegion && region != "" && value == region
}

// dropAdded removes the header of an added section that holds nothing of the
// user's.
func dropAdded(lines []stripped) []stripped {
	out := make([]stripped, 0, len(lines))
	for i, l := range lines {
		if l.added && !hasContent(lines[i+1:]) {
			continue
		}
		out = append(out, l)
	}
	return out
}

func hasContent(lines []stripped) bool {
	for _, l := range lines {
		value := strings.TrimFunc(l.text, isSpace)
		switch {
		case isHeader(value):
			return false
		case value != "" && value[0] != '#' && value[0] != ';':
			return true
		}
	}
	return false
}

// dropSuperseded removes a restored option, with its continuation lines, if
// the user has set the same key again in the same section: two would make
// botocore refuse the file.
func dropSuperseded(lines []stripped) []stripped {
	type place struct {
		section int
		key     string
	}
	at := make([]int, len(lines)) // section number of each line
	live := map[place]bool{}
	section := 0
	for i, l := range lines {
		if isHeader(strings.TrimFunc(l.text, isSpace)) {
			section++
		}
		at[i] = section
		if !l.restored && strings.TrimLeft(l.text, " \t") == l.text {
			for _, k := range keysOf(l.text) {
				live[place{section, k}] = true
			}
		}
	}
	out := make([]stripped, 0, len(lines))
	dropping := false
	for i, l := range lines {
		column0 := strings.TrimLeft(l.text, " \t") == l.text
		// An indented line may be the continuation of a commented-out option,
		// and then its key is nobody's rival, unless Apply never leaves it alive.
		_, again := findKey(l.text, func(k string) bool { return live[place{at[i], k}] && (column0 || conflicting(k)) })
		switch {
		case !l.restored || column0 && !again:
			dropping = false
		case again:
			dropping = true
		}
		if !dropping {
			out = append(out, l)
		}
	}
	return out
}
