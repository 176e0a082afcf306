package rolecreds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/rolecreds/denial"
)

var errDial = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}

func TestFirstCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{latency: 200 * time.Millisecond}
		cfg := testConfig(m)
		cfg.Tags = map[string]string{"team": "ml", "app": "jupyter"}
		s := New(cfg)
		if got := s.Status(); got.State != StateStarting || got.Code != CodeNotReady {
			t.Errorf("before Run: %+v", got)
		}
		run(t, s)
		<-s.Ready()
		creds := mustServe(t, s)
		if creds.AccountID != "111122223333" {
			t.Errorf("AccountID %q", creds.AccountID)
		}
		if left := time.Until(creds.Expires); left < 59*time.Minute {
			t.Errorf("true expiry not reported: %v left", left)
		}
		if *m.last.RoleArn != testRole || *m.last.RoleSessionName != testName || *m.last.SourceIdentity != testName || *m.last.DurationSeconds != 3600 {
			t.Errorf("request %+v", m.last)
		}
		if len(m.last.Tags) != 2 || *m.last.Tags[0].Key != "app" || *m.last.Tags[1].Value != "ml" {
			t.Errorf("tags %+v", m.last.Tags)
		}
		if got := s.Status(); got.Verified || got.State != StateReady {
			t.Errorf("before the name was asked for: %+v", got)
		}
		time.Sleep(time.Second)
		got := s.Status()
		if !got.Verified || got.CallerARN != testSession || got.KeyIDSuffix != "MPLE" || got.Calls.AssumeRole != 1 || got.Calls.GetCallerIdentity != 1 {
			t.Errorf("status %+v", got)
		}
	})
}

// TestReload gives what one life held to the next, while STS refuses.
func TestReload(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"same":            func(*Config) {},
		"role":            func(c *Config) { c.RoleARN += "2" },
		"session name":    func(c *Config) { c.SessionName += "2" },
		"source identity": func(c *Config) { c.SourceIdentity += "2" },
		"tags":            func(c *Config) { c.Tags = map[string]string{"team": "ml"} },
	} {
		synctest.Test(t, func(t *testing.T) {
			m := &memorySTS{}
			before := New(testConfig(m))
			ctx, end := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- before.Run(ctx) }()
			<-before.Ready()
			held := mustServe(t, before)
			end()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			m.down = errDial
			cfg := testConfig(m)
			cfg.Before = before
			change(&cfg)
			s := start(t, cfg)
			time.Sleep(time.Minute)
			got, err := within(s)
			if inherits := err == nil && got.AccessKeyID == held.AccessKeyID; inherits != (name == "same") {
				t.Errorf("%s: served %q (%v), %q was held", name, got.AccessKeyID, err, held.AccessKeyID)
			}
			time.Sleep(time.Until(held.Expires))
			if _, err := within(s); err == nil {
				t.Errorf("%s: served beyond the end", name)
			}
		})
	}
}

func TestColdStampedeCostsOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{latency: 700 * time.Millisecond}
		s := New(testConfig(m))
		keys := make([]string, 50)
		var wg sync.WaitGroup
		for i := range keys {
			wg.Go(func() {
				creds, err := within(s)
				if err != nil {
					t.Errorf("client %d: %v", i, err)
				}
				keys[i] = creds.AccessKeyID
			})
		}
		synctest.Wait() // all of them wait before Run has begun
		run(t, s)
		wg.Wait()
		for _, key := range keys {
			if key != keys[0] {
				t.Errorf("two keys: %s and %s", key, keys[0])
			}
		}
		if n := m.calls(); n != 1 {
			t.Errorf("%d AssumeRole calls, want 1", n)
		}
	})
}

func TestOneDay(t *testing.T) {
	for _, latency := range []time.Duration{0, 2 * time.Second, 9 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			m := &memorySTS{latency: latency}
			s := start(t, testConfig(m))
			<-s.Ready()
			end := time.Now().Add(24 * time.Hour)
			least := make([]time.Duration, 100)
			var wg sync.WaitGroup
			for kernel := range least {
				least[kernel] = time.Hour
				wg.Go(func() {
					for time.Now().Before(end) {
						creds, err := within(s)
						if err != nil {
							t.Errorf("kernel %d: %v", kernel, err)
							return
						}
						least[kernel] = min(least[kernel], time.Until(creds.Expires))
						time.Sleep(time.Duration(60+3*kernel) * time.Second)
					}
				})
			}
			wg.Wait()
			lowest := least[0]
			for _, d := range least {
				lowest = min(lowest, d)
			}
			t.Logf("latency %v: %d AssumeRole calls, at least %v left", latency, m.calls(), lowest)
			if n := m.calls(); n > 49 || n < 44 {
				t.Errorf("%d AssumeRole calls in 24 h, want 44 to 49", n)
			}
			if lowest <= 25*time.Minute {
				t.Errorf("only %v of life left", lowest)
			}
			if m.asked() != 1 {
				t.Errorf("%d GetCallerIdentity calls, want 1", m.asked())
			}
			if m.overlapped() {
				t.Error("two calls at the same time")
			}
		})
	}
}

// The worst jitter, over and over, still fits the promise of 49 calls a day.
func TestHalfLifeNeverBeforeTheHalf(t *testing.T) {
	for range 10000 {
		d := halfLife(time.Hour - 3*time.Second) // latency and whole seconds
		if d < 30*time.Minute || d > 33*time.Minute {
			t.Fatalf("refresh after %v", d)
		}
	}
	if d := halfLife(10 * time.Millisecond); d != minRefresh {
		t.Errorf("a session of 10 ms is renewed after %v", d)
	}
}

func TestSTSDownFor29Minutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{}
		s := start(t, testConfig(m))
		first := mustServe(t, s)
		time.Sleep(30 * time.Minute)
		m.set(func(m *memorySTS) { m.down = errDial })
		for end := time.Now().Add(29 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
			if creds := mustServe(t, s); creds.Expires != first.Expires {
				t.Fatalf("expiry reported as %v, is %v", creds.Expires, first.Expires)
			}
		}
		if got := s.Status(); got.State != StateDegraded || got.Code != awscause.CodeUnreachable || !strings.Contains(got.Remedy, "VPC endpoint") {
			t.Errorf("status %+v", got)
		}
		// 29 minutes of pauses of at most a minute, on average half of it.
		if n := m.calls(); n < 25 || n > 150 {
			t.Errorf("%d calls while STS was down", n)
		}
		m.set(func(m *memorySTS) { m.down = nil })
		time.Sleep(maxPause)
		if creds := mustServe(t, s); creds.Expires == first.Expires {
			t.Error("not renewed a minute after STS came back")
		}
		if got := s.Status(); got.State != StateReady || got.Code != "" || got.Failures != 0 {
			t.Errorf("status %+v", got)
		}
	})
}

func TestSTSDownPastExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{}
		s := start(t, testConfig(m))
		first := mustServe(t, s)
		time.Sleep(time.Minute)
		m.set(func(m *memorySTS) { m.down = errDial })
		var lastServed time.Time
		for end := first.Expires.Add(3 * time.Hour); time.Now().Before(end); time.Sleep(time.Second) {
			before := time.Now()
			creds, err := within(s)
			if err == nil {
				checkServed(t, creds)
				lastServed = time.Now()
				continue
			}
			var e *awscause.Error
			if !errors.As(err, &e) || e.Code() != awscause.CodeUnreachable || !strings.Contains(e.Error(), "expired at") {
				t.Fatalf("after expiry: %v", err)
			}
			if took := time.Since(before); took > 0 {
				t.Fatalf("the error took %v", took)
			}
		}
		if d := first.Expires.Sub(lastServed); d > 2*time.Second {
			t.Errorf("stopped serving %v before the end", d)
		}
		if got := s.Status(); got.State != StateFailing || got.Code != awscause.CodeUnreachable {
			t.Errorf("status %+v", got)
		}
		m.set(func(m *memorySTS) { m.down = nil })
		time.Sleep(maxPauseIdle)
		mustServe(t, s)
		if d := s.Status(); d.State != StateReady {
			t.Errorf("status after recovery %+v", d)
		}
	})
}

func TestHangingSTS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{hang: true}
		s := start(t, testConfig(m))
		begin := time.Now()
		mustFail(t, s, CodeNotReady)
		if took := time.Since(begin); took != 4*time.Second {
			t.Errorf("waited %v", took)
		}
		time.Sleep(callTimeout)
		mustFail(t, s, awscause.CodeUnreachable)
		m.set(func(m *memorySTS) { m.hang = false })
		time.Sleep(callTimeout + maxPauseIdle)
		first := mustServe(t, s)
		m.set(func(m *memorySTS) { m.hang = true })
		for end := first.Expires.Add(-time.Second); time.Now().Before(end); time.Sleep(10 * time.Second) {
			begin := time.Now()
			mustServe(t, s)
			if time.Since(begin) > 0 {
				t.Fatal("a hanging STS held a client up")
			}
		}
		if m.overlapped() {
			t.Error("two calls at the same time")
		}
	})
}

