package configguard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/configguard/awsdir"
	"github.com/nbidentityd/nbidentityd/internal/configguard/homewatch"
	"github.com/nbidentityd/nbidentityd/internal/configguard/tamper"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

const (
	pollEvery = 3 * time.Second
	minRest   = 20 * time.Millisecond
	// complainEvery bounds the log lines about a file that cannot be kept.
	complainEvery  = time.Minute
	maxShadowLines = 20 // in that time
	// unanswered is more than there ever is between two looks at a home that
	// answers, with the rest after a costly one.
	unanswered = 10 * time.Minute
	// restFactor times the CPU time that a look took the guard rests, so that
	// nobody can make it use more than about 1 % of a core by looking.
	restFactor = 100
	// maxGrowth bounds the text to compare: one that is suddenly larger than
	// this and twice the last good one is put away unread.
	maxGrowth = 64 << 10
)

// State is what is known of one file, for the status, the metrics and the
// judgement how sure attribution is. It is as old as Looked; when that is long ago,
// the file is not said to be in order.
type State struct {
	Path    string    `json:"path"`
	Looked  time.Time `json:"looked,omitzero"`
	Written bool      `json:"written"`           // it said what it must
	Problem string    `json:"problem,omitempty"` // why not, or what else is wrong

	// Immutable: file and directory were found locked, the file one that the
	// user never could open for writing. Else Reason says why not.
	Immutable bool   `json:"immutable"`
	Reason    string `json:"reason,omitempty"`
	// Watching: changes are noticed at once; else NotWatching says why they are
	// only by the poll.
	Watching    bool   `json:"watching"`
	NotWatching string `json:"not_watching,omitempty"`

	Tampers     uint64       `json:"tampers"` // times the keys were found gone or overridden
	Last        tamper.Burst `json:"last_tamper,omitzero"`
	Repairs     uint64       `json:"repairs"`
	PausedUntil time.Time    `json:"paused_until,omitzero"` // no repairs until then
	Rival       string       `json:"rival,omitempty"`

	Shadows []awsconfig.Finding `json:"shadows,omitempty"`
	Faults  []awsconfig.Finding `json:"faults,omitempty"` // lines of the user's own that break some client
}

// Guard keeps one user's file as Config says.
type Guard struct {
	cfg     Config
	limiter *tamper.Limiter
	poll    time.Duration
	budget  int // events in a period

	work    chan struct{} // holds a token during a visit, one at a time; guards the fields below
	tampers tamper.Book
	good    []byte // the last text that was in order; may hold secrets of the user's
	locked  bool
	repairs uint64
	shadows []awsconfig.Finding
	problem string // that was logged last
	reason  string

	shadowsFrom time.Time // when counting of their log lines began
	shadowLines int

	complained bool
	complaint  time.Time

	mu    sync.Mutex // never held while a file system works
	state State
}

// New returns a Guard that does nothing until Run.
func New(cfg Config) *Guard {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	path := cfg.path()
	return &Guard{
		cfg: cfg, limiter: tamper.NewLimiter(), poll: pollEvery, budget: homewatch.MaxEvents, work: make(chan struct{}, 1),
		tampers: tamper.Book{Log: cfg.Log, Path: path},
		state:   State{Path: path, Reason: "not looked at yet", NotWatching: "not looked at yet"},
	}
}

// State returns what was seen last. It does not wait.
func (g *Guard) State() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.state
	s.Shadows, s.Faults = slices.Clone(s.Shadows), slices.Clone(s.Faults)
	if !s.Looked.IsZero() && time.Since(s.Looked) > unanswered {
		s.Written, s.Immutable = false, false
		s.Problem = "the home has not answered since " + s.Looked.UTC().Format(time.RFC3339)
		s.Reason = s.Problem
	}
	return s
}

// Run writes the file, locks it where that is asked for and possible, and
// repairs it, until ctx is done; then it returns nil and leaves all as it is:
// Release and Undo take it back. What goes wrong shows in State and the log and
// is tried again.
func (g *Guard) Run(ctx context.Context) error {
	w := &homewatch.Watcher{Home: g.cfg.Home, UID: g.cfg.UID, GID: g.cfg.GID, Poll: g.poll, Budget: g.budget}
	w.Deaf = func() { g.report(w) }
	defer w.Close("")
	if !g.cfg.Lock {
		if err := Release(g.cfg); err != nil {
			g.cfg.Log.Warn("lock of an earlier run not taken off", zap.Error(err))
		}
	}
	for {
		var m mood
		spent := cpuTime(func() {
			w.Follow() // first, so that nothing is missed between looking and watching
			m = g.look()
		})
		rest := max(minRest, restFactor*spent)
		if m == fought {
			rest = max(rest, g.poll)
		}
		if m != calm || w.Busy() {
			// Even events that nobody reads wake the process.
			w.Close("somebody keeps changing it: it is looked at now and then")
		}
		g.report(w)
		rested := time.Now().Add(rest)
		if m == calm && !w.Wait(ctx) {
			return nil
		}
		if !wait(ctx, time.Until(rested)) {
			return nil
		}
	}
}

