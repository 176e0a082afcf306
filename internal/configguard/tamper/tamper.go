// Package tamper keeps count of what is done to a file against its keeper, tells
// of it in bursts, and bounds the keeper's answers.
package tamper

import (
	"crypto/sha256"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// Burst is all tampering that had no longer pause than burstGap.
type Burst struct {
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
	// rivalGone without another time means that the rival has been switched off:
	// longer than from one day's start of a program to the next.
	rivalGone = 48 * time.Hour

	// The kernel names the process only to fanotify.
	unknownProcess = "process not known (that takes fanotify and CAP_SYS_ADMIN)"
)

// Book counts, and logs a burst when it begins and when it is over.
type Book struct {
	Path  string
	Log   *zap.Logger
	Count uint64
	Last  Burst
	Rival string // "" or what is known of a program that keeps writing

	open bool

	seen   safefile.Version // the version that was counted last
	kind   string
	text   [sha256.Size]byte // what another program writes again and again
	repeat int
	wrote  time.Time // when it was found last
	rival  time.Time // when the Rival's was
}

// Note counts one finding about a file of this version and text, unless it is the last one that nobody has repaired.
func (b *Book) Note(now time.Time, what string, version safefile.Version, text []byte) {
	what = what[:min(len(what), maxWhat)]
	if b.open && version == b.seen && what == b.kind {
		b.Last.Last = now
		return
	}
	b.seen, b.kind = version, what
	b.Count++
	if len(text) > 0 {
		b.compare(now, sha256.Sum256(text))
	}
	if b.open {
		b.Last.Last, b.Last.Count = now, b.Last.Count+1
		return
	}
	who := unknownProcess
	if version.Exists() {
		who += fmt.Sprintf("; the file belongs to uid %d", version.UID)
	}
	b.open, b.Last = true, Burst{What: what, First: now, Last: now, Count: 1, By: who}
	b.Log.Warn("aws config tampered with", zap.String("path", b.Path), zap.String("what", what), zap.String("by", who))
}

// Repaired makes the next finding count, even if it looks the same.
func (b *Book) Repaired() { b.kind = "" }

func (b *Book) compare(now time.Time, text [sha256.Size]byte) {
	if text != b.text || now.Sub(b.wrote) >= rivalGone {
		b.text, b.repeat = text, 0
	}
	b.wrote = now
	if b.repeat++; b.repeat < rivalAt {
		return
	}
	if b.Rival == "" {
		b.Log.Warn("another program keeps writing the aws config", zap.String("path", b.Path), zap.Int("times", b.repeat))
	}
	b.rival = now
	b.Rival = fmt.Sprintf("another program has written the same text without our keys %d times: find it, or switch one of the two off", b.repeat)
}

// Quiet ends a burst that has paused long enough, and forgets a rival.
func (b *Book) Quiet(now time.Time) {
	if b.Rival != "" && now.Sub(b.rival) >= rivalGone {
		b.Rival = ""
	}
	if !b.open || now.Sub(b.Last.Last) < burstGap {
		return
	}
	b.open = false
	if b.Last.Count > 1 {
		b.Log.Warn("tampering has stopped", zap.String("path", b.Path), zap.Uint64("count", b.Last.Count),
			zap.Duration("lasted", b.Last.Last.Sub(b.Last.First)))
	}
}

// Limiter allows so many repairs in a window and pauses after that, the longer
// the more often it happens.
type Limiter struct {
	Repairs        int
	window         time.Duration
	Pause, longest time.Duration
	recent         []time.Time
	Until          time.Time // of the pause
	next           time.Duration
}

// NewLimiter returns one that allows ten repairs in ten seconds.
func NewLimiter() *Limiter {
	return &Limiter{Repairs: 10, window: 10 * time.Second, Pause: 10 * time.Second, longest: 5 * time.Minute}
}

// Allow reports whether to repair now, and whether a pause has just begun.
func (l *Limiter) Allow(now time.Time) (ok, gaveUp bool) {
	if now.Before(l.Until) {
		return false, false
	}
	for len(l.recent) > 0 && now.Sub(l.recent[0]) > l.window {
		l.recent = l.recent[1:]
	}
	if len(l.recent) < l.Repairs {
		if now.Sub(l.Until) > l.longest {
			l.next = 0 // it was quiet for long
		}
		l.recent = append(l.recent, now)
		return true, false
	}
	l.next = min(max(l.Pause, 2*l.next), l.longest)
	l.Until, l.recent = now.Add(l.next), nil
	return false, true
}
