package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	// MaxRecord is the length in bytes of the longest record that is read.
	// CloudTrail's own limit is 256 KB, and what it sends to EventBridge and
	// CloudWatch Logs is within that too.
	MaxRecord = 4 << 20

	window = 256 << 10 // bytes read at a time: fits the second-level cache

	maxContainers = 16
)

// BadError says that a stretch of the input is no CloudTrail record. Reading goes on
// behind it.
type BadError struct {
	Offset  int64  // of its first byte in the (decompressed) input
	Reason  string // one line, without contents of the input
	Foreign bool   // it is sound JSON, but not a CloudTrail record
}

func (e *BadError) Error() string { return fmt.Sprintf("offset %d: %s", e.Offset, e.Reason) }

// Reader reads the records of one input.
type Reader struct {
	src    io.Reader
	buf    []byte // what is read and not yet consumed begins at pos
	pos    int
	base   int64 // offset of buf[0] in the input
	srcErr error // why src ended: io.EOF or worse

	open    []byte // the containers that pos is inside of: '[' or '{'
	started bool
	p       parser
}

// NewReader returns a reader of the records in src, which is plain text:
// decompression is the caller's.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: make([]byte, 0, window)}
}

// Reset makes r read another input with the memory it has.
func (r *Reader) Reset(src io.Reader) {
	*r = Reader{src: src, buf: r.buf[:0], open: r.open[:0], p: parser{scratch: r.p.scratch, unpacked: r.p.unpacked}}
}

// Offset is how far the input has been consumed, in bytes.
func (r *Reader) Offset() int64 { return r.base + int64(r.pos) }

// Next returns the next record, valid until the call after. Its error is a
// [*BadError], after which the caller goes on, or io.EOF at the end, or what src
// returned.
func (r *Reader) Next() (*Record, error) {
	for {
		if !r.skipSeparators() {
			return nil, r.end()
		}
		switch c := r.buf[r.pos]; {
		case c == '{' && !r.inObject():
			rec, err := r.item()
			if rec != nil || err != nil {
				return rec, err
			}
		case c == '{': // the object around it was not closed; this one stands for itself
			r.open = r.open[:len(r.open)-1]
			return nil, &BadError{Offset: r.Offset(), Reason: "an object that is not closed before the next one"}
		case c == '[' && len(r.open) == 0:
			r.open = append(r.open, '[')
			r.pos++
		case c == ']' && r.inArray(), c == '}' && r.inObject():
			r.open = r.open[:len(r.open)-1]
			r.pos++
		case c == '"' && r.inObject():
			if err := r.member(); err != nil {
				return nil, err
			}
		case len(r.open) == 0 && r.timeStamp():
		default:
			return nil, r.bad(r.pos, "neither a record nor the end of the list of records")
		}
	}
}

func (r *Reader) inArray() bool  { return len(r.open) > 0 && r.open[len(r.open)-1] == '[' }
func (r *Reader) inObject() bool { return len(r.open) > 0 && r.open[len(r.open)-1] == '{' }

// fill reads more, moving what is not consumed to the front and growing the buffer
// when it is full. It reports whether there was more.
func (r *Reader) fill() bool {
	if r.srcErr != nil {
		return false
	}
	if r.pos > 0 {
		r.base += int64(r.pos)
		r.buf = r.buf[:copy(r.buf, r.buf[r.pos:])]
		r.pos = 0
	}
	if len(r.buf) == cap(r.buf) {
		if len(r.buf) >= MaxRecord {
			return false
		}
		r.buf = append(make([]byte, 0, min(2*cap(r.buf), MaxRecord)), r.buf...)
	}
	for range 100 {
		n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+n]
		r.srcErr = err
		if n > 0 || err != nil {
			return n > 0
		}
	}
	r.srcErr = io.ErrNoProgress
	return false
}

// skipSeparators goes to the next byte that means something; white space, commas
// and one byte-order mark do not. It reports whether there is one.
func (r *Reader) skipSeparators() bool {
	for {
		if !r.started {
			for len(r.buf) < 3 && r.fill() {
			}
			r.started = true
			if bytes.HasPrefix(r.buf, []byte("\xef\xbb\xbf")) {
				r.pos = 3
			}
		}
		for r.pos < len(r.buf) {
			switch r.buf[r.pos] {
			case ' ', '\n', '\t', '\r', ',':
				r.pos++
			default:
				return true
			}
		}
		if !r.fill() {
			return false
		}
	}
}

// end says why there is nothing more.
func (r *Reader) end() error {
	switch {
	case !errors.Is(r.srcErr, io.EOF):
		return r.srcErr
	case len(r.open) > 0:
		r.open = nil
		return &BadError{Offset: r.Offset(), Reason: "the input ends inside the list of records"}
	}
	return io.EOF
}

// item reads the object at pos: a record, an envelope of one, or the beginning of a
// container, for which it returns nil, nil.
func (r *Reader) item() (*Record, error) {
	i := r.object(r.pos)
	switch {
	case r.p.items > 0 && len(r.open) < maxContainers:
		r.open = append(r.open, '{', '[')
		r.pos = r.p.items
		return nil, nil
	case r.p.items > 0:
		return nil, r.bad(r.pos, "lists of records nested too deeply")
	case i < 0:
		return nil, r.bad(r.pos, r.p.fault)
	}
	start := r.Offset()
	r.pos = i
	r.p.unwrap()
	if fault := r.p.complete(); fault != "" {
		return nil, &BadError{Offset: start, Reason: fault, Foreign: true}
	}
	return &r.p.rec, nil
}

