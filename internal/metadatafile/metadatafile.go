// Package metadatafile waits for the file that SageMaker puts on every notebook,
// which package identity reads.
package metadatafile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

const (
	// pollInterval is for what inotify does not tell: mounts over the
	// directory, and kernels that are out of watches.
	pollInterval = 2 * time.Second

	// settleTime bundles the events of one writer.
	settleTime = 20 * time.Millisecond
)

// CodeNoMetadata says that the metadata file did not appear, or stayed half-written.
const CodeNoMetadata = "no_metadata"

// Wait reads the metadata file, which SageMaker may write after the
// daemon has started: a missing, empty or half-written file is waited for, at
// most for limit. Its directories may appear late as well. Any other fault of the
// file is returned at once. After limit the error is an *awscause.Error with
// CodeNoMetadata.
func Wait(ctx context.Context, path string, limit time.Duration, log *zap.Logger) (identity.Notebook, error) {
	if log == nil {
		log = zap.NewNop()
	}
	return wait(ctx, path, limit, log, watchPath)
}

// watchFunc calls changed whenever the file at path may have changed, until ctx
// ends. It may return early with an error; then only polling is left.
type watchFunc func(ctx context.Context, path string, changed func()) error

func wait(ctx context.Context, path string, limit time.Duration, log *zap.Logger, watch watchFunc) (identity.Notebook, error) {
	nb, err := identity.ReadFile(path)
	if !unfinished(err) {
		return nb, err
	}
	if limit <= 0 {
		return identity.Notebook{}, gaveUp(path, limit, err)
	}
	log.Info("waiting for the metadata file", zap.String("path", path), zap.Duration("limit", limit), zap.NamedError("reason", err))

	changes := make(chan struct{}, 1)
	watching, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		err := watch(watching, path, func() {
			select {
			case changes <- struct{}{}:
			default:
			}
		})
		if err != nil && watching.Err() == nil {
			log.Warn("cannot watch for the metadata file, polling only", zap.String("path", path), zap.Error(err))
		}
	}()
	defer func() { stop(); <-stopped }()

	deadline, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case <-deadline.Done():
		case <-poll.C:
		case <-changes:
			select {
			case <-deadline.Done():
			case <-time.After(settleTime):
			}
		}
		nb, err := identity.ReadFile(path)
		switch {
		case !unfinished(err):
			return nb, err
		case ctx.Err() != nil:
			return identity.Notebook{}, fmt.Errorf("waiting for %s: %w", path, ctx.Err())
		case deadline.Err() != nil:
			return identity.Notebook{}, gaveUp(path, limit, err)
		}
	}
}

// unfinished reports whether the file may yet become good.
func unfinished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, identity.ErrIncomplete)
}

func gaveUp(path string, limit time.Duration, err error) *awscause.Error {
	return awscause.New(awscause.Cause{
		Code:    CodeNoMetadata,
		Problem: fmt.Sprintf("waited %s for the metadata file %s: %s", limit, path, err),
		Remedy:  "run nbidentityd on a SageMaker notebook instance or in a Studio app; notebook jobs and training jobs have no metadata file",
	}, err)
}

// watchPath watches the nearest existing directory above path and moves down as
// directories appear.
func watchPath(ctx context.Context, path string, changed func()) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching for %s: %w", path, err)
	}
	defer watcher.Close()
	for ctx.Err() == nil {
		dir := nearestDir(path)
		if !slices.Contains(watcher.WatchList(), dir) {
			for _, old := range watcher.WatchList() {
				watcher.Remove(old) // fails when the directory is gone, and the watch with it
			}
			err := watcher.Add(dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("watching %s: %w", dir, err)
			}
			changed() // what happened before the watch stood
			if err != nil || nearestDir(path) != dir {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Events:
			if !ok {
				return nil
			}
		case <-watcher.Errors: // an overflow: the events lost mean no more than changed
		}
		changed()
	}
	return nil
}

// nearestDir is the deepest directory above path that exists.
func nearestDir(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
	}
}
