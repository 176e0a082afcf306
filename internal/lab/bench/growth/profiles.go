package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/bench/gauge"
)

const (
	// The guard rests after a look a hundred times as long as that took.
	lookLimit = 30 * time.Second
	lookStep  = 20 * time.Millisecond
	leastLook = 100 * time.Microsecond // of processor time: less is not a look
)

// effort is how often each thing is done.
type effort struct{ clients, starts, looks, commands, fresh int }

// fresh is a process of boto3 that finds its credentials.
const fresh = `import boto3
assert boto3.Session().get_credentials().get_frozen_credentials().token`

// profiles prints what a configuration with many profiles costs, in multiples of
// one with a single profile.
func profiles(ctx context.Context, l *lab.Lab, account *lab.Account, times effort) error {
	var one costs
	for _, n := range []int{1, 10, 100, 1000} {
		c, err := measure(ctx, l, account, n, times)
		if err != nil {
			return fmt.Errorf("with %d profiles: %w", n, err)
		}
		if n == 1 {
			one = c
		}
		for _, f := range []struct {
			name      string
			took, one time.Duration
			what      string
		}{
			{"start", c.start, one.start, "the daemon's start to the first credentials"},
			{"look", c.look, one.look, "processor time of a look of the guard"},
			{"repair", c.repair, one.repair, "from the loss of our lines to their return"},
			{"profile add", c.add, one.add, "whole command"},
			{"install", c.install, one.install, "-dry-run, whole command"},
			{"boto3", c.boto, one.boto, fmt.Sprintf("fresh process, %.2fx the same file without nbidentityd", gauge.Ratio(c.boto, c.botoAlone))},
		} {
			if f.took == 0 {
				fmt.Printf("bench: profiles-%d %s: skipped: python3 cannot import boto3 (Debian: python3-boto3)\n", n, f.name)
				continue
			}
			against := "" // itself
			if n > 1 {
				against = fmt.Sprintf(", %.2fx one", gauge.Ratio(f.took, f.one))
			}
			fmt.Printf("bench: profiles-%d %s %.2f ms%s (%s)\n", n, f.name, gauge.MS(f.took), against, f.what)
		}
		fmt.Printf("bench: profiles-%d memory %.1f MB resident, %.1f MB not of files\n", n, gauge.MB(c.memory.Resident), gauge.MB(c.memory.Own))
	}
	return nil
}

// costs are medians.
type costs struct {
	start, look, repair, add, install time.Duration
	boto, botoAlone                   time.Duration // 0: there is none
	memory                            gauge.Memory
}

func measure(ctx context.Context, l *lab.Lab, account *lab.Account, n int, times effort) (c costs, err error) {
	nb, err := notebook(l, account, fmt.Sprintf("profiles-%d", n))
	if err != nil {
		return c, err
	}
	text := configuration(n)
	config := filepath.Join(nb.Home, ".aws", "config")
	if err := errors.Join(os.MkdirAll(filepath.Dir(config), 0o700), os.WriteFile(config, text, 0o600)); err != nil {
		return c, err
	}
	settings, err := nb.WriteSettings("nbidentityd")
	if err != nil {
		return c, err
	}
	dry, err := gauge.InTurns(times.commands, func() *exec.Cmd {
		return exec.CommandContext(ctx, l.Program("nbidentityd"), "install", "-dry-run", "-settings", settings)
	})
	if err != nil {
		return c, err
	}
	c.install = gauge.Summarise(dry[0]).Median

	var daemon *lab.Process
	var started []time.Duration
	for i := range times.starts {
		begun := time.Now()
		if daemon, err = nb.StartDaemon(ctx); err != nil {
			return c, err
		}
		started = append(started, time.Since(begun))
		if i < times.starts-1 {
			if err := daemon.Stop(); err != nil {
				return c, err
			}
		}
	}
	c.start = gauge.Summarise(started).Median
	if c.look, err = look(ctx, nb, daemon.PID(), times.looks); err != nil {
		return c, err
	}
	if c.memory, err = gauge.MemoryOf(daemon.PID()); err != nil {
		return c, err
	}
	if c.add, err = add(ctx, l, nb, times.commands); err != nil {
		return c, err
	}
	if err := boto(ctx, nb, text, times.fresh, &c); err != nil {
		return c, err
	}
	c.repair, err = repair(ctx, config, text)
	return c, errors.Join(err, daemon.Stop())
}

