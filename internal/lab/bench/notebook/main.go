// Command notebook measures what the daemon costs a notebook on which nobody asks
// it anything, and what a day leaves behind: memory and wake-ups.
//
// It does so where the daemon does all of its work: on stages with a metadata
// service at the platform's address behind the fence, AWS behind TLS, and a user
// of another uid whose ~/.aws is locked. Without root there can be no such thing;
// the daemon then runs for its own user, does not lock, and that is said.
//
// A day takes a minute or so, since fakeaws lets an hour of a session last some seconds: the
// renewals, the answers from AWS and the requests are as many as in a day, the
// minutes of the clock, on which the daemon looks at its surroundings, are not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

// programs are what a stage takes from the directory of built programs.
var programs = []string{"nbidentityd", "nbidentity", "fakeaws"}

// measurement is made on a notebook of its own, beside the others.
type measurement struct {
	name     string
	unlocked bool
	hour     time.Duration // that an hour of a session lasts
	of       func(ctx context.Context, n *notebook, watch time.Duration) error
}

var measurements = []measurement{
	{name: "locked", hour: time.Hour, of: idle},
	{name: "unlocked", unlocked: true, hour: time.Hour, of: idle},
	{name: "day", hour: dayHour, of: day},
}

func main() {
	bin := flag.String("bin", "bin", "`directory` of the built programs")
	watch := flag.Duration("idle", 2*time.Minute, "how long to count wake-ups for")
	dir := flag.String("stage", "", "`directory` of the prepared stage: measure there (notebook starts itself so)")
	only := flag.String("only", "", "the one `measurement` to make")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, *bin, *dir, *only, *watch)
	stop()
	os.Exit(stage.Finish("bench", err, os.Getenv("CI") == "true", os.Stdout, os.Stderr))
}

func run(ctx context.Context, bin, dir, only string, watch time.Duration) error {
	impossible := stage.Possible("")
	group, ctx := errgroup.WithContext(ctx)
	for _, m := range measurements {
		switch {
		case only != "" && m.name != only:
		case dir != "":
			group.Go(func() error { return m.onStage(ctx, dir, watch) })
		case impossible == nil:
			group.Go(func() error { return m.prepare(ctx, bin, watch) })
		case m.name == "locked":
			fmt.Printf("bench: idle locked: skipped: %v\n", impossible)
		default:
			group.Go(func() error { return m.offStage(ctx, bin, watch) })
		}
	}
	return group.Wait()
}

// prepare lays a stage out and makes the measurement there.
func (m measurement) prepare(ctx context.Context, bin string, watch time.Duration) (err error) {
	dir, err := os.MkdirTemp("/var/tmp", "nbidentityd-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := stage.LayOut(dir, bin, "bench", programs...); err != nil {
		return err
	}
	if err := settleFile(filepath.Join(dir, "bin", "nbidentityd")); err != nil {
		return err
	}
	return stage.Start(ctx, "-stage", dir, "-only", m.name, "-idle", watch.String())
}

// settleFile makes the kernel forget the pages of a file that was just written. It
// maps more of those into a process than it asks for, all of the program in the
// end; after a boot it reads what is asked for.
func settleFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
