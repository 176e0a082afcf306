package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domainID    = "d-examplealice1"
	account     = "111122223333"
	fileRole    = "arn:aws:iam::111122223333:role/service-role/FromFile"
	settingRole = "arn:aws:iam::111122223333:role/FromSetting"
	awsRole     = "arn:aws:iam::111122223333:role/service-role/FromAWS"
	profileRole = "arn:aws:iam::111122223333:role/OfAlice"
	spacesRole  = "arn:aws:iam::111122223333:role/OfSpaces"
)

var (
	classic = identity.Notebook{Surface: identity.SurfaceNotebookInstance, Partition: "aws", Region: "us-east-1", Account: account,
		InstanceName: "alice-nb", ResourceARN: "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/alice-nb"}
	profile       = app(identity.SurfaceStudioProfile, "KernelGateway", "k1", "alice", "")
	otherProfile  = app(identity.SurfaceStudioProfile, "KernelGateway", "k1", "bob", "")
	private       = app(identity.SurfaceStudioSpace, "JupyterLab", "default", "", "alice-space")
	shared        = app(identity.SurfaceStudioSpace, "JupyterLab", "default", "", "team-space")
	classicShared = app(identity.SurfaceStudioSpace, "KernelGateway", "k1", "", "old-space")
)

func app(surface identity.Surface, appType, name, user, space string) identity.Notebook {
	return identity.Notebook{Surface: surface, Partition: "aws", Region: "us-east-1", Account: account,
		DomainID: domainID, UserProfile: user, Space: space, AppType: appType, App: name,
		ResourceARN: fmt.Sprintf("arn:aws:sagemaker:us-east-1:111122223333:app/%s/%s%s/%s/%s", domainID, user, space, appType, name)}
}

// fakeSageMaker is one region's SageMaker with state. It fails with the errors
// in fail, in turn, before it answers; an error under "" is for every operation.
type fakeSageMaker struct {
	instances   map[string]string // name → role
	spaces      map[string]*sagemaker.DescribeSpaceOutput
	profiles    map[string]string // name → role, "" = the domain's default
	userRole    string            // domain defaults
	spaceRole   string
	propagation types.ExecutionRoleIdentityConfig

	mu    sync.Mutex
	fail  map[string][]error
	deny  map[string]bool
	calls []string
}

func newFake() *fakeSageMaker {
	return &fakeSageMaker{
		instances: map[string]string{"alice-nb": awsRole},
		spaces: map[string]*sagemaker.DescribeSpaceOutput{
			"alice-space": {
				SpaceSharingSettings: &types.SpaceSharingSettings{SharingType: types.SharingTypePrivate},
				OwnershipSettings:    &types.OwnershipSettings{OwnerUserProfileName: aws.String("alice")},
			},
			"team-space": {
				SpaceSharingSettings: &types.SpaceSharingSettings{SharingType: types.SharingTypeShared},
				OwnershipSettings:    &types.OwnershipSettings{OwnerUserProfileName: aws.String("bob")}, // the creator, not the person typing
			},
			"old-space": {},
		},
		profiles:    map[string]string{"alice": profileRole, "bob": ""},
		userRole:    awsRole,
		spaceRole:   spacesRole,
		propagation: types.ExecutionRoleIdentityConfigDisabled,
		fail:        make(map[string][]error),
		deny:        make(map[string]bool),
	}
}

func denied(operation string) error {
	return &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "User: arn:aws:sts::111122223333:assumed-role/R/SageMaker is not authorized to perform: sagemaker:" +
		operation + " because no identity-based policy allows the sagemaker:" + operation + " action"}
}

func throttled() error {
	return &smithy.GenericAPIError{Code: "ThrottlingException", Message: "Rate exceeded"}
}

func (f *fakeSageMaker) enter(ctx context.Context, operation, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, operation+" "+name)
	if f.deny[operation] {
		return denied(operation)
	}
	if queue := f.fail[operation]; len(queue) > 0 {
		f.fail[operation] = queue[1:]
		return queue[0]
	}
	return ctx.Err()
}

