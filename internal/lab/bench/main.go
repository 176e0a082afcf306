// Command bench measures what nbidentityd costs, with the real programs, and
// prints a line for each figure: name, value, unit, ratio and to what. What is
// compared is measured in the same run, in turns, so that a busy machine slows
// both alike.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

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
	nb, err := l.NewNotebook(account, lab.Notebook{
		Name: "bench", UID: os.Getuid(), IMDS: account.IMDS["alice-nb"],
		Metadata: `{"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/alice-nb", "ResourceName": "alice-nb"}`,
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
	hello := []string{l.Program("hello")}
	credentials := []string{l.Program("nbidentity"), "--socket", nb.Socket(), "credentials"}
	times, err := inTurns(runs, hello, credentials)
	if err != nil {
		return err
	}
	base, call := summarise(times[0]), summarise(times[1])
	fmt.Printf("bench: go-hello %.2f ms, 1.00x go-hello (median %.2f ms, deviation %.2f ms, %d starts)\n",
		ms(base.mean), ms(base.median), ms(base.deviation), runs)
	fmt.Printf("bench: credentials-call %.2f ms, %.2fx go-hello (median %.2f ms, %.2fx; deviation %.2f ms)\n",
		ms(call.mean), ratio(call.mean, base.mean), ms(call.median), ratio(call.median, base.median), ms(call.deviation))
	return nil
}

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
