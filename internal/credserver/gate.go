package credserver

import (
	"container/list"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sys/unix"
)

const (
	minShare     = 16
	foreignShare = 16 // of all together that are not allowed
)

// gate is a listener that learns who connects and divides the places: each
// allowed uid has a share, so have the containers together if they are allowed,
// and all others. When a share is full its oldest quiet connection, one that has
// not asked yet or has had its answer, makes room; so whoever connects and says
// nothing loses against whoever asks. When all of them are being answered, the
// newcomer is told to come again.
type gate struct {
	net.Listener
	identify func(net.Conn) (caller, error)
	failed   func(error)    // told why a caller could not be identified; nil: nobody is
	open     *metrics.Gauge // nil: not counted
	stopping atomic.Bool

	mu         sync.Mutex
	shares     map[uint32]*share // by allowed uid
	containers *share            // nil: not allowed
	others     share
}

type share struct {
	limit int
	open  int
	quiet list.List // of *conn, oldest first
	turns *turns
}

// conn is an accepted connection and the one who made it.
type conn struct {
	net.Conn
	peer    caller
	allowed bool

	gate  *gate
	share *share
	quiet *list.Element // guarded by gate.mu; nil while it is being answered
	gone  bool          // guarded by gate.mu

	answering bool        // since the end of a request's header; net/http's serving goroutine sets it
	turn      atomic.Bool // holds one of share.turns
}

func newGate(l net.Listener, q *queues, containers bool, places int) *gate {
	g := &gate{Listener: l, shares: make(map[uint32]*share, len(q.uids))}
	sharers := len(q.uids)
	if containers {
		sharers++
	}
	limit := max(minShare, (places-foreignShare)/sharers)
	for uid, turns := range q.uids {
		g.shares[uid] = &share{limit: limit, turns: turns}
	}
	if containers {
		g.containers = &share{limit: limit, turns: q.containers}
	}
	g.others = share{limit: foreignShare, turns: q.others}
	return g
}

// Accept returns the next connection that has a place.
func (g *gate) Accept() (net.Conn, error) {
	for {
		nc, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if left(nc) {
			nc.Close()
			continue
		}
		who, err := g.identify(nc)
		if err != nil {
			nc.Close() // without a caller there is nobody to answer or to name
			if g.failed != nil {
				g.failed(err)
			}
			continue
		}
		c, evicted := g.admit(nc, who)
		if evicted != nil {
			evicted.Conn.Close()
		}
		if c != nil {
			return c, nil
		}
		// A fresh socket's buffer holds this much: the write cannot block. Over
		// TCP the caller may see a reset instead, which it takes for the same.
		io.WriteString(nc, busyAnswer)
		nc.Close()
	}
}

// left reports whether the caller has gone again without a word. Connecting
// and leaving is the cheapest thing that a flood can do, so it must be cheap
// here: who comes after has to wait until all of these have been accepted.
func left(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	said := -1
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		if n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); err == nil {
			said = n
		}
	})
	return err == nil && said == 0
}

// admit gives nc a place, if need be that of another connection, which the
// caller must close. It returns nil when there is none.
func (g *gate) admit(nc net.Conn, who caller) (c, evicted *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	sh := g.shares[who.uid]
	if who.outside {
		sh = g.containers
	}
	allowed := sh != nil
	if !allowed {
		sh = &g.others
	}
	if sh.open >= sh.limit {
		oldest := sh.quiet.Front()
		if oldest == nil {
			return nil, nil
		}
		evicted = oldest.Value.(*conn)
		evicted.leaveLocked()
	}
	c = &conn{Conn: nc, peer: who, allowed: allowed, gate: g, share: sh}
	c.quiet = sh.quiet.PushBack(c)
	sh.open++
	sh.turns.open.Add(1)
	g.count(1)
	return c, evicted
}

// dropIdle closes every quiet connection, now and whenever one falls quiet.
func (g *gate) dropIdle() {
	g.stopping.Store(true)
	g.mu.Lock()
	var idle []*conn
	for _, sh := range g.shares {
		idle = sh.takeQuiet(idle)
	}
	idle = g.others.takeQuiet(idle)
	if g.containers != nil {
		idle = g.containers.takeQuiet(idle)
	}
	for _, c := range idle {
		c.leaveLocked()
	}
	g.mu.Unlock()
	for _, c := range idle {
		c.Conn.Close()
	}
}

func (sh *share) takeQuiet(to []*conn) []*conn {
	for e := sh.quiet.Front(); e != nil; e = e.Next() {
		to = append(to, e.Value.(*conn))
	}
	return to
}

func (g *gate) count(delta float64) {
	if g.open != nil {
		g.open.Add(delta)
	}
}

// asked says that c has sent a request worth an answer: it keeps its place
// until that is sent.
func (c *conn) asked() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.quiet != nil {
		c.share.quiet.Remove(c.quiet)
		c.quiet = nil
	}
}

// answered says that c has its answer and may ask again.
func (c *conn) answered() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if !c.gone && c.quiet == nil { // not nil: the request was refused and counts for nothing
		c.quiet = c.share.quiet.PushBack(c)
	}
}

func (c *conn) leaveLocked() {
	if c.gone {
		return
	}
	c.gone = true
	if c.quiet != nil {
		c.share.quiet.Remove(c.quiet)
		c.quiet = nil
	}
	c.share.open--
	c.share.turns.open.Add(-1)
	c.gate.count(-1)
}

// Close gives up the place and closes the connection.
func (c *conn) Close() error {
	c.gate.mu.Lock()
	c.leaveLocked()
	c.gate.mu.Unlock()
	c.endTurn()
	return c.Conn.Close()
}

type connKey struct{}

// withConn is the http.Server.ConnContext that lets a handler find its conn.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// connOf returns the connection of a request's context, nil outside a gate.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}