func (f *fakeSageMaker) setDeny(operation string, deny bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deny[operation] = deny
}

func notFound() error { return &types.ResourceNotFound{Message: aws.String("no such thing")} }

func (f *fakeSageMaker) DescribeNotebookInstance(ctx context.Context, in *sagemaker.DescribeNotebookInstanceInput, _ ...func(*sagemaker.Options)) (*sagemaker.DescribeNotebookInstanceOutput, error) {
	if err := f.enter(ctx, "DescribeNotebookInstance", *in.NotebookInstanceName); err != nil {
		return nil, err
	}
	role, ok := f.instances[*in.NotebookInstanceName]
	if !ok {
		return nil, &smithy.GenericAPIError{Code: "ValidationException", Message: "RecordNotFound"}
	}
	return &sagemaker.DescribeNotebookInstanceOutput{RoleArn: &role}, nil
}

func (f *fakeSageMaker) DescribeSpace(ctx context.Context, in *sagemaker.DescribeSpaceInput, _ ...func(*sagemaker.Options)) (*sagemaker.DescribeSpaceOutput, error) {
	if err := f.enter(ctx, "DescribeSpace", *in.DomainId+"/"+*in.SpaceName); err != nil {
		return nil, err
	}
	if space, ok := f.spaces[*in.SpaceName]; ok && *in.DomainId == domainID {
		return space, nil
	}
	return nil, notFound()
}

func (f *fakeSageMaker) DescribeUserProfile(ctx context.Context, in *sagemaker.DescribeUserProfileInput, _ ...func(*sagemaker.Options)) (*sagemaker.DescribeUserProfileOutput, error) {
	if err := f.enter(ctx, "DescribeUserProfile", *in.DomainId+"/"+*in.UserProfileName); err != nil {
		return nil, err
	}
	role, ok := f.profiles[*in.UserProfileName]
	switch {
	case !ok:
		return nil, notFound()
	case role == "":
		return &sagemaker.DescribeUserProfileOutput{}, nil
	}
	return &sagemaker.DescribeUserProfileOutput{UserSettings: &types.UserSettings{ExecutionRole: &role}}, nil
}

func (f *fakeSageMaker) DescribeDomain(ctx context.Context, in *sagemaker.DescribeDomainInput, _ ...func(*sagemaker.Options)) (*sagemaker.DescribeDomainOutput, error) {
	if err := f.enter(ctx, "DescribeDomain", *in.DomainId); err != nil {
		return nil, err
	}
	return &sagemaker.DescribeDomainOutput{
		DefaultUserSettings:  &types.UserSettings{ExecutionRole: &f.userRole},
		DefaultSpaceSettings: &types.DefaultSpaceSettings{ExecutionRole: &f.spaceRole},
		DomainSettings:       &types.DomainSettings{ExecutionRoleIdentityConfig: f.propagation},
	}, nil
}

