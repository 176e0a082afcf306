package lifecycle_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/lab/executable"
)

// asAWS makes a process of the test binary the program aws.
const asAWS = "NBIDENTITYD_TEST_AS_AWS"

func TestMain(m *testing.M) {
	if url := os.Getenv(asCall); url != "" {
		os.Exit(forward(url))
	}
	if os.Getenv(asAWS) != "" {
		if err := awsS3Copy(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "fatal error:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if programs.dir != "" {
			_ = os.RemoveAll(programs.dir) // of the system's temporary directory
		}
		os.Exit(code)
	}))
}

// awsS3Copy is "aws s3 cp" as far as the scripts use it, signed with the app's
// base credentials.
func awsS3Copy(args []string) error {
	if os.Getenv("AWS_CONFIG_FILE") != "/dev/null" || os.Getenv("AWS_PROFILE") != "" {
		return errors.New("the user's configuration is in force")
	}
	endpoint := args[slices.Index(args, "--endpoint-url")+1]
	i := slices.IndexFunc(args, func(s string) bool { return strings.HasPrefix(s, "s3://") })
	key, err := baseSession(os.Getenv(asAWS), os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"))
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodGet, endpoint+"/"+strings.TrimPrefix(args[i], "s3://"), nil)
	if err != nil {
		return err
	}
	const unsigned = "UNSIGNED-PAYLOAD"
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	if err := v4.NewSigner().SignHTTP(req.Context(), key, req, unsigned, "s3", "us-east-1", time.Now()); err != nil {
		return err
	}
	object, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer object.Body.Close()
	body, err := io.ReadAll(object.Body)
	if err != nil {
		return err
	}
	if object.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", object.Status, body)
	}
	return os.WriteFile(args[i+1], body, 0o600)
}

// baseSession are the credentials that the platform at that URL gives: to the
// path of an app, or without one to a notebook instance.
func baseSession(url, path string) (aws.Credentials, error) {
	if path == "" {
		client := imds.New(imds.Options{Endpoint: url})
		return ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }).Retrieve(context.Background())
	}
	return endpointcreds.New(url + path).Retrieve(context.Background())
}

// programs are the real ones, built once.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

// copySelf puts the test binary where another user reaches it.
func copySelf(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	return executable.Write(path, text)
}

func built(t *testing.T, name string) string {
	t.Helper()
	programs.once.Do(func() {
		if programs.dir, programs.err = os.MkdirTemp("", "nbidentityd-lifecycle-"); programs.err != nil {
			return
		}
		programs.err = os.Chmod(programs.dir, 0o755)
		for _, p := range []string{"nbidentityd", "nbidentity"} {
			// As go test builds them, which then has most of it.
			c := exec.Command("go", "build", "-ldflags", "-s -w", "-o", programs.dir, "../cmd/"+p)
			if out, err := c.CombinedOutput(); err != nil {
				programs.err = errors.Join(programs.err, fmt.Errorf("%w: %s", err, out))
			}
		}
		programs.err = errors.Join(programs.err, copySelf(filepath.Join(programs.dir, "aws")))
	})
	if programs.err != nil {
		t.Fatal(programs.err)
	}
	return filepath.Join(programs.dir, name)
}

// tools are all programs that the scripts may use.
var tools = []string{"awk", "cat", "chmod", "cp", "cut", "date", "flock", "gzip", "head", "id", "ln", "mkdir", "mv", "rm", "sed", "setsid",
	"sh", "sha256sum", "sleep", "stat", "tail", "tar", "timeout", "true", "uname", "wc"}

// user is an ordinary user, like sagemaker-user in a group of others, when the
// test is root; otherwise whoever runs it.
type user struct{ uid, gid int }

// runs makes it the user's program.
func (u user) runs(c *exec.Cmd) {
	if os.Geteuid() == 0 && u.uid != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}}
	}
}

func notebookUser() user {
	if os.Geteuid() == 0 {
		return user{1500, 100}
	}
	return user{os.Geteuid(), os.Getegid()}
}

// machine is a place where a lifecycle script runs.
type machine struct {
	t     *testing.T
	dir   string // everything below belongs to user
	user  user
	shell string // "" runs the script itself
	env   map[string]string
}

