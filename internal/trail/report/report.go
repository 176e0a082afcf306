// Package report shows answers: as a table for a terminal, as JSON, as CSV and as one
// HTML page that needs nothing else.
//
// It guarantees that contents of records, which anybody who may call an API can choose,
// are harmless wherever they are shown: control and direction characters and anything
// else that is not printable are replaced, in JSON escaped, a CSV cell that a
// spreadsheet would take for a formula begins with an apostrophe, all text of a page is
// escaped, and the page forbids scripts other than its own and all network.
//
// It is longer than most because it shows one document in four forms: text.go, html.go,
// and JSON and CSV in data.go.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/trail"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/intake"
)

// Call is an answered call.
type Call struct {
	Time       time.Time        `json:"time"`
	Name       string           `json:"name,omitempty"` // "" when it cannot be said
	Kind       trail.Kind       `json:"kind,omitempty"`
	Rung       trail.Rung       `json:"rung,omitempty"`
	Confidence trail.Confidence `json:"confidence,omitempty"`
	Reason     trail.Reason     `json:"reason,omitempty"`
	Candidates []string         `json:"candidates,omitempty"`
	Claimed    string           `json:"claimed,omitempty"`
	Escape     trail.Escape     `json:"escape,omitempty"`
	Conflict   string           `json:"conflict,omitempty"` // in words
	Action     string           `json:"action"`             // such as s3:GetObject
	Resource   string           `json:"resource,omitempty"`
	Region     string           `json:"region,omitempty"`
	Address    string           `json:"address,omitempty"`
	Error      string           `json:"error,omitempty"`
	Account    string           `json:"account,omitempty"`
	Caller     string           `json:"caller,omitempty"` // ARN or principal in the record
	Key        string           `json:"access_key_id,omitempty"`
	Source     string           `json:"source_identity,omitempty"`
	InvokedBy  string           `json:"invoked_by,omitempty"`
	Job        string           `json:"job,omitempty"`
	StartedBy  string           `json:"started_by,omitempty"`
	Opener     string           `json:"opened_by,omitempty"`
	OpenedAt   *time.Time       `json:"opened_at,omitempty"`
	EventID    string           `json:"event_id"`
}

// NewCall joins a call and its answer, in memory of its own.
func NewCall(c *calls.Call, a *trail.Answer) Call {
	row := Call{
		Time: time.Unix(c.Time, 0).UTC(), Name: a.Name, Kind: a.Kind, Rung: a.Rung, Confidence: a.Confidence, Reason: a.Reason, Candidates: a.Candidates,
		Claimed: a.Claimed, Escape: a.Escape, Action: Action(c), Resource: c.Resource, Region: c.Region, Address: c.Address, Error: c.Error,
		Account: c.Account, Caller: cmp.Or(c.Caller.ARN, c.Caller.Principal, c.Caller.InvokedBy), Key: c.Caller.Key, Source: c.Caller.Source,
		InvokedBy: c.Caller.InvokedBy, Job: a.Job, StartedBy: a.StartedBy, Opener: a.Opener, EventID: c.ID,
	}
	if a.Conflict != nil {
		row.Conflict = a.Conflict.Text()
	}
	if a.OpenedAt != 0 {
		at := time.Unix(a.OpenedAt, 0).UTC()
		row.OpenedAt = &at
	}
	for _, field := range []*string{
		&row.Name, &row.Claimed, &row.Resource, &row.Region, &row.Address, &row.Error, &row.Account, &row.Caller, &row.Key, &row.Source, &row.InvokedBy, &row.EventID,
	} {
		*field = strings.Clone(*field) // not hold on to the whole block of calls
	}
	row.Candidates = slices.Clone(row.Candidates)
	for i := range row.Candidates {
		row.Candidates[i] = strings.Clone(row.Candidates[i])
	}
	return row
}

// Action is what was called, as IAM writes it.
func Action(c *calls.Call) string {
	service, _, _ := strings.Cut(c.Service, ".")
	return service + ":" + c.Action
}

