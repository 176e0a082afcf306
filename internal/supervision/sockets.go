// Package supervision is the daemon's side of a service manager: the listening
// sockets that it hands over, and the signs of life that it waits for.
//
// It relies on what systemd documents (sd_listen_fds(3), sd_notify(3)) and
// knows nothing of credentials. Reading the variables is left to go-systemd,
// under cmd.
package supervision

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Sockets are the listening sockets that systemd has opened for us, by address.
// systemd keeps them open when we stop or die: who connects meanwhile waits in
// their queue.
type Sockets map[string]net.Listener

// Inherit makes listeners of files, each with a descriptor of its own: closing
// them leaves the files for the next life of the daemon.
func Inherit(files []*os.File, log *zap.Logger) Sockets {
	all := Sockets{}
	for _, f := range files {
		l, err := net.FileListener(f)
		if err != nil {
			log.Error("socket of systemd left alone", zap.String("socket", f.Name()), zap.Error(err))
			continue
		}
		all[l.Addr().String()] = l
	}
	return all
}

// Take returns the listener at address, which is the caller's from now on, or nil.
func (all Sockets) Take(address string) net.Listener {
	l, ok := all[address]
	if !ok {
		return nil
	}
	delete(all, address)
	return l
}

// Close closes what was not taken, for a start that fails.
func (all Sockets) Close() {
	for _, l := range all {
		l.Close()
	}
}

// TurnAway closes, until ctx ends, what connects to the sockets that were not
// taken: systemd would have it wait for ever.
func (all Sockets) TurnAway(ctx context.Context, log *zap.Logger) {
	var group sync.WaitGroup
	for address, l := range all {
		log.Warn("socket of systemd is not in the settings: its callers are turned away",
			zap.String("address", address), zap.String("remedy", "name this address in the settings, or change the socket unit (systemctl edit)"))
		group.Go(func() { turnAway(ctx, l) })
	}
	group.Wait()
}

func turnAway(ctx context.Context, l net.Listener) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			c.Close()
		case errors.Is(err, net.ErrClosed):
			return
		default:
			select { // out of descriptors, perhaps
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	}
}
