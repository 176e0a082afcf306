package calls

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/nbidentityd/nbidentityd/internal/trail/record"
)

const (
	// MemoryLimit is how many bytes of compressed calls stay in memory: those of
	// about a hundred thousand calls.
	MemoryLimit = 8 << 20

	blockSize = 512 << 10 // of calls before compression
)

// Spool keeps calls until they have all been read, so that those that come early can
// be judged by those that come late, and the input is read only once.
type Spool struct {
	dir string

	mu     sync.Mutex
	blocks []block
	memory int
	file   *os.File // nil until memory is full
	end    int64
}

// block is compressed calls in memory, or in the file when it has no bytes.
type block struct {
	bytes  []byte
	at     int64
	length int
}

// NewSpool returns a spool that makes its temporary file, if it needs one, in dir;
// "" is the system's usual place.
func NewSpool(dir string) *Spool { return &Spool{dir: dir} }

// Close gives up the file.
func (s *Spool) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

func (s *Spool) add(compressed []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory+len(compressed) <= MemoryLimit {
		s.memory += len(compressed)
		s.blocks = append(s.blocks, block{bytes: append([]byte(nil), compressed...)})
		return nil
	}
	if s.file == nil {
		file, err := os.CreateTemp(s.dir, "nbidentityd-who-")
		if err != nil {
			return fmt.Errorf("keeping calls in a temporary file: %w (TMPDIR names another place)", err)
		}
		s.file = file
		if err := os.Remove(file.Name()); err != nil {
			return fmt.Errorf("keeping calls in a temporary file: %w", err)
		}
	}
	if _, err := s.file.WriteAt(compressed, s.end); err != nil {
		return fmt.Errorf("keeping calls in a temporary file: %w (TMPDIR names another place)", err)
	}
	s.blocks = append(s.blocks, block{at: s.end, length: len(compressed)})
	s.end += int64(len(compressed))
	return nil
}

// Writer adds calls to a spool; each goroutine has its own.
type Writer struct {
	spool             *Spool
	plain, compressed []byte
	callers           map[string]uint64 // numbers, from 1, of those in plain that may come again, by their text
	caller, resource  []byte
}

// Writer returns a writer. What it was given is in the spool after Flush.
func (s *Spool) Writer() *Writer {
	return &Writer{spool: s, plain: make([]byte, 0, blockSize+64<<10), callers: make(map[string]uint64)}
}

// Add puts the call that a record is of into the spool. A caller stands in a block
// once, before its first call: most calls have the caller of many others. A service that
// calls for somebody does so with a key of its own each time.
func (w *Writer) Add(r *record.Record) error {
	w.plain = binary.AppendVarint(w.plain, r.Time)
	w.caller = appendCaller(w.caller[:0], &r.Identity)
	number := w.callers[string(w.caller)]
	w.plain = binary.AppendUvarint(w.plain, number)
	if number == 0 {
		w.plain = append(w.plain, w.caller...)
		if len(r.Identity.InvokedBy) == 0 {
			w.callers[string(w.caller)] = uint64(len(w.callers)) + 1
		}
	}
	fields := views(r)
	w.resource = appendResource(w.resource[:0], r)
	fields[resourceField] = w.resource
	for _, field := range fields {
		w.plain = appendField(w.plain, field)
	}
	if len(w.plain) < blockSize {
		return nil
	}
	return w.Flush()
}

// Flush hands over what was added.
func (w *Writer) Flush() error {
	if len(w.plain) == 0 {
		return nil
	}
	if limit := s2.MaxEncodedLen(len(w.plain)); cap(w.compressed) < limit {
		w.compressed = make([]byte, limit)
	}
	w.compressed = s2.Encode(w.compressed[:cap(w.compressed)], w.plain)
	w.plain = w.plain[:0]
	clear(w.callers)
	return w.spool.add(w.compressed)
}

// Blocks is the number of blocks to read.
func (s *Spool) Blocks() int { return len(s.blocks) }

// Reader reads calls back; each goroutine has its own.
type Reader struct {
	spool         *Spool
	stored, plain []byte
}

// Reader returns a reader. All writers must have been flushed.
func (s *Spool) Reader() *Reader { return &Reader{spool: s} }

// Read calls f with each call of a block. The call is f's until f returns; its strings
// hold on to the memory of the whole block, so what is kept wants cloning.
func (r *Reader) Read(number int, f func(*Call)) error {
	b := r.spool.blocks[number]
	if b.bytes == nil {
		r.stored = slices.Grow(r.stored[:0], b.length)[:b.length]
		b.bytes = r.stored
		if _, err := r.spool.file.ReadAt(b.bytes, b.at); err != nil {
			return fmt.Errorf("reading calls back: %w", err)
		}
	}
	var err error
	if r.plain, err = s2.Decode(r.plain[:cap(r.plain)], b.bytes); err != nil {
		return fmt.Errorf("reading calls back: %w", err)
	}
	var callers []*Caller
	for text, c := string(r.plain), (Call{}); len(text) > 0; {
		if text, err = c.decode(text, &callers); err != nil {
			return err
		}
		f(&c)
	}
	return nil
}

// decode reads a call. callers are those of the block so far that have numbers.
func (c *Call) decode(text string, callers *[]*Caller) (rest string, err error) {
	if c.Time, text, err = cutNumber(text); err != nil {
		return "", err
	}
	number, size := uvarint(text)
	if size == 0 || number > uint64(len(*callers)) {
		return "", errText
	}
	text = text[size:]
	if number > 0 {
		c.Caller = (*callers)[number-1]
	} else {
		c.Caller = new(Caller)
		if text, err = c.Caller.decode(text); err != nil {
			return "", err
		}
		if c.Caller.InvokedBy == "" {
			*callers = append(*callers, c.Caller)
		}
	}
	for _, field := range c.strings() {
		if *field, text, err = cutField(text); err != nil {
			return "", err
		}
	}
	return text, nil
}
