package rendering_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/rendering"
	"github.com/nbidentityd/nbidentityd/internal/lab/executable"
)

// stub is an aws program that remembers: roles and policies are files under
// $STUB, every call is a line of $STUB/log.
const stub = `#!/bin/sh
set -eu
printf '%s\n' "$*" >>"$STUB/log"
service=$1 operation=$2
shift 2
role= policy= arn= path= file= query=
while [ $# -gt 0 ]; do
  case $1 in
  --role-name) role=$2 ;;
  --policy-name) policy=$2 ;;
  --policy-arn) arn=$2 ;;
  --path) path=$2 ;;
  --query) query=$2 ;;
  --policy-document | --assume-role-policy-document) file=${2#file://} ;;
  --set-as-default) set -- x "$@" ;;
  esac
  shift 2
done
missing() {
  echo "An error occurred (NoSuchEntity) when calling the operation" >&2
  exit 254
}
case $service/$operation in
sts/get-caller-identity) cat "$STUB/account" ;;
iam/get-role)
  [ ! -e "$STUB/denied" ] || { echo "An error occurred (AccessDenied)" >&2; exit 254; }
  [ -e "$STUB/role $role" ] || missing
  if [ "$query" = Role.Arn ]; then cat "$STUB/role $role"; else cat "$STUB/trust $role"; fi ;;
iam/create-role)
  printf 'arn:%s:iam::111122223333:role%s%s' "$PARTITION" "$path" "$role" >"$STUB/role $role"
  cp "$file" "$STUB/trust $role" ;;
iam/update-assume-role-policy) cp "$file" "$STUB/trust $role" ;;
iam/put-role-policy) cp "$file" "$STUB/inline $role $policy" ;;
iam/get-policy) if [ -e "$STUB/managed ${arn##*/}" ]; then echo "$arn"; else missing; fi ;;
iam/create-policy) cp "$file" "$STUB/managed $policy" ;;
iam/list-policy-versions) echo "v5	v4	v3	v1" ;;
iam/create-policy-version) cp "$file" "$STUB/managed ${arn##*/}" ;;
sagemaker/list-apps) cat "$STUB/apps" 2>"$STUB/ignored" || true ;;
sagemaker/describe-domain) echo DISABLED ;;
sagemaker/describe-user-profile) echo arn:aws:sagemaker:us-east-1:111122223333:user-profile/d-x/x ;;
esac
`

// machine is a directory with the stub and a script.
type machine struct {
	t     *testing.T
	shell string
	dir   string
	set   *iampolicy.Set
}

