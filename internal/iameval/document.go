package iameval

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Versions of the policy language. Policy variables exist only in Version2012;
// a document without a Version is Version2008.
const (
	Version2008 = "2008-10-17"
	Version2012 = "2012-10-17"
)

// Size limits of IAM in characters as [Size] counts them. The inline limit is
// for all inline policies of one role together. The trust limit is a quota
// that an account can have raised to MaxTrust.
const (
	MaxTrustDefault = 2048
	MaxTrust        = 4096
	MaxManaged      = 6144
	MaxInline       = 10240
)

// maxDocument bounds what is read, white space included. The IAM API takes 131,072
// characters; AWS itself attaches longer ones, such as AWSSupportServiceRolePolicy.
const maxDocument = 1 << 20

// Effect is what a statement does when it applies.
type Effect string

// The two effects.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Document is one parsed policy: an identity policy or a role trust policy.
type Document struct {
	Version    string // Version2008 or Version2012
	ID         string
	Statements []Statement
}

// Statement is one element of a document's Statement list. Of each pair with
// and without Not at most one is filled.
type Statement struct {
	Index         int // position in the document, from 0
	Sid           string
	Effect        Effect
	Principals    []PrincipalName
	NotPrincipals []PrincipalName
	Actions       []string
	NotActions    []string
	Resources     []string
	NotResources  []string
	Conditions    []Condition
}

// PrincipalName is one entry of a Principal or NotPrincipal element. The
// shorthand "*" is read as AWS "*", which means the same.
type PrincipalName struct {
	Type string // AWS, Service, Federated or CanonicalUser
	ID   string
}

// Condition is one operator applied to one key; the values are alternatives.
type Condition struct {
	Operator string // canonical spelling, with its ForAllValues:/ForAnyValue: and IfExists
	Key      string
	Values   []string
}

// Name says which statement this is, for error texts and findings.
func (s Statement) Name() string {
	if s.Sid == "" {
		return fmt.Sprintf("Statement[%d]", s.Index)
	}
	return fmt.Sprintf("Statement[%d] %q", s.Index, s.Sid)
}

// Size counts the characters of a policy as IAM does for its limits: white
// space between JSON tokens is free, white space inside strings is counted
// (IAM's documentation says only "white space", so this errs towards too large).
func Size(document []byte) int {
	n := 0
	inString, escaped := false, false
	for _, r := range string(document) {
		switch {
		case escaped:
			escaped = false
		case inString && r == '\\':
			escaped = true
		case r == '"':
			inString = !inString
		case !inString && (r == ' ' || r == '\t' || r == '\n' || r == '\r'):
			continue
		}
		n++
	}
	return n
}

// ParseDocument reads a policy as strictly as IAM does when it is stored. An
// error names the statement (index and Sid), the element and the remedy. It
// does not know where the policy will be attached: see
// [Document.CheckIdentity] and [Document.CheckTrust]; nor does it apply the
// size limits, which depend on that too.
func ParseDocument(data []byte) (Document, error) {
	if err := checkText(data); err != nil {
		return Document{}, err
	}
	top, err := object(data)
	if err != nil {
		return Document{}, fmt.Errorf("policy document: %w", err)
	}
	d := Document{Version: Version2008}
	var statements []json.RawMessage
	for _, m := range top {
		switch m.name {
		case "Version":
			d.Version, err = text(m.value)
			if err == nil && d.Version != Version2012 && d.Version != Version2008 {
				err = fmt.Errorf("%q is not a policy language version: use %q", clip(d.Version), Version2012)
			}
		case "Id":
			d.ID, err = text(m.value)
		case "Statement":
			statements, err = list(m.value)
			if err == nil && len(statements) == 0 {
				err = errors.New("the list is empty: add a statement")
			}
		default:
			err = errors.New("unknown element: a policy has Version, Id and Statement")
		}
		if err != nil {
			return Document{}, fmt.Errorf("policy document: %s: %w", clip(m.name), err)
		}
	}
	if len(statements) == 0 {
		return Document{}, errors.New("policy document: Statement is missing: add at least one statement")
	}
	sids := make(map[string]int)
	for i, raw := range statements {
		s, err := parseStatement(i, raw, d.Version == Version2012)
		if err != nil {
			return Document{}, fmt.Errorf("%s: %w", s.Name(), err)
		}
		if first, taken := sids[s.Sid]; taken && s.Sid != "" {
			return Document{}, fmt.Errorf("%s: Statement[%d] has the same Sid: make each Sid unique", s.Name(), first)
		}
		sids[s.Sid] = i
		d.Statements = append(d.Statements, s)
	}
	return d, nil
}

