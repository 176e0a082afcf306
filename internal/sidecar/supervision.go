package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
	"github.com/nbidentityd/nbidentityd/internal/supervision"
)

// readyPatience is how long the start waits for the first credentials before it
// tells systemd that it is done, so that what is ordered after the daemon,
// Jupyter above all, finds them there, and no boot waits for an STS that is away.
const readyPatience = 15 * time.Second

// listenUnix takes the socket of the settings from systemd, or makes it. Either
// way the daemon's place is held as long as the listener lives.
func (d *Daemon) listenUnix(inherited supervision.Sockets) (net.Listener, error) {
	l := inherited.Take(d.Settings.Socket)
	if l == nil {
		return listener.Unix(d.Settings.Socket, socketMode)
	}
	place, err := listener.Hold(d.Settings.Socket)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("taking %s from systemd: %w", d.Settings.Socket, err), l.Close())
	}
	return &placed{Listener: l, place: place}, nil
}

// placed gives the daemon's place up with its listener.
type placed struct {
	net.Listener
	place *os.File
	once  sync.Once
	err   error
}

func (p *placed) Close() error {
	p.once.Do(func() { p.err = errors.Join(p.Listener.Close(), p.place.Close()) })
	return p.err
}

// tell keeps systemd informed.
func (d *Daemon) tell(ctx context.Context, group *errgroup.Group) {
	group.Go(func() error {
		d.announce(ctx)
		return nil
	})
	if d.Watchdog > 0 {
		w := supervision.Watchdog{Limit: d.Watchdog, Alive: d.alive, Notify: d.Notify, Log: d.Log}
		group.Go(func() error { return w.Run(ctx) })
	}
}

// announce tells systemd that the daemon is ready.
func (d *Daemon) announce(ctx context.Context) {
	patience := time.NewTimer(readyPatience)
	defer patience.Stop()
	select {
	case <-d.ready(ctx):
		d.Notify("READY=1")
		return
	case <-ctx.Done():
		return
	case <-patience.C:
	}
	d.Notify("STATUS=no credentials yet; nbidentity status says why")
	d.Notify("READY=1")
	select {
	case <-d.ready(ctx):
		d.Notify("STATUS=")
	case <-ctx.Done():
	}
}

// ready returns a channel that is closed when the first credentials are there, or
// ctx has ended.
func (d *Daemon) ready(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-d.sourced:
		case <-ctx.Done():
			return
		}
		select {
		case <-d.source.Ready():
		case <-ctx.Done():
		}
	}()
	return done
}

// alive asks the loop that renews the credentials for its turn, and the daemon
// through its own socket.
func (d *Daemon) alive(ctx context.Context) error {
	select {
	case <-d.sourced:
		if err := d.source.Alive(ctx); err != nil {
			return err
		}
	default: // the name is not known yet
	}
	return supervision.Answers(ctx, d.Settings.Socket)
}