// newMachine has the tools, aws among them, an empty home and an empty dir.
func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "nb") // short: sockets lie below
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, user: notebookUser(), env: map[string]string{}}
	t.Cleanup(func() {
		m.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, d := range []string{"bin", "home", "run"} {
		if err := os.Mkdir(m.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range tools {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skip("needs " + tool)
		}
		if err := os.Symlink(path, m.path("bin/"+tool)); err != nil {
			t.Fatal(err)
		}
	}
	m.program("aws", "#!/bin/sh\nexec '"+built(t, "aws")+"' \"$@\"\n")
	m.own()
	maps.Copy(m.env, map[string]string{
		"HOME": m.path("home"), "NBIDENTITY_PATH": m.path("bin"), "NBIDENTITY_DIR": m.path("run"), "NBIDENTITY_ROOT": m.dir,
	})
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) program(name, text string) {
	m.t.Helper()
	if err := executable.Write(m.path("bin/"+name), []byte(text)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(name string) string {
	m.t.Helper()
	text, err := os.ReadFile(m.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	return string(text)
}

// own gives everything to the user.
func (m *machine) own() {
	m.t.Helper()
	err := filepath.WalkDir(m.dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, m.user.uid, m.user.gid))
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// stop ends what runs from this machine's directory, by its pid.
func (m *machine) stop() {
	for _, p := range m.processes("") {
		_ = syscall.Kill(p, syscall.SIGKILL) // it may have ended
	}
}

// processes are the pids of programs whose command line names this machine's
// directory and the text.
func (m *machine) processes(text string) []int {
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		m.t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		line, err := os.ReadFile(e)
		if err != nil || !strings.Contains(string(line), m.dir+"/") || !strings.Contains(string(line), text) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(e))); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// until polls for a minute, which a busy machine may need.
func (m *machine) until(what string, done func() bool) {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// answer is what SageMaker sees of a script.
type answer struct {
	out     string
	code    int
	elapsed time.Duration
}

// start runs a script as SageMaker does and returns when its output is closed,
// which whatever it leaves running must not keep open.
func (m *machine) start(script string) answer {
	m.t.Helper()
	if err := executable.Write(m.path("script"), []byte(script)); err != nil {
		m.t.Fatal(err)
	}
	args := []string{m.path("script")}
	if m.shell != "" {
		args = []string{m.shell, m.path("script")}
	}
	c := exec.Command(args[0], args[1:]...)
	c.Dir = "/"
	c.Env = []string{"GORACE=atexit_sleep_ms=1", "PATH=/sbin:bin:/usr/sbin:/usr/bin"} // as the API reference has it
	for _, k := range slices.Sorted(maps.Keys(m.env)) {
		c.Env = append(c.Env, k+"="+m.env[k])
	}
	m.user.runs(c)
	began := time.Now()
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "nbidentityd: ") {
			m.t.Errorf("a line of the lifecycle log does not say whose it is: %q", line)
		}
	}
	return answer{string(out), c.ProcessState.ExitCode(), time.Since(began)}
}

// want fails unless the script ended with code and said text.
func (a answer) want(t *testing.T, code int, text ...string) {
	t.Helper()
	for _, s := range text {
		if a.code != code || !strings.Contains(a.out, s) {
			t.Fatalf("exit code %d, want %d; want %q in:\n%s", a.code, code, s, a.out)
		}
	}
}

// account is a fakeaws whose bucket "packages" is a directory.
type account struct {
	*fakeaws.Account
	bucket         string
	api, container string
}

func newAccount(t *testing.T) account {
	t.Helper()
	bucket := t.TempDir()
	s := fakeaws.DefaultScenario()
	s.Buckets = append(s.Buckets, scenario.Bucket{Name: "packages", Directory: bucket})
	a, err := fakeaws.New(fakeaws.Config{Scenario: s})
	if err != nil {
		t.Fatal(err)
	}
	api, container := httptest.NewServer(a.API()), httptest.NewServer(a.Container())
	t.Cleanup(api.Close)
	t.Cleanup(container.Close)
	return account{a, bucket, api.URL, container.URL}
}

// put stores a file in the bucket and returns its checksum.
func (a account) put(t *testing.T, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(a.bucket, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

// tarball is a package as "make dist" makes it, as far as Studio needs it, with
// a note that makes it differ from another.
func tarball(t *testing.T, note string) []byte {
	t.Helper()
	var b strings.Builder
	z, err := gzip.NewWriterLevel(&b, gzip.NoCompression) // compressing 20 MB takes a second under the race detector
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	add := func(name string, mode int64, content []byte) {
		if err := w.WriteHeader(&tar.Header{Name: "nbidentityd-1.2.3/" + name, Mode: mode, Size: int64(len(content)), Uid: 0, Gid: 0}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for name, source := range map[string]string{
		"usr/bin/nbidentityd": built(t, "nbidentityd"),
		"usr/bin/nbidentity":  built(t, "nbidentity"),
		"usr/share/nbidentityd/lifecycle/studio/supervise.sh": "studio/supervise.sh",
	} {
		content, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		add(name, 0o755, content)
	}
	add("note", 0o644, []byte(note))
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

// pid returns the pid of the running program, 0 if there is none.
func (m *machine) pid(name string) int {
	for _, p := range m.processes(name) {
		if unix.Kill(p, 0) == nil {
			return p
		}
	}
	return 0
}
