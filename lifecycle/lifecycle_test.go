package lifecycle_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/lifecycle"
)

func source(t *testing.T, s lifecycle.Surface) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(string(s), "on-start.sh"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var surfaces = []lifecycle.Surface{lifecycle.NotebookInstance, lifecycle.Studio}

func TestSize(t *testing.T) {
	for _, s := range surfaces {
		if n := base64.StdEncoding.EncodedLen(len(source(t, s))); n > lifecycle.MaxContent*3/4 {
			t.Errorf("%s: %d characters in base64 leave less than a quarter of %d for settings", s, n, lifecycle.MaxContent)
		}
	}
	_, err := lifecycle.Script(lifecycle.Studio, lifecycle.Choices{Package: "/p.tar.gz", Settings: strings.Repeat("# long\n", 2000)})
	if err == nil || !strings.Contains(err.Error(), "SageMaker takes 16384") {
		t.Errorf("too long a script: %v", err)
	}
}

// TestSharedPart: each script must stand alone, so that they share text.
func TestSharedPart(t *testing.T) {
	shared := func(s lifecycle.Surface) string {
		_, rest, _ := strings.Cut(source(t, s), "# --- the same in both scripts, from here ---\n")
		part, _, found := strings.Cut(rest, "# --- to here ---\n")
		if !found {
			t.Fatalf("%s: no shared part", s)
		}
		return part
	}
	if shared(lifecycle.NotebookInstance) != shared(lifecycle.Studio) {
		t.Error("the part that says it is the same in both scripts is not")
	}
}

func TestChoices(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	c := lifecycle.Choices{Package: "/no/such'package.rpm", Settings: "role.arn = \"a\"\nlog_level = 'info'", FailClosed: true}
	script, err := lifecycle.Script(lifecycle.NotebookInstance, c)
	if err != nil {
		t.Fatal(err)
	}
	m.start(script).want(t, 1, "there is no package /no/such'package.rpm")
	m.start(strings.ReplaceAll(script, "\n", "\r\n")).want(t, 1, "this script has Windows line ends")
	_, err = lifecycle.Script(lifecycle.Studio, lifecycle.Choices{Package: "s3://b/k"})
	if err == nil {
		t.Error("a package in S3 without a checksum was accepted")
	}
}

// TestWindowsLineEnds: the kernel takes the carriage return for a part of the
// interpreter's name, and shells for a part of every word.
func TestWindowsLineEnds(t *testing.T) {
	for _, s := range surfaces {
		for _, shell := range []string{"", "/bin/dash", "/bin/bash"} {
			for _, closed := range []string{"0", "1"} {
				t.Run(fmt.Sprintf("%s/%s/%s", s, filepath.Base(shell), closed), func(t *testing.T) {
					t.Parallel()
					m := newMachine(t)
					m.shell = needs(t, shell)
					m.env["NBIDENTITY_FAIL_CLOSED"] = closed
					a := m.start(strings.ReplaceAll(source(t, s), "\n", "\r\n"))
					code := 0
					if closed == "1" {
						code = 1
					}
					a.want(t, code, "this script has Windows line ends (CRLF)")
					if strings.Count(a.out, "\n") != 1 {
						t.Errorf("more than a sentence:\n%s", a.out)
					}
				})
			}
		}
	}
}

// needs skips without the shell.
func needs(t *testing.T, shell string) string {
	t.Helper()
	if _, err := os.Stat(shell); shell != "" && err != nil {
		t.Skip("needs " + shell)
	}
	return shell
}

// limits are a script's, in seconds: until the start goes on without us, for
// the download, for the first credentials.
type limits struct{ patience, fetch, answer int }

// of returns the script with these limits, whether it fails open or closed.
func (l limits) of(t *testing.T, script string) string {
	t.Helper()
	for old, new := range map[string]int{
		"patience=25 ": l.patience, "patience=270 ": l.patience, "fetch_limit=120 ": l.fetch, "answer_limit=15 ": l.answer, "answer_limit=60 ": l.answer,
	} {
		if !strings.Contains(script, old) {
			t.Fatalf("no %q in the script", old)
		}
		name, _, _ := strings.Cut(old, "=")
		script = strings.ReplaceAll(script, old, fmt.Sprintf("%s=%d ", name, new))
	}
	return script
}

// unhurried is a script on a machine that may be busy with other things.
func unhurried(t *testing.T, s lifecycle.Surface) string {
	t.Helper()
	return limits{patience: 280, fetch: 120, answer: 120}.of(t, source(t, s))
}

// silent accepts connections and never answers, as an S3 does that a network
// without a route to it hides.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return "http://" + l.Addr().String()
}

