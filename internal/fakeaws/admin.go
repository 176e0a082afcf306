package fakeaws

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/directory"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
)

// Admin serves the account's controls, for a listener of its own. It asks for
// no credentials. Answers are JSON; a failed call answers {"error": "…"}.
//
//	GET    /trail?since=N         records from index N on, as lines of JSON
//	GET    /rejections            calls refused before authentication
//	POST   /flush                 {"dir"}: write the trail as CloudTrail delivers it
//	*      /faults                see fault.Set.Admin
//	GET    /secrets               every secret key and token issued: for
//	                              searching logs
//	GET    /scenario              the account as it is now
//	GET    /container-paths       app → AWS_CONTAINER_CREDENTIALS_RELATIVE_URI
//	GET    /roles/{name}          one role
//	PUT    /roles/{name}          create or replace (a scenario's role); with
//	                              "trust" or "policies" alone, only those change
//	DELETE /roles/{name}          delete; its sessions die
//	POST   /roles/{name}/recreate delete and create again with a new id
//	PUT    /notebooks/{name}      {"role"}: change the execution role
//	PUT    /domain                {"propagation": true}: ExecutionRoleIdentityConfig
//	PUT    /clock                 {"offset": "5m"}: move the account's clock
//	POST   /base-sessions/{how}   rotate, expire or revoke; ?name= narrows it to
//	                              one notebook or app
//	POST   /sessions              {"role", "session_name", "source_identity",
//	                              "lifetime"}: credentials that nobody assumed
func (a *Account) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/faults", a.Faults.Admin())
	mux.HandleFunc("GET /trail", a.adminTrail)
	handle := func(pattern string, run func(r *http.Request) (any, error)) { mux.Handle(pattern, adminCall(run)) }
	handle("GET /rejections", func(*http.Request) (any, error) { return a.Rejections(), nil })
	handle("GET /secrets", func(*http.Request) (any, error) { return a.directory.Secrets(), nil })
	handle("GET /scenario", func(*http.Request) (any, error) { return a.snapshot(), nil })
	handle("GET /container-paths", func(*http.Request) (any, error) { return a.ContainerPaths(), nil })
	handle("POST /flush", a.adminFlush)
	handle("GET /roles/{name}", func(r *http.Request) (any, error) { return a.roleNamed(r.PathValue("name")) })
	handle("PUT /roles/{name}", a.adminPutRole)
	handle("DELETE /roles/{name}", func(r *http.Request) (any, error) {
		return struct{}{}, a.DeleteRole(r.PathValue("name"))
	})
	handle("POST /roles/{name}/recreate", func(r *http.Request) (any, error) {
		if err := a.RecreateRole(r.PathValue("name")); err != nil {
			return nil, err
		}
		return a.roleNamed(r.PathValue("name"))
	})
	handle("PUT /notebooks/{name}", func(r *http.Request) (any, error) {
		var in struct{ Role string }
		if err := strict(r.Body, &in); err != nil {
			return nil, err
		}
		return in, a.SetNotebookRole(r.PathValue("name"), in.Role)
	})
	handle("PUT /domain", func(r *http.Request) (any, error) {
		var in struct{ Propagation *bool }
		if err := strict(r.Body, &in); err != nil {
			return nil, err
		}
		if in.Propagation == nil {
			return nil, errors.New("propagation is missing: true or false")
		}
		return in, a.SetPropagation(*in.Propagation)
	})
	handle("PUT /clock", func(r *http.Request) (any, error) {
		var in struct{ Offset scenario.Duration }
		if err := strict(r.Body, &in); err != nil {
			return nil, err
		}
		a.SetClockOffset(time.Duration(in.Offset))
		return in, nil
	})
	handle("POST /base-sessions/{how}", func(r *http.Request) (any, error) {
		how := BaseSessions(r.PathValue("how"))
		if how != Rotate && how != Expire && how != Revoke {
			return nil, fmt.Errorf("%q: use rotate, expire or revoke", how)
		}
		return map[string]int{"changed": a.ChangeBaseSessions(r.URL.Query().Get("name"), how)}, nil
	})
	handle("POST /sessions", a.adminSession)
	return mux
}

// adminCall answers with what it returns, in JSON.
type adminCall func(r *http.Request) (any, error)

