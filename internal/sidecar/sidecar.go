// Package sidecar is the daemon: it finds out whose notebook this is, keeps
// credentials under that name, hands them out, and keeps watch over what leads
// the notebook's SDKs to it.
//
// It is where the rooms meet, so it is the one room, besides the commands, that
// knows the settings, and it is long for as many rooms as it joins: a file for
// each, and nothing in them but the joining. A life of the daemon goes:
//
//	metadata file -> fence and configuration -> name and role -> credentials
//
// and each step stays in force when a later one fails: a call then gets an
// error with a reason instead of going out without a name.
package sidecar

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/basesession"
	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/credserver"
	"github.com/nbidentityd/nbidentityd/internal/discovery"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/metadatafile"
	"github.com/nbidentityd/nbidentityd/internal/netfence"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/rolecreds"
	"github.com/nbidentityd/nbidentityd/internal/settings"
	"github.com/nbidentityd/nbidentityd/internal/status"
	"github.com/nbidentityd/nbidentityd/internal/supervision"
)

// socketMode lets every local process connect: the kernel says who it is, and
// the server answers only those that the settings name.
const socketMode = 0o666

// Config is what one life of the daemon needs.
type Config struct {
	Settings settings.Settings
	Getenv   func(string) string // two of Studio's variables are asked for
	Notify   func(state string)  // tells systemd, in the words of sd_notify(3)
	Version  string              // ours, for the status and the metrics
	Log      *zap.Logger
	Audit    *zap.Logger // takes a line for each credential handed out; nil means Log

	// Inherited are listening sockets from systemd, which stay open after each
	// life. Those at addresses of the settings are served; without one the daemon
	// listens itself.
	Inherited []*os.File
	// Before is the life that has ended with a reload; nil in the first one.
	Before *Daemon
	// Watchdog is how long systemd waits for a sign of life; 0 is for ever.
	Watchdog time.Duration
}

// Daemon is one life of the sidecar under one settings file. The socket is
// open from the start, so that a client is told what is going on; the
// credentials follow when the notebook's name is known.
type Daemon struct {
	Config
	names   blueprint.Templates
	users   []notebookuser.User
	started time.Time

	mark   string // by which our own metadata service is known
	server *credserver.Server
	faces  faces

	before  *rolecreds.Source // of the life before; may be nil
	sourced chan struct{}     // closed when source is set

	mu        sync.Mutex // guards what is known so far
	notebook  identity.Notebook
	subject   identity.Subject
	source    *rolecreds.Source
	problem   error // why there is no source yet
	guards    []*configguard.Guard
	fence     *netfence.Fence
	fenceless string // why fence is nil
	assurance *status.Assurance
}

// New checks that the settings' users exist and its templates read; it starts
// nothing.
func New(cfg Config) (*Daemon, error) {
	users, err := notebookuser.Find(cfg.Settings.Users)
	if err != nil {
		return nil, err
	}
	names, err := blueprint.ParseTemplates(cfg.Settings.Identity)
	if err != nil {
		return nil, err
	}
	var before *rolecreds.Source
	if cfg.Before != nil {
		before, cfg.Before = cfg.Before.held(), nil
	}
	return &Daemon{
		Config:  cfg,
		before:  before,
		names:   names,
		users:   users,
		started: time.Now(),
		mark:    rand.Text(),
		sourced: make(chan struct{}),
	}, nil
}

