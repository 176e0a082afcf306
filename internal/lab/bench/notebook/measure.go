package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/bench/gauge"
)

// settle is until the daemon has done what starting or a busy time makes it do.
const settle = 10 * time.Second

// idle prints what a daemon costs that nobody asks anything.
func idle(ctx context.Context, n *notebook, watch time.Duration) error {
	lab.Wait(ctx, settle)
	bursts, switches, err := gauge.WakeUps(n.daemon.PID(), watch)
	if err != nil {
		return fmt.Errorf("counting the daemon's wake-ups: %w", err)
	}
	m, err := gauge.MemoryOf(n.daemon.PID())
	if err != nil {
		return fmt.Errorf("reading the daemon's memory: %w", err)
	}
	fmt.Printf("bench: memory-idle, %s: %.1f MB resident, %.1f MB proportional, %.1f MB of it not of files (at most %.1f MB since its start)\n",
		n.name, gauge.MB(m.Resident), gauge.MB(m.Proportional), gauge.MB(m.Own), gauge.MB(m.Peak))
	minutes := watch.Minutes()
	fmt.Printf("bench: wake-ups, %s: %.1f a minute (%.0f context switches a minute, watched for %s)\n",
		n.name, float64(bursts)/minutes, float64(switches)/minutes, watch)
	return nil
}

const (
	// dayHour is what an hour lasts in a day. The daemon waits a second at least
	// before it renews, and AWS cuts the end of a session to whole seconds.
	dayHour  = 2500 * time.Millisecond
	renewals = 47  // in a day of one-hour sessions
	requests = 200 // between two renewals, of kernels
	commands = 5   // and of aws and the like: a whole nbidentity each
)

// day prints what a day leaves behind.
func day(ctx context.Context, n *notebook, _ time.Duration) error {
	before, err := gauge.MemoryOf(n.daemon.PID())
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", n.Socket())
		}}}
	asked, sessions := 0, 0
	for sessions <= renewals {
		for i := range requests + commands {
			if i < requests {
				err = insist(ctx, client)
			} else {
				err = n.Command(ctx, nil, n.lab.Program("nbidentity"), "--socket", n.Socket(), "credentials").Run()
			}
			if err != nil {
				return fmt.Errorf("asking on a simulated day: %w", err)
			}
			asked++
		}
		had := sessions
		for sessions == had {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
			if sessions, err = n.sessions(ctx); err != nil {
				return err
			}
		}
	}
	loaded, err := gauge.MemoryOf(n.daemon.PID())
	if err != nil {
		return err
	}
	lab.Wait(ctx, settle)
	after, err := gauge.MemoryOf(n.daemon.PID())
	if err != nil {
		return err
	}
	fmt.Printf("bench: memory-day: %.1f MB resident, %.1f MB proportional, %.1f MB of it not of files, %s after a simulated day of %d renewals and %d requests (%.1f MB before it, %.1f MB at its end, at most %.1f MB)\n",
		gauge.MB(after.Resident), gauge.MB(after.Proportional), gauge.MB(after.Own), settle, sessions-1, asked, gauge.MB(before.Resident), gauge.MB(loaded.Resident), gauge.MB(after.Peak))
	return nil
}

// sessions counts how often AWS has given the daemon credentials.
func (n *notebook) sessions(ctx context.Context) (count int, err error) {
	records, err := n.account.Records(ctx, 0)
	for _, r := range records {
		if r.EventName == "AssumeRole" && r.ErrorCode == "" && r.UserIdentity.Type == "AssumedRole" {
			count++
		}
	}
	return count, err
}

// insist asks again, as clients do, when a machine that has stopped for a second
// lets a whole session end: here they are as short.
func insist(ctx context.Context, client *http.Client) error {
	for end := time.Now().Add(10 * time.Second); ; lab.Wait(ctx, 100*time.Millisecond) {
		if err := ask(ctx, client); err == nil || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
	}
}

func ask(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nbidentity/v1/credentials", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}
