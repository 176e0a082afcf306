// Package imdsprobe tries, as another user would, to reach the instance
// metadata service, and says what became of it.
//
// Packet filters ask under which uid a socket was made: the file-system uid of
// the thread that made it. So no process is started: one thread takes the
// user's file-system uid for as long as it takes to make a socket. A process
// under the user's uid could be stopped, traced and made to lie by that user;
// nobody but root can interfere with this thread. It needs CAP_SETUID.
//
// A probe finds what no look at the rules finds, such as a route or a
// translation set elsewhere. It does not find what depends on more than the
// uid of a socket: its cgroup, its network namespace, the protocol used.
package imdsprobe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Outcome is what became of a probe.
type Outcome string

const (
	Reached     Outcome = "reached"     // somebody answered who is not us
	Redirected  Outcome = "redirected"  // our own metadata service answered
	Refused     Outcome = "refused"     // the connection was refused or reset at once
	Unreachable Outcome = "unreachable" // nobody answered in time, or there is no way there: proves nothing
)

// ErrNotPermitted is the cause when the thread may not take the user's uid.
var ErrNotPermitted = errors.New("acting as another user needs CAP_SETUID")

// Probe is one attempt. The zero value of Limit means two seconds.
type Probe struct {
	UID   uint32
	Addr  netip.AddrPort // 169.254.169.254:80
	Limit time.Duration

	// MarkHeader and Mark are a header that our own metadata service sends
	// with every answer, with a value that nobody else can know before asking
	// it. Without them no answer counts as ours.
	MarkHeader, Mark string
}

// Run connects and asks. An error means that the attempt could not be made;
// every outcome of an attempt comes with a short detail for people.
func (p Probe) Run(ctx context.Context) (outcome Outcome, detail string, err error) {
	fail := func(err error) (Outcome, string, error) {
		return "", "", fmt.Errorf("probing %s as uid %d: %w", p.Addr, p.UID, err)
	}
	limit := p.Limit
	if limit == 0 {
		limit = 2 * time.Second
	}
	fd, err := socketOf(p.UID, p.Addr.Addr())
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	c := &connection{ctx: ctx, fd: fd, until: time.Now().Add(limit), left: maxHeader}
	if err := c.connect(p.Addr); err == nil {
		outcome, detail = p.ask(c)
	} else {
		outcome, detail = Unreachable, err.Error()
		for _, refusal := range []error{unix.ECONNREFUSED, unix.ECONNRESET, unix.EACCES, unix.EPERM} {
			if errors.Is(err, refusal) {
				outcome = Refused
			}
		}
	}
	if ctx.Err() != nil {
		return fail(ctx.Err()) // it cut the attempt short
	}
	return outcome, detail, nil
}

// ask takes every answer for the real service's that is not certainly ours. It
// asks for a session token, as every client does first: anything else would be
// refused without one, and leave a line in the log of refusals each minute.
func (p Probe) ask(conn io.ReadWriter) (Outcome, string) {
	host := p.Addr.Addr().String()
	if p.Addr.Addr().Is6() {
		host = "[" + host + "]"
	}
	_, err := fmt.Fprintf(conn, "PUT /latest/api/token HTTP/1.1\r\nHost: %s\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", host)
	if err != nil {
		return afterConnecting(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return afterConnecting(err)
	}
	resp.Body.Close()
	if p.MarkHeader != "" && p.Mark != "" && resp.Header.Get(p.MarkHeader) == p.Mark {
		return Redirected, resp.Status
	}
	return Reached, resp.Status
}

func afterConnecting(err error) (Outcome, string) {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return Refused, err.Error()
	}
	return Reached, "connected, but no answer: " + err.Error()
}

// socketOf returns a non-blocking TCP socket made under uid. The uid of the
// socket stays when the thread's own is back.
func socketOf(uid uint32, to netip.Addr) (int, error) {
	family := unix.AF_INET6
	if to.Is4() {
		family = unix.AF_INET
	}
	runtime.LockOSThread()
	before, err := setfsuid(uid)
	if err != nil {
		return 0, err // the thread is as it was
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if _, back := setfsuid(before); back != nil {
		// The thread stays locked and ends with its goroutine: it may not
		// serve another as the wrong user.
		if err == nil {
			unix.Close(fd)
		}
		return 0, fmt.Errorf("becoming ourselves again: %w", back)
	}
	runtime.UnlockOSThread()
	return fd, err
}

// setfsuid changes this thread's file-system uid. The system call reports no
// error; a second one, of an impossible uid, tells what stands.
func setfsuid(uid uint32) (before uint32, err error) {
	was, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
	is, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0)
	if uint32(is) != uid {
		return uint32(was), ErrNotPermitted
	}
	return uint32(was), nil
}
