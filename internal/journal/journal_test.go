package journal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// file is one that can be stuck or full.
type file struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
	stuck  chan struct{} // nil: it is not
	err    error
}

func (f *file) Write(p []byte) (int, error) {
	if f.stuck != nil {
		<-f.stuck
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	if f.err != nil {
		return 0, f.err
	}
	return f.text.Write(p)
}

func (f *file) read() (text string, writes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String(), f.writes
}

func form() zapcore.Encoder {
	return zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m", TimeKey: "t", EncodeTime: zapcore.EpochNanosTimeEncoder})
}

func TestLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{}
		w := New(f)
		log := zap.New(w.Later(form(), zapcore.InfoLevel)).With(zap.String("of", "all"))
		want := ""
		for round := range 3 {
			given := time.Now().UnixNano() // in the line, not when it was written
			for i := range 100 {
				log.Debug("none")
				log.Info("vended", zap.Int("n", i))
				want += fmt.Sprintf(`{"t":%d,"m":"vended","of":"all","n":%d}`+"\n", given, i)
			}
			if _, n := f.read(); n != round {
				t.Errorf("round %d: %d writes at once", round, n)
			}
			time.Sleep(delay)
			synctest.Wait()
			if text, n := f.read(); text != want || n != round+1 {
				t.Errorf("round %d: %d writes, %q", round, n, text)
			}
		}
		log.Info("later")
		w.Write([]byte("at once\n"))
		log.Info("end")
		if err := log.Sync(); err != nil {
			t.Fatal(err)
		}
		now := time.Now().UnixNano()
		want += fmt.Sprintf(`{"t":%d,"m":"later","of":"all"}`+"\nat once\n"+`{"t":%d,"m":"end","of":"all"}`+"\n", now, now)
		if text, _ := f.read(); text != want {
			t.Errorf("%q\nwant\n%q", text, want)
		}
	})
}

// While the file is stuck no more lines are taken than there is room for, and no
// line is lost.
func TestStuck(t *testing.T) {
	f := &file{stuck: make(chan struct{})}
	w := New(f)
	taken := 0
	for w.lay(line{form: form()}) && taken < 10*most {
		taken++
	}
	if taken < most || taken > 2*most { // those that are being written, and those that wait
		t.Errorf("%d lines taken while the file is stuck", taken)
	}
	const writers, each = 8, 1000
	log := zap.New(w.Later(form(), zapcore.InfoLevel))
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				log.Info("")
			}
		})
	}
	close(f.stuck)
	all.Wait()
	w.Sync()
	if text, _ := f.read(); strings.Count(text, "\n") != taken+writers*each {
		t.Errorf("%d lines written, want %d", strings.Count(text, "\n"), taken+writers*each)
	}
}

// A file that fails holds up nobody.
func TestFull(t *testing.T) {
	w := New(&file{err: errors.New("full")})
	core := w.Later(form(), zapcore.InfoLevel)
	failed := 0
	for range 10 * most {
		if err := core.Write(zapcore.Entry{}, nil); err != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Error("nobody is told")
	}
	if _, err := w.Write([]byte("x\n")); err != nil {
		return
	}
	t.Error("written to a full file")
}
