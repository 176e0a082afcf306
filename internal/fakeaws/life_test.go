package fakeaws

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/fault"
)

func TestSessionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		mine := assume(t, a, "alice-nb", baseCredentials(a, "alice-nb"), named("alice-nb"))
		client := stsClient(a, "alice-nb", mine)
		time.Sleep(time.Hour - time.Second)
		callerARN(t, client)
		time.Sleep(time.Second)
		_, err := client.GetCallerIdentity(context.Background(), nil)
		code, message := codeOf(t, err)
		if code != "ExpiredToken" || message != "The security token included in the request is expired" {
			t.Errorf("after an hour: %s: %s", code, message)
		}
		time.Sleep(48 * time.Hour)
		assume(t, a, "alice-nb", baseCredentials(a, "alice-nb"), named("alice-nb")) // sweeps
		_, err = client.GetCallerIdentity(context.Background(), nil)
		if code, _ := codeOf(t, err); code != "InvalidClientTokenId" {
			t.Errorf("after two days: %q", code)
		}
	})
}

func TestBaseSessionsRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t) // 6 h, rotated 1 h before the end
		p := baseCredentials(a, "alice-nb")
		get := func() aws.Credentials {
			t.Helper()
			c, err := p.Retrieve(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		first := get()
		if left := time.Until(a.machines[0].session.Expires); left != 6*time.Hour { // the SDK shows an hour at most
			t.Errorf("lifetime %v, want 6h", left)
		}
		time.Sleep(5*time.Hour - time.Second)
		if again := get(); again.AccessKeyID != first.AccessKeyID {
			t.Error("rotated too early")
		}
		time.Sleep(time.Second)
		second := get()
		if second.AccessKeyID == first.AccessKeyID {
			t.Error("not rotated an hour before the end")
		}
		old := stsClient(a, "alice-nb", aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return first, nil }))
		time.Sleep(59 * time.Minute)
		callerARN(t, old) // lives on
		time.Sleep(time.Minute)
		if code, _ := codeOf(t, func() error { _, err := old.GetCallerIdentity(context.Background(), nil); return err }()); code != "ExpiredToken" {
			t.Errorf("the old session at its end: %q", code)
		}
	})
}

// TestADay lets the SDK's own providers live through a simulated day.
func TestADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		base := aws.NewCredentialsCache(baseCredentials(a, "alice-nb"))
		role := aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(stsClient(a, "alice-nb", base), executionRole, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName, o.SourceIdentity, o.Duration = "alice-nb", aws.String("alice-nb"), time.Hour
		}))
		app := aws.NewCredentialsCache(containerCredentials(a, "alice-lab"))
		mine, studio := stsClient(a, "alice-nb", role), stsClient(a, "", app)
		for range 24 * 12 {
			if got := callerARN(t, mine); !strings.HasSuffix(got, "/alice-nb") {
				t.Fatalf("at %v: %s", time.Now(), got)
			}
			callerARN(t, studio)
			time.Sleep(5 * time.Minute)
		}
		if n := a.Rejections(); len(n) != 0 {
			t.Errorf("rejected calls: %+v", n)
		}
		assumed := 0
		for _, r := range a.Records() {
			if r.EventName == "AssumeRole" && r.UserIdentity.Type == "AssumedRole" {
				assumed++
			}
		}
		if assumed < 24 || assumed > 25 {
			t.Errorf("%d AssumeRole calls in a day, want one an hour", assumed)
		}
	})
}

func TestChangeBaseSessions(t *testing.T) {
	t.Parallel()
	for how, want := range map[BaseSessions]string{Rotate: "", Expire: "ExpiredToken", Revoke: "InvalidClientTokenId"} {
		a := newAccount(t)
		p := baseCredentials(a, "alice-nb")
		first, err := p.Retrieve(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if n := a.ChangeBaseSessions("bob-nb", how); n != 0 {
			t.Errorf("%s: changed %d sessions of a notebook that has none", how, n)
		}
		if n := a.ChangeBaseSessions("alice-nb", how); n != 1 {
			t.Errorf("%s: changed %d sessions, want 1", how, n)
		}
		old := stsClient(a, "alice-nb", aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return first, nil }))
		_, err = old.GetCallerIdentity(context.Background(), nil)
		if code, _ := codeOf(t, err); code != want {
			t.Errorf("%s: the old session gets %q, want %q", how, code, want)
		}
		second, err := p.Retrieve(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if second.AccessKeyID == first.AccessKeyID {
			t.Errorf("%s: the metadata service still serves the old session", how)
		}
		callerARN(t, stsClient(a, "alice-nb", p))
	}
}

