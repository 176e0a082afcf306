package rolecreds

import (
	"fmt"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
)

// The states of a Source.
const (
	StateStarting = "starting" // the first attempt has not ended yet
	StateReady    = "ready"    // serving; the last attempt succeeded
	StateDegraded = "degraded" // serving, but renewal fails or the clock is wrong: see Code
	StateFailing  = "failing"  // nothing to serve: see Code
)

// Status is a snapshot of a Source: plain data without a secret.
type Status struct {
	State          string `json:"state"`
	RoleARN        string `json:"role_arn"`
	SessionName    string `json:"session_name"`
	SourceIdentity string `json:"source_identity"`

	// CallerARN is what GetCallerIdentity said, "" before it was asked.
	// Verified: it is the session that was asked for. VerifyProblem: why it
	// could not be asked yet.
	CallerARN     string `json:"caller_arn,omitempty"`
	Verified      bool   `json:"verified"`
	VerifyProblem string `json:"verify_problem,omitempty"`

	// The last four characters of the access key id and the true end of the
	// credentials that are held, even when they have expired.
	KeyIDSuffix string    `json:"key_id_suffix,omitempty"`
	Expires     time.Time `json:"expires,omitzero"`
	Refreshed   time.Time `json:"refreshed,omitzero"`
	NextRefresh time.Time `json:"next_refresh,omitzero"` // or the next attempt after a failure

	// Why the last attempt failed; empty when it succeeded.
	Code    string `json:"code,omitempty"`
	Problem string `json:"problem,omitempty"`
	Remedy  string `json:"remedy,omitempty"`

	// ClockOffset is how far the local clock was ahead of AWS's at the last
	// success, negative when behind, 0 when unknown.
	ClockOffset time.Duration `json:"clock_offset"`

	Failures int   `json:"failures"` // attempts that failed in a row
	Calls    Calls `json:"calls"`
}

// Calls counts calls to STS since the start.
type Calls struct {
	AssumeRole        uint64 `json:"assume_role"`        // attempts
	AssumeRoleFailed  uint64 `json:"assume_role_failed"` // of these, without a usable answer
	Probe             uint64 `json:"probe"`              // AssumeRole without a source identity, to find a cause
	GetCallerIdentity uint64 `json:"get_caller_identity"`
}

// Status returns a snapshot.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	st := Status{
		State:          StateReady,
		RoleARN:        s.cfg.RoleARN,
		SessionName:    s.cfg.SessionName,
		SourceIdentity: s.cfg.SourceIdentity,
		CallerARN:      awscause.OneLine(s.naming.arn),
		Verified:       s.naming.verified,
		VerifyProblem:  s.naming.problem,
		NextRefresh:    s.next.wall,
		ClockOffset:    s.offset,
		Failures:       s.failures,
		Calls:          s.calls,
	}
	if s.current != nil {
		st.KeyIDSuffix = keySuffix(s.current.creds.AccessKeyID)
		st.Expires = s.current.creds.Expires
		st.Refreshed = s.current.began
	}
	valid := s.current.valid(now)
	skew, wrong := awscause.Skew(s.offset)
	switch {
	case s.cause != nil:
		st.State = StateFailing
		if valid {
			st.State = StateDegraded
		}
		st.Code, st.Problem, st.Remedy = s.cause.Code(), s.cause.Error(), s.cause.Remedy()
	case s.current == nil:
		st.State, st.Code = StateStarting, CodeNotReady
	case !valid:
		st.State, st.Code = StateFailing, CodeExpired
		st.Problem = "the credentials have expired and are being renewed"
	case wrong:
		st.State, st.Code, st.Remedy = StateDegraded, skew.Code, skew.Remedy
		st.Problem = skew.Problem + "; programs that sign with it are refused"
	}
	return st
}

// String names the role and the session.
func (s *Source) String() string {
	return fmt.Sprintf("credentials of %s as %s", s.cfg.RoleARN, s.cfg.SessionName)
}

// Format makes every verb of package fmt print String: printed field by field
// a Source would show its secrets.
func (s *Source) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprint(f, s.String())
}

// keySuffix is the only part of a key id that is ever shown.
func keySuffix(id string) string {
	if len(id) < 8 {
		return ""
	}
	return awscause.OneLine(id[len(id)-4:])
}
