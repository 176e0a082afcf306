package gate

import (
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

// A user with few connections is answered as fast as the machine goes. One with
// more waits for a turn with each request, and one with a crowd of them for
// turns that are made longer, so that the daemon and the programs that flood it
// leave the processors to others.
//
// Without that, hundreds of connections put hundreds of requests before the one
// of somebody else: the runtime and the kernel run what can run in the order in
// which it became able to.
const (
	fewConns   = 16
	crowdConns = 64
	crowdPause = time.Millisecond // of each turn: about 1000 requests a second

	// crowdCredit bounds how much of the pauses that lasted too long, as they do on
	// a busy machine, is made good by later ones.
	crowdCredit = 20 * time.Millisecond
)

// turns are one user's on all faces together. Whoever waits for one gets it in
// the order of asking.
type turns struct {
	open  atomic.Int32  // connections
	taken chan struct{} // holds one token for each turn

	credit atomic.Int64 // nanoseconds that a crowd has waited too long
}

// Queues are the turns of everybody on all gates: the allowed uids, the
// containers together, and all others together.
type Queues struct {
	uids               map[uint32]*turns
	containers, others *turns
}

// NewQueues makes a queue for each of the allowed uids, and for the others.
func NewQueues(uids []uint32) *Queues {
	// Half of the processors are enough to keep a flood answered.
	queue := func() *turns { return &turns{taken: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))} }
	q := &Queues{uids: make(map[uint32]*turns, len(uids)), containers: queue(), others: queue()}
	for _, uid := range uids {
		q.uids[uid] = queue()
	}
	return q
}

// Read reads what the caller has sent. A turn begins then and ends with the
// answer, or with waiting for more: a caller who is slow holds up nobody.
func (c *Conn) Read(b []byte) (int, error) {
	if c.answering { // net/http watches whether the caller goes away
		return c.Conn.Read(b)
	}
	c.EndTurn()
	if c.gate.stopping.Load() {
		// As a read of a closed connection: any other error net/http answers with
		// a 400 of its own, which a client takes for a fault and not for a restart.
		return 0, &net.OpError{Op: "read", Net: c.LocalAddr().Network(), Addr: c.LocalAddr(), Err: net.ErrClosed}
	}
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.takeTurn()
	}
	return n, err
}

// Write writes an answer, or its beginning. The turn ends here rather than with
// the connection, which net/http may keep for a while after refusing a body.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.EndTurn()
	return n, err
}

func (c *Conn) takeTurn() {
	t := c.share.turns
	if t.open.Load() <= fewConns {
		return
	}
	c.Asked() // newcomers do not drive it out of the queue
	by, begin := c.readBy.by.Swap(0), time.Now()
	t.taken <- struct{}{}
	c.turn.Store(true)
	if t.open.Load() > crowdConns {
		t.pause()
	}
	if by != 0 {
		c.readBy.by.Store(by + int64(time.Since(begin))) // it was not the caller who waited
	}
	c.answered() // not yet: whether it asks anything is to be seen
}

// pause makes a turn longer. Pauses last for crowdPause in the mean: when the
// sleep is long because the machine is busy, the crowd would otherwise be answered
// so slowly that most of it gives up, and comes again.
func (t *turns) pause() {
	want := crowdPause - time.Duration(t.credit.Swap(0))
	if want <= 0 {
		t.credit.Add(int64(-want))
		return
	}
	begun := time.Now()
	time.Sleep(want)
	t.credit.Add(int64(min(time.Since(begun)-want, crowdCredit)))
}

// EndTurn ends c's turn, if it has one.
func (c *Conn) EndTurn() {
	if c.turn.CompareAndSwap(true, false) {
		<-c.share.turns.taken
	}
}
