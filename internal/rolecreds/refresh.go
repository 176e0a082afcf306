package rolecreds

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
)

// repeatWarning is how often a failure that stays the same is logged as a
// warning; in between it is logged at debug level.
const repeatWarning = 10 * time.Minute

// refresh makes one attempt and puts its outcome in place.
func (s *Source) refresh(ctx context.Context) {
	s.mu.Lock()
	s.busy = true
	s.mu.Unlock()

	a, cause := s.assume(ctx)
	if ctx.Err() != nil {
		return // stopping: whatever came back is about that
	}
	now := time.Now()
	if cause != nil {
		s.fail(now, cause)
		return
	}
	s.install(now, a)
}

// assume gets credentials that may be served, or the cause why not.
func (s *Source) assume(ctx context.Context) (answer, *awscause.Error) {
	s.count(func(c *Calls) { c.AssumeRole++ })
	a, cause := s.caller.assume(ctx)
	if cause != nil && cause.Code() == CodeDeniedSetSourceIdentity {
		cause = s.diagnose(ctx, cause)
	} else {
		s.probed, s.conflict = false, nil
	}
	if cause == nil && s.distrust {
		cause = s.verifyFirst(ctx, a.lease)
	}
	if cause != nil {
		s.count(func(c *Calls) { c.AssumeRoleFailed++ })
	}
	return a, cause
}

// diagnose tells a conflict of names from a missing permission, once in a row
// of refusals.
func (s *Source) diagnose(ctx context.Context, refused *awscause.Error) *awscause.Error {
	if !s.probed {
		s.count(func(c *Calls) { c.Probe++ })
		s.conflict, s.probed = s.caller.probe(ctx)
	}
	if s.conflict != nil {
		return s.conflict
	}
	return refused
}

// verifyFirst is for the time after a wrong name has landed: nothing is served
// before STS has confirmed it.
func (s *Source) verifyFirst(ctx context.Context, l *lease) *awscause.Error {
	s.count(func(c *Calls) { c.GetCallerIdentity++ })
	arn, cause := s.caller.verify(ctx, l.creds)
	if cause != nil {
		return cause
	}
	s.distrust = false
	s.mu.Lock()
	s.naming = naming{verified: true, arn: arn}
	s.mu.Unlock()
	return nil
}

// install makes a the credentials that are served.
func (s *Source) install(now time.Time, a answer) {
	s.mu.Lock()
	recovered := s.failures > 0
	s.current = a.lease
	s.cause = nil
	s.failures = 0
	s.offset = a.offset
	refresh := halfLife(a.lease.left(now))
	s.next = after(now, refresh)
	s.endAttemptLocked()
	s.mu.Unlock()

	message := "credentials refreshed"
	if recovered {
		message = "credentials recovered"
	}
	select {
	case <-s.ready:
	default:
		message = "credentials ready"
		close(s.ready)
	}
	s.warned = ""
	s.log.Info(message,
		zap.String("source_identity", s.cfg.SourceIdentity),
		zap.String("key_id_suffix", keySuffix(a.lease.creds.AccessKeyID)),
		zap.Time("expires", a.lease.creds.Expires),
		zap.Duration("refresh_in", refresh))
	if _, wrong := awscause.Skew(a.offset); wrong {
		s.log.Warn("clock differs from that of aws", zap.Duration("ahead", a.offset))
	}
}

// fail keeps what is held and plans the next attempt.
func (s *Source) fail(now time.Time, cause *awscause.Error) {
	s.mu.Lock()
	s.cause = cause
	s.failures++
	failures := s.failures
	left := s.current.left(now)
	wait := pause(pauseLimit(failures, left, !cause.Passing()))
	s.next = after(now, wait)
	s.endAttemptLocked()
	s.mu.Unlock()

	level := zap.DebugLevel
	if cause.Code() != s.warned || now.Sub(s.warnedAt) >= repeatWarning {
		level = zap.WarnLevel
		s.warned, s.warnedAt = cause.Code(), now
	}
	s.log.Log(level, "could not assume the role, will retry",
		zap.String("code", cause.Code()),
		zap.String("problem", cause.Error()),
		zap.String("remedy", cause.Remedy()),
		zap.Int("failures", failures),
		zap.Duration("retry_in", wait),
		zap.Duration("valid_for", left))
}

// endAttemptLocked releases everyone who waits for the attempt.
func (s *Source) endAttemptLocked() {
	s.busy = false
	close(s.attempt)
	s.attempt = make(chan struct{})
}

// verify asks STS once whether the name of the credentials that are being
// served has landed. No answer is no verdict: it is asked again later. Another
// name stops the serving at once. It never delays a refresh.
func (s *Source) verify(ctx context.Context) {
	s.mu.Lock()
	l := s.current
	budget := min(callTimeout, s.next.left(time.Now()))
	s.calls.GetCallerIdentity++
	s.mu.Unlock()

	bounded, cancel := context.WithTimeout(ctx, budget)
	arn, cause := s.caller.verify(bounded, l.creds)
	cancel()
	now := time.Now()
	switch {
	case ctx.Err() != nil:
	case cause == nil:
		s.mu.Lock()
		s.naming = naming{verified: true, arn: arn}
		s.mu.Unlock()
		s.log.Info("name verified", zap.String("caller_arn", arn))
	case cause.Code() == CodeMisattributed:
		s.distrust = true
		s.mu.Lock()
		s.current = nil
		s.cause = cause
		s.naming.arn = arn
		s.mu.Unlock()
		s.log.Error("wrong name landed, not serving", zap.String("caller_arn", awscause.OneLine(arn)))
		s.fail(now, cause)
	default:
		s.askedName++
		wait := pause(min(doubled(s.askedName), maxPauseVerify))
		s.mu.Lock()
		s.naming.problem = cause.Error()
		s.naming.next = after(now, wait)
		s.mu.Unlock()
		s.log.Debug("could not verify the name, will retry", zap.String("problem", cause.Error()), zap.Duration("retry_in", wait))
	}
}

func (s *Source) count(f func(*Calls)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.calls)
}
