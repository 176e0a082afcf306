package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/bench/bareserver"
	"github.com/nbidentityd/nbidentityd/internal/lab/bench/gauge"
)

const (
	most  = 10_000
	spare = 500              // descriptors of our own, besides the clients'
	over  = 15 * time.Second // in which ten thousand clients come that do not come at once
)

// clients prints how long clients wait that all ask at once, and what the daemon
// takes for it. They are one user's, of whom the daemon answers some hundred
// connections and a thousand requests a second at most, so that others are answered,
// too: above that it tells them to come again.
func clients(ctx context.Context, l *lab.Lab, account *lab.Account, times effort) error {
	n, err := raise()
	if err != nil {
		return err
	}
	nb, err := notebook(l, account, "clients")
	if err != nil {
		return err
	}
	daemon, err := nb.StartDaemon(ctx)
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(filepath.Dir(nb.Socket()), fmt.Sprintf("container-token-%d", nb.UID)))
	if err != nil {
		return err
	}
	unixFace := crowd{"unix", nb.Socket(), request("/v1/credentials", "Accept: application/json"), daemon.PID()}
	container := crowd{"tcp4", fmt.Sprintf("127.0.0.1:%d", nb.ContainerPort), request("/v1/container-credentials", "Authorization: "+string(token)), daemon.PID()}
	return errors.Join(
		unixFace.grow(ctx, l, "unix", n, times.clients),
		container.grow(ctx, l, "container", n, times.clients),
		container.held(ctx, n), // on the socket a connection is for one question
		daemon.Stop())
}

// raise raises our own limit of open files as far as it goes, and returns how many
// clients that allows.
func raise() (clients int, err error) {
	const want = most + spare
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	if limit.Cur < want {
		raised := unix.Rlimit{Cur: want, Max: max(limit.Max, want)}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) != nil { // only root passes the hard limit
			raised = unix.Rlimit{Cur: min(want, limit.Max), Max: limit.Max}
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
				return 0, err
			}
		}
		limit = raised
	}
	clients = int(min(limit.Cur, want)) - spare
	if clients < most {
		fmt.Printf("bench: clients: %d at most: %d files may be open here\n", clients, limit.Cur)
	}
	return clients, nil
}

func request(path, header string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + strings.TrimSpace(header) + "\r\nConnection: close\r\n\r\n")
}

// grow prints a line for each number of clients.
func (c crowd) grow(ctx context.Context, l *lab.Lab, name string, limit, turns int) (err error) {
	body, err := c.ask(ctx, time.Now().Add(time.Minute), new(int)) // a crowd may just have gone
	if err != nil {
		return fmt.Errorf("face %s: %w", name, err)
	}
	server, err := bareserver.Start(ctx, l, "growth-"+name, body)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	bare := c
	bare.pid, bare.addr = 0, server.Socket
	if c.network != "unix" {
		bare.addr = server.Addr
	}
	for n := 1; n <= limit; n *= 10 {
		var ours, theirs outcome
		for range turns { // the other's in between
			theirs.add(bare.meet(ctx, n, 0))
			ours.add(c.meet(ctx, n, 0))
		}
		report(fmt.Sprintf("clients-%d at once, %s", n, name), ours, theirs)
	}
	if turns > 1 {
		report(fmt.Sprintf("clients-%d in %s, %s", limit, over, name), c.meet(ctx, limit, over), bare.meet(ctx, limit, over))
	}
	return ctx.Err()
}

func report(name string, ours, bare outcome) {
	if len(ours.times) == 0 || len(bare.times) == 0 {
		fmt.Printf("bench: %s: nobody was answered: %v; bare: %v\n", name, ours.failure, bare.failure)
		return
	}
	fmt.Printf("bench: %s: p50 %.2f ms, %.2fx bare (p99 %.1f ms, %.2fx; %.0f answers a second, %.2fx; unanswered after %s %.1f%%, bare %.1f%%; further tries a client %.1f, bare %.1f; the daemon at most %.1f MB resident, %.1f MB not of files, %d descriptors)\n",
		name, gauge.MS(ours.at(.5)), gauge.Ratio(ours.at(.5), bare.at(.5)), gauge.MS(ours.at(.99)), gauge.Ratio(ours.at(.99), bare.at(.99)),
		ours.rate(), ours.rate()/bare.rate(), patience, ours.unanswered(), bare.unanswered(),
		float64(ours.again)/float64(ours.clients), float64(bare.again)/float64(bare.clients),
		gauge.MB(ours.resident), gauge.MB(ours.own), ours.descriptors)
}

// single is one client, which may come again twice: a busy machine stops for seconds.
func (c crowd) single(ctx context.Context) (o outcome) {
	for range 3 {
		if o = c.meet(ctx, 1, 0); len(o.times) == 1 {
			break
		}
	}
	return o
}

// held opens n connections that ask nothing, and asks beside them.
func (c crowd) held(ctx context.Context, n int) error {
	alone := c.single(ctx)
	var open []net.Conn
	defer func() {
		for _, nc := range open {
			_ = nc.Close() // the daemon has closed most
		}
	}()
	for range n {
		nc, err := net.Dial(c.network, c.addr)
		if err != nil {
			return fmt.Errorf("holding connection %d: %w", len(open), err)
		}
		open = append(open, nc)
	}
	descriptors, err := gauge.Descriptors(c.pid)
	if err != nil {
		return err
	}
	beside := c.single(ctx)
	if len(alone.times)+len(beside.times) != 2 {
		return fmt.Errorf("beside %d open connections: %w, %w", n, alone.failure, beside.failure)
	}
	fmt.Printf("bench: connections-%d opened and silent: the daemon keeps %d descriptors; a client beside them is answered in %.1f ms, without them in %.1f ms\n",
		n, descriptors, gauge.MS(beside.times[0]), gauge.MS(alone.times[0]))
	return nil
}
