// Package fleet_test keeps the example templates what nbidentityd writes.
package fleet_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"go.yaml.in/yaml/v3"

	"github.com/nbidentityd/nbidentityd/lifecycle"
)

const execRole = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"

// example is a set of flags whose templates are kept here.
type example struct {
	name    string
	mode    string
	studio  bool
	flags   []string
	present []string // what the script must set
}

func examples() []example {
	names := []string{"-account", "111122223333", "-name", "alice-nb,bob-nb"}
	return []example{
		{"self", "self", false, []string{"-role", execRole, "-name", "alice-nb,bob-nb"}, nil},
		{"self-studio", "self", true, []string{"-role", execRole, "-name", "alice,bob", "-kind", "profile", "-region", "us-east-1",
			"-app", "JupyterLab,CodeEditor,JupyterServer,KernelGateway", "-bucket-exists"}, nil},
		{"per-notebook", "per-notebook", false, append(names, "-job-role", "JobRole", "-fail-closed"), []string{"NBIDENTITY_FAIL_CLOSED=1"}},
		{"launcher", "launcher", false, append(names, "-template", "{kind}@{name}"),
			[]string{`role.arn = "arn:aws:iam::111122223333:role/NotebookWork"`, `identity.session_name = "{kind}@{name}"`}},
		{"studio-propagation", "studio-propagation", true, []string{"-role", execRole, "-domain", "d-exampledomain", "-region", "us-east-1",
			"-s3-endpoint", "https://bucket.vpce-0123456789abcdef0.s3.us-east-1.vpce.amazonaws.com"}, []string{"NBIDENTITY_S3_ENDPOINT='https://bucket.vpce"}},
		{"per-profile", "per-profile", true, []string{"-role", execRole, "-name", "alice,bob", "-region", "us-east-1"},
			[]string{`role.arn = "arn:aws:iam::{account}:role/SageMakerStudioExecutionRole_{name}"`}},
	}
}

// program is nbidentityd, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "nbidentityd-fleet-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "nbidentityd")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/nbidentityd").CombinedOutput(); err != nil {
		return path, fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path)) // of the system's temporary directory
	}
	os.Exit(code)
}

// nbidentityd runs it beside a release of one package, whose checksum does not
// change.
func nbidentityd(t *testing.T, args ...string) []byte {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(path, args...)
	c.Dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(c.Dir, "dist"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nbidentityd-1.2.3-1.x86_64.rpm", "nbidentityd-1.2.3-linux-amd64.tar.gz"} {
		if err := os.WriteFile(filepath.Join(c.Dir, "dist", name), []byte("a package\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, &stderr)
	}
	return out
}

func (e example) fleet(t *testing.T, format string) []byte {
	t.Helper()
	file := "dist/nbidentityd-1.2.3-1.x86_64.rpm"
	if e.studio {
		file = "dist/nbidentityd-1.2.3-linux-amd64.tar.gz"
	}
	return nbidentityd(t, slices.Concat([]string{"fleet", e.mode}, e.flags, []string{"-package", "example-bucket/nbidentityd", "-file", file, "-format", format})...)
}

// policy are the same documents by the command that proves them.
func (e example) policy(t *testing.T) []byte {
	t.Helper()
	args := []string{"policy", e.mode, "-package", "example-bucket/nbidentityd", "-format", "cloudformation-json"}
	for i := 0; i < len(e.flags); i++ {
		switch e.flags[i] {
		case "-bucket-exists", "-fail-closed":
		case "-app", "-s3-endpoint":
			i++
		default:
			args = append(args, e.flags[i])
		}
	}
	return nbidentityd(t, args...)
}

var formats = map[string]string{".yaml": "cloudformation-yaml", ".tf": "terraform"}

// TestExamplesAreCurrent: UPDATE=1 writes them.
func TestExamplesAreCurrent(t *testing.T) {
	for _, e := range examples() {
		for extension, format := range formats {
			got := e.fleet(t, format)
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(e.name+extension, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(e.name + extension)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s%s is not what nbidentityd writes (UPDATE=1 go test ./packaging/fleet writes it):\n%s", e.name, extension, diff)
			}
		}
	}
}

// template is the part of a CloudFormation template that the tests look at.
type template struct {
	Resources map[string]struct {
		Type       string
		Properties map[string]any
	}
}

func read(t *testing.T, text []byte) template {
	t.Helper()
	var y any
	if err := yaml.Unmarshal(text, &y); err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(y) // one set of types
	if err != nil {
		t.Fatal(err)
	}
	var tpl template
	if err := json.Unmarshal(j, &tpl); err != nil {
		t.Fatal(err)
	}
	return tpl
}

// TestDocumentsAreThoseProved: a fleet's roles are those of nbidentityd policy.
func TestDocumentsAreThoseProved(t *testing.T) {
	for _, e := range examples() {
		fleet, policy := read(t, e.fleet(t, "cloudformation-yaml")), read(t, e.policy(t))
		for id, r := range fleet.Resources {
			if !strings.HasPrefix(r.Type, "AWS::IAM::") {
				delete(fleet.Resources, id)
			}
		}
		if len(policy.Resources) == 0 {
			t.Fatalf("%s: no roles", e.name)
		}
		if diff := cmp.Diff(policy, fleet); diff != "" {
			t.Errorf("%s: the documents differ (-policy +fleet):\n%s", e.name, diff)
		}
	}
}

// scripts are the texts in a template, by the resource's id.
func (tpl template) scripts(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for id, r := range tpl.Resources {
		content := r.Properties["StudioLifecycleConfigContent"]
		if list, ok := r.Properties["OnStart"].([]any); ok {
			content = list[0].(map[string]any)["Content"]
		}
		if f, ok := content.(map[string]any); ok {
			found[id] = f["Fn::Base64"].(string)
		}
	}
	return found
}

func TestScripts(t *testing.T) {
	for _, e := range examples() {
		scripts := read(t, e.fleet(t, "cloudformation-yaml")).scripts(t)
		if len(scripts) == 0 {
			t.Errorf("%s: no script", e.name)
		}
		fromTerraform := localScript(t, e.name+".tf")
		for id, s := range scripts {
			if n := base64.StdEncoding.EncodedLen(len(s)); n > lifecycle.MaxContent {
				t.Errorf("%s: %s: %d characters in base64, SageMaker takes %d", e.name, id, n, lifecycle.MaxContent)
			}
			if s != fromTerraform {
				t.Errorf("%s: %s: Terraform has another script (-CloudFormation +Terraform):\n%s", e.name, id, cmp.Diff(s, fromTerraform))
			}
			for _, want := range append(e.present, "NBIDENTITY_PACKAGE='s3://example-bucket/nbidentityd/nbidentityd-1.2.3", "NBIDENTITY_SHA256='c5919a88") {
				if !strings.Contains(s, want) {
					t.Errorf("%s: %s: no %q in\n%s", e.name, id, want, s)
				}
			}
			c := exec.Command("sh", "-n")
			c.Stdin = strings.NewReader(s)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v: %s", e.name, id, err, out)
			}
		}
	}
}

// localScript reads local.on_start by Terraform's grammar.
func localScript(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(hclwrite.Format(text)), string(text)); diff != "" {
		t.Errorf("%s is not formatted (-want +got):\n%s", name, diff)
	}
	file, diagnostics := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	addresses := map[string]bool{}
	for _, b := range file.Body.(*hclsyntax.Body).Blocks {
		if address := strings.Join(append([]string{b.Type}, b.Labels...), "."); b.Type == "resource" && addresses[address] {
			t.Errorf("%s: two %s", name, address)
		} else {
			addresses[address] = true
		}
		if b.Type == "locals" {
			v, diagnostics := b.Body.Attributes["on_start"].Expr.Value(nil)
			if diagnostics.HasErrors() {
				t.Fatal(diagnostics)
			}
			return v.AsString()
		}
	}
	t.Fatalf("%s: no script", name)
	return ""
}

