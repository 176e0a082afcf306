package configguard

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
	"golang.org/x/sys/unix"
)

// record is what StateDir remembers of the time before the first Write.
type record struct {
	Home        string  `json:"home"`
	Complete    bool    `json:"complete"` // the Existed fields are set
	DirExisted  bool    `json:"dir_existed"`
	FileExisted bool    `json:"file_existed"`
	Aside       []Aside `json:"aside,omitempty"`
	// Made are the paths in ~/.aws that were made before it was locked.
	Made []string `json:"made,omitempty"`
	// Owner is who gets the file back that root holds locked; nil if it is not.
	Owner *safefile.Owner `json:"owner,omitempty"`

	known   bool // Complete, and read from StateDir
	version safefile.Version
}

const (
	maxRecord = 1 << 16
	maxAside  = 32
)

// stem names this home's files in StateDir.
func (v *visit) stem() string {
	return fmt.Sprintf("awsconfig-%d-%x", v.UID, sha256.Sum256([]byte(v.Home)))[:32]
}

// state opens StateDir, which belongs to this process's user and is writable by
// nobody else: Undo renames what the record names.
func (v *visit) state() (*safefile.Dir, error) {
	d, err := safefile.Open(v.StateDir, os.Geteuid(), os.Getegid())
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.Fd(), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("state directory: inspecting %s: %w", v.StateDir, err), d.Close())
	}
	if st.Mode&0o022 != 0 {
		return nil, errors.Join(fmt.Errorf("state directory: %s has mode %o: make it 0700", v.StateDir, st.Mode&0o7777), d.Close())
	}
	return d, nil
}

// load returns the zero record if there is none.
func (v *visit) load() (record, error) {
	if v.StateDir == "" {
		return record{}, nil
	}
	d, err := v.state()
	if err != nil {
		return record{}, err
	}
	defer d.Close()
	return v.loadFrom(d)
}

func (v *visit) loadFrom(d *safefile.Dir) (record, error) {
	name := v.stem() + ".json"
	data, version, err := d.Read(name, maxRecord)
	if errors.Is(err, unix.ENOENT) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("reading %s: %w: delete it; undo then works from the text alone", filepath.Join(v.StateDir, name), err)
	}
	r.known, r.version = r.Complete, version
	return r, nil
}

// change loads the record, lets f alter it and stores it if f says so.
func (v *visit) change(f func(d *safefile.Dir, r *record) (bool, error)) error {
	if v.StateDir == "" {
		return nil
	}
	d, err := v.state()
	if err != nil {
		return err
	}
	defer d.Close()
	r, err := v.loadFrom(d)
	if err != nil {
		return err
	}
	store, err := f(d, &r)
	if err != nil || !store {
		return err
	}
	r.Home = v.Home
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("encoding the record of %s: %w", v.Home, err)
	}
	_, err = d.Replace(v.stem()+".json", r.version, append(data, '\n'))
	return err
}

// recordAside reports whether the record is full, which keeps a user who makes
// links in a loop from making it too large to be read.
func (v *visit) recordAside(a Aside) (full bool, err error) {
	err = v.change(func(_ *safefile.Dir, r *record) (bool, error) {
		if full = len(r.Aside) >= maxAside; full {
			return false, nil
		}
		r.Aside = append(r.Aside, a)
		return true, nil
	})
	return full, err
}

// remember stores the record and the backup before the first Write. It returns
// the backup's path, "" if there was nothing to back up.
func (v *visit) remember(f found) (backup string, err error) {
	err = v.change(func(d *safefile.Dir, r *record) (bool, error) {
		name := v.stem() + ".before"
		if r.known {
			if _, version, err := d.Read(name, awsconfig.MaxSize); err == nil && version.Exists() {
				backup = filepath.Join(v.StateDir, name)
			}
			return false, nil
		}
		original, err := awsconfig.Remove(f.text)
		if err != nil {
			return false, fmt.Errorf("editing %s: %w", v.path(), err)
		}
		if f.version.Exists() {
			_, old, err := d.Read(name, awsconfig.MaxSize)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return false, err
			}
			if _, err := d.Replace(name, old, original); err != nil {
				return false, err
			}
			backup = filepath.Join(v.StateDir, name)
		}
		r.Complete, r.DirExisted, r.FileExisted = true, f.dir != nil, f.version.Exists()
		return true, nil
	})
	return backup, err
}

// forget deletes record and backup.
func (v *visit) forget() error {
	if v.StateDir == "" {
		return nil
	}
	d, err := v.state()
	if err != nil {
		return err
	}
	defer d.Close()
	for _, suffix := range []string{".before", ".json"} {
		if err := d.Sweep(v.stem() + suffix); err != nil {
			return err
		}
		if err := d.Remove(v.stem() + suffix); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
