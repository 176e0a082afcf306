// Package configguard keeps one home's ~/.aws/config as the daemon needs it:
// Write puts the managed keys in, Undo takes them out, Preview tells what Write
// would do. Keeping watch is not its task yet.
//
// The text is awsconfig's business, the safe way to the file safefile's. This
// package decides what happens around them:
//
//   - A home that is missing, a link, or owned by neither the user nor root is
//     an error; nothing is created.
//   - A link, pipe or file where ~/.aws or its config should be is refused,
//     because people keep such links on purpose (to a disk that survives a
//     stop, or a shared one) and root must not follow them. With MoveAside it
//     is renamed within its directory, never deleted, and Undo renames it back.
//   - The undo is the text's own: awsconfig.Remove on what the file says then,
//     so that the user's later edits survive. StateDir only adds what the text
//     cannot hold: whether file and directory existed, and what was moved aside.
//     If that record is lost, Undo still gives the text back and at worst
//     leaves an empty file.
//   - The backup, a copy of the file before the first Write, is for people and
//     lies in StateDir, not beside the file: there the user could not be kept
//     from changing it, and root could not trust it. It has mode 0600 and may
//     hold the static keys that the file held; Undo deletes it.
//
// A home that several containers share is safe, since every write is whole and
// all write the same; but only the first one's record says what was there
// before, so Undo belongs where the first Write was made.
package configguard

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	dirName         = ".aws"
	fileName        = "config"
	credentialsName = "credentials"
	attempts        = 5
)

// Config says whose file is kept and what it must say.
type Config struct {
	Home     string // absolute; its parents are the administrator's
	UID, GID int    // owner of what is created
	Managed  awsconfig.Managed
	StateDir string // existing directory of the daemon's own; "" keeps no backup and no record
	// MoveAside renames a link or other object in the way instead of refusing.
	MoveAside bool
	Log       *zap.Logger
}

// Result is what a call did, or with Preview would do.
type Result struct {
	Path    string `json:"path"`
	Changed bool   `json:"changed"` // the file was written or removed
	Created bool   `json:"created,omitempty"`
	Removed bool   `json:"removed,omitempty"`
	// Changes lists all that separates the file from the user's own text,
	// with line numbers of the text that was found.
	Changes []awsconfig.Change `json:"changes,omitempty"`
	// Shadows are lines of ~/.aws/credentials that win over the file.
	Shadows []awsconfig.Finding `json:"shadows,omitempty"`
	Aside   []Aside             `json:"aside,omitempty"`
	Backup  string              `json:"backup,omitempty"`
}

// Aside is an object that was renamed because it stood in the way.
type Aside struct {
	Dir  string `json:"dir"` // "" is the home, else ".aws"
	Name string `json:"name"`
	Now  string `json:"now"`
}

// found is the state of the file at one moment. dir is nil if there is none.
type found struct {
	dir     *safefile.Dir
	text    []byte
	version safefile.Version
}

func (f found) close() {
	if f.dir != nil {
		_ = f.dir.Close() // read-only descriptor
	}
}

// Write makes the file say what cfg.Managed says. If it does already, nothing
// is written. An *awsconfig.SyntaxError means that a person must edit the file.
func Write(cfg Config) (Result, error) { return write(cfg, false) }

// Preview does what Write does up to the first change.
func Preview(cfg Config) (Result, error) { return write(cfg, true) }

func write(cfg Config, dry bool) (Result, error) {
	g, err := newGuard(cfg)
	if err != nil {
		return Result{}, err
	}
	defer g.close()
	for range attempts {
		result, err := g.write(dry)
		if !errors.Is(err, safefile.ErrChanged) {
			return result, err
		}
	}
	return Result{}, fmt.Errorf("writing %s: %w", g.path(), safefile.ErrContended)
}

type guard struct {
	Config
	home  *safefile.Dir
	aside []Aside
}

