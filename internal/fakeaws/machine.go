package fakeaws

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/directory"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/metadata"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
)

// platformAccount owns the machines that notebook instances run on. It is not
// the customer's account.
const platformAccount = "444455556666"

// baseSessionName is the role session name of every session that SageMaker
// makes for a notebook or an app.
const baseSessionName = "SageMaker"

// machine is something that holds base credentials: a notebook instance or an
// app. Its session is guarded by Account.mu.
type machine struct {
	notebook string       // name, or ""
	app      string       // name, or ""
	path     string       // secret path of an app's credentials
	imds     http.Handler // of a notebook

	session *directory.Session // nil before the first use
}

func (a *Account) newNotebook(n scenario.Notebook) *machine {
	m := &machine{notebook: n.Name}
	sum := sha256.Sum256([]byte(n.Name))
	m.imds = a.Faults.Wrap(func(*http.Request) string { return "imds" }, metadata.NewIMDS(metadata.IMDSConfig{
		Credentials: func() (metadata.Credentials, error) { return a.base(m) },
		Region:      a.scope.Region,
		Partition:   a.scope.Partition,
		AccountID:   platformAccount,
		InstanceID:  "i-" + hex.EncodeToString(sum[:])[:17],
		AllowV1:     n.MinimumIMDSVersion == "1",
	}))
	return m
}

func newContainerPath() string {
	var secret [24]byte
	_, _ = rand.Read(secret[:]) // never fails: the runtime stops the program instead
	return "/_sagemaker-instance-credentials/" + hex.EncodeToString(secret[:])
}

// IMDS returns the instance metadata service of a notebook instance.
func (a *Account) IMDS(notebook string) (http.Handler, error) {
	for _, m := range a.machines {
		if m.notebook == notebook && notebook != "" {
			return m.imds, nil
		}
	}
	return nil, fmt.Errorf("no notebook instance %q in the scenario", notebook)
}

// Container serves the credentials of all apps, each at its ContainerPath.
func (a *Account) Container() http.Handler { return a.container }

// ContainerPath is the value of AWS_CONTAINER_CREDENTIALS_RELATIVE_URI in an
// app, "" when there is no such app.
func (a *Account) ContainerPath(app string) string {
	for _, m := range a.machines {
		if m.app == app && app != "" {
			return m.path
		}
	}
	return ""
}

func (a *Account) newContainer() http.Handler {
	h := metadata.NewContainer(metadata.ContainerConfig{
		Credentials: func(path string) (metadata.Credentials, error) {
			var found *machine
			for _, m := range a.machines {
				if m.app != "" && subtle.ConstantTimeCompare([]byte(m.path), []byte(path)) == 1 {
					found = m
				}
			}
			if found == nil {
				return metadata.Credentials{}, metadata.ErrUnknownPath
			}
			return a.base(found)
		},
	})
	return a.Faults.Wrap(func(*http.Request) string { return "container" }, h)
}

// base returns m's base session, and issues the next one shortly before the
// old one ends. The old one lives on.
func (a *Account) base(m *machine) (metadata.Credentials, error) {
	now := a.now("sts")
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.session == nil || !now.Before(m.session.Expires.Add(-a.rotate)) {
		role, sourceIdentity, err := a.executionRoleLocked(m)
		if err != nil {
			return metadata.Credentials{}, err
		}
		s, refused := a.serviceAssume(role, baseSessionName, sourceIdentity, a.lifetime, now)
		if refused != nil {
			return metadata.Credentials{}, fmt.Errorf("assuming the execution role %s for SageMaker: %w", role, refused)
		}
		m.session = s
	}
	s := m.session
	c := metadata.Credentials{
		AccessKeyID: s.KeyID, SecretAccessKey: s.Secret, Token: s.Token,
		LastUpdated: s.Issued, Expiration: s.Expires, AccountID: a.scope.Account,
	}
	if r := a.directory.Role(s.RoleName); r != nil {
		c.RoleARN = r.ARN
	}
	return c, nil
}

// executionRoleLocked returns the name of m's execution role and the source
// identity that SageMaker gives its sessions: with propagation on, the profile
// of an app that is not in a shared space.
func (a *Account) executionRoleLocked(m *machine) (role, sourceIdentity string, err error) {
	if m.notebook != "" {
		i := slices.IndexFunc(a.state.Notebooks, func(n scenario.Notebook) bool { return n.Name == m.notebook })
		return a.state.Notebooks[i].Role, "", nil
	}
	i := slices.IndexFunc(a.state.Apps, func(app scenario.App) bool { return app.Name == m.app })
	profile := a.state.Apps[i].Profile
	for _, sp := range a.state.Spaces {
		if sp.Name != a.state.Apps[i].Space || sp.Name == "" {
			continue
		}
		if sp.Sharing == scenario.Shared {
			return a.state.Domain.SpaceRole, "", nil
		}
		profile = sp.Owner
	}
	role = a.state.Domain.UserRole
	for _, p := range a.state.Profiles {
		if p.Name == profile && p.Role != "" {
			role = p.Role
		}
	}
	if a.state.Domain.ExecutionRoleIdentityConfig == scenario.PropagateProfileName {
		sourceIdentity = profile
	}
	return role, sourceIdentity, nil
}

// BaseSessions says what happens to base sessions.
type BaseSessions string

// What can happen to a base session. In each case the metadata endpoint serves
// a new one at the next question.
const (
	Rotate BaseSessions = "rotate" // the old one lives to its end
	Expire BaseSessions = "expire" // the old one is over at once
	Revoke BaseSessions = "revoke" // the old one is unknown at once
)

// ChangeBaseSessions rotates, expires or revokes the base session of the
// notebook or app of a name, or of all when name is empty. It returns how many
// there were.
func (a *Account) ChangeBaseSessions(name string, how BaseSessions) int {
	now := a.now("sts")
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, m := range a.machines {
		if m.session == nil || name != "" && m.notebook != name && m.app != name {
			continue
		}
		switch how {
		case Expire:
			a.directory.Expire(m.session, now.Truncate(time.Second))
		case Revoke:
			a.directory.Revoke(m.session)
		}
		m.session = nil
		n++
	}
	return n
}
