package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

const (
	clients   = 100
	shortHour = 6 * time.Second // renewed every three
	between   = 100 * time.Millisecond

	warmUp   = 10 * time.Second
	coolDown = 10 * time.Second

	restTime  = shortHour // with a renewal or two
	restLooks = 30
	few       = 4 // a look of the guard, a connection that is just answered
)

// footprint is what a process holds on to.
type footprint struct {
	descriptors, goroutines int
	resident                float64 // MB
}

// soak lets faults come at random under many clients for d, and compares the
// daemon's footprint after with that before.
func soak(ctx context.Context, bin string, d time.Duration, seed uint64) (err error) {
	fmt.Printf("soak: seed %d\n", seed)
	r, err := trial{name: "soak", hour: shortHour, base: 2 * shortHour}.rig(ctx, bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.lab.Discard()) }()
	home := r.crowd.gather(ctx)
	var asked atomic.Int64
	ring, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	for range clients {
		group.Go(func() { r.keepAsking(ring, &asked) })
	}
	lab.Wait(ctx, warmUp)
	wake := r.crowd.suspend()
	before, err := r.rest(ctx)
	wake()
	if err == nil {
		err = r.chance(ctx, d, rand.New(rand.NewPCG(seed, 0)))
	}
	err = errors.Join(err, r.awaitWell(ctx))
	lab.Wait(ctx, coolDown) // what a fault has opened may close
	wake = r.crowd.suspend()
	after, err2 := r.rest(ctx)
	grown := after.descriptors > before.descriptors+few || after.goroutines > before.goroutines+few || after.resident > before.resident+4
	if grown && err2 == nil {
		err2 = r.confess(ctx)
	}
	wake()
	stop()
	group.Wait()
	home()
	var res result
	n, err3 := r.unattributed(ctx, &res)
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	t := r.crowd.tally
	fmt.Printf("soak: %s, %d requests: descriptors %d to %d, goroutines %d to %d, resident %.1f to %.1f MB\n",
		d, asked.Load()+int64(t.asked), before.descriptors, after.descriptors, before.goroutines, after.goroutines, before.resident, after.resident)
	fmt.Printf("soak: %d wrong, %d unattributed, %d failed while valid\n", t.wrong, n, t.failedValid)
	for _, w := range append(r.crowd.witness, res.witness...) {
		fmt.Println("witness:", w)
	}
	if grown {
		return errors.New("the daemon grows")
	}
	if t.wrong+n+t.failedValid > 0 {
		return errors.New("not as promised")
	}
	return nil
}

// chance does harm at random until d has passed, and mends it.
func (r *rig) chance(ctx context.Context, d time.Duration, rnd *rand.Rand) error {
	var faults []lab.Fault
	for _, service := range []string{"sts", "imds"} { // the crowd itself needs the others
		for _, f := range ways(service) {
			faults = append(faults, f)
		}
	}
	slices.SortFunc(faults, func(a, b lab.Fault) int { // a map has no order, and a seed is a promise
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		var err error
		switch rnd.IntN(6) {
		case 0:
			err = r.account.ChangeBaseSessions(ctx, []string{"rotate", "expire", "revoke"}[rnd.IntN(3)])
		case 1:
			err = unix.Kill(r.daemon.PID(), unix.SIGHUP)
		case 2:
			err = os.Remove(r.notebook.Socket())
		default:
			err = r.suffer(ctx, time.Duration(rnd.Int64N(int64(shortHour/3))), faults[rnd.IntN(len(faults))])
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		lab.Wait(ctx, time.Duration(rnd.Int64N(int64(3*time.Second))))
	}
	return nil
}

// keepAsking is an SDK that asks over the socket itself, on one connection and
// then another.
func (r *rig) keepAsking(ctx context.Context, asked *atomic.Int64) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", r.notebook.Socket())
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	for ; ctx.Err() == nil; lab.Wait(ctx, between) {
		r.crowd.awake.RLock()
		begun := time.Now()
		body, status, err := get(ctx, client, "http://nbidentityd/v1/credentials")
		r.crowd.awake.RUnlock()
		asked.Add(1)
		if err != nil || status != http.StatusOK {
			continue // the crowd judges failures
		}
		var a answer
		if err := json.Unmarshal(body, &a); err != nil || a.SecretAccessKey == "" || begun.After(a.Expiration) {
			r.crowd.wrong("over the socket: %d bytes, ends %s", len(body), a.Expiration)
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) (body []byte, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return body, resp.StatusCode, err
}

// rest is the least that the daemon holds on to while the crowd is suspended: what has been
// asked for before may still be ending, and a renewal be under way.
//
// It begins on a whole minute of the clock, when the daemon gives memory back: else
// one rest would see that and another not.
func (r *rig) rest(ctx context.Context) (least footprint, err error) {
	lab.Wait(ctx, time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)))
	for i := range restLooks {
		f, err := r.footprint(ctx)
		if err != nil {
			return f, err
		}
		if i == 0 {
			least = f
		}
		least.descriptors, least.goroutines = min(least.descriptors, f.descriptors), min(least.goroutines, f.goroutines)
		least.resident = min(least.resident, f.resident)
		lab.Wait(ctx, restTime/restLooks)
	}
	return least, nil
}

// footprint asks the daemon and the kernel.
func (r *rig) footprint(ctx context.Context) (f footprint, err error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.daemon.PID()))
	if err != nil {
		return f, err
	}
	f.descriptors = len(entries)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.daemon.PID()))
	if err != nil {
		return f, err
	}
	f.resident, err = value(string(status), "VmRSS:")
	f.resident /= 1024
	if err != nil {
		return f, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", r.notebook.Socket())
	}}}
	body, _, err := get(ctx, client, "http://nbidentityd/metrics")
	if err != nil {
		return f, err
	}
	goroutines, err := value(string(body), "nbidentityd_goroutines")
	f.goroutines = int(goroutines)
	return f, err
}

// arguments are those of a call in the Go runtime's print of a stack.
var arguments = regexp.MustCompile(`\([^()]*\)$`)

// confess ends the daemon by the signal at which the Go runtime prints every
// goroutine, and prints where most of them wait.
func (r *rig) confess(ctx context.Context) error {
	if err := unix.Kill(r.daemon.PID(), unix.SIGQUIT); err != nil {
		return err
	}
	select {
	case <-r.daemon.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	log, err := os.ReadFile(r.daemon.Log)
	if err != nil {
		return err
	}
	count := map[string]int{}
	for _, g := range strings.Split(string(log), "\n\n") {
		head, frames, _ := strings.Cut(g, "]:\n")
		if !strings.HasPrefix(head, "goroutine ") {
			continue
		}
		var where []string
		for line := range strings.Lines(frames) {
			if by, ok := strings.CutPrefix(line, "created by "); ok || !strings.HasPrefix(line, "\t") && len(where) < 6 {
				by, _, _ = strings.Cut(by, " in goroutine ")
				where = append(where, arguments.ReplaceAllString(strings.TrimSpace(by), ""))
			}
		}
		count[strings.Join(where, " < ")]++
	}
	for where, n := range count {
		if n > 1 {
			fmt.Printf("witness: %d goroutines at %s\n", n, where)
		}
	}
	return nil
}

// value finds the number behind a word at the beginning of a line.
func value(text, word string) (float64, error) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 2 && fields[0] == word {
			return strconv.ParseFloat(fields[1], 64)
		}
	}
	return 0, fmt.Errorf("no %s in %.80q", word, text)
}
