package shadow

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
)

const exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

// examine returns what a check finds. All of it is for a terminal: no control
// characters; and the commands are for a shell: plain ASCII.
func examine(t *testing.T, look func(*report.Sheet) error) []report.Finding {
	t.Helper()
	r := report.Examine(t.Context(), []report.Check{{Name: "x", Run: func(_ context.Context, s *report.Sheet) error { return look(s) }}})
	for _, g := range r.Gaps {
		t.Errorf("gap: %s", g.Reason)
	}
	for _, f := range r.Findings {
		for _, text := range []string{f.Subject, f.Saw, f.Means, f.Hint} {
			if strings.ContainsFunc(text, unicode.IsControl) || strings.Contains(text, exampleSecret) {
				t.Errorf("%s says %q", f.ID, text)
			}
		}
		for _, c := range f.Commands {
			if strings.ContainsFunc(c, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%s has the command %q", f.ID, c)
			}
		}
	}
	return r.Findings
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzKernels is a user who says what they like in the command line, environment
// and AWS files of a process: doctor, which is root, finds nothing in it that is
// not so, shows no key, and no word of the user's gets into a command.
func FuzzKernels(f *testing.F) {
	const stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 1 1 0 0 20 0 1 0 12345 1 1"
	f.Add("python\x00-m\x00ipykernel_launcher\x00-f\x00/x/kernel-1.json\x00", "HOME=/h\x00AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\x00AWS_SECRET_ACCESS_KEY="+exampleSecret+"\x00", stat, "")
	f.Add("/opt/conda/bin/jupyter-lab\x00", "AWS_PROFILE=a;rm -rf ~\x00AWS_CONFIG_FILE=\x1b[2J\x00AWS_ROLE_ARN=x\x00AWS_WEB_IDENTITY_TOKEN_FILE=$(id)", stat, "[profile b]\nsource_profile = default\n")
	f.Add("R\x00kernel-\n.json", "AWS_PROFILE=b\x00AWS_PROFILE=\x00=\x00\x00", "7 (a", "[profile b\n")
	command := regexp.MustCompile(`^(grep -sE '[A-Z_|]+' /etc/environment /etc/profile\.d/\* (\S+)/\.bashrc (\S+)/\.bash_profile (\S+)/\.profile|kill 7)$`)
	proc, home := f.TempDir(), f.TempDir()
	for _, dir := range []string{proc + "/7", home + "/.aws"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			f.Fatal(err)
		}
	}
	me := User{Name: "me", UID: os.Geteuid(), GID: os.Getegid(), Home: home}
	f.Fuzz(func(t *testing.T, cmdline, environ, stat, config string) {
		for name, text := range map[string]string{proc + "/7/cmdline": cmdline, proc + "/7/environ": environ, proc + "/7/stat": stat, home + "/.aws/config": config} {
			write(t, name, []byte(text))
		}
		found := examine(t, func(s *report.Sheet) error {
			return Kernels(t.Context(), proc, []User{me}, Told{Since: time.Now(), IMDS: "http://127.0.0.1:1338"}, s)
		})
		for _, f := range found {
			for _, c := range f.Commands {
				if m := command.FindStringSubmatch(c); m == nil || m[2] != m[3] || m[2] != "" && m[2] != home {
					t.Errorf("%s has the command %q", f.ID, c)
				}
			}
			if names := variables(f.ID); f.ID != idOld && !slices.ContainsFunc(names, func(n string) bool { return strings.Contains(environ, n+"=") }) {
				t.Errorf("%s in %q", f.ID, environ)
			}
		}
		if got := Environ(proc, 7, "AWS_PROFILE"); got != "" && !strings.Contains("\x00"+environ+"\x00", "\x00AWS_PROFILE="+got+"\x00") {
			t.Errorf("AWS_PROFILE is %q in %q", got, environ)
		}
	})
}

// FuzzFiles is the same for the AWS files themselves.
func FuzzFiles(f *testing.F) {
	m := awsconfig.Managed{CredentialProcess: "/usr/bin/nbidentity credentials", Region: "eu-central-1"}
	ours, err := awsconfig.Apply(nil, m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ours, []byte("[default]\naws_secret_access_key = "+exampleSecret+"\n"))
	f.Add([]byte("[profile a.b]\ncredential_source = Ec2InstanceMetadata\nduration_seconds = 43200\nrole_arn = x\n"), []byte("[ default ]\naws_session_token=x"))
	f.Add(append([]byte("[profile $(id)]\ncredential_source=`id`\n[profile x'y]\ncredential_source = \x1b]0;\x07\n"), ours...), []byte("junk"))
	home := f.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".aws"), 0o700); err != nil {
		f.Fatal(err)
	}
	me := User{Name: "me", UID: os.Geteuid(), GID: os.Getegid(), Home: home}
	// In a command only these differ: a profile's name without anything that a
	// shell or sed could take for more, and the number of a line.
	varies := regexp.MustCompile(`\[profile [A-Za-z0-9_.@+\\-]{1,128}\\\]|sed -n '[0-9]+p'`)
	plain := func(command string) string { return varies.ReplaceAllString(command, "*") }
	path := filepath.Join(home, ".aws", "config")
	known := map[string]bool{"install": true, plain("sed -n '1p' " + path): true,
		me.edit(`s/^[[:space:]]*\[[[:space:]]*default[[:space:]]*\]/[personal]/`, filepath.Join(home, ".aws", "credentials")): true}
	for _, edit := range []string{"s/^credential_source.*/source_profile = default/", "s/^duration_seconds.*/duration_seconds = 3600/"} {
		known[plain(me.edit(`/^\[profile x\]/,/^\[/`+edit, path))] = true
	}
	f.Fuzz(func(t *testing.T, config, credentials []byte) {
		write(t, home+"/.aws/config", config)
		write(t, home+"/.aws/credentials", credentials)
		found := examine(t, func(s *report.Sheet) error { return Files(me, m, "install", true, s) })
		for _, f := range found {
			for _, c := range f.Commands {
				if !known[plain(c)] {
					t.Errorf("%s has the command %q", f.ID, c)
				}
			}
		}
		if bytes.Equal(config, ours) && len(credentials) == 0 && len(found) > 0 {
			t.Errorf("found in our own file: %v", found)
		}
	})
}
