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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/bench/gauge"
)

func main() {
	bin := flag.String("bin", "bin", "`directory` of the built programs")
	runs := flag.Int("runs", 1000, "starts of each program; below 1000 the rest is done less often, too")
	flag.Parse()
	if err := run(context.Background(), *bin, *runs); err != nil {
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
	imdsPort, err := lab.FreePort()
	if err != nil {
		return err
	}
	containerPort := imdsPort
	for containerPort == imdsPort && err == nil {
		containerPort, err = lab.FreePort()
	}
	if err != nil {
		return err
	}
	nb, err := l.NewNotebook(account, lab.Notebook{
		Name: "bench", UID: os.Getuid(), IMDS: account.IMDS["alice-nb"], IMDSPort: imdsPort, ContainerPort: containerPort,
		Metadata: lab.Metadata,
	})
	if err != nil {
		return err
	}
	if _, err := nb.StartDaemon(ctx); err != nil {
		return err
	}
	spend, fresh := 500*time.Millisecond, 3
	if runs >= 1000 {
		spend, fresh = 1500*time.Millisecond, 7
	}
	if err := starts(ctx, l, nb, runs); err != nil {
		return err
	}
	if err := faces(ctx, l, nb, spend); err != nil {
		return err
	}
	return errors.Join(firstCredentials(ctx, l, account), boto(ctx, l, account, nb, fresh))
}

// starts compares a whole nbidentity credentials with the least that a Go and a
// C program do.
func starts(ctx context.Context, l *lab.Lab, nb *lab.Notebook, runs int) error {
	program := func(args ...string) func() *exec.Cmd {
		return func() *exec.Cmd { return exec.CommandContext(ctx, args[0], args[1:]...) }
	}
	commands := []func() *exec.Cmd{program(l.Program("hello")), program(l.Program("nbidentity"), "--socket", nb.Socket(), "credentials")}
	cc, lacking := exec.LookPath("cc")
	if lacking == nil {
		path := filepath.Join(l.Dir, "c-client")
		cmd := exec.CommandContext(ctx, cc, "-O2", "-x", "c", "-o", path, "-")
		cmd.Stdin = strings.NewReader(clientC)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("compiling the C client: %w\n%s", err, out)
		}
		commands = append(commands, program(path, nb.Socket()))
	}
	times, err := gauge.InTurns(runs, commands...)
	if err != nil {
		return err
	}
	base, call := gauge.Summarise(times[0]), gauge.Summarise(times[1])
	fmt.Printf("bench: go-hello %.2f ms, 1.00x go-hello (median %.2f ms, deviation %.2f ms, %d starts)\n",
		gauge.MS(base.Mean), gauge.MS(base.Median), gauge.MS(base.Deviation), runs)
	fmt.Printf("bench: credentials-call %.2f ms, %.2fx go-hello (median %.2f ms, %.2fx; deviation %.2f ms)\n",
		gauge.MS(call.Mean), gauge.Ratio(call.Mean, base.Mean), gauge.MS(call.Median), gauge.Ratio(call.Median, base.Median), gauge.MS(call.Deviation))
	if lacking != nil {
		fmt.Println("bench: credentials-call vs C: skipped: no C compiler (cc) is installed")
		return nil
	}
	c := gauge.Summarise(times[2])
	fmt.Printf("bench: c-client %.2f ms (median %.2f ms, deviation %.2f ms); credentials-call is %.2fx of it (medians %.2fx)\n",
		gauge.MS(c.Mean), gauge.MS(c.Median), gauge.MS(c.Deviation), gauge.Ratio(call.Mean, c.Mean), gauge.Ratio(call.Median, c.Median))
	return nil
}

//go:embed cclient/client.c
var clientC string
