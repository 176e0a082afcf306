package configguard

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/configguard/awsdir"
	"github.com/nbidentityd/nbidentityd/internal/configguard/memory"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// locks reports which of directory and file are locked. What has no such flag
// or does not exist is not.
func (f found) locks() (dir, file bool, err error) {
	if f.dir == nil {
		return false, false, nil
	}
	dir, err = f.dir.Locked()
	if errors.Is(err, safefile.ErrNoFlag) {
		return false, false, nil
	}
	if err == nil && f.version.Exists() {
		if file, err = f.dir.FileLocked(awsdir.Config); awsdir.Ignorable(err) {
			err = fmt.Errorf("%w: %w", safefile.ErrChanged, err) // it was read a moment ago
		}
	}
	return dir, file, err
}

// held reports whether nobody without the capability can change the file, nor
// put another in its place: both locked, and the file one that the user has
// never been able to open for writing. The order of looking matters: in a
// locked directory names stay.
func (f found) held() (bool, error) {
	dir, file, err := f.locks()
	return dir && file && f.version.UID == 0 && f.version.Mode&0o022 == 0, err
}

// cannotLock says why f is not to be locked, or nil.
func (v *visit) cannotLock(dir *safefile.Dir) error {
	switch {
	case !v.Lock && v.Unlocked != "":
		return errors.New(v.Unlocked)
	case !v.Lock:
		return errors.New("locking is switched off")
	case v.UID == 0:
		return errors.New("the notebook user is root and could take the lock off")
	}
	return dir.CanLock()
}

// lockable reports whether put would lock f, or find it locked, and what it
// would make for that.
func (v *visit) lockable(f found) (yes bool, made []string, err error) {
	if held, err := f.held(); held || err != nil {
		return held, nil, err
	}
	dir := f.dir
	if dir == nil {
		dir = v.home
	}
	if v.cannotLock(dir) != nil {
		return false, nil, nil
	}
	return true, awsdir.Missing(f.dir), nil
}

// remember keeps what was there before the first write.
func (v *visit) remember(f found) (backup string, err error) {
	return v.memory.Remember(f.dir != nil, f.version.Exists(), f.text)
}

// put makes the file say text and locks it where that is asked for and
// possible; why not is then in v.unlockable. ErrChanged means to look again.
func (v *visit) put(f found, text []byte) (backup string, err error) {
	held, err1 := f.held()
	closed, err2 := f.closed(v.UID)
	same := f.version.Exists() && string(text) == string(f.text) && !closed
	if err := errors.Join(err1, err2); err != nil || held && same {
		return "", err
	}
	rec, err := v.memory.Load()
	if err != nil {
		return "", err
	}
	unlocked, err := v.unlock(f.dir, rec)
	switch {
	case errors.Is(err, errForeignLock) && same:
		v.unlockable = err
		return "", nil
	case err != nil:
		return "", err
	case unlocked:
		return "", safefile.ErrChanged // flags are a part of the version
	}
	if f.dir == nil {
		if _, err := v.remember(f); err != nil {
			return "", err
		}
		dir, _, err := v.home.MakeSub(awsdir.Name)
		if err != nil {
			return "", err
		}
		defer func() { _ = dir.Close() }() // read-only descriptor
		f.dir = dir
	}
	if v.unlockable = v.cannotLock(f.dir); v.unlockable != nil && same {
		return "", nil
	}
	if backup, err = v.remember(f); err != nil {
		return "", err
	}
	if err := f.dir.MakeUsable(); err != nil {
		return backup, err
	}
	owner := safefile.Owner{UID: v.UID, GID: v.GID, Mode: 0o600}
	if f.version.Exists() {
		owner = f.version.Owner()
		owner.Mode |= 0o400
	}
	if v.unlockable == nil {
		return backup, v.lock(f, rec, owner, text)
	}
	_, err = f.dir.ReplaceAs(awsdir.Config, f.version, owner, text)
	return backup, err
}