// wait returns after d, or false when ctx is done. An idle guard has no use for a
// timer, which would wake the machine.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// cpuTime returns what f has cost this thread. The time that it waited for a
// disk or for other processes does not count.
func cpuTime(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_THREAD, &before)
	f()
	if err = errors.Join(err, unix.Getrusage(unix.RUSAGE_THREAD, &after)); err != nil {
		return 0 // the call has no way to fail
	}
	return time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
}

func (g *Guard) report(w *homewatch.Watcher) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Watching, g.state.NotWatching = w.Watching()
	w.Locked = g.state.Immutable
}

// mood is how a look was.
type mood int

const (
	calm      mood = iota
	disturbed      // it had been changed, and was repaired
	fought         // it could not be repaired, or must not be for a while
)

// look compares the file with what it must say, and repairs it.
func (g *Guard) look() mood {
	g.work <- struct{}{}
	defer func() { <-g.work }()
	now, before := time.Now(), g.tampers.Count
	if g.cfg.StateDir != "" {
		// It may have been made on a disk that is there no more. Without it the
		// visit fails, and says so.
		_ = os.MkdirAll(g.cfg.StateDir, 0o700)
	}
	v, err := openVisit(g.cfg)
	var seen sight
	if err == nil {
		defer v.close()
		if v.displace = g.good != nil; v.displace {
			v.limit = min(v.limit, max(maxGrowth, 2*int64(len(g.good))))
		}
		err = v.retry(func() error {
			seen, err = g.compare(v, now)
			return err
		})
	}
	g.tampers.Quiet(now)
	var unlockable error
	if v != nil {
		unlockable = v.unlockable
	}
	g.conclude(now, seen, err, unlockable)
	switch {
	case errors.Is(err, errPaused), errors.Is(err, safefile.ErrContended):
		return fought
	case g.tampers.Count != before:
		return disturbed
	}
	return calm
}

// sight is what one look has seen.
type sight struct {
	right   bool // the file says what it must
	held    bool
	shadows []awsconfig.Finding
	faults  []awsconfig.Finding
}

var errPaused = errors.New("somebody changes it again and again")

func (g *Guard) compare(v *visit, now time.Time) (sight, error) {
	v.displaced, v.unlockable = nil, nil
	f, err := v.find(v.displace)
	if err != nil {
		return sight{}, err
	}
	defer func() { f.close() }()
	edit, err := awsconfig.Plan(f.text, g.cfg.Managed)
	if v.displaced == nil && err != nil {
		// The clients differ in what they make of such a text.
		if g.good == nil {
			return sight{}, fmt.Errorf("editing %s: %w", v.path(), err)
		}
		v.displaced = err
	}
	if v.displaced != nil {
		return sight{}, g.replace(v, f, now)
	}
	if v.restore && !f.version.Exists() {
		edit.Text = g.good
	}
	var seen sight
	seen.shadows, seen.faults = v.shadows(f, edit.Text)
	held, err1 := f.held()
	closed, err2 := f.closed(v.UID)
	if err := errors.Join(err1, err2); err != nil {
		return seen, err
	}
	what := g.judge(f, held, closed)
	if what != "" && !v.restore {
		g.tampers.Note(now, what, f.version, f.text)
	}
	wrong := what != "" || closed || !f.version.Exists() || !bytes.Equal(edit.Text, f.text)
	if wrong {
		if err := g.mayRepair(v, now); err != nil {
			return seen, err
		}
	}
	if _, err := v.put(f, edit.Text); err != nil {
		return seen, err
	}
	if wrong && g.good != nil {
		g.repairs++
		g.tampers.Repaired()
	}
	g.good = edit.Text
	seen.right, seen.held = true, v.unlockable == nil // put has looked
	return seen, nil
}

