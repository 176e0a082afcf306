package doctor_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/lab/executable"
)

// shimVariable makes this test program one of the commands that remedies call:
// it sends its arguments to the set-up at this URL and does what it is told.
const shimVariable = "NBIDENTITYD_DOCTOR_SHIM"

type shimAnswer struct {
	Out  string
	Code int
}

func TestMain(m *testing.M) {
	url := os.Getenv(shimVariable)
	if url == "" {
		goleak.VerifyTestMain(m)
		return
	}
	body, _ := json.Marshal(os.Args[1:])
	resp, err := http.Post(url, "application/json", strings.NewReader(string(body)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	var a shimAnswer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	fmt.Print(a.Out)
	os.Exit(a.Code)
}

// writeShims puts commands before the PATH that act on this set-up.
func (s *setup) writeShims() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var args []string
		_ = json.Unmarshal(body, &args)
		s.turn.Lock()
		defer s.turn.Unlock()
		out, code := s.command(args)
		_ = json.NewEncoder(w).Encode(shimAnswer{out, code})
	}))
	s.t.Cleanup(server.Close)
	self, err := os.Executable()
	s.must(err)
	s.shims = s.path("shims")
	s.must(os.Mkdir(s.shims, 0o755))
	for _, name := range []string{"aws", "systemctl", "chronyc", "nbidentityd", "journalctl", "curl", "ss", "getent", "setsid"} {
		script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s %s \"$@\"\n", shimVariable, server.URL, self, name)
		s.must(executable.Write(filepath.Join(s.shims, name), []byte(script)))
	}
}

// mend runs the commands of every finding, as a person pastes them.
func (s *setup) mend(r report.Report) {
	for _, f := range r.Findings {
		for _, c := range f.Commands {
			cmd := exec.Command("/bin/sh", "-c", c)
			cmd.Dir = s.dir
			cmd.Env = append(os.Environ(), "PATH="+s.shims+":"+os.Getenv("PATH"))
			s.turn.Unlock()
			out, err := cmd.CombinedOutput()
			s.turn.Lock()
			s.t.Logf("$ %s\n%s%v", c, out, err)
		}
	}
	for _, cmd := range s.killed { // a signal is not an end yet
		for range 12_000 {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
			if err != nil || len(text) == 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// command is what a shim does.
func (s *setup) command(args []string) (string, int) {
	flag := func(name string) string {
		if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	has := func(words ...string) bool {
		for _, w := range words {
			if !slices.Contains(args, w) {
				return false
			}
		}
		return true
	}
	switch args[0] {
	case "systemctl":
		return s.systemctl(args[1:])
	case "setsid":
		s.restart()
		return "", 0
	case "chronyc":
		s.account.Faults.Clear("", "clock_skew")
		return "200 OK\n", 0
	case "nbidentityd":
		if has("install") {
			if err := s.install(); err != nil {
				return err.Error() + "\n", 1
			}
		}
		if has("policy") {
			return s.policy(args[1:])
		}
		return "", 0
	case "aws":
	default:
		return "", 0 // only shows something
	}
	switch {
	case has("sts", "get-caller-identity"):
		return account + "\n", 0
	case has("iam"):
		return s.iam(args[2], flag)
	case has("update-notebook-instance"):
		for i := range s.scenario.Notebooks {
			if n := &s.scenario.Notebooks[i]; n.Name == flag("--notebook-instance-name") {
				if v := flag("--root-access"); v != "" {
					n.RootAccess = v
				}
				if _, v, ok := strings.Cut(flag("--instance-metadata-service-configuration"), "="); ok {
					n.MinimumIMDSVersion = v
				}
			}
		}
		s.rebuild()
	case has("start-notebook-instance"):
		s.restart()
	case has("list-notebook-instances"), has("list-user-profiles"):
		return strings.Join(s.names, "\t") + "\n", 0
	case has("ec2", "describe-vpc-endpoints"):
		return "vpce-0123456789abcdef0\n", 0
	case has("ec2", "modify-vpc-endpoint", "--private-dns-enabled"):
		if s.onMend != nil {
			s.onMend("modify-vpc-endpoint")
		}
	}
	return "", 0
}

// iam edits or shows the scenario's roles.
func (s *setup) iam(verb string, flag func(string) string) (string, int) {
	name, document := flag("--role-name"), flag("--policy-document")
	if path, ok := strings.CutPrefix(document, "file://"); ok {
		text, err := os.ReadFile(path)
		if err != nil {
			return err.Error(), 1
		}
		document = string(text)
	}
	i := slices.IndexFunc(s.scenario.Roles, func(r scenario.Role) bool { return r.Name == name })
	if i < 0 {
		return "An error occurred (NoSuchEntity)\n", 254
	}
	r := s.scenario.Roles[i]
	r.Policies = slices.Clone(r.Policies)
	drop := func(gone func(scenario.Policy) bool) { r.Policies = slices.DeleteFunc(r.Policies, gone) }
	switch verb {
	case "get-role":
		if flag("--query") == "Role.Arn" {
			return "arn:aws:iam::" + account + ":role" + cmp.Or(r.Path, "/") + r.Name + "\n", 0
		}
		return string(r.Trust) + "\n", 0
	case "update-assume-role-policy":
		r.Trust = []byte(document)
	case "put-role-policy":
		policy := flag("--policy-name")
		drop(func(p scenario.Policy) bool { return p.Name == policy })
		r.Policies = append(r.Policies, scenario.Policy{Name: policy, Document: []byte(document)})
	case "delete-role-policy":
		policy := flag("--policy-name")
		drop(func(p scenario.Policy) bool { return p.Name == policy })
	case "detach-role-policy":
		arn := flag("--policy-arn")
		drop(func(p scenario.Policy) bool { return p.ARN == arn })
	case "tag-role":
		key, value, _ := strings.Cut(strings.TrimPrefix(flag("--tags"), "Key="), ",Value=")
		tags := map[string]string{key: value}
		for k, v := range r.Tags {
			if k != key {
				tags[k] = v
			}
		}
		r.Tags = tags
	default:
		return "", 0
	}
	if err := s.account.PutRole(r); err != nil { // as strict as IAM
		return err.Error() + "\n", 254
	}
	s.scenario.Roles[i] = r
	return "", 0
}

// policy runs the real command's program.
func (s *setup) policy(args []string) (string, int) {
	cmd := exec.Command(s.program(), args...)
	out, err := cmd.Output()
	if err != nil {
		return err.Error(), 1
	}
	return string(out), 0
}

func (s *setup) systemctl(args []string) (string, int) {
	switch verb := args[0]; verb {
	case "show":
		var b strings.Builder
		for k, v := range s.systemd {
			fmt.Fprintf(&b, "%s=%s\n", k, v)
		}
		return b.String(), 0
	case "stop":
		stopped(s)
	case "enable", "restart", "reload-or-restart", "start":
		if s.systemd != nil {
			s.systemd["LoadState"], s.systemd["ActiveState"], s.systemd["Result"] = "loaded", "active", "success"
			if verb == "enable" {
				s.systemd["UnitFileState"] = "enabled"
			}
		}
		s.restart()
	case "unmask":
		s.systemd["LoadState"] = "loaded"
	case "reset-failed":
		s.systemd["NRestarts"] = "0"
	}
	return "", 0
}

// asUser makes cmd the set-up's user's, in a process group of its own.
func (s *setup) asUser(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.uid)}
	}
}

func endGroup(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // ours, by its id
	_ = cmd.Wait()
}
