// Package rolecreds assumes the role for one identity and keeps the
// credentials fresh in memory.
//
// What it guarantees:
//
//   - One goroutine, Run, makes every call to STS, one at a time and under the
//     daemon's context. A Retrieve never calls anybody: it reads memory, or
//     waits for the attempt that is under way. A caller that gives up disturbs
//     nobody else.
//   - The credentials are renewed at half of their real life, so that a client
//     of one-hour sessions always sees more than 25 minutes, and a day costs at
//     most 49 AssumeRole calls however many clients there are.
//   - When STS fails, the last good credentials are served to their true end
//     with their true Expiration. Expired, empty or half credentials are never
//     served, nor any whose session name, role or source identity is not the
//     one asked for.
//   - Attempts after a failure are spread by full jitter, and every failure
//     has a code, a sentence and a remedy ([awscause.Error]).
//   - Time is judged by two clocks, so that a suspended machine renews at its
//     first request after waking, and a clock that is set back delays nothing.
//     Between refreshes nothing wakes up.
//
// What it does not: the daemon's memory holds the secrets, and Go strings
// cannot be wiped; a replaced set is only dropped. Against a clock that is
// wrong by hours it can only complain: clients sign with the same clock.
//
// Documented AWS behaviour it relies on: role chaining caps a session at one
// hour; AssumeRole echoes SourceIdentity and names the session in
// AssumedRoleUser.Arn, without the path of the role; a source identity once
// set is sticky, and setting another is refused with the words of a missing
// sts:SetSourceIdentity. To tell these two apart, the first such refusal of a
// row is followed by one AssumeRole without a source identity, whose
// credentials are dropped at once; it leaves one record of its own in
// CloudTrail. GetCallerIdentity needs no permission; it is asked once, after
// the first credentials are ready, whether the name has landed.
//
// It is longer than most because one loop has to be right about two clocks,
// about what STS may answer and about whom it has told: lease.go knows the
// clocks, assume.go judges a call, refresh.go decides, source.go serves and
// status.go tells.
package rolecreds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
)

// STS is the part of *sts.Client that a Source calls. Each call carries option
// functions that switch the client's own retries off, so the client may have
// any retryer. Its credentials are the base credentials; a provider without a
// cache suits best, since it is asked only once in half an hour and cached
// credentials may have been rotated away (a *aws.CredentialsCache is
// invalidated when STS refuses what it holds).
type STS interface {
	AssumeRole(context.Context, *sts.AssumeRoleInput, ...func(*sts.Options)) (*sts.AssumeRoleOutput, error)
	GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error)
}

// Config says which role to assume and under which name. All but Tags and Log
// are required.
type Config struct {
	// STS signs with the base credentials of the notebook.
	STS STS

	// RoleARN is the ARN of the role, with its path.
	RoleARN string

	// SessionName and SourceIdentity are what CloudTrail shows; 2 to 64
	// characters out of A-Z a-z 0-9 + = , . @ _ -.
	SessionName    string
	SourceIdentity string

	// Tags are passed as session tags; they need sts:TagSession on both sides.
	Tags map[string]string

	// Before is the source of an earlier life of this process, which has ended, or
	// nil. What it holds is served until the first renewal if it is for the same
	// role and name: a reload while STS fails takes nothing from anybody.
	Before *Source

	// Log gets changes of state as Info and failures as Warn. Default: none.
	Log *zap.Logger
}

// Source is an aws.CredentialsProvider for one role and one name. Its methods
// may be called from any goroutine.
type Source struct {
	cfg   Config
	log   *zap.Logger
	ready chan struct{} // closed with the first good credentials
	poke  chan struct{} // tells Run that a moment has passed by the wall clock
	pulse chan struct{} // asks Run for a sign of life

	// Only Run touches these.
	caller    *caller
	probed    bool            // a refused source identity has been looked into in this row
	conflict  *awscause.Error // and this is what was found
	distrust  bool            // a wrong name has landed: verify before serving
	warned    string          // code of the last warning
	warnedAt  time.Time
	askedName int // failed calls of GetCallerIdentity in a row

	mu       sync.Mutex
	started  bool
	stopped  bool
	busy     bool            // an attempt is under way
	attempt  chan struct{}   // closed and replaced when an attempt ends
	current  *lease          // nil before the first credentials
	next     moment          // when Run attempts again; the zero moment is now
	cause    *awscause.Error // why the last attempt failed; nil after a success
	failures int             // in a row
	calls    Calls
	naming   naming
	offset   time.Duration // local clock minus AWS's at the last answer
}

// naming is what is known about the name of the credentials.
type naming struct {
	verified bool
	arn      string
	problem  string // why it could not be asked
	next     moment // when to ask again
}

var _ aws.CredentialsProvider = (*Source)(nil)

