package rendering

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
)

// terraform writes a module of one file; fleet may be nil.
func terraform(s *iampolicy.Set, fleet *Fleet) ([]byte, error) {
	t := &module{ids: newIdentifiers("_"), roles: map[string]string{}}
	works := false
	for _, r := range s.Roles {
		works = works || r.Works
	}
	deploy := "Deploy in account " + s.Account + "."
	if len(existing(s)) > 0 {
		deploy += " Roles that exist are imported: the plan shows what changes on them. terraform destroy refuses to delete them; use terraform state rm."
	}
	t.b.WriteString(comment(s, fleet, slices.Concat([]string{deploy}, fleet.steps(s, Terraform), commandNotes(s))...))
	t.b.WriteString("\nterraform {\n  required_version = \">= 1.5\"\n  required_providers {\n    aws = {\n      source  = \"hashicorp/aws\"\n      version = \">= 5.0\"\n    }\n  }\n}\n")
	if works {
		t.b.WriteString("\nvariable \"work_policy_arns\" {\n  description = \"ARNs of managed policies with the permissions for people's work, attached to every role under which they work\"\n  type        = list(string)\n  default     = []\n}\n")
	}
	for _, r := range s.Roles {
		t.role(r)
	}
	for _, m := range s.Managed {
		t.managed(m)
	}
	fleet.terraform(s, t)
	return []byte(t.b.String()), t.err
}

// module collects the blocks; err is the first failure.
type module struct {
	b     strings.Builder
	ids   *identifiers
	roles map[string]string // role name → identifier
	err   error
}

// attribute is one line, or a document over several.
type attribute struct{ name, expression string }

func (t *module) document(o ordered.Object) string {
	text, err := ordered.HCL(o, 1)
	if err != nil && t.err == nil {
		t.err = err
	}
	return "jsonencode(" + text + ")"
}

// block writes one block; attributes over several lines stand apart, so that
// the others can be aligned as terraform fmt does.
func (t *module) block(head string, attributes []attribute, nested string) {
	fmt.Fprintf(&t.b, "\n%s {\n", head)
	widest := 0
	for _, a := range attributes {
		if !strings.Contains(a.expression, "\n") {
			widest = max(widest, len(a.name))
		}
	}
	for _, a := range attributes {
		if !strings.Contains(a.expression, "\n") {
			fmt.Fprintf(&t.b, "  %-*s = %s\n", widest, a.name, a.expression)
		}
	}
	for _, a := range attributes {
		if strings.Contains(a.expression, "\n") {
			fmt.Fprintf(&t.b, "\n  %s = %s\n", a.name, a.expression)
		}
	}
	t.b.WriteString(nested + "}\n")
}

func (t *module) role(r iampolicy.Role) {
	id := t.ids.of(strings.ToLower(r.Name))
	t.roles[r.Name] = id
	if r.Exists {
		t.block("import", []attribute{{"to", "aws_iam_role." + id}, {"id", ordered.Quote(r.Name)}}, "")
	}
	attributes := []attribute{{"name", ordered.Quote(r.Name)}, {"path", ordered.Quote(r.Path)}}
	nested := ""
	if r.Exists {
		nested = "\n  lifecycle {\n    prevent_destroy = true\n    ignore_changes  = [description, max_session_duration, permissions_boundary, tags, tags_all]\n  }\n"
	} else {
		attributes = append(attributes, attribute{"description", ordered.Quote(r.Description)})
	}
	if len(r.Tags) > 0 {
		text, err := ordered.HCL(tagObject(r.Tags), 1)
		if err != nil && t.err == nil {
			t.err = err
		}
		attributes = append(attributes, attribute{"tags", text})
	}
	t.block(fmt.Sprintf("resource \"aws_iam_role\" %q", id), append(attributes, attribute{"assume_role_policy", t.document(r.Trust)}), nested)
	for _, p := range r.Inline {
		t.block(fmt.Sprintf("resource \"aws_iam_role_policy\" %q", t.ids.of(id+"_"+p.Name)), []attribute{
			{"name", ordered.Quote(p.Name)}, {"role", "aws_iam_role." + id + ".name"}, {"policy", t.document(p.Document)}}, "")
	}
	if r.Works {
		t.block(fmt.Sprintf("resource \"aws_iam_role_policy_attachment\" %q", t.ids.of(id+"_work")), []attribute{
			{"for_each", "toset(var.work_policy_arns)"}, {"role", "aws_iam_role." + id + ".name"}, {"policy_arn", "each.value"}}, "")
	}
}

func (t *module) managed(m iampolicy.ManagedPolicy) {
	id := t.ids.of(strings.ToLower(m.Name))
	t.block(fmt.Sprintf("resource \"aws_iam_policy\" %q", id), []attribute{
		{"name", ordered.Quote(m.Name)}, {"description", ordered.Quote(m.Description)}, {"policy", t.document(m.Document)}}, "")
	for _, r := range m.Roles {
		t.block(fmt.Sprintf("resource \"aws_iam_role_policy_attachment\" %q", t.ids.of(t.roles[r]+"_"+id)), []attribute{
			{"role", "aws_iam_role." + t.roles[r] + ".name"}, {"policy_arn", "aws_iam_policy." + id + ".arn"}}, "")
	}
}