func with(nb identity.Notebook, change func(*identity.Notebook)) identity.Notebook {
	change(&nb)
	return nb
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	fromFile := func(nb *identity.Notebook) { nb.ExecutionRoleARN = fileRole }
	const (
		askInstance = "DescribeNotebookInstance alice-nb"
		askPrivate  = "DescribeSpace d-examplealice1/alice-space"
		askShared   = "DescribeSpace d-examplealice1/team-space"
		askAlice    = "DescribeUserProfile d-examplealice1/alice"
		askBob      = "DescribeUserProfile d-examplealice1/bob"
		askDomain   = "DescribeDomain d-examplealice1"
	)
	alice := identity.Subject{Kind: identity.KindProfile, Name: "alice", Domain: domainID, App: "k1"}
	owner := identity.Subject{Kind: identity.KindProfile, Name: "alice", Domain: domainID, Space: "alice-space", App: "default"}
	team := identity.Subject{Kind: identity.KindSharedSpace, Name: "team-space", Domain: domainID, Space: "team-space", App: "default"}
	tests := []struct {
		name    string
		nb      identity.Notebook
		setting string
		change  func(*fakeSageMaker)
		want    Facts
		calls   []string
	}{
		{
			name: "notebook instance, role from AWS", nb: classic,
			want:  Facts{Subject: identity.Subject{Kind: identity.KindNotebook, Name: "alice-nb"}, ExecutionRoleARN: awsRole, RoleSource: RoleFromInstance, PropagationKnown: true},
			calls: []string{askInstance},
		},
		{
			name: "notebook instance, role from the file", nb: with(classic, fromFile),
			want: Facts{Subject: identity.Subject{Kind: identity.KindNotebook, Name: "alice-nb"}, ExecutionRoleARN: fileRole, RoleSource: RoleFromMetadata, PropagationKnown: true},
		},
		{
			name: "notebook instance, the setting wins", nb: with(classic, fromFile), setting: settingRole,
			want: Facts{Subject: identity.Subject{Kind: identity.KindNotebook, Name: "alice-nb"}, ExecutionRoleARN: settingRole, RoleSource: RoleFromSetting, PropagationKnown: true},
		},
		{
			name: "profile with a role of its own", nb: profile,
			want:  Facts{Subject: alice, ExecutionRoleARN: profileRole, RoleSource: RoleFromProfile, PropagationKnown: true},
			calls: []string{askAlice, askDomain},
		},
		{
			name: "profile with the domain's role, the domain asked once", nb: otherProfile,
			change: func(f *fakeSageMaker) { f.propagation = types.ExecutionRoleIdentityConfigUserProfileName },
			want: Facts{Subject: identity.Subject{Kind: identity.KindProfile, Name: "bob", Domain: domainID, App: "k1"},
				ExecutionRoleARN: awsRole, RoleSource: RoleFromDomain, PropagatesSourceIdentity: true, PropagationKnown: true},
			calls: []string{askBob, askDomain},
		},
		{
			name: "profile, a template in the setting", nb: with(profile, fromFile), setting: "arn:aws:iam::{account}:role/Of_{name}",
			want:  Facts{Subject: alice, ExecutionRoleARN: "arn:aws:iam::{account}:role/Of_{name}", RoleSource: RoleFromSetting, PropagationKnown: true},
			calls: []string{askDomain},
		},
		{
			name: "profile, domain denied", nb: with(profile, fromFile),
			change: func(f *fakeSageMaker) { f.deny["DescribeDomain"] = true },
			want:   Facts{Subject: alice, ExecutionRoleARN: fileRole, RoleSource: RoleFromMetadata},
			calls:  []string{askDomain},
		},
		{
			name: "private space is its owner", nb: with(private, fromFile),
			change: func(f *fakeSageMaker) { f.propagation = types.ExecutionRoleIdentityConfigUserProfileName },
			want:   Facts{Subject: owner, ExecutionRoleARN: fileRole, RoleSource: RoleFromMetadata, PropagatesSourceIdentity: true, PropagationKnown: true},
			calls:  []string{askPrivate, askDomain},
		},
		{
			name: "private space of an older image, role of the owner", nb: private,
			want:  Facts{Subject: owner, ExecutionRoleARN: profileRole, RoleSource: RoleFromProfile, PropagationKnown: true},
			calls: []string{askPrivate, askAlice, askDomain},
		},
		{
			name: "private space, the owner counts and not the file's user", nb: with(private, func(nb *identity.Notebook) { nb.UserProfile = "bob"; nb.ExecutionRoleARN = fileRole }),
			want:  Facts{Subject: owner, ExecutionRoleARN: fileRole, RoleSource: RoleFromMetadata, PropagationKnown: true},
			calls: []string{askPrivate, askDomain},
		},
		{
			name: "shared space is nobody, though it has an owner", nb: with(shared, fromFile),
			change: func(f *fakeSageMaker) { f.propagation = types.ExecutionRoleIdentityConfigUserProfileName },
			want:   Facts{Subject: team, ExecutionRoleARN: fileRole, RoleSource: RoleFromMetadata, PropagationKnown: true},
			calls:  []string{askShared},
		},
		{
			name: "shared space, the domain's role for spaces", nb: shared,
			want:  Facts{Subject: team, ExecutionRoleARN: spacesRole, RoleSource: RoleFromDomain, PropagationKnown: true},
			calls: []string{askShared, askDomain},
		},
		{
			name: "Studio Classic space without a sharing type", nb: with(classicShared, fromFile),
			want: Facts{Subject: identity.Subject{Kind: identity.KindSharedSpace, Name: "old-space", Domain: domainID, Space: "old-space", App: "k1"},
				ExecutionRoleARN: fileRole, RoleSource: RoleFromMetadata, PropagationKnown: true},
			calls: []string{"DescribeSpace d-examplealice1/old-space"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake := newFake()
			if tt.change != nil {
				tt.change(fake)
			}
			state := filepath.Join(t.TempDir(), "facts.json")
			cfg := Config{SageMaker: fake, RoleARN: tt.setting, StateFile: state, OnProblem: func(err error) { t.Errorf("problem: %v", err) }}
			got, err := Discover(t.Context(), cfg, tt.nb)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tt.calls, fake.calls); diff != "" {
				t.Errorf("calls (-want +got)\n%s", diff)
			}

			// A warm start finds the same and asks nothing that it knows.
			fake.calls = nil
			again, err := Discover(t.Context(), cfg, tt.nb)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("warm start (-cold +warm)\n%s", diff)
			}
			if got.PropagationKnown && len(fake.calls) > 0 {
				t.Errorf("warm start asked %v", fake.calls)
			}
		})
	}
}

func TestStepAside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		nb  identity.Notebook
		tip bool
	}{
		{app(identity.SurfaceUnifiedStudio, "JupyterLab", "default", "", "default-user"), false},
		{private, true},
		{classic, true},
	} {
		fake := newFake()
		_, err := Discover(t.Context(), Config{SageMaker: fake, RoleARN: settingRole, TrustedIdentityPropagation: tt.tip}, tt.nb)
		var aside StepAside
		if !errors.As(err, &aside) || aside.Reason == "" || len(fake.calls) > 0 {
			t.Errorf("%s: got error %v after %v", tt.nb.Surface, err, fake.calls)
		}
	}
}

// What cannot be concluded is an error at once, and never the space's name.
func TestDiscoverFailsClosed(t *testing.T) {
	t.Parallel()
	sharing := func(s types.SharingType) *types.SpaceSharingSettings {
		return &types.SpaceSharingSettings{SharingType: s}
	}
	owner := func(s string) *types.OwnershipSettings {
		return &types.OwnershipSettings{OwnerUserProfileName: &s}
	}
	for name, tt := range map[string]struct {
		nb     identity.Notebook
		change func(*fakeSageMaker)
		code   string
	}{
		"private without ownership": {private, func(f *fakeSageMaker) {
			f.spaces["alice-space"] = &sagemaker.DescribeSpaceOutput{SpaceSharingSettings: sharing("Private")}
		}, CodeOwnerUnknown},
		"private with an empty owner": {private, func(f *fakeSageMaker) {
			f.spaces["alice-space"] = &sagemaker.DescribeSpaceOutput{SpaceSharingSettings: sharing("Private"), OwnershipSettings: owner("")}
		}, CodeOwnerUnknown},
		"private with a hostile owner": {private, func(f *fakeSageMaker) {
			f.spaces["alice-space"] = &sagemaker.DescribeSpaceOutput{SpaceSharingSettings: sharing("Private"), OwnershipSettings: owner("bob\n../")}
		}, CodeOwnerUnknown},
		"no sharing type": {private, func(f *fakeSageMaker) {
			f.spaces["alice-space"] = &sagemaker.DescribeSpaceOutput{OwnershipSettings: owner("alice")}
		}, CodeOwnerUnknown},
		"new sharing type": {shared, func(f *fakeSageMaker) {
			f.spaces["team-space"] = &sagemaker.DescribeSpaceOutput{SpaceSharingSettings: sharing("Team"), OwnershipSettings: owner("alice")}
		}, CodeOwnerUnknown},
		"role of another account": {classic, func(f *fakeSageMaker) {
			f.instances["alice-nb"] = "arn:aws:iam::444455556666:role/R"
		}, CodeRoleUnknown},
		"no role for shared spaces": {shared, func(f *fakeSageMaker) { f.spaceRole = "" }, CodeRoleUnknown},
		"session for role":          {otherProfile, func(f *fakeSageMaker) { f.userRole = "arn:aws:sts::111122223333:assumed-role/R/SageMaker" }, CodeRoleUnknown},
	} {
		fake := newFake()
		tt.change(fake)
		state := filepath.Join(t.TempDir(), "facts.json")
		facts, err := Discover(t.Context(), Config{SageMaker: fake, StateFile: state}, tt.nb)
		var problem *awscause.Error
		if !errors.As(err, &problem) || problem.Code() != tt.code || problem.Remedy() == "" || facts != (Facts{}) {
			t.Errorf("%s: got %+v, %v", name, facts, err)
		}
		if _, err := os.Stat(state); err == nil {
			t.Errorf("%s: remembered what was not found out", name)
		}
	}
	if _, err := Discover(t.Context(), Config{SageMaker: newFake()}, identity.Notebook{Surface: "mainframe"}); err == nil {
		t.Error("unknown surface: no error")
	}
}

func TestTransientProblemsAreRetriedUntilAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		const failures = 100
		for range failures {
			fake.fail["DescribeSpace"] = append(fake.fail["DescribeSpace"], throttled())
		}
		core, logs := observer.New(zapcore.InfoLevel)
		var problems []error
		start := time.Now()
		facts, err := Discover(t.Context(), Config{SageMaker: fake, RoleARN: settingRole, Log: zap.New(core),
			OnProblem: func(err error) { problems = append(problems, err) }}, shared)
		if err != nil || facts.Subject.Name != "team-space" {
			t.Fatalf("got %+v, %v", facts, err)
		}
		// Full jitter: 94 pauses of up to a minute, 30 s on average.
		if took := time.Since(start); took < 25*time.Minute || took > 75*time.Minute {
			t.Errorf("took %s for %d failures", took, failures)
		}
		if n := logs.FilterField(zap.String("code", awscause.CodeThrottled)).Len(); n != failures {
			t.Errorf("%d of %d failures logged", n, failures)
		}
		if len(problems) != failures+1 || problems[failures] != nil {
			t.Errorf("%d problems, the last %v", len(problems), problems[len(problems)-1])
		}
	})
}

func TestFirstRetriesAreSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		fake.fail["DescribeSpace"] = []error{throttled(), throttled()}
		start := time.Now()
		if _, err := Discover(t.Context(), Config{SageMaker: fake, RoleARN: settingRole}, shared); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %s for two failures", took)
		}
	})
}

func TestDenialIsRetriedSlowlyAndNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		fake.setDeny("DescribeSpace", true)
		var current error
		var mu sync.Mutex
		problem := func() error { mu.Lock(); defer mu.Unlock(); return current }
		done := make(chan Facts)
		go func() {
			facts, err := Discover(t.Context(), Config{SageMaker: fake, RoleARN: settingRole,
				OnProblem: func(err error) { mu.Lock(); defer mu.Unlock(); current = err }}, private)
			if err != nil {
				t.Error(err)
			}
			done <- facts
		}()
		time.Sleep(time.Hour)
		var named interface {
			error
			Code() string
			Remedy() string
		}
		if !errors.As(problem(), &named) || named.Code() != CodeDeniedDescribe ||
			named.Remedy() != "allow sagemaker:DescribeSpace on arn:aws:sagemaker:us-east-1:111122223333:space/d-examplealice1/alice-space in a policy of the execution role" {
			t.Errorf("after an hour: %v", problem())
		}
		fake.mu.Lock()
		calls := len(fake.calls)
		fake.mu.Unlock()
		if calls < 45 || calls > 82 {
			t.Errorf("%d calls in an hour, want about one a minute", calls)
		}
		fake.setDeny("DescribeSpace", false)
		fixed := time.Now()
		facts := <-done
		if facts.Subject.Name != "alice" || problem() != nil {
			t.Errorf("after the policy was fixed: %+v, %v", facts, problem())
		}
		if took := time.Since(fixed); took > 76*time.Second {
			t.Errorf("noticed the fix after %s", took)
		}
	})
}

func TestDiscoverEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		fake.setDeny("DescribeSpace", true)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		start := time.Now()
		facts, err := Discover(ctx, Config{SageMaker: fake, RoleARN: settingRole}, private)
		var problem *awscause.Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &problem) || problem.Code() != CodeDeniedDescribe || facts != (Facts{}) {
			t.Errorf("got %+v, %v", facts, err)
		}
		if took := time.Since(start); took != 10*time.Minute {
			t.Errorf("took %s", took)
		}
	})
}

// hanging never answers DescribeDomain and DescribeSpace, as behind a firewall
// that drops packets.
type hanging struct{ *fakeSageMaker }

func (h hanging) DescribeSpace(ctx context.Context, _ *sagemaker.DescribeSpaceInput, _ ...func(*sagemaker.Options)) (*sagemaker.DescribeSpaceOutput, error) {
	<-ctx.Done()
	return nil, &smithy.OperationError{ServiceID: "SageMaker", OperationName: "DescribeSpace", Err: &smithyhttp.RequestSendError{Err: ctx.Err()}}
}

func (h hanging) DescribeDomain(ctx context.Context, _ *sagemaker.DescribeDomainInput, _ ...func(*sagemaker.Options)) (*sagemaker.DescribeDomainOutput, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestNoWayToAWS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// A question that must be answered names the missing endpoint.
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		_, err := Discover(ctx, Config{SageMaker: hanging{newFake()}, RoleARN: settingRole}, private)
		var problem *awscause.Error
		if !errors.As(err, &problem) || problem.Code() != awscause.CodeUnreachable || !strings.Contains(problem.Remedy(), "com.amazonaws.us-east-1.sagemaker.api") {
			t.Errorf("got %v", err)
		}

		// One that need not be does not hold up the start.
		core, logs := observer.New(zapcore.InfoLevel)
		start := time.Now()
		facts, err := Discover(t.Context(), Config{SageMaker: hanging{newFake()}, RoleARN: settingRole, Log: zap.New(core),
			OnProblem: func(err error) { t.Errorf("problem: %v", err) }}, profile)
		if err != nil || facts.PropagationKnown || facts.PropagatesSourceIdentity {
			t.Errorf("got %+v, %v", facts, err)
		}
		if took := time.Since(start); took > 12*time.Second {
			t.Errorf("took %s", took)
		}
		if logs.FilterMessage("not known whether the domain propagates the user's name").FilterFieldKey("remedy").Len() != 1 {
			t.Errorf("logged %v", logs.All())
		}
	})
}

