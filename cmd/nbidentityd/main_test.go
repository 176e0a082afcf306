package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
)

// The scripts under testdata run the real daemon and the real client against
// an account of their own. A script finds:
//
//	$API, $IMDS, $CONTAINER, $ADMIN   the account's addresses
//	$CONTAINER_PATH_x                 the credentials path of app x, - as _
//	notify.log                        what systemd was told
//
// and the commands
//
//	daemon start|stop|kill|hup|gone|private  the daemon under nb.toml; its log is daemon.log
//	daemon activated                  start it as systemd does with a socket unit
//	killings N                        kill and restart it N times while clients ask
//	admin METHOD PATH [BODY]          fakeaws' controls
//	sign-in ROLE                      use the role's credentials in the SDK's own environment
//	trail FILE                        write the trail so far, as JSON lines
//	metrics FILE                      write the daemon's metrics
//	until REGEXP COMMAND...           run a command until its output matches
//
// When a script ends, no file that it leaves may hold a secret.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup:               setUp,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"daemon":   cmdDaemon,
			"admin":    cmdAdmin,
			"trail":    cmdTrail,
			"sign-in":  cmdSignIn,
			"metrics":  cmdMetrics,
			"killings": cmdKillings,
			"until":    cmdUntil,
		},
	})
}

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"nbidentityd": main, "nbidentity": client})
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

// client is the real nbidentity: another program, so it is built, once.
func client() {
	cmd := exec.Command(os.Getenv("NBIDENTITY"), os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}

// buildClient is called by every script; the build cache makes the second free.
func buildClient(dir string) (string, error) {
	path := filepath.Join(dir, "real-nbidentity")
	out, err := exec.Command("go", "build", "-o", path, "../nbidentity").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building nbidentity: %w: %s", err, out)
	}
	return path, nil
}

const settingsFile = `metadata_file = "%[1]s/resource-metadata.json"
metadata_wait = "1m"
state_dir = "%[1]s/state"
socket = "%[1]s/nb.sock"
client = "/usr/bin/nbidentity"
log_level = "debug"
[endpoints]
sts = "%[2]s"
sagemaker = "%[2]s"
imds = "%[3]s"
container = "%[4]s"
[faces]
imds_port = 0
container_port = 0
[[user]]
name = "%[5]d"
home = "%[1]s/home"
`

func setUp(env *testscript.Env) error {
	// The trail's bucket is in another region than everything else.
	s := fakeaws.DefaultScenario()
	s.Buckets = append(s.Buckets, scenario.Bucket{Name: "trail", Directory: filepath.Join(env.WorkDir, "bucket"), Region: "eu-west-1"})
	account, err := fakeaws.New(fakeaws.Config{Scenario: s})
	if err != nil {
		return err
	}
	imds, err := account.IMDS("alice-nb")
	if err != nil {
		return err
	}
	urls := map[string]string{}
	for name, h := range map[string]http.Handler{"API": account.API(), "IMDS": imds, "CONTAINER": account.Container(), "ADMIN": account.Admin()} {
		server := httptest.NewServer(h)
		env.Defer(server.Close)
		urls[name] = server.URL
		env.Setenv(name, server.URL)
	}
	for app, path := range account.ContainerPaths() {
		env.Setenv("CONTAINER_PATH_"+strings.ReplaceAll(app, "-", "_"), path)
	}
	real, err := buildClient(env.WorkDir)
	if err != nil {
		return err
	}
	env.Setenv("NBIDENTITY", real)
	for _, dir := range []string{"state", "home"} {
		if err := os.Mkdir(filepath.Join(env.WorkDir, dir), 0o700); err != nil {
			return err
		}
	}
	text := fmt.Sprintf(settingsFile, env.WorkDir, urls["API"], urls["IMDS"], urls["CONTAINER"], os.Getuid())
	if err := os.WriteFile(filepath.Join(env.WorkDir, "nb.toml"), []byte(text), 0o600); err != nil {
		return err
	}
	if err := listenAsSystemd(env); err != nil {
		return err
	}
	running := &process{}
	env.Values[processKey{}] = running
	env.Defer(func() {
		running.kill()
		if running.socket != nil {
			running.socket.Close()
		}
		t := env.T().(testing.TB)
		t.Helper()
		for _, f := range findSecrets(t, env.WorkDir, urls["ADMIN"]) {
			t.Errorf("%s holds a secret", f)
		}
	})
	return nil
}