// checkText applies what IAM demands before it looks at the JSON.
func checkText(data []byte) error {
	if len(data) > maxDocument {
		return fmt.Errorf("policy document: %d bytes, at most %d are read: split the policy", len(data), maxDocument)
	}
	if !utf8.Valid(data) {
		return errors.New("policy document: not valid UTF-8: save the file as UTF-8")
	}
	for i, r := range string(data) {
		if r > 0xff || (r < ' ' && r != '\t' && r != '\n' && r != '\r') {
			return fmt.Errorf("policy document: character %U at byte %d: IAM takes only Latin-1; write it as a \\u escape", r, i)
		}
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, new(json.RawMessage)); errors.As(err, &syntax) {
		return fmt.Errorf("policy document: not JSON at byte %d: %w", syntax.Offset, err)
	} else if err != nil {
		return fmt.Errorf("policy document: %w", err)
	}
	return nil
}

// parseStatement returns what it has on an error too, so that the caller can
// name the statement.
func parseStatement(index int, raw json.RawMessage, variables bool) (Statement, error) {
	s := Statement{Index: index}
	elements, err := object(raw)
	if err != nil {
		return s, err
	}
	for _, m := range elements {
		if m.name == "Sid" {
			if s.Sid, err = parseSid(m.value); err != nil {
				return s, fmt.Errorf("%s: %w", m.name, err)
			}
		}
	}
	have := make(map[string]bool)
	for _, m := range elements {
		have[m.name] = true
		if err := s.element(m, variables); err != nil {
			return s, fmt.Errorf("%s: %w", clip(m.name), err)
		}
	}
	if !have["Effect"] {
		return s, errors.New(`no Effect: add "Effect": "Allow" or "Deny"`)
	}
	for _, pair := range []string{"Principal", "Action", "Resource"} {
		if have[pair] && have["Not"+pair] {
			return s, fmt.Errorf("both %s and Not%s: keep one of them", pair, pair)
		}
	}
	if !have["Action"] && !have["NotAction"] {
		return s, errors.New("no action: add Action or NotAction")
	}
	if !have["Principal"] && !have["NotPrincipal"] && !have["Resource"] && !have["NotResource"] {
		return s, errors.New("no resource: add Resource (identity policy) or Principal (trust policy)")
	}
	return s, nil
}

func parseSid(raw json.RawMessage) (string, error) {
	sid, err := text(raw)
	if err != nil {
		return "", err
	}
	for _, r := range sid {
		if !alphanumeric(r) {
			return "", fmt.Errorf("%q: a Sid has only letters and digits", clip(sid))
		}
	}
	return sid, nil
}

// element reads one member of a statement object.
func (s *Statement) element(m member, variables bool) (err error) {
	switch m.name {
	case "Sid":
	case "Effect":
		var effect string
		if effect, err = text(m.value); err == nil && effect != string(Allow) && effect != string(Deny) {
			err = fmt.Errorf("%q: must be Allow or Deny, spelled so", clip(effect))
		}
		s.Effect = Effect(effect)
	case "Principal":
		s.Principals, err = parsePrincipals(m.value)
	case "NotPrincipal":
		s.NotPrincipals, err = parsePrincipals(m.value)
	case "Action":
		s.Actions, err = texts(m.value, checkAction)
	case "NotAction":
		s.NotActions, err = texts(m.value, checkAction)
	case "Resource", "NotResource":
		var rs []string
		rs, err = texts(m.value, func(r string) error { return checkResource(r, variables) })
		if m.name == "Resource" {
			s.Resources = rs
		} else {
			s.NotResources = rs
		}
	case "Condition":
		s.Conditions, err = parseConditions(m.value, variables)
	default:
		err = errors.New("unknown element: a statement has Sid, Effect, [Not]Principal, [Not]Action, [Not]Resource, Condition (spelled so)")
	}
	return err
}

