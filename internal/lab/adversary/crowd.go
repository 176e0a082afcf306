package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/adversary/raid"
)

// crowd keeps the doors busy while another user fetches credentials. A fetch
// that fails is a failure of the run, and so are fetches that take five times as
// long as in quiet moments. These are measured in turns with the others, while
// the crowd stands still, so that whatever else the machine does meets both.
//
// A crowd also takes processors, which is not the daemon's doing: the last one
// does nothing else, and is there to compare with. Of ten thousand connections
// that come again as soon as they are dropped, another user must only be served:
// the kernel lets all who come to a door be accepted in their order.
func (s *siege) crowd(ctx context.Context) error {
	for _, c := range []struct {
		raid, name string
		judged     bool
	}{
		{"hold", "half-open, slow and oversized requests on every door", true},
		{"flood", "flood of requests on every door", true},
		{"throng", "10,000 connections that come again when they are dropped", false},
		{"spin", "processors kept busy, no door touched", false},
	} {
		cmd := s.user(ctx, userUID, nil, nil, s.lab.Program("adversary"), "-raid", c.raid, s.nb.Socket())
		if err := cmd.Start(); err != nil {
			return err
		}
		lab.Wait(ctx, time.Second) // let it fill
		err := s.try(ctx, attempt{name: c.name + ", own call meanwhile", script: `$WHO`})
		slowdown, fetched := s.slowdown(ctx, cmd.Process.Pid)
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait() // killed
		if err != nil {
			return err
		}
		if fetched != nil {
			s.fail(nil, "%s: another user was not served: %v", c.name, fetched)
			continue
		}
		slices.Sort(slowdown)
		middle := slowdown[len(slowdown)/2]
		fmt.Printf("    %s: p99 of another user's nbidentity credentials is %.1f× that of quiet moments (median of %d rounds of %d, %.1f to %.1f)\n",
			c.name, middle, rounds, raid.Samples, slowdown[0], slowdown[len(slowdown)-1])
		if held, err := peakMemory(s.daemon.PID()); err != nil || held > mostMemory {
			s.fail(nil, "%s: the daemon holds %d MB (%v), the most is %d", c.name, held>>20, err, mostMemory>>20)
		}
		if c.judged && middle >= mostSlowdown {
			s.fail(nil, "%s: another user's p99 must stay under %d× its quiet value", c.name, mostSlowdown)
		}
	}
	return nil
}

const (
	rounds       = 7
	mostSlowdown = 5
	mostMemory   = 64 << 20 // bytes
)

// peakMemory is the most that a process has had in memory, in bytes.
func peakMemory(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	words := strings.Fields(rest)
	if len(words) < 2 || words[1] != "kB" {
		return 0, errors.New("the kernel does not say how much memory the daemon has had")
	}
	kib, err := strconv.ParseInt(words[0], 10, 64)
	return kib << 10, err
}

// slowdown returns, for each round, the other user's p99 while the crowd of that
// process group runs, divided by the one while it stands still.
func (s *siege) slowdown(ctx context.Context, crowd int) (all []float64, err error) {
	for range rounds {
		if err := unix.Kill(-crowd, unix.SIGSTOP); err != nil {
			return nil, err
		}
		lab.Wait(ctx, 200*time.Millisecond)
		quiet, err := s.fetch(ctx)
		if err := errors.Join(err, unix.Kill(-crowd, unix.SIGCONT)); err != nil {
			return nil, err
		}
		lab.Wait(ctx, 200*time.Millisecond)
		busy, err := s.fetch(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, float64(busy)/float64(quiet))
	}
	return all, nil
}

// fetch measures the other user's p99.
func (s *siege) fetch(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*attemptLimit)
	defer cancel()
	cmd := s.user(ctx, otherUID, nil, nil, s.lab.Program("adversary"), "-raid", "measure", s.nb.Socket(), s.lab.Program("nbidentity"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return time.Duration(ns), err
}