// New returns a Source that has nothing to serve until Run runs.
func New(cfg Config) *Source {
	log := cfg.Log
	if log == nil {
		log = zap.NewNop()
	}
	s := &Source{
		cfg:     cfg,
		log:     log.With(zap.String("role_arn", cfg.RoleARN), zap.String("session_name", cfg.SessionName)),
		ready:   make(chan struct{}),
		poke:    make(chan struct{}, 1),
		pulse:   make(chan struct{}),
		attempt: make(chan struct{}),
	}
	if l := cfg.Before.bequest(cfg); l.valid(time.Now()) {
		s.current = l
		close(s.ready)
	}
	s.cfg.Before = nil
	return s
}

// bequest is what s, which has stopped, leaves to a source of cfg; nil is nothing.
func (s *Source) bequest(cfg Config) *lease {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	same := s.cfg.RoleARN == cfg.RoleARN && s.cfg.SessionName == cfg.SessionName &&
		s.cfg.SourceIdentity == cfg.SourceIdentity && maps.Equal(s.cfg.Tags, cfg.Tags)
	if !s.stopped || s.distrust || !same {
		return nil
	}
	return s.current
}

// Ready returns a channel that is closed when the first good credentials can
// be retrieved.
func (s *Source) Ready() <-chan struct{} { return s.ready }

// Run keeps the credentials fresh until ctx is done and then returns nil. It
// returns an error only for a Config that can never work. It may be called
// once.
func (s *Source) Run(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	defer s.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-s.poke:
		case <-s.pulse:
		}
		if s.due(time.Now()) {
			s.refresh(ctx)
		}
		if s.nameDue(time.Now()) {
			s.verify(ctx)
		}
		timer.Reset(s.untilNext(time.Now()))
	}
}

// Alive returns nil when Run takes its next turn, or why it has not before ctx
// ended. An attempt that fails is over within 40 seconds: four calls at most.
func (s *Source) Alive(ctx context.Context) error {
	select {
	case s.pulse <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the loop that renews the credentials hangs: %w", ctx.Err())
	}
}

func (s *Source) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return errors.New("running the credentials source: it has been run before")
	}
	s.started = true
	c, err := newCaller(s.cfg)
	if err != nil {
		s.cause = awscause.New(awscause.Cause{Code: awscause.CodeFailed, Problem: "settings for the role: " + err.Error(), Remedy: "correct the settings and start again"}, err)
		s.stopLocked()
		return fmt.Errorf("settings for the role: %w", err)
	}
	s.caller = c
	return nil
}

func (s *Source) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked()
}

func (s *Source) stopLocked() {
	s.stopped = true
	s.endAttemptLocked()
}

// Retrieve returns the current credentials with their true Expiration. It
// makes no call; when nothing valid is held it waits, no longer than ctx, for
// the attempt that is under way or due, and else fails at once with the cause of
// the last failure. Every error has an [awscause.Error] in its chain.
func (s *Source) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, wait, err := s.look()
	if wait == nil {
		return creds, err
	}
	select {
	case <-wait:
		creds, _, err = s.look()
		return creds, err
	case <-ctx.Done():
		return aws.Credentials{}, err
	}
}

// look returns what can be served now. Otherwise it returns why not and, when an
// attempt is under way or due, a channel that is closed at its end.
func (s *Source) look() (creds aws.Credentials, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	due := !s.stopped && !s.busy && s.next.passed(now)
	if due {
		select {
		case s.poke <- struct{}{}:
		default: // one is enough
		}
	}
	if s.current.valid(now) {
		return s.current.creds, nil, nil
	}
	if due || s.busy {
		wait = s.attempt
	}
	return aws.Credentials{}, wait, s.lackLocked()
}

// lackLocked says why there is nothing to serve.
func (s *Source) lackLocked() error {
	switch {
	case s.current == nil && s.cause == nil && s.stopped:
		return awscause.New(awscause.Cause{Code: CodeNotReady, Problem: "the daemon is stopping"}, nil)
	case s.current == nil && s.cause == nil:
		return awscause.New(awscause.Cause{Code: CodeNotReady, Problem: "the role has not been assumed yet", Remedy: "ask again in a moment", Passing: true}, nil)
	case s.current == nil:
		return s.cause
	}
	ended := fmt.Sprintf("the credentials expired at %s", s.current.creds.Expires.UTC().Format(time.RFC3339))
	if s.cause == nil {
		return awscause.New(awscause.Cause{Code: CodeExpired, Problem: ended + " and are being renewed", Remedy: "ask again in a moment", Passing: true}, nil)
	}
	return awscause.New(awscause.Cause{
		Code:    s.cause.Code(),
		Problem: ended + " and could not be renewed: " + s.cause.Error(),
		Remedy:  s.cause.Remedy(),
		Passing: s.cause.Passing(),
	}, s.cause)
}

func (s *Source) due(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next.passed(now)
}

// nameDue reports whether the name of the credentials should be asked for.
func (s *Source) nameDue(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.naming.verified && s.current.valid(now) && s.naming.next.passed(now)
}

func (s *Source) untilNext(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.next.left(now)
	if !s.naming.verified && s.current.valid(now) {
		wait = min(wait, s.naming.next.left(now))
	}
	return wait
}
