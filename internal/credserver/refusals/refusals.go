// Package refusals writes the log lines of requests that were refused, at a rate
// that callers cannot raise.
//
// A refusal is logged the first few times for each uid and code in a minute;
// then only their number is, once, when the minute ends. So a hostile loop
// cannot fill the disk, nor drown the first refusals of another uid, unless it
// commands more uids than there are keys.
package refusals

import (
	"log"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
)

// LinesPerKey is how many refusals of one uid and code are logged in a minute.
const LinesPerKey = 3

const (
	window  = time.Minute
	maxKeys = 32
)

type key struct {
	uid  uint32
	code string
}

// Log is the log of refusals. Its methods may be called concurrently.
type Log struct {
	log *zap.Logger

	mu         sync.Mutex
	lines      map[key]int
	suppressed uint64
	window     *time.Timer // nil outside a window
}

// New returns a log that writes to log.
func New(log *zap.Logger) *Log { return &Log{log: log} }

// Refused records that a request was refused, and why.
func (l *Log) Refused(face string, who caller.Caller, code string, err error) {
	if l.admit(key{who.UID, code}) {
		l.log.Warn("request refused", append(who.Fields(), zap.String("face", face), zap.String("code", code), zap.Error(err))...)
	}
}

// CallerUnknown records that nobody can be made responsible for a connection,
// which was closed.
func (l *Log) CallerUnknown(face string, err error) {
	if l.admit(key{caller.NoUID, "caller_unknown"}) {
		l.log.Warn("connection refused", zap.String("face", face), zap.Error(err))
	}
}

// HTTP takes net/http's own complaints (a handler that panicked, a listener out
// of file descriptors): callers may be able to repeat what provokes them.
func (l *Log) HTTP() *log.Logger { return log.New(complaints{l}, "", 0) }

type complaints struct{ *Log }

func (c complaints) Write(p []byte) (int, error) {
	if c.admit(key{code: "http"}) {
		c.log.Warn("http server complained", zap.String("detail", strings.TrimSpace(string(p))))
	}
	return len(p), nil
}

func (l *Log) admit(k key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.window == nil {
		l.lines = make(map[key]int)
		l.window = time.AfterFunc(window, l.Flush)
	}
	if _, known := l.lines[k]; !known && len(l.lines) >= maxKeys {
		k = key{} // the rest share one
	}
	if l.lines[k] >= LinesPerKey {
		l.suppressed++
		return false
	}
	l.lines[k]++
	return true
}

// Flush ends the window and says what it left out.
func (l *Log) Flush() {
	l.mu.Lock()
	n := l.suppressed
	l.suppressed = 0
	if l.window != nil {
		l.window.Stop()
		l.window = nil
	}
	l.mu.Unlock()
	if n > 0 {
		l.log.Warn("refusals not logged", zap.Uint64("suppressed", n))
	}
}
