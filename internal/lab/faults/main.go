// Command faults lets the platform under a notebook fail in the ways that
// trials.go lists, each against a notebook of its own, and watches what the
// notebook's programs get: the real daemon, the real client and the Go SDK's
// default chain against fakeaws.
//
// A trial has a crowd that asks for credentials all the time. What it is given
// must never be expired, incomplete or of another name, and the trail must hold
// no call without the name. A request may fail only after the last good
// credential has truly ended, which only AWS can prevent. An hour of a session
// lasts some seconds here; nothing else is hurried.
//
// Trials that mount, cut the network or limit resources need root; they run in
// namespaces that end with the program. What cannot run is named with the
// reason, and where the variable CI is set that is a failure.
//
// With -soak it lets faults come at random instead, under many clients, and
// looks at what the daemon holds on to.
//
// It is longer than most, and so are the functions of trials.go, because they are
// tables: a trial is an entry, told where it is listed.
// What they share, the rig and its crowd, is used by nobody else.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

// inside tells the program that it is in its own namespaces.
const inside = "-inside"

func main() {
	bin := flag.String("bin", "bin", "`directory` of the built programs")
	only := flag.String("only", "", "run the trials whose name holds this `text`")
	at := flag.Int("parallel", 12, "`trials` at a time")
	soaking := flag.Duration("soak", 0, "instead of trials, let faults come at random for this `long` and watch what grows")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the `chance` in a soak")
	within := flag.Bool(inside[1:], false, "is in namespaces of its own (the program says so to itself)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if os.Geteuid() == 0 && !*within {
		err = enter(ctx)
	} else if *soaking > 0 {
		err = soak(ctx, *bin, *soaking, *seed)
	} else {
		err = run(ctx, *bin, *only, *at)
	}
	if err != nil {
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			fmt.Fprintln(os.Stderr, "faults:", err)
		}
		os.Exit(1)
	}
}

// enter runs the program again where its mounts and its loopback are its own.
func enter(ctx context.Context) error {
	args := []string{"--mount", "--net", "--propagation", "private", "--", "/bin/sh", "-c", `ip link set lo up && exec "$0" ` + inside + ` "$@"`, "/proc/self/exe"}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args[len(args)-1] = self
	cmd := exec.CommandContext(ctx, "unshare", append(args, os.Args[1:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd.Run()
}

func run(ctx context.Context, bin, only string, parallel int) error {
	var chosen []trial
	for _, t := range trials() {
		if strings.Contains(t.name, only) {
			chosen = append(chosen, t)
		}
	}
	results := make([]result, len(chosen))
	var group sync.WaitGroup
	places := make(chan struct{}, parallel)
	for i, t := range chosen {
		if t.alone {
			continue
		}
		group.Go(func() {
			places <- struct{}{}
			results[i] = t.play(ctx, bin)
			<-places
		})
	}
	group.Wait()
	for i, t := range chosen {
		if t.alone {
			results[i] = t.play(ctx, bin)
		}
	}
	return report(results)
}

// report prints the table and returns an error when something is not as promised.
func report(results []result) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "trial\tasked\tfailed while valid\tafter its end\twrong\tunattributed\twell again after\tstatus said")
	var sum tally
	var skipped, broken []string
	for _, r := range results {
		switch {
		case r.skipped != "":
			skipped = append(skipped, r.name+": "+r.skipped)
			continue
		case r.err != nil:
			broken = append(broken, fmt.Sprintf("%s: %v", r.name, r.err))
		}
		sum.add(r.tally)
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", r.name, r.asked, r.failedValid, r.failedEnded, r.wrong, r.unattributed,
			r.recovery.Round(100*time.Millisecond), cmp.Or(r.said, "ok"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	slices.Sort(skipped)
	for _, s := range skipped {
		fmt.Println("skipped:", s)
	}
	for _, r := range results {
		for _, w := range r.witness {
			fmt.Println("witness:", r.name+":", w)
		}
	}
	fmt.Printf("faults: %d trials, %d wrong, %d unattributed, %d failed while valid\n",
		len(results)-len(skipped), sum.wrong, sum.unattributed, sum.failedValid)
	var errs []error
	for _, b := range broken {
		errs = append(errs, errors.New(b))
	}
	if sum.wrong+sum.unattributed+sum.failedValid > 0 {
		errs = append(errs, errors.New("not as promised"))
	}
	if len(skipped) > 0 && os.Getenv("CI") != "" {
		errs = append(errs, errors.New("trials were skipped"))
	}
	return errors.Join(errs...)
}
