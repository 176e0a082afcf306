package sidecar

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/bridges"
	"github.com/nbidentityd/nbidentityd/internal/credserver"
	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
)

// serveContainers keeps our metadata service open on port of every bridge, to
// which the fence leads the containers, until ctx ends.
func (d *Daemon) serveContainers(ctx context.Context, port uint16) error {
	open := make(map[netip.Prefix]func()) // to close them
	defer func() {
		for _, shut := range open {
			shut()
		}
	}()
	return bridges.Watch(ctx, func(now []netip.Prefix) {
		for bridge, shut := range open {
			if !slices.Contains(now, bridge) {
				shut()
				delete(open, bridge)
			}
		}
		for _, bridge := range now {
			if open[bridge] != nil {
				continue
			}
			l, err := listener.TCP("tcp", net.JoinHostPort(bridge.Addr().String(), strconv.Itoa(int(port))))
			if err != nil { // perhaps not yet an address: it is listed again then
				d.Log.Warn("containers not served", zap.Stringer("bridge", bridge), zap.Error(err))
				continue
			}
			open[bridge] = d.serveBridge(ctx, l, bridge)
		}
	})
}

// serveBridge serves one bridge until the returned function is called, which
// waits for the end.
func (d *Daemon) serveBridge(ctx context.Context, l net.Listener, bridge netip.Prefix) (shut func()) {
	d.Log.Info("serving containers", zap.Stringer("bridge", bridge))
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := d.server.ServeIMDS(ctx, l, credserver.IMDSConfig{Metadata: d.instanceMetadata, Mark: d.mark, Containers: bridge})
		if err != nil {
			d.Log.Error("containers no longer served", zap.Stringer("bridge", bridge), zap.Error(err))
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
