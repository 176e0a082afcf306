package nft

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

// Watch sends on changed, which has room for one, whenever nf_tables change in
// this network namespace, ours or not, until stop is called. What changed is not
// read: the next look compares everything anyway.
func Watch(changed chan<- struct{}) (stop func(), err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("watching packet rules: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watching packet rules: %w", ruleset.Permitted(err))
	}
	socket := os.NewFile(uintptr(fd), "nf_tables events")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 16<<10)
		for {
			// A full queue (ENOBUFS) lost events, so there were some.
			if _, err := socket.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return func() {
		socket.Close()
		<-done
	}, nil
}
