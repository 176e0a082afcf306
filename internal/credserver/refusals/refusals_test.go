package refusals

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
)

func TestRefusalLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		l := New(zap.New(core))
		hostile := func() { l.Refused("unix", caller.Caller{UID: 1500}, "forbidden", errors.New("forbidden")) }
		for range 100_000 {
			hostile()
		}
		if got := logs.Len(); got != LinesPerKey {
			t.Fatalf("%d lines for a hostile loop", got)
		}
		// Another uid, and another code of the same one, are still heard.
		l.Refused("unix", caller.Caller{UID: 1501}, "forbidden", errors.New("forbidden"))
		l.Refused("unix", caller.Caller{UID: 1500}, "throttled", errors.New("x"))
		if got := logs.Len(); got != LinesPerKey+2 {
			t.Errorf("%d lines, want %d", got, LinesPerKey+2)
		}
		time.Sleep(window + time.Second)
		last := logs.All()[logs.Len()-1]
		if last.Message != "refusals not logged" || last.ContextMap()["suppressed"] != uint64(100_000-LinesPerKey) {
			t.Errorf("after the window: %v", last)
		}
		n := logs.Len()
		hostile()
		if logs.Len() != n+1 {
			t.Error("a new window stays silent")
		}
		time.Sleep(2 * window) // nothing left out, nothing to say
		if logs.Len() != n+1 {
			t.Errorf("%v", logs.All()[n+1:])
		}
	})
}

// A caller with many uids cannot make many lines.
func TestRefusalLogManyUIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		l := New(zap.New(core))
		for uid := range uint32(65536) {
			l.Refused("unix", caller.Caller{UID: 100000 + uid}, "forbidden", errors.New("forbidden"))
		}
		if got, most := logs.Len(), maxKeys+LinesPerKey; got > most {
			t.Errorf("%d lines, want at most %d", got, most)
		}
		if len(l.lines) > maxKeys+1 {
			t.Errorf("%d keys", len(l.lines))
		}
		l.Flush()
	})
}
