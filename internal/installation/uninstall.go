package installation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
	"github.com/nbidentityd/nbidentityd/internal/netfence"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// Uninstall undoes Install and what a daemon has made, whether that still runs,
// was stopped or killed. It is idempotent. After a failure it goes on as far as
// that is safe: the packet rules stay while a user's file could not be restored,
// and the records stay that another try needs.
func Uninstall(ctx context.Context, cfg Config) ([]Step, error) {
	w := &work{Config: cfg, uid: os.Geteuid()}
	err := w.uninstall(ctx)
	return w.steps, err
}

func (w *work) uninstall(ctx context.Context) error {
	if err := w.readLedger(); err != nil {
		return err
	}
	place, err := w.vacate(ctx)
	if err != nil {
		return err
	}
	if place != nil {
		defer place.Close() // after its name is gone
	}
	if err := w.restoreUsers(); err != nil {
		return err
	}
	if err := w.forgetEnvironment(ctx); err != nil {
		return err
	}
	// Last of what guards: as long as a file still points at us, it may stand.
	if w.Settings.Endpoints.IMDS == "" {
		if err := netfence.Remove(ctx); err != nil && !errors.Is(err, netfence.ErrNotPermitted) {
			return fmt.Errorf("taking the fence down: %w", err)
		}
	}
	return errors.Join(w.clearRuntime(), w.clearState())
}

func (w *work) restoreUsers() error {
	var failed []error
	for _, u := range w.Users {
		cfg := blueprint.GuardConfig(u, w.Settings, w.Notebook, zap.NewNop())
		if _, err := os.Lstat(cfg.StateDir); errors.Is(err, fs.ErrNotExist) {
			cfg.StateDir = "" // the text alone tells
		}
		result, err := configguard.Undo(cfg)
		if errors.Is(err, unix.ENOENT) {
			continue // no home: nothing of ours
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("user %s: %w", u.Name, err))
			continue
		}
		w.describe(result)
		for _, a := range result.Aside {
			w.note(filepath.Join(u.Home, a.Dir, a.Name), "in the way of what was moved aside to "+a.Now)
		}
	}
	return errors.Join(failed...)
}

func (w *work) forgetEnvironment(ctx context.Context) error {
	var changed bool
	var failed []error
	for _, path := range w.paths() {
		did, err := w.removeFile(path)
		changed = changed || did
		if dir, openErr := safefile.Open(filepath.Dir(path), os.Geteuid(), os.Getegid()); err == nil && openErr == nil {
			err = errors.Join(dir.Sweep(filepath.Base(path)), dir.Close())
		}
		failed = append(failed, err)
	}
	// Directories that hold something else by now stay.
	failed = append(failed, w.removeAbsent(func(dir string) bool { return !w.later(dir) }))
	return errors.Join(append(failed, w.tellSystemd(ctx, changed))...)
}

// later tells the directories that are cleared after the others.
func (w *work) later(dir string) bool {
	return within(w.Settings.StateDir, dir) || within(filepath.Dir(w.Settings.Socket), dir)
}

// within reports whether dir is path or a parent of it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// removeAbsent removes the empty ones of the directories that were not there.
func (w *work) removeAbsent(which func(dir string) bool) error {
	var failed []error
	for _, dir := range slices.Backward(w.ledger.Absent) {
		if which(dir) {
			failed = append(failed, w.removeEmpty(dir))
		}
	}
	return errors.Join(failed...)
}

func (w *work) removeEmpty(dir string) error {
	err := unix.Rmdir(dir)
	switch {
	case err == nil:
		w.note(dir, "removed")
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST), errors.Is(err, unix.EBUSY):
	default:
		return fmt.Errorf("removing %s: %w", dir, err)
	}
	return nil
}

// clearRuntime removes what lies beside the socket. The lock file goes last: who
// has it open and finds it gone must look again.
func (w *work) clearRuntime() error {
	dir := filepath.Dir(w.Settings.Socket)
	var failed []error
	tokens, err := filepath.Glob(filepath.Join(dir, "container-token-*"))
	if err != nil { // the pattern is bad: the directory's name holds a bracket
		failed = append(failed, err)
	}
	for _, path := range append(tokens, w.Settings.Socket) {
		failed = append(failed, w.removeLeft(path))
	}
	if err := os.Remove(listener.LockPath(w.Settings.Socket)); !errors.Is(err, fs.ErrNotExist) {
		failed = append(failed, err) // vacate may have made it, so it is no news
	}
	failed = append(failed, w.removeAbsent(func(d string) bool { return within(dir, d) && !within(w.Settings.StateDir, d) }))
	return errors.Join(failed...)
}

// clearState removes the memory of the daemon and our own, the ledger last.
func (w *work) clearState() error {
	state := w.Settings.StateDir
	before := len(w.steps)
	var failed []error
	for _, name := range []string{"discovery.json", "discovery.json.new"} {
		failed = append(failed, w.removeLeft(filepath.Join(state, name)))
	}
	for _, u := range w.Users {
		failed = append(failed, w.removeEmpty(blueprint.GuardConfig(u, w.Settings, w.Notebook, zap.NewNop()).StateDir))
	}
	failed = append(failed, w.removeEmpty(filepath.Join(state, "aws-config")))
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if w.ledger.version.Exists() {
		if err := w.removeLeft(filepath.Join(state, ledgerName)); err != nil {
			return err
		}
		return w.removeAbsent(func(d string) bool { return within(state, d) })
	}
	if len(w.steps) == before {
		return nil // nothing of ours lay there
	}
	return w.removeEmpty(state) // without install, by a daemon
}

func (w *work) removeLeft(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		w.note(path, "removed")
	}
	return err
}
