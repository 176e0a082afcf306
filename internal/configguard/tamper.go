package configguard

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/safefile"
	"go.uber.org/zap"
)

// Tamper is one burst of tampering: all of it that had no longer pause than
// burstGap.
type Tamper struct {
	What  string    `json:"what"` // the first thing that was seen
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Count uint64    `json:"count"` // times it was found so; a fast writer writes more often
	By    string    `json:"by"`    // as far as it can be known
}

const (
	burstGap = 10 * time.Second
	maxWhat  = 200 // bytes; the user has a hand in it
	rivalAt  = 3

	// The kernel names the process only to fanotify.
	unknownProcess = "process not known (that takes fanotify and CAP_SYS_ADMIN)"
)

// tampers counts, and logs a burst when it begins and when it is over.
type tampers struct {
	log   *zap.Logger
	path  string
	count uint64
	last  Tamper
	open  bool

	seen   safefile.Version // the version that was counted last
	kind   string
	text   [sha256.Size]byte // what another program writes again and again
	repeat int
	rival  string
}

// note counts one finding, unless it is the last one that nobody has repaired.
func (t *tampers) note(now time.Time, what string, f found) {
	what = what[:min(len(what), maxWhat)]
	if t.open && f.version == t.seen && what == t.kind {
		t.last.Last = now
		return
	}
	t.seen, t.kind = f.version, what
	t.count++
	if len(f.text) > 0 {
		t.compare(sha256.Sum256(f.text))
	}
	if t.open {
		t.last.Last, t.last.Count = now, t.last.Count+1
		return
	}
	by := unknownProcess
	if f.version.Exists() {
		by += fmt.Sprintf("; the file belongs to uid %d", f.version.UID)
	}
	t.open, t.last = true, Tamper{What: what, First: now, Last: now, Count: 1, By: by}
	t.log.Warn("aws config tampered with", zap.String("path", t.path), zap.String("what", what), zap.String("by", by))
}

// repaired makes the next finding count, even if it looks the same.
func (t *tampers) repaired() { t.kind = "" }

func (t *tampers) compare(text [sha256.Size]byte) {
	if text != t.text {
		t.text, t.repeat = text, 0
	}
	if t.repeat++; t.repeat < rivalAt {
		return
	}
	if t.rival == "" {
		t.log.Warn("another program keeps writing the aws config", zap.String("path", t.path), zap.Int("times", t.repeat))
	}
	t.rival = fmt.Sprintf("another program has written the same text without our keys %d times: find it, or switch one of the two off", t.repeat)
}

// quiet ends a burst that has paused long enough.
func (t *tampers) quiet(now time.Time) {
	if !t.open || now.Sub(t.last.Last) < burstGap {
		return
	}
	t.open = false
	if t.last.Count > 1 {
		t.log.Warn("tampering has stopped", zap.String("path", t.path), zap.Uint64("count", t.last.Count),
			zap.Duration("lasted", t.last.Last.Sub(t.last.First)))
	}
}

// limiter allows so many repairs in a window and pauses after that, the longer
// the more often it happens.
type limiter struct {
	repairs        int
	window         time.Duration
	pause, longest time.Duration
	recent         []time.Time
	until          time.Time
	next           time.Duration
}

func newLimiter() *limiter {
	return &limiter{repairs: 10, window: 10 * time.Second, pause: 10 * time.Second, longest: 5 * time.Minute}
}

// allow reports whether to repair now, and whether a pause has just begun.
func (l *limiter) allow(now time.Time) (ok, gaveUp bool) {
	if now.Before(l.until) {
		return false, false
	}
	for len(l.recent) > 0 && now.Sub(l.recent[0]) > l.window {
		l.recent = l.recent[1:]
	}
	if len(l.recent) < l.repairs {
		if now.Sub(l.until) > l.longest {
			l.next = 0 // it was quiet for long
		}
		l.recent = append(l.recent, now)
		return true, false
	}
	l.next = min(max(l.pause, 2*l.next), l.longest)
	l.until, l.recent = now.Add(l.next), nil
	return false, true
}
