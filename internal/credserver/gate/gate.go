// Package gate lets the connections of a face in: it learns who connects,
// divides the places and the turns among the users, and cuts off who is slow.
//
// It guarantees that no user, with however many connections, takes the place of
// another or makes another's request wait behind its own; that reading and
// writing end at most half a second after the deadline that net/http has set; and
// that whoever connects and says nothing loses against whoever asks.
package gate

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
)

const (
	// MinShare is how many places each allowed user has at the least.
	MinShare     = 16
	foreignShare = 16 // of all together that are not allowed
)

// busy is the answer to those for whom there is no place: no request was read.
const busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 106\r\n" +
	"Cache-Control: no-store\r\nConnection: close\r\nNbidentity-Error: busy\r\nNbidentity-Message: too many requests at once\r\n\r\n" +
	`{"Code":"busy","Message":"too many requests at once","code":"busy","message":"too many requests at once"}` + "\n"

// Config says whom to let in.
type Config struct {
	Queues     *Queues
	Containers bool // have a share of their own; else they are strangers
	Places     int  // for all together
	Identify   func(net.Conn) (caller.Caller, error)
	Failed     func(error)    // told why a caller could not be identified; nil: nobody is
	Open       *metrics.Gauge // connections; nil: not counted
}

// Gate is a listener that learns who connects and divides the places: each
// allowed uid has a share, so have the containers together if they are allowed,
// and all others. When a share is full its oldest quiet connection, one that has
// not asked yet or has had its answer, makes room. When all of them are being
// answered, the newcomer is told to come again.
type Gate struct {
	net.Listener
	cfg      Config
	stopping atomic.Bool
	started  time.Time     // deadlines count from here
	quieted  atomic.Uint64 // how often a connection has fallen quiet

	mu         sync.Mutex
	shares     map[uint32]*share // by allowed uid
	containers *share            // nil: not allowed
	others     *share
	open       int         // connections that have a place
	watch      *time.Timer // nil before the first connection
	watching   bool        // watch is running
}

type share struct {
	limit int
	conns []*Conn
	turns *turns
}

// New puts a gate before l.
func New(l net.Listener, cfg Config) *Gate {
	g := &Gate{Listener: l, cfg: cfg, started: time.Now(), shares: make(map[uint32]*share, len(cfg.Queues.uids))}
	sharers := len(cfg.Queues.uids)
	if cfg.Containers {
		sharers++
	}
	limit := max(MinShare, (cfg.Places-foreignShare)/sharers)
	for uid, turns := range cfg.Queues.uids {
		g.shares[uid] = &share{limit: limit, turns: turns}
	}
	if cfg.Containers {
		g.containers = &share{limit: limit, turns: cfg.Queues.containers}
	}
	g.others = &share{limit: foreignShare, turns: cfg.Queues.others}
	return g
}

// Accept returns the next connection that has a place, a *Conn.
func (g *Gate) Accept() (net.Conn, error) {
	for {
		nc, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if left(nc) {
			nc.Close()
			continue
		}
		who, err := g.cfg.Identify(nc)
		if err != nil {
			nc.Close() // without a caller there is nobody to answer or to name
			if g.cfg.Failed != nil {
				g.cfg.Failed(err)
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
		io.WriteString(nc, busy)
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
func (g *Gate) admit(nc net.Conn, who caller.Caller) (c, evicted *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	sh := g.shares[who.UID]
	if who.Outside {
		sh = g.containers
	}
	allowed := sh != nil
	if !allowed {
		sh = g.others
	}
	if len(sh.conns) >= sh.limit {
		if evicted = sh.longestQuiet(); evicted == nil {
			return nil, nil
		}
		evicted.leaveLocked()
	}
	c = &Conn{Conn: nc, Caller: who, Allowed: allowed, gate: g, share: sh, place: len(sh.conns)}
	c.fallQuiet()
	sh.conns = append(sh.conns, c)
	sh.turns.open.Add(1)
	g.open++
	g.count(1)
	g.watchLocked()
	return c, evicted
}

// longestQuiet returns who makes room, nil when all of them are being answered.
func (sh *share) longestQuiet() (longest *Conn) {
	since := uint64(0)
	for _, c := range sh.conns {
		if q := c.quiet.Load(); q != 0 && (longest == nil || q < since) {
			longest, since = c, q
		}
	}
	return longest
}

// DropIdle closes every quiet connection, now and whenever one falls quiet.
func (g *Gate) DropIdle() {
	g.stopping.Store(true)
	var quiet []*Conn
	g.mu.Lock()
	g.eachLocked(func(c *Conn) {
		if c.quiet.Load() != 0 {
			quiet = append(quiet, c)
		}
	})
	for _, c := range quiet {
		c.leaveLocked()
	}
	g.mu.Unlock()
	for _, c := range quiet {
		c.Conn.Close()
	}
}

func (g *Gate) eachLocked(do func(*Conn)) {
	of := func(sh *share) {
		for _, c := range sh.conns {
			do(c)
		}
	}
	for _, sh := range g.shares {
		of(sh)
	}
	of(g.others)
	if g.containers != nil {
		of(g.containers)
	}
}

func (g *Gate) count(delta float64) {
	if g.cfg.Open != nil {
		g.cfg.Open.Add(delta)
	}
}

type connKey struct{}

// WithConn is the http.Server.ConnContext that lets a handler find its Conn.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnOf returns the connection of a request's context, nil outside a gate.
func ConnOf(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}