// TestFailures: a notebook starts whatever happens, and the log says what.
func TestFailures(t *testing.T) {
	acc := newAccount(t)
	sum := acc.put(t, "nb.tar.gz", []byte("not a package"))
	acc.put(t, "nb.rpm", []byte("not a package"))
	other := strings.Repeat("0", 64)
	tests := []struct {
		name string
		env  map[string]string
		do   func(m *machine)
		say  string
	}{
		{"no package named", nil, nil, `NBIDENTITY_PACKAGE is ""`},
		{"a relative path", map[string]string{"PACKAGE": "nb.tar.gz"}, nil, "s3://bucket/key or to an absolute path"},
		{"a path with nothing there", map[string]string{"PACKAGE": "/no/such.tar.gz"}, nil, "there is no package /no/such.tar.gz"},
		{"no checksum", map[string]string{"PACKAGE": "s3://packages/nb.tar.gz"}, nil, "NBIDENTITY_SHA256 is not set"},
		{"wrong checksum", map[string]string{"PACKAGE": "s3://packages/nb.tar.gz", "SHA256": other}, nil, "has the SHA-256 " + sum + ", and NBIDENTITY_SHA256 is " + other},
		{"no aws", map[string]string{"PACKAGE": "s3://packages/nb.tar.gz", "SHA256": other}, func(m *machine) { _ = os.Remove(m.path("bin/aws")) }, "the program aws is not on this image"},
		{"no such object", map[string]string{"PACKAGE": "s3://packages/none.tar.gz", "SHA256": other}, nil, "NoSuchKey"},
		{"no such bucket", map[string]string{"PACKAGE": "s3://nowhere/nb.tar.gz", "SHA256": other}, nil, "NoSuchBucket"},
		{"no network", map[string]string{"PACKAGE": "s3://packages/nb.tar.gz", "SHA256": other, "S3_ENDPOINT": "http://127.0.0.1:1"}, nil, "a VPC without internet access an endpoint of S3"},
		{"the other surface's package", map[string]string{"PACKAGE": "s3://packages/nb.zip", "SHA256": acc.put(t, "nb.zip", []byte("x"))}, nil, "Studio"},
		{"nowhere to write", map[string]string{"PACKAGE": "/x"}, func(m *machine) {
			m.env["NBIDENTITY_DIR"], m.env["NBIDENTITY_ROOT"] = "/proc/none", "/proc/none"
		}, "cannot be written"},
	}
	for _, s := range surfaces {
		for i, test := range tests {
			shell := []string{"", "/bin/bash", "/bin/dash"}[i%3]
			for _, closed := range []string{"0", "1"}[:2-i%2] {
				t.Run(fmt.Sprintf("%s/%s/%s", s, test.name, closed), func(t *testing.T) {
					t.Parallel()
					m := newMachine(t)
					m.shell = needs(t, shell)
					m.studio(acc, "bob-code")
					m.env["NBIDENTITY_FAIL_CLOSED"] = closed
					for k, v := range test.env {
						m.env["NBIDENTITY_"+k] = v
					}
					if test.do != nil {
						test.do(m)
					}
					code := 0
					if closed == "1" {
						code = 1
					}
					a := m.start(unhurried(t, s))
					a.want(t, code, test.say)
					if a.elapsed > time.Minute { // it gave up, and did not wait for a limit
						t.Errorf("it took %s", a.elapsed)
					}
					if _, err := os.Stat(m.path("home/.aws")); err == nil {
						t.Error("a failure touched ~/.aws")
					}
				})
			}
		}
	}
}

