package credserver

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/credserver/sockowner"
	"github.com/nbidentityd/nbidentityd/internal/peer"
)

// noUID is nobody's: the kernel reserves it.
const noUID = math.MaxUint32

// caller is who made a connection, by the kernel's word.
type caller struct {
	uid  uint32
	pid  int32          // 0: not known
	addr netip.AddrPort // of a caller over TCP
	// outside says that the caller is not of this network namespace: a
	// container. Its uid is noUID.
	outside bool
}

// fields are those of a log line. The pid and the program are for people: see
// package peer. The kernel does not tell them of a TCP connection, and finding
// them by every process's descriptors would cost more than the answer.
func (c caller) fields() []zap.Field {
	fields := make([]zap.Field, 0, 8)
	if c.uid != noUID {
		fields = append(fields, zap.Uint32("uid", c.uid))
	}
	if c.addr.IsValid() {
		return append(fields, zap.String("peer", c.addr.String()))
	}
	return append(fields, zap.Int32("pid", c.pid), zap.String("exe", peer.Exe(c.pid)))
}

// bearer names the caller where a token is bound to it.
func (c caller) bearer() string {
	if c.outside {
		return c.addr.Addr().String()
	}
	return strconv.FormatUint(uint64(c.uid), 10)
}

func unixCaller(nc net.Conn) (caller, error) {
	who, err := peer.Of(nc)
	return caller{uid: who.UID, pid: who.PID}, err
}

// tcpCaller returns the one who dialled nc. A caller whom the kernel cannot name
// is not an error: it has the uid noUID. It comes from outside if its address is
// one of the containers' network and none of ours.
func tcpCaller(f *sockowner.Finder, nc net.Conn, containers netip.Prefix) (caller, error) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return caller{}, fmt.Errorf("finding the caller: a %T is not a TCP connection", nc)
	}
	remote := tc.RemoteAddr().(*net.TCPAddr).AddrPort()
	c := caller{addr: netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())}
	var err error
	c.uid, err = f.Of(tc)
	if errors.Is(err, sockowner.ErrNoOwner) {
		c.uid, err = noUID, nil
		if containers.Contains(c.addr.Addr()) {
			c.outside, err = isOutside(c.addr.Addr())
		}
	}
	return c, err
}

// isOutside reports whether an address is none of this machine's. A local
// process that hides its socket (by closing it, or by binding it to a device)
// still comes from one of ours.
func isOutside(a netip.Addr) (bool, error) {
	if a.IsLoopback() {
		return false, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("finding the caller: %w", err)
	}
	for _, own := range addrs {
		if n, ok := own.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a.WithZone("") {
				return false, nil
			}
		}
	}
	return true, nil
}
