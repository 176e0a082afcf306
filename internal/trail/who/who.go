// Package who is the command that answers, from CloudTrail records, who made which
// calls: it reads the inputs, asks the index about each call, selects, counts, and
// shows.
//
// It guarantees that memory does not grow with the number of calls but for what package
// intake keeps of each and by what the result holds: with a limit, that many calls; with
// a grouping, the groups. It makes no request to AWS; inputs that have to be fetched are
// the caller's, in Config.Fetch.
//
// It is longer than most because its flags combine: whatever is shown (collect.go) is
// selected by all of them (options.go), and counted while the calls pass by (who.go).
package who

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/trail"
	"github.com/nbidentityd/nbidentityd/internal/trail/athena"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/intake"
	"github.com/nbidentityd/nbidentityd/internal/trail/report"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
)

// Exit codes.
const (
	Done   = 0
	Failed = 1
	Usage  = 2
	Found  = 3 // --escapes or --conflicts, and there are some
)

// Config is the surroundings of the command.
type Config struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Columns        int  // width of the terminal that Stdout is; 0 when it is none
	Terminal       bool // Stderr is a terminal, on which progress is shown
	Now            time.Time
	TempDir        string // for calls that do not fit in memory; "" is the system's

	// Fetch finds the inputs of a place that is not on this machine; nil when there are
	// no such places.
	Fetch func(ctx context.Context, p source.Place) ([]source.Input, source.Skipped, error)
}

// Run runs the command with its arguments, says on Stderr what went wrong, and returns
// the exit code.
func Run(ctx context.Context, args []string, cfg Config) int {
	o, err := parse(args, cfg.Stderr, cfg.Now)
	switch {
	case errors.Is(err, errHelp):
		return Done
	case err != nil:
		fmt.Fprintf(cfg.Stderr, "who: %v\n", err)
		return Usage
	}
	if o.athena != nil {
		if err := athena.Write(cfg.Stdout, *o.athena); err != nil {
			fmt.Fprintf(cfg.Stderr, "who: writing the queries: %v\n", err)
			return Failed
		}
		return Done
	}
	// Most of what is allocated is short-lived, and memory is promised to be little.
	defer debug.SetGCPercent(debug.SetGCPercent(35))
	found, err := run(ctx, o, cfg)
	if err != nil {
		fmt.Fprintf(cfg.Stderr, "who: %v\n", err)
		return Failed
	}
	if found {
		return Found
	}
	return Done
}

const maxReports = 20 // places that could not be read, before they are only counted

func run(ctx context.Context, o *options, cfg Config) (found bool, err error) {
	inputs, skipped, err := o.inputs(ctx, cfg)
	if err != nil {
		return false, err
	}
	reports := 0
	progress := new(intake.Progress)
	stop := watch(ctx, progress, inputs, cfg)
	read, err := intake.Read(ctx, inputs, progress, intake.Config{Workers: o.workers, TempDir: cfg.TempDir, Bad: func(b intake.Bad) {
		if reports++; reports <= maxReports {
			fmt.Fprintf(cfg.Stderr, "who: %s: offset %d: %s\n", report.Clean(b.Input), b.Offset, report.Clean(b.Reason))
		}
	}})
	stop()
	if err != nil {
		return false, fmt.Errorf("reading: %w", err)
	}
	defer func() { err = errors.Join(err, read.Spool.Close()) }()
	if reports > maxReports {
		fmt.Fprintf(cfg.Stderr, "who: %d more such places\n", reports-maxReports)
	}
	if read.Stats.Inputs > 0 && read.Stats.Failed == read.Stats.Inputs {
		return false, errors.New("none of the inputs could be read")
	}
	index := trail.NewIndex(read.Evidence, trail.Config{Template: o.template})
	doc, err := answer(ctx, index, read, o)
	if err != nil {
		return false, err
	}
	doc.Summary.Read, doc.Summary.DigestFiles, doc.Summary.OtherFiles, doc.Summary.OtherFolders = read.Stats, skipped.DigestOrInsight, skipped.Other, skipped.Folders
	found = o.escapes && doc.Summary.Escapes > 0 || o.conflicts && len(doc.Conflicts) > 0
	return found, write(doc, o, cfg)
}

