package main

import "errors"

// Limits of an answer, in bytes. 8 KiB is the smallest limit that an SDK puts
// on a credential process's output.
const (
	maxHeader      = 4 << 10
	maxCredentials = 8 << 10
	maxStatus      = 64 << 10
	maxProfile     = 16 << 10 // that the daemon reads
)

// answer is what the daemon said.
type answer struct {
	status  int
	code    string // Nbidentity-Error
	message string // Nbidentity-Message
	state   string // Nbidentity-State
	body    []byte // aliases the parsed bytes
}

var (
	errShort  = errors.New("the answer is incomplete")
	errFormat = errors.New("the answer is not one of nbidentityd's")
	errLarge  = errors.New("the answer is too large")
)

// parse reads one HTTP/1.1 answer of known length that fills b. errShort says
// that more bytes are needed; any other error is final.
func parse(b []byte, maxBody int) (answer, error) {
	end := headerEnd(b)
	switch {
	case end < 0 && len(b) > maxHeader:
		return answer{}, errLarge
	case end < 0:
		return answer{}, errShort
	case end > maxHeader:
		return answer{}, errLarge
	}
	line, rest := cutLine(b[:end])
	// "HTTP/1.1 200" and perhaps a reason
	if len(line) < 12 || string(line[:9]) != "HTTP/1.1 " || len(line) > 12 && line[12] != ' ' {
		return answer{}, errFormat
	}
	var a answer
	var ok bool
	if a.status, ok = number(line[9:12], 999); !ok || a.status < 200 {
		return answer{}, errFormat
	}
	length := -1
	for len(rest) > 0 {
		line, rest = cutLine(rest)
		name, value, ok := field(line)
		if !ok {
			return answer{}, errFormat
		}
		switch name {
		case "content-length":
			n, ok := number(value, maxBody)
			switch {
			case length >= 0:
				return answer{}, errFormat
			case !ok && digits(value):
				return answer{}, errLarge
			case !ok:
				return answer{}, errFormat
			}
			length = n
		case "transfer-encoding":
			return answer{}, errFormat
		case "nbidentity-error":
			a.code = string(value)
		case "nbidentity-message":
			a.message = string(value)
		case "nbidentity-state":
			a.state = string(value)
		}
	}
	a.body = b[end:]
	switch {
	case length < 0 || len(a.body) > length:
		return answer{}, errFormat
	case len(a.body) < length:
		return answer{}, errShort
	}
	return a, nil
}

// headerEnd returns where the body begins, or -1 when b does not show it.
func headerEnd(b []byte) int {
	for i := 3; i < len(b); i++ {
		if b[i] == '\n' && b[i-1] == '\r' && b[i-2] == '\n' && b[i-3] == '\r' {
			return i + 1
		}
	}
	return -1
}

// cutLine cuts b after its first CRLF, and at its end when there is none. The
// empty line that ends a header yields an empty rest.
func cutLine(b []byte) (line, rest []byte) {
	for i := 1; i < len(b); i++ {
		if b[i] == '\n' && b[i-1] == '\r' {
			line, rest = b[:i-1], b[i+1:]
			if len(rest) == 2 {
				rest = nil
			}
			return line, rest
		}
	}
	return b, nil
}

// field splits a header line; name is in lower case.
func field(line []byte) (name string, value []byte, ok bool) {
	for i, c := range line {
		if c <= ' ' || c >= 0x7f {
			return "", nil, false
		}
		if c != ':' {
			continue
		}
		lower := make([]byte, i)
		for j, c := range line[:i] {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			lower[j] = c
		}
		value = line[i+1:]
		for len(value) > 0 && value[0] == ' ' {
			value = value[1:]
		}
		return string(lower), value, i > 0
	}
	return "", nil, false
}

// number reads a decimal of at most limit.
func number(b []byte, limit int) (n int, ok bool) {
	if !digits(b) {
		return 0, false
	}
	for _, c := range b {
		if n = n*10 + int(c-'0'); n > limit {
			return 0, false
		}
	}
	return n, true
}

// decimal is number's inverse.
func decimal(n int) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// isCredentials reports whether body may be printed as the output of a
// credential process: one JSON object of version 1 on one line, with its
// newline, small enough for every SDK.
func isCredentials(body []byte) bool {
	const first, last = `{"Version":1,`, "}\n"
	if len(body) > maxCredentials || len(body) < len(first)+len(last) ||
		string(body[:len(first)]) != first || string(body[len(body)-len(last):]) != last {
		return false
	}
	// No key, secret, token or time holds a brace or anything unprintable.
	for _, c := range body[1 : len(body)-len(last)] {
		if c < ' ' || c > '~' || c == '{' || c == '}' {
			return false
		}
	}
	return true
}

// oneLine makes s fit for a terminal and an SDK's error text: printable ASCII,
// at most limit bytes.
func oneLine(s string, limit int) string {
	b := make([]byte, 0, min(len(s), limit))
	for i := 0; i < len(s) && len(b) < limit; i++ {
		c := s[i]
		if c < ' ' || c > '~' {
			c = '?'
		}
		b = append(b, c)
	}
	return string(b)
}

// printable makes text fit for a terminal in place: control characters of both
// the C0 and the C1 set become "?", line feeds stay.
func printable(text []byte) []byte {
	for i, c := range text {
		switch {
		case c == '\n':
		case c < ' ' || c == 0x7f:
			text[i] = '?'
		case c >= 0x80 && c < 0xa0 && i > 0 && text[i-1] == 0xc2: // U+0080 to U+009F
			text[i-1], text[i] = '?', '?'
		}
	}
	return text
}
