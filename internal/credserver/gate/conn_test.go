package gate

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
)

// Deadlines end reading and writing, half a second late at most; new ones take
// their place, and nothing is left to wake the machine once all connections are gone.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(nil, Config{Queues: NewQueues([]uint32{1000})})
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c, _ := g.admit(ours, caller.Caller{UID: 1000})
		b := make([]byte, 1)
		for _, tt := range []struct {
			name string
			set  func(time.Time) error
			do   func([]byte) (int, error)
		}{{"read", c.SetReadDeadline, c.Read}, {"write", c.SetWriteDeadline, c.Write}} {
			for range 2 { // the second replaces one that has passed
				begin := time.Now()
				tt.set(begin.Add(2 * time.Second))
				_, err := tt.do(b)
				if took := time.Since(begin); !errors.Is(err, os.ErrDeadlineExceeded) || took < 2*time.Second || took > 2*time.Second+watchEvery {
					t.Errorf("%s: %v after %v", tt.name, err, took)
				}
			}
			begin := time.Now()
			go func() {
				time.Sleep(time.Second)
				tt.set(past) // as net/http calls back a read
			}()
			tt.set(time.Time{})
			if _, err := tt.do(b); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Second {
				t.Errorf("%s: a deadline in the past: %v after %v", tt.name, err, time.Since(begin))
			}
			tt.set(time.Time{})
		}
		go func() {
			time.Sleep(time.Hour)
			theirs.Write(b)
		}()
		if n, err := c.Read(b); n != 1 || err != nil {
			t.Errorf("without a deadline: %d, %v", n, err)
		}
		c.Close()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.watching || g.watch.Stop() {
			t.Error("nobody is there, and somebody watches")
		}
	})
}

// Waiting for a turn does not count against the caller.
func TestTurnProlongsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueues([]uint32{1000})
		q.uids[1000].taken = make(chan struct{}, 1)
		c, theirs := crowdOf(t, q, fewConns+1)
		begin := time.Now()
		c.SetReadDeadline(begin.Add(2 * time.Second))
		q.uids[1000].taken <- struct{}{} // somebody else's, for a minute
		go theirs.Write([]byte("x"))
		go func() {
			time.Sleep(time.Minute)
			<-q.uids[1000].taken
		}()
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		_, err := c.Read(make([]byte, 1))
		if took := time.Since(begin) - time.Minute; !errors.Is(err, os.ErrDeadlineExceeded) || took < 2*time.Second || took > 2*time.Second+watchEvery {
			t.Errorf("the rest: %v after %v", err, took)
		}
		c.Close()
	})
}
