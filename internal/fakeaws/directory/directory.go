// Package directory holds the roles of one AWS account and the sessions that
// were issued from them.
//
// It guarantees what AWS documents of temporary credentials: a session is its
// access key, secret and token together; it is bound to the role's unique id,
// so it dies when the role is deleted and stays dead when a role of the same
// name is created again; it expires. An edit of a role counts at once for the
// sessions it already issued. A role named in a trust policy is remembered by
// its unique id ("AWS JSON policy elements: Principal"), so a re-created role
// is no longer the one that was trusted. It decides nothing: evaluating the
// policies is the caller's business.
package directory

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/sigv4"
	"github.com/nbidentityd/nbidentityd/internal/iameval"
)

// Directory is the memory of one account. It is safe for concurrent use.
type Directory struct {
	partition, account string

	mu        sync.Mutex // guards the maps; a stored *Role never changes
	byName    map[string]*Role
	byID      map[string]*Role
	sessions  map[string]*Session // by access key id
	lastSweep time.Time
}

// New returns a directory with the given roles, created at the time now.
func New(partition, account string, roles []scenario.Role, now time.Time) (*Directory, error) {
	d := &Directory{
		partition: partition,
		account:   account,
		byName:    map[string]*Role{},
		byID:      map[string]*Role{},
		sessions:  map[string]*Session{},
	}
	for _, r := range roles { // all exist before any trust policy names one
		id := r.ID
		if id == "" {
			id = d.newID("AROA", 21)
		}
		d.storeLocked(&Role{Name: r.Name, ID: id, ARN: d.roleARN(r.Path, r.Name)})
	}
	for _, r := range roles {
		if err := d.Put(r, now); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *Directory) roleARN(path, name string) string {
	return "arn:" + d.partition + ":iam::" + d.account + ":role" + path + name
}

func (d *Directory) storeLocked(r *Role) {
	d.byName[r.Name], d.byID[r.ID] = r, r
}

// Put creates a role or replaces everything but the id and the creation time
// of an existing one. Problems with its policies name the role and statement.
func (d *Directory) Put(r scenario.Role, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := r.Check(); err != nil {
		return err
	}
	id, created := r.ID, now
	if old := d.byName[r.Name]; old != nil {
		if r.ID != "" && r.ID != old.ID {
			return fmt.Errorf("role %s: the id %s cannot change to %s: delete the role first", r.Name, old.ID, r.ID)
		}
		id = old.ID
		if !old.Created.IsZero() {
			created = old.Created
		}
	} else if id == "" {
		id = d.newID("AROA", 21)
	}
	role, err := d.buildLocked(r, id, created)
	if err != nil {
		return err
	}
	d.storeLocked(role)
	return nil
}

// Recreate creates a role that was deleted. Unlike Put it lets the trust policy
// name the role itself, which on AWS takes a second call.
func (d *Directory) Recreate(r scenario.Role, now time.Time) error {
	d.mu.Lock()
	if d.byName[r.Name] == nil {
		d.storeLocked(&Role{Name: r.Name, ID: d.newID("AROA", 21), ARN: d.roleARN(r.Path, r.Name)})
	}
	d.mu.Unlock()
	return d.Put(r, now)
}

// Delete removes a role. Its sessions are dead from now on.
func (d *Directory) Delete(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.byName[name]
	if r == nil {
		return false
	}
	delete(d.byName, name)
	delete(d.byID, r.ID)
	return true
}

// Role returns the role of a name, nil when there is none.
func (d *Directory) Role(name string) *Role {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.byName[name]
}

// RoleByARN returns the role of an ARN (with path), nil when there is none.
func (d *Directory) RoleByARN(arn string) *Role {
	r := d.Role(arn[strings.LastIndexByte(arn, '/')+1:])
	if r == nil || r.ARN != arn {
		return nil
	}
	return r
}

// Roles returns all roles, by name.
func (d *Directory) Roles() []*Role {
	d.mu.Lock()
	defer d.mu.Unlock()
	roles := slices.Collect(maps.Values(d.byName))
	slices.SortFunc(roles, func(a, b *Role) int { return strings.Compare(a.Name, b.Name) })
	return roles
}

// Session is one set of temporary credentials. Its fields do not change.
type Session struct {
	KeyID, Secret, Token string
	RoleID               string
	RoleName             string
	ARN                  string // assumed-role ARN, without the role's path
	Name                 string
	SourceIdentity       string
	Issued               time.Time // whole seconds
	Expires              time.Time
	Tags                 map[string]string // session tags, inherited ones included
	TransitiveTags       map[string]string
	Policies             []iameval.Policy // session policies; nil = none were given
}

// ID is the assumed-role id, "AROA…:session".
func (s *Session) ID() string { return s.RoleID + ":" + s.Name }

// Grant is what a session is issued for.
type Grant struct {
	Role           *Role
	Name           string
	SourceIdentity string
	Issued         time.Time
	Lifetime       time.Duration
	Tags           map[string]string
	TransitiveTags map[string]string
	Policies       []iameval.Policy
}

// Issue makes a session.
func (d *Directory) Issue(g Grant) *Session {
	issued := g.Issued.UTC().Truncate(time.Second)
	s := &Session{
		KeyID:          d.newID("ASIA", 20),
		Secret:         randomBase64(30),
		Token:          newToken(),
		RoleID:         g.Role.ID,
		RoleName:       g.Role.Name,
		ARN:            "arn:" + d.partition + ":sts::" + d.account + ":assumed-role/" + g.Role.Name + "/" + g.Name,
		Name:           g.Name,
		SourceIdentity: g.SourceIdentity,
		Issued:         issued,
		Expires:        issued.Add(g.Lifetime),
		Tags:           g.Tags,
		TransitiveTags: g.TransitiveTags,
		Policies:       g.Policies,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sweepLocked(issued)
	d.sessions[s.KeyID] = s
	return s
}

// remember is how long an expired session is still told from an unknown one.
const remember = 24 * time.Hour

func (d *Directory) sweepLocked(now time.Time) {
	if now.Sub(d.lastSweep) < time.Hour {
		return
	}
	d.lastSweep = now
	maps.DeleteFunc(d.sessions, func(_ string, s *Session) bool { return now.Sub(s.Expires) > remember })
}

// Revoke forgets a session: calls with it are answered InvalidClientTokenId.
func (d *Directory) Revoke(s *Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, s.KeyID)
}

// Secrets returns the secret key and the token of every session that is known,
// for tests that search what other programs wrote.
func (d *Directory) Secrets() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	secrets := make([]string, 0, 2*len(d.sessions))
	for _, s := range d.sessions {
		secrets = append(secrets, s.Secret, s.Token)
	}
	return secrets
}

