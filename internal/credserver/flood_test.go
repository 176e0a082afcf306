package credserver

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// flood opens n connections to addr that send a little and no more. It goes on
// when the server closes some of them.
func flood(t *testing.T, addr string, n int, say string) (stop func()) {
	t.Helper()
	conns := make([]net.Conn, 0, n)
	for len(conns) < n {
		c, err := net.Dial("tcp", addr)
		if errors.Is(err, syscall.EMFILE) {
			t.Skipf("needs %d file descriptors: %v", 2*n, err)
		}
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, say)
		conns = append(conns, c)
	}
	return func() {
		for _, c := range conns {
			c.Close()
		}
	}
}

// Connections that say nothing, dribble a header or a body, or have been
// answered and keep quiet cost an honest client nothing, and little memory.
// NBIDENTITY_FLOOD is how many there are at a time.
func TestTCPFlood(t *testing.T) {
	n := 700
	if s := os.Getenv("NBIDENTITY_FLOOD"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, face := range tcpFaces {
		t.Run(face.name, func(t *testing.T) {
			r := face.start(t, Config{Credentials: &provider{value: good()}})
			before := heap()
			for _, say := range []string{
				"",
				"GET " + rolesPath + " HTTP/1.1\r\nX: ",
				"GET / HTTP/1.1\r\nHost: " + r.addr + "\r\n\r\n",
				"PUT " + tokenPath + " HTTP/1.1\r\nHost: " + r.addr + "\r\n" + ttlHeader + ": 60\r\n\r\n",
				"PUT " + tokenPath + " HTTP/1.1\r\nHost: " + r.addr + "\r\n" + ttlHeader + ": 60\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
			} {
				stop := flood(t, r.addr, n, say)
				worst, most := time.Duration(0), 0
				for range 20 {
					begin := time.Now()
					most = max(most, patiently(t, func() error {
						return face.ask(t, r, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}})
					}))
					worst = max(worst, time.Since(begin))
				}
				open := r.server.metrics.GetOrCreateGauge(`nbidentityd_connections{face="`+face.name+`"}`, nil).Get()
				if open > defaultMaxConns {
					t.Errorf("after %.50q: %v connections", say, open)
				}
				t.Logf("%d × %.30q: slowest of 20 honest exchanges %v, at the %d. time, %v connections kept, heap and stacks +%d KiB",
					n, say, worst.Round(time.Microsecond), most, open, (int64(heap())-int64(before))>>10)
				stop()
			}
		})
	}
}

// heap is what is in use, in bytes; the flood's own end of the connections is
// in it.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
