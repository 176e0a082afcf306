// Package configguard keeps one home's ~/.aws/config as the daemon needs it:
// Write puts the managed keys in, Undo takes them out, Preview tells what Write
// would do, and a Guard keeps it so.
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
// The Guard has two ways. Where the kernel, the file system and the
// capabilities allow it, and Config.Lock asks for it, the file becomes root's,
// a fresh inode that the user could never open for writing, and gets the
// immutable flag together with its directory; the directories that AWS clients,
// Toolkit and Studio write into are made for the user before. Against a user
// without CAP_LINUX_IMMUTABLE that is protection: no edit, rename or link, no
// descriptor, mapping or user namespace gets round it. What the user loses:
// `aws configure` for profiles in this file (AddProfile does it for them; the
// credentials file stays theirs), tools that replace ~/.aws/credentials by
// rename, and new names directly in ~/.aws. A killed daemon leaves the lock;
// the next one, Release or Undo finds it, with or without the record. An
// immutable flag that somebody else has set is left alone and reported. A user
// who is at it already when the lock is first put on, by renaming ~/.aws in a
// loop, can keep it off while they race: State says so. Afterwards there is no
// moment to race for: profiles are changed in place, in the locked directory.
//
// Elsewhere the Guard watches, polls and repairs. That is repair, not
// protection: a hostile loop wins while it runs. It is recorded as one burst,
// the repairs pause for longer and longer, and the cost is bounded to a few per
// cent of a core. Not seen are AWS_CONFIG_FILE, AWS_PROFILE, HOME and keys in
// the environment, in either way; keys in ~/.aws/credentials [default], which
// most clients prefer, are reported and never edited.
//
// An edit that leaves every client with our command is no tampering, whatever
// else it changes. What replaces a file that was in order and cannot be edited
// (a link, a pipe, a text that the clients read differently) is renamed to
// config.put-away-by-nbidentityd, or aws.put-away-by-nbidentityd in the home,
// of which only the last is kept. Which process did it is not known: only
// fanotify tells, which needs CAP_SYS_ADMIN.
//
// The package is longer than most since a visit to a home must take up whatever
// another one, killed at any moment, has left half done: writing, locking and
// undoing know each other's steps. What need not know them is in packages below:
// memory remembers, awsdir prepares the directory, homewatch notices, tamper counts.
//
// A home that several containers share is safe, since every write is whole and
// all write the same; but only the first one's record says what was there
// before, so Undo belongs where the first Write was made.
package configguard

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/configguard/awsdir"
	"github.com/nbidentityd/nbidentityd/internal/configguard/memory"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

const attempts = 5