func TestClockOffset(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	client := stsClient(a, "alice-nb", aws.NewCredentialsCache(baseCredentials(a, "alice-nb")))
	callerARN(t, client)
	for _, offset := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		a.SetClockOffset(offset)
		_, err := client.GetCallerIdentity(context.Background(), nil)
		// The SDK corrects its clock by the answer's date on the next try only.
		if code, _ := codeOf(t, err); code != "SignatureDoesNotMatch" {
			t.Errorf("clock off by %v: %q", offset, code)
		}
	}
}

func TestFaultsInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		base := aws.NewCredentialsCache(baseCredentials(a, "alice-nb"))
		client := stsClient(a, "alice-nb", base)
		callerARN(t, client)
		call := func(limit time.Duration) (time.Duration, error) {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			start := time.Now()
			_, err := client.GetCallerIdentity(ctx, nil)
			return time.Since(start), err
		}
		set := func(f fault.Fault) {
			t.Helper()
			a.Faults.Clear("", "")
			if err := a.Faults.Set(f); err != nil {
				t.Fatal(err)
			}
		}
		before := len(a.Records())
		set(fault.Fault{Service: "sts", Kind: fault.Hang})
		if took, err := call(time.Minute); !errors.Is(err, context.DeadlineExceeded) || took != time.Minute {
			t.Errorf("hang: %v after %v", err, took)
		}
		set(fault.Fault{Service: "sts", Kind: fault.Latency, Duration: 3 * time.Second})
		if took, err := call(time.Minute); err != nil || took != 3*time.Second {
			t.Errorf("latency: %v after %v", err, took)
		}
		set(fault.Fault{Service: "sts", Kind: fault.Refuse})
		if _, err := call(time.Minute); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refuse: %v", err)
		}
		set(fault.Fault{Service: "sts", Kind: fault.Throttle, Count: 1})
		_, err := call(time.Minute)
		if code, message := codeOf(t, err); code != "Throttling" || message != "Rate exceeded" {
			t.Errorf("throttle: %s: %s", code, message)
		}
		set(fault.Fault{Service: "sts", Kind: fault.Failure, Status: 500})
		_, err = call(time.Minute)
		if code, _ := codeOf(t, err); code != "InternalFailure" {
			t.Errorf("5xx: %s", code)
		}
		set(fault.Fault{Service: "sts", Kind: fault.Truncated})
		if _, err := call(time.Minute); err == nil {
			t.Error("half an answer was accepted")
		}
		set(fault.Fault{Service: "sts", Kind: fault.ClockSkew, Duration: time.Hour})
		_, err = call(time.Minute)
		if code, _ := codeOf(t, err); code != "SignatureDoesNotMatch" {
			t.Errorf("clock skew: %s", code)
		}
		set(fault.Fault{Service: "imds", Kind: fault.Failure, Status: 503})
		if _, err := baseCredentials(a, "alice-nb").Retrieve(context.Background()); err == nil {
			t.Error("a failing metadata service gave credentials")
		}
		a.Faults.Clear("", "")
		callerARN(t, stsClient(a, "alice-nb", base)) // the old client has mended its clock
		// latency, half an answer, and the last one have reached the service
		if n := len(a.Records()) - before; n != 3 {
			t.Errorf("%d records, want 3", n)
		}
	})
}

// TestClientsMendTheirClock: the answer's date lets the SDK's retry succeed.
func TestClientsMendTheirClock(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	base := aws.NewCredentialsCache(baseCredentials(a, "alice-nb"))
	if _, err := base.Retrieve(context.Background()); err != nil {
		t.Fatal(err)
	}
	a.SetClockOffset(2 * time.Hour)
	c := sts.New(sts.Options{Region: "us-east-1", HTTPClient: on(a, "alice-nb"), Credentials: base})
	callerARN(t, c)
	if n := len(a.Rejections()); n != 1 {
		t.Errorf("%d rejected tries, want 1", n)
	}
}

