package sidecar

import (
	"errors"
	"sync"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/credserver"
)

// profiles lets users change the named profiles of a file that they may not be
// able to write: see awsconfig.AddProfile for what a profile may hold. Each
// change is a write to the disk, so their number is bounded.
type profiles struct {
	daemon *Daemon

	mu      sync.Mutex // guards what follows
	since   time.Time
	changes map[uint32]int
}

const (
	profileWindow = time.Minute
	maxChanges    = 30 // of one user in that time
)

// profileError is one that the user is told.
type profileError struct {
	error
	code string
}

func (e profileError) Code() string  { return e.code }
func (e profileError) Unwrap() error { return e.error }

// Add implements credserver.Profiles.
func (p *profiles) Add(uid uint32, name string, keys []credserver.ProfileKey) error {
	all := make([]awsconfig.Key, len(keys))
	for i, k := range keys {
		all[i] = awsconfig.Key{Name: k.Name, Value: k.Value}
	}
	return p.change(uid, func(g *configguard.Guard) error { return g.AddProfile(name, all) })
}

// Remove implements credserver.Profiles.
func (p *profiles) Remove(uid uint32, name string) error {
	return p.change(uid, func(g *configguard.Guard) error { return g.RemoveProfile(name) })
}

func (p *profiles) change(uid uint32, do func(*configguard.Guard) error) error {
	if !p.admit(uid) {
		return profileError{errors.New("too many changes of profiles: wait a minute"), "too_many"}
	}
	g, err := p.daemon.guardOf(uid)
	if err != nil {
		return err
	}
	if err := do(g); err != nil {
		return profileError{err, "profile_refused"}
	}
	return nil
}

func (p *profiles) admit(uid uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.since) > profileWindow {
		p.since, p.changes = now, map[uint32]int{}
	}
	p.changes[uid]++
	return p.changes[uid] <= maxChanges
}

// guardOf returns the guard of a user's configuration.
func (d *Daemon) guardOf(uid uint32) (*configguard.Guard, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, u := range d.users {
		if uint32(u.UID) != uid {
			continue
		}
		if i >= len(d.guards) {
			return nil, profileError{errors.New("the notebook is not known yet"), "not_ready"}
		}
		return d.guards[i], nil
	}
	return nil, profileError{errors.New("the configuration of this uid is not attended; the daemon's settings name the notebook's users"), "forbidden"}
}
