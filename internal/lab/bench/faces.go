package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/bench/bareserver"
	"github.com/nbidentityd/nbidentityd/internal/lab/bench/gauge"
)

const faceTurn = 200 // requests, then it is the other's turn

// target is one question to one server.
type target struct {
	network, addr, path string
	header, value       string
}

// faces compares each face of the daemon with a bare net/http server that
// returns the same bytes to the same question. Both are programs of their own;
// they take turns, and each ratio is the median of those of the turns. spend is for
// each face and number of clients, the bare server's part included.
func faces(ctx context.Context, l *lab.Lab, nb *lab.Notebook, spend time.Duration) error {
	imds, container := fmt.Sprintf("127.0.0.1:%d", nb.IMDSPort), fmt.Sprintf("127.0.0.1:%d", nb.ContainerPort)
	token, err := os.ReadFile(filepath.Join(filepath.Dir(nb.Socket()), fmt.Sprintf("container-token-%d", nb.UID)))
	if err != nil {
		return err
	}
	const roles, tokenHeader = "/latest/meta-data/iam/security-credentials/", "X-aws-ec2-metadata-token"
	session, err := newAsker(target{"tcp", imds, "/latest/api/token", tokenHeader + "-ttl-seconds", "21600"}, 1, false).ask(ctx, http.MethodPut)
	if err != nil {
		return err
	}
	role, err := newAsker(target{"tcp", imds, roles, tokenHeader, string(session)}, 1, false).ask(ctx, http.MethodGet)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		keep []bool // connections
		target
	}{
		{"unix", []bool{false}, target{"unix", nb.Socket(), "/v1/credentials", "Accept", "application/json"}},
		{"container", []bool{true, false}, target{"tcp", container, "/v1/container-credentials", "Authorization", string(token)}},
		{"imds", []bool{true, false}, target{"tcp", imds, roles + string(role), tokenHeader, string(session)}},
	} {
		body, err := newAsker(f.target, 1, false).ask(ctx, http.MethodGet)
		if err != nil {
			return err
		}
		server, err := bareserver.Start(ctx, l, f.name, body)
		if err != nil {
			return err
		}
		bare := f.target
		if bare.addr = server.Addr; f.network == "unix" {
			bare.addr = server.Socket
		}
		for _, keep := range f.keep {
			for _, clients := range []int{1, 8, 64} {
				if err = compare(ctx, f.name, f.target, bare, clients, keep, spend); err != nil {
					break
				}
			}
		}
		if err := errors.Join(err, server.Stop()); err != nil {
			return err
		}
	}
	return nil
}

// compare prints one line.
func compare(ctx context.Context, name string, face, bare target, clients int, keep bool, spend time.Duration) error {
	ours, theirs := newAsker(face, clients, keep), newAsker(bare, clients, keep)
	defer ours.http.CloseIdleConnections()
	defer theirs.http.CloseIdleConnections()
	for _, a := range []*asker{ours, theirs} { // connections, caches
		if _, err := a.turn(ctx, faceTurn); err != nil {
			return err
		}
	}
	ours.times, theirs.times = nil, nil
	var p50, rps []float64
	for end := time.Now().Add(spend); time.Now().Before(end); {
		b, err := theirs.turn(ctx, faceTurn)
		if err != nil {
			return err
		}
		o, err := ours.turn(ctx, faceTurn)
		if err != nil {
			return err
		}
		p50, rps = append(p50, gauge.Ratio(o.median, b.median)), append(rps, float64(b.spent)/float64(o.spent))
	}
	kept := "new connections"
	if keep {
		kept = "kept connections"
	}
	slices.Sort(p50)
	slices.Sort(rps)
	o, b := ours.sorted(), theirs.sorted()
	fmt.Printf("bench: face %s, c=%d, %s: p50 %.3f ms, %.2fx bare (quartiles of %d turns %.2f to %.2f); p99 %.2f ms, %.2fx; p999 %.2f ms, %.2fx; %.2fx bare's rps (%.2f to %.2f)\n",
		name, clients, kept, gauge.MS(gauge.At(o, .5)), p50[len(p50)/2], len(p50), p50[len(p50)/4], p50[len(p50)*3/4],
		gauge.MS(gauge.At(o, .99)), gauge.Ratio(gauge.At(o, .99), gauge.At(b, .99)), gauge.MS(gauge.At(o, .999)), gauge.Ratio(gauge.At(o, .999), gauge.At(b, .999)),
		rps[len(rps)/2], rps[len(rps)/4], rps[len(rps)*3/4])
	return nil
}

// asker asks one question many times.
type asker struct {
	target
	clients int
	http    *http.Client

	mu    sync.Mutex
	times []time.Duration
}

func newAsker(t target, clients int, keep bool) *asker {
	return &asker{target: t, clients: clients, http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, t.network, t.addr)
		},
		DisableKeepAlives: !keep, MaxIdleConnsPerHost: clients, DisableCompression: true,
	}}}
}

func (a *asker) ask(ctx context.Context, method string) ([]byte, error) {
	host := a.addr
	if a.network == "unix" {
		host = "nbidentity"
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+a.path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(a.header, a.value)
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, a.path, resp.Status)
	}
	return body, err
}

// turned is what one turn took.
type turned struct{ spent, median time.Duration }

// turn asks n times, by all clients together.
func (a *asker) turn(ctx context.Context, n int) (turned, error) {
	var times []time.Duration
	var errs []error
	begin := time.Now()
	var all sync.WaitGroup
	for i := range a.clients {
		all.Go(func() {
			var mine []time.Duration
			var err error
			for range (n + i) / a.clients {
				begin := time.Now()
				if _, err = a.ask(ctx, http.MethodGet); err != nil {
					break
				}
				mine = append(mine, time.Since(begin))
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			times, errs = append(times, mine...), append(errs, err)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return turned{}, err
	}
	spent := time.Since(begin)
	a.times = append(a.times, times...)
	slices.Sort(times)
	return turned{spent, gauge.At(times, .5)}, nil
}

func (a *asker) sorted() []time.Duration { return slices.Sorted(slices.Values(a.times)) }
