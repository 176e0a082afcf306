package installation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// ledger remembers which directories were not there before.
type ledger struct {
	// Absent are those that we or a daemon make, parents first.
	Absent []string `json:"absent"`

	dir     string // where it lies
	known   bool   // it was read, or will be written
	version safefile.Version
}

const ledgerName = "installation.json"

// openLedger makes the state directory, whose own absence is the first entry.
func (w *work) openLedger() error {
	dir := w.Settings.StateDir
	absent, err := missing(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	if err := w.readLedger(); err != nil {
		return err
	}
	w.ledger.known = true
	if _, err := os.Lstat(filepath.Join(dir, "aws-config")); err == nil && !w.ledger.version.Exists() {
		absent = append(absent, dir) // a daemon was here before us and has made it
	}
	return w.ledger.add(absent)
}

// readLedger leaves it empty if there is none.
func (w *work) readLedger() error {
	w.ledger = ledger{dir: w.Settings.StateDir}
	d, err := safefile.Open(w.ledger.dir, os.Geteuid(), os.Getegid())
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	defer d.Close()
	text, version, err := d.Read(ledgerName, 1<<16)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &w.ledger)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w: delete it; at worst empty directories then stay", filepath.Join(w.ledger.dir, ledgerName), err)
	}
	w.ledger.known, w.ledger.version = true, version
	return nil
}

// add writes new entries down.
func (l *ledger) add(paths []string) error {
	all := slices.Clone(l.Absent)
	for _, p := range paths {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	if l.version.Exists() && len(all) == len(l.Absent) {
		return nil
	}
	d, err := safefile.Open(l.dir, os.Geteuid(), os.Getegid())
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	defer d.Close()
	l.Absent = all
	text, err := json.MarshalIndent(l, "", "\t")
	if err != nil {
		return fmt.Errorf("encoding the ledger: %w", err)
	}
	l.version, err = d.Replace(ledgerName, l.version, append(text, '\n'))
	return err
}

// absent enters the directory if it is not there: somebody will make it.
func (l *ledger) absent(dir string) error {
	paths, err := missing(dir)
	if err != nil {
		return err
	}
	return l.add(paths)
}

// makeDirs makes a directory of the system's and its parents.
func (l *ledger) makeDirs(dir string, mode fs.FileMode) error {
	paths, err := missing(dir)
	if err != nil {
		return err
	}
	if err := l.add(paths); err != nil {
		return err
	}
	for _, p := range paths {
		if err := os.Mkdir(p, mode); err != nil {
			return err
		}
		if err := os.Chmod(p, mode); err != nil { // in spite of the umask
			return err
		}
	}
	return nil
}

// missing lists, parents first, which of dir and its parents are not there.
func missing(dir string) ([]string, error) {
	var paths []string
	for {
		_, err := os.Stat(dir)
		if err == nil {
			slices.Reverse(paths)
			return paths, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		paths = append(paths, dir)
		dir = filepath.Dir(dir)
	}
}
