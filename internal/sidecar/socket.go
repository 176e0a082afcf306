package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
)

// lastOnes is how long a socket that clients no longer find is still served: who
// connected before is then answered, or has given up.
const lastOnes = 5 * time.Second

// serveSocket serves on l until ctx ends or stop is called.
func (d *Daemon) serveSocket(ctx context.Context, group *errgroup.Group, l net.Listener) (stop context.CancelFunc) {
	ctx, stop = context.WithCancel(ctx)
	group.Go(func() error {
		defer stop()
		return d.server.Serve(ctx, l)
	})
	return stop
}

// keepSocket serves on a new socket when somebody removes the one that clients
// know, until ctx ends. Without its directory there is no place for one: that
// ends the daemon, and whoever starts it again makes the directory. stop ends the
// serving on l.
func (d *Daemon) keepSocket(ctx context.Context, group *errgroup.Group, l net.Listener, stop context.CancelFunc) error {
	dir := filepath.Dir(d.Settings.Socket)
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(dir)
	}
	if err != nil {
		d.Log.Warn("the socket is not watched", zap.Error(err))
		return nil
	}
	defer watcher.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watcher.Errors:
			d.Log.Warn("watching the socket", zap.Error(err)) // some event was lost: look
		case e := <-watcher.Events:
			if !e.Has(fsnotify.Remove) && !e.Has(fsnotify.Rename) {
				continue
			}
		}
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the socket's directory %s was removed: start nbidentityd again", dir)
		}
		again, err := listener.Again(l)
		if err != nil {
			return err
		}
		if again == nil {
			continue
		}
		d.Log.Warn("the socket was removed and has been made again", zap.String("socket", d.Settings.Socket))
		time.AfterFunc(lastOnes, stop)
		l, stop = again, d.serveSocket(ctx, group, again)
	}
}