// configuration is a user's file of n profiles.
func configuration(n int) []byte {
	var b strings.Builder
	b.WriteString("[default]\nregion = eu-west-1\n")
	for i := range n {
		fmt.Fprintf(&b, "[profile p%d]\nregion = us-east-1\nrole_arn = arn:aws:iam::111122223333:role/p%d\nsource_profile = default\n", i, i)
	}
	return []byte(b.String())
}

// look is the processor time that the daemon takes when the user writes a file
// that concerns it, but for which nothing is to be done.
func look(ctx context.Context, nb *lab.Notebook, pid, times int) (time.Duration, error) {
	var took []time.Duration
	for range times {
		before, err := gauge.Processor(pid)
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(nb.Home, ".aws", "credentials"), nil, 0o600); err != nil {
			return 0, err
		}
		begun, last, quiet := time.Now(), before, 0
		for last-before < leastLook || quiet < 5 {
			if ctx.Err() != nil || time.Since(begun) > lookLimit {
				return 0, fmt.Errorf("the guard has not looked within %s", lookLimit)
			}
			time.Sleep(lookStep)
			now, err := gauge.Processor(pid)
			if err != nil {
				return 0, err
			}
			if quiet++; now != last {
				quiet = 0
			}
			last = now
		}
		took = append(took, last-before)
	}
	return gauge.Summarise(took).Median, nil
}

// add is a whole nbidentity profile add; each of them adds one.
func add(ctx context.Context, l *lab.Lab, nb *lab.Notebook, runs int) (time.Duration, error) {
	i := 0
	times, err := gauge.InTurns(runs, func() *exec.Cmd {
		i++
		return nb.Command(ctx, nil, l.Program("nbidentity"), "--socket", nb.Socket(), "profile", "add", fmt.Sprintf("added-%d", i), "region=us-west-2")
	})
	if err != nil {
		return 0, fmt.Errorf("nbidentity profile add: %w", err)
	}
	return gauge.Summarise(times[0]).Median, nil
}

// boto measures a fresh process with our configuration, and one with the user's
// own that has its credentials from the environment.
func boto(ctx context.Context, nb *lab.Notebook, own []byte, runs int, c *costs) error {
	if exec.CommandContext(ctx, "python3", "-c", "import boto3").Run() != nil {
		return nil
	}
	alone := filepath.Join(nb.Home, "config-without-nbidentityd")
	if err := os.WriteFile(alone, own, 0o600); err != nil {
		return err
	}
	env := []string{"AWS_CONFIG_FILE=" + alone, "AWS_ACCESS_KEY_ID=ASIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AWS_SESSION_TOKEN=example"}
	times, err := gauge.InTurns(runs,
		func() *exec.Cmd { return nb.Command(ctx, nil, "python3", "-c", fresh) },
		func() *exec.Cmd { return nb.Command(ctx, env, "python3", "-c", fresh) })
	if err != nil {
		return fmt.Errorf("boto3: %w", err)
	}
	c.boto, c.botoAlone = gauge.Summarise(times[0]).Median, gauge.Summarise(times[1]).Median
	return nil
}

// repair takes our lines out of the file, and waits until they are back.
func repair(ctx context.Context, config string, own []byte) (time.Duration, error) {
	ours, err := os.ReadFile(config)
	if err != nil {
		return 0, err
	}
	if bytes.Equal(ours, own) {
		return 0, fmt.Errorf("%s has none of our lines", config)
	}
	begun := time.Now()
	if err := os.WriteFile(config, own, 0o600); err != nil {
		return 0, err
	}
	for {
		now, err := os.ReadFile(config)
		if err != nil {
			return 0, err
		}
		if slices.Contains(strings.Fields(string(now)), "credential_process") {
			return time.Since(begun), nil
		}
		if ctx.Err() != nil || time.Since(begun) > lookLimit {
			return 0, fmt.Errorf("%s was not repaired within %s", config, lookLimit)
		}
		time.Sleep(time.Millisecond)
	}
}
