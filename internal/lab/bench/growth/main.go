// Command growth measures what becomes of the daemon's costs when there is more of
// something: clients at once, from one to ten thousand, beside a bare net/http
// server under the same load, and profiles in the user's ~/.aws/config, from one to
// a thousand.
//
// It is longer than most for its two unlike loads: a crowd that tries again as
// clients do (crowd.go), and six costs of a file (profiles.go).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

func main() {
	bin := flag.String("bin", "bin", "`directory` of the built programs")
	runs := flag.Int("runs", 1000, "how thorough to be, as for bench; below that each thing is done once or so")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, *bin, *runs)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, runs int) (err error) {
	l, err := lab.Open("bench", bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Discard()) }()
	account, err := l.StartAccount(ctx, "-imds", "alice-nb=127.0.0.1:0")
	if err != nil {
		return err
	}
	times := effort{clients: 1, starts: 1, looks: 2, commands: 5, fresh: 2}
	if runs >= 1000 {
		times = effort{clients: 3, starts: 3, looks: 5, commands: 20, fresh: 5}
	}
	return errors.Join(clients(ctx, l, account, times), profiles(ctx, l, account, times))
}

// notebook is one of our own user's.
func notebook(l *lab.Lab, account *lab.Account, name string) (*lab.Notebook, error) {
	port, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	return l.NewNotebook(account, lab.Notebook{Name: name, UID: os.Getuid(), IMDS: account.IMDS["alice-nb"], ContainerPort: port, Metadata: lab.Metadata})
}
