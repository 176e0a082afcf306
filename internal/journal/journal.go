// Package journal writes the daemon's log: most lines at once, those of which
// there can be thousands in a second a few milliseconds later, many of them by
// one system call.
//
// It guarantees that lines are written whole and in the order in which they were
// given; that one given to Later is written within 5 ms, and before any that is
// written at once; that no more than 256 wait, and whoever brings more waits
// itself, as long as it takes; and that after Sync none waits. So a line is lost
// only with the process: when it is killed, those of the last 5 ms.
package journal

import (
	"errors"
	"io"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"
)

const (
	delay = 5 * time.Millisecond
	most  = 256 // lines that wait
)

// Writer writes lines to one file. Its methods may be called concurrently. It is
// a zapcore.WriteSyncer.
type Writer struct {
	out   sync.Mutex // held while writing; taken before mu
	to    io.Writer
	spare []line // memory of what was written last
	text  []byte // the same

	mu      sync.Mutex
	waiting []line
	timer   *time.Timer
	armed   bool // the timer will see to what waits
}

// line is one that has not been written down yet. Doing that for many at a time
// takes less of the processor, too.
type line struct {
	form   zapcore.Encoder
	entry  zapcore.Entry
	fields []zapcore.Field
}

// New returns a writer to file.
func New(file io.Writer) *Writer { return &Writer{to: file} }

// Write writes a line at once, after those that wait.
func (w *Writer) Write(text []byte) (int, error) {
	w.out.Lock()
	defer w.out.Unlock()
	if err := w.writeWaiting(); err != nil {
		return 0, err
	}
	return w.to.Write(text)
}

// Sync writes what waits.
func (w *Writer) Sync() error {
	w.out.Lock()
	defer w.out.Unlock()
	return w.writeWaiting()
}

// writeWaiting wants out to be held.
func (w *Writer) writeWaiting() error {
	w.mu.Lock()
	lines := w.waiting
	w.waiting, w.armed = w.spare, false
	w.mu.Unlock()
	var errs []error
	w.text = w.text[:0]
	for _, l := range lines {
		text, err := l.form.EncodeEntry(l.entry, l.fields)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w.text = append(w.text, text.Bytes()...)
		text.Free()
	}
	clear(lines)
	w.spare = lines[:0]
	if len(w.text) > 0 {
		_, err := w.to.Write(w.text)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// lay lets a line wait, and reports whether there was room.
func (w *Writer) lay(l line) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) >= most {
		return false
	}
	w.waiting = append(w.waiting, l)
	switch {
	case w.armed:
	case w.timer == nil:
		// A file that cannot be written to is not told of: there is no other.
		w.timer = time.AfterFunc(delay, func() { _ = w.Sync() })
	default:
		w.timer.Reset(delay)
	}
	w.armed = true
	return true
}

// Later returns a core whose lines wait. The fields that it is given must not
// change any more.
func (w *Writer) Later(form zapcore.Encoder, level zapcore.LevelEnabler) zapcore.Core {
	return &later{level, form, w}
}

type later struct {
	zapcore.LevelEnabler
	form zapcore.Encoder
	to   *Writer
}

func (c *later) With(fields []zapcore.Field) zapcore.Core {
	form := c.form.Clone()
	for _, f := range fields {
		f.AddTo(form)
	}
	return &later{c.LevelEnabler, form, c.to}
}

func (c *later) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c *later) Write(e zapcore.Entry, fields []zapcore.Field) error {
	for !c.to.lay(line{c.form, e, fields}) {
		if err := c.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func (c *later) Sync() error { return c.to.Sync() }
