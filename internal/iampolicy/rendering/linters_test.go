package rendering_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy/rendering"
)

// lintTool returns a program of the Python environment with cfn-lint,
// parliament and python-hcl2 that the environment variable names.
func lintTool(t *testing.T, name string) string {
	t.Helper()
	venv := os.Getenv("NBIDENTITY_LINT_VENV")
	if venv == "" {
		t.Skip("needs cfn-lint, parliament and python-hcl2 in a Python environment named by NBIDENTITY_LINT_VENV")
	}
	return filepath.Join(venv, "bin", name)
}

// program returns a tool that a machine may have.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip("needs " + name)
	}
	return path
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(all) < len(samples(t)) {
		t.Fatalf("%d files %s: %v", len(all), pattern, err)
	}
	return all
}

func TestCloudFormationIsValid(t *testing.T) {
	tool := lintTool(t, "cfn-lint")
	args := append([]string{"--regions", "us-east-1", "--include-checks", "I", "W", "--"}, append(files(t, "*.cfn.yaml"), files(t, "*.cfn.json")...)...)
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("cfn-lint: %v\n%s", err, out)
	}
}

// lintPolicies reads {"name": document} and writes one finding on a line. A
// trust policy becomes an identity policy before: the linter knows no others.
const lintPolicies = `
import json, sys
from parliament import analyze_policy_string
for name, document in json.load(sys.stdin).items():
    for s in document["Statement"]:
        if s.pop("Principal", None):
            s["Resource"] = "arn:aws:iam::111122223333:role/x"
    for f in analyze_policy_string(json.dumps(document)).findings:
        print(name, f.issue, f.detail, f.location)
`

// misread are the linter's own gaps: a global key that its list lacks, and keys
// of resource types, which it does not look up.
var misread = []string{
	"UNKNOWN_CONDITION_FOR_ACTION Unknown condition aws:ViaAWSService for action ",
	"UNKNOWN_CONDITION_FOR_ACTION Unknown condition sagemaker:ResourceTag/studiouserid for action ",
}

func TestPoliciesAreValid(t *testing.T) {
	tool := lintTool(t, "python")
	for name, o := range samples(t) {
		input, err := json.Marshal(want(t, generate(t, o)))
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(tool, "-W", "ignore", "-c", lintPolicies)
		c.Stdin = strings.NewReader(string(input))
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	findings:
		for line := range strings.Lines(string(out)) {
			for _, m := range misread {
				if strings.Contains(line, m) {
					continue findings
				}
			}
			t.Errorf("%s: parliament: %s", name, line)
		}
	}
}

// TestLinterFinds keeps the test above from passing because nothing is linted.
func TestLinterFinds(t *testing.T) {
	c := exec.Command(lintTool(t, "python"), "-W", "ignore", "-c", lintPolicies)
	c.Stdin = strings.NewReader(`{"x":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:NoSuchAction","Resource":"*"}]}}`)
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "UNKNOWN_ACTION") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTerraformReadsElsewhere(t *testing.T) {
	tool := lintTool(t, "python")
	args := append([]string{"-c", "import hcl2, sys\nfor f in sys.argv[1:]: hcl2.load(open(f))"}, files(t, "*.tf")...)
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTerraformIsFormatted(t *testing.T) {
	tool := program(t, "terraform")
	for _, f := range files(t, "*.tf") {
		if out, err := exec.Command(tool, "fmt", "-check", "-diff", f).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", f, err, out)
		}
	}
}

func TestShellcheck(t *testing.T) {
	tool := program(t, "shellcheck")
	if out, err := exec.Command(tool, files(t, "*."+extensions[rendering.CLI])...).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
