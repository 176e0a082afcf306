package gate

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
)

// crowdOf makes connections of uid 1000 and returns the first.
func crowdOf(t *testing.T, q *Queues, n int) (c *Conn, theirs net.Conn) {
	g := New(nil, Config{Queues: q, Containers: false, Places: 4096})
	for range n {
		ours, other := net.Pipe()
		t.Cleanup(func() { ours.Close(); other.Close() })
		made, evicted := g.admit(ours, caller.Caller{UID: 1000})
		if made == nil || evicted != nil {
			t.Fatal("no place")
		}
		if c == nil {
			c, theirs = made, other
		}
	}
	return c, theirs
}

// A user with few connections waits for nobody, one with more for his own
// others, one with a crowd of them longer; another user for none of these.
func TestTurns(t *testing.T) {
	for _, tt := range []struct {
		conns int
		waits bool          // for the one turn
		least time.Duration // before what was sent is looked at
	}{
		{1, false, 0}, {fewConns, false, 0}, {fewConns + 1, true, 0}, {crowdConns, true, 0}, {crowdConns + 1, true, crowdPause},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := NewQueues([]uint32{0, 1000})
			q.uids[1000].taken = make(chan struct{}, 1)
			c, theirs := crowdOf(t, q, tt.conns)
			begin := time.Now()
			read := make(chan struct{})
			q.uids[1000].taken <- struct{}{} // somebody else's
			go func() {
				c.Read(make([]byte, 1))
				close(read)
			}()
			theirs.Write([]byte("x"))
			synctest.Wait()
			select {
			case <-read:
				if tt.waits {
					t.Errorf("%d connections: read without a turn", tt.conns)
				}
			default:
				if !tt.waits {
					t.Errorf("%d connections: waits for a turn", tt.conns)
				}
			}
			<-q.uids[1000].taken
			<-read
			if took := time.Since(begin); took != tt.least {
				t.Errorf("%d connections: took %v, want %v", tt.conns, took, tt.least)
			}
			if held := c.turn.Load(); held != tt.waits || len(q.uids[1000].taken) != map[bool]int{true: 1}[held] {
				t.Errorf("%d connections: turn held: %v", tt.conns, held)
			}
			c.Close()
			if n := len(q.uids[1000].taken); n != 0 {
				t.Errorf("%d connections: closed with %d turns taken", tt.conns, n)
			}
		})
	}
}

// Waiting for more of a request ends the turn, and so does the answer: a caller
// who is slow holds up nobody.
func TestTurnEndsWithWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueues([]uint32{1000})
		c, theirs := crowdOf(t, q, fewConns+1)
		go theirs.Write([]byte("xy"))
		c.Read(make([]byte, 1))
		if !c.turn.Load() || c.quiet.Load() == 0 {
			t.Error("no turn after reading")
		}
		go c.Read(make([]byte, 1))
		synctest.Wait()
		go c.Read(make([]byte, 1)) // of what does not come
		synctest.Wait()
		if c.turn.Load() || len(q.uids[1000].taken) != 0 || c.quiet.Load() == 0 {
			t.Error("the turn outlasts the wait for more")
		}
		theirs.Write([]byte("z"))
		synctest.Wait()
		if !c.turn.Load() {
			t.Error("no turn after reading more")
		}
		c.EndTurn()
		if c.turn.Load() || len(q.uids[1000].taken) != 0 {
			t.Error("the turn outlasts its end")
		}
		go theirs.Write([]byte("z"))
		c.Read(make([]byte, 1))
		go theirs.Read(make([]byte, 1))
		c.Write([]byte("a"))
		if c.turn.Load() || len(q.uids[1000].taken) != 0 {
			t.Error("the turn outlasts the answer")
		}
		c.gate.DropIdle()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading on while the server stops: %v", err)
		}
		c.Close()
	})
}

// Callers who have left again before they were accepted cost no look at who
// they were, and hold up nobody; one who only says no more is not among them.
func TestLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := New(l, Config{Queues: NewQueues([]uint32{1000}), Containers: false, Places: 0})
	asked := 0
	g.cfg.Identify = func(net.Conn) (caller.Caller, error) { asked++; return caller.Caller{UID: 1000}, nil }
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	here, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	here.Write([]byte("x"))
	here.(*net.TCPConn).CloseWrite()
	nc, err := g.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	b := make([]byte, 2)
	if n, _ := nc.Read(b); n != 1 || b[0] != 'x' || asked != 1 {
		t.Errorf("read %q, %d callers looked at, want x and 1", b[:n], asked)
	}
}

// TestStoppingSaysNothing asks a server that is about to end. The client tries
// again when a connection ends without an answer, but not when it gets one.
func TestStoppingSaysNothing(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := New(l, Config{Queues: NewQueues([]uint32{1000}), Identify: func(net.Conn) (caller.Caller, error) { return caller.Caller{UID: 1000}, nil }})
	g.stopping.Store(true)
	srv := &http.Server{Handler: http.NotFoundHandler(), ConnContext: WithConn}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(g) }()
	nc, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	answer, _ := io.ReadAll(nc) // it may end with a reset
	if len(answer) != 0 {
		t.Errorf("answered %q", answer)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	<-served
}
