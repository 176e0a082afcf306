// Package installation puts nbidentityd's files where a machine's programs find
// them, and takes them away again without a trace.
//
// Install writes the users' ~/.aws/config (package configguard) and the files
// that tell kernels and terminals of the faces (package kernelenv). Uninstall
// undoes that and whatever a daemon has made while it ran, killed or not: locks
// on files, the packet rules, socket, lock file, tokens and state. Edits that a
// user has made in their configuration meanwhile stay.
//
// What was there before is known from the texts themselves and, for empty
// directories, from a ledger in the state directory, which is written before
// each of them is made. Without the ledger at worst an empty directory stays.
// A file of another's under one of our names is an error and is left alone.
//
// Uninstall ends a daemon that runs under the same settings, and holds its
// place meanwhile, so that none can start and write anew. It does not undo what
// a package manager has put there, nor what runs already: the environment of
// running kernels and terminals stays theirs until they end.
//
// It is longer than most because whatever it puts somewhere has its taking away
// beside it.
package installation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/kernelenv"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// Config says what is installed, for whom.
type Config struct {
	Settings settings.Settings
	Users    []notebookuser.User
	Notebook identity.Notebook // Uninstall does without
	// Root stands before the paths of the system's own directories. "" is the
	// machine itself, whose systemd is then told.
	Root string
	// RestartJupyter restarts a Jupyter of systemd's whose environment has
	// changed, without waiting for it. That ends its kernels.
	RestartJupyter bool
}

// Step is one thing that was done, or with Preview would be.
type Step struct {
	Object  string // a path, a unit, the packet rules
	What    string
	Details []string
}

func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", s.Object, s.What)
	for _, d := range s.Details {
		fmt.Fprintf(&b, "  %s\n", d)
	}
	return b.String()
}

// Install puts everything in place, and again after a change of the settings.
// It goes on after a failure and returns all of them. The steps are those up to
// then.
func Install(ctx context.Context, cfg Config) ([]Step, error) {
	w := &work{Config: cfg, uid: os.Geteuid()}
	err := w.install(ctx)
	return w.steps, err
}

// Preview says what Install and a daemon would change.
func Preview(cfg Config) ([]Step, error) {
	w := &work{Config: cfg, uid: os.Geteuid(), dry: true}
	err := w.install(context.Background())
	w.foresee()
	return w.steps, err
}

// work is one run of Install or Uninstall.
type work struct {
	Config
	uid    int // whose work it is: this process's own, but where one only looks
	dry    bool
	steps  []Step
	ledger ledger
}

func (w *work) note(object, what string, details ...string) {
	if w.dry && what != inOrder {
		what = "would be " + what
	}
	w.steps = append(w.steps, Step{object, what, details})
}

const inOrder = "in order"

func (w *work) install(ctx context.Context) error {
	if !w.dry {
		if err := w.openLedger(); err != nil {
			return err
		}
		if err := w.ledger.absent(filepath.Dir(w.Settings.Socket)); err != nil {
			return err
		}
	}
	var failed []error
	for _, u := range w.Users {
		do := blueprint.WriteConfig
		if w.dry {
			do = configguard.Preview
		}
		result, err := do(blueprint.GuardConfig(u, w.Settings, w.Notebook, zap.NewNop()))
		if err != nil {
			failed = append(failed, fmt.Errorf("user %s: %w", u.Name, err))
			continue
		}
		w.describe(result)
	}
	files, err := kernelenv.Plan(w.environment())
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	changed, err := w.place(files)
	return errors.Join(append(failed, err, w.tellSystemd(ctx, changed))...)
}

func (w *work) describe(r configguard.Result) {
	what := inOrder
	switch {
	case r.Removed:
		what = "removed"
	case r.Created && r.Changed:
		what = "created"
	case r.Changed:
		what = "changed"
	}
	var details []string
	for _, c := range r.Changes {
		details = append(details, c.String())
	}
	for _, s := range r.Shadows {
		details = append(details, "in the way: "+s.String())
	}
	for _, f := range r.Faults {
		details = append(details, "breaks some clients: "+f.String())
	}
	if r.Locked {
		details = append(details, "immutable, and so is its directory (chattr +i)")
		if len(r.Made) > 0 {
			details = append(details, "made for the user before, in the directory: "+strings.Join(r.Made, " "))
		}
	}
	w.note(r.Path, what, details...)
}

