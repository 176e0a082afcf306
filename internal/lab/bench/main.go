// Command bench measures what nbidentityd costs, with the real programs, and
// prints a line for each figure: name, value, unit, ratio and to what. What is
// compared is measured in the same run, in turns, so that a busy machine slows
// both alike.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

const metadata = `{"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/alice-nb", "ResourceName": "alice-nb"}`

func main() {
	bin := flag.String("bin", "bin", "`directory` of the built programs")
	runs := flag.Int("runs", 1000, "starts of each program")
	watch := flag.Duration("idle", 2*time.Minute, "how long to count wake-ups for")
	flag.Parse()
	if err := run(context.Background(), *bin, *runs, *watch); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, runs int, watch time.Duration) (err error) {
	l, err := lab.Open("bench", bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Discard()) }()
	account, err := l.StartAccount(ctx, "-imds", "alice-nb=127.0.0.1:0")
	if err != nil {
		return err
	}
	imdsPort, err := freePort()
	if err != nil {
		return err
	}
	containerPort, err := freePort()
	if err != nil {
		return err
	}
	nb, err := l.NewNotebook(account, lab.Notebook{
		Name: "bench", UID: os.Getuid(), IMDS: account.IMDS["alice-nb"], IMDSPort: imdsPort, ContainerPort: containerPort,
		Metadata: metadata,
	})
	if err != nil {
		return err
	}
	daemon, err := nb.StartDaemon(ctx)
	if err != nil {
		return err
	}
	if err := idle(daemon.PID(), watch); err != nil {
		return err
	}
	if err := starts(ctx, l, nb, runs); err != nil {
		return err
	}
	if err := faces(ctx, l, nb); err != nil {
		return err
	}
	return errors.Join(firstCredentials(ctx, l, account), boto(ctx, l, account, nb), growth(ctx, l, account))
}

// freePort is a loopback port that nobody uses at the moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// starts compares a whole nbidentity credentials with the least that a Go and a
// C program do.
func starts(ctx context.Context, l *lab.Lab, nb *lab.Notebook, runs int) error {
	commands := [][]string{{l.Program("hello")}, {l.Program("nbidentity"), "--socket", nb.Socket(), "credentials"}}
	cc, lacking := exec.LookPath("cc")
	if lacking == nil {
		program := filepath.Join(l.Dir, "c-client")
		cmd := exec.CommandContext(ctx, cc, "-O2", "-x", "c", "-o", program, "-")
		cmd.Stdin = strings.NewReader(clientC)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("compiling the C client: %w\n%s", err, out)
		}
		commands = append(commands, []string{program, nb.Socket()})
	}
	times, err := inTurns(runs, commands...)
	if err != nil {
		return err
	}
	base, call := summarise(times[0]), summarise(times[1])
	fmt.Printf("bench: go-hello %.2f ms, 1.00x go-hello (median %.2f ms, deviation %.2f ms, %d starts)\n",
		ms(base.mean), ms(base.median), ms(base.deviation), runs)
	fmt.Printf("bench: credentials-call %.2f ms, %.2fx go-hello (median %.2f ms, %.2fx; deviation %.2f ms)\n",
		ms(call.mean), ratio(call.mean, base.mean), ms(call.median), ratio(call.median, base.median), ms(call.deviation))
	if lacking != nil {
		fmt.Println("bench: credentials-call vs C: skipped: no C compiler (cc) is installed")
		return nil
	}
	c := summarise(times[2])
	fmt.Printf("bench: c-client %.2f ms (median %.2f ms, deviation %.2f ms); credentials-call is %.2fx of it (medians %.2fx)\n",
		ms(c.mean), ms(c.median), ms(c.deviation), ratio(call.mean, c.mean), ratio(call.median, c.median))
	return nil
}

//go:embed cclient/client.c
var clientC string

// inTurns starts each command runs times, one after the other in rounds, and
// returns the wall times of each. The first tenth warms caches and is dropped.
func inTurns(runs int, commands ...[]string) ([][]time.Duration, error) {
	times := make([][]time.Duration, len(commands))
	for i := range runs + runs/10 {
		for c, args := range commands {
			cmd := exec.Command(args[0], args[1:]...)
			begin := time.Now()
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("running %s: %w", args[0], err)
			}
			if i >= runs/10 {
				times[c] = append(times[c], time.Since(begin))
			}
		}
	}
	return times, nil
}

// summary describes one sample.
type summary struct{ mean, deviation, median time.Duration }

func summarise(sample []time.Duration) summary {
	var sum, squares float64
	for _, d := range sample {
		sum += float64(d)
	}
	mean := sum / float64(len(sample))
	for _, d := range sample {
		squares += (float64(d) - mean) * (float64(d) - mean)
	}
	sorted := slices.Sorted(slices.Values(sample))
	return summary{
		mean:      time.Duration(mean),
		deviation: time.Duration(math.Sqrt(squares / float64(len(sample)))),
		median:    sorted[len(sorted)/2],
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }
