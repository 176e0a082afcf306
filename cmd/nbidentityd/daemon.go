package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/credserver"
	"github.com/nbidentityd/nbidentityd/internal/discovery"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/netfence"
	"github.com/nbidentityd/nbidentityd/internal/rolecreds"
	"github.com/nbidentityd/nbidentityd/internal/settings"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// socketMode lets every local process connect: the kernel says who it is, and
// the server answers only those that the settings name.
const socketMode = 0o666

// daemon is one life of the sidecar under one settings file. The socket is
// open from the start, so that a client is told what is going on; the
// credentials follow when the notebook's name is known.
type daemon struct {
	settings settings.Settings
	names    templates
	users    []notebookUser
	started  time.Time
	getenv   func(string) string
	notify   func(state string) // to systemd
	log      *zap.Logger

	mark  string // by which our own metadata service is known
	faces faces

	sourced chan struct{} // closed when source is set

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

func newDaemon(set settings.Settings, p program, notify func(string), log *zap.Logger) (*daemon, error) {
	users, err := notebookUsers(set.Users)
	if err != nil {
		return nil, err
	}
	names, err := parseTemplates(set.Identity)
	if err != nil {
		return nil, err
	}
	return &daemon{
		settings: set,
		names:    names,
		users:    users,
		started:  time.Now(),
		getenv:   p.getenv,
		notify:   notify,
		log:      log,
		mark:     rand.Text(),
		sourced:  make(chan struct{}),
	}, nil
}

// run serves until ctx ends, and returns nil then; or until something breaks.
// A notebook whose platform names its users itself ends it with
// discovery.StepAside.
func (d *daemon) run(ctx context.Context) error {
	listener, err := credserver.Listen(d.settings.Socket, socketMode)
	if err != nil {
		return err
	}
	set := metrics.NewSet()
	d.register(set)
	server := credserver.New(credserver.Config{
		Credentials: d,
		Status:      d.report,
		AllowUIDs:   d.uids(),
		Metrics:     set,
		Version:     version,
		Log:         d.log,
	})
	d.faces = d.openFaces()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, listener) })
	d.faces.serve(ctx, group, d, server)
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
func (d *daemon) attribute(ctx context.Context) error {
	nb, err := discovery.WaitForMetadata(ctx, d.settings.MetadataFile, time.Duration(d.settings.MetadataWait), d.log)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.notebook = nb
	d.mu.Unlock()
	if err := discovery.Aside(nb, isSet(d.getenv(propagationVariable))); err != nil {
		return err
	}
	// From here on the notebook's SDKs ask us: a call waits for its name, or
	// fails with the reason, rather than go out without one.
	guards := guardConfigs(d.settings, d.users, nb.Region, d.log)
	d.mu.Lock()
	d.guards = guards
	d.mu.Unlock()

	group, ctx := errgroup.WithContext(ctx)
	for _, g := range guards {
		group.Go(func() error { return g.Run(ctx) })
	}
	d.raiseFence(ctx, group, nb)
	group.Go(func() error { return d.hold(ctx, group, nb) })
	return group.Wait()
}

// hold asks for the name and assumes the role under it, and returns when that
// runs.
func (d *daemon) hold(ctx context.Context, group *errgroup.Group, nb identity.Notebook) error {
	api, err := newClients(d.settings.Endpoints, nb, d.getenv)
	if err != nil {
		return err
	}
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
	group.Go(func() error {
		select {
		case <-source.Ready():
			d.notify("READY=1")
		case <-ctx.Done():
		}
		return nil
	})
	return nil
}

func (d *daemon) discoveryConfig(api clients) discovery.Config {
	return discovery.Config{
		SageMaker:                  api.sagemaker,
		RoleARN:                    d.settings.Role.ARN,
		StateFile:                  filepath.Join(d.settings.StateDir, "discovery.json"),
		TrustedIdentityPropagation: isSet(d.getenv(propagationVariable)),
		OnProblem: func(err error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.problem = err
		},
		Log: d.log.Named("discovery"),
	}
}

// propagationVariable is spelled so by AWS.
const propagationVariable = "TRUSTED_IDENTITY_PROPOGATION_ENABLED"

// isSet reads a switch that AWS documents no values for: anything but a plain
// no is a yes, since going on would drop the user's own identity.
func isSet(value string) bool {
	switch strings.ToLower(value) {
	case "", "0", "false", "no":
		return false
	}
	return true
}

func (d *daemon) newSource(api clients, nb identity.Notebook, facts discovery.Facts) (*rolecreds.Source, error) {
	sessionName, sourceIdentity, err := d.names.of(facts)
	if err != nil {
		return nil, err
	}
	role, err := rolecreds.ExpandRoleARN(facts.ExecutionRoleARN, nb.Account, nb.Partition, facts.Subject.Name)
	if err != nil {
		return nil, err
	}
	d.log.Info("identity known",
		zap.String("kind", string(facts.Subject.Kind)), zap.String("name", facts.Subject.Name),
		zap.String("session_name", sessionName), zap.String("source_identity", sourceIdentity), zap.String("role_arn", role))
	return rolecreds.New(rolecreds.Config{
		STS:            api.sts,
		RoleARN:        role,
		SessionName:    sessionName,
		SourceIdentity: sourceIdentity,
		Tags:           d.settings.Role.Tags,
		Log:            d.log.Named("rolecreds"),
	}), nil
}

// templates say how a name becomes what AWS records.
type templates struct{ sessionName, sourceIdentity identity.Template }

func parseTemplates(want settings.Identity) (t templates, err error) {
	if t.sessionName, err = identity.ParseTemplate(want.SessionName); err != nil {
		return t, fmt.Errorf("identity.session_name: %w", err)
	}
	if t.sourceIdentity, err = identity.ParseTemplate(want.SourceIdentity); err != nil {
		return t, fmt.Errorf("identity.source_identity: %w", err)
	}
	return t, nil
}

// of renders both names. Where the domain itself sets the source identity, it is
// the plain profile name and cannot be changed: sending another would be refused.
func (t templates) of(facts discovery.Facts) (sessionName, sourceIdentity string, err error) {
	if facts.PropagatesSourceIdentity {
		t.sourceIdentity = identity.Template{}
	}
	if sessionName, err = t.sessionName.Format(facts.Subject); err != nil {
		return "", "", fmt.Errorf("identity.session_name: %w", err)
	}
	if sourceIdentity, err = t.sourceIdentity.Format(facts.Subject); err != nil {
		return "", "", fmt.Errorf("identity.source_identity: %w", err)
	}
	return sessionName, sourceIdentity, nil
}

// Retrieve waits for the name to be known and then asks the source.
func (d *daemon) Retrieve(ctx context.Context) (aws.Credentials, error) {
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

func (d *daemon) uids() []uint32 {
	var uids []uint32
	for _, u := range d.users {
		uids = append(uids, uint32(u.uid))
	}
	return uids
}

// stepsAside reports whether err says that the platform names its users.
func stepsAside(err error) (reason string, yes bool) {
	var aside discovery.StepAside
	if errors.As(err, &aside) {
		return aside.Reason, true
	}
	return "", false
}
