package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/clients"
)

const (
	userUID  = 1000
	otherUID = 1001 // another notebook user, whom the first must not hurt

	attemptLimit = 60 * time.Second
)

// siege is one notebook and everything that its user has tried on it.
type siege struct {
	dir     string
	lab     *lab.Lab
	account *lab.Account
	clients []clients.Client
	nb      *lab.Notebook
	name    string // that every call must carry
	trail   *trail
	daemon  *lab.Process
	env     []string // of every attempt
	limit   time.Duration

	attempts, skipped, failures int
	total                       tally
}

// fail notes what makes the run a failure and prints it at once.
func (s *siege) fail(output []byte, format string, args ...any) {
	s.failures++
	fmt.Printf("  FAILED: "+format+"\n", args...)
	for line := range strings.Lines(strings.TrimSpace(string(output))) {
		fmt.Print("    | ", strings.TrimRight(line, "\n"), "\n")
	}
}

// settings writes the daemon's file, with the other user in it.
func (s *siege) settings() (string, error) {
	path, err := s.nb.WriteSettings("siege")
	if err != nil {
		return "", err
	}
	home := s.path("other")
	if err := errors.Join(os.MkdirAll(home, 0o755), os.Lchown(home, otherUID, otherUID)); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(f, "[[user]]\nname = \"%d\"\nhome = %q\n", otherUID, home)
	return path, errors.Join(err, f.Close())
}

// path is that of a file of the notebook in the lab.
func (s *siege) path(name string) string { return filepath.Join(s.lab.Dir, s.nb.Name, name) }

// raise starts the daemon and waits until it has nothing more to ask of AWS.
func (s *siege) raise(ctx context.Context) error {
	path, err := s.settings()
	if err != nil {
		return err
	}
	run := slices.Concat(s.nb.Enter, []string{s.lab.Program("nbidentityd"), "run", "-settings", path})
	s.daemon, err = s.lab.Start(ctx, "nbidentityd-"+s.nb.Name, s.nb.Env, run...)
	if err != nil {
		return err
	}
	var last report
	err = s.daemon.Await(ctx, "verified name and assurance", func() bool {
		r, err := s.status(ctx)
		last = r
		return err == nil && r.Verified && r.Assurance != nil && r.looked()
	})
	if err != nil {
		return fmt.Errorf("%w (last status: %+v)", err, last)
	}
	_, err = s.trail.calls(ctx) // the daemon's own
	return err
}

// report is what the suite looks at in nbidentity status --json.
type report struct {
	Verified    bool `json:"verified"`
	ConfigFiles []struct {
		Path      string `json:"path"`
		Immutable bool   `json:"immutable"`
		Unlocked  string `json:"unlocked"`
		Problem   string `json:"problem"`
	} `json:"config_files"`
	Assurance *struct {
		Level   string `json:"level"`
		Reasons []struct {
			Fact string `json:"fact"`
		} `json:"reasons"`
	} `json:"assurance"`
}

// looked reports whether the guard has looked at every file.
func (r report) looked() bool {
	for _, f := range r.ConfigFiles {
		if strings.Contains(f.Unlocked, "not looked at yet") {
			return false
		}
	}
	return true
}

func (s *siege) status(ctx context.Context) (report, error) {
	var r report
	out, err := s.nb.Command(ctx, nil, s.lab.Program("nbidentity"), "--socket", s.nb.Socket(), "status", "--json").Output()
	if err != nil {
		return r, err
	}
	return r, decode(out, &r)
}

