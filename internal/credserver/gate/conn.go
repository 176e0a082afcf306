package gate

import (
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
)

// Conn is an accepted connection and the one who made it.
type Conn struct {
	net.Conn
	Caller  caller.Caller
	Allowed bool
	// Proof is the last token that its caller has shown to be good; "" if none.
	// It belongs to the goroutine that serves the connection.
	Proof string

	gate  *Gate
	share *share
	place int // in share.conns, -1 when it has left; guarded by gate.mu
	// quiet is 0 while it is being answered, else larger than that of every
	// connection that fell quiet before.
	quiet           atomic.Uint64
	readBy, writeBy deadline

	fields []zap.Field // see Fields

	answering bool        // since the end of a request's header; net/http's serving goroutine sets it
	turn      atomic.Bool // holds one of share.turns
}

// Fields are those of the caller, for a log line, and one more. They are found
// out once for a connection, by the goroutine that serves it.
func (c *Conn) Fields(one zap.Field) []zap.Field {
	if c.fields == nil {
		c.fields = append(c.Caller.Fields(), one)
	}
	return c.fields
}

// Asked says that c has sent a request worth an answer: it keeps its place
// until that is sent.
func (c *Conn) Asked() { c.quiet.Store(0) }

// answered says that c has its answer and may ask again.
func (c *Conn) answered() {
	if c.quiet.Load() == 0 { // else the request was refused and counts for nothing
		c.fallQuiet()
	}
}

func (c *Conn) fallQuiet() { c.quiet.Store(c.gate.quieted.Add(1)) }

// Changed is the http.Server.ConnState.
func (c *Conn) Changed(state http.ConnState) {
	switch state {
	case http.StateActive: // a whole header has been read
		c.answering = true
	case http.StateIdle:
		c.answering = false
		c.answered()
		c.EndTurn()
	}
}

// Close gives up the place and closes the connection.
func (c *Conn) Close() error {
	c.gate.mu.Lock()
	c.leaveLocked()
	c.gate.mu.Unlock()
	c.EndTurn()
	return c.Conn.Close()
}

func (c *Conn) leaveLocked() {
	if c.place < 0 {
		return
	}
	sh, last := c.share, len(c.share.conns)-1
	sh.conns[c.place] = sh.conns[last]
	sh.conns[c.place].place = c.place
	sh.conns[last] = nil
	sh.conns = sh.conns[:last]
	c.place = -1
	sh.turns.open.Add(-1)
	c.gate.count(-1)
	if c.gate.open--; c.gate.open == 0 {
		c.gate.unwatchLocked()
	}
}

// net/http sets up to six deadlines for a request. As timers of the runtime they
// would cost a tenth of what the answer costs; so they are only noted, and the
// gate looks at those of all connections twice a second, as long as there are
// any, and ends the reading and writing of those that are late.
const watchEvery = 500 * time.Millisecond

// deadline is one that is noted.
type deadline struct {
	by    atomic.Int64 // nanoseconds since gate.started; 0: none
	ended atomic.Bool  // the connection has one in the past
}

// cutOff ends what is late.
func (g *Gate) cutOff() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watching = false
	now := int64(time.Since(g.started))
	g.eachLocked(func(c *Conn) {
		if by := c.readBy.by.Load(); by != 0 && by < now {
			c.readBy.end(c.Conn.SetReadDeadline)
		}
		if by := c.writeBy.by.Load(); by != 0 && by < now {
			c.writeBy.end(c.Conn.SetWriteDeadline)
		}
		g.watchLocked()
	})
}

// watchLocked looks at the connections on the next whole half second of the
// clock, when the daemon's other gates do: one wake-up.
func (g *Gate) watchLocked() {
	if g.watching {
		return
	}
	g.watching = true
	now := time.Now()
	next := now.Truncate(watchEvery).Add(watchEvery).Sub(now)
	if g.watch == nil {
		g.watch = time.AfterFunc(next, g.cutOff)
		return
	}
	g.watch.Reset(next)
}

// unwatchLocked spares the wake-up: most connections have gone before it.
func (g *Gate) unwatchLocked() {
	g.watch.Stop()
	g.watching = false
}

// end makes what waits return a timeout. Who was done with it at this very
// moment was late, too.
func (d *deadline) end(set func(time.Time) error) error {
	d.ended.Store(true)
	return set(past)
}

var past = time.Unix(1, 0)

// note sets the deadline t. One in the past works at once: by it net/http calls
// back the goroutine that watches whether the caller goes away.
func (d *deadline) note(t, started time.Time, set func(time.Time) error) error {
	var by int64
	if !t.IsZero() {
		by = int64(t.Sub(started))
	}
	if by < 0 {
		d.by.Store(0)
		return d.end(set)
	}
	d.by.Store(by)
	if d.ended.Swap(false) {
		return set(time.Time{})
	}
	return nil
}

// SetReadDeadline notes the deadline.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.readBy.note(t, c.gate.started, c.Conn.SetReadDeadline)
}

// SetWriteDeadline notes the deadline.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.writeBy.note(t, c.gate.started, c.Conn.SetWriteDeadline)
}

// SetDeadline notes both.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
