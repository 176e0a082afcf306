package iameval

import (
	"errors"
	"fmt"
	"strings"
)

// part is a piece of a policy string: plain text, in which wildcards count, or
// a variable, whose value is always literal.
type part struct {
	text     string
	variable bool
	key      string  // condition key; "" for the escapes ${*}, ${?} and ${$}, held in text
	fallback *string // from ${key, 'default'}
}

// parseTemplate splits s at its policy variables. Without variables (language
// version 2008) "${" is plain text.
func parseTemplate(s string, variables bool) ([]part, error) {
	if !variables {
		return []part{{text: s}}, nil
	}
	var parts []part
	for {
		before, rest, found := strings.Cut(s, "${")
		parts = append(parts, part{text: before})
		if !found {
			return parts, nil
		}
		p, after, err := parseVariable(rest)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
		s = after
	}
}

// parseVariable reads a variable whose "${" has been consumed. A default may
// hold anything but a single quote, closing braces included.
func parseVariable(s string) (p part, after string, err error) {
	end := strings.IndexAny(s, "}'")
	if end < 0 {
		return p, "", errors.New("policy variable without a closing brace: add } or write ${$} for a dollar sign")
	}
	p.variable, p.key = true, s[:end]
	if s[end] == '\'' {
		value, rest, closed := strings.Cut(s[end+1:], "'")
		key, comma := strings.CutSuffix(strings.TrimRight(p.key, " "), ",")
		if !closed || !comma || !strings.HasPrefix(rest, "}") {
			return p, "", errors.New("policy variable with a broken default: write ${key, 'default'}")
		}
		p.key, p.fallback, after = key, &value, rest[1:]
	} else {
		after = s[end+1:]
	}
	switch {
	case p.fallback == nil && (p.key == "*" || p.key == "?" || p.key == "$"):
		p.text, p.key = p.key, ""
	case strings.TrimSpace(p.key) != p.key || !strings.Contains(p.key, ":") || strings.ContainsAny(p.key, "${*?,"):
		return p, "", fmt.Errorf("policy variable %q: write ${prefix:key} without spaces around it", clip(p.key))
	}
	return p, after, nil
}

// unresolved is a variable that has no single value in the request.
type unresolved string

func (u unresolved) Error() string {
	return fmt.Sprintf("${%s} has no value in this request", clip(string(u)))
}

// expand substitutes the variables of a policy string. The error is an
// unresolved or a syntax error; the latter only for documents that did not
// come from ParseDocument.
func expand(s string, variables, wildcards bool, keys contextKeys) (pattern, error) {
	parts, err := parseTemplate(s, variables)
	if err != nil {
		return nil, err
	}
	var out pattern
	for _, p := range parts {
		literal := p.text
		switch {
		case !p.variable && wildcards:
			out = append(out, parsePattern(p.text)...)
			continue
		case p.variable && p.key != "":
			values := keys.get(p.key)
			switch {
			case len(values) == 1:
				literal = values[0]
			case p.fallback != nil:
				literal = *p.fallback
			default:
				return nil, unresolved(p.key)
			}
		}
		out = append(out, []rune(literal)...)
	}
	return out, nil
}
