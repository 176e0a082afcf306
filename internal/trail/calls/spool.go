package calls

import (
	"encoding/binary"
	"errors"
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
	resource          []byte
}

// Writer returns a writer. What it was given is in the spool after Flush.
func (s *Spool) Writer() *Writer {
	return &Writer{spool: s, plain: make([]byte, 0, blockSize+64<<10)}
}

// Add puts a call into the spool.
func (w *Writer) Add(c *Call) error {
	w.numbers(c.Time, c.Caller.Created)
	for _, field := range c.strings() {
		w.plain = binary.AppendUvarint(w.plain, uint64(len(*field)))
		w.plain = append(w.plain, *field...)
	}
	return w.flushWhenFull()
}

// AddRecord puts the call that a record is of into the spool, as Add does with that
// of FromRecord.
func (w *Writer) AddRecord(r *record.Record) error {
	w.numbers(r.Time, r.Identity.Session.Created)
	fields := views(r)
	w.resource = appendResource(w.resource[:0], r)
	fields[resourceField] = w.resource
	for _, field := range fields {
		w.plain = binary.AppendUvarint(w.plain, uint64(len(field)))
		w.plain = append(w.plain, field...)
	}
	return w.flushWhenFull()
}

func (w *Writer) numbers(at, created int64) {
	w.plain = binary.AppendVarint(w.plain, at)
	w.plain = binary.AppendVarint(w.plain, created)
}

func (w *Writer) flushWhenFull() error {
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
	return w.spool.add(w.compressed)
}

// strings lists the fields in the order in which they are kept.
func (c *Call) strings() [fieldCount]*string {
	id := &c.Caller
	return [...]*string{
		&c.Service, &c.Action, &c.Region, &c.Address, &c.Error, &c.Resource, &c.Account, &c.ID, &c.SharedID,
		&id.Type, &id.Principal, &id.ARN, &id.Account, &id.Key, &id.User, &id.InvokedBy, &id.Source, &id.Issuer, &id.Person, &id.Scope,
	}
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
	for text, c := string(r.plain), (Call{}); len(text) > 0; {
		if text, err = c.decode(text); err != nil {
			return err
		}
		f(&c)
	}
	return nil
}

var errSpool = errors.New("reading calls back: the temporary file has changed")

func (c *Call) decode(text string) (rest string, err error) {
	for _, number := range []*int64{&c.Time, &c.Caller.Created} {
		u, size := uvarint(text)
		if size == 0 {
			return "", errSpool
		}
		*number, text = int64(u>>1)^-int64(u&1), text[size:]
	}
	for _, field := range c.strings() {
		length, size := uvarint(text)
		if size == 0 || length > uint64(len(text)-size) {
			return "", errSpool
		}
		*field, text = text[size:size+int(length)], text[size+int(length):]
	}
	return text, nil
}

// uvarint is binary.Uvarint for strings; the size is 0 when there is no number.
func uvarint(s string) (u uint64, size int) {
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		u |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return u, i + 1
		}
	}
	return 0, 0
}
