package rolecreds

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/fault"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
)

// The tests of this file run a real sts.Client with real base credentials
// against the stand-in for AWS, in process and in simulated time.

func newAccount(t *testing.T, edit func(*fakeaws.Scenario)) *fakeaws.Account {
	t.Helper()
	s := fakeaws.DefaultScenario()
	if edit != nil {
		edit(&s)
	}
	a, err := fakeaws.New(fakeaws.Config{Scenario: s})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// served is a transport to a with what a real server adds to an answer, the
// Date of its own clock, and what a real client adds to a request.
func served(rt http.RoundTripper, offset func() time.Duration) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if r.Method == "" {
			r = r.Clone(r.Context())
			r.Method = http.MethodGet
		}
		resp, err := rt.RoundTrip(r)
		if err == nil && resp.Header.Get("Date") == "" {
			resp.Header.Set("Date", time.Now().Add(offset()).UTC().Format(http.TimeFormat))
		}
		return resp, err
	}
}

// onNotebook is the configuration of a daemon on a notebook instance.
func onNotebook(a *fakeaws.Account, notebook, roleARN string) Config {
	return onSkewedNotebook(a, notebook, roleARN, func() time.Duration { return 0 })
}

func onSkewedNotebook(a *fakeaws.Account, notebook, roleARN string, offset func() time.Duration) Config {
	client := &http.Client{Transport: served(a.TransportFor(fakeaws.Client{Notebook: notebook}), offset)}
	base := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = imds.New(imds.Options{HTTPClient: client}) })
	return Config{
		STS:     sts.New(sts.Options{Region: "us-east-1", HTTPClient: client, Credentials: base}),
		RoleARN: roleARN, SessionName: notebook, SourceIdentity: notebook,
	}
}

// inApp is the configuration of a daemon in a Studio app.
func inApp(a *fakeaws.Account, app, name string) Config {
	client := &http.Client{Transport: served(a.TransportFor(fakeaws.Client{}), func() time.Duration { return 0 })}
	base := endpointcreds.New("http://169.254.170.2"+a.ContainerPath(app), func(o *endpointcreds.Options) { o.HTTPClient = client })
	return Config{
		STS:     sts.New(sts.Options{Region: "us-east-1", HTTPClient: client, Credentials: base}),
		RoleARN: testRole, SessionName: name, SourceIdentity: name,
	}
}

func setFault(t *testing.T, a *fakeaws.Account, f fault.Fault) {
	t.Helper()
	if err := a.Faults.Set(f); err != nil {
		t.Fatal(err)
	}
}

// assumeRoleCalls counts AssumeRole calls of the daemon in the trail; those of
// the platform itself are made by a service.
func assumeRoleCalls(t *testing.T, a *fakeaws.Account) int {
	t.Helper()
	n := 0
	for _, record := range a.Records() {
		line, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(line); strings.Contains(text, `"AssumeRole"`) && !strings.Contains(text, `"invokedBy"`) {
			n++
		}
	}
	return n
}

func TestAgainstAWS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, nil)
		s := start(t, onNotebook(a, "alice-nb", testRole))
		mustServe(t, s)
		synctest.Wait()
		time.Sleep(time.Second)
		if got := s.Status(); !got.Verified || got.CallerARN != testSession || got.State != StateReady || got.ClockOffset.Abs() > 2*time.Second {
			t.Errorf("status %+v", got)
		}
		if n := assumeRoleCalls(t, a); n != 1 {
			t.Errorf("%d AssumeRole records", n)
		}
	})
}

func TestOneDayAgainstAWS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, nil) // its base sessions live for 6 h and rotate
		s := New(onNotebook(a, "alice-nb", testRole))
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { mustServe(t, s) })
		}
		run(t, s)
		wg.Wait()
		least := time.Hour
		for end := time.Now().Add(24 * time.Hour); time.Now().Before(end); time.Sleep(time.Minute) {
			least = min(least, time.Until(mustServe(t, s).Expires))
		}
		t.Logf("%d AssumeRole records in 24 h, at least %v left", assumeRoleCalls(t, a), least)
		if n := assumeRoleCalls(t, a); n > 49 || n < 44 {
			t.Errorf("%d AssumeRole calls", n)
		}
		if least <= 25*time.Minute {
			t.Errorf("only %v left", least)
		}
	})
}

