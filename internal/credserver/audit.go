package credserver

import (
	"runtime"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
)

// recordVend writes the audit line and counts.
func (f *face) recordVend(who caller, c *credential) {
	f.server.vends.Add(1)
	f.vends.Inc()
	if time.Until(c.expires) < f.leastLife {
		f.short.Inc()
	}
	c.audit.Info("credentials vended", append(who.fields(), zap.String("face", f.name))...)
}

// countRefusal wants a code that satisfies validCode.
func (f *face) countRefusal(code string) {
	f.server.metrics.GetOrCreateCounter(`nbidentityd_refusals_total{face="` + f.name + `",code="` + code + `"}`).Inc()
}

func (s *Server) register(version string) {
	s.metrics.GetOrCreateGauge("nbidentityd_credential_seconds_left", func() float64 {
		c := s.report().Credential
		if c == nil {
			return 0
		}
		return max(0, time.Until(c.Expires.Round(0)).Seconds())
	})
	s.metrics.GetOrCreateGauge("nbidentityd_build_info{version="+strconv.Quote(version)+",go_version="+strconv.Quote(runtime.Version())+"}",
		func() float64 { return 1 })
}

// A refusal is logged the first few times for each uid and code in a window;
// then only their number is, once, when the window ends. So a hostile loop
// cannot fill the disk, nor drown the first refusals of another uid, unless it
// commands more uids than there are keys.
const (
	refusalWindow = time.Minute
	linesPerKey   = 3
	maxKeys       = 32
)

type refusalKey struct {
	uid  uint32
	code string
}

type refusalLog struct {
	log *zap.Logger

	mu         sync.Mutex
	lines      map[refusalKey]int
	suppressed uint64
	window     *time.Timer // nil outside a window
}

func (l *refusalLog) record(face string, who caller, code string, err error) {
	if !l.admit(refusalKey{who.uid, code}) {
		return
	}
	l.log.Warn("request refused", append(who.fields(),
		zap.String("face", face),
		zap.String("code", code),
		zap.Error(cause(err)))...)
}

// callerUnknown records that nobody can be made responsible for a connection,
// which was closed.
func (l *refusalLog) callerUnknown(face string, err error) {
	if l.admit(refusalKey{noUID, "caller_unknown"}) {
		l.log.Warn("connection refused", zap.String("face", face), zap.Error(err))
	}
}

// cause is what the caller was not told, if there is something.
func cause(err error) error {
	if r, ok := err.(*refusal); ok && r.cause != nil {
		return r.cause
	}
	return err
}

func (l *refusalLog) admit(k refusalKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.window == nil {
		l.lines = make(map[refusalKey]int)
		l.window = time.AfterFunc(refusalWindow, l.flush)
	}
	if _, known := l.lines[k]; !known && len(l.lines) >= maxKeys {
		k = refusalKey{} // the rest share one
	}
	if l.lines[k] >= linesPerKey {
		l.suppressed++
		return false
	}
	l.lines[k]++
	return true
}

// flush ends the window and says what it left out.
func (l *refusalLog) flush() {
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