// user prepares a program under a uid, without root's capabilities but with the
// right to try for them: set-uid programs work.
func (s *siege) user(ctx context.Context, uid int, enter, env []string, args ...string) *exec.Cmd {
	id := strconv.Itoa(uid)
	drop := []string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "--inh-caps=-all", "--"}
	nb := *s.nb
	if enter != nil {
		nb.Enter = enter
	}
	cmd := nb.Command(ctx, env, slices.Concat(drop, args)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// The containers' networks.
const (
	box     = "box"
	lateBox = "box-late" // made when the daemon runs, as SageMaker's local mode does
)

// make prepares an attempt.
func (s *siege) make(ctx context.Context, a attempt) (*exec.Cmd, error) {
	home := s.nb.Home
	if !a.own {
		var err error
		if home, err = s.copyHome(); err != nil {
			return nil, err
		}
	}
	uid, enter := userUID, []string(nil)
	if a.box != "" {
		uid, enter = 0, []string{"nsenter", "--net=/run/netns/" + a.box, "--"}
	}
	env := slices.Concat([]string{"AWS_REGION=" + s.account.Region}, s.env, []string{"HOME=" + home})
	return s.user(ctx, uid, enter, env, "sh", "-c", prelude+a.script), nil
}

// copyHome makes a home with what the daemon wrote.
func (s *siege) copyHome() (string, error) {
	home := s.path(fmt.Sprintf("attempts/%d", s.attempts))
	if err := os.MkdirAll(filepath.Join(home, ".aws"), 0o755); err != nil {
		return "", err
	}
	paths := []string{home, filepath.Join(home, ".aws")}
	data, err := os.ReadFile(filepath.Join(s.nb.Home, ".aws/config"))
	switch {
	case err == nil:
		paths = append(paths, filepath.Join(home, ".aws/config"))
		if err := os.WriteFile(paths[2], data, 0o600); err != nil {
			return "", err
		}
	case !errors.Is(err, os.ErrNotExist): // before the daemon's start there is none
		return "", err
	}
	for _, p := range paths {
		if err := os.Lchown(p, userUID, userUID); err != nil {
			return "", err
		}
	}
	return home, nil
}

// try makes one attempt and judges it.
func (s *siege) try(ctx context.Context, a attempt) error {
	if lacks := s.lacks(a); lacks != "" {
		s.skipped++
		fmt.Printf("  %-62s skipped: %s\n", a.name, lacks)
		if os.Getenv("CI") == "true" {
			s.fail(nil, "%s: skipped in CI", a.name)
		}
		return nil
	}
	ctx2, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	cmd, err := s.make(ctx2, a)
	if err != nil {
		return err
	}
	out, ended := cmd.CombinedOutput()
	if cmd.Process == nil {
		return fmt.Errorf("%s: %w", a.name, ended)
	}
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // what it has left behind, if anything
	return s.judge(ctx, a, out, ended)
}

// judge counts the calls since the last attempt as this one's.
func (s *siege) judge(ctx context.Context, a attempt, out []byte, ended error) error {
	calls, err := s.trail.calls(ctx)
	if err != nil {
		return err
	}
	t := judge(calls, s.name)
	s.attempts++
	s.total.add(t)
	outcome := "refused"
	switch {
	case t.right > 0 && t.right == t.calls():
		outcome = "as " + s.name
	case t.calls() > 0:
		outcome = "ESCAPED"
	case ended == nil:
		outcome = "no call"
	}
	fmt.Printf("  %-62s %-12s %-6s %s\n", a.name, outcome, t, lastLine(out, ended))
	switch {
	case t.none+t.wrong > 0:
		s.fail(out, "%s: calls without the right name", a.name)
	case a.want == named && t.right == 0:
		s.fail(out, "%s: no call; it must work under the right name: %v", a.name, ended)
	case a.want == refused && (t.calls() > 0 || ended == nil):
		s.fail(out, "%s: must be refused", a.name)
	}
	return nil
}

// lacks says which client an attempt needs and the machine has not.
func (s *siege) lacks(a attempt) string {
	if a.box != "" && !s.exists("/run/netns/"+a.box) {
		return "this kernel has no bridge"
	}
	if _, err := exec.LookPath("sudo"); err != nil && strings.Contains(a.script, "sudo ") {
		return "sudo is not installed"
	}
	for variable, client := range scriptClients {
		for _, c := range s.clients {
			if c.Name == client && c.Skip != "" && strings.Contains(a.script, variable) {
				return c.Skip
			}
		}
	}
	return ""
}

func (s *siege) exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// scriptClients are the real clients by the variables of the scripts.
var scriptClients = map[string]string{"$BOTO": "boto3, newest", "$CLI": "AWS CLI v1", "$NODE": "JavaScript SDK v3"}

// clientEnv tells the scripts where everything is.
func (s *siege) clientEnv() []string {
	env := []string{
		"V4=http://169.254.169.254", "V6=http://[fd00:ec2::254]",
		"WHO=" + s.lab.Program("whoami"), "NB=" + s.lab.Program("nbidentity"), "DAEMONBIN=" + s.lab.Program("nbidentityd"),
		"RAID=" + s.lab.Program("adversary") + " -raid",
		"SOCK=" + s.nb.Socket(), "STATE=" + s.path("state"), "SETTINGS=" + s.path("siege.toml"), "METADATA=" + s.path("resource-metadata.json"),
		"TOKEN=" + s.path(fmt.Sprintf("container-token-%d", userUID)), "OTHER=" + s.path(fmt.Sprintf("container-token-%d", otherUID)),
	}
	for variable, name := range scriptClients {
		for _, c := range s.clients {
			if c.Name != name {
				continue
			}
			args := c.Args
			if name == "AWS CLI v1" {
				args = args[:2]
			}
			env = append(env, variable[1:]+"="+strings.Join(args, " "))
			env = append(env, c.Env...)
		}
	}
	return env
}

// lastLine is the end of what an attempt printed: the last line with a word in
// it, shortened.
func lastLine(out []byte, ended error) string {
	line := ""
	for l := range strings.Lines(string(out)) {
		if strings.ContainsFunc(l, unicode.IsLetter) {
			line = strings.TrimSpace(l)
		}
	}
	if line == "" && ended != nil {
		line = ended.Error()
	}
	const most = 110
	if r := []rune(line); len(r) > most {
		line = string(r[:most]) + "…"
	}
	return line
}
