// Package fakeaws is a strict AWS account on loopback or in process: instance
// metadata and container credentials, STS, the Describe calls of SageMaker,
// what IAM tells about roles and their policies, LookupEvents, S3 for small files,
// and a trace in CloudTrail's form for any other signed call.
//
// It guarantees, so that it can be a judge: every call's SigV4 signature is
// recomputed; keys, tokens and roles are bound together and expire; every call
// is authorised by the policies of the scenario (package iameval) and leaves
// exactly one CloudTrail record, granted or not; a call whose signature or
// credentials are bad leaves a [Rejection] instead, because AWS does not know
// who made it. Codes, statuses, texts and the order of the checks are those of
// the published recordings of live STS; see the packages below this one.
//
// Where AWS documents nothing, it chooses: a changed source identity is refused
// as AccessDenied on sts:SetSourceIdentity; SageMaker's own AssumeRole record
// names the assumed user, and its sessions show no ec2RoleDelivery; violated
// constraints come in the order of the API model; ARNs keep the case of names;
// the words of SageMaker's ResourceNotFound.
//
// It does not do anything: jobs do not run, uploads are discarded, no call
// changes the account. It does not know resource policies, service control
// policies or permissions boundaries. Time is time.Now plus an offset that the
// administrator sets, so that testing/synctest can simulate a day.
//
// The package is longer than most because an account is one state, which a call
// to any service may read and change: a file for each service. What needs no
// state is in the packages below.
package fakeaws

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/cloudtrail"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/directory"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/fault"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/resource"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
)

// Scenario describes the account.
type Scenario = scenario.Scenario

// Record is one CloudTrail record.
type Record = cloudtrail.Record

// DefaultScenario returns the scenario that is used when there is none.
func DefaultScenario() Scenario { return scenario.Default() }

// LoadScenario reads a scenario file.
func LoadScenario(path string) (Scenario, error) { return scenario.Load(path) }

// Config configures an account.
type Config struct {
	Scenario Scenario
	// Trail receives each CloudTrail record as a line of JSON. May be nil.
	Trail io.Writer
	// TrailDir is where the administrator's flush puts files when it names no
	// directory. May be empty.
	TrailDir string
	Log      *zap.Logger
}

// Account is a running account. It is safe for concurrent use.
type Account struct {
	Faults fault.Set // switches, for every service and for "imds" and "container"

	scope     resource.Scope
	lifetime  time.Duration // of base sessions
	hour      time.Duration // that a session from AssumeRole lives for each of its hours
	rotate    time.Duration // before their end
	trailDir  string
	quota     int // STS calls a second; 0 = unlimited
	directory *directory.Directory
	trail     *cloudtrail.Trail
	api       http.Handler
	container http.Handler
	log       *zap.Logger
	created   time.Time
	offset    atomic.Int64 // of the account's clock, nanoseconds

	mu         sync.Mutex // guards the fields below
	state      Scenario   // as edited since
	machines   []*machine // notebooks first, then apps
	rejections []Rejection
	second     int64 // the second in which counted STS calls came
	counted    int
	lookups    map[string]lookups // by region
}

// New builds an account. The error names every problem of the scenario.
func New(cfg Config) (*Account, error) {
	s := cfg.Scenario.WithDefaults()
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	now := time.Now()
	roles, err := directory.New(s.Partition, s.AccountID, s.Roles, now)
	if err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	a := &Account{
		scope:     resource.Scope{Partition: s.Partition, Region: s.Region, Account: s.AccountID},
		lifetime:  time.Duration(s.BaseSession.Lifetime),
		hour:      time.Duration(s.HourLasts),
		rotate:    time.Duration(s.BaseSession.RotateBefore),
		trailDir:  cfg.TrailDir,
		quota:     s.STSRequestsPerSecond,
		directory: roles,
		trail:     cloudtrail.New(s.AccountID, cfg.Trail),
		log:       cfg.Log,
		created:   now,
		state:     s,
		lookups:   make(map[string]lookups),
	}
	if a.log == nil {
		a.log = zap.NewNop()
	}
	a.Faults.Render = a.renderFault
	for _, n := range s.Notebooks {
		a.machines = append(a.machines, a.newNotebook(n))
	}
	for _, app := range s.Apps {
		a.machines = append(a.machines, &machine{app: app.Name, path: newContainerPath()})
	}
	a.api = a.Faults.Wrap(serviceOf, http.HandlerFunc(a.serveAPI))
	a.container = a.newContainer()
	return a, nil
}