// listenAsSystemd listens as the service manager does and writes down what it is told.
func listenAsSystemd(env *testscript.Env) error {
	path := filepath.Join(env.WorkDir, "notify.sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	env.Defer(func() { conn.Close() })
	log, err := os.Create(filepath.Join(env.WorkDir, "notify.log"))
	if err != nil {
		return err
	}
	go func() {
		defer log.Close()
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return // closed at the end of the script
			}
			fmt.Fprintf(log, "%s\n", buf[:n])
		}
	}()
	env.Setenv("NOTIFY_SOCKET", path)
	return nil
}

// findSecrets returns the files under dir that hold any secret key or token
// that the account has issued.
func findSecrets(t testing.TB, dir, admin string) (found []string) {
	var secrets []string
	if err := json.Unmarshal(get(t, admin+"/secrets"), &secrets); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, s := range secrets {
			if bytes.Contains(data, []byte(s)) {
				found = append(found, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func get(t testing.TB, url string) []byte {
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s %v", url, resp.Status, data, err)
	}
	return data
}

// process is the daemon of a script.
type process struct {
	cmd    *exec.Cmd
	done   chan error
	socket *os.File // that systemd would hold
}

type processKey struct{}

func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
		p.cmd = nil
	}
}

// listen makes the socket of a socket unit, once.
func (p *process) listen(ts *testscript.TestScript) {
	if p.socket != nil {
		return
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs("nb.sock"), Net: "unix"})
	ts.Check(err)
	l.SetUnlinkOnClose(false)
	p.socket, err = l.File()
	ts.Check(err)
	ts.Check(l.Close())
}

