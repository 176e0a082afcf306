package credserver

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestRefusalLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		l := refusalLog{log: zap.New(core)}
		hostile := func() { l.record("unix", caller{uid: 1500}, "forbidden", errForbidden) }
		for range 100_000 {
			hostile()
		}
		if got := logs.Len(); got != linesPerKey {
			t.Fatalf("%d lines for a hostile loop", got)
		}
		// Another uid, and another code of the same one, are still heard.
		l.record("unix", caller{uid: 1501}, "forbidden", errForbidden)
		l.record("unix", caller{uid: 1500}, "throttled", errors.New("x"))
		if got := logs.Len(); got != linesPerKey+2 {
			t.Errorf("%d lines, want %d", got, linesPerKey+2)
		}
		time.Sleep(refusalWindow + time.Second)
		last := logs.All()[logs.Len()-1]
		if last.Message != "refusals not logged" || last.ContextMap()["suppressed"] != uint64(100_000-linesPerKey) {
			t.Errorf("after the window: %v", last)
		}
		n := logs.Len()
		hostile()
		if logs.Len() != n+1 {
			t.Error("a new window stays silent")
		}
		time.Sleep(2 * refusalWindow) // nothing left out, nothing to say
		if logs.Len() != n+1 {
			t.Errorf("%v", logs.All()[n+1:])
		}
	})
}

// A caller with many uids cannot make many lines.
func TestRefusalLogManyUIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		l := refusalLog{log: zap.New(core)}
		for uid := range uint32(65536) {
			l.record("unix", caller{uid: 100000 + uid}, "forbidden", errForbidden)
		}
		if got, most := logs.Len(), maxKeys+linesPerKey; got > most {
			t.Errorf("%d lines, want at most %d", got, most)
		}
		if len(l.lines) > maxKeys+1 {
			t.Errorf("%d keys", len(l.lines))
		}
		l.flush()
	})
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"": "", " a\r\nb\tc ": "a b c", "\x1b[0m\x00\x7f": "[0m", "é\u202e": "??", "\xff": "?",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", in, got, want)
		}
	}
	if got := oneLine(strings.Repeat("é", 10_000)); len(got) > maxMessage {
		t.Errorf("%d bytes", len(got))
	}
}

func TestSuffix(t *testing.T) {
	for in, want := range map[string]string{"": "", "ABCD": "", "ABCDE": "BCDE"} {
		if got := suffix(in); got != want {
			t.Errorf("suffix(%q) = %q, want %q", in, got, want)
		}
	}
}