// TestSilentNetwork: the start goes on after a moment, the work ends by itself.
func TestSilentNetwork(t *testing.T) {
	for _, s := range surfaces {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.studio(newAccount(t), "bob-code")
			m.env["NBIDENTITY_PACKAGE"], m.env["NBIDENTITY_SHA256"] = "s3://packages/nb.tar.gz", strings.Repeat("0", 64)
			m.env["NBIDENTITY_S3_ENDPOINT"] = silent(t)
			a := m.start(limits{patience: 1, fetch: 15, answer: 2}.of(t, source(t, s)))
			a.want(t, 0, "not done after 1 s: the work goes on in the background")
			log := "run/on-start.log"
			if s == lifecycle.NotebookInstance {
				log = "run/nbidentityd-lifecycle/on-start.log"
			}
			if strings.Contains(m.read(log), "not done within 15 s") {
				t.Errorf("the start was held for %s", a.elapsed)
			}
			m.until("the deadline of the download", func() bool {
				return strings.Contains(m.read(log), "not done within 15 s") && strings.Contains(m.read(log), "no package from S3")
			})
			m.until("the end of the work", func() bool { return m.pid("script") == 0 && m.pid("aws") == 0 })

			m.env["NBIDENTITY_FAIL_CLOSED"] = "1"
			a = m.start(limits{patience: 100, fetch: 3, answer: 3}.of(t, source(t, s)))
			a.want(t, 1, "not done within 3 s", "no package from S3")
		})
	}
}

// TestDocumentedPaths: AWS documents two PATHs, one with a relative entry.
func TestDocumentedPaths(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin", "/sbin:bin:/usr/sbin:/usr/bin"} {
		for _, s := range surfaces {
			m := newMachine(t)
			delete(m.env, "NBIDENTITY_PATH")
			m.env["PATH"] = path
			m.write("package.zip", "x")
			m.env["NBIDENTITY_PACKAGE"] = m.path("package.zip")
			a := m.start(unhurried(t, s))
			a.want(t, 0, "package.zip: ", "for ") // the last thing before the platform is touched
			if strings.Contains(a.out, "not found") {
				t.Errorf("PATH %s: %s", path, a.out)
			}
		}
	}
}

// TestPackageOfAnotherUser: what root installs must not be the user's to change.
func TestPackageOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("TestPackageOfAnotherUser: only root can give a file away")
	}
	m := newMachine(t)
	m.write("package.zip", "x")
	m.env["NBIDENTITY_PACKAGE"] = m.path("package.zip")
	if err := os.Chown(m.path("package.zip"), 4242, 4242); err != nil {
		t.Fatal(err)
	}
	script := unhurried(t, "notebook-instance")
	m.start(script).want(t, 0, "belongs to another user", "NBIDENTITY_SHA256")
	m.env["NBIDENTITY_SHA256"] = fmt.Sprintf("%x", sha256.Sum256([]byte("x")))
	m.start(script).want(t, 0, "copy-package.zip: ", "for ")
}

// studio makes the machine the app of that name.
func (m *machine) studio(acc account, app string) {
	m.t.Helper()
	m.write("metadata.json", fmt.Sprintf(`{"AppType": "JupyterLab", "DomainId": "d-exampledomain", "SpaceName": %q,
		"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:app/d-exampledomain/%s/JupyterLab/default", "ResourceName": "default"}`, app, app))
	m.env[asAWS] = acc.container
	m.env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = acc.ContainerPath(app)
	m.env["NBIDENTITY_S3_ENDPOINT"] = acc.api
	m.env["NBIDENTITY_SETTINGS"] = fmt.Sprintf("metadata_file = %q\nendpoints.sts = %q\nendpoints.sagemaker = %q\nendpoints.container = %q\nfaces.imds_port = 0\nfaces.container_port = 0",
		m.path("metadata.json"), acc.api, acc.api, acc.container)
	m.own()
}