// Newer orders calls, the newest first; equal times by event, so that the order does
// not depend on that of the input.
func Newer(a, b *Call) int {
	return cmp.Or(b.Time.Compare(a.Time), strings.Compare(a.EventID, b.EventID))
}

// Who is the name, or why there is none.
func (c *Call) Who() string {
	switch {
	case c.Name != "":
		return c.Name
	case len(c.Candidates) > 0 && c.Reason == trail.UnknownName:
		return "? (" + c.Candidates[0] + ")"
	case len(c.Candidates) > 0:
		return "? " + strings.Join(c.Candidates, " or ")
	}
	return "?"
}

// How is the evidence for the name, or why there is none.
func (c *Call) How() string {
	if c.Name == "" {
		return string(c.Reason)
	}
	return string(c.Rung) + ", " + string(c.Confidence)
}

// Note says what is remarkable about the call.
func (c *Call) Note() string {
	var notes []string
	switch c.Escape {
	case trail.Bypass:
		notes = append(notes, "BYPASS")
	case trail.StartUp:
		notes = append(notes, "at start-up, before the daemon")
	case trail.Possible:
		notes = append(notes, "base credentials")
	}
	if c.Claimed != "" {
		notes = append(notes, "CLAIMED "+c.Claimed)
	} else if c.Conflict != "" {
		notes = append(notes, "CONFLICT")
	}
	if c.StartedBy != "" {
		notes = append(notes, c.Job+" started by "+c.StartedBy)
	}
	if c.Error != "" {
		notes = append(notes, c.Error)
	}
	return strings.Join(notes, "; ")
}

