package rendering_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	"go.yaml.in/yaml/v3"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/rendering"
)

var extensions = map[rendering.Format]string{
	rendering.JSON: "json", rendering.CloudFormationJSON: "cfn.json", rendering.CloudFormationYAML: "cfn.yaml",
	rendering.Terraform: "tf", rendering.CLI: "sh",
}

func TestGolden(t *testing.T) {
	for name, o := range samples(t) {
		s := generate(t, o)
		var table bytes.Buffer
		if err := s.Explain(&table); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".explain.txt", table.Bytes())
		for _, f := range rendering.Formats() {
			golden(t, name+"."+extensions[f], write(t, s, f))
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; UPDATE=1 writes it again):\n%s", path, diff)
	}
}

func TestDeterministic(t *testing.T) {
	for name, o := range samples(t) {
		reversed := o
		reversed.Names = slices.Clone(o.Names)
		slices.Reverse(reversed.Names)
		for _, f := range rendering.Formats() {
			if !bytes.Equal(write(t, generate(t, o), f), write(t, generate(t, reversed), f)) {
				t.Errorf("%s as %s depends on the order of the names", name, f)
			}
		}
	}
}

// documents are all documents of a set by where they belong.
type documents map[string]any

func want(t *testing.T, s *iampolicy.Set) documents {
	t.Helper()
	d := documents{}
	for _, r := range s.Roles {
		d["trust "+r.Name] = plain(t, r.Trust)
		for _, p := range r.Inline {
			d["inline "+r.Name+" "+p.Name] = plain(t, p.Document)
		}
	}
	for _, m := range s.Managed {
		d["managed "+m.Name] = plain(t, m.Document)
	}
	return d
}

func plain(t *testing.T, o ordered.Object) any {
	t.Helper()
	text, err := ordered.JSON(o)
	if err != nil {
		t.Fatal(err)
	}
	return parseJSON(t, text)
}

func parseJSON(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return v
}

// TestSameDocuments reads every format back with a parser of its language.
func TestSameDocuments(t *testing.T) {
	readers := map[rendering.Format]func(*testing.T, []byte) documents{
		rendering.JSON:               readJSON,
		rendering.CloudFormationJSON: func(t *testing.T, text []byte) documents { return readTemplate(t, parseJSON(t, text)) },
		rendering.CloudFormationYAML: func(t *testing.T, text []byte) documents {
			var v any
			if err := yaml.Unmarshal(text, &v); err != nil {
				t.Fatal(err)
			}
			return readTemplate(t, v)
		},
		rendering.Terraform: readTerraform,
	}
	for name, o := range samples(t) {
		s := generate(t, o)
		for f, read := range readers {
			if diff := cmp.Diff(want(t, s), read(t, write(t, s, f))); diff != "" {
				t.Errorf("%s as %s (-want +got):\n%s", name, f, diff)
			}
		}
	}
}

