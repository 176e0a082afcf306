package installation

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/kernelenv"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// Told is what kernels and terminals are told of the faces.
type Told struct {
	Wrong           []string  // files that are not there, or not as Install writes them
	Since           time.Time // when the newest of them was written; zero if one is wrong, or none is wanted
	IMDS, Container string    // the URLs that they tell; "" is none
}

// ReadTold looks at the files that tell kernels. They are those of whoever runs
// the daemon, whom the state directory belongs to: not of whoever looks.
func ReadTold(cfg Config) (Told, error) {
	w := &work{Config: cfg, uid: os.Geteuid()}
	if info, err := os.Lstat(cfg.Settings.StateDir); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			w.uid = int(st.Uid)
		}
	}
	c := w.environment()
	files, err := kernelenv.Plan(c)
	if err != nil || len(files) == 0 {
		return Told{}, err
	}
	told := Told{IMDS: c.IMDS, Container: c.Container}
	var failed []error
	for _, f := range files {
		text, written, err := w.readTold(f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && string(text) != string(f.Text):
			told.Wrong = append(told.Wrong, w.shown(f.Path))
		case err != nil:
			failed = append(failed, err)
		case written.After(told.Since):
			told.Since = written
		}
	}
	if len(told.Wrong)+len(failed) > 0 {
		told.Since = time.Time{}
	}
	return told, errors.Join(failed...)
}

// shown is a planned path as it is on this machine.
func (w *work) shown(path string) string {
	if home := w.ownHome(); home != "" && path == kernelenv.HomePath(home) {
		return path
	}
	return w.Root + path
}

// readTold reads one file. Below a home no link is followed.
func (w *work) readTold(path string) ([]byte, time.Time, error) {
	home := w.ownHome()
	below, inHome := strings.CutPrefix(path, home+"/")
	if home == "" || !inHome {
		path = w.shown(path)
		info, err := os.Stat(path)
		if err != nil {
			return nil, time.Time{}, err
		}
		text, err := os.ReadFile(path)
		return text, info.ModTime(), err
	}
	dir, err := safefile.Open(home, w.uid, -1)
	for name := range strings.SplitSeq(filepath.Dir(below), "/") {
		if err != nil {
			break
		}
		var sub *safefile.Dir
		sub, err = dir.Sub(name)
		dir.Close()
		dir = sub
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	defer dir.Close()
	text, version, err := dir.Read(filepath.Base(below), 1<<16)
	return text, version.Modified(), err
}
