package configguard

import (
	"bytes"
	"errors"
	"fmt"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/configguard/awsdir"
	"github.com/nbidentityd/nbidentityd/internal/configguard/memory"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// Undo takes the managed lines out, restores what was commented out or moved
// aside, and removes the file and directory if they did not exist before and
// are empty again. Edits that the user has made since stay. It is idempotent.
func Undo(cfg Config) (Result, error) {
	v, err := openVisit(cfg)
	if err != nil {
		return Result{}, err
	}
	defer v.close()
	var result Result
	err = v.retry(func() error {
		result, err = v.undo()
		return err
	})
	return result, err
}

func (v *visit) undo() (Result, error) {
	result := Result{Path: v.path()}
	if err := v.release(); err != nil {
		return result, err
	}
	rec, err := v.memory.Load()
	if err != nil {
		return result, err
	}
	dir, err := v.home.Sub(awsdir.Name)
	switch {
	case err == nil:
		defer func() { _ = dir.Close() }() // read-only descriptor
		if err := v.undoFile(dir, rec, &result); err != nil {
			return result, err
		}
		if err := v.moveBack(dir, awsdir.Name, rec, &result); err != nil {
			return result, err
		}
		if err := errors.Join(dir.Sweep(awsdir.Config), dir.Sweep(awsdir.Credentials)); err != nil {
			return result, err
		}
		if err := awsdir.Unfurnish(dir, rec.Made); err != nil {
			return result, err
		}
		if rec.Complete && !rec.DirExisted {
			if err := v.home.RemoveSub(awsdir.Name); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOENT) {
				return result, err
			}
		}
	case errors.Is(err, unix.ENOENT), errors.Is(err, safefile.ErrNotDirectory):
		// The user has removed or replaced it: nothing of ours is left.
	default:
		return result, err
	}
	if err := v.moveBack(v.home, "", rec, &result); err != nil {
		return result, err
	}
	if len(result.Aside) == 0 { // else another Undo may yet move it back
		if err := v.memory.Forget(); err != nil {
			return result, err
		}
	}
	v.Log.Info("aws config restored", zap.String("path", v.path()), zap.Bool("changed", result.Changed), zap.Bool("removed", result.Removed))
	return result, nil
}

func (v *visit) undoFile(dir *safefile.Dir, rec memory.Record, result *Result) error {
	text, version, err := dir.Read(awsdir.Config, awsconfig.MaxSize)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, safefile.ErrNotRegular) {
		return nil // not ours any more
	}
	if err != nil {
		return err
	}
	clean, err := awsconfig.Remove(text)
	if err != nil {
		return fmt.Errorf("editing %s: %w", v.path(), err)
	}
	if len(clean) == 0 && rec.Complete && !rec.FileExisted {
		result.Changed, result.Removed = true, true
		return dir.Remove(awsdir.Config)
	}
	if bytes.Equal(clean, text) {
		return nil
	}
	result.Changed = true
	_, err = dir.Replace(awsdir.Config, version, clean)
	return err
}

// moveBack renames to its old name what was moved aside from where, newest
// first, unless something else has taken that name.
func (v *visit) moveBack(dir *safefile.Dir, where string, rec memory.Record, result *Result) error {
	for i := len(rec.Aside) - 1; i >= 0; i-- {
		a := rec.Aside[i]
		if a.Dir != where {
			continue
		}
		err := dir.Aside(a.Now, a.Name)
		switch {
		case err == nil:
			result.Changed = true
		case errors.Is(err, unix.ENOENT): // never moved, or gone since
		case errors.Is(err, unix.EEXIST):
			result.Aside = append(result.Aside, a)
			v.Log.Warn("cannot move back, the name is taken", zap.String("dir", dir.Path()), zap.String("name", a.Name), zap.String("now", a.Now))
		default:
			return err
		}
	}
	return nil
}
