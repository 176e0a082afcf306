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

// stopped is while the daemon hangs. Clients may hang with it: nothing else.
func (s *siege) stopped(ctx context.Context) error {
	if err := unix.Kill(s.daemon.PID(), unix.SIGSTOP); err != nil {
		return err
	}
	s.limit = 15 * time.Second
	all := []attempt{
		{name: "daemon stopped, IMDSv2, curl", script: `v2 $V4 | keys`, want: refused},
		{name: "daemon stopped, IMDSv1, curl", script: `v1 $V4 | keys`, want: refused},
		{name: "daemon stopped, IMDSv2 over IPv6, curl", script: `v2 $V6 | keys`, want: refused},
		{name: "daemon stopped, nbidentity by hand", script: `$NB --socket $SOCK credentials | keys`, want: refused},
		{name: "daemon stopped, no config, Go SDK", script: `env $NOBODY $WHO`, want: refused},
	}
	for _, c := range s.clients {
		if c.Quick {
			all = append(all, s.client(c, "daemon stopped", "", refused))
		}
	}
	err := s.each(ctx, all)
	s.limit = attemptLimit
	if err := errors.Join(err, unix.Kill(s.daemon.PID(), unix.SIGCONT)); err != nil {
		return err
	}
	// What a client asked for before it was killed may still be answered.
	lab.Wait(ctx, time.Second)
	return s.try(ctx, attempt{name: "daemon continued, Go SDK", script: `$WHO`, want: named})
}

// killed is after the daemon's sudden end: the fence must stand without it.
func (s *siege) killed(ctx context.Context) error {
	if err := unix.Kill(s.daemon.PID(), unix.SIGKILL); err != nil {
		return err
	}
	if err := s.daemon.Stop(); err != nil { // waits
		return err
	}
	all := []attempt{
		{name: "daemon killed, IMDSv2, curl", script: `v2 $V4 | keys`, want: refused},
		{name: "daemon killed, IMDSv1, curl", script: `v1 $V4 | keys`, want: refused},
		{name: "daemon killed, IMDSv2 over IPv6, curl", script: `v2 $V6 | keys`, want: refused},
		{name: "daemon killed, root of a user namespace", script: `unshare -Ur $RAID ask $V4 plain | keys`, want: refused},
		{name: "daemon killed, container behind a bridge", script: `v2 $V4 | keys`, want: refused, box: box},
		{name: "daemon killed, nbidentity by hand", script: `$NB --socket $SOCK credentials | keys`, want: refused},
		{name: "daemon killed, squat 127.0.0.1:938", script: `$RAID bind 127.0.0.1:938`, want: refused},
		{name: "daemon killed, squat [::1]:938", script: `$RAID bind [::1]:938`, want: refused},
		{name: "daemon killed, squat 127.0.0.1:937", script: `$RAID bind 127.0.0.1:937`, want: refused},
		{name: "daemon killed, squat the socket", script: `rm -f $SOCK; $RAID bind $SOCK`, want: refused},
		{name: "daemon killed, no config, Go SDK", script: `env $NOBODY $WHO`, want: refused},
		{name: "daemon killed, no config, boto3", script: `env $NOBODY $BOTO`, want: refused},
		{name: "daemon killed, profile that claims bob-nb, boto3", want: refused,
			script: `alone '[default]' 'credential_source = Ec2InstanceMetadata' 'role_session_name = bob-nb' "role_arn = $ROLE"; $BOTO`},
	}
	for _, c := range s.clients {
		all = append(all, s.client(c, "daemon killed", "", refused))
	}
	return s.each(ctx, all)
}

// again is after the daemon's return.
func (s *siege) again(ctx context.Context) error {
	if err := s.raise(ctx); err != nil {
		return err
	}
	for _, a := range []attempt{
		{name: "daemon back, Go SDK", script: `$WHO`, want: named},
		{name: "daemon back, IMDSv2, curl", script: `v2 $V4 | keys`, want: named},
		{name: "daemon back, token of its former life", script: `get -H "$T: $REPLAY" $FACE$R`, want: refused},
		{name: "daemon back, other's token of its former life", script: `get -H "Authorization: $STOLEN" $BOX | keys`, want: refused},
	} {
		if err := s.try(ctx, a); err != nil {
			return err
		}
	}
	return s.assured(ctx, "enforced", true)
}