func newGuard(cfg Config) (*guard, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	home, err := safefile.Open(cfg.Home, cfg.UID, cfg.GID)
	if err != nil {
		return nil, fmt.Errorf("home directory of uid %d: %w", cfg.UID, err)
	}
	return &guard{Config: cfg, home: home}, nil
}

func (g *guard) close() { _ = g.home.Close() } // read-only descriptor

func (g *guard) path() string { return g.Home + "/" + dirName + "/" + fileName }

func (g *guard) write(dry bool) (Result, error) {
	result := Result{Path: g.path()}
	f, err := g.find(dry)
	if err != nil {
		return result, err
	}
	defer func() { f.close() }()
	edit, err := awsconfig.Plan(f.text, g.Managed)
	if err != nil {
		return result, fmt.Errorf("editing %s: %w", g.path(), err)
	}
	result.Changes = edit.Changes
	result.Shadows = g.shadows(f, edit.Text)
	result.Aside = g.aside
	result.Changed = !bytes.Equal(edit.Text, f.text)
	result.Created = !f.version.Exists()
	if dry || !result.Changed {
		return result, nil
	}
	if result.Backup, err = g.remember(f); err != nil {
		return result, err
	}
	if f.dir == nil {
		if f.dir, _, err = g.home.MakeSub(dirName); err != nil {
			return result, err
		}
	}
	if _, err := f.dir.Replace(fileName, f.version, edit.Text); err != nil {
		return result, err
	}
	g.Log.Info("aws config written", zap.String("path", g.path()), zap.Bool("created", result.Created),
		zap.Int("changes", len(result.Changes)), zap.Int("shadows", len(result.Shadows)))
	return result, nil
}

// find opens the directory and reads the file. What is in the way is moved
// aside, if that is allowed; a dry run only notes it.
func (g *guard) find(dry bool) (found, error) {
	dir, err := g.home.Sub(dirName)
	switch {
	case errors.Is(err, unix.ENOENT):
		return found{}, nil
	case errors.Is(err, safefile.ErrNotDirectory):
		return found{}, g.moveAside(g.home, "", dirName, err, dry)
	case err != nil:
		return found{}, err
	}
	f := found{dir: dir}
	f.text, f.version, err = dir.Read(fileName, awsconfig.MaxSize)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return f, nil
	case errors.Is(err, safefile.ErrNotRegular):
		err = g.moveAside(dir, dirName, fileName, err, dry)
	case errors.Is(err, safefile.ErrForeign):
		err = fmt.Errorf("%w: give it to uid %d by chown, or delete it", err, g.UID)
	}
	if err != nil {
		f.close()
		return found{}, err
	}
	return f, nil
}

// moveAside records first and renames then, so that a crash between the two
// leaves a record of something that is still in its place, which Undo passes
// over.
func (g *guard) moveAside(dir *safefile.Dir, where, name string, cause error, dry bool) error {
	if !g.MoveAside {
		return fmt.Errorf("%w: put a plain one in its place, or allow nbidentityd to move it aside", cause)
	}
	a := Aside{Dir: where, Name: name, Now: safefile.RandomName(name + ".before-nbidentityd-")}
	if !dry {
		if err := g.recordAside(a); err != nil {
			return err
		}
		if err := dir.Aside(name, a.Now); err != nil {
			return err
		}
		g.Log.Warn("moved aside what stood in the way", zap.String("dir", dir.Path()), zap.String("name", name), zap.String("now", a.Now))
	}
	g.aside = append(g.aside, a)
	return nil
}

func (g *guard) shadows(f found, config []byte) []awsconfig.Finding {
	if f.dir == nil {
		return nil
	}
	credentials, _, err := f.dir.Read(credentialsName, awsconfig.MaxSize)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return []awsconfig.Finding{{File: "credentials", Problem: err.Error(),
			Remedy: "make it a file of the user's own; what it holds may override credential_process"}}
	}
	return awsconfig.Shadows(config, credentials)
}
