// Package fault makes an HTTP service misbehave on demand: late, silent,
// throttled, failing, garbled, cut off, refused, or with a wrong clock.
//
// # What it guarantees
//
// A [Set] holds at most one [Fault] of each kind for each service name, and may
// be changed while requests are served. A fault with a count strikes exactly
// that many requests, however many arrive at once. A request that waits
// (latency, hang, slow) stops waiting when its context ends. Faults of
// different kinds combine, in the order refuse, latency, hang, reset, throttle,
// error; then the service acts and its answer is garbled, slowed or truncated.
// So under refuse, reset, throttle and error the service has not acted, and
// under malformed, slow and truncated it has.
//
// # What it does not do
//
// Below HTTP only the end of a connection can be shaped, not packets. A
// handler cannot refuse a connection that is already accepted, so refuse
// resets it; a listener from [Set.Listen] refuses for real. Over HTTP/2, where
// a connection belongs to many requests, an abort ends the stream only.
//
// The package is longer than most because each kind of fault is made at another
// place: before the service, in its answer, at the listener.
package fault

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Kind says how a request is to suffer.
type Kind string

// The kinds, with the fields of Fault that they use.
const (
	Latency   Kind = "latency"    // Duration before the service acts
	Hang      Kind = "hang"       // no answer until the client leaves or the fault is cleared; then the service acts
	Reset     Kind = "reset"      // TCP reset instead of an answer
	Throttle  Kind = "throttle"   // the service's own throttling error
	Failure   Kind = "error"      // the service's own error with Status
	Malformed Kind = "malformed"  // status and headers of the real answer, Body instead of its body
	Truncated Kind = "truncated"  // full Content-Length, half the bytes, then the connection closes
	Slow      Kind = "slow"       // the answer in small pieces, spread over Duration
	ClockSkew Kind = "clock_skew" // the service's clock is Duration ahead (negative: behind)
	Refuse    Kind = "refuse"     // no connection
)

var kinds = []Kind{Latency, Hang, Reset, Throttle, Failure, Malformed, Truncated, Slow, ClockSkew, Refuse}

// AnyService is the service name that stands for all of them. A fault for a
// service by name goes before one of the same kind for any.
const AnyService = "*"

// Fault is one switch. Its JSON form has the fields service, kind, count,
// duration (such as "1.5s"), status and body.
type Fault struct {
	Service  string        // such as "sts" or "imds"; "*" or "" = any
	Kind     Kind          //
	Count    int           // requests to strike; 0 = until cleared
	Duration time.Duration // latency, slow, clock_skew
	Status   int           // error: 500 to 599; 0 = 503
	Body     string        // malformed: the bytes to send; "" = some garbage
}

// State is a fault with the number of requests that it has struck so far.
type State struct {
	Fault
	Hits int
}

// Spent reports whether the fault has struck as often as it was to.
func (s State) Spent() bool { return s.Count > 0 && s.Hits >= s.Count }

func (f Fault) check() error {
	if !slices.Contains(kinds, f.Kind) {
		return fmt.Errorf("unknown kind of fault %q: want one of %q", f.Kind, kinds)
	}
	usesDuration := f.Kind == Latency || f.Kind == Slow || f.Kind == ClockSkew
	switch {
	case f.Count < 0:
		return fmt.Errorf("fault %s: count %d is negative", f.Kind, f.Count)
	case f.Count > 0 && f.Kind == ClockSkew:
		return fmt.Errorf("fault %s: a clock cannot be wrong for a count of requests", f.Kind)
	case usesDuration && f.Duration == 0:
		return fmt.Errorf("fault %s: needs a duration", f.Kind)
	case !usesDuration && f.Duration != 0:
		return fmt.Errorf("fault %s: takes no duration", f.Kind)
	case f.Duration < 0 && f.Kind != ClockSkew:
		return fmt.Errorf("fault %s: duration %s is negative", f.Kind, f.Duration)
	case f.Status != 0 && (f.Kind != Failure || f.Status < 500 || f.Status > 599):
		return fmt.Errorf("fault %s: status %d: only an error takes one, from 500 to 599", f.Kind, f.Status)
	case f.Body != "" && f.Kind != Malformed:
		return fmt.Errorf("fault %s: takes no body", f.Kind)
	}
	return nil
}

