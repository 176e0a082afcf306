// Package memory keeps what is known of a home's ~/.aws from before the first
// write, in a directory of the daemon's own: a record, and a backup of the file for
// people. Undo works from the text of the file alone if they are lost.
package memory

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// Store is the memory of one home.
type Store struct {
	Dir  string // existing; "" remembers nothing
	Home string
	UID  int
}

// Record is what a Store remembers of the time before the first write.
type Record struct {
	Home        string  `json:"home"`
	Complete    bool    `json:"complete"` // the Existed fields are set
	DirExisted  bool    `json:"dir_existed"`
	FileExisted bool    `json:"file_existed"`
	Aside       []Aside `json:"aside,omitempty"`
	// Made are the paths in ~/.aws that were made before it was locked.
	Made []string `json:"made,omitempty"`
	// Owner is who gets the file back that root holds locked; nil if it is not.
	Owner *safefile.Owner `json:"owner,omitempty"`

	version safefile.Version
}

// Aside is an object that was renamed because it stood in the way.
type Aside struct {
	Dir  string `json:"dir"` // "" is the home, else ".aws"
	Name string `json:"name"`
	Now  string `json:"now"`
}

const maxRecord = 1 << 16

// MaxAside is how many objects are remembered.
const MaxAside = 32

// stem names this home's files in the directory.
func (s Store) stem() string {
	return fmt.Sprintf("awsconfig-%d-%x", s.UID, sha256.Sum256([]byte(s.Home)))[:32]
}

// open opens the directory, which belongs to this process's user and is writable
// by nobody else: root renames what the record names.
func (s Store) open() (*safefile.Dir, error) {
	d, err := safefile.Open(s.Dir, os.Geteuid(), os.Getegid())
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.Fd(), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("state directory: inspecting %s: %w", s.Dir, err), d.Close())
	}
	if st.Mode&0o022 != 0 {
		return nil, errors.Join(fmt.Errorf("state directory: %s has mode %o: make it 0700", s.Dir, st.Mode&0o7777), d.Close())
	}
	return d, nil
}

// Load returns the zero record if there is none.
func (s Store) Load() (Record, error) {
	if s.Dir == "" {
		return Record{}, nil
	}
	d, err := s.open()
	if err != nil {
		return Record{}, err
	}
	defer d.Close()
	return s.loadFrom(d)
}

func (s Store) loadFrom(d *safefile.Dir) (Record, error) {
	name := s.stem() + ".json"
	data, version, err := d.Read(name, maxRecord)
	if errors.Is(err, unix.ENOENT) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("reading %s: %w: delete it; undo then works from the text alone", filepath.Join(s.Dir, name), err)
	}
	r.version = version
	return r, nil
}

// Change loads the record, lets f alter it and stores it if f says so.
func (s Store) Change(f func(*Record) (store bool)) error {
	return s.change(func(_ *safefile.Dir, r *Record) (bool, error) { return f(r), nil })
}

func (s Store) change(f func(*safefile.Dir, *Record) (store bool, err error)) error {
	if s.Dir == "" {
		return nil
	}
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	r, err := s.loadFrom(d)
	if err != nil {
		return err
	}
	store, err := f(d, &r)
	if err != nil || !store {
		return err
	}
	r.Home = s.Home
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("encoding the record of %s: %w", s.Home, err)
	}
	_, err = d.Replace(s.stem()+".json", r.version, append(data, '\n'))
	return err
}

// Aside records a, unless the record is full: a user who makes links in a loop
// could make it too large to be read.
func (s Store) Aside(a Aside) (full bool, err error) {
	err = s.Change(func(r *Record) bool {
		if full = len(r.Aside) >= MaxAside; !full {
			r.Aside = append(r.Aside, a)
		}
		return !full
	})
	return full, err
}

// Remember stores the record and the backup before the first write: whether the
// directory and the file were there, and the file's text. It returns the backup's
// path, "" if there was nothing to back up.
func (s Store) Remember(dir, file bool, text []byte) (backup string, err error) {
	err = s.change(func(d *safefile.Dir, r *Record) (bool, error) {
		name := s.stem() + ".before"
		if r.Complete {
			if _, version, err := d.Read(name, awsconfig.MaxSize); err == nil && version.Exists() {
				backup = filepath.Join(s.Dir, name)
			}
			return false, nil
		}
		original, err := awsconfig.Remove(text)
		if err != nil {
			return false, fmt.Errorf("taking our own lines out of the text to back up: %w", err)
		}
		if file {
			_, old, err := d.Read(name, awsconfig.MaxSize)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return false, err
			}
			if _, err := d.Replace(name, old, original); err != nil {
				return false, err
			}
			backup = filepath.Join(s.Dir, name)
		}
		r.Complete, r.DirExisted, r.FileExisted = true, dir, file
		return true, nil
	})
	return backup, err
}

// Forget deletes record and backup.
func (s Store) Forget() error {
	if s.Dir == "" {
		return nil
	}
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	for _, suffix := range []string{".before", ".json"} {
		if err := d.Sweep(s.stem() + suffix); err != nil {
			return err
		}
		if err := d.Remove(s.stem() + suffix); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