// replace puts away what cannot be edited. The next round then finds nothing
// and writes the last good text, with the user's profiles.
func (g *Guard) replace(v *visit, f found, now time.Time) error {
	g.tampers.Note(now, "in its place: "+v.displaced.Error(), f.version, f.text)
	if err := g.mayRepair(v, now); err != nil {
		return err
	}
	var err error
	if f.dir != nil {
		if _, err = v.unlockFor(f.dir); err == nil {
			err = v.putAway(f.dir, awsdir.Config, v.displaced, false)
		}
	} else {
		f, err = v.find(false)
		f.close()
	}
	v.restore = true
	return errors.Join(err, safefile.ErrChanged)
}

// judge says in what way the file has been tampered with, or "". Edits that
// keep our keys are the user's right.
func (g *Guard) judge(f found, held, closed bool) string {
	switch {
	case g.good == nil:
		return ""
	case f.dir == nil:
		return "the directory was removed"
	case !f.version.Exists():
		return "the file was removed"
	case !awsconfig.Binds(f.text, g.cfg.Managed):
		if found := awsconfig.Check(f.text, g.cfg.Managed); len(found) > 0 {
			return found[0].Problem
		}
		return "the keys do not bind"
	case closed:
		return "the user's right to read it was taken away"
	case g.locked && !held:
		return "the immutable flag was taken off"
	}
	return ""
}

// mayRepair fails with errPaused after too many repairs.
func (g *Guard) mayRepair(v *visit, now time.Time) error {
	if g.good == nil || v.allowed {
		return nil
	}
	ok, gaveUp := g.limiter.Allow(now)
	if gaveUp {
		g.cfg.Log.Warn("repairs of the aws config pause", zap.String("path", v.path()), zap.Time("until", g.limiter.Until),
			zap.Uint64("repairs", g.repairs))
	}
	if !ok {
		return fmt.Errorf("%w: not repaired until %s", errPaused, g.limiter.Until.UTC().Format(time.RFC3339))
	}
	v.allowed = true
	return nil
}

// conclude makes the state, and logs what is new in it.
func (g *Guard) conclude(now time.Time, seen sight, err, unlockable error) {
	path := zap.String("path", g.tampers.Path)
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	switch {
	case problem == g.problem, errors.Is(err, errPaused):
	case problem == "" && g.complained:
		g.cfg.Log.Info("aws config is in order again", path)
		g.problem, g.complained = "", false
	case problem != "" && now.Sub(g.complaint) > complainEvery: // the user has a hand in the text
		g.cfg.Log.Warn("aws config is not in order", path, zap.Error(err))
		g.problem, g.complained, g.complaint = problem, true, now
	}
	s := State{Path: g.tampers.Path, Looked: now, Written: seen.right, Problem: problem, Immutable: seen.held,
		Tampers: g.tampers.Count, Last: g.tampers.Last, Repairs: g.repairs, Rival: g.tampers.Rival, Shadows: seen.shadows, Faults: seen.faults}
	if g.limiter.Until.After(now) {
		s.PausedUntil = g.limiter.Until
	}
	switch {
	case seen.held:
	case unlockable != nil:
		s.Reason = unlockable.Error()
	case problem != "":
		s.Reason = problem
	}
	if seen.right {
		if g.locked != seen.held || g.reason != s.Reason {
			g.cfg.Log.Info("aws config guarded", path, zap.Bool("immutable", seen.held), zap.String("reason", s.Reason))
		}
		g.locked, g.reason = seen.held, s.Reason
	}
	if err == nil || len(seen.shadows) > 0 {
		g.compareShadows(seen.shadows)
	}
	s.Shadows = g.shadows
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Watching, s.NotWatching = g.state.Watching, g.state.NotWatching
	g.state = s
}

// compareShadows logs what has begun or ceased to override the file.
func (g *Guard) compareShadows(now []awsconfig.Finding) {
	has := func(list []awsconfig.Finding, f awsconfig.Finding) bool {
		return slices.ContainsFunc(list, func(o awsconfig.Finding) bool { return o.File == f.File && o.Key == f.Key && o.Problem == f.Problem })
	}
	if t := time.Now(); t.Sub(g.shadowsFrom) > complainEvery {
		g.shadowsFrom, g.shadowLines = t, 0
	}
	loud := func() bool { // the user can make them come and go in a loop
		g.shadowLines++
		return g.shadowLines <= maxShadowLines
	}
	for _, f := range now {
		if !has(g.shadows, f) && loud() {
			g.cfg.Log.Warn("aws config is overridden", zap.String("path", g.tampers.Path), zap.Stringer("by", f))
		}
	}
	for _, f := range g.shadows {
		if !has(now, f) && loud() {
			g.cfg.Log.Info("aws config is no longer overridden", zap.String("path", g.tampers.Path), zap.String("file", f.File), zap.String("key", f.Key))
		}
	}
	g.shadows = now
}
