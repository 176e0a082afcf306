package directory

import (
	"encoding/base32"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/sigv4"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const serviceTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"sagemaker.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

func newRole(name, trust string) scenario.Role {
	return scenario.Role{Name: name, Path: "/", Trust: []byte(trust), MaxSessionSeconds: 3600}
}

func newDirectory(t *testing.T, roles ...scenario.Role) *Directory {
	t.Helper()
	d, err := New("aws", "111122223333", roles, start)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func code(err error) sigv4.Code {
	var e *sigv4.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestIDs(t *testing.T) {
	d := newDirectory(t, newRole("R", serviceTrust))
	s := d.Issue(Grant{Role: d.Role("R"), Name: "n1", Issued: start, Lifetime: time.Hour})
	for got, want := range map[string]string{
		s.KeyID: `^ASIA[A-Z2-7]{16}$`, s.RoleID: `^AROA[A-Z2-7]{17}$`, s.Secret: `^[A-Za-z0-9+/]{40}$`, s.Token: `^IQoJb3JpZ2luX2Vj[A-Za-z0-9+/]{784}$`,
	} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%q does not match %s", got, want)
		}
	}
	// The account can be read out of an id, as out of AWS's.
	for _, id := range []string{s.KeyID, s.RoleID} {
		raw, err := base32.StdEncoding.DecodeString(id[4:20])
		if err != nil {
			t.Fatal(err)
		}
		var n uint64
		for _, b := range raw[:6] {
			n = n<<8 | uint64(b)
		}
		if account := n & 0x7fffffffff80 >> 7; account != 111122223333 {
			t.Errorf("%s is of account %d", id, account)
		}
	}
	if s.ID() != s.RoleID+":n1" || s.ARN != "arn:aws:sts::111122223333:assumed-role/R/n1" {
		t.Errorf("%s %s", s.ID(), s.ARN)
	}
}

func TestLookup(t *testing.T) {
	d := newDirectory(t, newRole("R", serviceTrust), newRole("S", serviceTrust))
	issue := func(role string) *Session {
		return d.Issue(Grant{Role: d.Role(role), Name: "n1", Issued: start, Lifetime: time.Hour})
	}
	s, other := issue("R"), issue("S")
	for _, tt := range []struct {
		name, key, token string
		now              time.Time
		want             sigv4.Code
	}{
		{"good", s.KeyID, s.Token, start, ""},
		{"last second", s.KeyID, s.Token, start.Add(time.Hour - 1), ""},
		{"over", s.KeyID, s.Token, start.Add(time.Hour), sigv4.ExpiredToken},
		{"another's token", s.KeyID, other.Token, start, sigv4.InvalidClientTokenId},
		{"no token", s.KeyID, "", start, sigv4.InvalidClientTokenId},
		{"unknown key", "ASIAIOSFODNN7EXAMPLE", s.Token, start, sigv4.InvalidClientTokenId},
		{"another's token, over", s.KeyID, other.Token, start.Add(time.Hour), sigv4.InvalidClientTokenId},
	} {
		if _, _, err := d.Lookup(tt.key, tt.token, tt.now); code(err) != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	d.Expire(s, start.Add(time.Minute))
	if _, _, err := d.Lookup(s.KeyID, s.Token, start.Add(time.Minute)); code(err) != sigv4.ExpiredToken {
		t.Errorf("expired early: %v", err)
	}
	if s.Expires != start.Add(time.Hour) {
		t.Error("an issued session changed")
	}
	d.Revoke(s)
	if _, _, err := d.Lookup(s.KeyID, s.Token, start); code(err) != sigv4.InvalidClientTokenId {
		t.Errorf("revoked: %v", err)
	}
	d.Expire(s, start) // of a session that is gone
	if _, _, err := d.Lookup(s.KeyID, s.Token, start); code(err) != sigv4.InvalidClientTokenId {
		t.Errorf("a revoked session came back: %v", err)
	}
	d.Delete("S")
	if err := d.Recreate(newRole("S", serviceTrust), start); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Lookup(other.KeyID, other.Token, start); code(err) != sigv4.InvalidClientTokenId {
		t.Errorf("the role was created again: %v", err)
	}
}

func TestSweep(t *testing.T) {
	d := newDirectory(t, newRole("R", serviceTrust))
	for i := range 1000 { // one an hour, each living an hour
		d.Issue(Grant{Role: d.Role("R"), Name: "n1", Issued: start.Add(time.Duration(i) * time.Hour), Lifetime: time.Hour})
	}
	if n := len(d.sessions); n > 27 {
		t.Errorf("%d sessions are remembered", n)
	}
}

func TestPut(t *testing.T) {
	selfTrust := strings.Replace(serviceTrust, `{"Service":"sagemaker.amazonaws.com"}`, `{"AWS":"arn:aws:iam::111122223333:role/R"}`, 1)
	d := newDirectory(t, newRole("R", selfTrust)) // a scenario may
	id := d.Role("R").ID
	if got := d.Role("R").Trust.Document.Statements[0].Principals[0].ID; got != id {
		t.Errorf("the principal is remembered as %s, want %s", got, id)
	}
	if err := d.Put(newRole("R", serviceTrust), start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if r := d.Role("R"); r.ID != id || !r.Created.Equal(start) {
		t.Errorf("an edit changed id or date: %s %v", r.ID, r.Created)
	}
	if r := d.RoleByARN("arn:aws:iam::111122223333:role/R"); r == nil || r.ID != id {
		t.Errorf("by ARN: %v", r)
	}
	for _, arn := range []string{"", "R", "arn:aws:iam::444455556666:role/R", "arn:aws:iam::111122223333:role/p/R"} {
		if r := d.RoleByARN(arn); r != nil {
			t.Errorf("%q is %s", arn, r.ARN)
		}
	}
	big := strings.Replace(serviceTrust, `"Effect"`, `"Sid":"`+strings.Repeat("a", 5000)+`","Effect"`, 1)
	for name, tt := range map[string]struct {
		role scenario.Role
		want string
	}{
		"trust that is no policy":  {newRole("R", `{}`), "role R: trust policy"},
		"trust with a resource":    {newRole("R", strings.Replace(serviceTrust, `"Action"`, `"Resource":"*","Action"`, 1)), "trust policy"},
		"new role naming itself":   {newRole("Q", strings.ReplaceAll(selfTrust, "/R", "/Q")), "Invalid principal in policy"},
		"over the size of a trust": {newRole("R", big), "IAM takes at most 4096"},
		"bad name":                 {newRole("a/b", serviceTrust), "not a role name"},
	} {
		if err := d.Put(tt.role, start); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := strings.Replace(selfTrust, "111122223333", "444455556666", 1)
	if err := d.Put(newRole("F", foreign), start); err != nil {
		t.Errorf("a role of another account as principal: %v", err)
	}
	if got := len(d.Roles()); got != 2 {
		t.Errorf("%d roles, want 2", got)
	}
}

func TestPutCopies(t *testing.T) {
	r := newRole("R", serviceTrust)
	d := newDirectory(t, r)
	copy(r.Trust, strings.Repeat(" ", len(r.Trust)))
	if got := string(d.TrustText(d.Role("R"))); got != serviceTrust {
		t.Errorf("the stored policy followed the caller's bytes: %q", got)
	}
}

func TestConcurrentUse(t *testing.T) {
	d := newDirectory(t, newRole("R", serviceTrust))
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 50 {
				s := d.Issue(Grant{Role: d.Role("R"), Name: "n1", Issued: start, Lifetime: time.Hour})
				if _, _, err := d.Lookup(s.KeyID, s.Token, start); err != nil {
					t.Error(err)
				}
				if err := d.Put(newRole("R", serviceTrust), start); err != nil {
					t.Error(err)
				}
				d.Expire(s, start)
				_ = d.Roles()
			}
		})
	}
	group.Wait()
}