// Expire ends a session at the time now.
func (d *Directory) Expire(s *Session, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sessions[s.KeyID] == nil || s.Expires.Before(now) {
		return
	}
	ended := *s
	ended.Expires = now
	d.sessions[s.KeyID] = &ended
}

// Lookup returns the session of a key and token together with its role as it
// is now. The errors are those of sigv4: InvalidClientTokenId when the two do
// not belong together, are unknown, or the issuing role is gone; ExpiredToken.
func (d *Directory) Lookup(keyID, token string, now time.Time) (*Session, *Role, error) {
	d.mu.Lock()
	s := d.sessions[keyID]
	var role *Role
	if s != nil {
		role = d.byID[s.RoleID]
	}
	d.mu.Unlock()
	if s == nil || role == nil || subtle.ConstantTimeCompare([]byte(token), []byte(s.Token)) != 1 {
		return nil, nil, &sigv4.Error{Code: sigv4.InvalidClientTokenId, Message: "The security token included in the request is invalid."}
	}
	if !now.Before(s.Expires) {
		return nil, nil, &sigv4.Error{Code: sigv4.ExpiredToken, Message: "The security token included in the request is expired"}
	}
	return s, role, nil
}

// Caller is the session as policies see it.
func (d *Directory) Caller(s *Session, r *Role) iameval.Caller {
	tags := s.Tags
	if len(r.Tags) > 0 {
		tags = mergeTags(r.Tags, s.Tags)
	}
	return iameval.Caller{
		Principal: iameval.Principal{
			Account: d.account, RoleARN: r.ARN, SessionARN: s.ARN, UniqueID: r.ID,
		},
		Tags:           tags,
		TransitiveTags: s.TransitiveTags,
		SourceIdentity: s.SourceIdentity,
		TokenIssued:    s.Issued,
		Policies:       r.Policies,
	}
}

// mergeTags returns base overridden by over; keys do not distinguish case.
func mergeTags(base, over map[string]string) map[string]string {
	merged := maps.Clone(base)
	for k, v := range over {
		maps.DeleteFunc(merged, func(old, _ string) bool { return strings.EqualFold(old, k) })
		if merged == nil {
			merged = map[string]string{}
		}
		merged[k] = v
	}
	return merged
}

// newID makes a unique id of n characters. As in AWS's own ids, the first
// eight characters after the prefix hold the account: a one, the account in 40
// bits, and the rest is random.
func (d *Directory) newID(prefix string, n int) string {
	var raw [15]byte
	_, _ = rand.Read(raw[:]) // never fails: the runtime stops the program instead
	account, _ := strconv.ParseUint(d.account, 10, 64)
	head := make([]byte, 8)
	binary.BigEndian.PutUint64(head, 1<<47|account<<7|uint64(raw[5]&0x7f))
	copy(raw[:6], head[2:])
	return prefix + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:])[:n-len(prefix)]
}

// newToken makes a session token of a real one's length and look.
func newToken() string {
	raw := make([]byte, 600)
	_, _ = rand.Read(raw)
	copy(raw, "!\n\torigin_ec")
	return base64.StdEncoding.EncodeToString(raw)
}

func randomBase64(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}