// object parses the object at index from, which is pos or behind it, reading more as
// needed. It returns the index behind it and white space; -1 if it is broken or
// longer than MaxRecord, or if it is a container (p.items is set then). Indices are
// those of buf after the call; pos stays at the same byte of the input.
func (r *Reader) object(from int) int {
	for {
		r.p.reset(r.buf)
		i := r.p.parse(from)
		full := len(r.buf)-r.pos >= MaxRecord
		if i >= 0 {
			// What follows a record tells whether its last brace is its own.
			end := i
			if i = r.p.space(end); i < len(r.buf) {
				return r.followed(end, i)
			}
			if full || r.srcErr != nil {
				return i
			}
		}
		if i < 0 && (!r.p.short || r.srcErr != nil) {
			return -1
		}
		if full {
			r.p.fault = "a record longer than 4 MiB"
			return -1
		}
		before := r.pos
		r.fill() // at the end of the input the next round says so
		from -= before - r.pos
	}
}

// followed returns to if what stands there may follow the complete object that ends
// at end. Between records that are not in a list, a new line is enough.
func (r *Reader) followed(end, to int) int {
	c := r.buf[to]
	switch {
	case c == ',', c == '{', c == ']':
		return to
	case len(r.open) == 0 && (c == '[' || '0' <= c && c <= '9' || bytes.IndexByte(r.buf[end:to], '\n') >= 0):
		return to
	}
	return r.p.fail(to, "a record with something else behind its end")
}

// member reads a key and its value in a container, such as NextToken or a second
// array of records.
func (r *Reader) member() error {
	for {
		r.p.reset(r.buf)
		start, end, _, v := r.p.key(r.pos)
		if v >= 0 && v < len(r.buf) && r.buf[v] == '[' && holdsRecords(r.buf[start:end]) {
			r.open = append(r.open, '[')
			r.pos = v + 1
			return nil
		}
		if v >= 0 {
			// A value that touches the end of the buffer may go on behind it.
			if i := r.p.value(v, len(r.open)); i >= 0 && i < len(r.buf) {
				r.pos = i
				return nil
			} else if i >= 0 {
				r.p.fail(i, "")
			}
		}
		if !r.p.short || !r.fill() {
			return r.bad(r.pos, r.p.fault)
		}
	}
}

// timeStamp skips the time that CloudWatch Logs puts before a line when it exports
// to S3, and reports whether there was one.
func (r *Reader) timeStamp() bool {
	const longest = len("2006-01-02T15:04:05.000000000Z ")
	for len(r.buf)-r.pos < longest && r.fill() {
	}
	line := r.buf[r.pos:min(r.pos+longest, len(r.buf))]
	stamp, _, found := bytes.Cut(line, []byte(" "))
	if _, isTime := seconds(stamp); !found || !isTime {
		return false
	}
	r.pos += len(stamp)
	return true
}

// bad notes that what begins at index from is broken, goes to where the next sound
// record begins, and returns the report.
func (r *Reader) bad(from int, reason string) error {
	report := &BadError{Offset: r.base + int64(from), Reason: reason}
	r.resync(from + 1)
	return report
}

// resync sets pos to the next brace from which a sound record or a container can be
// read, or to the end of the input. Brackets and quotes cannot be trusted after an
// error, so each brace is tried, except one that follows a colon on its line, which
// would be the value of a key.
//
// A failed try may look at much more than it skips. Credit bounds that: what is
// looked at in vain is at most tryFactor times what is skipped, whatever the input.
func (r *Reader) resync(from int) {
	const tryFactor = 64
	credit := MaxRecord
	last := byte(0) // before pos, blanks aside
	for r.pos = from; ; r.pos++ {
		brace := bytes.IndexByte(r.buf[r.pos:], '{')
		for brace < 0 {
			last = lastByte(r.buf[r.pos:], last)
			r.pos = len(r.buf)
			if !r.fill() {
				r.open = nil // said already that something is wrong
				return
			}
			brace = bytes.IndexByte(r.buf[r.pos:], '{')
		}
		last = lastByte(r.buf[r.pos:r.pos+brace], last)
		r.pos += brace
		credit = min(credit+tryFactor*(brace+1), MaxRecord)
		if last != ':' && credit > 0 {
			sound, looked := r.soundAt()
			if sound {
				if r.inObject() { // the list had seemed to be over
					r.open = append(r.open, '[')
				}
				return
			}
			credit -= looked
		}
		last = '{'
	}
}

// lastByte returns the last byte of b that is not a blank, otherwise what was last
// before b.
func lastByte(b []byte, before byte) byte {
	if b = bytes.TrimRight(b, " \t"); len(b) > 0 {
		return b[len(b)-1]
	}
	return before
}

// soundAt reports whether a record or a container begins at pos, and how many bytes
// it took to see.
func (r *Reader) soundAt() (sound bool, looked int) {
	i := r.object(r.pos)
	if r.p.items > 0 {
		r.open = nil // whatever was open, this is a new list
		return true, 0
	}
	if i < 0 {
		return false, r.p.at - r.pos
	}
	r.p.unwrap()
	return r.p.complete() == "", i - r.pos
}
