package sockowner

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

var nativeEndian = binary.NativeEndian

// The kernel's structures (linux/netlink.h, linux/inet_diag.h), in bytes.
const (
	headerSize  = 16 // nlmsghdr: length 4, type 2, flags 2, sequence 4, port 4
	requestSize = 56 // inet_diag_req_v2
	answerSize  = 72 // inet_diag_msg
	idSize      = 48 // inet_diag_sockid, within both: ports 2+2, addresses 16+16, interface 4, cookie 8
)

// answerTimeout only matters if the kernel breaks its word: it answers an exact
// question before send returns.
var answerTimeout = unix.Timeval{Usec: 200_000}

// openNetlink fails when the kernel cannot tell the listener at that address.
func openNetlink(listener netip.AddrPort) (*Finder, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("opening sock_diag: %w", err)
	}
	f := &Finder{fd: fd}
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &answerTimeout)
	if err == nil {
		none := netip.IPv6Unspecified()
		if listener.Addr().Is4() {
			none = netip.IPv4Unspecified()
		}
		_, err = f.ask(socket{local: listener, remote: netip.AddrPortFrom(none, 0)})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("trying sock_diag: %w", err), f.Close())
	}
	return f, nil
}

// ask looks up one socket. The kernel may answer with another (a listener on
// the same port), or with one that has no owner any more.
func (f *Finder) ask(s socket) (entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	request := encode(s, f.seq)
	if err := retry(func() error { return unix.Sendto(f.fd, request[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) }); err != nil {
		return entry{}, fmt.Errorf("asking sock_diag: %w", err)
	}
	for {
		var n int
		var from unix.Sockaddr
		err := retry(func() (err error) { n, from, err = unix.Recvfrom(f.fd, f.buf[:], 0); return err })
		if err != nil {
			return entry{}, fmt.Errorf("reading sock_diag's answer: %w", err)
		}
		if k, ok := from.(*unix.SockaddrNetlink); !ok || k.Pid != 0 {
			continue // not the kernel
		}
		e, ours, err := decode(f.buf[:n], f.seq)
		if ours {
			return e, err
		}
	}
}

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func encode(s socket, seq uint32) [headerSize + requestSize]byte {
	var b [headerSize + requestSize]byte
	nativeEndian.PutUint32(b[0:], uint32(len(b)))
	nativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	nativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	nativeEndian.PutUint32(b[8:], seq)
	r := b[headerSize:]
	r[0] = unix.AF_INET6
	if s.local.Addr().Is4() {
		r[0] = unix.AF_INET
	}
	r[1] = unix.IPPROTO_TCP
	nativeEndian.PutUint32(r[4:], ^uint32(0)) // any state
	id := r[8 : 8+idSize]
	binary.BigEndian.PutUint16(id[0:], s.local.Port())
	binary.BigEndian.PutUint16(id[2:], s.remote.Port())
	copy(id[4:20], s.local.Addr().AsSlice())
	copy(id[20:36], s.remote.Addr().AsSlice())
	for i := range id[40:] {
		id[40+i] = 0xff // no cookie
	}
	return b
}

// decode reads one datagram; ours is false when it answers another question.
func decode(b []byte, seq uint32) (e entry, ours bool, err error) {
	if len(b) < headerSize || nativeEndian.Uint32(b[8:]) != seq {
		return e, false, nil
	}
	kind, body := nativeEndian.Uint16(b[4:]), b[headerSize:]
	switch {
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		errno := unix.Errno(-int32(nativeEndian.Uint32(body)))
		if errno == unix.ENOENT {
			return e, true, ErrNoOwner
		}
		return e, true, fmt.Errorf("sock_diag answered: %w", errno)
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < answerSize:
		return e, true, fmt.Errorf("sock_diag answered %d bytes of type %d", len(body), kind)
	}
	id := body[4 : 4+idSize]
	address := func(b []byte) netip.Addr {
		if body[0] == unix.AF_INET {
			return netip.AddrFrom4([4]byte(b))
		}
		return netip.AddrFrom16([16]byte(b)).Unmap() // mapped: an IPv6 socket that speaks IPv4
	}
	e.local = netip.AddrPortFrom(address(id[4:]), binary.BigEndian.Uint16(id[0:]))
	e.remote = netip.AddrPortFrom(address(id[20:]), binary.BigEndian.Uint16(id[2:]))
	e.state = body[1]
	e.uid = nativeEndian.Uint32(body[64:])
	e.inode = nativeEndian.Uint32(body[68:])
	return e, true, nil
}