func TestRefusalsOfAWS(t *testing.T) {
	const account = "arn:aws:iam::111122223333:role/"
	anyName := func(s *fakeaws.Scenario) {
		s.Domain.ExecutionRoleIdentityConfig = scenario.PropagateProfileName
		for i := range s.Roles {
			if s.Roles[i].Name == "AmazonSageMaker-ExecutionRole" {
				s.Roles[i].Trust = json.RawMessage(`{"Version":"2012-10-17","Statement":[
					{"Effect":"Allow","Principal":{"Service":"sagemaker.amazonaws.com"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"]},
					{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"]}]}`)
			}
		}
	}
	for _, test := range []struct {
		name   string
		edit   func(*fakeaws.Scenario)
		cfg    func(*fakeaws.Account) Config
		code   string
		says   string
		remedy string
		probes uint64
	}{
		{"no self-trust", nil, func(a *fakeaws.Account) Config { return onNotebook(a, "no-self-trust-nb", account+"NoSelfTrust") },
			CodeDeniedAssumeRole, "sts:AssumeRole", "trust policy of " + account + "NoSelfTrust", 0},
		{"no role", nil, func(a *fakeaws.Account) Config { return onNotebook(a, "alice-nb", account+"Missing") },
			CodeDeniedAssumeRole, "sts:AssumeRole", "check that the role exists", 0},
		{"no SetSourceIdentity in trust", nil, func(a *fakeaws.Account) Config {
			return onNotebook(a, "no-set-in-trust-nb", account+"NoSetSourceIdentityInTrust")
		},
			CodeDeniedSetSourceIdentity, "sts:SetSourceIdentity", "both sides", 1},
		{"no SetSourceIdentity in policy", nil, func(a *fakeaws.Account) Config {
			return onNotebook(a, "no-set-in-policy-nb", account+"NoSetSourceIdentityInPolicy")
		},
			CodeDeniedSetSourceIdentity, "sts:SetSourceIdentity", "both sides", 1},
		{"conflict with a sticky name", anyName, func(a *fakeaws.Account) Config { return inApp(a, "alice-lab", "bob") },
			CodeSourceIdentityConflict, `already carries the source identity "alice"`, `use "alice"`, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t, test.edit)
				s := start(t, test.cfg(a))
				e := mustFail(t, s, test.code)
				if !strings.Contains(e.Error(), test.says) || !strings.Contains(e.Remedy(), test.remedy) {
					t.Errorf("%v\n%s", e, e.Remedy())
				}
				time.Sleep(10 * time.Minute)
				mustFail(t, s, test.code)
				if got := s.Status(); got.Calls.Probe != test.probes || got.Calls.AssumeRole != got.Calls.AssumeRoleFailed || got.State != StateFailing {
					t.Errorf("status %+v", got)
				}
			})
		})
	}
}

// A base session that carries our own name is the propagation of a domain: no
// conflict.
func TestPropagatedNameThatIsOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, func(s *fakeaws.Scenario) { s.Domain.ExecutionRoleIdentityConfig = scenario.PropagateProfileName })
		mustServe(t, start(t, inApp(a, "alice-lab", "alice")))
	})
}

func TestFaultsOfAWS(t *testing.T) {
	for _, test := range []struct {
		name string
		f    fault.Fault
		code string
	}{
		{"throttle", fault.Fault{Service: "sts", Kind: fault.Throttle}, awscause.CodeThrottled},
		{"500", fault.Fault{Service: "sts", Kind: fault.Failure, Status: 500}, awscause.CodeFailed},
		{"503", fault.Fault{Service: "sts", Kind: fault.Failure, Status: 503}, awscause.CodeFailed},
		{"malformed", fault.Fault{Service: "sts", Kind: fault.Malformed}, awscause.CodeFailed},
		{"truncated", fault.Fault{Service: "sts", Kind: fault.Truncated}, awscause.CodeFailed},
		{"hang", fault.Fault{Service: "sts", Kind: fault.Hang}, awscause.CodeUnreachable},
		{"slow", fault.Fault{Service: "sts", Kind: fault.Slow, Duration: time.Minute}, awscause.CodeUnreachable},
		{"reset", fault.Fault{Service: "sts", Kind: fault.Reset}, awscause.CodeUnreachable},
		{"refuse", fault.Fault{Service: "sts", Kind: fault.Refuse}, awscause.CodeUnreachable},
		{"metadata down", fault.Fault{Service: "imds", Kind: fault.Failure, Status: 500}, awscause.CodeBaseCredentials},
		{"metadata hangs", fault.Fault{Service: "imds", Kind: fault.Hang}, awscause.CodeBaseCredentials},
		{"metadata refuses", fault.Fault{Service: "imds", Kind: fault.Refuse}, awscause.CodeBaseCredentials},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t, nil)
				setFault(t, a, test.f)
				s := start(t, onNotebook(a, "alice-nb", testRole))
				time.Sleep(2 * callTimeout)
				t.Log(mustFail(t, s, test.code))
				a.Faults.Clear(test.f.Service, test.f.Kind)
				time.Sleep(callTimeout + maxPauseIdle)
				first := mustServe(t, s)

				setFault(t, a, test.f)
				for time.Until(first.Expires) > 10*time.Second {
					mustServe(t, s)
					time.Sleep(7 * time.Second)
				}
				if got := s.Status(); got.State != StateDegraded || got.Code != test.code {
					t.Errorf("status %+v", got)
				}
				time.Sleep(time.Until(first.Expires))
				mustFail(t, s, test.code)
				a.Faults.Clear(test.f.Service, test.f.Kind)
				time.Sleep(callTimeout + maxPauseIdle)
				mustServe(t, s)
			})
		})
	}
}