// API serves every AWS service. The service is told by the signature's scope.
func (a *Account) API() http.Handler { return a.api }

// Records returns the CloudTrail records so far, oldest first.
func (a *Account) Records() []Record { return a.trail.Since(0) }

// RecordsSince returns the records from index n on.
func (a *Account) RecordsSince(n int) []Record { return a.trail.Since(n) }

// Flush writes the records that were not flushed before below dir, as
// CloudTrail delivers them to S3: AWSLogs/ACCOUNT/CloudTrail/….
func (a *Account) Flush(dir string) error {
	_, err := a.trail.Flush(dir, a.now("cloudtrail"))
	return err
}

// Rejection is a call that was refused before AWS knew who made it, and that
// CloudTrail therefore does not record.
type Rejection struct {
	Time     time.Time `json:"time"`
	Service  string    `json:"service"`
	Code     string    `json:"code"`
	KeyEnd   string    `json:"key_end"` // last four characters of the access key id
	SourceIP string    `json:"source_ip"`
	Agent    string    `json:"user_agent"`
}

// maxRejections bounds what is remembered; the newest are kept.
const maxRejections = 10000

// Rejections returns the newest rejected calls, oldest first.
func (a *Account) Rejections() []Rejection {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.rejections)
}

func (a *Account) reject(r Rejection) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.rejections) >= maxRejections {
		a.rejections = slices.Delete(a.rejections, 0, maxRejections/10)
	}
	a.rejections = append(a.rejections, r)
}

// now is a service's clock.
func (a *Account) now(service string) time.Time {
	return time.Now().Add(time.Duration(a.offset.Load()) + a.Faults.Offset(service)).UTC()
}

// SetClockOffset moves the clock of the whole account.
func (a *Account) SetClockOffset(d time.Duration) { a.offset.Store(int64(d)) }

// PutRole creates or replaces a role. Its id stays.
func (a *Account) PutRole(r scenario.Role) error {
	return a.directory.Put(withRoleDefaults(r), a.now("iam"))
}

// DeleteRole deletes a role; its sessions are dead.
func (a *Account) DeleteRole(name string) error {
	if !a.directory.Delete(name) {
		return fmt.Errorf("no role %q", name)
	}
	return nil
}

// RecreateRole deletes a role and creates it again as it was, with a new id.
func (a *Account) RecreateRole(name string) error {
	r := a.directory.Role(name)
	if r == nil {
		return fmt.Errorf("no role %q", name)
	}
	again := r.Source
	again.ID = ""
	a.directory.Delete(name)
	if err := a.directory.Recreate(again, a.now("iam")); err != nil {
		a.directory.Delete(name) // its trust policy names a role that is gone
		return err
	}
	return nil
}

func withRoleDefaults(r scenario.Role) scenario.Role {
	return scenario.Scenario{Roles: []scenario.Role{r}}.WithDefaults().Roles[0]
}

// SetPropagation switches the domain's ExecutionRoleIdentityConfig. It counts
// for base sessions issued from now on.
func (a *Account) SetPropagation(on bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state.Domain == nil {
		return errors.New("the account has no domain")
	}
	d := *a.state.Domain
	d.ExecutionRoleIdentityConfig = "DISABLED"
	if on {
		d.ExecutionRoleIdentityConfig = scenario.PropagateProfileName
	}
	a.state.Domain = &d
	return nil
}

// SetNotebookRole gives a notebook instance another execution role; it counts
// for base sessions issued from now on.
func (a *Account) SetNotebookRole(name, role string) error {
	if a.directory.Role(role) == nil {
		return fmt.Errorf("no role %q", role)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.state.Notebooks, func(n scenario.Notebook) bool { return n.Name == name })
	if i < 0 {
		return fmt.Errorf("no notebook instance %q", name)
	}
	a.state.Notebooks = slices.Clone(a.state.Notebooks) // readers hold the old slice
	a.state.Notebooks[i].Role = role
	return nil
}

// current returns the scenario as it is now. Its slices are never changed in
// place.
func (a *Account) current() Scenario {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

// ID is the account's number.
func (a *Account) ID() string { return a.scope.Account }

// Region is the account's home region.
func (a *Account) Region() string { return a.scope.Region }
