package credserver

import (
	"net"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

// Nobody takes the place of another uid, however many connections or uids it
// commands.
func TestGateShares(t *testing.T) {
	g := newGate(nil, newQueues([]uint32{0, 1000}), false, 100)
	g.open = metrics.NewSet().NewGauge("open", nil)
	enter := func(uid uint32) (c, evicted *conn) {
		ours, theirs := net.Pipe()
		theirs.Close()
		return g.admit(ours, caller{uid: uid})
	}

	for uid := range uint32(10_000) {
		c, _ := enter(2000 + uid)
		if c == nil || c.allowed {
			t.Fatalf("foreign uid: %+v", c)
		}
	}
	if n := g.open.Get(); n != foreignShare {
		t.Errorf("%v foreign connections", n)
	}

	const share = (100 - foreignShare) / 2
	mine := make([]*conn, share)
	for i := range mine {
		var evicted *conn
		if mine[i], evicted = enter(1000); mine[i] == nil || !mine[i].allowed || evicted != nil {
			t.Fatalf("connection %d: %+v, evicted %v", i, mine[i], evicted)
		}
	}
	// The oldest that has not asked goes first.
	mine[0].asked()
	if c, evicted := enter(1000); c == nil || evicted != mine[1] {
		t.Errorf("evicted %p, want %p", evicted, mine[1])
	}
	// Of the other uid, and of the foreign ones, nobody had to go.
	if n := g.shares[0].open; n != 0 {
		t.Errorf("root has %d", n)
	}
	if c, evicted := enter(0); c == nil || evicted != nil {
		t.Error("no place for root")
	}
	// When all have asked, the newcomer has to wait.
	for e := g.shares[1000].quiet.Front(); e != nil; e = g.shares[1000].quiet.Front() {
		e.Value.(*conn).asked()
	}
	if c, _ := enter(1000); c != nil {
		t.Error("a place where there is none")
	}
	// A place is given back once.
	mine[0].Close()
	mine[0].Close()
	mine[1].Close() // was evicted
	if n := g.shares[1000].open; n != share-1 {
		t.Errorf("%d places taken, want %d", n, share-1)
	}
	if c, evicted := enter(1000); c == nil || evicted != nil {
		t.Error("the place was not given back")
	}
	if got, want := g.open.Get(), float64(foreignShare+1+share); got != want {
		t.Errorf("%v connections counted, want %v", got, want)
	}
}

// A kept connection is quiet again after its answer, behind those that came
// meanwhile, and makes room when nobody has been quiet for longer.
func TestGateKeptConnections(t *testing.T) {
	g := newGate(nil, newQueues([]uint32{1000}), false, 0)
	enter := func() (c, evicted *conn) {
		ours, theirs := net.Pipe()
		theirs.Close()
		return g.admit(ours, caller{uid: 1000})
	}
	conns := make([]*conn, minShare)
	for i := range conns {
		conns[i], _ = enter()
	}
	conns[0].asked()
	conns[0].answered()
	conns[1].answered() // was refused: keeps its turn
	for _, want := range append(conns[1:], conns[0]) {
		if c, evicted := enter(); c == nil || evicted != want {
			t.Fatalf("evicted %p, want %p", evicted, want)
		}
	}
	conns[0].answered() // is gone
	if n := g.shares[1000].quiet.Len(); n != minShare {
		t.Errorf("%d quiet connections", n)
	}
	g.dropIdle()
	if sh := g.shares[1000]; sh.open != 0 || sh.quiet.Len() != 0 {
		t.Errorf("%d open, %d quiet", sh.open, sh.quiet.Len())
	}
}

// Containers have a share of their own if they are allowed, else that of all
// strangers; hidden local callers never have the containers'.
func TestGateContainers(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		g := newGate(nil, newQueues([]uint32{0}), allowed, 0)
		for _, tt := range []struct {
			who  caller
			want bool
		}{
			{caller{uid: noUID, outside: true}, allowed},
			{caller{uid: noUID}, false},
			{caller{uid: 1000}, false},
			{caller{uid: 0}, true},
		} {
			ours, theirs := net.Pipe()
			theirs.Close()
			if c, _ := g.admit(ours, tt.who); c == nil || c.allowed != tt.want {
				t.Errorf("containers %v, %+v: %+v", allowed, tt.who, c)
			}
		}
		g.dropIdle()
		if g.others.open != 0 || allowed && g.containers.open != 0 {
			t.Errorf("containers %v: places left taken", allowed)
		}
	}
}
