// Package reach finds out what a notebook's user can reach, by trying: a
// process under the user's own uid, groups and nothing else asks the metadata
// service and looks at Docker's socket, and sudo is asked what it would allow.
//
// [Observe] is the daemon's side and starts the process; [Probe] is that
// process's side. What cannot be tried is reported as unknown with the reason,
// never as good news. The observation holds for its moment and for this network
// namespace, not for one that the user may open inside a container runtime.
package reach

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/assurance"
)

// limit bounds one observation; the probe itself needs less.
const limit = 20 * time.Second

// Config says who is to be observed.
type Config struct {
	User     string // as sudo knows it
	UID, GID uint32
	Groups   []uint32 // supplementary
	// Program is the command line of a program that calls Probe and prints what
	// it returns as JSON.
	Program []string
}

// Finding is what the probe has met, as it passes it on.
type Finding struct {
	// Base is yes when the platform's own metadata service answered.
	Base       assurance.Answer `json:"base"`
	BaseReason string           `json:"base_reason"`
	// DockerSocket is yes when a socket with root's power could be opened.
	DockerSocket assurance.Answer `json:"docker_socket"`
}

// Observe tries what the user can reach. The facts that it does not know of are
// left unknown. The error says why nothing could be tried under the user's uid;
// the facts stand all the same.
func Observe(ctx context.Context, cfg Config) (assurance.Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	facts := assurance.Facts{SameUID: assurance.No, Sudo: sudo(ctx, cfg)}
	if uint32(os.Geteuid()) == cfg.UID {
		facts.SameUID = assurance.Yes
	}
	found, err := runProbe(ctx, cfg)
	if err != nil {
		facts.BaseReason = err.Error()
		return facts, err
	}
	facts.BaseReached, facts.BaseReason, facts.DockerSocket = found.Base, found.BaseReason, found.DockerSocket
	return facts, nil
}

// runProbe starts the probe as the user: no environment, no capability, and as
// root no right of root's.
func runProbe(ctx context.Context, cfg Config) (Finding, error) {
	cmd := exec.CommandContext(ctx, cfg.Program[0], cfg.Program[1:]...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	if uint32(os.Geteuid()) != cfg.UID {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: cfg.UID, Gid: cfg.GID, Groups: cfg.Groups}}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if errors.Is(err, syscall.EPERM) {
		return Finding{}, fmt.Errorf("the daemon may not start a process as uid %d: it needs root or CAP_SETUID and CAP_SETGID", cfg.UID)
	}
	if err != nil {
		return Finding{}, fmt.Errorf("probing as uid %d: %w: %.200q", cfg.UID, err, stderr.String())
	}
	var found Finding
	if err := json.Unmarshal(stdout.Bytes(), &found); err != nil {
		return Finding{}, fmt.Errorf("probing as uid %d: reading its answer: %w", cfg.UID, err)
	}
	return found, nil
}

// sudo asks sudo itself. It prints what a user may do only to root and to that
// user; words and exit codes differ between its releases, so only two plain
// answers count.
func sudo(ctx context.Context, cfg Config) assurance.Answer {
	if cfg.UID == 0 {
		return assurance.Yes
	}
	path, err := exec.LookPath("sudo")
	if errors.Is(err, exec.ErrNotFound) {
		return assurance.No
	}
	if err != nil {
		return assurance.Unknown
	}
	args := []string{"-n", "-l"}
	if os.Geteuid() == 0 {
		args = append(args, "-U", cfg.User)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C"}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	switch text := string(out); {
	case strings.Contains(text, "may run the following"):
		return assurance.Yes
	case strings.Contains(text, "is not allowed to run sudo"):
		return assurance.No
	case err == nil && os.Geteuid() != 0:
		return assurance.Yes
	}
	return assurance.Unknown
}
