// Package ordered holds JSON-like values whose objects keep their order, and
// writes them as JSON, YAML and Terraform expressions.
//
// It guarantees that each form, read by a parser of that form, gives the same
// value: policy variables such as ${aws:SourceIdentity} stay text in HCL, and
// what YAML 1.1 would read as a date, a number or a boolean is quoted. The same
// value always gives the same bytes.
//
// A value is a string (UTF-8), a bool, an int, a List, a []string, or an Object.
package ordered

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Object is a list of members, in the order in which they are written.
type Object []Member

// Member is one name with its value.
type Member struct {
	Name  string
	Value any
}

// List is a list of values.
type List []any

// MarshalJSON writes the members in order.
func (o Object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := compact(m.Name)
		if err != nil {
			return nil, err
		}
		value, err := compact(m.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// compact is json.Marshal without the escapes meant for HTML.
func compact(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// JSON writes v indented by two spaces, with a final newline.
func JSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// YAML writes v as a block document, indented by two spaces.
func YAML(v any) ([]byte, error) {
	node, err := yamlNode(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(node); err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func yamlNode(v any) (*yaml.Node, error) {
	switch v := v.(type) {
	case Object:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, m := range v {
			value, err := yamlNode(m.Value)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.Name, err)
			}
			n.Content = append(n.Content, yamlText(m.Name), value)
		}
		return n, nil
	case List:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			value, err := yamlNode(item)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, value)
		}
		return n, nil
	case []string:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			n.Content = append(n.Content, yamlText(item))
		}
		return n, nil
	case string:
		return yamlText(v), nil
	case bool, int:
		n := new(yaml.Node)
		return n, n.Encode(v)
	}
	return nil, fmt.Errorf("a %T cannot be written", v)
}

// yamlText is a string, quoted unless no reader of YAML 1.1 or 1.2 could take
// it for anything else: a notebook may be called "on", and Null is an operator.
func yamlText(s string) *yaml.Node {
	n := new(yaml.Node)
	n.SetString(s)
	switch {
	case plain(s):
	case lines(s):
		n.Style = yaml.LiteralStyle
	default:
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// lines reports whether s is text over several lines, such as a script, that a
// block holds as it is: it ends with one newline, and no space can be lost.
func lines(s string) bool {
	text, ended := strings.CutSuffix(s, "\n")
	if !ended || !strings.Contains(text, "\n") || strings.HasPrefix(text, " ") {
		return false
	}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasSuffix(line, " ") || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
			return false
		}
	}
	return !strings.HasSuffix(text, "\n")
}

// plain reports whether s begins with a letter, has only characters that mean
// nothing to YAML, and is not a word of its own.
func plain(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	}
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		inner := r >= '0' && r <= '9' || strings.ContainsRune("_./@+-", r) || r == ':' && i < len(s)-1
		if !letter && (i == 0 || !inner) {
			return false
		}
	}
	return s != ""
}

// HCL writes v as a Terraform expression whose lines after the first are
// indented by indent levels of two spaces, formatted as terraform fmt does.
func HCL(v any, indent int) (string, error) {
	var b strings.Builder
	if err := hcl(&b, v, indent); err != nil {
		return "", err
	}
	return b.String(), nil
}

func hcl(b *strings.Builder, v any, indent int) error {
	switch v := v.(type) {
	case Object:
		return hclObject(b, v, indent)
	case List:
		return hclList(b, v, indent)
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = Quote(s)
		}
		if line := "[" + strings.Join(quoted, ", ") + "]"; len(line) <= 100 {
			b.WriteString(line)
			return nil
		}
		items := make(List, len(v))
		for i, s := range v {
			items[i] = s
		}
		return hclList(b, items, indent)
	case string:
		b.WriteString(Quote(v))
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int:
		b.WriteString(strconv.Itoa(v))
	default:
		return fmt.Errorf("a %T cannot be written", v)
	}
	return nil
}

func hclObject(b *strings.Builder, o Object, indent int) error {
	b.WriteString("{\n")
	values := make([]string, len(o))
	names := make([]string, len(o))
	for i, m := range o {
		value, err := HCL(m.Value, indent+1)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		values[i], names[i] = value, m.Name
		if !identifier(m.Name) {
			names[i] = Quote(m.Name)
		}
	}
	widths := aligned(names, values)
	for i := range o {
		fmt.Fprintf(b, "%s%-*s = %s\n", strings.Repeat("  ", indent+1), widths[i], names[i], values[i])
	}
	b.WriteString(strings.Repeat("  ", indent) + "}")
	return nil
}

// aligned gives the width of each name so that the equals signs of
// neighbouring lines stand below each other. A value over several lines ends
// the neighbourhood before it.
func aligned(names, values []string) []int {
	widths := make([]int, len(names))
	for start := 0; start < len(names); {
		end := start
		widest := 0
		for end < len(names) && !strings.Contains(values[end], "\n") {
			widest = max(widest, len(names[end]))
			end++
		}
		if end == start { // one that spans lines stands alone
			widths[start] = len(names[start])
			start++
			continue
		}
		for i := start; i < end; i++ {
			widths[i] = widest
		}
		start = end
	}
	return widths
}

func hclList(b *strings.Builder, l List, indent int) error {
	b.WriteString("[\n")
	for _, item := range l {
		b.WriteString(strings.Repeat("  ", indent+1))
		if err := hcl(b, item, indent+1); err != nil {
			return err
		}
		b.WriteString(",\n")
	}
	b.WriteString(strings.Repeat("  ", indent) + "]")
	return nil
}

// Quote writes s as an HCL string in which nothing is interpolated.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		case (r == '$' || r == '%') && strings.HasPrefix(s[i+1:], "{"):
			b.WriteRune(r)
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// identifier reports whether s can stand unquoted as the name of a member.
// Words that HCL gives a meaning in that place are not.
func identifier(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != "" && s != "for" && s != "true" && s != "false" && s != "null"
}
