// Command boot takes whole machines through their lives with nbidentityd on
// them: a notebook instance, with systemd as its first process and a user
// without root, and a Studio app, without systemd. Both are made of Debian's
// packages and share a network with fakeaws, which is all the AWS they know.
//
// What administrators attach is what runs here: the lifecycle scripts fetch the
// packages of make dist from fakeaws' S3. Each step is judged by fakeaws' trail,
// and while the steps run, a stand-in for Jupyter calls AWS without a pause.
//
// What a run does not show: Amazon Linux, whose systemd, rpm and kernel differ,
// and a kernel of the machine's own, which it shares with its host. It says
// nothing of users who attack; see the adversary.
//
// It is longer than most because it plays the whole lives of two machines, each
// step checked before the next: instance.go and life.go those of one with systemd,
// studio.go those of an app.
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
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab/boot/image"
	"github.com/nbidentityd/nbidentityd/internal/lab/boot/machine"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

// options are the command line.
type options struct {
	bin, lifecycle string
	old, new       string // directories of packages
	only           string // machine
	stage, archive string // of a prepared run
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "`directory` of the built programs")
	flag.StringVar(&o.lifecycle, "lifecycle", "lifecycle", "`directory` of the lifecycle scripts")
	flag.StringVar(&o.old, "old", "bin/packages/old", "`directory` of the packages that machines start with")
	flag.StringVar(&o.new, "new", "bin/packages/new", "`directory` of the packages to which they are upgraded")
	flag.StringVar(&o.only, "only", "", "`machine` to run: instance or studio (default: both)")
	flag.StringVar(&o.stage, "stage", "", "`directory` of the prepared stage: play there (boot starts itself so)")
	flag.StringVar(&o.archive, "archive", "", "`file` of the machines' image (boot starts itself so)")
	calls := flag.Bool("calls", false, "be the load: call AWS until standard input ends (boot starts itself so)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	var err error
	switch {
	case *calls:
		err = runCalls(ctx, os.Stdin, os.Stdout)
	case o.stage != "":
		err = play(ctx, o)
	default:
		err = prepare(ctx, o)
	}
	stop()
	os.Exit(stage.Finish("boot", err, os.Getenv("CI") == "true", os.Stdout, os.Stderr))
}

// prepare makes the image, lays out a directory, and plays there.
func prepare(ctx context.Context, o options) (err error) {
	tools := append(slices.Clone(machine.Tools), "debootstrap", "tar", "chattr", "ss")
	if err := stage.Possible(", systemd-container, debootstrap, nftables, e2fsprogs", tools...); err != nil {
		return err
	}
	unix.Umask(0o022)
	started := time.Now()
	archive, err := image.Archive(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("image in place after %.1f s\n", time.Since(started).Seconds())
	dir, err := os.MkdirTemp("/var/tmp", "nbidentityd-boot-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machine.RemoveCgroups(labDir(dir)), remove(dir)) }()
	if err := layOut(dir, o); err != nil {
		return err
	}
	return stage.Start(ctx, "-stage", dir, "-archive", archive, "-only", o.only)
}

// remove also removes what the daemon has made immutable, after a failure.
func remove(dir string) error {
	// Its own failure would show in what follows.
	_ = exec.Command("chattr", "-R", "-f", "-i", dir).Run()
	return os.RemoveAll(dir)
}

// Places in the directory of a run.
func labDir(dir string) string    { return filepath.Join(dir, "lab") }
func bucketDir(dir string) string { return filepath.Join(dir, "bucket") }
func scriptDir(dir string) string { return filepath.Join(dir, "lifecycle") }
func toolDir(dir string) string   { return filepath.Join(dir, "tools") }

// layOut copies everything that the run takes from the checkout.
func layOut(dir string, o options) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, sub := range []string{"bin", "lab/tmp", "bucket/old", "bucket/new", "lifecycle", "tools"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(labDir(dir), "tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(toolDir(dir), "kernel.py"), kernelProgram, 0o644); err != nil {
		return err
	}
	files := map[string]string{
		filepath.Join(dir, "bin", "fakeaws"):   filepath.Join(o.bin, "fakeaws"),
		filepath.Join(toolDir(dir), "boot"):    "/proc/self/exe",
		filepath.Join(scriptDir(dir), "nb.sh"): filepath.Join(o.lifecycle, "notebook-instance", "on-start.sh"),
		filepath.Join(scriptDir(dir), "st.sh"): filepath.Join(o.lifecycle, "studio", "on-start.sh"),

		filepath.Join(scriptDir(dir), "README.md"): filepath.Join(o.lifecycle, "..", "README.md"),
	}
	for into, from := range map[string]string{"old": o.old, "new": o.new} {
		for _, pattern := range []string{"*_" + runtime.GOARCH + ".deb", "*-linux-" + runtime.GOARCH + ".tar.gz"} {
			found, err := filepath.Glob(filepath.Join(from, pattern))
			if err != nil || len(found) != 1 {
				return errors.Join(err, fmt.Errorf("%d files %s in %s, not one: make dist makes them", len(found), pattern, from))
			}
			files[filepath.Join(bucketDir(dir), into, filepath.Base(found[0]))] = found[0]
		}
	}
	for to, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o755); err != nil {
			return err
		}
	}
	return nil
}
