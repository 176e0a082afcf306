package installation_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/installation"
	"github.com/nbidentityd/nbidentityd/internal/kernelenv"
	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

const notebook = "alice-nb"

// oldBoto (1.26, Debian 12's) knows no token file, so the container face refuses
// it: it then fails, but does not go on to the metadata service.
const oldBoto = "boto3 without token files"

// scene is a notebook with a daemon, and real clients whose shell has read what
// install wrote, or has not. There is no fence.
type scene struct {
	t       *testing.T
	lab     *lab.Lab
	account *lab.Account
	daemon  *lab.Process
	cfg     installation.Config
	empty   string // a home without configuration
	profile string // what a login shell reads
	seen    int    // records of the trail
}

func newScene(t *testing.T) *scene {
	bin := t.TempDir()
	for name, pkg := range map[string]string{"nbidentityd": "cmd/nbidentityd", "nbidentity": "cmd/nbidentity", "fakeaws": "cmd/fakeaws", "whoami": "internal/lab/whoami"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, name), "../../"+pkg).CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v: %s", name, err, out)
		}
	}
	l, err := lab.Open("installation", bin)
	check(t, err)
	t.Cleanup(func() { check(t, l.Discard()) })
	s := &scene{t: t, lab: l, empty: filepath.Join(l.Dir, "empty")}
	ctx := context.WithoutCancel(t.Context()) // which ends before the cleanups
	s.account, err = l.StartAccount(ctx, "-imds", notebook+"=127.0.0.1:0")
	check(t, err)

	set := settings.Default()
	set.MetadataFile = filepath.Join(l.Dir, "metadata.json")
	set.StateDir = filepath.Join(l.Dir, "state")
	set.Socket = filepath.Join(l.Dir, "run/nb.sock")
	set.Client = filepath.Join(bin, "nbidentity")
	set.Faces = settings.Faces{IMDSPort: freePort(t), ContainerPort: freePort(t)}
	home := filepath.Join(l.Dir, "home")
	set.Users = []settings.User{{Name: fmt.Sprint(os.Getuid()), Home: home}}
	users, err := notebookuser.Find(set.Users)
	check(t, err)
	check(t, os.MkdirAll(filepath.Join(l.Dir, "etc/profile.d"), 0o755))
	check(t, os.Mkdir(filepath.Join(l.Dir, "run"), 0o755))
	check(t, os.Mkdir(home, 0o755))
	check(t, os.Mkdir(s.empty, 0o755))
	check(t, os.WriteFile(set.MetadataFile, []byte(`{"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/alice-nb", "ResourceName": "alice-nb"}`), 0o644))
	s.cfg = installation.Config{
		Settings: set, Root: l.Dir,
		Users:    users,
		Notebook: identity.Notebook{Surface: identity.SurfaceNotebookInstance, Region: "us-east-1"},
	}
	_, err = installation.Install(t.Context(), s.cfg)
	check(t, err)
	s.profile = filepath.Join(l.Dir, kernelenv.ProfilePath)
	if os.Geteuid() != 0 { // install leaves it to root
		imds, container := blueprint.FaceURLs(set)
		files, err := kernelenv.Plan(kernelenv.Config{IMDS: imds, Container: container,
			Users: []kernelenv.User{{UID: uint32(os.Getuid()), TokenFile: blueprint.TokenFile(set, users[0])}}})
		check(t, err)
		s.profile = filepath.Join(l.Dir, "profile.sh")
		check(t, os.WriteFile(s.profile, files[0].Text, 0o644))
	}
	text := fmt.Sprintf("metadata_file = %q\nstate_dir = %q\nsocket = %q\nclient = %q\n[endpoints]\nsts = %q\nsagemaker = %q\nimds = %q\n[faces]\nimds_port = %d\ncontainer_port = %d\n[[user]]\nname = \"%d\"\nhome = %q\n",
		set.MetadataFile, set.StateDir, set.Socket, set.Client, s.account.API, s.account.API, s.account.IMDS[notebook],
		set.Faces.IMDSPort, set.Faces.ContainerPort, os.Getuid(), home)
	file := filepath.Join(l.Dir, "nbidentityd.toml")
	check(t, os.WriteFile(file, []byte(text), 0o644))
	s.daemon, err = l.Start(ctx, "nbidentityd", nil, l.Program("nbidentityd"), "run", "-settings", file)
	check(t, err)
	check(t, s.daemon.Await(t.Context(), "credentials", func() bool {
		return exec.Command(l.Program("nbidentity"), "--socket", set.Socket, "credentials").Run() == nil
	}))
	return s
}

