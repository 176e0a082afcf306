package sidecar

import (
	"errors"
	"fmt"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/rolecreds"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// states says in the report's words what a source says in its own.
var states = map[string]status.State{
	rolecreds.StateStarting: status.Starting,
	rolecreds.StateReady:    status.OK,
	rolecreds.StateDegraded: status.Degraded,
	rolecreds.StateFailing:  status.Failed,
}

// report assembles what /v1/status shows.
func (d *Daemon) report() status.Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := status.Report{
		State:   status.Starting,
		Version: d.Version,
		Started: d.started.UTC(),
		Identity: status.Identity{
			Kind: string(d.subject.Kind), Name: d.subject.Name, Surface: string(d.notebook.Surface),
			Domain: d.subject.Domain, Space: d.subject.Space,
		},
		Assurance: d.assurance,
		Fence:     d.reportFenceLocked(),
		Faces:     d.faces.urls(),
		Problem:   explain(d.problem),
	}
	for _, g := range d.guards {
		r.ConfigFiles = append(r.ConfigFiles, reportConfig(g.State()))
	}
	if d.problem != nil {
		r.State = status.Failed
	}
	if d.source == nil {
		return r
	}
	s := d.source.Status()
	r.State = states[s.State]
	r.RoleARN, r.SessionName, r.SourceIdentity = s.RoleARN, s.SessionName, s.SourceIdentity
	r.CallerARN, r.Verified = s.CallerARN, s.Verified
	if s.KeyIDSuffix != "" {
		r.Credential = &status.Credential{
			KeyIDSuffix: s.KeyIDSuffix,
			Expires:     s.Expires.UTC(),
			Refreshed:   s.Refreshed.UTC(),
			NextRefresh: s.NextRefresh.UTC(),
			SecondsLeft: max(0, int64(time.Until(s.Expires.Round(0)).Seconds())),
		}
	}
	r.Problem = nil
	if s.Problem != "" {
		r.Problem = &status.Problem{Code: s.Code, Message: s.Problem, Remedy: s.Remedy}
	} else if p := unwritten(r.ConfigFiles); p != nil && r.State == status.OK {
		r.State, r.Problem = status.Degraded, p
	}
	if d.subject.Kind == identity.KindSharedSpace {
		r.Notes = append(r.Notes, "This is a shared space: the calls carry the space's name, and who of its users made them cannot be known.")
	}
	if s.VerifyProblem != "" {
		r.Notes = append(r.Notes, fmt.Sprintf("AWS could not be asked whether the name landed: %s.", s.VerifyProblem))
	}
	return r
}

// unwritten tells of the first file that does not say what it must: there are
// credentials, and SDKs that rely on the file do not ask for them. A file that has
// not been looked at yet has no problem.
func unwritten(files []status.ConfigFile) *status.Problem {
	for _, f := range files {
		if !f.Written && f.Problem != "" {
			return &status.Problem{Code: "config_not_written",
				Message: fmt.Sprintf("%s does not lead to nbidentityd: %s", f.Path, f.Problem),
				Remedy:  "mend that: the file is then written within seconds"}
		}
	}
	return nil
}

// explain renders an error of the time before there is a source.
func explain(err error) *status.Problem {
	if err == nil {
		return nil
	}
	p := &status.Problem{Code: "not_ready", Message: err.Error()}
	if coded := interface{ Code() string }(nil); errors.As(err, &coded) {
		p.Code = coded.Code()
	}
	if remedied := interface{ Remedy() string }(nil); errors.As(err, &remedied) {
		p.Remedy = remedied.Remedy()
	}
	return p
}
