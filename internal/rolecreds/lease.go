package rolecreds

import (
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// sessionLife is the longest session that AWS grants to a role that is
	// assumed by the session of another role (role chaining).
	sessionLife = time.Hour

	// callTimeout bounds every call to STS, the base credentials included.
	callTimeout = 10 * time.Second

	// The first pause after a failure is at most basePause; each further
	// failure doubles the limit, up to one of the others.
	basePause    = time.Second
	minPause     = 100 * time.Millisecond
	maxPause     = time.Minute
	maxPauseIdle = 10 * time.Second // nothing valid is held: somebody waits
	maxPauseDeny = 2 * time.Minute  // only a person can mend it

	// The check of the name is not urgent: its pause may grow further.
	maxPauseVerify = 5 * time.Minute

	// minRefresh keeps absurdly short sessions from becoming a busy loop.
	minRefresh = time.Second
)

// moment is one instant on two clocks. The monotonic clock stands still while
// the machine is suspended; the wall clock can be set to anything. A moment
// has passed as soon as either clock says so: then a suspended notebook wakes
// up knowing that it is late, and a clock that is set back cannot freeze us.
type moment struct {
	mono time.Time // only its monotonic reading counts
	wall time.Time // without a monotonic reading
}

// after is the moment d after now.
func after(now time.Time, d time.Duration) moment {
	return moment{mono: now.Add(d), wall: now.Round(0).Add(d)}
}

func (m moment) passed(now time.Time) bool {
	return !now.Before(m.mono) || !now.Round(0).Before(m.wall)
}

// left is how long it takes until m has passed, if no clock jumps; never
// negative.
func (m moment) left(now time.Time) time.Duration {
	return max(0, min(m.mono.Sub(now), m.wall.Sub(now.Round(0))))
}

// lease is one set of credentials with the moment of its true end. It is
// never changed, only replaced.
type lease struct {
	creds aws.Credentials
	end   moment
	began time.Time // wall clock
}

// newLease measures the real life of credentials that were asked for at sent
// and received at got. server is the time that STS said it was, or zero.
//
// The wall-clock end is the Expiration itself. The monotonic end must not
// trust a local clock that is slow, which would make the life look longer
// than it is.
func newLease(creds aws.Credentials, sent, got, server time.Time) *lease {
	life := min(creds.Expires.Sub(sent.Round(0)), sessionLife+callTimeout)
	if !server.IsZero() {
		life = min(life, creds.Expires.Sub(server)+got.Sub(sent))
	}
	return &lease{
		creds: creds,
		end:   moment{mono: sent.Add(life), wall: creds.Expires},
		began: got.Round(0),
	}
}

// valid reports whether l may be served at now.
func (l *lease) valid(now time.Time) bool {
	return l != nil && !l.end.passed(now)
}

// left is how long l may still be served; 0 when it may not.
func (l *lease) left(now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	return l.end.left(now)
}

// halfLife is when to renew credentials that will live for left: at half of
// it, so that clients always see more than the 15 and 25 minutes below which
// they ask again on every call, plus a little so that many notebooks do not
// renew in step. Never before the half, so that a day of one-hour sessions
// costs at most 49 calls; the least 1 % makes up for the call itself and for
// Expiration being cut to whole seconds.
func halfLife(left time.Duration) time.Duration {
	jitter := left/100 + randomBelow(left/25)
	return max(left/2+jitter, minRefresh)
}

// pauseLimit is the longest wait after the n-th failure in a row (n ≥ 1) while
// the credentials we hold live for left. The wait shrinks with the life that
// is left, so that there are attempts enough before it ends, and stays small
// when nothing valid is held.
func pauseLimit(n int, left time.Duration, denied bool) time.Duration {
	limit := maxPause
	if denied {
		limit = maxPauseDeny
	}
	if left <= 0 {
		limit = maxPauseIdle
	} else {
		limit = min(limit, max(left/4, basePause))
	}
	return min(limit, doubled(n))
}

// doubled is basePause doubled n-1 times, without overflow.
func doubled(n int) time.Duration {
	return basePause << min(max(n-1, 0), 16)
}

// pause is a full-jitter wait of at most limit.
func pause(limit time.Duration) time.Duration {
	return minPause + randomBelow(limit-minPause)
}

func randomBelow(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