func (o *options) inputs(ctx context.Context, cfg Config) (all []source.Input, sum source.Skipped, err error) {
	take := func(inputs []source.Input, skipped source.Skipped, err error) error {
		all = append(all, inputs...)
		sum.Add(skipped)
		return err
	}
	for _, path := range o.paths {
		if isPlace(path) && cfg.Fetch != nil {
			err = take(cfg.Fetch(ctx, o.place(path)))
		} else {
			err = take(source.Find([]string{path}, cfg.Stdin))
		}
		if err != nil {
			return nil, sum, err
		}
	}
	if o.lookup && cfg.Fetch != nil {
		err = take(cfg.Fetch(ctx, o.place("")))
	}
	return all, sum, err
}

// answer asks about every call and collects what is to be shown.
func answer(ctx context.Context, index *trail.Index, read *intake.Trail, o *options) (*report.Document, error) {
	parts := make([]*part, o.workers)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for i := range parts {
		p := newPart(index, o)
		parts[i] = p
		reader := read.Spool.Reader()
		group.Go(func() error {
			for {
				b := int(next.Add(1)) - 1
				if b >= read.Spool.Blocks() || ctx.Err() != nil {
					return ctx.Err()
				}
				if err := p.read(reader, b); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := parts[0]
	for _, p := range parts[1:] {
		all.merge(p)
	}
	return all.document(), nil
}

func write(doc *report.Document, o *options, cfg Config) error {
	if o.html != "" {
		if err := writeHTML(doc, o, cfg); err != nil {
			return err
		}
		if o.html == "-" {
			return nil
		}
		fmt.Fprintf(cfg.Stderr, "who: wrote %s\n", o.html)
		return nil
	}
	switch o.format {
	case "json":
		return doc.WriteJSON(cfg.Stdout)
	case "csv":
		if rest := doc.Rest(); rest != "" {
			fmt.Fprintf(cfg.Stderr, "who: %s\n", rest)
		}
		return doc.WriteCSV(cfg.Stdout)
	}
	return doc.WriteText(cfg.Stdout, cfg.Columns)
}

func writeHTML(doc *report.Document, o *options, cfg Config) (err error) {
	w := cfg.Stdout
	if o.html != "-" {
		file, err := os.Create(o.html)
		if err != nil {
			return fmt.Errorf("writing the page: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		w = file
	}
	if err := doc.WriteHTML(w, o.title()); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

// watch shows on a terminal how far reading is, until the function that it returns is
// called.
func watch(ctx context.Context, progress *intake.Progress, inputs []source.Input, cfg Config) (stop func()) {
	if !cfg.Terminal {
		return func() {}
	}
	total := int64(0)
	var fetched []source.Input // that tell themselves how far they are
	for _, input := range inputs {
		total += input.Size
		if input.Done != nil {
			fetched = append(fetched, input)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		began := time.Now()
		tick := time.NewTicker(time.Second / 2)
		defer tick.Stop()
		for shown := false; ; {
			select {
			case <-tick.C:
				fmt.Fprint(cfg.Stderr, "\r\x1b[K"+status(progress, sofar(fetched), total, time.Since(began)))
				shown = true
			case <-ctx.Done():
				if shown {
					fmt.Fprint(cfg.Stderr, "\r\x1b[K")
				}
				return
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

func sofar(inputs []source.Input) (sum int64) {
	for _, input := range inputs {
		sum += input.Done()
	}
	return sum
}

// status is one line about a run that has taken some time. stored is what is done
// besides the inputs that are read to their end.
func status(p *intake.Progress, stored, total int64, spent time.Duration) string {
	stored += p.Stored.Load()
	line := fmt.Sprintf("%d records, %.0f MB/s", p.Records.Load(), float64(p.Plain.Load())/1e6/max(spent.Seconds(), 0.001))
	if total > 0 && stored > 0 {
		left := time.Duration(float64(spent) * float64(total-stored) / float64(stored))
		line = fmt.Sprintf("%d %%, %s, %v left", 100*stored/total, line, left.Round(time.Second))
	}
	return line
}

// part is what one goroutine selects and counts.
type part struct {
	index *trail.Index
	asker *trail.Asker // of the block that is read
	o     *options

	summary   report.Summary
	newest    newest
	groups    map[string]*group
	actions   map[string]*group
	timelines map[string]map[int64]*report.Hour
	escapes   newest
	objects   map[string]*objects // by Lake Formation session
}

// group counts calls that have something in common.
type group struct {
	calls, errors, escapes, disputed int
	first, last                      int64
	names                            map[string]bool
}

// objects is what was read in a Lake Formation session.
type objects struct {
	reads int
	first []string
}

const maxObjects = 20

func newPart(index *trail.Index, o *options) *part {
	return &part{
		index: index, o: o,
		summary: report.Summary{Rungs: make(map[string]int), Reasons: make(map[string]int)},
		newest:  newest{limit: o.limit}, escapes: newest{limit: maxEscapes},
		groups: make(map[string]*group), actions: make(map[string]*group),
		timelines: make(map[string]map[int64]*report.Hour), objects: make(map[string]*objects),
	}
}

const maxEscapes = 500 // shown on a page

// read takes the calls of a block.
func (p *part) read(r *calls.Reader, block int) error {
	p.asker = p.index.Asker()
	return r.Read(block, p.take)
}

// take answers for a call, and counts it if it was asked for.
func (p *part) take(c *calls.Call) {
	if p.index.IsCopy(c) {
		p.summary.Copies++
		return
	}
	if p.o.queries {
		p.object(c)
	}
	if !p.o.wants(c) {
		return
	}
	a := p.asker.Who(c)
	if !p.o.wantsAnswer(&a) {
		return
	}
	s := &p.summary
	s.Calls++
	if a.Name != "" {
		s.Named++
		s.Rungs[string(a.Rung)]++
	} else {
		s.Reasons[string(a.Reason)]++
	}
	switch a.Escape {
	case trail.Bypass:
		s.Escapes++
	case trail.StartUp:
		s.StartUps++
	case trail.Possible:
		s.BaseCalls++
	}
	if a.Reason == trail.Disputed {
		s.Disputed++
	}
	if p.o.by != "" {
		count(p.groups, p.o.key(c, &a), c, &a)
	}
	if p.o.html != "" {
		count(p.actions, report.Action(c), c, &a)
		p.hour(c, &a)
		if a.Escape == trail.Bypass {
			p.escapes.add(c, &a)
		}
	}
	if p.o.showCalls() {
		p.newest.add(c, &a)
	}
}

func count(groups map[string]*group, key string, c *calls.Call, a *trail.Answer) {
	g := groups[key]
	if g == nil {
		g = &group{first: c.Time, last: c.Time, names: make(map[string]bool)}
		groups[string([]byte(key))] = g // not hold on to the block of calls
	}
	g.calls++
	if c.Error != "" {
		g.errors++
	}
	if a.Escape == trail.Bypass {
		g.escapes++
	}
	if a.Reason == trail.Disputed {
		g.disputed++
	}
	g.first, g.last = min(g.first, c.Time), max(g.last, c.Time)
	if a.Name != "" && !g.names[a.Name] {
		g.names[string([]byte(a.Name))] = true
	}
}

func (p *part) hour(c *calls.Call, a *trail.Answer) {
	name := cmp.Or(a.Name, unattributed)
	hours := p.timelines[name]
	if hours == nil {
		hours = make(map[int64]*report.Hour)
		p.timelines[string([]byte(name))] = hours
	}
	start := c.Time - c.Time%3600
	h := hours[start]
	if h == nil {
		h = &report.Hour{Start: time.Unix(start, 0).UTC()}
		hours[start] = h
	}
	h.Calls++
	if a.Escape == trail.Bypass {
		h.Escapes++
	}
}

// object notes what was read in a session that Lake Formation handed out: not what was
// refused or written, nor the keys to it.
func (p *part) object(c *calls.Call) {
	session := c.Caller.Session()
	if !lakeFormation(session) || c.Resource == "" || c.Error != "" || c.Service != "s3.amazonaws.com" || c.Action != "GetObject" {
		return
	}
	o := p.objects[session]
	if o == nil {
		o = new(objects)
		p.objects[string([]byte(session))] = o
	}
	o.add(c.Resource)
}

func (o *objects) add(resource string) {
	o.reads++
	at, found := slices.BinarySearch(o.first, resource)
	if found || at == maxObjects {
		return
	}
	o.first = slices.Insert(o.first, at, string([]byte(resource)))
	o.first = o.first[:min(len(o.first), maxObjects)]
}