// Whatever STS does, the loop takes its turns; unless something in it hangs for
// good.
func TestAlive(t *testing.T) {
	for name, m := range map[string]*memorySTS{
		"healthy": {},
		"down":    {down: errors.New("no route to host")},
		"hanging": {hang: true},
		"denying": {refuse: func(string) error { return deniedFor("sts:AssumeRole", "") }},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := start(t, testConfig(m))
			for range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
				if err := s.Alive(ctx); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				cancel()
				time.Sleep(17 * time.Second)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		stuck := stuckSTS{release: make(chan struct{})}
		s := start(t, testConfig(stuck))
		defer close(stuck.release)
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Alive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a loop that hangs: %v", err)
		}
	})
}

// stuckSTS heeds no context.
type stuckSTS struct{ release chan struct{} }

func (s stuckSTS) AssumeRole(context.Context, *sts.AssumeRoleInput, ...func(*sts.Options)) (*sts.AssumeRoleOutput, error) {
	<-s.release
	return nil, errors.New("released")
}

func (s stuckSTS) GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error) {
	<-s.release
	return nil, errors.New("released")
}

// A session of ten seconds, as in soak tests, and one that shrinks because the
// base session ends.
func TestShortSessions(t *testing.T) {
	for _, life := range []time.Duration{3 * time.Second, 10 * time.Second, time.Minute, 15 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			m := &memorySTS{life: life}
			s := start(t, testConfig(m))
			begin := time.Now()
			for time.Since(begin) < 20*life {
				if left := time.Until(mustServe(t, s).Expires); left < life*2/5-time.Second {
					t.Fatalf("life %v: only %v left", life, left)
				}
				time.Sleep(life / 20)
			}
			if n := m.calls(); n > 45 && life > 3*time.Second || n > 65 { // whole seconds weigh on 3 s
				t.Errorf("life %v: %d calls in 20 lives", life, n)
			}
			// An outage of a quarter of the life goes unnoticed.
			m.set(func(m *memorySTS) { m.down = errDial })
			for range 5 {
				mustServe(t, s)
				time.Sleep(life / 20)
			}
			m.set(func(m *memorySTS) { m.down = nil })
			time.Sleep(life)
			mustServe(t, s)
		})
	}
}

func TestUnusableAnswers(t *testing.T) {
	arn := func(s string) func(*sts.AssumeRoleOutput) {
		return func(out *sts.AssumeRoleOutput) { out.AssumedRoleUser.Arn = aws.String(s) }
	}
	for _, test := range []struct {
		name   string
		code   string
		mangle func(*sts.AssumeRoleOutput)
	}{
		{"no credentials", awscause.CodeFailed, func(out *sts.AssumeRoleOutput) { out.Credentials = nil }},
		{"nothing at all", awscause.CodeFailed, func(out *sts.AssumeRoleOutput) { *out = sts.AssumeRoleOutput{} }},
		{"no key", awscause.CodeFailed, func(out *sts.AssumeRoleOutput) { out.Credentials.AccessKeyId = nil }},
		{"empty secret", awscause.CodeFailed, func(out *sts.AssumeRoleOutput) { out.Credentials.SecretAccessKey = aws.String("") }},
		{"no token", awscause.CodeFailed, func(out *sts.AssumeRoleOutput) { out.Credentials.SessionToken = nil }},
		{"no expiration", awscause.CodeFailed, func(out *sts.AssumeRoleOutput) { out.Credentials.Expiration = nil }},
		{"expired", awscause.CodeFailed, func(out *sts.AssumeRoleOutput) { out.Credentials.Expiration = aws.Time(time.Now().Add(-time.Second)) }},
		{"ends now", awscause.CodeFailed, func(out *sts.AssumeRoleOutput) { out.Credentials.Expiration = aws.Time(time.Now()) }},
		{"no user", CodeMisattributed, func(out *sts.AssumeRoleOutput) { out.AssumedRoleUser = nil }},
		{"no ARN", CodeMisattributed, func(out *sts.AssumeRoleOutput) { out.AssumedRoleUser.Arn = nil }},
		{"other name", CodeMisattributed, arn(strings.TrimSuffix(testSession, "alice-nb") + "bob-nb")},
		{"longer name", CodeMisattributed, arn(testSession + "2")},
		{"name as suffix", CodeMisattributed, arn(strings.TrimSuffix(testSession, "alice-nb") + "not-alice-nb")},
		{"name in other case", CodeMisattributed, arn(strings.TrimSuffix(testSession, "alice-nb") + "Alice-nb")},
		{"other role", CodeMisattributed, arn("arn:aws:sts::111122223333:assumed-role/Admin/alice-nb")},
		{"other account", CodeMisattributed, arn(strings.Replace(testSession, "111122223333", "444455556666", 1))},
		{"other source identity", CodeMisattributed, func(out *sts.AssumeRoleOutput) { out.SourceIdentity = aws.String("bob-nb") }},
		{"no source identity", CodeMisattributed, func(out *sts.AssumeRoleOutput) { out.SourceIdentity = nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Never served cold …
				m := &memorySTS{mangle: test.mangle}
				s := start(t, testConfig(m))
				for range 20 {
					mustFail(t, s, test.code)
					time.Sleep(time.Second)
				}
				// … and it replaces nothing that is good.
				m.set(func(m *memorySTS) { m.mangle = nil })
				time.Sleep(maxPauseIdle)
				good := mustServe(t, s)
				m.set(func(m *memorySTS) { m.mangle = test.mangle })
				time.Sleep(59 * time.Minute)
				if creds := mustServe(t, s); creds.AccessKeyID != good.AccessKeyID {
					t.Error("replaced by a bad answer")
				}
				if got := s.Status(); got.Code != test.code || got.State != StateDegraded {
					t.Errorf("status %+v", got)
				}
				time.Sleep(2 * time.Minute)
				mustFail(t, s, test.code)
			})
		})
	}
}

func TestNilAnswerDoesNotPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, testConfig(nilSTS{}))
		mustFail(t, s, awscause.CodeFailed)
	})
}

type nilSTS struct{}

func (nilSTS) AssumeRole(context.Context, *sts.AssumeRoleInput, ...func(*sts.Options)) (*sts.AssumeRoleOutput, error) {
	return nil, nil
}

func (nilSTS) GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error) {
	return nil, nil
}

func TestRoleNameInOtherCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{mangle: func(out *sts.AssumeRoleOutput) {
			out.AssumedRoleUser.Arn = aws.String("arn:aws:sts::111122223333:assumed-role/amazonsagemaker-executionrole/alice-nb")
		}}
		mustServe(t, start(t, testConfig(m)))
	})
}

func TestWrongNameFoundByVerification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{callerAs: strings.TrimSuffix(testSession, "alice-nb") + "bob-nb"}
		s := start(t, testConfig(m))
		<-s.Ready()
		synctest.Wait()
		time.Sleep(time.Millisecond)
		e := mustFail(t, s, CodeMisattributed)
		if !strings.Contains(e.Error(), "bob-nb") {
			t.Errorf("does not say whose name: %v", e)
		}
		// From now on nothing is served before it is verified: every single
		// instant of the next minutes.
		for range 2000 {
			mustFail(t, s, CodeMisattributed)
			time.Sleep(100 * time.Millisecond)
		}
		m.set(func(m *memorySTS) { m.callerAs, m.downName = "", errDial })
		time.Sleep(maxPauseIdle)
		mustFail(t, s, awscause.CodeUnreachable)
		m.set(func(m *memorySTS) { m.downName = nil })
		time.Sleep(maxPauseIdle)
		mustServe(t, s)
		if got := s.Status(); !got.Verified || got.State != StateReady {
			t.Errorf("status %+v", got)
		}
	})
}

func TestVerificationThatCannotBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{downName: errDial}
		s := start(t, testConfig(m))
		mustServe(t, s)
		time.Sleep(10 * time.Second)
		if got := s.Status(); got.State != StateReady || got.Verified || got.VerifyProblem == "" || got.Code != "" {
			t.Errorf("status %+v", got)
		}
		time.Sleep(5 * time.Hour)
		mustServe(t, s)
		if m.asked() > 200 {
			t.Errorf("asked %d times in 5 h", m.asked())
		}
		if n := m.calls(); n > 11 {
			t.Errorf("%d AssumeRole calls in 5 h", n)
		}
		m.set(func(m *memorySTS) { m.downName = nil })
		time.Sleep(maxPauseVerify)
		if got := s.Status(); !got.Verified || got.VerifyProblem != "" {
			t.Errorf("status %+v", got)
		}
		asked := m.asked()
		time.Sleep(5 * time.Hour)
		if m.asked() != asked {
			t.Error("asked again after it was verified")
		}
	})
}

