// Package source finds what holds CloudTrail records and gives it as plain text.
//
// It guarantees: directories are searched as CloudTrail delivers them to S3
// (AWSLogs/account/CloudTrail/region/yyyy/mm/dd/*.json.gz, at any depth and below
// any prefix), in lexical order, without following links; the siblings
// CloudTrail-Digest and CloudTrail-Insight, which hold no calls, are left out and
// counted; compression is told by content, not by name. It does not guarantee that a
// file holds records: the reader of records says so.
package source

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Input is one file, object or stream.
type Input struct {
	Name string // for messages
	Size int64  // bytes as stored; 0 when unknown
	Open func() (io.ReadCloser, error)
	Done func() int64 // how much of Size is read so far; nil is all of it, once it is
}

// Place is where records are that are not on this machine.
type Place struct {
	URL          string    // s3://bucket/prefix; "" is CloudTrail's event history
	Regions      []string  // of the event history; none is the configured one
	Since, Until time.Time // of the calls that matter; zero is open
}

// Skipped counts what a search found and did not take.
type Skipped struct {
	DigestOrInsight int // files below CloudTrail-Digest or CloudTrail-Insight
	Other           int // files neither JSON nor compressed by name, or not regular
	Folders         int // of a bucket, not looked into: digests, insights, logs of other services
}

// Skips reports whether a file is none of a trail's by its path below the place that is
// searched, and counts it.
func (s *Skipped) Skips(path string) bool {
	switch {
	case !trailName(path):
		s.Other++
	case NoCalls(path):
		s.DigestOrInsight++
	default:
		return false
	}
	return true
}

// Add adds what another search skipped.
func (s *Skipped) Add(o Skipped) {
	s.DigestOrInsight += o.DigestOrInsight
	s.Other += o.Other
	s.Folders += o.Folders
}

// Find returns the inputs at paths: a file whatever its name, the trail files below a
// directory, or "-" for stdin.
func Find(paths []string, stdin io.Reader) ([]Input, Skipped, error) {
	var inputs []Input
	var skipped Skipped
	for _, path := range paths {
		if path == "-" {
			inputs = append(inputs, Input{Name: "standard input", Open: func() (io.ReadCloser, error) { return io.NopCloser(stdin), nil }})
			continue
		}
		found, err := find(path, &skipped)
		if err != nil {
			return nil, skipped, err
		}
		inputs = append(inputs, found...)
	}
	return inputs, skipped, nil
}

func find(path string, skipped *Skipped) ([]Input, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("looking for records: %w", err)
	}
	if !info.IsDir() {
		return []Input{file(path, info.Size())}, nil
	}
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("looking for records: %w", err)
	}
	var inputs []Input
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return nil
		case !entry.Type().IsRegular():
			skipped.Other++
			return nil
		case skipped.Skips(name[len(root):]):
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since
		} else if err != nil {
			return err
		}
		inputs = append(inputs, file(filepath.Join(path, name[len(root):]), info.Size()))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for records: %w", err)
	}
	return inputs, nil
}

func file(path string, size int64) Input {
	return Input{Name: path, Size: size, Open: func() (io.ReadCloser, error) { return os.Open(path) }}
}

// trailName reports whether a file in a directory is worth opening by its name.
func trailName(name string) bool {
	name = strings.ToLower(name)
	for _, suffix := range []string{".json", ".jsonl", ".ndjson", ".gz", ".zst", ".log"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// NoCalls reports whether a path below the searched place belongs to the digests or
// insights that CloudTrail puts beside the records.
func NoCalls(path string) bool {
	for part := range strings.SplitSeq(filepath.ToSlash(path), "/") {
		if part == "CloudTrail-Digest" || part == "CloudTrail-Insight" {
			return true
		}
	}
	return false
}

const (
	buffer    = 128 << 10
	maxLayers = 3        // gzip inside gzip is what Firehose makes of CloudWatch Logs
	maxWindow = 64 << 20 // bytes a zstd frame may ask to be kept
)

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// Decompressor decompresses one input after another, in the memory of the one before: a
// trail is thousands of files. The zero value is ready.
type Decompressor struct {
	stored, unzipped *bufio.Reader
	gzip             gzip.Reader // of the outermost layer, nearly always the only one
}

// Plain returns the text in r, decompressed as often as it says it is compressed. gzip
// may have many members. Closing the result, which must be done before the next call,
// does not close r.
func (d *Decompressor) Plain(r io.Reader) (io.ReadCloser, error) {
	if d.stored == nil {
		d.stored, d.unzipped = bufio.NewReaderSize(nil, buffer), bufio.NewReaderSize(nil, buffer)
	}
	d.stored.Reset(r)
	plain := text{d.stored, func() {}}
	for layer := range maxLayers {
		magic, err := plain.Peek(len(zstdMagic))
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, errors.Join(err, plain.Close())
		}
		switch {
		case layer == 0 && bytes.HasPrefix(magic, gzipMagic):
			if err := d.gzip.Reset(plain.Reader); err != nil {
				return nil, err
			}
			d.unzipped.Reset(&d.gzip)
			plain.Reader = d.unzipped
		case bytes.HasPrefix(magic, gzipMagic):
			inner, err := gzip.NewReader(plain.Reader)
			if err != nil {
				return nil, errors.Join(err, plain.Close())
			}
			plain.Reader = bufio.NewReaderSize(inner, buffer)
		case bytes.Equal(magic, zstdMagic):
			inner, err := zstd.NewReader(plain.Reader, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, errors.Join(err, plain.Close())
			}
			outer := plain.closing
			plain = text{bufio.NewReaderSize(inner, buffer), func() { inner.Close(); outer() }}
		default:
			return plain, nil
		}
	}
	return plain, nil
}

type text struct {
	*bufio.Reader
	closing func()
}

func (t text) Close() error {
	t.closing()
	return nil
}
