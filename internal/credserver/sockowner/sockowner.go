// Package sockowner says which user of this machine is at the other end of an
// accepted TCP connection.
//
// The answer is the kernel's: the owner of the one live local socket whose
// addresses are exactly those of the connection, with the destination that the
// caller dialled when packet rules redirected it to us. It needs no privilege.
// The owner is the user who created the socket; as with any descriptor,
// another process may use it later.
//
// A connection whose maker has closed it has no owner any more: the kernel
// would report uid 0 for it. So does it, when asked for a connection that it
// does not have, for whoever listens on that port. Neither is taken for an
// answer: see ErrNoOwner. A caller in another network namespace (a container
// behind a bridge) has no socket here and gets the same error.
//
// It relies on the kernel's sock_diag interface (sock_diag(7), an exact lookup,
// not a dump). Where that is missing, /proc/net/tcp and tcp6 are read for each
// question, which takes time in proportion to the machine's connections.
package sockowner

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNoOwner says that no live socket of this network namespace is the other
// end of the connection.
var ErrNoOwner = errors.New("no local socket is the other end of the connection")

// Finder answers questions about connections. Its methods may be called
// concurrently.
type Finder struct {
	proc string // directory of the tables to read instead, "" with netlink

	mu  sync.Mutex
	fd  int // netlink socket
	seq uint32
	buf [4096]byte
}

// Open returns a finder for connections accepted by l, which must be a TCP
// listener of this network namespace: it is what the kernel is tried with.
func Open(l net.Listener) (*Finder, error) {
	at, err := addrPort(l.Addr())
	if err != nil {
		return nil, fmt.Errorf("finding socket owners: %w", err)
	}
	f, err := openNetlink(at)
	if err == nil {
		return f, nil
	}
	f = &Finder{proc: "/proc/net", fd: -1}
	if _, err2 := f.read(socket{local: at}); err2 != nil && !errors.Is(err2, ErrNoOwner) {
		return nil, fmt.Errorf("finding socket owners: %w", errors.Join(err, err2))
	}
	return f, nil
}

// Close frees the finder.
func (f *Finder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd < 0 {
		return nil
	}
	fd := f.fd
	f.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// Of returns the uid at the other end of c, or ErrNoOwner, or why the kernel
// could not be asked.
func (f *Finder) Of(c *net.TCPConn) (uint32, error) {
	s, err := otherEnd(c)
	if err != nil {
		return 0, fmt.Errorf("finding a socket's owner: %w", err)
	}
	var e entry
	if f.proc != "" {
		e, err = f.read(s)
	} else {
		e, err = f.ask(s)
	}
	if err == nil && !e.owns(s) {
		err = ErrNoOwner
	}
	if err != nil {
		return 0, fmt.Errorf("finding a socket's owner: %w", err)
	}
	return e.uid, nil
}

// socket is a TCP socket by its addresses as its owner sees them. The
// addresses are never IPv4-mapped.
type socket struct{ local, remote netip.AddrPort }

// entry is what the kernel says about a socket.
type entry struct {
	socket
	state uint8
	uid   uint32
	inode uint32 // 0 when no process holds the socket
}

// owns reports whether e describes s itself and says whose it is. FIN_WAIT is a
// caller that has said all it wants and still listens.
func (e entry) owns(s socket) bool {
	live := e.state == unix.BPF_TCP_ESTABLISHED || e.state == unix.BPF_TCP_FIN_WAIT1 || e.state == unix.BPF_TCP_FIN_WAIT2
	return live && e.inode != 0 && e.socket == s
}

// otherEnd is the socket that was connected to c.
func otherEnd(c *net.TCPConn) (socket, error) {
	from, err := addrPort(c.RemoteAddr())
	if err != nil {
		return socket{}, err
	}
	to, err := addrPort(c.LocalAddr())
	if err != nil {
		return socket{}, err
	}
	if dialled, ok := dialled(c, to.Addr().Is4()); ok {
		to = dialled
	}
	return socket{local: from, remote: to}, nil
}

func addrPort(a net.Addr) (netip.AddrPort, error) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%v is not a TCP address", a)
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), nil
}

// dialled asks connection tracking where the caller meant to go; it has no
// answer when it does not track c.
func dialled(c *net.TCPConn, ip4 bool) (to netip.AddrPort, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return to, false
	}
	err = raw.Control(func(fd uintptr) {
		if ip4 {
			to, ok = originalIPv4(int(fd))
		} else {
			to, ok = originalIPv6(int(fd))
		}
	})
	return to, ok && err == nil
}

// Both options are SO_ORIGINAL_DST in the kernel's headers: number 80 at their
// level. GetsockoptIPv6Mreq and GetsockoptIPv6MTUInfo are the getters of x/sys
// whose buffers hold a sockaddr_in and a sockaddr_in6.
func originalIPv4(fd int) (netip.AddrPort, bool) {
	v, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, false
	}
	b := v.Multiaddr // family 2, port 2, address 4
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3])), true
}

func originalIPv6(fd int) (netip.AddrPort, bool) {
	v, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, false
	}
	port := v.Addr.Port // in network byte order, as laid down in memory
	b := [2]byte{}
	nativeEndian.PutUint16(b[:], port)
	return netip.AddrPortFrom(netip.AddrFrom16(v.Addr.Addr).Unmap(), uint16(b[0])<<8|uint16(b[1])), true
}
