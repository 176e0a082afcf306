// Package bridges says at which addresses this machine's containers find it:
// those of its bridges (Linux's own, as Docker makes them), as they come and go.
//
// It needs no privilege. What has an address here and no container behind it, a
// bridge of virtual machines say, cannot be told apart and is listed as well.
// Containers that are attached otherwise (macvlan, a user's own network stack)
// come by no bridge.
package bridges

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// addresses lists the bridges' own addresses, each with the network of those
// behind it; link-local ones are left out.
func addresses() ([]netip.Prefix, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing bridges: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("listing bridges: %w", err)
	}
	defer unix.Close(fd)
	var all []netip.Prefix
	for _, link := range links {
		// A link that has gone meanwhile, or has no driver, is no bridge.
		driver, err := unix.IoctlGetEthtoolDrvinfo(fd, link.Name)
		if err != nil || unix.ByteSliceToString(driver.Driver[:]) != "bridge" {
			continue
		}
		addrs, err := link.Addrs()
		if err != nil {
			continue // gone, as above
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Addr().IsGlobalUnicast() && !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all, nil
}

// Watch calls changed with the bridges' addresses at once and after every
// change of an address of this machine, until ctx ends; then it returns nil.
// An address may be listed that cannot be used yet (IPv6 looks for its
// duplicates first): it is listed again when it can.
func Watch(ctx context.Context, changed func([]netip.Prefix)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("watching bridges: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "address events")
	defer socket.Close()
	groups := uint32(1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1))
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("watching bridges: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	defer stop()
	buf := make([]byte, 16<<10)
	for {
		now, err := addresses()
		if err != nil {
			return err
		}
		changed(now)
		// What has changed is not read: everything is listed anyway. A full
		// queue (ENOBUFS) lost events, so there were some.
		if _, err := socket.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watching bridges: %w", err)
		}
	}
}
