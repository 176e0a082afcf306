package rolecreds

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	"go.uber.org/goleak"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testRole    = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"
	testSession = "arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/alice-nb"
	testName    = "alice-nb"
)

// memorySTS is an STS without a network. It remembers the sessions that it has
// begun, so that GetCallerIdentity answers for the key that signs.
type memorySTS struct {
	mu       sync.Mutex
	life     time.Duration // of the sessions; 0 = as requested
	latency  time.Duration
	hang     bool
	down     error                       // every call fails with it
	downName error                       // GetCallerIdentity fails with it
	sticky   string                      // source identity of the base session
	refuse   func(si string) error       // decides on AssumeRole
	mangle   func(*sts.AssumeRoleOutput) // spoils good answers
	callerAs string                      // GetCallerIdentity lies

	sessions map[string]string // key id → ARN
	secrets  []string
	assumed  []time.Time
	names    int
	inFlight int
	overlap  bool
	last     *sts.AssumeRoleInput
}

func (m *memorySTS) set(f func(*memorySTS)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

func (m *memorySTS) calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.assumed)
}

func (m *memorySTS) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.names
}

func (m *memorySTS) overlapped() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.overlap
}

func (m *memorySTS) enter(ctx context.Context) error {
	m.mu.Lock()
	m.inFlight++
	m.overlap = m.overlap || m.inFlight > 1
	latency, hang, down := m.latency, m.hang, m.down
	m.mu.Unlock()
	defer m.set(func(m *memorySTS) { m.inFlight-- })
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if latency > 0 {
		select {
		case <-time.After(latency):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return down
}

func (m *memorySTS) AssumeRole(ctx context.Context, in *sts.AssumeRoleInput, _ ...func(*sts.Options)) (*sts.AssumeRoleOutput, error) {
	m.set(func(m *memorySTS) { m.assumed = append(m.assumed, time.Now()); m.last = in })
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		if err := m.refuse(aws.ToString(in.SourceIdentity)); err != nil {
			return nil, err
		}
	}
	if m.sessions == nil {
		m.sessions = map[string]string{}
	}
	n := len(m.sessions)
	life := m.life
	if life == 0 {
		life = time.Duration(*in.DurationSeconds) * time.Second
	}
	name := (*in.RoleArn)[strings.LastIndexByte(*in.RoleArn, '/')+1:]
	arn := fmt.Sprintf("arn:aws:sts::111122223333:assumed-role/%s/%s", name, *in.RoleSessionName)
	key, secret, token := fmt.Sprintf("ASIA%08dEXAMPLE", n), fmt.Sprintf("secret-%d-EXAMPLE", n), fmt.Sprintf("token-%d-EXAMPLE", n)
	m.secrets = append(m.secrets, secret, token)
	m.sessions[key] = arn
	identity := in.SourceIdentity
	if m.sticky != "" {
		identity = aws.String(m.sticky)
	}
	out := &sts.AssumeRoleOutput{
		Credentials: &types.Credentials{
			AccessKeyId:     aws.String(key),
			SecretAccessKey: aws.String(secret),
			SessionToken:    aws.String(token),
			Expiration:      aws.Time(time.Now().Round(0).Add(life).Truncate(time.Second)),
		},
		AssumedRoleUser: &types.AssumedRoleUser{Arn: aws.String(arn), AssumedRoleId: aws.String("AROAEXAMPLE:" + *in.RoleSessionName)},
		SourceIdentity:  identity,
	}
	if m.mangle != nil {
		m.mangle(out)
	}
	return out, nil
}

func (m *memorySTS) GetCallerIdentity(ctx context.Context, _ *sts.GetCallerIdentityInput, optFns ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error) {
	m.set(func(m *memorySTS) { m.names++ })
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	var o sts.Options
	for _, f := range optFns {
		f(&o)
	}
	creds, err := o.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.downName != nil {
		return nil, m.downName
	}
	arn, known := m.sessions[creds.AccessKeyID]
	if !known {
		return nil, apiError("InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	if m.callerAs != "" {
		arn = m.callerAs
	}
	return &sts.GetCallerIdentityOutput{Arn: aws.String(arn)}, nil
}

func apiError(code, message string) error {
	return &smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole", Err: &smithy.GenericAPIError{Code: code, Message: message}}
}

func deniedFor(action, suffix string) error {
	return apiError("AccessDenied", "User: arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/SageMaker is not authorized to perform: "+
		action+" on resource: "+testRole+suffix)
}

func testConfig(client STS) Config {
	return Config{STS: client, RoleARN: testRole, SessionName: testName, SourceIdentity: testName}
}

// start runs a Source for the rest of the test, inside its bubble.
func start(t *testing.T, cfg Config) *Source {
	t.Helper()
	s := New(cfg)
	run(t, s)
	return s
}

func run(t *testing.T, s *Source) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		begin := time.Now()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("Run took %v to stop", took)
		}
	})
}

// within asks for credentials as a client with a deadline of 4 s does.
func within(s *Source) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	return s.Retrieve(ctx)
}

// mustServe fails the test unless s serves complete, living credentials.
func mustServe(t *testing.T, s *Source) aws.Credentials {
	t.Helper()
	creds, err := within(s)
	if err != nil {
		t.Fatalf("Retrieve: %v", err)
	}
	checkServed(t, creds)
	return creds
}

func checkServed(t *testing.T, creds aws.Credentials) {
	t.Helper()
	if creds.AccessKeyID == "" || creds.SecretAccessKey == "" || creds.SessionToken == "" || !creds.CanExpire {
		t.Fatalf("incomplete credentials served: key %q, expires %v", creds.AccessKeyID, creds.Expires)
	}
	if !time.Now().Before(creds.Expires) {
		t.Fatalf("expired credentials served: %v after %v", time.Since(creds.Expires), creds.Expires)
	}
}

// mustFail returns the Error that s answers with.
func mustFail(t *testing.T, s *Source, code string) *awscause.Error {
	t.Helper()
	creds, err := within(s)
	if err == nil {
		t.Fatalf("Retrieve served %q, want code %s", creds.AccessKeyID, code)
	}
	if creds != (aws.Credentials{}) {
		t.Errorf("credentials next to an error")
	}
	e, ok := err.(*awscause.Error)
	if !ok {
		t.Fatalf("Retrieve: %T %v, want *awscause.Error", err, err)
	}
	if e.Code() != code {
		t.Fatalf("code %s (%v), want %s", e.Code(), e, code)
	}
	return e
}
