package imdsprobe

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxHeader = 16 << 10 // bytes of an answer's header

	// look is how often a wait looks whether ctx has ended.
	look = 50 * time.Millisecond
)

var errTooLong = errors.New("the answer's header is too long")

// connection is a socket of the probe's. It waits in poll(2), not by the
// runtime's deadlines: a timer of those that is stopped may wake an idle daemon
// all the same, when its time comes.
type connection struct {
	ctx   context.Context
	fd    int // non-blocking
	until time.Time
	left  int // bytes that may still be read
}

func (c *connection) connect(to netip.AddrPort) error {
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if to.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	err := unix.Connect(c.fd, sa)
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	if err := c.wait(unix.POLLOUT); err != nil {
		return err
	}
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// wait returns when one of the events, or an error of the socket, is there.
func (c *connection) wait(events int16) error {
	for {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(c.until) {
			return os.ErrDeadlineExceeded
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: events}}, int(look.Milliseconds()))
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Write is for what a fresh socket's buffer holds.
func (c *connection) Write(b []byte) (int, error) { return unix.Write(c.fd, b) }

func (c *connection) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, errTooLong
	}
	if err := c.wait(unix.POLLIN); err != nil {
		return 0, err
	}
	n, err := unix.Read(c.fd, b[:min(len(b), c.left)])
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	n = max(n, 0)
	c.left -= n
	return n, err
}