// Run serves until ctx ends, and returns nil then; or until something breaks.
// A notebook whose platform names its users itself ends it with
// an error that blueprint.StepsAside knows.
func (d *Daemon) Run(ctx context.Context) error {
	inherited := supervision.Inherit(d.Inherited, d.Log)
	listener, err := d.listenUnix(inherited)
	if err != nil {
		inherited.Close()
		return err
	}
	set := metrics.NewSet()
	d.register(set)
	d.server = credserver.New(credserver.Config{
		Credentials: d,
		Status:      d.report,
		Profiles:    &profiles{daemon: d},
		AllowUIDs:   d.uids(),
		Metrics:     set,
		Version:     d.Version,
		Log:         d.Log,
		Audit:       d.Audit,
	})
	d.faces = d.openFaces(inherited)
	group, ctx := errgroup.WithContext(ctx)
	stop := d.serveSocket(ctx, group, listener)
	group.Go(func() error { return d.keepSocket(ctx, group, listener, stop) })
	d.faces.serve(ctx, group, d, d.server)
	group.Go(func() error {
		inherited.TurnAway(ctx, d.Log)
		return nil
	})
	d.tell(ctx, group)
	group.Go(func() error {
		tidy(ctx)
		return nil
	})
	group.Go(func() error {
		err := d.attribute(ctx)
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
	return group.Wait()
}

// attribute finds out who this notebook is and keeps credentials of that name
// until ctx ends.
func (d *Daemon) attribute(ctx context.Context) error {
	nb, err := metadatafile.Wait(ctx, d.Settings.MetadataFile, time.Duration(d.Settings.MetadataWait), d.Log)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.notebook = nb
	d.mu.Unlock()
	if err := blueprint.Aside(nb, d.Getenv); err != nil {
		return err
	}
	// From here on the notebook's SDKs ask us: a call waits for its name, or
	// fails with the reason, rather than go out without one.
	group, ctx := errgroup.WithContext(ctx)
	d.raiseFence(ctx, group, nb)
	d.keepConfigs(ctx, group, nb)
	group.Go(func() error { return d.hold(ctx, group, nb) })
	return group.Wait()
}

// hold asks for the name and assumes the role under it, and returns when that
// runs.
func (d *Daemon) hold(ctx context.Context, group *errgroup.Group, nb identity.Notebook) error {
	api, err := basesession.NewClients(d.Settings.Endpoints, nb, d.Getenv)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, api.CloseIdle) // another life has its own
	facts, err := discovery.Discover(ctx, d.discoveryConfig(api), nb)
	if err != nil {
		return err
	}
	source, err := d.newSource(api, nb, facts)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.subject, d.source = facts.Subject, source
	d.mu.Unlock()
	close(d.sourced)

	group.Go(func() error { return source.Run(ctx) })
	group.Go(func() error {
		d.assess(ctx, facts)
		return nil
	})
	return nil
}

func (d *Daemon) discoveryConfig(api basesession.Clients) discovery.Config {
	return discovery.Config{
		SageMaker:                  api.SageMaker,
		RoleARN:                    d.Settings.Role.ARN,
		StateFile:                  filepath.Join(d.Settings.StateDir, "discovery.json"),
		TrustedIdentityPropagation: blueprint.Propagation(d.Getenv),
		OnProblem: func(err error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.problem = err
		},
		Log: d.Log.Named("discovery"),
	}
}

func (d *Daemon) newSource(api basesession.Clients, nb identity.Notebook, facts discovery.Facts) (*rolecreds.Source, error) {
	sessionName, sourceIdentity, err := d.names.Names(facts)
	if err != nil {
		return nil, err
	}
	role, err := rolecreds.ExpandRoleARN(facts.ExecutionRoleARN, nb.Account, nb.Partition, facts.Subject.Name)
	if err != nil {
		return nil, err
	}
	d.Log.Info("identity known",
		zap.String("kind", string(facts.Subject.Kind)), zap.String("name", facts.Subject.Name),
		zap.String("session_name", sessionName), zap.String("source_identity", sourceIdentity), zap.String("role_arn", role))
	return rolecreds.New(rolecreds.Config{
		STS:            api.STS,
		RoleARN:        role,
		SessionName:    sessionName,
		SourceIdentity: sourceIdentity,
		Tags:           d.Settings.Role.Tags,
		Before:         d.before,
		Log:            d.Log.Named("rolecreds"),
	}), nil
}

// held is what d leaves to the life after it, when that has not come as far as to
// take over what was left to it.
func (d *Daemon) held() *rolecreds.Source {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.source == nil {
		return d.before
	}
	return d.source
}

// Retrieve waits for the name to be known and then asks the source.
func (d *Daemon) Retrieve(ctx context.Context) (aws.Credentials, error) {
	select {
	case <-d.sourced: // before ctx.Done, which costs a timer
		return d.source.Retrieve(ctx)
	default:
	}
	select {
	case <-d.sourced:
		return d.source.Retrieve(ctx)
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.problem != nil {
		return aws.Credentials{}, d.problem
	}
	return aws.Credentials{}, ctx.Err()
}

func (d *Daemon) uids() []uint32 {
	var uids []uint32
	for _, u := range d.users {
		uids = append(uids, uint32(u.UID))
	}
	return uids
}