// withPackage puts a package into S3 and makes the machine fetch it.
func (m *machine) withPackage(acc account, note string) {
	m.t.Helper()
	m.env["NBIDENTITY_SHA256"] = acc.put(m.t, "nbidentityd.tar.gz", tarball(m.t, note))
	m.env["NBIDENTITY_PACKAGE"] = "s3://packages/nbidentityd.tar.gz"
}

// credentials asks as an SDK does, by the word that people type.
func (m *machine) credentials() answer {
	m.t.Helper()
	return m.start("#!/bin/sh\n" + m.path("run/nbidentity") + " credentials >" + m.path("home/answer") + " 2>/dev/null && echo nbidentityd: served\n")
}

func TestStudio(t *testing.T) {
	for _, shell := range []string{"", "/bin/bash", "/bin/dash"} {
		t.Run("shell "+filepath.Base(shell), func(t *testing.T) {
			t.Parallel()
			acc := newAccount(t)
			m := newMachine(t)
			m.shell = needs(t, shell)
			m.studio(acc, "bob-code")
			m.withPackage(acc, "")
			a := m.start(unhurried(t, lifecycle.Studio))
			a.want(t, 0, "installed: ", "made as bob")
			if !strings.Contains(m.read("home/.aws/config"), m.path("run/bin/nbidentity")) {
				t.Errorf("~/.aws/config:\n%s", m.read("home/.aws/config"))
			}
			if !strings.Contains(m.read("run/nbidentityd.toml"), m.env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]) {
				t.Errorf("the settings lack the path of the credentials:\n%s", m.read("run/nbidentityd.toml"))
			}

			daemon, supervisor := m.pid("bin/nbidentityd\x00run"), m.supervisor()
			if daemon == 0 || supervisor == 0 {
				t.Fatalf("daemon %d, supervisor %d", daemon, supervisor)
			}
			if session := statField(t, supervisor, 6); session != fmt.Sprint(supervisor) {
				t.Errorf("the supervisor is in session %s", session)
			}
			path := m.env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
			delete(m.env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") // as in a terminal
			m.start(unhurried(t, lifecycle.Studio)).want(t, 0, "this package is installed and running", "made as bob")
			m.env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = path
			if again := m.pid("bin/nbidentityd\x00run"); again != daemon {
				t.Errorf("a second run of the script replaced daemon %d by %d", daemon, again)
			}

			if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			m.until("another daemon", func() bool { p := m.pid("bin/nbidentityd\x00run"); return p != 0 && p != daemon })
			m.until("credentials", func() bool { return strings.Contains(m.credentials().out, "served") })

			m.withPackage(acc, "another")
			m.start(unhurried(t, lifecycle.Studio)).want(t, 0, "installed: ", "made as bob")
			before := supervisor
			supervisor = m.supervisor()
			if daemons := m.processes("bin/nbidentityd\x00run"); supervisor == before || len(daemons) != 1 {
				t.Errorf("supervisor %d, then %d with the daemons %v", before, supervisor, daemons)
			}

			if err := syscall.Kill(supervisor, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			m.until("the end of supervisor and daemon", func() bool { return m.pid("supervise.sh") == 0 && m.pid("bin/nbidentityd\x00run") == 0 })
			m.start("#!/bin/sh\n"+m.path("run/uninstall")+" | sed 's/^/nbidentityd: /'\n").want(t, 0, "config: removed")
			if _, err := os.Stat(m.path("home/.aws")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("~/.aws is still there: %v", err)
			}
		})
	}
}

// supervisor is the pid in the lock.
func (m *machine) supervisor() int {
	m.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(m.read("run/lock")))
	if err != nil {
		m.t.Fatal(err)
	}
	return pid
}