// The account's clock is another than ours. The SDK corrects its signatures
// after the first refusal, so what is left to judge is the answer.
func TestClockOfAWS(t *testing.T) {
	for _, test := range []struct {
		name   string
		offset time.Duration // AWS minus ours
		serves bool
	}{
		{"2 h behind", 2 * time.Hour, true},
		{"a day behind", 24 * time.Hour, true},
		{"30 min ahead", -30 * time.Minute, true},
		{"2 h ahead", -2 * time.Hour, false},
		{"a day ahead", -24 * time.Hour, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t, nil)
				var offset atomic.Int64
				set := func(d time.Duration) { a.SetClockOffset(d); offset.Store(int64(d)) }
				set(test.offset)
				s := start(t, onSkewedNotebook(a, "alice-nb", testRole, func() time.Duration { return time.Duration(offset.Load()) }))
				t.Log(mustFail(t, s, awscause.CodeClockSkew))
				time.Sleep(time.Minute)
				if test.serves {
					mustServe(t, s)
					if got := s.Status(); got.State != StateDegraded || got.Code != awscause.CodeClockSkew || got.Problem == "" {
						t.Errorf("status %+v", got)
					}
				} else {
					e := mustFail(t, s, awscause.CodeClockSkew)
					if !strings.Contains(e.Error(), "ahead of AWS's") {
						t.Errorf("%v", e)
					}
				}
				// Whatever is served is good for AWS as long as it is served.
				for range 120 {
					if creds, err := within(s); err == nil && !time.Now().Add(test.offset).Before(creds.Expires) {
						t.Fatalf("served %v after its end by AWS's clock", time.Now().Add(test.offset).Sub(creds.Expires))
					}
					time.Sleep(time.Minute)
				}
				// The clock is set right: recovery without a restart.
				set(0)
				time.Sleep(time.Minute)
				mustServe(t, s)
			})
		})
	}
}

func TestBaseSessionsOfAWS(t *testing.T) {
	for _, how := range []fakeaws.BaseSessions{fakeaws.Rotate, fakeaws.Expire, fakeaws.Revoke} {
		t.Run(string(how), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t, nil)
				s := start(t, onNotebook(a, "alice-nb", testRole))
				old := mustServe(t, s)
				// A new base session is read at the next refresh.
				if n := a.ChangeBaseSessions("alice-nb", how); n != 1 {
					t.Fatalf("%d base sessions", n)
				}
				time.Sleep(34 * time.Minute)
				if mustServe(t, s).AccessKeyID == old.AccessKeyID {
					t.Error("not renewed")
				}
			})
		})
	}
	// Metadata that hands out what STS no longer accepts: the role was deleted
	// and created again.
	t.Run("role recreated", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newAccount(t, nil)
			s := start(t, onNotebook(a, "alice-nb", testRole))
			mustServe(t, s)
			if err := a.RecreateRole("AmazonSageMaker-ExecutionRole"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(34 * time.Minute)
			if got := s.Status(); got.Code != awscause.CodeBaseCredentials || got.State != StateDegraded {
				t.Errorf("status %+v", got)
			}
		})
	})
}
