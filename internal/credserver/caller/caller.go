// Package caller says who made a connection, by the kernel's word: over a unix
// socket by package peer, over TCP by package sockowner. Callers of another
// network namespace (containers) are known by their address alone.
package caller

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

// NoUID is nobody's: the kernel reserves it.
const NoUID = math.MaxUint32

// Caller is who made a connection.
type Caller struct {
	UID  uint32         // NoUID: not known
	PID  int32          // 0: not known
	Addr netip.AddrPort // of a caller over TCP
	// Outside says that the caller is not of this network namespace: a
	// container. Its UID is NoUID.
	Outside bool
}

// Fields are those of a log line. The pid and the program are for people: see
// package peer. The kernel does not tell them of a TCP connection, and finding
// them by every process's descriptors would cost more than the answer.
func (c Caller) Fields() []zap.Field {
	fields := make([]zap.Field, 0, 4) // and room for one of whoever asks
	if c.UID != NoUID {
		fields = append(fields, zap.Uint32("uid", c.UID))
	}
	if c.Addr.IsValid() {
		return append(fields, zap.String("peer", c.Addr.String()))
	}
	return append(fields, zap.Int32("pid", c.PID), zap.String("exe", peer.Exe(c.PID)))
}

// Bearer names the caller where a token is bound to it.
func (c Caller) Bearer() string {
	if c.Outside {
		return c.Addr.Addr().String()
	}
	return strconv.FormatUint(uint64(c.UID), 10)
}

// OnUnix returns the one who dialled nc, a connection of a unix socket.
func OnUnix(nc net.Conn) (Caller, error) {
	who, err := peer.Of(nc)
	return Caller{UID: who.UID, PID: who.PID}, err
}

// OnTCP returns the one who dialled nc. A caller whom the kernel cannot name is
// not an error: it has NoUID. It comes from outside if its address is one of the
// containers' network and none of ours.
func OnTCP(f *sockowner.Finder, nc net.Conn, containers netip.Prefix) (Caller, error) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return Caller{}, fmt.Errorf("finding the caller: a %T is not a TCP connection", nc)
	}
	remote := tc.RemoteAddr().(*net.TCPAddr).AddrPort()
	c := Caller{Addr: netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())}
	var err error
	c.UID, err = f.Of(tc)
	if errors.Is(err, sockowner.ErrNoOwner) {
		c.UID, err = NoUID, nil
		if containers.Contains(c.Addr.Addr()) {
			c.Outside, err = isOutside(c.Addr.Addr())
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
