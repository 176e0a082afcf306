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
	"net"
	"net/http"
	"net/netip"
	"os"
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
	limit := p.Limit
	if limit == 0 {
		limit = 2 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	fd, err := socketOf(p.UID, p.Addr.Addr())
	if err != nil {
		return "", "", fmt.Errorf("probing %s as uid %d: %w", p.Addr, p.UID, err)
	}
	if err := connect(ctx, fd, p.Addr); err != nil {
		unix.Close(fd)
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", "", fmt.Errorf("probing %s as uid %d: %w", p.Addr, p.UID, ctx.Err())
		}
		outcome = Unreachable
		for _, refusal := range []error{unix.ECONNREFUSED, unix.ECONNRESET, unix.EACCES, unix.EPERM} {
			if errors.Is(err, refusal) {
				outcome = Refused
			}
		}
		return outcome, err.Error(), nil
	}
	file := os.NewFile(uintptr(fd), "probe")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return "", "", fmt.Errorf("probing %s as uid %d: %w", p.Addr, p.UID, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	outcome, detail = p.ask(conn)
	return outcome, detail, nil
}

// ask takes every answer for the real service's that is not certainly ours. It
// asks for a session token, as every client does first: anything else would be
// refused without one, and leave a line in the log of refusals each minute.
func (p Probe) ask(conn net.Conn) (Outcome, string) {
	host := p.Addr.Addr().String()
	if p.Addr.Addr().Is6() {
		host = "[" + host + "]"
	}
	_, err := fmt.Fprintf(conn, "PUT /latest/api/token HTTP/1.1\r\nHost: %s\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", host)
	if err != nil {
		return afterConnecting(err)
	}
	const header = 16 << 10
	resp, err := http.ReadResponse(bufio.NewReader(&bounded{conn, header}), nil)
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

// bounded ends a stream after left bytes.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errors.New("the answer's header is too long")
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
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

func connect(ctx context.Context, fd int, to netip.AddrPort) error {
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if to.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	err := unix.Connect(fd, sa)
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Short, so that the end of ctx is noticed.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && code != 0 {
				err = unix.Errno(code)
			}
			return err
		}
	}
}
