// Command interop lets real AWS clients of five languages loose on a notebook
// that nbidentityd attends, and judges their calls by fakeaws' trail, not by
// the clients' own words.
//
// The clients are what their registries offer, unmodified, each with its
// default chain: no endpoint, no credentials and no region in the environment.
// AWS's host names and the addresses of the platform lead to fakeaws because
// the trials run in a network of their own (network.go), whose certificates the
// clients' own trust stores accept (trust.go). The daemon runs as root with the
// public endpoints, the clients run as an ordinary user.
//
// It has two stages. The first, on the machine itself, installs the clients
// (install.go) and starts the program again in namespaces of its own; the
// second plays the trials. The kernel takes the namespaces and every process in
// them away when the second stage ends, however it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// programs are what the trials take from the directory of built programs.
var programs = []string{"nbidentityd", "nbidentity", "fakeaws", "whoami"}

// tools are what the stage is built with.
var tools = []string{"ip", "nsenter", "setpriv"}

// skipped says why nothing could run.
type skipped struct{ reason string }

func (s skipped) Error() string { return "skipped: " + s.reason }

// errShown ends a run whose failures have been printed where they happened.
var errShown = errors.New("failures were shown")

func main() {
	bin := flag.String("bin", "bin", "`directory` of the built programs")
	cases := flag.String("cases", "internal/awsconfig/testdata", "`directory` of leftover AWS configurations")
	stage := flag.String("stage", "", "`directory` of the prepared stage: play the trials in this process's own namespaces (interop starts itself so)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	var err error
	if *stage != "" {
		err = play(ctx, *stage, *cases)
	} else {
		err = prepare(ctx, *bin, *cases)
	}
	stop()
	if s := (skipped{}); errors.As(err, &s) && os.Getenv("CI") != "true" {
		fmt.Println("interop:", err)
		return
	}
	if err != nil {
		if !errors.Is(err, errShown) {
			fmt.Fprintln(os.Stderr, "interop:", err)
		}
		os.Exit(1)
	}
}

// prepare installs the clients, lays out a directory that the notebook's user
// can read, and starts the second stage.
func prepare(ctx context.Context, bin, cases string) (err error) {
	if os.Geteuid() != 0 {
		return skipped{"needs root: it makes namespaces and runs clients as another user"}
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return skipped{"needs the program " + tool + " (Debian: iproute2, util-linux)"}
		}
	}
	unix.Umask(0o022)
	started := time.Now()
	if err := install(ctx); err != nil {
		return err
	}
	fmt.Printf("clients in place after %.1f s\n", time.Since(started).Seconds())
	dir, err := os.MkdirTemp("/var/tmp", "nbidentityd-interop-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := layOut(dir, bin); err != nil {
		return err
	}
	err = secondStage(ctx, dir, cases)
	if errors.Is(err, unix.EPERM) {
		return skipped{"needs namespaces: " + err.Error()}
	}
	return err
}

// layOut makes the stage's directories and copies the programs there: the
// notebook's user may not be able to read the checkout.
func layOut(dir, bin string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, sub := range []string{"bin", "lab", "lab/tmp", "trust"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "lab/tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	for _, program := range programs {
		data, err := os.ReadFile(filepath.Join(bin, program))
		if err != nil {
			return fmt.Errorf("%w (make builds it)", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "bin", program), data, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// secondStage runs this program again with namespaces of its own. As their
// first process it takes all others with it when it ends, and it ends with us.
func secondStage(ctx context.Context, dir, cases string) error {
	runtime.LockOSThread() // Pdeathsig means the thread that starts the process
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-stage", dir, "-cases", cases)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err := cmd.Run()
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) && ended.Exited() {
		return errShown // by the second stage
	}
	return err
}