// A GetCallerIdentity that hangs must not delay the refresh of short sessions.
func TestHangingVerification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{life: 6 * time.Second}
		s := start(t, testConfig(hangingName{m}))
		for range 600 {
			mustServe(t, s)
			time.Sleep(100 * time.Millisecond)
		}
	})
}

type hangingName struct{ *memorySTS }

func (hangingName) GetCallerIdentity(ctx context.Context, _ *sts.GetCallerIdentityInput, _ ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestThrottlingIsNotMultiplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{down: apiError("Throttling", "Rate exceeded")}
		s := start(t, testConfig(m))
		time.Sleep(10 * time.Minute)
		mustFail(t, s, awscause.CodeThrottled)
		// Full jitter up to 10 s: 5 s on average.
		if n := m.calls(); n > 200 {
			t.Errorf("%d calls in 10 min", n)
		}
		m.set(func(m *memorySTS) { m.down = nil })
		begin := time.Now()
		<-s.Ready()
		if took := time.Since(begin); took > maxPauseIdle {
			t.Errorf("recovery took %v", took)
		}
	})
}

func TestRefusedSourceIdentityIsLookedIntoOnce(t *testing.T) {
	refuseOurs := func(si string) error {
		if si != "" {
			return deniedFor(denial.ActionSetSourceIdentity, "")
		}
		return nil
	}
	refuseAll := func(string) error { return deniedFor(denial.ActionSetSourceIdentity, "") }
	for _, test := range []struct {
		name   string
		sticky string
		refuse func(string) error
		code   string
		says   string
	}{
		{"conflict", "bob", refuseOurs, CodeSourceIdentityConflict, `"bob"`},
		{"permission", "", refuseOurs, CodeDeniedSetSourceIdentity, "SetSourceIdentity"},
		{"permission, same name", testName, refuseOurs, CodeDeniedSetSourceIdentity, "SetSourceIdentity"},
		{"probe refused", "bob", refuseAll, CodeDeniedSetSourceIdentity, "SetSourceIdentity"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memorySTS{sticky: test.sticky, refuse: test.refuse}
				s := start(t, testConfig(m))
				e := mustFail(t, s, test.code)
				if !strings.Contains(e.Error(), test.says) || e.Remedy() == "" {
					t.Errorf("%v; %s", e, e.Remedy())
				}
				for range 600 {
					mustFail(t, s, test.code)
					time.Sleep(time.Second)
				}
				st := s.Status()
				if st.Calls.Probe != 1 || int(st.Calls.AssumeRole)+1 != m.calls() {
					t.Errorf("%d probes, %d of %d calls counted", st.Calls.Probe, st.Calls.AssumeRole, m.calls())
				}
				// A success ends the row; the next refusal is looked into again.
				m.set(func(m *memorySTS) { m.sticky, m.refuse = "", nil })
				time.Sleep(maxPauseIdle)
				good := mustServe(t, s)
				m.set(func(m *memorySTS) { m.sticky, m.refuse = test.sticky, test.refuse })
				time.Sleep(40 * time.Minute)
				if mustServe(t, s).AccessKeyID != good.AccessKeyID {
					t.Error("the credentials of a probe were served")
				}
				if st := s.Status(); st.Code != test.code || st.Calls.Probe != 2 {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

// A probe that got no answer may be repeated; it decided nothing.
func TestProbeWithoutAnswerIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var probes int
		m := &memorySTS{sticky: "bob", refuse: func(si string) error {
			if si != "" {
				return deniedFor(denial.ActionSetSourceIdentity, "")
			}
			if probes++; probes < 3 {
				return errDial
			}
			return nil
		}}
		s := start(t, testConfig(m))
		mustFail(t, s, CodeDeniedSetSourceIdentity)
		time.Sleep(time.Minute)
		mustFail(t, s, CodeSourceIdentityConflict)
		if probes != 3 {
			t.Errorf("%d probes", probes)
		}
	})
}

func TestCancelledCallerDisturbsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{latency: 3 * time.Second}
		s := start(t, testConfig(m))
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Retrieve(ctx); err == nil {
				t.Error("a cancelled caller got credentials")
			}
		})
		wg.Go(func() { mustServe(t, s) })
		time.Sleep(time.Second)
		cancel()
		wg.Wait()
		if m.calls() != 1 {
			t.Errorf("%d calls", m.calls())
		}
		// What is in memory costs nothing, even for a dead caller.
		if _, err := s.Retrieve(ctx); err != nil {
			t.Errorf("cancelled caller with credentials at hand: %v", err)
		}
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{hang: true}
		s := New(testConfig(m))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		var wg sync.WaitGroup
		wg.Go(func() { // has no deadline of its own: must be released
			if _, err := s.Retrieve(context.Background()); err == nil {
				t.Error("credentials from a stopped source")
			}
		})
		time.Sleep(time.Second)
		begin := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(begin) > 0 {
			t.Errorf("Run: %v after %v", err, time.Since(begin))
		}
		wg.Wait()
		mustFail(t, s, CodeNotReady)
		if time.Since(begin) > 0 {
			t.Error("a stopped source made a client wait")
		}
		if err := s.Run(context.Background()); err == nil {
			t.Error("a second Run")
		}
	})
}

