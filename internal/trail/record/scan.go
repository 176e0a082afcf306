package record

import (
	"encoding/binary"
	"math/bits"
)

// maxDepth is the nesting at which encoding/json gives up too.
const maxDepth = 10000

// scanner walks JSON text and checks it as it goes, by RFC 8259 and therefore as
// encoding/json does. Each method takes the index of the first byte of what it
// reads and returns the index after it, or -1, when short and fault say why.
type scanner struct {
	b []byte

	short bool   // the text ended too early; more bytes could complete it
	at    int    // where the scan stopped
	fault string // what was wrong there
}

func (s *scanner) fail(i int, fault string) int {
	s.at = i
	if i >= len(s.b) {
		s.short, fault = true, "the input ends inside a record"
	}
	s.fault = fault
	return -1
}

func (s *scanner) space(i int) int {
	for i < len(s.b) && s.b[i] <= ' ' && (s.b[i] == ' ' || s.b[i] == '\n' || s.b[i] == '\t' || s.b[i] == '\r') {
		i++
	}
	return i
}

const (
	low  = 0x0101010101010101
	high = 0x8080808080808080
)

// text reads a string whose opening quote is at i-1. It returns the index of the
// closing quote, and whether the bytes between are the value as they stand:
// ASCII without an escape.
//
// Eight bytes are tested at a time: the subtraction borrows out of every byte
// that is zero (or under 0x20), and the lowest such byte is always a true one.
func (s *scanner) text(i int) (end int, plain bool) {
	b := s.b
	plain = true
	var seen uint64
	for {
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			quote, slash := x^('"'*low), x^('\\'*low)
			hit := ((quote-low)&^quote | (slash-low)&^slash | (x-' '*low)&^x) & high
			if hit != 0 {
				before := bits.TrailingZeros64(hit) &^ 7
				seen |= x & (1<<before - 1)
				i += before >> 3
				break
			}
			seen |= x
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' {
			seen |= uint64(b[i])
			i++
		}
		switch {
		case i >= len(b):
			return s.fail(i, ""), false
		case b[i] == '"':
			return i, plain && seen&high == 0
		case b[i] != '\\':
			return s.fail(i, "a control character in a string"), false
		}
		plain = false
		if i = s.escape(i + 1); i < 0 {
			return -1, false
		}
	}
}

// escape reads what follows a backslash.
func (s *scanner) escape(i int) int {
	if i >= len(s.b) {
		return s.fail(i, "")
	}
	switch s.b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		for range 4 {
			i++
			if i >= len(s.b) || hexDigit(s.b[i]) < 0 {
				return s.fail(i, "a \\u escape without four hexadecimal digits")
			}
		}
		return i + 1
	}
	return s.fail(i, "an unknown escape in a string")
}

func hexDigit(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c - 'a' + 10)
	case 'A' <= c && c <= 'F':
		return rune(c - 'A' + 10)
	}
	return -1
}

// value reads any value.
func (s *scanner) value(i, depth int) int {
	if i >= len(s.b) {
		return s.fail(i, "")
	}
	switch c := s.b[i]; {
	case c == '"':
		end, _ := s.text(i + 1)
		if end < 0 {
			return -1
		}
		return end + 1
	case c == '{':
		return s.object(i+1, depth+1)
	case c == '[':
		return s.array(i+1, depth+1)
	case c == 't':
		return s.literal(i, "true")
	case c == 'f':
		return s.literal(i, "false")
	case c == 'n':
		return s.literal(i, "null")
	case c == '-' || '0' <= c && c <= '9':
		return s.number(i)
	}
	return s.fail(i, "not the beginning of a value")
}

// object reads the rest of an object whose brace is at i-1.
func (s *scanner) object(i, depth int) int {
	if depth > maxDepth {
		return s.fail(i-1, "nested too deeply")
	}
	if i = s.space(i); i < len(s.b) && s.b[i] == '}' {
		return i + 1
	}
	for {
		_, _, _, v := s.key(i)
		if v < 0 {
			return -1
		}
		if i = s.value(v, depth); i < 0 {
			return -1
		}
		more := false
		if i, more = s.next(i, '}'); i < 0 || !more {
			return i
		}
	}
}

// array reads the rest of an array whose bracket is at i-1.
func (s *scanner) array(i, depth int) int {
	if depth > maxDepth {
		return s.fail(i-1, "nested too deeply")
	}
	if i = s.space(i); i < len(s.b) && s.b[i] == ']' {
		return i + 1
	}
	for {
		if i = s.value(s.space(i), depth); i < 0 {
			return -1
		}
		more := false
		if i, more = s.next(i, ']'); i < 0 || !more {
			return i
		}
	}
}

// key reads a key and its colon: the key is b[start:end], value the index of the
// value's first byte.
func (s *scanner) key(i int) (start, end int, plain bool, value int) {
	i = s.space(i)
	if i >= len(s.b) || s.b[i] != '"' {
		return 0, 0, false, s.fail(i, "no key where one should be")
	}
	start = i + 1
	if end, plain = s.text(start); end < 0 {
		return 0, 0, false, -1
	}
	i = s.space(end + 1)
	if i >= len(s.b) || s.b[i] != ':' {
		return 0, 0, false, s.fail(i, "no colon after a key")
	}
	return start, end, plain, s.space(i + 1)
}

// next reads the comma or the closing character after an element.
func (s *scanner) next(i int, closing byte) (_ int, more bool) {
	i = s.space(i)
	switch {
	case i >= len(s.b):
		return s.fail(i, ""), false
	case s.b[i] == ',':
		return i + 1, true
	case s.b[i] == closing:
		return i + 1, false
	}
	return s.fail(i, "neither a comma nor the end after a value"), false
}

func (s *scanner) literal(i int, word string) int {
	for k := range len(word) {
		if i+k >= len(s.b) || s.b[i+k] != word[k] {
			return s.fail(i+k, "not the beginning of a value")
		}
	}
	return i + len(word)
}

func (s *scanner) number(i int) int {
	if s.b[i] == '-' {
		i++
	}
	switch {
	case i < len(s.b) && s.b[i] == '0':
		i++
	default:
		if i = s.digits(i); i < 0 {
			return -1
		}
	}
	if i < len(s.b) && s.b[i] == '.' {
		if i = s.digits(i + 1); i < 0 {
			return -1
		}
	}
	if i < len(s.b) && (s.b[i] == 'e' || s.b[i] == 'E') {
		i++
		if i < len(s.b) && (s.b[i] == '+' || s.b[i] == '-') {
			i++
		}
		return s.digits(i)
	}
	return i
}

func (s *scanner) digits(i int) int {
	if i >= len(s.b) || s.b[i] < '0' || s.b[i] > '9' {
		return s.fail(i, "not a number")
	}
	for i < len(s.b) && '0' <= s.b[i] && s.b[i] <= '9' {
		i++
	}
	return i
}