func lintTool(t *testing.T, name string) string {
	t.Helper()
	venv := os.Getenv("NBIDENTITY_LINT_VENV")
	if venv == "" {
		t.Skip("needs cfn-lint, parliament and python-hcl2 in a Python environment named by NBIDENTITY_LINT_VENV")
	}
	return filepath.Join(venv, "bin", name)
}

func TestCloudFormationIsValid(t *testing.T) {
	args := []string{"--regions", "us-east-1", "--include-checks", "I", "W", "--"}
	for _, e := range examples() {
		args = append(args, e.name+".yaml")
	}
	if out, err := exec.Command(lintTool(t, "cfn-lint"), args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("cfn-lint: %v\n%s", err, out)
	}
}

func TestTerraformReadsElsewhere(t *testing.T) {
	tool := lintTool(t, "python")
	for _, e := range examples() {
		if out, err := exec.Command(tool, "-c", "import hcl2, sys; hcl2.load(open(sys.argv[1]))", e.name+".tf").CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", e.name, err, out)
		}
	}
}

func TestTerraformIsFormatted(t *testing.T) {
	tool, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("needs terraform")
	}
	for _, e := range examples() {
		if out, err := exec.Command(tool, "fmt", "-check", "-diff", e.name+".tf").CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", e.name, err, out)
		}
	}
}

// TestRefusals: what cannot work is said before anything is written.
func TestRefusals(t *testing.T) {
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		say  string
	}{
		{[]string{"launcher", "-account", "111122223333", "-name", "a-nb"}, "a fleet needs -file"},
		{[]string{"launcher", "-account", "111122223333", "-name", "a-nb", "-package", "bucket", "-file", "/x.tar.gz"}, "notebook instances take the .rpm"},
		{[]string{"per-profile", "-role", execRole, "-name", "alice", "-package", "bucket", "-file", "/x.rpm"}, "Studio the .tar.gz"},
		{[]string{"per-profile", "-role", execRole, "-name", "alice", "-package", "bucket", "-file", "/x.tar.gz", "-app", "Canvas"}, `"Canvas" is not a type of app`},
		{[]string{"launcher", "-account", "111122223333", "-name", "a-nb", "-package", "bucket", "-file", "/no/such.rpm"}, "reading the package"},
		{[]string{"launcher", "-account", "111122223333", "-name", "a-nb", "-package", "bucket", "-file", "fleet_test.go"}, "is not a package"},
		{[]string{"nomode"}, `there is no mode "nomode"`},
	} {
		out, err := exec.Command(path, append([]string{"fleet"}, test.args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.say) {
			t.Errorf("%v: %v: want %q in %s", test.args, err, test.say, out)
		}
	}
}
