// Package homewatch notices that something may have changed in a home or its
// ~/.aws.
package homewatch

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/configguard/awsdir"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// Watcher tells that it is time to look. The poll is the promise; events only
// make it quicker. What a user can make it cost is bounded: after too many events
// it closes its ears until the poll.
type Watcher struct {
	Home     string
	UID, GID int
	Poll     time.Duration
	Budget   int    // events in a period
	Deaf     func() // called when it closes its ears
	Locked   bool   // nobody but root can write the file

	fs      *fsnotify.Watcher // nil while deaf
	dirs    []*safefile.Dir   // held open, so that their inodes are not used anew
	ids     [2]inode          // home and ~/.aws
	homeDir string            // how fsnotify names them
	awsDir  string
	why     string // why fs is nil, or ~/.aws is not watched

	spent int // events in this period, a wake counting as wakeCost
	since time.Time
}

// MaxEvents is a budget of about 5 ms of CPU.
const MaxEvents = 1000

const (
	period   = 3 * time.Second
	wakeCost = 50

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

// Follow makes the watcher watch the directories that have the names now. The
// watches are set through descriptors: the user may replace a name by a link.
func (w *Watcher) Follow() {
	home, err := safefile.Open(w.Home, w.UID, w.GID)
	if err != nil {
		w.Close(err.Error())
		return
	}
	dirs, ids := []*safefile.Dir{home}, [2]inode{identify(home)}
	aws, err := home.Sub(awsdir.Name)
	if err == nil {
		dirs, ids[1] = append(dirs, aws), identify(aws)
	}
	// fsnotify drops the watch of a directory that is renamed, also of one that
	// is back under its name.
	if w.fs != nil && ids == w.ids && len(w.fs.WatchList()) == len(dirs) {
		closeAll(dirs)
		return
	}
	w.Close("")
	if err != nil {
		w.why = err.Error()
	}
	w.dirs, w.ids = dirs, ids
	if w.fs, err = fsnotify.NewWatcher(); err != nil {
		w.Close(fmt.Sprintf("making a watcher: %v", err))
		return
	}
	w.homeDir, w.awsDir = watchName(home), ""
	err = w.fs.Add(w.homeDir)
	if err == nil && aws != nil {
		w.awsDir = watchName(aws)
		err = w.fs.Add(w.awsDir)
	}
	if err != nil {
		w.Close(fmt.Sprintf("watching %s: %v", w.Home, err))
	}
}

func watchName(d *safefile.Dir) string { return fmt.Sprintf("/proc/self/fd/%d", d.Fd()) }

func closeAll(dirs []*safefile.Dir) {
	for _, d := range dirs {
		_ = d.Close() // read-only descriptor
	}
}

// Close stops watching, for a reason, until the next Follow.
func (w *Watcher) Close(why string) {
	if w.fs != nil {
		_ = w.fs.Close() // it has nothing to lose
	}
	closeAll(w.dirs)
	w.fs, w.dirs, w.why = nil, nil, why
}

// Watching reports whether changes of the file are noticed at once, and why not.
func (w *Watcher) Watching() (yes bool, why string) { return w.fs != nil && w.awsDir != "", w.why }

// Busy reports whether half of the budget is spent.
func (w *Watcher) Busy() bool { return w.spent > w.Budget/2 }

// Wait returns true when it is time to look, and false when ctx is done.
func (w *Watcher) Wait(ctx context.Context) bool {
	limit := w.Poll
	if w.fs == nil {
		limit = min(limit, period)
	} else if w.Locked {
		now := time.Now()
		limit = now.Truncate(pollLocked).Add(pollLocked).Sub(now)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		if now := time.Now(); now.Sub(w.since) > period {
			w.since, w.spent = now, 0
		}
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
			if w.spent > w.Budget {
				w.Close("too many events: for some seconds it is only looked at now and then")
				w.Deaf()
				timer.Reset(min(period, w.Poll))
			} else if w.concerns(e) {
				w.spent += wakeCost
				return true
			}
		case err := <-errs:
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				w.Close("more events than the kernel keeps") // which forgets the rest of them
			}
			return true
		}
	}
}

func (w *Watcher) concerns(e fsnotify.Event) bool {
	dir, name := path.Split(e.Name)
	switch path.Clean(dir) {
	case w.homeDir:
		return name == awsdir.Name
	case w.awsDir:
		return name == awsdir.Config || name == awsdir.Credentials
	}
	return e.Name == w.homeDir || e.Name == w.awsDir
}