func (p *process) start(ts *testscript.TestScript) {
	log, err := os.OpenFile(ts.MkAbs("daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer log.Close()
	path, err := exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), ":")[0], "nbidentityd"))
	ts.Check(err)
	cmd := exec.Command(path, "run", "-settings", ts.MkAbs("nb.toml"))
	for _, name := range []string{"PATH", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "TRUSTED_IDENTITY_PROPOGATION_ENABLED", "NOTIFY_SOCKET"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Env = append(cmd.Env, "GORACE="+os.Getenv("GORACE"))
	if p.socket != nil {
		sh, err := exec.LookPath("sh")
		ts.Check(err)
		cmd.Path, cmd.Args = sh, append([]string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`}, cmd.Args...)
		cmd.ExtraFiles = []*os.File{p.socket}
	}
	cmd.Stderr, cmd.Stdout = log, log
	ts.Check(cmd.Start())
	p.cmd, p.done = cmd, make(chan error, 1)
	go func() { p.done <- cmd.Wait() }()
}

// end waits for the daemon and wants it to end well, or not.
func (p *process) end(ts *testscript.TestScript, neg bool) {
	select {
	case err := <-p.done:
		p.cmd = nil
		if (err != nil) != neg {
			ts.Fatalf("daemon ended with %v", err)
		}
	case <-time.After(time.Minute):
		p.kill()
		ts.Fatalf("daemon still runs")
	}
}

func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	p := ts.Value(processKey{}).(*process)
	if len(args) != 1 {
		ts.Fatalf("usage: daemon start|activated|stop|kill|hup|gone|private")
	}
	switch args[0] {
	case "start":
		p.start(ts)
	case "activated":
		p.listen(ts)
		p.start(ts)
	case "stop":
		ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
		p.end(ts, neg)
	case "gone":
		p.end(ts, neg)
	case "kill":
		p.kill()
	case "private":
		// As somebody of the daemon's own uid, without root's rights.
		pid := p.cmd.Process.Pid
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		ts.Check(err)
		if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
			ts.Fatalf("the daemon may leave a core file:\n%s", limits)
		}
		mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDONLY, 0)
		if err == nil {
			mem.Close()
			if os.Getuid() != 0 {
				ts.Fatalf("the daemon's memory can be read by its own uid")
			}
		}
	case "hup":
		ts.Check(p.cmd.Process.Signal(syscall.SIGHUP))
	default:
		ts.Fatalf("daemon: unknown %q", args[0])
	}
}

// cmdKillings has four clients ask without a pause while the daemon is killed and
// restarted. A kill may cost each client the answer that was on its way, no more:
// what waits in the queue of the socket is answered by the next daemon.
func cmdKillings(ts *testscript.TestScript, _ bool, args []string) {
	const clients = 4
	kills, err := strconv.Atoi(args[0])
	ts.Check(err)
	p := ts.Value(processKey{}).(*process)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", ts.MkAbs("nb.sock"))
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	ctx, stop := context.WithCancel(context.Background())
	var asked, answered, cut atomic.Int64
	var wrong sync.Map
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for ctx.Err() == nil {
				resp, err := client.Get("http://nb/v1/credentials")
				asked.Add(1)
				switch {
				case err == nil && resp.StatusCode == http.StatusOK:
					answered.Add(1)
				case err == nil && resp.Header.Get("Nbidentity-Error") == "not_ready": // nbidentity asks again
				case err == nil:
					wrong.Store(resp.Status, true)
				case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
					// What package net/http says, in an error of no name, when the end comes before the request is written.
					strings.Contains(err.Error(), "server closed idle connection"):
					cut.Add(1)
				default:
					wrong.Store(err.Error(), true)
				}
				if err == nil {
					resp.Body.Close()
				}
			}
		})
	}
	served := func() { // at least ten answers of the daemon that runs now
		for enough := answered.Load() + 10; answered.Load() < enough && !filled(&wrong); {
			time.Sleep(10 * time.Millisecond)
		}
	}
	for range kills {
		served()
		p.kill()
		p.start(ts)
	}
	served()
	stop()
	group.Wait()
	wrong.Range(func(what, _ any) bool {
		ts.Logf("wrong: %v", what)
		return true
	})
	fmt.Fprintf(ts.Stdout(), "%d kills, %d requests, %d cut off\n", kills, asked.Load(), cut.Load())
	if filled(&wrong) || cut.Load() > int64(clients*kills) {
		ts.Fatalf("%d kills, %d requests, %d cut off", kills, asked.Load(), cut.Load())
	}
}

func filled(m *sync.Map) (yes bool) {
	m.Range(func(any, any) bool {
		yes = true
		return false
	})
	return yes
}

func cmdAdmin(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: admin METHOD PATH [BODY]")
	}
	req, err := http.NewRequest(args[0], ts.Getenv("ADMIN")+args[1], strings.NewReader(strings.Join(args[2:], " ")))
	ts.Check(err)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if failed := resp.StatusCode >= 300; failed != neg {
		ts.Fatalf("%s: %s", resp.Status, body)
	}
}

func cmdSignIn(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: sign-in ROLE")
	}
	resp, err := http.Post(ts.Getenv("ADMIN")+"/sessions", "application/json", strings.NewReader(`{"role": "`+args[0]+`"}`))
	ts.Check(err)
	defer resp.Body.Close()
	var c struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	ts.Check(json.NewDecoder(resp.Body).Decode(&c))
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": c.AccessKeyID, "AWS_SECRET_ACCESS_KEY": c.SecretAccessKey, "AWS_SESSION_TOKEN": c.SessionToken,
		"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": ts.Getenv("API"), "AWS_EC2_METADATA_DISABLED": "true",
	} {
		ts.Setenv(name, value)
	}
}

func cmdTrail(ts *testscript.TestScript, _ bool, args []string) {
	save(ts, http.DefaultClient, ts.Getenv("ADMIN")+"/trail", args[0])
}

func cmdMetrics(ts *testscript.TestScript, _ bool, args []string) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", ts.MkAbs("nb.sock"))
	}
	save(ts, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, "http://nb/metrics", args[0])
}

// save writes what a URL answers to a file of the script.
func save(ts *testscript.TestScript, client *http.Client, url, file string) {
	resp, err := client.Get(url)
	ts.Check(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(file), data, 0o600))
}

// cmdUntil leaves the output of the last attempt to stdout and stderr.
func cmdUntil(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND...")
	}
	want, err := regexp.Compile(args[0])
	ts.Check(err)
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		cmd := exec.Command("env", args[1:]...) // which looks along the script's PATH
		cmd.Dir = ts.MkAbs(".")
		cmd.Env = []string{"NBIDENTITY=" + ts.Getenv("NBIDENTITY"), "PATH=" + ts.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE")}
		out, _ := cmd.CombinedOutput() // the output says how it went
		last = string(out)
		if want.MatchString(last) {
			_, err := ts.Stdout().Write(out)
			ts.Check(err)
			return
		}
	}
	ts.Fatalf("no match for %q in the last output:\n%s", args[0], last)
}
