// Command adversary is a notebook user who does not want to be named. It makes
// one attempt after the other to get a call to AWS that does not carry the
// notebook's name, or carries another's, and judges each by fakeaws' trail.
//
// The network, the AWS of its own and the real clients are those of interop:
// the daemon runs as root with the public endpoints and a real packet fence,
// the adversary under an ordinary uid, with everything that such a user has.
// Every record of the trail counts, whatever user agent it shows: while an
// attempt runs, the daemon itself has nothing to ask of AWS.
//
// What the run proves ends where the machine's kernel and clients do: it says
// nothing of a user who is root, or has Docker's socket. The second half, in
// Studio's shape, shows such escapes, and that the daemon says so.
//
// It is longer than most for its tables of attempts, which stand beside the
// moment at which they are made: attempts.go while all is well, crowd.go under
// load, down.go with the daemon hung or killed, locked.go against the lock,
// studio.go where the user is root. siege.go makes and judges one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab/adversary/raid"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/clients"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

// programs are what the suite takes from the directory of built programs.
var programs = []string{"nbidentityd", "nbidentity", "fakeaws", "whoami"}

func main() {
	bin := flag.String("bin", "bin", "`directory` of the built programs")
	dir := flag.String("stage", "", "`directory` of the prepared stage: play there (adversary starts itself so)")
	asRaid := flag.Bool("raid", false, "be one of the user's own programs (the attempts start it so)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	var err error
	switch {
	case *asRaid:
		err = raid.Run(ctx, flag.Args())
	case *dir != "":
		err = play(ctx, *dir)
	default:
		err = prepare(ctx, *bin)
	}
	stop()
	os.Exit(stage.Finish("adversary", err, os.Getenv("CI") == "true", os.Stdout, os.Stderr))
}

// prepare installs the clients, lays out a directory that the notebook's user
// can read, and starts the suite on a stage.
func prepare(ctx context.Context, bin string) (err error) {
	if err := stage.Possible(", curl, nftables", "curl", "unshare", "nft"); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := clients.Install(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/var/tmp", "nbidentityd-adversary-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := stage.LayOut(dir, bin, "adversary", programs...); err != nil {
		return err
	}
	return stage.Start(ctx, "-stage", dir)
}

// commands runs commands of single words each, as root.
func commands(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", line, err, out)
		}
	}
	return nil
}