// Config says whose file is kept and what it must say.
type Config struct {
	Home     string // absolute; its parents are the administrator's
	UID, GID int    // owner of what is created
	Managed  awsconfig.Managed
	StateDir string // existing directory of the daemon's own; "" keeps no backup and no record
	// MoveAside renames a link or other object in the way instead of refusing.
	MoveAside bool
	// Lock makes file and directory immutable where the kernel allows it.
	Lock     bool
	Unlocked string // why Lock is not set, for State
	Log      *zap.Logger
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
	// Faults are lines of the user's own that break some client.
	Faults []awsconfig.Finding `json:"faults,omitempty"`
	Aside  []memory.Aside      `json:"aside,omitempty"`
	Backup string              `json:"backup,omitempty"`
	// Locked: file and directory are immutable. Made are the paths in the
	// directory that were made before, for its user.
	Locked bool     `json:"locked,omitempty"`
	Made   []string `json:"made,omitempty"`
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

// closed reports whether the user has taken their own right to read the file,
// without which their clients would go on to other credentials.
func (f found) closed(uid int) (bool, error) {
	if f.dir == nil {
		return false, nil
	}
	usable, err := f.dir.Usable()
	return err == nil && !usable || f.version.Exists() && f.version.UID == uid && uid != 0 && f.version.Mode&0o400 == 0, err
}

// Write makes the file say what cfg.Managed says. If it does already, nothing
// is written. An *awsconfig.SyntaxError means that a person must edit the file.
func Write(cfg Config) (Result, error) { return write(cfg, false) }

// Preview does what Write does up to the first change.
func Preview(cfg Config) (Result, error) { return write(cfg, true) }

func write(cfg Config, dry bool) (Result, error) {
	v, err := openVisit(cfg)
	if err != nil {
		return Result{}, err
	}
	defer v.close()
	var result Result
	err = v.retry(func() error {
		result, err = v.write(dry)
		return err
	})
	return result, err
}

// visit is one piece of work on one home.
type visit struct {
	Config
	home       *safefile.Dir
	memory     memory.Store
	limit      int64 // bytes of text
	aside      []memory.Aside
	displace   bool  // what is in the way is an attack and goes to a fixed name
	displaced  error // what was in the way
	restore    bool  // it was put away: the last good text comes back
	allowed    bool  // to repair
	unlockable error // why put did not lock
}

func openVisit(cfg Config) (*visit, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	home, err := safefile.Open(cfg.Home, cfg.UID, cfg.GID)
	if err != nil {
		return nil, fmt.Errorf("home directory of uid %d: %w", cfg.UID, err)
	}
	return &visit{
		Config: cfg,
		home:   home,
		memory: memory.Store{Dir: cfg.StateDir, Home: cfg.Home, UID: cfg.UID},
		limit:  awsconfig.MaxSize,
	}, nil
}

func (v *visit) close() { _ = v.home.Close() } // read-only descriptor

func (c Config) path() string { return c.Home + "/" + awsdir.Name + "/" + awsdir.Config }

// retry does work again while the file keeps changing under it.
func (v *visit) retry(work func() error) error {
	var err error
	for range attempts {
		if err = work(); !errors.Is(err, safefile.ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("writing %s: %w: %w", v.path(), safefile.ErrContended, err)
}

func (v *visit) write(dry bool) (Result, error) {
	result := Result{Path: v.path()}
	f, err := v.find(dry)
	if err != nil {
		return result, err
	}
	defer func() { f.close() }()
	edit, err := awsconfig.Plan(f.text, v.Managed)
	if err != nil {
		return result, fmt.Errorf("editing %s: %w", v.path(), err)
	}
	result.Changes = edit.Changes
	result.Shadows, result.Faults = v.shadows(f, edit.Text)
	result.Aside = v.aside
	result.Changed = !bytes.Equal(edit.Text, f.text)
	result.Created = !f.version.Exists()
	if result.Locked, result.Made, err = v.lockable(f); dry || err != nil {
		return result, err
	}
	if result.Backup, err = v.put(f, edit.Text); err != nil {
		return result, err
	}
	if result.Locked = v.unlockable == nil; !result.Locked {
		result.Made = nil
	}
	if !result.Changed {
		return result, nil
	}
	v.Log.Info("aws config written", zap.String("path", v.path()), zap.Bool("created", result.Created),
		zap.Int("changes", len(result.Changes)), zap.Int("shadows", len(result.Shadows)))
	return result, nil
}

// find opens the directory and reads the file. What is in the way is moved
// aside, if that is allowed; a dry run only notes it.
func (v *visit) find(dry bool) (found, error) {
	dir, err := v.home.Sub(awsdir.Name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return found{}, nil
	case errors.Is(err, safefile.ErrNotDirectory), v.displace && errors.Is(err, safefile.ErrForeign):
		return found{}, v.moveAside(v.home, "", awsdir.Name, err, dry)
	case err != nil:
		return found{}, err
	}
	f := found{dir: dir}
	f.text, f.version, err = dir.Read(awsdir.Config, v.limit)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return f, nil
	case errors.Is(err, safefile.ErrNotRegular), v.displace && unreadable(err):
		err = v.moveAside(dir, awsdir.Name, awsdir.Config, err, dry)
	case errors.Is(err, safefile.ErrForeign):
		err = fmt.Errorf("%w: give it to uid %d by chown, or delete it", err, v.UID)
	case errors.Is(err, safefile.ErrLeased):
		err = fmt.Errorf("%w: end the program, which is among the LEASE lines of /proc/locks", err)
	}
	if err != nil {
		f.close()
		return found{}, err
	}
	return f, nil
}

// unreadable tells errors of a file that its user has made unreadable for us. What
// cannot be read can still be renamed.
func unreadable(err error) bool {
	return errors.Is(err, safefile.ErrForeign) || errors.Is(err, safefile.ErrTooLarge) ||
		errors.Is(err, safefile.ErrLeased) || errors.Is(err, unix.EACCES)
}

// moveAside records first and renames then, so that a crash between the two
// leaves a record of something that is still in its place, which Undo passes
// over.
func (v *visit) moveAside(dir *safefile.Dir, where, name string, cause error, dry bool) error {
	if v.displace {
		return v.putAway(dir, name, cause, dry)
	}
	if !v.MoveAside {
		return fmt.Errorf("%w: move it aside, or put a plain one in its place", cause)
	}
	a := memory.Aside{Dir: where, Name: name, Now: safefile.RandomName(name + ".before-nbidentityd-")}
	if !dry {
		if full, err := v.memory.Aside(a); err != nil {
			return err
		} else if full {
			return v.putAway(dir, name, cause, dry) // nobody does that on purpose
		}
		if err := dir.Aside(name, a.Now); err != nil {
			return err
		}
		v.Log.Warn("moved aside what stood in the way", zap.String("dir", dir.Path()), zap.String("name", name), zap.String("now", a.Now))
	}
	v.aside = append(v.aside, a)
	return nil
}

// putAway renames what an attack or another program has put in the place of a
// file that was in order. The name is fixed, and only the last one is kept, so
// that a loop cannot fill the disk; directories are never removed.
func (v *visit) putAway(dir *safefile.Dir, name string, cause error, dry bool) error {
	v.displaced = cause
	if dry {
		return nil
	}
	slot := strings.TrimPrefix(name, ".") + ".put-away-by-nbidentityd"
	err := dir.Aside(name, slot)
	if errors.Is(err, unix.EEXIST) {
		if err = dir.Remove(slot); err == nil || errors.Is(err, unix.EISDIR) {
			err = dir.Aside(name, slot)
		}
		if errors.Is(err, unix.EEXIST) {
			err = dir.Aside(name, safefile.RandomName(slot+"-"))
		}
	}
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: %w", safefile.ErrChanged, err)
	}
	return err
}

// shadows returns what wins over the managed keys, and what else is wrong.
func (v *visit) shadows(f found, config []byte) (shadows, faults []awsconfig.Finding) {
	if f.dir == nil {
		return nil, awsconfig.Faults(config, nil)
	}
	credentials, _, err := f.dir.Read(awsdir.Credentials, awsconfig.MaxSize)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return []awsconfig.Finding{{File: "credentials", Problem: err.Error(),
			Remedy: "make it a file of the user's own; what it holds may override credential_process"}}, awsconfig.Faults(config, nil)
	}
	return awsconfig.Shadows(config, credentials), awsconfig.Faults(config, credentials)
}
