package gate

import (
	"net"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
)

// Nobody takes the place of another uid, however many connections or uids it
// commands.
func TestGateShares(t *testing.T) {
	g := New(nil, Config{Queues: NewQueues([]uint32{0, 1000}), Containers: false, Places: 100})
	g.cfg.Open = metrics.NewSet().NewGauge("open", nil)
	enter := func(uid uint32) (c, evicted *Conn) {
		ours, theirs := net.Pipe()
		theirs.Close()
		return g.admit(ours, caller.Caller{UID: uid})
	}

	for uid := range uint32(10_000) {
		c, _ := enter(2000 + uid)
		if c == nil || c.Allowed {
			t.Fatalf("foreign uid: %+v", c)
		}
	}
	if n := g.cfg.Open.Get(); n != foreignShare {
		t.Errorf("%v foreign connections", n)
	}

	const share = (100 - foreignShare) / 2
	mine := make([]*Conn, share)
	for i := range mine {
		var evicted *Conn
		if mine[i], evicted = enter(1000); mine[i] == nil || !mine[i].Allowed || evicted != nil {
			t.Fatalf("connection %d: %+v, evicted %v", i, mine[i], evicted)
		}
	}
	// The oldest that has not asked goes first.
	mine[0].Asked()
	if c, evicted := enter(1000); c == nil || evicted != mine[1] {
		t.Errorf("evicted %p, want %p", evicted, mine[1])
	}
	// Of the other uid, and of the foreign ones, nobody had to go.
	if n := len(g.shares[0].conns); n != 0 {
		t.Errorf("root has %d", n)
	}
	if c, evicted := enter(0); c == nil || evicted != nil {
		t.Error("no place for root")
	}
	// When all have asked, the newcomer has to wait.
	for _, c := range g.shares[1000].conns {
		c.Asked()
	}
	if c, _ := enter(1000); c != nil {
		t.Error("a place where there is none")
	}
	// A place is given back once.
	mine[0].Close()
	mine[0].Close()
	mine[1].Close() // was evicted
	if n := len(g.shares[1000].conns); n != share-1 {
		t.Errorf("%d places taken, want %d", n, share-1)
	}
	if c, evicted := enter(1000); c == nil || evicted != nil {
		t.Error("the place was not given back")
	}
	if got, want := g.cfg.Open.Get(), float64(foreignShare+1+share); got != want {
		t.Errorf("%v connections counted, want %v", got, want)
	}
}

// A kept connection is quiet again after its answer, behind those that came
// meanwhile, and makes room when nobody has been quiet for longer.
func TestGateKeptConnections(t *testing.T) {
	g := New(nil, Config{Queues: NewQueues([]uint32{1000}), Containers: false, Places: 0})
	enter := func() (c, evicted *Conn) {
		ours, theirs := net.Pipe()
		theirs.Close()
		return g.admit(ours, caller.Caller{UID: 1000})
	}
	conns := make([]*Conn, MinShare)
	for i := range conns {
		conns[i], _ = enter()
	}
	conns[0].Asked()
	conns[0].answered()
	conns[1].answered() // was refused: keeps its turn
	for _, want := range append(conns[1:], conns[0]) {
		if c, evicted := enter(); c == nil || evicted != want {
			t.Fatalf("evicted %p, want %p", evicted, want)
		}
	}
	conns[0].answered() // is gone
	g.DropIdle()
	if sh := g.shares[1000]; len(sh.conns) != 0 || sh.turns.open.Load() != 0 {
		t.Errorf("%d open, %d counted", len(sh.conns), sh.turns.open.Load())
	}
}

// Containers have a share of their own if they are allowed, else that of all
// strangers; hidden local callers never have the containers'.
func TestGateContainers(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		g := New(nil, Config{Queues: NewQueues([]uint32{0}), Containers: allowed, Places: 0})
		for _, tt := range []struct {
			who  caller.Caller
			want bool
		}{
			{caller.Caller{UID: caller.NoUID, Outside: true}, allowed},
			{caller.Caller{UID: caller.NoUID}, false},
			{caller.Caller{UID: 1000}, false},
			{caller.Caller{UID: 0}, true},
		} {
			ours, theirs := net.Pipe()
			theirs.Close()
			if c, _ := g.admit(ours, tt.who); c == nil || c.Allowed != tt.want {
				t.Errorf("containers %v, %+v: %+v", allowed, tt.who, c)
			}
		}
		g.DropIdle()
		if len(g.others.conns) != 0 || allowed && len(g.containers.conns) != 0 {
			t.Errorf("containers %v: places left taken", allowed)
		}
	}
}