// TestLoopback is the same account over real sockets.
func TestLoopback(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	metadata, err := a.IMDS("bob-nb")
	if err != nil {
		t.Fatal(err)
	}
	api := serve(a.API())
	client := func(p aws.CredentialsProvider) *sts.Client {
		return sts.New(sts.Options{Region: "us-east-1", BaseEndpoint: &api, Credentials: aws.NewCredentialsCache(p)})
	}
	notebook := client(ec2rolecreds.New(func(o *ec2rolecreds.Options) {
		o.Client = imds.New(imds.Options{Endpoint: serve(metadata), EnableFallback: aws.FalseTernary})
	}))
	mine := client(stscreds.NewAssumeRoleProvider(notebook, executionRole, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName, o.SourceIdentity = "bob-nb", aws.String("bob-nb")
	}))
	app := client(endpointcreds.New(serve(a.Container()) + a.ContainerPath("bob-code")))
	for want, c := range map[string]*sts.Client{"SageMaker": app, "bob-nb": mine} {
		if got := callerARN(t, c); got != "arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/"+want {
			t.Errorf("%s, want …/%s", got, want)
		}
	}
	for _, path := range []string{"", "/", "/_sagemaker-instance-credentials/" + strings.Repeat("0", 48)} {
		p := endpointcreds.New(serve(a.Container()) + path)
		if c, err := p.Retrieve(context.Background()); err == nil {
			t.Errorf("the path %q gave the key %s", path, c.AccessKeyID)
		}
	}
}

// TestManyClients lets 64 clients assume, call, edit and read at once.
func TestManyClients(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			notebook := []string{"alice-nb", "bob-nb"}[i%2]
			base := aws.NewCredentialsCache(baseCredentials(a, notebook))
			for range 4 {
				mine := assume(t, a, notebook, base, named(notebook))
				if got := callerARN(t, stsClient(a, notebook, mine)); !strings.HasSuffix(got, "/"+notebook) {
					t.Errorf("%s on %s", got, notebook)
				}
				if err := a.SetPropagation(i%3 == 0); err != nil {
					t.Error(err)
				}
				_ = a.Records()
				if err := a.PutRole(a.directory.Role("JobRole").Source); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if n := a.Rejections(); len(n) != 0 {
		t.Errorf("rejected: %+v", n)
	}
	keys := map[string]bool{}
	for _, r := range a.Records() {
		if keys[r.EventID] {
			t.Fatalf("event id %s occurs twice", r.EventID)
		}
		keys[r.EventID] = true
	}
	if want := 2 + 64*4*2; len(keys) != want {
		t.Errorf("%d records, want %d", len(keys), want)
	}
}

func BenchmarkAssumeRole(b *testing.B) {
	a := newAccount(b)
	call := rawCall{service: "sts", method: "POST", url: "https://sts.us-east-1.amazonaws.com/",
		form:        "Action=AssumeRole&Version=2011-06-15&RoleSessionName=alice-nb&SourceIdentity=alice-nb&RoleArn=" + executionRole,
		credentials: aws.NewCredentialsCache(baseCredentials(a, "alice-nb"))}
	benchmark(b, a, call)
}

func BenchmarkDescribe(b *testing.B) {
	a := newAccount(b)
	benchmark(b, a, rawCall{service: "sagemaker", method: "POST", url: "https://api.sagemaker.us-east-1.amazonaws.com/",
		target: "SageMaker.DescribeSpace", body: `{"DomainId":"d-exampledomain","SpaceName":"alice-space"}`,
		credentials: aws.NewCredentialsCache(baseCredentials(a, "alice-nb"))})
}

// benchmark replays one signed request against the handler alone.
func benchmark(b *testing.B, a *Account, c rawCall) {
	var request *http.Request
	c.after = func(r *http.Request) { request = r.Clone(context.Background()) }
	if err := wantStatus(a, 200, c); err != nil {
		b.Fatal(err)
	}
	body := c.body + c.form
	request.RequestURI, request.Host, request.RemoteAddr = "/", request.URL.Host, "10.0.0.7:1"
	b.ReportAllocs()
	for b.Loop() {
		r := request.Clone(context.Background())
		r.Body = http.MaxBytesReader(nil, readCloser(body), maxBody)
		w := httptest.NewRecorder()
		a.API().ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}
