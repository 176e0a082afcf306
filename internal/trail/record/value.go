package record

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// String returns the string at a path of keys inside raw, the JSON text of a value
// such as [Record.RequestParameters], and "" when there is none. A value that is
// itself JSON text in a string, as Athena and CloudTrail Lake export it, is looked
// into.
func String(raw []byte, path ...string) string {
	return string(AppendString(nil, Raw(raw, path...)))
}

// AppendString appends to dst the string of which value is the JSON text, nothing if it
// is no string.
func AppendString(dst, value []byte) []byte {
	if len(value) < 2 || value[0] != '"' {
		return dst
	}
	return unquote(dst, value[1:len(value)-1])
}

// Raw returns the JSON text of the value at a path of keys inside raw, nil when
// there is none. The last of several equal keys counts, as in encoding/json.
func Raw(raw []byte, path ...string) []byte {
	for _, name := range path {
		var found []byte
		for key, value := range Fields(raw) {
			if string(key) == name {
				found = value
			}
		}
		raw = found
	}
	return raw
}

// Fields yields the keys of the object raw and the JSON text of their values, in
// order, until raw ends or is not JSON. An object that is itself JSON text in a string
// is looked into, as Athena and CloudTrail Lake export it.
func Fields(raw []byte) func(yield func(key, value []byte) bool) {
	return func(yield func(key, value []byte) bool) {
		if len(raw) > 1 && raw[0] == '"' && raw[len(raw)-1] == '"' {
			raw = unquote(nil, raw[1:len(raw)-1])
		}
		s := scanner{b: raw}
		i := s.space(0)
		if i >= len(raw) || raw[i] != '{' {
			return
		}
		for i, more := i+1, true; more; {
			start, end, plain, v := s.key(i)
			if v < 0 {
				return
			}
			if i = s.value(v, 0); i < 0 {
				return
			}
			key := raw[start:end]
			if !plain {
				key = unquote(nil, key)
			}
			if !yield(key, raw[v:i]) {
				return
			}
			if i, more = s.next(i, '}'); i < 0 {
				return
			}
		}
	}
}

// Elements yields the JSON text of the elements of the array raw, in order, until
// raw ends or is not JSON.
func Elements(raw []byte) func(yield func(value []byte) bool) {
	return func(yield func(value []byte) bool) {
		s := scanner{b: raw}
		i := s.space(0)
		if i >= len(raw) || raw[i] != '[' {
			return
		}
		for i, more := i+1, true; more; {
			v := s.space(i)
			if i = s.value(v, 0); i < 0 || !yield(raw[v:i]) {
				return
			}
			if i, more = s.next(i, ']'); i < 0 {
				return
			}
		}
	}
}

// unquote appends to dst the value of a string whose text, checked before and
// without its quotes, is src. What is not UTF-8 becomes U+FFFD, as in
// encoding/json.
func unquote(dst, src []byte) []byte {
	if plain := bytes.IndexByte(src, '\\') < 0 && isASCII(src); plain {
		return append(dst, src...)
	}
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c == '\\' && i+1 < len(src):
			var r rune
			if r, i = unescape(src, i+1); r < 0 {
				return dst
			}
			dst = utf8.AppendRune(dst, r)
		case c < utf8.RuneSelf:
			dst = append(dst, c)
			i++
		default:
			r, size := utf8.DecodeRune(src[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
		}
	}
	return dst
}

func isASCII(text []byte) bool {
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// unescape reads what follows the backslash at i-1: the character and the index
// after it; -1 when the text was not checked before and is broken.
func unescape(src []byte, i int) (rune, int) {
	switch c := src[i]; c {
	case 'u':
		return unescapeRune(src, i+1)
	case 'b':
		return '\b', i + 1
	case 'f':
		return '\f', i + 1
	case 'n':
		return '\n', i + 1
	case 'r':
		return '\r', i + 1
	case 't':
		return '\t', i + 1
	default:
		return rune(c), i + 1
	}
}

// unescapeRune reads the digits after \u, and a second escape when the two are a
// pair of surrogates.
func unescapeRune(src []byte, i int) (rune, int) {
	r, i := codeUnit(src, i)
	if !utf16.IsSurrogate(r) {
		return r, i
	}
	if i+1 < len(src) && src[i] == '\\' && src[i+1] == 'u' {
		second, after := codeUnit(src, i+2)
		if pair := utf16.DecodeRune(r, second); pair != utf8.RuneError {
			return pair, after
		}
	}
	return utf8.RuneError, i
}

func codeUnit(src []byte, i int) (rune, int) {
	if i+4 > len(src) {
		return -1, len(src)
	}
	r := rune(0)
	for _, c := range src[i : i+4] {
		d := hexDigit(c)
		if d < 0 {
			return -1, len(src)
		}
		r = r<<4 | d
	}
	return r, i + 4
}

// seconds reads the one form of time that CloudTrail writes, such as
// 2023-07-10T11:54:47Z with or without a fraction, and returns Unix seconds.
func seconds(t []byte) (int64, bool) {
	if len(t) < 20 || t[4] != '-' || t[7] != '-' || t[10] != 'T' || t[13] != ':' || t[16] != ':' || t[len(t)-1] != 'Z' {
		return 0, false
	}
	if fraction := t[19 : len(t)-1]; len(fraction) > 0 {
		if fraction[0] != '.' || len(fraction) == 1 || number(fraction[1:]) < 0 {
			return 0, false
		}
	}
	year, month, day := number(t[0:4]), number(t[5:7]), number(t[8:10])
	hour, minute, second := number(t[11:13]), number(t[14:16]), number(t[17:19])
	if year < 0 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return 0, false
	}
	return daysSinceEpoch(year, month, day)*86400 + hour*3600 + minute*60 + second, true
}

func number(digits []byte) int64 {
	n := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return max(n, 0)
}

func daysIn(year, month int64) int64 {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysSinceEpoch counts days of the proleptic Gregorian calendar from 1970-01-01,
// with years that begin in March so that the leap day is the last one.
func daysSinceEpoch(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := floorDiv(year, 400)
	yearOfEra := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - 719468
}

func floorDiv(a, b int64) int64 {
	if a < 0 {
		return (a - b + 1) / b
	}
	return a / b
}