func newMachine(t *testing.T, shell string, s *iampolicy.Set) *machine {
	t.Helper()
	m := &machine{t: t, shell: program(t, shell), dir: t.TempDir(), set: s}
	for _, d := range []string{"bin", "stub", "here"} {
		if err := os.Mkdir(filepath.Join(m.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := executable.Write(filepath.Join(m.dir, "bin/aws"), []byte(stub)); err != nil {
		t.Fatal(err)
	}
	m.write("stub/account", "111122223333\n")
	m.write("policy.sh", string(write(t, s, rendering.CLI)))
	for _, r := range s.Roles {
		if r.Exists {
			m.write("stub/role "+r.Name, r.ARN)
			m.write("stub/trust "+r.Name, `{"Version":"2012-10-17"}`)
		}
	}
	return m
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(name string) string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.t.Fatal(err)
	}
	return string(text)
}

// run runs the script; the code is -1 when it did not run.
func (m *machine) run(args ...string) (out string, code int) {
	m.t.Helper()
	c := exec.Command(m.shell, append([]string{filepath.Join(m.dir, "policy.sh")}, args...)...)
	c.Dir = filepath.Join(m.dir, "here")
	c.Env = []string{"PATH=" + filepath.Join(m.dir, "bin") + ":/usr/bin:/bin", "STUB=" + filepath.Join(m.dir, "stub"), "TMPDIR=" + m.dir,
		"PARTITION=" + m.set.Partition, "WORK_POLICY_ARNS=arn:aws:iam::aws:policy/One arn:aws:iam::aws:policy/Two"}
	text, _ := c.CombinedOutput()
	return string(text), c.ProcessState.ExitCode()
}

// deployed are the documents that the stub was given.
func (m *machine) deployed() documents {
	m.t.Helper()
	d := documents{}
	entries, err := os.ReadDir(filepath.Join(m.dir, "stub"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		if kind, _, _ := strings.Cut(e.Name(), " "); kind == "trust" || kind == "inline" || kind == "managed" {
			d[e.Name()] = parseJSON(m.t, []byte(m.read("stub/"+e.Name())))
		}
	}
	return d
}

// arguments are what the script of a set wants.
func arguments(s *iampolicy.Set) []string {
	switch {
	case s.Switch:
		return []string{"enable"}
	case len(s.Profiles) > 0 && s.DomainID == "":
		return []string{"d-exampledomain"}
	}
	return nil
}

func TestScriptDeploys(t *testing.T) {
	for name, o := range samples(t) {
		for _, shell := range []string{"dash", "bash"} {
			if shell == "bash" && o.Mode != iampolicy.PerProfile { // which has every kind of step
				continue
			}
			t.Run(name+"/"+shell, func(t *testing.T) {
				t.Parallel()
				s := generate(t, o)
				m := newMachine(t, shell, s)
				for round := range 2 { // it can be run again
					if out, code := m.run(arguments(s)...); code != 0 {
						t.Fatalf("round %d: exit code %d: %s", round, code, out)
					}
					if diff := cmp.Diff(want(t, s), m.deployed()); diff != "" {
						t.Errorf("round %d: deployed (-want +got):\n%s", round, diff)
					}
				}
				log := m.read("stub/log")
				for _, r := range s.Roles {
					if r.Exists && !strings.Contains(m.read("here/"+r.Name+".trust.before.json"), `{"Version":"2012-10-17"}`) {
						t.Errorf("the first trust policy of %s is not kept", r.Name)
					}
					if n := strings.Count(log, "iam create-role --role-name "+r.Name+" "); n > 1 || n == 1 == r.Exists {
						t.Errorf("role %s, which exists: %t, was made %d times", r.Name, r.Exists, n)
					}
					for _, tag := range r.Tags {
						if !strings.Contains(log, `tag-role --role-name `+r.Name+` --tags [{"Key":"`) || !strings.Contains(log, `{"Key":"`+tag.Key+`","Value":"`+tag.Value+`"}`) {
							t.Errorf("role %s was not tagged %v", r.Name, tag)
						}
					}
					if r.Works != strings.Contains(log, "attach-role-policy --role-name "+r.Name+" --policy-arn arn:aws:iam::aws:policy/Two") {
						t.Errorf("role %s works: %t, policies attached: %t", r.Name, r.Works, !r.Works)
					}
				}
				for _, p := range s.Managed {
					if !strings.Contains(log, "delete-policy-version --policy-arn "+p.ARN+" --version-id v1\n") {
						t.Errorf("the oldest version of %s did not make room", p.Name)
					}
				}
				if left, _ := filepath.Glob(filepath.Join(m.dir, "tmp.*")); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	}
}

// changes reports whether the script called anything that changes something.
func changes(log string) bool {
	for line := range strings.Lines(log) {
		operation := strings.Fields(line)[1]
		if !strings.HasPrefix(operation, "get-") && !strings.HasPrefix(operation, "list-") && !strings.HasPrefix(operation, "describe-") {
			return true
		}
	}
	return false
}

func TestScriptRefuses(t *testing.T) {
	all := samples(t)
	tests := []struct {
		name    string
		options iampolicy.Options
		prepare func(m *machine)
		args    []string
		code    int
		say     string
	}{
		{"wrong account", all["self"], func(m *machine) { m.write("stub/account", "999999999999\n") }, nil, 1, "for account 111122223333, the credentials for 999999999999"},
		{"role that is not there", all["self"], func(m *machine) { _ = os.Remove(filepath.Join(m.dir, "stub/role AmazonSageMaker-ExecutionRole")) }, nil, 1, "there is no role arn:aws:iam::111122223333:role/service-role/"},
		{"role under another path", all["self"], func(m *machine) {
			m.write("stub/role AmazonSageMaker-ExecutionRole", "arn:aws:iam::111122223333:role/AmazonSageMaker-ExecutionRole")
		}, nil, 1, "there is arn:aws:iam::111122223333:role/AmazonSageMaker-ExecutionRole, where"},
		{"no permission", all["launcher"], func(m *machine) { m.write("stub/denied", "") }, nil, 1, "AccessDenied"},
		{"argument too many", all["self"], nil, []string{"x"}, 2, ".sh\n"},
		{"no domain", all["per-profile"], nil, nil, 2, ".sh DOMAIN-ID\n"},
		{"no word", all["studio-propagation"], nil, nil, 2, ".sh check | enable | disable\n"},
		{"unknown word", all["studio-propagation"], nil, []string{"on"}, 2, "usage:"},
		{"running apps on enable", all["studio-propagation"], func(m *machine) { m.write("stub/apps", "alice\tJupyterLab\tdefault\tInService\n") }, []string{"enable"}, 1, "alice\tJupyterLab\tdefault\tInService"},
		{"running apps on disable", all["studio-propagation"], func(m *machine) { m.write("stub/apps", "bob\tKernelGateway\tx\tPending\n") }, []string{"disable"}, 1, "stop these apps first"},
		{"check changes nothing", all["studio-propagation"], nil, []string{"check"}, 0, "no app is running; it is now set to DISABLED"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, "dash", generate(t, test.options))
			if test.prepare != nil {
				test.prepare(m)
			}
			out, code := m.run(test.args...)
			if code != test.code || !strings.Contains(out, test.say) {
				t.Errorf("exit code %d, want %d; want %q in %q", code, test.code, test.say, out)
			}
			if log := m.read("stub/log"); changes(log) {
				t.Errorf("it changed something:\n%s", log)
			}
		})
	}
}

// TestSwitchComesLast: job creation breaks while the switch is on and a trust
// policy is old.
func TestSwitchComesLast(t *testing.T) {
	m := newMachine(t, "dash", generate(t, samples(t)["studio-propagation"]))
	if out, code := m.run("enable"); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	log := m.read("stub/log")
	last := strings.LastIndex(log, "update-assume-role-policy")
	turned := strings.Index(log, "sagemaker update-domain --domain-id d-exampledomain --domain-settings-for-update ExecutionRoleIdentityConfig=USER_PROFILE_NAME")
	if turned < 0 || last < 0 || turned < last {
		t.Errorf("order of calls:\n%s", log)
	}
	if out, code := m.run("disable"); code != 0 || !strings.Contains(m.read("stub/log"), "ExecutionRoleIdentityConfig=DISABLED") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
