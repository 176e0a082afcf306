package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab/bench/gauge"
)

// A client tries again, at growing intervals, as nbidentity does: for so long.
const (
	patience     = 3500 * time.Millisecond
	shortestRest = 2 * time.Millisecond
	longestRest  = 100 * time.Millisecond
)

// crowd is one load on one server.
type crowd struct {
	network, addr string
	request       []byte
	pid           int // of the server; 0: it is not measured
}

// outcome is what a crowd has met.
type outcome struct {
	times          []time.Duration // of those that were answered, sorted
	clients, again int             // again: told or made to try again, all tries together
	spent          time.Duration
	resident, own  int64 // of the server, at most
	descriptors    int
	failure        error // of the first client that was not answered
}

func (o *outcome) add(p outcome) {
	o.times = append(o.times, p.times...)
	slices.Sort(o.times)
	o.clients, o.again, o.spent = o.clients+p.clients, o.again+p.again, o.spent+p.spent
	o.resident, o.own, o.descriptors = max(o.resident, p.resident), max(o.own, p.own), max(o.descriptors, p.descriptors)
	if o.failure == nil {
		o.failure = p.failure
	}
}

func (o *outcome) at(q float64) time.Duration { return gauge.At(o.times, q) }

func (o *outcome) rate() float64 { return float64(len(o.times)) / o.spent.Seconds() }

func (o *outcome) unanswered() float64 {
	return 100 * float64(o.clients-len(o.times)) / float64(o.clients)
}

// meet lets n clients ask, evenly over a time; 0 is all at once.
func (c crowd) meet(ctx context.Context, n int, over time.Duration) outcome {
	o := outcome{clients: n}
	watched := c.watch(&o)
	var mu sync.Mutex
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-start
			if over > 0 {
				select {
				case <-ctx.Done():
				case <-time.After(over * time.Duration(i) / time.Duration(n)):
				}
			}
			begin, again := time.Now(), 0
			_, err := c.ask(ctx, begin.Add(patience), &again)
			took := time.Since(begin)
			mu.Lock()
			defer mu.Unlock()
			o.again += again
			if err == nil {
				o.times = append(o.times, took)
			} else if o.failure == nil {
				o.failure = err
			}
		})
	}
	begun := time.Now()
	close(start)
	group.Wait()
	o.spent = time.Since(begun)
	watched()
	slices.Sort(o.times)
	return o
}

// ask is one client; again counts its further tries.
func (c crowd) ask(ctx context.Context, deadline time.Time, again *int) ([]byte, error) {
	for rest := shortestRest; ; rest = min(2*rest, longestRest) {
		body, err := c.once(ctx, deadline)
		if err == nil || ctx.Err() != nil || time.Now().Add(rest).After(deadline) {
			return body, err
		}
		*again++
		time.Sleep(rest)
	}
}

func (c crowd) once(ctx context.Context, deadline time.Time) ([]byte, error) {
	d := net.Dialer{Deadline: deadline}
	nc, err := d.DialContext(ctx, c.network, c.addr)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	if err := nc.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := nc.Write(c.request); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(nc)
	if err != nil {
		return nil, err
	}
	head, body, _ := bytes.Cut(answer, []byte("\r\n\r\n"))
	status, _, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.HasSuffix(status, []byte(" 200 OK")) {
		return nil, fmt.Errorf("answered %.100q", status)
	}
	return body, nil
}

// watch samples what the server holds, until the returned function is called.
func (c crowd) watch(o *outcome) (stop func()) {
	if c.pid == 0 {
		return func() {}
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			if m, err := gauge.MemoryOf(c.pid); err == nil { // that it has ended shows elsewhere
				o.resident, o.own = max(o.resident, m.Resident), max(o.own, m.Own)
			}
			if n, err := gauge.Descriptors(c.pid); err == nil {
				o.descriptors = max(o.descriptors, n)
			}
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() {
		close(done)
		<-stopped
	}
}
