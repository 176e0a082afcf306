package report

import (
	"strings"
	"unicode"
)

// Clean returns s on one line and without anything that could act on a terminal or
// change the order of what is read: such characters become a middle dot.
func Clean(s string) string {
	plain := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		if !shown(r) {
			return '·'
		}
		return r
	}, s)
}

// shown reports whether a character is one that takes a place of its own and does nothing
// else.
func shown(r rune) bool {
	return r != unicode.ReplacementChar && unicode.IsPrint(r) && !unicode.Is(unicode.M, r)
}

// columns is how many columns of a terminal a character takes.
func columns(r rune) int {
	switch {
	case r < 0x1100:
		return 1
	case r <= 0x115f, 0x2e80 <= r && r <= 0xa4cf, 0xac00 <= r && r <= 0xd7a3, 0xf900 <= r && r <= 0xfaff,
		0xfe30 <= r && r <= 0xfe6f, 0xff00 <= r && r <= 0xff60, 0x1f300 <= r && r <= 0x1faff, 0x20000 <= r && r <= 0x3fffd:
		return 2
	}
	return 1
}

func width(s string) int {
	n := 0
	for _, r := range s {
		n += columns(r)
	}
	return n
}

// fit returns s in at most limit columns, with an ellipsis in the middle where it was
// cut, because the ends of names and ARNs tell most.
func fit(s string, limit int) string {
	if width(s) <= limit {
		return s
	}
	if limit < 2 {
		return strings.Repeat("…", limit)
	}
	runes := []rune(s)
	head, tail := 0, len(runes)
	for used := 1; ; {
		if n := columns(runes[head]); used+n <= limit && (head <= len(runes)-tail || tail == 0) {
			used += n
			head++
			continue
		}
		if n := columns(runes[tail-1]); used+n <= limit {
			used += n
			tail--
			continue
		}
		break
	}
	return string(runes[:head]) + "…" + string(runes[tail:])
}
