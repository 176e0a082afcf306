package kernelenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	full = "http://127.0.0.1:937/v1/container-credentials"
	imds = "http://127.0.0.1:938"
)

func config(uids ...int) Config {
	c := Config{IMDS: imds, Container: full}
	for _, uid := range uids {
		c.Users = append(c.Users, User{UID: uint32(uid), TokenFile: "/run/nbidentityd/container-token-" + string(rune('0'+len(c.Users)))})
	}
	return c
}

// told is what a program sees that is started after the file was read.
var told = []string{
	"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/run/nbidentityd/container-token-1",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + full,
	"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + imds,
}

// place writes a Plan's file where the test can run it.
func place(t *testing.T, c Config, path string) string {
	t.Helper()
	files, err := Plan(c)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(files, func(f File) bool { return f.Path == path })
	if i < 0 {
		t.Fatalf("no %s among %d files", path, len(files))
	}
	if !Ours(files[i].Text) || !slices.Contains(Paths(), path) {
		t.Errorf("%s would not be known for ours", path)
	}
	at := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(at, files[i].Text, 0o644); err != nil {
		t.Fatal(err)
	}
	return at
}

// awsOf returns the AWS variables that a program prints.
func awsOf(t *testing.T, args ...string) []string {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skipf("needs the program %s: %v", args[0], err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), relativeURI + "=/platform", "AWS_REGION=us-east-1"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "AWS_") && line != "AWS_REGION=us-east-1" {
			found = append(found, line)
		} else if !strings.Contains(line, "=") {
			found = append(found, "unexpected output: "+line)
		}
	}
	slices.Sort(found)
	return found
}

// What the files do is tried by the programs that read them.
func TestToldByTheirReaders(t *testing.T) {
	t.Parallel()
	uid := os.Getuid()
	platform := relativeURI + "=/platform"
	python := `import os, sys; exec(open(sys.argv[1]).read()); assert "_nbidentityd" not in dir(); print("\n".join(k + "=" + v for k, v in os.environ.items()))`
	readers := map[string]func(c Config) []string{
		"sh":     func(c Config) []string { return []string{"sh", "-euc", ". " + place(t, c, ProfilePath) + "; env"} },
		"bash":   func(c Config) []string { return []string{"bash", "-euc", ". " + place(t, c, ProfilePath) + "; env"} },
		"python": func(c Config) []string { return []string{"python3", "-c", python, place(t, c, StartupPath)} },
	}
	studio := config(uid+1, uid)
	studio.Studio = true
	open := studio
	open.Container = "" // nothing takes the place of the platform's variable
	for name, reader := range readers {
		for _, c := range []struct {
			name string
			Config
			want []string
		}{
			{"instance", config(uid+1, uid), append([]string{platform}, told...)},
			{"another user", config(uid + 1), []string{platform}},
			{"Studio", studio, told},
			{"Studio without the container face", open, []string{platform, "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + imds}},
		} {
			t.Run(name+", "+c.name, func(t *testing.T) {
				got := awsOf(t, reader(c.Config)...)
				slices.Sort(c.want)
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// IPython itself reads the one file of an ordinary user, and keeps nothing of it
// in the session.
func TestToldByIPython(t *testing.T) {
	t.Parallel()
	python := "python3"
	if venvs, _ := filepath.Glob("/var/cache/nbidentityd-interop/python-*/venv/bin/python"); len(venvs) > 0 {
		python = venvs[0]
	}
	if err := exec.Command(python, "-c", "import IPython").Run(); err != nil {
		t.Skipf("needs IPython: %v", err)
	}
	c := config(os.Getuid()+1, os.Getuid())
	c.Studio, c.Home = true, t.TempDir()
	files, err := Plan(c)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	if err := os.MkdirAll(filepath.Dir(files[0].Path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0].Path, files[0].Text, 0o644); err != nil {
		t.Fatal(err)
	}
	got := awsOf(t, "env", "HOME="+c.Home, python, "-m", "IPython", "--colors=nocolor", "-c",
		`import os; assert "_nbidentityd" not in globals(); print("\n".join(k + "=" + v for k, v in os.environ.items()))`)
	if diff := cmp.Diff(told, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDropIn(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(place(t, config(1000, 1001), DropInPath))
	if err != nil {
		t.Fatal(err)
	}
	want := mark + `[Service]
Environment=AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:937/v1/container-credentials
Environment=AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/run/nbidentityd/container-token-0
Environment=AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:938
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNothingToTell(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"faces closed": {Users: config(1).Users},
		"nobody":       {IMDS: imds, Container: full},
	} {
		if files, err := Plan(c); err != nil || len(files) > 0 {
			t.Errorf("%s: %d files, %v", name, len(files), err)
		}
	}
	studio := config(1)
	studio.Studio = true
	files, err := Plan(studio)
	if err != nil || len(files) != 2 {
		t.Errorf("Studio: %d files, %v", len(files), err)
	}
}

// A path that a reader would take apart is refused.
func TestValuesThatNeedQuoting(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/run/a b", "/run/$(id)", "/run/`id`", "/run/%h", "/run/a\nb", `/run/"`, "/run/'", "/run/é", "/run/;id", ""} {
		c := config(1)
		c.Users[0].TokenFile = path
		if files, err := Plan(c); err == nil {
			t.Errorf("%q was accepted: %s", path, files[0].Text)
		}
	}
}
