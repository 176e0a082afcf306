package credserver

import (
	"net"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

// Nobody takes the place of another uid, however many connections or uids it
// commands.
func TestGateShares(t *testing.T) {
	g := newGate(nil, []uint32{0, 1000}, false, 100)
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