// environment is what kernels are to know.
func (w *work) environment() kernelenv.Config {
	c := kernelenv.Config{Studio: w.Notebook.Surface != identity.SurfaceNotebookInstance}
	c.IMDS, c.Container = blueprint.FaceURLs(w.Settings)
	for _, u := range w.Users {
		c.Users = append(c.Users, kernelenv.User{UID: uint32(u.UID), TokenFile: blueprint.TokenFile(w.Settings, u)})
	}
	if w.uid != 0 {
		if c.Home = w.ownHome(); c.Home == "" {
			c.Users = nil // whose files we could not write
		}
	}
	return c
}

// ownHome is the home of whose work it is, "" if that is nobody of the
// notebook's.
func (w *work) ownHome() string {
	for _, u := range w.Users {
		if u.UID == w.uid {
			return u.Home
		}
	}
	return ""
}

// paths lists every file that this process could have told kernels by.
func (w *work) paths() []string {
	var all []string
	for _, path := range kernelenv.Paths() {
		all = append(all, w.Root+path)
	}
	if home := w.ownHome(); home != "" {
		all = append(all, kernelenv.HomePath(home))
	}
	return all
}

// place writes the files, and removes what earlier settings have asked for and
// these do not. It reports whether anything changed.
func (w *work) place(files []kernelenv.File) (changed bool, err error) {
	var failed []error
	wanted := map[string]bool{}
	home := w.ownHome()
	for _, f := range files {
		path := f.Path
		if home == "" || path != kernelenv.HomePath(home) {
			path = w.Root + path
		} else {
			w.steps = append(w.steps, Step{w.Root + kernelenv.ProfilePath, "not written: that takes root, so terminals are not told of the daemon's faces", nil})
		}
		wanted[path] = true
		did, err := w.placeFile(path, f.Text)
		changed = changed || did
		failed = append(failed, err)
	}
	for _, path := range w.paths() {
		if !wanted[path] {
			did, err := w.removeFile(path)
			changed = changed || did
			failed = append(failed, err)
		}
	}
	return changed, errors.Join(failed...)
}

func (w *work) placeFile(path string, want []byte) (changed bool, err error) {
	dir, version, text, err := openOurs(path)
	if errors.Is(err, unix.ENOENT) && dir == nil {
		if w.dry {
			w.note(path, "created")
			return true, nil
		}
		if err := w.ledger.makeDirs(filepath.Dir(path), 0o755); err != nil {
			return false, err
		}
		dir, version, text, err = openOurs(path)
	}
	if dir != nil {
		defer dir.Close()
	}
	switch {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return false, err
	case string(text) == string(want) && version.Mode == 0o644:
		w.note(path, inOrder)
		return false, nil
	}
	what := "changed"
	if !version.Exists() {
		what = "created"
	}
	if !w.dry {
		owner := safefile.Owner{UID: os.Geteuid(), GID: os.Getegid(), Mode: 0o644}
		if _, err := dir.ReplaceAs(filepath.Base(path), version, owner, want); err != nil {
			return false, err
		}
	}
	w.note(path, what)
	return true, nil
}

func (w *work) removeFile(path string) (changed bool, err error) {
	dir, _, _, err := openOurs(path)
	if dir != nil {
		defer dir.Close()
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, errNotOurs) {
		return false, nil
	}
	if err == nil && !w.dry {
		err = dir.Remove(filepath.Base(path))
	}
	if errors.Is(err, unix.EACCES) && os.Geteuid() != 0 {
		w.steps = append(w.steps, Step{path, "left: root has written it, and it takes root to remove it", nil})
		return false, nil
	}
	if err != nil {
		return false, err
	}
	w.note(path, "removed")
	return true, nil
}

var errNotOurs = errors.New("nbidentityd has not written it")

// openOurs opens the directory of a file and reads the file, if it is ours.
func openOurs(path string) (*safefile.Dir, safefile.Version, []byte, error) {
	dir, err := safefile.Open(filepath.Dir(path), os.Geteuid(), os.Getegid())
	if err != nil {
		return nil, safefile.Version{}, nil, err
	}
	text, version, err := dir.Read(filepath.Base(path), 1<<16)
	if err == nil && !kernelenv.Ours(text) {
		err = fmt.Errorf("%s: %w: move it away", path, errNotOurs)
	}
	return dir, version, text, err
}