func TestSettingsThatCannotWork(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"no role":        func(c *Config) { c.RoleARN = "" },
		"session ARN":    func(c *Config) { c.RoleARN = testSession },
		"short name":     func(c *Config) { c.SessionName = "a" },
		"long name":      func(c *Config) { c.SessionName = strings.Repeat("a", 65) },
		"slash in name":  func(c *Config) { c.SessionName = "a/b" },
		"no identity":    func(c *Config) { c.SourceIdentity = "" },
		"bad identity":   func(c *Config) { c.SourceIdentity = "aws:me" },
		"newline in it":  func(c *Config) { c.SourceIdentity = "alice\n" },
		"no client":      func(c *Config) { c.STS = nil },
		"role with star": func(c *Config) { c.RoleARN = "arn:aws:iam::111122223333:role/*" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := testConfig(&memorySTS{})
				spoil(&cfg)
				s := New(cfg)
				if err := s.Run(t.Context()); err == nil {
					t.Fatal("Run accepted it")
				}
				mustFail(t, s, awscause.CodeFailed)
			})
		})
	}
}

// stepClock sets the wall clock forward by d (back when negative) as far as s
// can tell: synctest cannot separate the wall clock from the monotonic one, so
// the wall-clock readings that s holds move the other way.
func stepClock(s *Source, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next.wall = s.next.wall.Add(-d)
	s.naming.next.wall = s.naming.next.wall.Add(-d)
	if s.current != nil {
		l := *s.current
		l.end.wall = l.end.wall.Add(-d)
		l.creds.Expires = l.creds.Expires.Add(-d)
		s.current = &l
	}
}

func TestWakeFromSuspend(t *testing.T) {
	for _, test := range []struct {
		asleep time.Duration
		waits  bool
	}{{40 * time.Minute, false}, {2 * time.Hour, true}, {24 * time.Hour, true}} {
		synctest.Test(t, func(t *testing.T) {
			m := &memorySTS{latency: 500 * time.Millisecond}
			s := start(t, testConfig(m))
			old := mustServe(t, s)
			time.Sleep(time.Minute)
			stepClock(s, test.asleep)
			begin := time.Now()
			creds := mustServe(t, s)
			if waited := time.Since(begin) > 0; waited != test.waits {
				t.Errorf("asleep for %v: waited %v", test.asleep, time.Since(begin))
			}
			if test.waits && creds.AccessKeyID == old.AccessKeyID {
				t.Error("expired credentials served")
			}
			time.Sleep(time.Second)
			if n := m.calls(); n != 2 {
				t.Errorf("asleep for %v: %d calls, want 2", test.asleep, n)
			}
			if left := time.Until(mustServe(t, s).Expires); left < 59*time.Minute {
				t.Errorf("asleep for %v: only %v left after waking", test.asleep, left)
			}
		})
	}
}

func TestClockSetBack(t *testing.T) {
	for _, back := range []time.Duration{2 * time.Hour, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			m := &memorySTS{}
			s := start(t, testConfig(m))
			old := mustServe(t, s)
			time.Sleep(time.Minute)
			stepClock(s, -back)
			time.Sleep(33 * time.Minute)
			if m.calls() != 2 || mustServe(t, s).AccessKeyID == old.AccessKeyID {
				t.Errorf("set back by %v: not renewed at half-life", back)
			}
			// And without renewal the old ones are not served past their real end.
			m.set(func(m *memorySTS) { m.down = errDial })
			time.Sleep(time.Minute)
			stepClock(s, -back)
			time.Sleep(60 * time.Minute)
			mustFail(t, s, awscause.CodeUnreachable)
		})
	}
}