// Group is the calls that have something in common.
type Group struct {
	Key      string    `json:"key"`
	Calls    int       `json:"calls"`
	Errors   int       `json:"errors"`
	Escapes  int       `json:"escapes"` // certain ones
	Disputed int       `json:"disputed"`
	Names    int       `json:"names"` // different ones
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// Conflict is an alarm.
type Conflict struct {
	Kind      trail.ConflictKind `json:"kind"`
	Text      string             `json:"text"`
	Names     []string           `json:"names"`
	Owner     string             `json:"owner,omitempty"`
	Key       string             `json:"access_key_id"`
	Addresses []string           `json:"addresses,omitempty"`
	Claims    int                `json:"claims"`
	First     time.Time          `json:"first"`
	Last      time.Time          `json:"last"`
}

// NewConflict shows an alarm.
func NewConflict(c *trail.Conflict) Conflict {
	return Conflict{
		Kind: c.Kind, Text: c.Text(), Names: c.Names, Owner: c.Owner, Key: c.Key, Addresses: c.Addresses, Claims: c.Claims,
		First: time.Unix(c.First, 0).UTC(), Last: time.Unix(c.Last, 0).UTC(),
	}
}

// Session is a set of credentials in the tree of those that came from it.
type Session struct {
	At       *time.Time   `json:"at,omitempty"`
	Name     string       `json:"name,omitempty"`
	Reason   trail.Reason `json:"reason,omitempty"`
	Role     string       `json:"role,omitempty"`
	Session  string       `json:"session"`
	Key      string       `json:"access_key_id,omitempty"`
	Address  string       `json:"address,omitempty"`
	Claimed  string       `json:"claimed,omitempty"`
	Escape   trail.Escape `json:"escape,omitempty"`
	Children []Session    `json:"children,omitempty"`
}

// NewSession shows a tree.
func NewSession(n *trail.Node) Session {
	s := Session{
		Name: n.Answer.Name, Reason: n.Answer.Reason, Role: n.Role, Session: n.Session, Key: n.Key, Address: n.Address, Claimed: n.Answer.Claimed, Escape: n.Answer.Escape,
	}
	if n.At != 0 {
		at := time.Unix(n.At, 0).UTC()
		s.At = &at
	}
	for _, child := range n.Children {
		s.Children = append(s.Children, NewSession(child))
	}
	return s
}

// Query is a query with what it was given access to, and what it read.
type Query struct {
	Time      time.Time    `json:"time"`
	Name      string       `json:"name,omitempty"`
	Rung      trail.Rung   `json:"rung,omitempty"`
	Reason    trail.Reason `json:"reason,omitempty"`
	ID        string       `json:"query_id,omitempty"`
	Text      string       `json:"text,omitempty"`
	WorkGroup string       `json:"work_group,omitempty"`
	Database  string       `json:"database,omitempty"`
	Tables    []Table      `json:"tables,omitempty"`
	Objects   []string     `json:"objects,omitempty"` // S3 objects read under it, the first ones
	Reads     int          `json:"reads"`
}

// Table is a grant of Lake Formation.
type Table struct {
	ARN         string `json:"arn,omitempty"`
	Permissions string `json:"permissions"`
	CellLevel   bool   `json:"cell_level,omitempty"` // row or column filters applied
	Engine      string `json:"engine,omitempty"`
}

// Job is work that somebody started.
type Job struct {
	Time time.Time `json:"time"`
	Name string    `json:"name,omitempty"` // of whoever started it
	Kind string    `json:"kind"`
	Job  string    `json:"job"`
	Role string    `json:"role,omitempty"`
}

// Summary counts the calls that were asked for.
type Summary struct {
	Calls        int            `json:"calls"`
	Named        int            `json:"named"`
	Rungs        map[string]int `json:"rungs"`
	Reasons      map[string]int `json:"reasons"`
	Escapes      int            `json:"escapes"`
	BaseCalls    int            `json:"base_credential_calls"` // by credentials that claimed no name
	StartUps     int            `json:"start_up_calls"`        // by base credentials, before the daemon was there
	Disputed     int            `json:"disputed"`
	Conflicts    int            `json:"conflicts"`
	Read         intake.Stats   `json:"read"`
	DigestFiles  int            `json:"digest_or_insight_files"`
	OtherFiles   int            `json:"other_files"`
	OtherFolders int            `json:"other_folders"` // of a bucket, that were not looked into
	Copies       int            `json:"copies"`        // AssumeRole records of which another account's says more
}

// Timeline is when a name made calls.
type Timeline struct {
	Name  string
	Calls int
	Hours []Hour // in order, empty ones left out
}

// Hour is the calls of one hour.
type Hour struct {
	Start   time.Time
	Calls   int
	Escapes int
}

// Document is what is shown. Of the lists, those that were not asked for are nil.
type Document struct {
	Summary   Summary    `json:"summary"`
	Calls     []Call     `json:"calls,omitzero"`
	Left      int        `json:"calls_left_out,omitempty"` // beyond the limit
	RowsLeft  int        `json:"rows_left_out,omitempty"`  // the same of groups, sessions, queries and jobs
	By        string     `json:"by,omitempty"`             // what Groups have in common
	Groups    []Group    `json:"groups,omitzero"`
	Conflicts []Conflict `json:"conflicts,omitzero"`
	Sessions  []Session  `json:"sessions,omitzero"`
	Queries   []Query    `json:"queries,omitzero"`
	Jobs      []Job      `json:"jobs,omitzero"`

	Timelines []Timeline `json:"-"` // for HTML
	Actions   []Group    `json:"-"` // for HTML
	Escapes   []Call     `json:"-"` // for HTML
}

// Rest says what was left out, in one line, "" when nothing was.
func (d *Document) Rest() string {
	switch {
	case d.Left > 0:
		return fmt.Sprintf("%d more calls; --limit shows more", d.Left)
	case d.RowsLeft > 0:
		return fmt.Sprintf("%d more rows; --limit shows more", d.RowsLeft)
	}
	return ""
}

// SortGroups puts hours in order and everything else by the number of calls.
func SortGroups(groups []Group, by string) {
	slices.SortFunc(groups, func(a, b Group) int {
		if by == "hour" {
			return strings.Compare(b.Key, a.Key)
		}
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Key, b.Key))
	})
}
