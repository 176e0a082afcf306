package lifecycle_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/nbidentityd/nbidentityd/lifecycle"
)

// instance is a notebook instance whose package manager and systemd are
// stand-ins: they note what they were told in "told". The real ones have their
// turn in make boot-test.
func instance(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	note := "#!/bin/sh\necho \"${0##*/} $*\" >>" + m.path("told") + "\n"
	m.program("rpm", note+"[ ! -e "+m.path("broken")+" ] || { echo 'error: Failed dependencies'; exit 1; }\n")
	m.program("dpkg", note)
	m.program("systemctl", note+`case "$*" in
*is-active*nbidentityd*) [ -e `+m.path("active")+` ] ;;
restart\ nbidentityd*) [ ! -e `+m.path("unstartable")+` ] && : >`+m.path("active")+` ;;
esac
`)
	m.program("nbidentityd", note+`case $1 in
version) echo nbidentityd 1.2.3 ;;
run) [ ! -e `+m.path("invalid")+` ] || { echo 'nbidentityd: f.toml:1: unknown key "x"'; exit 1; } ;;
esac
`)
	m.program("nbidentity", note+`case $1 in
credentials) [ ! -e `+m.path("refused")+` ] || { echo 'nbidentity: the role does not trust itself' >&2; exit 1; }; echo '{"SecretAccessKey":"s3cret"}' ;;
status) echo 'AWS calls from this notebook are made as alice-nb'; echo more ;;
esac
`)
	m.write("nb.rpm", "a package")
	m.env["NBIDENTITY_PACKAGE"] = m.path("nb.rpm")
	m.own()
	return m
}

func TestInstance(t *testing.T) {
	for _, shell := range []string{"", "/bin/bash", "/bin/dash"} {
		t.Run("shell "+shell, func(t *testing.T) {
			t.Parallel()
			m := instance(t)
			m.shell = needs(t, shell)
			m.env["NBIDENTITY_SETTINGS"] = "role.arn = \"arn:aws:iam::111122223333:role/NotebookWork\""
			m.start(unhurried(t, lifecycle.NotebookInstance)).want(t, 0, "installed: nbidentityd 1.2.3", "made as alice-nb")
			want := []string{
				"rpm -U --replacepkgs --oldpackage " + m.path("run/nbidentityd-lifecycle/copy-nb.rpm"), // which no user can change
				"nbidentityd run -check",
				"systemctl daemon-reload",
				"nbidentityd install -restart-jupyter",
				"systemctl enable nbidentityd.socket nbidentityd.service",
				"systemctl start nbidentityd.socket",
				"systemctl restart nbidentityd.service",
				"nbidentityd version",
				"nbidentity credentials",
				"nbidentity status",
			}
			if got := strings.Split(strings.TrimSpace(m.read("told")), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("told:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if got := m.read("etc/nbidentityd/nbidentityd.toml"); got != m.env["NBIDENTITY_SETTINGS"]+"\n" {
				t.Errorf("settings: %q", got)
			}
			if log := m.read("run/nbidentityd-lifecycle/on-start.log") + m.read("run/nbidentityd-lifecycle/output"); strings.Contains(log, "s3cret") {
				t.Error("a secret was written")
			}

			m.write("told", "")
			m.own()
			m.start(unhurried(t, lifecycle.NotebookInstance)).want(t, 0, "this package is installed and running", "made as alice-nb")
			if told := m.read("told"); strings.Contains(told, "rpm") || strings.Contains(told, "restart") {
				t.Errorf("a second run was told:\n%s", told)
			}

			m.write("nb.rpm", "another package")
			m.start(unhurried(t, lifecycle.NotebookInstance)).want(t, 0, "installed: ")
			if told := m.read("told"); !strings.Contains(told, "rpm -U") {
				t.Errorf("an upgrade was told:\n%s", told)
			}
		})
	}
}

func TestInstanceFailures(t *testing.T) {
	for _, test := range []struct{ switched, say string }{
		{"broken", "Failed dependencies"},
		{"invalid", `unknown key "x"`},
		{"unstartable", "systemd does not start it"},
		{"refused", "no credentials with a name: nbidentity: the role does not trust itself"},
	} {
		for _, closed := range []string{"0", "1"} {
			t.Run(test.switched+"/"+closed, func(t *testing.T) {
				t.Parallel()
				m := instance(t)
				m.write(test.switched, "")
				m.own()
				m.env["NBIDENTITY_FAIL_CLOSED"] = closed
				code := 0
				if closed == "1" {
					code = 1
				}
				script := limits{patience: 280, fetch: 120, answer: 3}.of(t, source(t, lifecycle.NotebookInstance))
				m.start(script).want(t, code, test.say)
				if told := m.read("told"); test.switched == "unstartable" && !strings.Contains(told, "systemctl disable --now nbidentityd.service nbidentityd.socket\nnbidentityd uninstall\n") {
					t.Errorf("a daemon that does not start stays in ~/.aws/config:\n%s", told)
				}
			})
		}
	}
}

func TestInstanceIsForRoot(t *testing.T) {
	if os.Geteuid() == 0 && notebookUser().uid == 0 {
		t.Skip("needs an ordinary user")
	}
	m := instance(t)
	m.env["NBIDENTITY_ROOT"] = ""
	a := m.start(unhurried(t, lifecycle.NotebookInstance))
	a.want(t, 0, "nbidentityd: not installed: ")
}

// TestRealAWS fetches by the AWS CLI itself, which has its own ideas of
// configuration, retries and errors. Keys in the environment keep it from
// asking the machine's metadata service, which is not ours.
func TestRealAWS(t *testing.T) {
	cli, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("needs the AWS CLI")
	}
	acc := newAccount(t)
	key, err := baseSession(acc.container, acc.ContainerPath("bob-code"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, key, endpoint string
		say                 []string
		code                int
	}{
		{"there", "nb.rpm", acc.api, []string{"made as alice-nb"}, 0},
		{"not there", "none.rpm", acc.api, []string{"not installed: no package from S3", "404"}, 1},
		{"no network", "nb.rpm", "http://127.0.0.1:1", []string{"not installed: no package from S3", "127.0.0.1:1"}, 1},
		{"silent network", "nb.rpm", silent(t), []string{"not done within 3 s", "not installed: no package from S3"}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := instance(t)
			if os.Geteuid() == 0 {
				m.user = user{0, 0} // who can run a CLI that lies in a home; the rest is stand-ins
			}
			m.program("aws", "#!/bin/sh\nexport PATH='"+os.Getenv("PATH")+"'\nexec '"+cli+"' \"$@\"\n")
			m.write("home/config", "[default]\ncredential_process = /no/such/nbidentity credentials\n")
			for k, v := range map[string]string{
				"AWS_ACCESS_KEY_ID": key.AccessKeyID, "AWS_SECRET_ACCESS_KEY": key.SecretAccessKey, "AWS_SESSION_TOKEN": key.SessionToken,
				"AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": m.path("home/config"), "AWS_PROFILE": "nobody", "NBIDENTITY_FAIL_CLOSED": "1",
				"NBIDENTITY_PACKAGE": "s3://packages/" + test.key, "NBIDENTITY_S3_ENDPOINT": test.endpoint,
				"NBIDENTITY_SHA256": acc.put(t, "nb.rpm", []byte("a package")),
			} {
				m.env[k] = v
			}
			script := unhurried(t, lifecycle.NotebookInstance)
			if test.name == "silent network" {
				script = limits{patience: 100, fetch: 3, answer: 3}.of(t, source(t, lifecycle.NotebookInstance))
			}
			m.start(script).want(t, test.code, test.say...)
		})
	}
}