// A clock that is set forward by mistake makes the credentials look expired; when it
// is set right again they are good again, at once and without a call.
func TestClockSetForwardAndRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{}
		s := start(t, testConfig(m))
		old := mustServe(t, s)
		m.set(func(m *memorySTS) {
			m.down = apiError("SignatureDoesNotMatch", "Signature expired: 20260102T030405Z is now earlier than 20260102T045905Z (20260102T050405Z - 5 min.)")
		})
		stepClock(s, 2*time.Hour)
		e := mustFail(t, s, awscause.CodeClockSkew)
		if !strings.Contains(e.Remedy(), "clock") {
			t.Errorf("remedy %q", e.Remedy())
		}
		stepClock(s, -2*time.Hour)
		if mustServe(t, s).AccessKeyID != old.AccessKeyID {
			t.Error("not the old credentials")
		}
	})
}

func TestNoWakeUpsWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, testConfig(&memorySTS{}))
		<-s.Ready()
		time.Sleep(time.Minute)
		// What clients do wakes nobody either: s with Run out of the way.
		still := New(testConfig(nil))
		still.current, still.next = s.current, s.next
		for range 100 {
			mustServe(t, still)
		}
		if len(still.poke) != 0 {
			t.Error("clients wake Run for nothing")
		}
		if wait := s.untilNext(time.Now()); wait < 28*time.Minute {
			t.Errorf("Run wakes after %v", wait)
		}
	})
}

func TestPauses(t *testing.T) {
	for _, test := range []struct {
		n      int
		left   time.Duration
		denied bool
		want   time.Duration
	}{
		{1, time.Hour, false, time.Second},
		{3, time.Hour, false, 4 * time.Second},
		{50, time.Hour, false, time.Minute},
		{1 << 40, time.Hour, false, time.Minute},
		{50, time.Hour, true, 2 * time.Minute},
		{50, 2 * time.Minute, true, 30 * time.Second},
		{50, 2 * time.Minute, false, 30 * time.Second},
		{50, time.Second, false, time.Second},
		{1, 0, false, time.Second},
		{50, 0, false, 10 * time.Second},
		{50, 0, true, 10 * time.Second},
	} {
		if got := pauseLimit(test.n, test.left, test.denied); got != test.want {
			t.Errorf("pauseLimit(%d, %v, %v) = %v, want %v", test.n, test.left, test.denied, got, test.want)
		}
	}
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := pause(10 * time.Second)
		if d < minPause || d >= 10*time.Second {
			t.Fatalf("pause %v", d)
		}
		seen[d.Truncate(time.Second)] = true
	}
	if len(seen) != 10 {
		t.Errorf("jitter reaches only %d of 10 seconds", len(seen))
	}
}

func TestLeaseAgainstClocks(t *testing.T) {
	now := time.Now()
	wall := now.Round(0)
	for _, test := range []struct {
		name          string
		expires       time.Duration // by AWS's clock, from now
		offset        time.Duration // local clock minus AWS's
		dated         bool
		call          time.Duration
		atLeast, most time.Duration
	}{
		{"in step", time.Hour, 0, true, time.Second, 3598 * time.Second, time.Hour},
		{"in step, no date", time.Hour, 0, false, time.Second, 3598 * time.Second, time.Hour},
		{"a little slow", time.Hour, -3 * time.Second, true, time.Second, 3599 * time.Second, 3602 * time.Second},
		{"two hours slow", time.Hour, -2 * time.Hour, true, time.Second, 3599 * time.Second, 3602 * time.Second},
		{"two hours slow, no date", time.Hour, -2 * time.Hour, false, time.Second, 3599 * time.Second, 3610 * time.Second},
		{"half an hour fast", time.Hour, 30 * time.Minute, true, time.Second, 1798 * time.Second, 1800 * time.Second},
		{"two hours fast", time.Hour, 2 * time.Hour, true, time.Second, 0, 0},
		{"ten seconds, slow clock", 10 * time.Second, -5 * time.Minute, true, time.Second, 9 * time.Second, 12 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			var server time.Time
			if test.dated {
				server = wall.Add(test.call - test.offset).Truncate(time.Second)
			}
			creds := aws.Credentials{Expires: wall.Add(test.expires - test.offset)}
			got := now.Add(test.call)
			l := newLease(creds, now, got, server)
			if left := l.left(got) + test.call; l.valid(got) && (left < test.atLeast || left > test.most) {
				t.Errorf("lives %v, want %v to %v", left, test.atLeast, test.most)
			}
			if l.valid(got) != (test.most > 0) {
				t.Errorf("valid: %v", l.valid(got))
			}
		})
	}
}