func readJSON(t *testing.T, text []byte) documents {
	var s struct {
		Roles []struct {
			Name   string `json:"name"`
			Trust  any    `json:"trust_policy"`
			Inline []struct {
				Name     string `json:"name"`
				Document any    `json:"document"`
			} `json:"inline_policies"`
		} `json:"roles"`
		Managed []struct {
			Name     string `json:"name"`
			Document any    `json:"document"`
		} `json:"managed_policies"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	d := documents{}
	for _, r := range s.Roles {
		d["trust "+r.Name] = r.Trust
		for _, p := range r.Inline {
			d["inline "+r.Name+" "+p.Name] = p.Document
		}
	}
	for _, m := range s.Managed {
		d["managed "+m.Name] = m.Document
	}
	return d
}

func readTemplate(t *testing.T, v any) documents {
	t.Helper()
	d := documents{}
	for id, r := range v.(map[string]any)["Resources"].(map[string]any) {
		resource := r.(map[string]any)
		p := resource["Properties"].(map[string]any)
		switch resource["Type"] {
		case "AWS::IAM::Role":
			d["trust "+p["RoleName"].(string)] = p["AssumeRolePolicyDocument"]
			inline, _ := p["Policies"].([]any)
			for _, i := range inline {
				d["inline "+p["RoleName"].(string)+" "+i.(map[string]any)["PolicyName"].(string)] = i.(map[string]any)["PolicyDocument"]
			}
		case "AWS::IAM::ManagedPolicy":
			d["managed "+p["ManagedPolicyName"].(string)] = p["PolicyDocument"]
		default:
			t.Errorf("%s has type %v", id, resource["Type"])
		}
	}
	return d
}

func readTerraform(t *testing.T, text []byte) documents {
	t.Helper()
	if diff := cmp.Diff(string(hclwrite.Format(text)), string(text)); diff != "" {
		t.Errorf("not formatted (-want +got):\n%s", diff)
	}
	file, diagnostics := hclsyntax.ParseConfig(text, "main.tf", hcl.InitialPos)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	d := documents{}
	names := map[string]string{} // address → role name
	evaluate := func(b *hclsyntax.Block, attribute string) cty.Value {
		v, diagnostics := b.Body.Attributes[attribute].Expr.Value(&hcl.EvalContext{
			Functions: map[string]function.Function{"jsonencode": stdlib.JSONEncodeFunc}})
		if diagnostics.HasErrors() {
			t.Fatal(diagnostics)
		}
		return v
	}
	addresses := map[string]bool{}
	for _, b := range file.Body.(*hclsyntax.Body).Blocks {
		if b.Type != "resource" {
			continue
		}
		address := b.Labels[0] + "." + b.Labels[1]
		if addresses[address] {
			t.Errorf("two resources %s", address)
		}
		addresses[address] = true
		switch b.Labels[0] {
		case "aws_iam_role":
			names[address] = evaluate(b, "name").AsString()
			d["trust "+names[address]] = parseJSON(t, []byte(evaluate(b, "assume_role_policy").AsString()))
		case "aws_iam_role_policy":
			role := b.Body.Attributes["role"].Expr.(*hclsyntax.ScopeTraversalExpr)
			address := fmt.Sprintf("%s.%s", role.Traversal.RootName(), role.Traversal[1].(hcl.TraverseAttr).Name)
			d["inline "+names[address]+" "+evaluate(b, "name").AsString()] = parseJSON(t, []byte(evaluate(b, "policy").AsString()))
		case "aws_iam_policy":
			d["managed "+evaluate(b, "name").AsString()] = parseJSON(t, []byte(evaluate(b, "policy").AsString()))
		}
	}
	return d
}

// TestIdentifiersDoNotCollide makes roles whose names differ only in what
// templates cannot have in an identifier.
func TestIdentifiersDoNotCollide(t *testing.T) {
	s := generate(t, iampolicy.Options{Mode: iampolicy.StudioPropagation, DomainID: "d-exampledomain", Account: "111122223333",
		Roles: []string{"a-b", "a.b", "ab", "a_b", "1ab", "=", "r1ab"}})
	for f, read := range map[rendering.Format]func(*testing.T, []byte) documents{
		rendering.Terraform:          readTerraform,
		rendering.CloudFormationJSON: func(t *testing.T, text []byte) documents { return readTemplate(t, parseJSON(t, text)) },
	} {
		if diff := cmp.Diff(want(t, s), read(t, write(t, s, f))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f, diff)
		}
	}
}

func TestTemplateLimit(t *testing.T) {
	o := iampolicy.Options{Mode: iampolicy.Launcher, Account: "111122223333"}
	for i := range 500 {
		o.Names = append(o.Names, fmt.Sprintf("nb-%03d", i))
	}
	s := generate(t, o)
	err := rendering.Write(&bytes.Buffer{}, s, rendering.CloudFormationYAML)
	if err == nil || !strings.Contains(err.Error(), "502 resources, CloudFormation takes 500") {
		t.Errorf("got %v", err)
	}
	if err := rendering.Write(&bytes.Buffer{}, s, rendering.Terraform); err != nil {
		t.Error(err)
	}
}

func TestUnknownFormat(t *testing.T) {
	err := rendering.Write(&bytes.Buffer{}, generate(t, samples(t)["self"]), "toml")
	if err == nil || !strings.Contains(err.Error(), "terraform") {
		t.Errorf("the error does not say what there is: %v", err)
	}
}
