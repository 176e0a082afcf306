package configguard

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
	"golang.org/x/sys/unix"
)

// watcher tells that something may have changed in a home or its ~/.aws. The
// poll is the promise; events only make it quicker. What a user can make it
// cost is bounded: after too many events it closes its ears until the poll.
type watcher struct {
	cfg    Config
	poll   time.Duration
	budget int

	fs      *fsnotify.Watcher // nil while deaf
	dirs    []*safefile.Dir   // held open, so that their inodes are not used anew
	ids     [2]inode          // home and ~/.aws
	homeDir string            // how fsnotify names them
	awsDir  string
	why     string // why fs is nil, or ~/.aws is not watched

	locked bool // nobody but root can write the file

	spent int // events in this period, a wake counting as wakeCost
	since time.Time
	deaf  func() // called when it closes its ears
}

const (
	period    = 3 * time.Second
	maxEvents = 1000 // in a period; about 5 ms of CPU
	wakeCost  = 50

	// A mapping or another name of the file changes it without an event, but
	// not while it is locked. Looks fall on whole minutes of the clock, with the
	// daemon's others: one wake-up.
	pollLocked = time.Minute
)

type inode struct{ dev, ino uint64 }

func identify(d *safefile.Dir) inode {
	var st unix.Stat_t
	if unix.Fstat(d.Fd(), &st) != nil {
		return inode{}
	}
	return inode{uint64(st.Dev), st.Ino}
}

// follow makes the watcher watch the directories that have the names now. The
// watches are set through descriptors: the user may replace a name by a link.
func (w *watcher) follow() {
	home, err := safefile.Open(w.cfg.Home, w.cfg.UID, w.cfg.GID)
	if err != nil {
		w.close(err.Error())
		return
	}
	dirs, ids := []*safefile.Dir{home}, [2]inode{identify(home)}
	aws, err := home.Sub(dirName)
	if err == nil {
		dirs, ids[1] = append(dirs, aws), identify(aws)
	}
	if w.fs != nil && ids == w.ids {
		closeAll(dirs)
		return
	}
	w.close("")
	if err != nil {
		w.why = err.Error()
	}
	w.dirs, w.ids = dirs, ids
	if w.fs, err = fsnotify.NewWatcher(); err != nil {
		w.close(fmt.Sprintf("making a watcher: %v", err))
		return
	}
	w.homeDir, w.awsDir = watchName(home), ""
	err = w.fs.Add(w.homeDir)
	if err == nil && aws != nil {
		w.awsDir = watchName(aws)
		err = w.fs.Add(w.awsDir)
	}
	if err != nil {
		w.close(fmt.Sprintf("watching %s: %v", w.cfg.Home, err))
	}
}

func watchName(d *safefile.Dir) string { return fmt.Sprintf("/proc/self/fd/%d", d.Fd()) }

func closeAll(dirs []*safefile.Dir) {
	for _, d := range dirs {
		_ = d.Close() // read-only descriptor
	}
}

func (w *watcher) close(why string) {
	if w.fs != nil {
		_ = w.fs.Close() // it has nothing to lose
	}
	closeAll(w.dirs)
	w.fs, w.dirs, w.why = nil, nil, why
}

// watching reports whether changes of the file are noticed at once.
func (w *watcher) watching() bool { return w.fs != nil && w.awsDir != "" }

// wait returns true when it is time to look, and false when ctx is done.
func (w *watcher) wait(ctx context.Context) bool {
	limit := w.poll
	if w.fs == nil {
		limit = min(limit, period)
	} else if w.locked {
		now := time.Now()
		limit = now.Truncate(pollLocked).Add(pollLocked).Sub(now)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	if now := time.Now(); now.Sub(w.since) > period {
		w.since, w.spent = now, 0
	}
	for {
		var events chan fsnotify.Event
		var errs chan error
		if w.fs != nil {
			events, errs = w.fs.Events, w.fs.Errors
		}
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case e := <-events:
			w.spent++
			if w.spent > w.budget {
				w.close("too many events: for some seconds it is only looked at now and then")
				w.deaf()
				timer.Reset(min(period, w.poll))
			} else if w.concerns(e) {
				w.spent += wakeCost
				return true
			}
		case err := <-errs:
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				w.close("more events than the kernel keeps") // which forgets the rest of them
			}
			return true
		}
	}
}

func (w *watcher) concerns(e fsnotify.Event) bool {
	dir, name := path.Split(e.Name)
	switch path.Clean(dir) {
	case w.homeDir:
		return name == dirName
	case w.awsDir:
		return name == fileName || name == credentialsName
	}
	return e.Name == w.homeDir || e.Name == w.awsDir
}