func (run adminCall) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	v, err := run(r)
	status := http.StatusOK
	if err != nil {
		status, v = http.StatusBadRequest, map[string]string{"error": err.Error()}
	}
	body, err := json.Marshal(v)
	if err != nil { // every value here can be rendered
		status, body = http.StatusInternalServerError, []byte(`{"error":"rendering the answer"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client has gone; nobody is left to tell
}

// strict decodes one JSON value and nothing else.
func strict(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("reading request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("reading request: data after the first JSON value")
	}
	return nil
}

func (a *Account) adminTrail(w http.ResponseWriter, r *http.Request) {
	since := 0
	if s := r.URL.Query().Get("since"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			http.Error(w, `{"error":"since must be a number of records"}`, http.StatusBadRequest)
			return
		}
		since = n
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	for _, record := range a.trail.Since(since) {
		line, err := record.Line()
		if err == nil {
			_, err = w.Write(line)
		}
		if err != nil {
			return // the client has gone
		}
	}
}

func (a *Account) adminFlush(r *http.Request) (any, error) {
	in := struct{ Dir string }{a.trailDir}
	if r.ContentLength != 0 {
		if err := strict(r.Body, &in); err != nil {
			return nil, err
		}
	}
	if in.Dir == "" {
		return nil, errors.New("dir is missing")
	}
	files, err := a.trail.Flush(in.Dir, a.now("cloudtrail"))
	return map[string]any{"files": append([]string{}, files...)}, err
}

// roleNamed returns a role in the scenario's form, with its id.
func (a *Account) roleNamed(name string) (scenario.Role, error) {
	r := a.directory.Role(name)
	if r == nil {
		return scenario.Role{}, fmt.Errorf("no role %q", name)
	}
	return a.describeRole(r), nil
}

func (a *Account) describeRole(r *directory.Role) scenario.Role {
	out := r.Source
	out.ID, out.Trust = r.ID, a.directory.TrustText(r)
	return out
}

func (a *Account) adminPutRole(r *http.Request) (any, error) {
	name := r.PathValue("name")
	role, err := a.roleNamed(name)
	if err != nil {
		role = scenario.Role{Name: name}
	}
	before := role
	// What the request holds replaces, and never merges with, what was there;
	// the decoder would even write into the stored policy's bytes.
	role.Trust, role.Policies, role.Tags = nil, nil, nil
	if err := strict(r.Body, &role); err != nil {
		return nil, err
	}
	if role.Trust == nil {
		role.Trust = before.Trust
	}
	if role.Policies == nil {
		role.Policies = before.Policies
	}
	if role.Tags == nil {
		role.Tags = before.Tags
	}
	if role.Name != name {
		return nil, fmt.Errorf("the role in the request is named %q, not %q", role.Name, name)
	}
	if err := a.PutRole(role); err != nil {
		return nil, err
	}
	return a.roleNamed(name)
}

// snapshot is the scenario as it is now.
func (a *Account) snapshot() Scenario {
	s := a.current()
	s.Roles = nil
	for _, r := range a.directory.Roles() {
		s.Roles = append(s.Roles, a.describeRole(r))
	}
	return s
}

// ContainerPaths returns every app's ContainerPath by the app's name.
func (a *Account) ContainerPaths() map[string]string {
	paths := map[string]string{}
	for _, m := range a.machines {
		if m.app != "" {
			paths[m.app] = m.path
		}
	}
	return paths
}

// adminSession hands out credentials of a role without an AssumeRole: an
// administrator's, or somebody's from elsewhere.
func (a *Account) adminSession(r *http.Request) (any, error) {
	in := struct {
		Role           string            `json:"role"`
		SessionName    string            `json:"session_name"`
		SourceIdentity string            `json:"source_identity"`
		Lifetime       scenario.Duration `json:"lifetime"`
	}{SessionName: "operator", Lifetime: scenario.Duration(time.Hour)}
	if err := strict(r.Body, &in); err != nil {
		return nil, err
	}
	role := a.directory.Role(in.Role)
	if role == nil {
		return nil, fmt.Errorf("no role %q", in.Role)
	}
	s := a.directory.Issue(directory.Grant{
		Role: role, Name: in.SessionName, SourceIdentity: in.SourceIdentity, Issued: a.now("sts"), Lifetime: time.Duration(in.Lifetime),
	})
	return map[string]any{ // the form of a credential process
		"Version": 1, "AccessKeyId": s.KeyID, "SecretAccessKey": s.Secret, "SessionToken": s.Token,
		"Expiration": s.Expires.Format(time.RFC3339), "AccountId": a.scope.Account,
	}, nil
}
