package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/nbidentityd/nbidentityd/internal/credserver"
	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
	reports "github.com/nbidentityd/nbidentityd/internal/status"
)

func TestMain(m *testing.M) {
	// Children of the race detector's would linger for a second each.
	os.Setenv("GORACE", "atexit_sleep_ms=1")
	testscript.Main(leakChecked{m}, map[string]func(){
		"nbidentity": main,
		"testdaemon": testDaemon,
		"testraw":    testRaw,
	})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// source is what the daemon of a test has to say.
type source struct {
	mu     sync.Mutex
	err    error
	report reports.Report
}

func (s *source) Retrieve(context.Context) (aws.Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return aws.Credentials{
		AccessKeyID: "ASIATESTEXAMPLE", SecretAccessKey: "s/+", SessionToken: "t==",
		CanExpire: true, Expires: time.Date(2094, 1, 2, 3, 4, 5, 0, time.UTC), AccountID: "111122223333",
	}, s.err
}

func (s *source) status() reports.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report
}

func newSource() *source {
	return &source{report: reports.Report{
		State: reports.OK, SessionName: "alice-nb",
		Identity: reports.Identity{Kind: "notebook", Name: "alice-nb", Surface: "notebook-instance"},
	}}
}

const want = `{"Version":1,"AccessKeyId":"ASIATESTEXAMPLE","SecretAccessKey":"s/+","SessionToken":"t==","Expiration":"2094-01-02T03:04:05Z","AccountId":"111122223333"}` + "\n"

type codedError struct{ code, message string }

func (e codedError) Error() string { return e.message }
func (e codedError) Code() string  { return e.code }

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// serve starts a real server and returns what stops it.
func serve(path string, s *source) (stop func() error, err error) {
	l, err := listener.Unix(path, 0o666)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := credserver.New(credserver.Config{Credentials: s, Status: s.status})
	go func() { done <- server.Serve(ctx, l) }()
	return sync.OnceValue(func() error { cancel(); return <-done }), nil
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			dir, err := os.MkdirTemp("", "nb")
			if err != nil {
				return err
			}
			s := newSource()
			path := filepath.Join(dir, "s")
			stop, err := serve(path, s)
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := errors.Join(stop(), os.RemoveAll(dir)); err != nil {
					t.Error(err)
				}
			})
			env.Values["source"] = s
			env.Setenv("SOCK", path)
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			// source CODE MESSAGE: let the daemon's source fail so.
			"source": func(ts *testscript.TestScript, _ bool, args []string) {
				s := ts.Value("source").(*source)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.err = codedError{args[0], args[1]}
			},
			// state STATE: let the daemon report it.
			"state": func(ts *testscript.TestScript, _ bool, args []string) {
				s := ts.Value("source").(*source)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.report.State = reports.State(args[0])
			},
		},
	})
}

// exits CODE COMMAND...: run it and want this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	code := 0
	var exit *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// testDaemon serves on the socket of its argument until it is killed.
func testDaemon() {
	if _, err := serve(os.Args[1], newSource()); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

// testRaw listens on the socket of its argument, without asking whose
// directory it is in, and prints how many bytes it is sent.
func testRaw() {
	l, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Chmod(os.Args[1], fs.ModePerm)
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		n, _ := c.Read(make([]byte, 4096))
		fmt.Println("got", n)
		c.Write([]byte(ok(want)))
		c.Close()
	}
}

func goTool(t *testing.T, args ...string) string {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go tool: " + err.Error())
	}
	cmd := exec.Command(tool, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %v: %v\n%s", args, err, &stderr)
	}
	return string(out)
}

// Start-up time is the promise: what costs some is not linked.
func TestLinkedPackages(t *testing.T) {
	deps := strings.Fields(goTool(t, "list", "-buildvcs=false", "-deps", "."))
	if len(deps) < 20 {
		t.Fatalf("go list says %q", deps)
	}
	const ours = "github.com/nbidentityd/nbidentityd/cmd/nbidentity"
	for _, dep := range deps {
		if dep != ours && strings.Contains(dep, ".") {
			t.Errorf("links %s, from outside the standard library", dep)
		}
		switch dep {
		case "net", "net/http", "encoding/json", "fmt", "flag", "os", "time", "reflect", "unicode":
			t.Errorf("links %s", dep)
		}
	}
}

func TestBinary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nbidentity")
	goTool(t, "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w -X main.version=1.2.3", "-o", path, ".")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 3_500_000 {
		t.Errorf("%d bytes", info.Size())
	}
	// The binary that is shipped, not the test program in its role.
	if out, err := exec.Command(path, "--version").CombinedOutput(); err != nil || string(out) != "nbidentity 1.2.3\n" {
		t.Errorf("--version: %q, %v", out, err)
	}
	socket := filepath.Join(shortDir(t), "s")
	stop, err := serve(socket, newSource())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if out, err := exec.Command(path, "--socket", socket, "credentials").CombinedOutput(); err != nil || string(out) != want {
		t.Errorf("credentials: %q, %v", out, err)
	}
}
