// Command interop lets real AWS clients of five languages loose on a notebook
// that nbidentityd attends, and judges their calls by fakeaws' trail, not by
// the clients' own words.
//
// The clients are what their registries offer, unmodified, each with its
// default chain: no credentials and no region in the environment, and what leads
// to the daemon's faces only where a trial says so. One table shows each client
// through each face, while all is well and while the other faces fail; another
// what becomes of configurations that a notebook may already have.
//
// AWS's host names and the addresses of the platform lead to fakeaws because
// the trials run on a stage of their own, whose certificates the clients' own
// trust stores accept. The daemon runs as root with the public endpoints, the
// clients run as an ordinary user.
//
// On the machine itself the program installs the clients; then it starts itself
// again on the stage and plays the trials there.
//
// It is longer than most for its tables: faces.go, leftovers.go and trials.go
// have one kind of trial each.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab/interop/clients"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

// programs are what the trials take from the directory of built programs.
var programs = []string{"nbidentityd", "nbidentity", "fakeaws", "whoami"}

func main() {
	bin := flag.String("bin", "bin", "`directory` of the built programs")
	cases := flag.String("cases", "internal/awsconfig/testdata", "`directory` of leftover AWS configurations")
	dir := flag.String("stage", "", "`directory` of the prepared stage: play the trials there (interop starts itself so)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	var err error
	if *dir != "" {
		err = play(ctx, *dir, *cases)
	} else {
		err = prepare(ctx, *bin, *cases)
	}
	stop()
	os.Exit(stage.Finish("interop", err, os.Getenv("CI") == "true", os.Stdout, os.Stderr))
}

// prepare installs the clients, lays out a directory that the notebook's user
// can read, and starts the trials.
func prepare(ctx context.Context, bin, cases string) (err error) {
	if err := stage.Possible(""); err != nil {
		return err
	}
	unix.Umask(0o022)
	started := time.Now()
	if err := clients.Install(ctx); err != nil {
		return err
	}
	fmt.Printf("clients in place after %.1f s\n", time.Since(started).Seconds())
	dir, err := os.MkdirTemp("/var/tmp", "nbidentityd-interop-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := stage.LayOut(dir, bin, "interop", programs...); err != nil {
		return err
	}
	return stage.Start(ctx, "-stage", dir, "-cases", cases)
}