// No log line, no status, no error and no verb of fmt shows a secret.
func TestSecretsStayInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		m := &memorySTS{}
		cfg := testConfig(m)
		cfg.Log = zap.New(core)
		s := start(t, cfg)
		mustServe(t, s)
		time.Sleep(time.Hour)
		m.set(func(m *memorySTS) { m.down = errDial })
		time.Sleep(2 * time.Hour)
		m.set(func(m *memorySTS) { m.down = nil })
		time.Sleep(time.Hour)

		var all strings.Builder
		for _, entry := range logs.All() {
			fmt.Fprintln(&all, entry.Message, entry.ContextMap())
		}
		cfg.Log.Info("source", zap.Any("a", s), zap.Reflect("b", s), zap.Stringer("c", s))
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%p", "%T"} {
			fmt.Fprintf(&all, verb+"\n", s)
		}
		encoded, err := json.Marshal([]any{s, s.Status()})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s %+v %v\n", encoded, s.Status(), logs.TakeAll())
		_, err = within(s)
		fmt.Fprintf(&all, "%v %+v %#v\n", err, err, err)
		if !strings.Contains(all.String(), "credentials recovered") || !strings.Contains(all.String(), "expires") {
			t.Fatal("the log does not hold what it should")
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, secret := range m.secrets {
			if strings.Contains(all.String(), secret) || strings.Contains(all.String(), fmt.Sprintf("%x", secret)) {
				t.Fatalf("%s is shown", secret)
			}
		}
		for key := range m.sessions {
			if strings.Contains(all.String(), key) {
				t.Fatalf("key id %s is shown whole", key)
			}
		}
	})
}

func TestLogIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		m := &memorySTS{}
		cfg := testConfig(m)
		cfg.Log = zap.New(core)
		s := start(t, cfg)
		time.Sleep(24 * time.Hour)
		mustServe(t, s)
		if n := logs.Len(); n > 50 {
			t.Errorf("%d lines on a quiet day", n)
		}
		if n := logs.FilterLevelExact(zapcore.WarnLevel).Len(); n != 0 {
			t.Errorf("%d warnings on a quiet day", n)
		}
		logs.TakeAll()
		m.set(func(m *memorySTS) { m.down = deniedFor(denial.ActionAssumeRole, "") })
		time.Sleep(24 * time.Hour)
		warnings := logs.FilterLevelExact(zapcore.WarnLevel)
		if n := warnings.Len(); n < 100 || n > 160 {
			t.Errorf("%d warnings on a day of refusals, want one in ten minutes", n)
		}
		if got := warnings.All()[0].ContextMap(); got["code"] != CodeDeniedAssumeRole || got["role_arn"] != testRole {
			t.Errorf("warning %v", got)
		}
	})
}

// Clients of all kinds at once while STS misbehaves at random; for the race
// detector, and for the promise that nothing expired is served.
func TestChaos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memorySTS{life: 20 * time.Second, latency: 100 * time.Millisecond}
		s := start(t, testConfig(m))
		end := time.Now().Add(10 * time.Minute)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for time.Now().Before(end) {
					ctx, cancel := context.WithTimeout(context.Background(), randomBelow(2*time.Second))
					if creds, err := s.Retrieve(ctx); err == nil {
						checkServed(t, creds)
					}
					cancel()
					s.Status()
					time.Sleep(randomBelow(time.Second) + time.Duration(i))
				}
			})
		}
		for time.Now().Before(end) {
			m.set(func(m *memorySTS) {
				m.down, m.hang, m.mangle, m.refuse = nil, false, nil, nil
				switch randomBelow(6) {
				case 0:
					m.down = errDial
				case 1:
					m.hang = true
				case 2:
					m.mangle = func(out *sts.AssumeRoleOutput) { out.Credentials.SessionToken = nil }
				case 3:
					m.refuse = func(string) error { return deniedFor(denial.ActionSetSourceIdentity, "") }
				}
			})
			time.Sleep(randomBelow(30 * time.Second))
		}
		wg.Wait()
		m.set(func(m *memorySTS) { m.down, m.hang, m.mangle, m.refuse = nil, false, nil, nil })
		time.Sleep(callTimeout + maxPauseIdle)
		mustServe(t, s)
		if m.overlapped() {
			t.Error("two calls at the same time")
		}
	})
}
