package supervision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Watchdog tells systemd that the daemon works, as long as it does.
type Watchdog struct {
	// Limit is what systemd allows between two signs. A third of it passes
	// between two questions, and a third may pass before the answer.
	Limit time.Duration
	// Alive returns nil when the daemon works, or after its context's end why
	// that is not known. Whatever fails only because AWS fails works.
	Alive  func(context.Context) error
	Notify func(state string)
	Log    *zap.Logger
}

// Run asks on whole periods of the clock (whole minutes under our unit), with
// the daemon's other looks: one wake-up. It returns nil when ctx ends.
func (w Watchdog) Run(ctx context.Context) error {
	every := w.Limit / 3
	for {
		now := time.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(now.Truncate(every).Add(every).Sub(now)):
		}
		limit, cancel := context.WithTimeout(ctx, every)
		err := w.Alive(limit)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			w.Log.Error("not alive; systemd is not told otherwise", zap.Error(err))
		default:
			w.Notify("WATCHDOG=1")
		}
	}
}

// Answers returns nil as soon as the daemon answers at socket. A queue that a
// flood has filled is tried again.
func Answers(ctx context.Context, socket string) error {
	var dialer net.Dialer
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}
	var last error
	for {
		err := ask(ctx, &client)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("asking ourselves at %s: %w", socket, errors.Join(ctx.Err(), last))
		case <-time.After(time.Second):
		}
	}
}

func ask(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nbidentityd/v1/status", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}