// What a denial left unknown is asked again at the next start.
func TestUnknownPropagationIsAskedAgain(t *testing.T) {
	t.Parallel()
	fake := newFake()
	fake.propagation = types.ExecutionRoleIdentityConfigUserProfileName
	fake.setDeny("DescribeDomain", true)
	cfg := Config{SageMaker: fake, StateFile: filepath.Join(t.TempDir(), "facts.json")}
	facts, err := Discover(t.Context(), cfg, private)
	if err != nil || facts.PropagationKnown {
		t.Fatalf("got %+v, %v", facts, err)
	}
	fake.setDeny("DescribeDomain", false)
	for _, calls := range [][]string{{"DescribeDomain " + domainID}, nil} {
		fake.calls = nil
		facts, err = Discover(t.Context(), cfg, private)
		if err != nil || !facts.PropagatesSourceIdentity || !facts.PropagationKnown || !slices.Equal(fake.calls, calls) {
			t.Errorf("got %+v, %v after %v; want calls %v", facts, err, fake.calls, calls)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	q := (&discovery{nb: private}).question("DescribeSpace", "space/d/s")
	api := func(code, message string) error {
		return &smithy.OperationError{ServiceID: "SageMaker", OperationName: "DescribeSpace", Err: &smithy.GenericAPIError{Code: code, Message: message}}
	}
	status := func(code int, err error) error {
		return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code}}, Err: err}
	}
	for _, tt := range []struct {
		err     error
		code    string
		passing bool
		remedy  string // a part of it
	}{
		{denied("DescribeSpace"), CodeDeniedDescribe, false, "allow sagemaker:DescribeSpace on arn:aws:sagemaker:us-east-1:111122223333:space/d/s in a policy of the execution role"},
		{api("AccessDeniedException", "… because no VPC endpoint policy allows …"), CodeDeniedDescribe, false, "policy of the VPC endpoint for com.amazonaws.us-east-1.sagemaker.api"},
		{api("AccessDeniedException", "… with an explicit deny in a service control policy"), CodeDeniedDescribe, false, "find the statement that denies"},
		{api("AccessDeniedException", "… because no service control policy allows …"), CodeDeniedDescribe, false, "a further policy"},
		{throttled(), awscause.CodeThrottled, true, ""},
		{status(429, errors.New("slow down")), awscause.CodeFailed, false, "proxy"},
		{status(429, api("Weird", "slow down")), awscause.CodeThrottled, true, ""},
		{notFound(), CodeNotFound, false, "region us-east-1"},
		{api("ValidationException", "RecordNotFound"), CodeNotFound, false, "region us-east-1"},
		{status(400, api("ValidationException", "1 validation error")), awscause.CodeFailed, false, "endpoint"},
		{api("ExpiredTokenException", "expired"), awscause.CodeBaseCredentials, true, "rotate"},
		{api("UnrecognizedClientException", "invalid token"), awscause.CodeBaseCredentials, true, "rotate"},
		{api("InvalidSignatureException", "Signature expired: 1 is now earlier than 2"), awscause.CodeClockSkew, true, "clock"},
		{api("InvalidSignatureException", "does not match"), awscause.CodeBaseCredentials, true, "proxy"},
		{status(503, api("ServiceUnavailable", "")), awscause.CodeFailed, true, ""},
		{fmt.Errorf("get identity: %w", errors.New("no EC2 IMDS role found")), awscause.CodeBaseCredentials, true, "metadata service"},
		{&smithyhttp.RequestSendError{Err: errors.New("connection refused")}, awscause.CodeUnreachable, true, "com.amazonaws.us-east-1.sagemaker.api"},
		{context.DeadlineExceeded, awscause.CodeUnreachable, true, "NAT gateway"},
		{errors.New("odd"), awscause.CodeFailed, true, "proxy"},
	} {
		got := q.call().Explain(tt.err)
		if got.Code() != tt.code || got.Passing() != tt.passing || !strings.Contains(got.Remedy(), tt.remedy) || !errors.Is(got, tt.err) {
			t.Errorf("%v: got %s (passing %v): %v; remedy %q", tt.err, got.Code(), got.Passing(), got, got.Remedy())
		}
		if !strings.HasPrefix(got.Error(), "asking sagemaker:DescribeSpace about arn:aws:sagemaker:us-east-1:111122223333:space/d/s: ") {
			t.Errorf("%v: %q does not name the question", tt.err, got)
		}
	}
	hostile := q.call().Explain(api("AccessDeniedException", "a\r\nb\x1b[31m\u202e"+strings.Repeat("x", 5000)))
	if text := hostile.Error(); len(text) > 2100 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("text from the wire is passed on: %q", text)
	}
}