// statField is a field of /proc/PID/stat, counted as in proc(5).
func statField(t *testing.T, pid, n int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.Fields(rest)[n-3]
}

func TestStudioReadOnlyHome(t *testing.T) {
	t.Parallel()
	acc := newAccount(t)
	m := newMachine(t)
	m.studio(acc, "bob-code")
	m.withPackage(acc, "")
	if err := os.Chmod(m.path("home"), 0o555); err != nil {
		t.Fatal(err)
	}
	m.start(unhurried(t, lifecycle.Studio)).want(t, 0, "installed: ", "could not be written")
	m.env["HOME"] = m.path("run") // where credentials puts the answer
	c := m.start("#!/bin/sh\n" + m.path("run/bin/nbidentity") + " --socket " + m.path("run/nbidentityd.sock") + " credentials >/dev/null && echo nbidentityd: served\n")
	c.want(t, 0, "served")
}

// TestStudioAside: where the platform names its users itself, nothing is left.
func TestStudioAside(t *testing.T) {
	for _, how := range []string{"Unified Studio", "trusted identity propagation"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			acc := newAccount(t)
			m := newMachine(t)
			m.studio(acc, "bob-code")
			m.withPackage(acc, "")
			if how == "Unified Studio" {
				text := m.read("metadata.json")
				m.write("metadata.json", strings.TrimSuffix(text, "}")+`, "AdditionalMetadata": {"DataZoneDomainId": "dzd_example", "DataZoneUserId": "u"}}`)
			} else {
				m.env["TRUSTED_IDENTITY_PROPOGATION_ENABLED"] = "true"
			}
			m.env["NBIDENTITY_FAIL_CLOSED"] = "1"
			for range 2 {
				m.start(unhurried(t, lifecycle.Studio)).want(t, 0, "not needed here: ", how)
			}
			m.until("the end of the supervisor", func() bool { return m.pid("supervise.sh") == 0 })
			if _, err := os.Stat(m.path("home/.aws")); err == nil {
				t.Error("~/.aws was made")
			}
		})
	}
}

// TestStudioRefused: IAM that is wrong shows in the lifecycle log.
func TestStudioRefused(t *testing.T) {
	t.Parallel()
	for _, closed := range []string{"0", "1"} {
		acc := newAccount(t)
		m := newMachine(t)
		m.studio(acc, "bob-code")
		m.withPackage(acc, "")
		m.env["NBIDENTITY_FAIL_CLOSED"] = closed
		m.env["NBIDENTITY_SETTINGS"] += "\nrole.arn = \"arn:aws:iam::111122223333:role/NoSelfTrust\""
		a := m.start(limits{patience: 280, fetch: 120, answer: 30}.of(t, source(t, lifecycle.Studio)))
		code := 0
		if closed == "1" {
			code = 1
		}
		a.want(t, code, "installed, but there are no credentials with a name: ", "NoSelfTrust")
	}
}

func TestStudioWrongMachine(t *testing.T) {
	t.Parallel()
	acc := newAccount(t)
	m := newMachine(t)
	m.studio(acc, "bob-code")
	m.env["NBIDENTITY_SHA256"] = acc.put(t, "x.tar.gz", []byte("not a package"))
	m.env["NBIDENTITY_PACKAGE"] = "s3://packages/x.tar.gz"
	m.start(unhurried(t, lifecycle.Studio)).want(t, 0, "the package does not unpack")
	m.env["NBIDENTITY_PACKAGE"], m.env["NBIDENTITY_SHA256"] = "", ""
	m.withPackage(acc, "")
	m.env["NBIDENTITY_SETTINGS"] += "\nno_such_key = 1"
	m.start(unhurried(t, lifecycle.Studio)).want(t, 0, `unknown key "no_such_key"`, "installed, but not started")
}