func checkAction(a string) error {
	vendor, name, ok := strings.Cut(a, ":")
	switch {
	case a == "*" || a == "*:*":
		return nil
	case !ok || vendor == "" || name == "":
		return fmt.Errorf(`%q: must be "*" or "service:Action"`, clip(a))
	}
	for _, r := range vendor {
		if !alphanumeric(r) && r != '-' {
			return fmt.Errorf("%q: the service before the colon must be written out", clip(a))
		}
	}
	for _, r := range name {
		if !alphanumeric(r) && !strings.ContainsRune("-_*?", r) {
			return fmt.Errorf("%q: %q cannot be part of an action", clip(a), r)
		}
	}
	return nil
}

func checkResource(r string, variables bool) error {
	fixed := r
	if variables {
		if _, err := parseTemplate(r, true); err != nil {
			return fmt.Errorf("%q: %w", clip(r), err)
		}
		fixed, _, _ = strings.Cut(r, "${")
	}
	switch {
	case r == "*":
		return nil
	case !strings.HasPrefix(r, "arn:"):
		return fmt.Errorf(`%q: must be "*" or an ARN`, clip(r))
	case strings.Count(fixed, ":") < 5:
		return fmt.Errorf("%q: an ARN has six parts, and policy variables only in the last: use * for an unknown part", clip(r))
	}
	return nil
}

func parseConditions(raw json.RawMessage, variables bool) ([]Condition, error) {
	operators, err := object(raw)
	if err != nil {
		return nil, err
	}
	var all []Condition
	seen := make(map[string]bool)
	for _, o := range operators {
		op, err := parseOperator(o.name)
		if err != nil {
			return nil, err
		}
		keys, err := object(o.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op.name, err)
		}
		for _, k := range keys {
			c := Condition{Operator: op.name, Key: k.name}
			id := op.name + "\n" + strings.ToLower(k.name)
			if seen[id] {
				return nil, fmt.Errorf("%s %s: the key appears twice (letter case does not count): join the values in one list", op.name, clip(k.name))
			}
			seen[id] = true
			if c.Values, err = conditionValues(k.value, op, variables); err == nil && !strings.Contains(k.name, ":") {
				err = errors.New("a condition key is prefix:name, as in aws:SourceIdentity")
			}
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", op.name, clip(k.name), err)
			}
			all = append(all, c)
		}
	}
	return all, nil
}

func conditionValues(raw json.RawMessage, op operator, variables bool) ([]string, error) {
	items, err := list(raw)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, errors.New("the list of values is empty: add a value or drop the condition")
	}
	values := make([]string, len(items))
	for i, item := range items {
		switch item[0] {
		case '"':
			if values[i], err = text(item); err != nil {
				return nil, err
			}
		case '{', '[', 'n':
			return nil, errors.New("a value must be a string, a number or a boolean")
		default:
			values[i] = string(item)
		}
		if err := op.checkValue(values[i], variables); err != nil {
			return nil, fmt.Errorf("%q: %w", clip(values[i]), err)
		}
	}
	return values, nil
}

// CheckIdentity reports why IAM would refuse the document as an identity
// policy, nil if it would not.
func (d Document) CheckIdentity() error {
	for _, s := range d.Statements {
		switch {
		case len(s.Principals)+len(s.NotPrincipals) > 0:
			return fmt.Errorf("%s: Principal does not belong in an identity policy: remove it", s.Name())
		case len(s.Resources)+len(s.NotResources) == 0:
			return fmt.Errorf("%s: Resource is missing: add Resource or NotResource", s.Name())
		}
	}
	return nil
}

// CheckTrust reports why IAM would refuse the document as a role trust policy,
// nil if it would not. Whether the principals exist it cannot know.
func (d Document) CheckTrust() error {
	for _, s := range d.Statements {
		switch {
		case len(s.Resources)+len(s.NotResources) > 0:
			return fmt.Errorf("%s: Resource does not belong in a trust policy: remove it", s.Name())
		case len(s.Principals)+len(s.NotPrincipals) == 0:
			return fmt.Errorf("%s: Principal is missing: say who may assume the role", s.Name())
		}
		for _, a := range s.Actions {
			if len(a) < 4 || !strings.EqualFold(a[:4], "sts:") {
				return fmt.Errorf("%s: Action %q: a trust policy has only sts: actions", s.Name(), clip(a))
			}
		}
	}
	return nil
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