// lock writes text as root's file, locks the directory first, so that names
// stay, then the file, and looks whether all that is so.
func (v *visit) lock(f found, rec memory.Record, owner safefile.Owner, text []byte) error {
	if rec.Owner != nil && f.version.UID == 0 {
		owner = *rec.Owner // a lock that was not finished, or is renewed
	}
	made := awsdir.Missing(f.dir)
	err := v.memory.Change(func(r *memory.Record) bool {
		r.Owner = &owner
		for _, m := range made {
			if !slices.Contains(r.Made, m) {
				r.Made = append(r.Made, m)
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	if err := awsdir.Furnish(f.dir, made); err != nil {
		return err
	}
	mode := 0o640 | owner.Mode&0o004
	placed, err := f.dir.ReplaceAs(awsdir.Config, f.version, safefile.Owner{UID: 0, GID: v.GID, Mode: mode}, text)
	if err != nil {
		return err
	}
	if err := v.fasten(f.dir, placed, text); err != nil {
		// Else a directory that was renamed meanwhile would stay locked where
		// nobody looks for it.
		undo := f.dir.UnlockFile(awsdir.Config)
		if awsdir.Ignorable(undo) {
			undo = nil
		}
		return errors.Join(err, f.dir.Unlock(), undo)
	}
	return nil
}

func (v *visit) fasten(dir *safefile.Dir, placed safefile.Version, text []byte) error {
	if err := dir.Lock(); err != nil {
		return err
	}
	if err := dir.LockFile(awsdir.Config, placed); err != nil {
		return err
	}
	now, err := v.find(true)
	if err != nil {
		return errors.Join(err, safefile.ErrChanged)
	}
	defer now.close()
	held, err := now.held()
	if err == nil && (!held || string(now.text) != string(text)) {
		err = fmt.Errorf("locking %s: %w", v.path(), safefile.ErrChanged)
	}
	return err
}

// unlock takes off a lock that is ours and reports whether there was one.
func (v *visit) unlock(dir *safefile.Dir, rec memory.Record) (bool, error) {
	if dir == nil {
		return false, nil
	}
	f := found{dir: dir}
	f.text, f.version, _ = dir.Read(awsdir.Config, awsconfig.MaxSize) // what cannot be read is not ours
	inDir, inFile, err := f.locks()
	if err != nil || !inDir && !inFile {
		return false, err
	}
	// The record of a lock is stored before the lock is put on, and taken out after
	// it is off. Without a record the text tells.
	if rec.Owner == nil && (rec.Complete || !awsconfig.Marked(f.text)) {
		return false, fmt.Errorf("%s: %w", dir.Path(), errForeignLock)
	}
	if err := dir.Unlock(); err != nil {
		return false, err
	}
	if inFile {
		err = dir.UnlockFile(awsdir.Config)
	}
	return true, err
}

func (v *visit) unlockFor(dir *safefile.Dir) (bool, error) {
	rec, err := v.memory.Load()
	if err != nil {
		return false, err
	}
	return v.unlock(dir, rec)
}

var errForeignLock = errors.New("somebody else has set the immutable flag: take it off by chattr -i")

// Release takes the lock off and gives the file back to its owner, with the
// text as it is. The caches stay until Undo. It is idempotent, and needs no
// more than the text after a daemon that was killed or has lost its record.
func Release(cfg Config) error {
	v, err := openVisit(cfg)
	if err != nil {
		return err
	}
	defer v.close()
	return v.retry(v.release)
}

func (v *visit) release() error {
	rec, err := v.memory.Load()
	if err != nil {
		return err
	}
	dir, err := v.home.Sub(awsdir.Name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, safefile.ErrNotDirectory) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // read-only descriptor
	unlocked, err := v.unlock(dir, rec)
	if errors.Is(err, errForeignLock) {
		return nil
	}
	if err != nil {
		return err
	}
	if rec.Owner == nil && unlocked {
		rec.Owner = &safefile.Owner{UID: v.UID, GID: v.GID, Mode: 0o600}
	}
	if rec.Owner == nil {
		return nil
	}
	text, version, err := dir.Read(awsdir.Config, awsconfig.MaxSize)
	switch {
	case err == nil && version.UID == 0 && version.Owner() != *rec.Owner:
		if _, err := dir.ReplaceAs(awsdir.Config, version, *rec.Owner, text); err != nil {
			return err
		}
	case err != nil && !awsdir.Ignorable(err):
		return err
	}
	return v.memory.Change(func(r *memory.Record) bool {
		changed := r.Owner != nil
		r.Owner = nil
		return changed
	})
}
