package ordered_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
	"go.yaml.in/yaml/v3"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
)

// sample holds what the three languages read differently.
func sample() ordered.Object {
	return ordered.Object{
		{Name: "Version", Value: "2012-10-17"},
		{Name: "Account", Value: "011122223333"},
		{Name: "sts:SourceIdentity", Value: "${aws:PrincipalTag/nbidentity}"},
		{Name: "escapes", Value: "%{if} $${x} \"q\" \\ \t\r\nline $ {"},
		{Name: "aws:Null", Value: "true"},
		{Name: "yes", Value: true},
		{Name: "Null", Value: "x"},
		{Name: "no", Value: "no"},
		{Name: "size", Value: 4096},
		{Name: "text", Value: "1e3: # not a comment"},
		{Name: "names", Value: []string{"a-nb", "on", "0x1", "~", "12:30:45"}},
		{Name: "long", Value: strings.Split(strings.Repeat("a-name-that-takes-room,", 12), ",")},
		{Name: "nested", Value: ordered.List{
			ordered.Object{{Name: "Effect", Value: "Allow"}, {Name: "Principal", Value: ordered.Object{{Name: "AWS", Value: "*"}}}, {Name: "Last", Value: "x"}},
			"plain",
		}},
		{Name: "empty", Value: ordered.Object{}},
	}
}

func generic(t testing.TB, data []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	return v
}

func asJSON(t testing.TB, v any) any {
	t.Helper()
	data, err := ordered.JSON(v)
	if err != nil {
		t.Fatal(err)
	}
	return generic(t, data)
}

// readHCL evaluates a Terraform expression to plain JSON.
func readHCL(t testing.TB, expression string) any {
	t.Helper()
	e, diagnostics := hclsyntax.ParseExpression([]byte(expression), "expression.tf", hcl.InitialPos)
	if diagnostics.HasErrors() {
		t.Fatalf("%v in\n%s", diagnostics, expression)
	}
	v, diagnostics := e.Value(nil)
	if diagnostics.HasErrors() {
		t.Fatalf("%v in\n%s", diagnostics, expression)
	}
	data, err := ctyjson.Marshal(v, cty.DynamicPseudoType)
	if err != nil {
		t.Fatal(err)
	}
	return generic(t, data).(map[string]any)["value"]
}

func readYAML(t testing.TB, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	again, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return generic(t, again)
}

func TestFormsAgree(t *testing.T) {
	want := asJSON(t, sample())
	text, err := ordered.YAML(sample())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, readYAML(t, text)); diff != "" {
		t.Errorf("YAML (-want +got):\n%s\n%s", diff, text)
	}
	expression, err := ordered.HCL(sample(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, readHCL(t, expression)); diff != "" {
		t.Errorf("HCL (-want +got):\n%s\n%s", diff, expression)
	}
}

func TestYAML11Quoting(t *testing.T) {
	text, err := ordered.YAML(sample())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`Version: "2012-10-17"`, `Account: "011122223333"`, `aws:Null: "true"`, `"yes": true`, `"no": "no"`, `- "on"`, `"Null": x`, `- "12:30:45"`, `- "~"`} {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
}

func TestHCLIsFormatted(t *testing.T) {
	expression, err := ordered.HCL(sample(), 0)
	if err != nil {
		t.Fatal(err)
	}
	file := "x = " + expression + "\n"
	if diff := cmp.Diff(string(hclwrite.Format([]byte(file))), file); diff != "" {
		t.Errorf("formatted (-want +got):\n%s", diff)
	}
}

func TestOrderIsKept(t *testing.T) {
	data, err := ordered.JSON(ordered.Object{{Name: "z", Value: "<&>"}, {Name: "a", Value: ordered.Object{{Name: "y", Value: 1}, {Name: "b", Value: 2}}}})
	if err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"z\": \"<&>\",\n  \"a\": {\n    \"y\": 1,\n    \"b\": 2\n  }\n}\n"
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownTypesAreErrors(t *testing.T) {
	for _, v := range []any{ordered.Object{{Name: "a", Value: 1.5}}, ordered.List{struct{}{}}, nil} {
		if _, err := ordered.YAML(v); err == nil {
			t.Errorf("YAML took %v", v)
		}
		if _, err := ordered.HCL(v, 0); err == nil {
			t.Errorf("HCL took %v", v)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "alice-nb", "${a:b}", "%%{x}", "$$${", "\x00\x7f", "é\u2028\ufeff", "- a: b", "0o17", "2012-10-17", "=", "<<", "!!str"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		o := ordered.Object{{Name: s, Value: s}, {Name: s + "x", Value: []string{s}}}
		want := asJSON(t, o)
		text, err := ordered.YAML(o)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, readYAML(t, text)); diff != "" {
			t.Errorf("YAML (-want +got):\n%s", diff)
		}
		if strings.ContainsFunc(s, func(r rune) bool { return r >= 0x300 }) {
			return // Terraform itself composes combining characters
		}
		expression, err := ordered.HCL(o, 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, readHCL(t, expression)); diff != "" {
			t.Errorf("HCL (-want +got):\n%s", diff)
		}
	})
}
