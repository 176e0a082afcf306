package awsconfig

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
)

// Key is one line of a profile.
type Key struct{ Name, Value string }

var (
	profileRE = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}$`)
	keyRE     = lazyregexp.New(`^[a-z][a-z0-9_]{0,63}$`)
)

const (
	maxKeys  = 64
	maxValue = 2048 // bytes
)

// AddProfile returns config with a section [profile name] added at its end. All
// bytes of config stay; only a missing end of its last line is added. It fails
// if there is such a profile already, for the default profile, and for keys and
// values that do not mean the same to all clients, that a named profile must
// not have, or that could reach beyond it.
func AddProfile(config []byte, name string, keys []Key) ([]byte, error) {
	if !profileRE.MatchString(name) || strings.EqualFold(name, "default") {
		return nil, fmt.Errorf("profile name %q: it must have 1 to 64 letters, digits or _.@+- and not be default", name)
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("profile %s: %d keys: give 1 to %d", name, len(keys), maxKeys)
	}
	if tooLarge(config) {
		return nil, ErrTooLarge
	}
	lines := splitLines(config)
	doc, err := parse(lines)
	if err != nil {
		return nil, err
	}
	for _, it := range doc.items {
		if it.kind == header && profileName(it.section.name) == name {
			return nil, fmt.Errorf("profile %s is already on line %d", name, it.num)
		}
	}
	if n := len(lines); n > 0 && lines[n-1].eol == "" {
		lines[n-1].eol = doc.newline
	}
	lines = append(lines, line{text: "[profile " + name + "]", eol: doc.newline, num: len(lines) + 1})
	seen := map[string]bool{}
	for _, k := range keys {
		if err := k.validate(); err != nil {
			return nil, fmt.Errorf("profile %s: %w", name, err)
		}
		if seen[k.Name] {
			return nil, fmt.Errorf("profile %s: %s is given twice", name, k.Name)
		}
		seen[k.Name] = true
		lines = append(lines, line{text: k.Name + " = " + k.Value, eol: doc.newline, num: len(lines) + 1})
	}
	if _, err := parse(lines); err != nil {
		return nil, fmt.Errorf("profile %s: %w", name, err)
	}
	text := joinLines(lines)
	if tooLarge(text) {
		return nil, ErrTooLarge
	}
	return text, nil
}

// RemoveProfile returns config without the section of that profile, from its
// header to its last key. Comments and empty lines after that stay, and so does
// every other byte. It fails if there is no such
// profile, and for the default profile.
func RemoveProfile(config []byte, name string) ([]byte, error) {
	if !profileRE.MatchString(name) || strings.EqualFold(name, "default") {
		return nil, fmt.Errorf("profile name %q: it must have 1 to 64 letters, digits or _.@+- and not be default", name)
	}
	if tooLarge(config) {
		return nil, ErrTooLarge
	}
	doc, err := parse(splitLines(config))
	if err != nil {
		return nil, err
	}
	first := slices.IndexFunc(doc.items, func(it item) bool { return it.kind == header && profileName(it.section.name) == name })
	if first < 0 {
		return nil, fmt.Errorf("there is no profile %s", name)
	}
	last := first
	for i, it := range doc.items[first:] {
		// An indented comment would add to the value before the profile.
		if it.section == doc.items[first].section && (it.kind == option || it.kind == continuation || it.indented) {
			last = first + i
		}
	}
	var kept []line
	for i, it := range doc.items {
		if i < first || i > last {
			kept = append(kept, it.line)
		}
	}
	return joinLines(kept), nil
}

func (k Key) validate() error {
	switch k.Name {
	case keyProcess:
		return fmt.Errorf("%s: only nbidentityd's own command is run for credentials", k.Name)
	case "credential_source":
		return fmt.Errorf("%s takes credentials that bear nobody's name: use source_profile = default", k.Name)
	case "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_security_token":
		return fmt.Errorf("%s belongs in ~/.aws/credentials, where `aws configure` puts it", k.Name)
	}
	if !keyRE.MatchString(k.Name) {
		return fmt.Errorf("key %q: it must have 1 to 64 lower-case letters, digits or _", k.Name)
	}
	odd := func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune("#;[]", r) }
	if k.Value == "" || len(k.Value) > maxValue || !utf8.ValidString(k.Value) ||
		strings.TrimSpace(k.Value) != k.Value || strings.ContainsFunc(k.Value, odd) {
		return fmt.Errorf("the value of %s must be one line of printable text, at most %d bytes, without #;[] and blanks at its ends", k.Name, maxValue)
	}
	return nil
}

// profileName returns the profile that a section name means to any client, as
// botocore splits it.
func profileName(section string) string {
	words := strings.Fields(strings.NewReplacer(`"`, "", `'`, "", `\`, "").Replace(section))
	if len(words) == 2 && strings.HasPrefix(words[0], "profile") {
		return words[1]
	}
	return ""
}
