// Package intake reads inputs into what the answers are made from: the calls, in a
// spool, and the evidence.
//
// It guarantees: each input is read once, several at a time; a record delivered twice
// is taken once; what cannot be read is reported with input and offset, counted, and
// stops neither the input nor the run; memory does not grow with the input but for 8 to
// 16 bytes a record, to know duplicates, and for the evidence.
package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/evidence"
	"github.com/nbidentityd/nbidentityd/internal/trail/record"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
)

// Config says how to read.
type Config struct {
	Workers int    // inputs read at a time; 0 means 1
	TempDir string // of the spool; "" is the system's
	Bad     func(Bad)
}

// Bad is something that could not be read. Reports come one at a time.
type Bad struct {
	Input  string
	Offset int64 // in the decompressed input
	Reason string
}

// Stats counts what was read and what was not.
type Stats struct {
	Inputs     int   `json:"inputs"`
	Bytes      int64 `json:"bytes"`      // decompressed
	Records    int   `json:"records"`    // taken
	Duplicates int   `json:"duplicates"` // records delivered before
	Insights   int   `json:"insights"`   // CloudTrail Insights records, which are no calls
	Foreign    int   `json:"foreign"`    // JSON objects that are no CloudTrail records
	Broken     int   `json:"broken"`     // places that are no JSON
	Failed     int   `json:"failed"`     // inputs that could not be opened, or not to their end
	First      int64 `json:"first"`      // time of the earliest record, Unix seconds
	Last       int64 `json:"last"`
}

func (s *Stats) add(o *Stats) {
	if o.Records > 0 {
		if s.Records == 0 || o.First < s.First {
			s.First = o.First
		}
		s.Last = max(s.Last, o.Last)
	}
	s.Inputs += o.Inputs
	s.Bytes += o.Bytes
	s.Records += o.Records
	s.Duplicates += o.Duplicates
	s.Insights += o.Insights
	s.Foreign += o.Foreign
	s.Broken += o.Broken
	s.Failed += o.Failed
}

// Trail is what was read.
type Trail struct {
	Spool    *calls.Spool
	Evidence *evidence.Evidence
	Stats    Stats
}

// Progress counts while a run goes on, for whoever watches it.
type Progress struct {
	Stored  atomic.Int64 // bytes of the inputs, as stored, that are done; those with a Done of their own aside
	Plain   atomic.Int64 // the same, decompressed
	Records atomic.Int64
}

// Read reads all inputs. The caller closes the spool.
func Read(ctx context.Context, inputs []source.Input, progress *Progress, cfg Config) (*Trail, error) {
	if progress == nil {
		progress = new(Progress)
	}
	trail := &Trail{Spool: calls.NewSpool(cfg.TempDir)}
	seen := calls.NewSeen()
	workers := min(max(cfg.Workers, 1), max(len(inputs), 1))
	var next atomic.Int64
	var mu sync.Mutex // guards the reports
	readers := make([]*reader, workers)
	group, ctx := errgroup.WithContext(ctx)
	for i := range readers {
		r := &reader{
			seen: seen, spool: trail.Spool.Writer(), collector: evidence.NewCollector(), records: record.NewReader(nil), progress: progress,
			bad: func(b Bad) {
				mu.Lock()
				defer mu.Unlock()
				if cfg.Bad != nil {
					cfg.Bad(b)
				}
			},
		}
		readers[i] = r
		group.Go(func() error {
			for {
				at := int(next.Add(1)) - 1
				if at >= len(inputs) {
					return r.spool.Flush()
				}
				if err := r.read(ctx, inputs[at]); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, trail.Spool.Close())
	}
	collectors := make([]*evidence.Collector, workers)
	for i, r := range readers {
		collectors[i] = r.collector
		trail.Stats.add(&r.stats)
	}
	trail.Evidence = evidence.Merge(collectors...)
	return trail, nil
}

// reader is what one goroutine reads with.
type reader struct {
	seen      *calls.Seen
	plain     source.Decompressor
	spool     *calls.Writer
	collector *evidence.Collector
	records   *record.Reader
	progress  *Progress
	bad       func(Bad)
	stats     Stats
}

// read reads one input. Its error is one that ends the run.
func (r *reader) read(ctx context.Context, input source.Input) error {
	r.stats.Inputs++
	if input.Done == nil {
		defer r.progress.Stored.Add(input.Size)
	}
	stored, err := input.Open()
	if err != nil {
		return r.fail(ctx, input, 0, err)
	}
	defer stored.Close()
	plain, err := r.plain.Plain(stored)
	if err != nil {
		return r.fail(ctx, input, 0, err)
	}
	defer plain.Close()
	return r.all(ctx, input, plain)
}

// fail reports an input. When the run is over, that is why it fails, and the error.
func (r *reader) fail(ctx context.Context, input source.Input, offset int64, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.stats.Failed++
	r.bad(Bad{Input: input.Name, Offset: offset, Reason: err.Error()})
	return nil
}

const checkEvery = 4096 // records between looks at the context

func (r *reader) all(ctx context.Context, input source.Input, plain io.Reader) error {
	r.records.Reset(plain)
	done := int64(0)
	for count := 1; ; count++ {
		if count%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			r.progress.Plain.Add(r.records.Offset() - done)
			done = r.records.Offset()
		}
		rec, err := r.records.Next()
		var bad *record.BadError
		switch {
		case err == nil:
			if err := r.take(rec); err != nil {
				return fmt.Errorf("reading %s: %w", input.Name, err)
			}
			continue
		case errors.As(err, &bad) && bad.Foreign:
			r.stats.Foreign++
			r.bad(Bad{input.Name, bad.Offset, bad.Reason})
			continue
		case errors.As(err, &bad):
			r.stats.Broken++
			r.bad(Bad{input.Name, bad.Offset, bad.Reason})
			continue
		case !errors.Is(err, io.EOF):
			if err := r.fail(ctx, input, r.records.Offset(), err); err != nil {
				return err
			}
		}
		r.stats.Bytes += r.records.Offset()
		r.progress.Plain.Add(r.records.Offset() - done)
		return ctx.Err()
	}
}

func (r *reader) take(rec *record.Record) error {
	if string(rec.EventCategory) == "Insight" || string(rec.EventType) == "AwsCloudTrailInsight" {
		r.stats.Insights++
		return nil
	}
	if !r.seen.Add(rec.EventID) {
		r.stats.Duplicates++
		return nil
	}
	if r.stats.Records == 0 || rec.Time < r.stats.First {
		r.stats.First = rec.Time
	}
	if r.stats.Records == 0 || rec.Time > r.stats.Last {
		r.stats.Last = rec.Time
	}
	r.stats.Records++
	r.progress.Records.Add(1)
	r.collector.Add(rec)
	return r.spool.Add(rec)
}
