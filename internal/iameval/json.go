package iameval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// member is one name and value of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// object splits a JSON object, in order, and refuses duplicate names, which
// encoding/json would let pass.
func object(raw json.RawMessage) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("must be a JSON object")
	}
	var all []member
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: t.(string)}
		if err := dec.Decode(&m.value); err != nil {
			return nil, err
		}
		if seen[m.name] {
			return nil, fmt.Errorf("%q appears twice: keep one", clip(m.name))
		}
		seen[m.name] = true
		all = append(all, m)
	}
	return all, nil
}

// list splits a JSON array; anything else is a list of one.
func list(raw json.RawMessage) ([]json.RawMessage, error) {
	if raw[0] != '[' {
		return []json.RawMessage{raw}, nil
	}
	var items []json.RawMessage
	err := json.Unmarshal(raw, &items)
	return items, err
}

func text(raw json.RawMessage) (string, error) {
	if raw[0] != '"' {
		return "", errors.New("must be a string")
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// texts reads a string or a non-empty list of strings, each checked.
func texts(raw json.RawMessage, check func(string) error) ([]string, error) {
	items, err := list(raw)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, errors.New("the list is empty: add a value or remove the statement")
	}
	all := make([]string, len(items))
	for i, item := range items {
		if all[i], err = text(item); err != nil {
			return nil, err
		}
		if err := check(all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// clip keeps outside text in messages short and on one line.
func clip(s string) string {
	const limit = 128
	clean := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s))
	if len(clean) <= limit {
		return string(clean)
	}
	return string(clean[:limit]) + "…"
}