func freePort(t *testing.T) int {
	port, err := lab.FreePort()
	check(t, err)
	return port
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sdks lists what can run here: command → of the language's default chain.
func (s *scene) sdks() map[string][]string {
	all := map[string][]string{"Go SDK v2": {s.lab.Program("whoami")}}
	script := `import boto3; print(boto3.client("sts", endpoint_url="` + s.account.API + `").get_caller_identity()["Arn"])`
	venvs, _ := filepath.Glob("/var/cache/nbidentityd-interop/python-*/venv/bin/python")
	for _, python := range append(venvs, "/usr/bin/python3") {
		if exec.Command(python, "-c", "import boto3").Run() != nil {
			continue
		}
		name := oldBoto
		if exec.Command(python, "-c", "from botocore.credentials import ContainerProvider as c; c.ENV_VAR_AUTH_TOKEN_FILE").Run() == nil {
			name = "boto3"
		}
		all[name] = []string{python, "-c", script}
	}
	if found, _ := filepath.Glob("/var/cache/nbidentityd-interop/js-*/identity.js"); len(found) > 0 {
		if node, err := exec.LookPath("node"); err == nil {
			all["JavaScript SDK v3"] = []string{node, found[0]}
		}
	}
	return all
}

// run runs a client. told is whether its shell has read what install wrote;
// otherwise it knows the platform's own metadata service, as every program on an
// instance does.
func (s *scene) run(told bool, home string, args []string) (output string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	shell := `exec "$@"`
	if told {
		shell = ". " + s.profile + "; " + shell
	}
	cmd := s.lab.Command(ctx, []string{"HOME=" + home, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_ENDPOINT_URL=" + s.account.API,
		"AWS_METADATA_SERVICE_TIMEOUT=30", "AWS_METADATA_SERVICE_NUM_ATTEMPTS=3", // botocore's own are one second and one
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + s.account.IMDS[notebook]}, append([]string{"sh", "-c", shell, "sh"}, args...)...)
	out, ended := cmd.CombinedOutput()
	return fmt.Sprintf("%v: %s", ended, out)
}

// calls counts what clients have newly left in the trail.
func (s *scene) calls() (named, nameless int) {
	records, err := s.account.Records(s.t.Context(), s.seen)
	check(s.t, err)
	s.seen += len(records)
	for _, r := range records {
		switch {
		case !r.ByClient():
		case r.SessionName() == notebook && r.UserIdentity.SessionContext.SourceIdentity == notebook:
			named++
		default:
			nameless++
		}
	}
	return named, nameless
}

// An SDK whose credential_process fails, or which reads no configuration, comes
// to the daemon, and when there is none to nobody. Fakeaws' trail says so. The
// controls, without install's files, must show the base session: else this
// proves nothing.
func TestSDKsFallToTheDaemon(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	broken := filepath.Join(s.lab.Dir, "broken") // as at home, but for a process that fails
	check(t, os.MkdirAll(filepath.Join(broken, ".aws"), 0o755))
	check(t, os.WriteFile(filepath.Join(broken, ".aws/config"), []byte("[default]\ncredential_process = /bin/false\n"), 0o600))
	sdks := s.sdks()
	for _, name := range []string{"boto3", "JavaScript SDK v3"} {
		if sdks[name] == nil {
			t.Run(name, func(t *testing.T) { t.Skip("not installed here; make interop installs it") })
		}
	}
	falls := map[string]bool{"JavaScript SDK v3": true} // the others end with the process's error
	type want struct{ named, nameless bool }
	try := func(when, home, sdk string, told bool, w want) {
		t.Helper()
		output := s.run(told, home, sdks[sdk])
		named, nameless := s.calls()
		if named > 0 != w.named || nameless > 0 != w.nameless {
			t.Errorf("%s, %s, told %v: %d calls with the name, %d without, want %+v; %s", sdk, when, told, named, nameless, w, output)
		}
	}
	for sdk := range sdks {
		try("no configuration", s.empty, sdk, false, want{nameless: true})
		try("the process fails", broken, sdk, false, want{nameless: falls[sdk]})
		try("no configuration", s.empty, sdk, true, want{named: sdk != oldBoto})
		try("the process fails", broken, sdk, true, want{named: falls[sdk]})
		try("as installed", s.cfg.Users[0].Home, sdk, true, want{named: true})
	}
	check(t, s.daemon.Stop())
	var all sync.WaitGroup
	for _, args := range sdks {
		for _, home := range []string{s.empty, broken, s.cfg.Users[0].Home} {
			all.Go(func() { s.run(true, home, args) })
		}
	}
	all.Wait()
	if named, nameless := s.calls(); named+nameless > 0 {
		t.Errorf("without a daemon: %d calls with the name, %d without", named, nameless)
	}
	_, err := installation.Uninstall(t.Context(), s.cfg)
	check(t, err)
	for _, left := range []string{"etc/profile.d/nbidentityd.sh", "home/.aws", "state", "run/nb.sock.lock"} {
		if _, err := os.Lstat(filepath.Join(s.lab.Dir, left)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", left, err)
		}
	}
}