// wire is the JSON form of State; a Fault has no hits and is never spent.
type wire struct {
	Service  string `json:"service"`
	Kind     Kind   `json:"kind"`
	Count    int    `json:"count,omitempty"`
	Duration string `json:"duration,omitempty"`
	Status   int    `json:"status,omitempty"`
	Body     string `json:"body,omitempty"`
}

func (f Fault) wire() wire {
	w := wire{Service: f.Service, Kind: f.Kind, Count: f.Count, Status: f.Status, Body: f.Body}
	if f.Duration != 0 {
		w.Duration = f.Duration.String()
	}
	return w
}

func (w wire) fault() (Fault, error) {
	f := Fault{Service: w.Service, Kind: w.Kind, Count: w.Count, Status: w.Status, Body: w.Body}
	if w.Duration == "" {
		return f, nil
	}
	var err error
	if f.Duration, err = time.ParseDuration(w.Duration); err != nil {
		return f, fmt.Errorf("fault %s: reading duration: %w", f.Kind, err)
	}
	return f, nil
}

// MarshalJSON renders the fault, its hits and whether it is spent.
func (s State) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		wire
		Hits  int  `json:"hits"`
		Spent bool `json:"spent"`
	}{s.wire(), s.Hits, s.Spent()})
}

// Set is a table of faults. The zero value is empty and ready for use. It must
// not be copied.
type Set struct {
	// Render answers a throttled or failed request in the error shape of the
	// service; f.Kind is Throttle or Failure. nil = a plain JSON error. Set it
	// before the first request.
	Render Renderer

	mu sync.Mutex
	// The fields below are guarded by mu.
	faults  map[key]*entry
	changed chan struct{} // closed at the next Set or Clear; nil = nobody waits
}

type key struct {
	service string
	kind    Kind
}

type entry struct {
	State
	cleared chan struct{} // closed when the fault is cleared or replaced
}

// Set switches a fault on, in place of one of the same service and kind.
func (s *Set) Set(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.Service == "" {
		f.Service = AnyService
	}
	if f.Kind == Failure && f.Status == 0 {
		f.Status = 503
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{f.Service, f.Kind}
	s.removeLocked(k)
	if s.faults == nil {
		s.faults = make(map[key]*entry)
	}
	s.faults[k] = &entry{State: State{Fault: f}, cleared: make(chan struct{})}
	s.announceLocked()
	return nil
}

// Clear switches faults off and lets go of the requests that hang on them. An
// empty service or kind stands for every one; AnyService only for the faults
// that were set so.
func (s *Set) Clear(service string, kind Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.faults {
		if (service == "" || k.service == service) && (kind == "" || k.kind == kind) {
			s.removeLocked(k)
		}
	}
	s.announceLocked()
}

// List returns the faults, spent ones included, ordered by service and kind.
func (s *Set) List() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]State, 0, len(s.faults))
	for _, e := range s.faults {
		list = append(list, e.State)
	}
	slices.SortFunc(list, func(a, b State) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Kind, b.Kind))
	})
	return list
}

// Offset returns how far the service's clock is ahead of the true time.
func (s *Set) Offset(service string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.findLocked(service, ClockSkew); e != nil {
		return e.Duration
	}
	return 0
}

// strike returns the fault that hits one request, nil when there is none, and
// counts it.
func (s *Set) strike(service string, kind Kind) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.findLocked(service, kind)
	if e != nil {
		e.Hits++
	}
	return e
}

func (s *Set) findLocked(service string, kind Kind) *entry {
	for _, name := range []string{service, AnyService} {
		if e := s.faults[key{name, kind}]; e != nil && !e.Spent() {
			return e
		}
	}
	return nil
}

func (s *Set) removeLocked(k key) {
	if e := s.faults[k]; e != nil {
		close(e.cleared)
		delete(s.faults, k)
	}
}

func (s *Set) announceLocked() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// refusing reports whether the service is to refuse connections until further
// notice, and returns a channel that is closed when that may have changed.
func (s *Set) refusing(service string) (refuse bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	e := s.findLocked(service, Refuse)
	return e != nil && e.Count == 0, s.changed
}
