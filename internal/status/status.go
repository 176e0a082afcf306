// Package status is what nbidentityd says about itself: plain data with a JSON
// form for programs (the answer of GET /v1/status) and a text form for people.
//
// A Report never holds a secret: of a credential it knows only the last four
// characters of the key id and its times. The JSON keys are a promise to
// scripts; keys may be added, none is renamed. WriteText neutralises control
// characters, escape sequences and invisible characters in every field, so a
// report may quote what AWS, the metadata file or a home directory contained.
package status

import (
	"encoding/json"
	"time"
)

// State says in one word how the daemon is.
type State string

const (
	Starting     State = "starting"      // no credential yet, none has failed for good
	OK           State = "ok"            // a fresh credential is served
	Degraded     State = "degraded"      // a valid credential is served, something needs attention
	Failed       State = "failed"        // no valid credential can be served
	SteppedAside State = "stepped_aside" // the platform attributes calls itself; nothing is served
)

// Report is the JSON document of GET /v1/status. Times are UTC.
type Report struct {
	State   State     `json:"state"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`

	Identity Identity `json:"identity"`
	RoleARN  string   `json:"role_arn"`
	// SessionName and SourceIdentity are what CloudTrail will show.
	// SourceIdentity is empty when none is sent.
	SessionName    string `json:"session_name"`
	SourceIdentity string `json:"source_identity"`

	// Credential is nil until there has been one.
	Credential *Credential `json:"credential"`

	// CallerARN is what AWS answered to GetCallerIdentity, "" before that;
	// Verified reports whether it carries SessionName.
	CallerARN string `json:"caller_arn"`
	Verified  bool   `json:"verified"`

	// Problem is nil when all is well.
	Problem *Problem `json:"problem"`

	// Vends counts credentials handed out since the start, Failures the
	// permitted requests for one that had to be answered with an error.
	Vends    uint64 `json:"vends"`
	Failures uint64 `json:"failures"`

	ConfigFiles []ConfigFile `json:"config_files"`

	// Assurance is nil until it has been looked into.
	Assurance *Assurance `json:"assurance"`
	// Fence is nil where there is no metadata service to fence.
	Fence *Fence `json:"fence"`
	// Faces are the further places where SDKs find credentials, as URLs.
	Faces []string `json:"faces"`

	// Notes are whole sentences that a person should know and need not act on.
	Notes []string `json:"notes"`
}

// MarshalJSON writes lists that are empty as [], never as null.
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report
	if r.ConfigFiles == nil {
		r.ConfigFiles = []ConfigFile{}
	}
	if r.Faces == nil {
		r.Faces = []string{}
	}
	if r.Notes == nil {
		r.Notes = []string{}
	}
	return json.Marshal(plain(r))
}

// Identity is who the calls are made for.
type Identity struct {
	Kind    string `json:"kind"` // notebook, profile or space (shared: the person cannot be known)
	Name    string `json:"name"`
	Surface string `json:"surface"` // notebook-instance, studio-profile, studio-space or unified-studio
	Domain  string `json:"domain,omitempty"`
	Space   string `json:"space,omitempty"`
}

// Credential describes the credential in memory without saying it.
type Credential struct {
	KeyIDSuffix string    `json:"key_id_suffix"` // last four characters of the access key id
	Expires     time.Time `json:"expires"`
	Refreshed   time.Time `json:"refreshed,omitzero"`
	NextRefresh time.Time `json:"next_refresh,omitzero"`
	SecondsLeft int64     `json:"seconds_left"` // of life at the time of the report; 0 when expired
}

// Problem is the one thing that most needs attention.
type Problem struct {
	Code    string `json:"code"` // machine-readable, e.g. denied_set_source_identity
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"` // what a person can do; "" when nothing
}

// ConfigFile is the state of one AWS configuration file that the daemon writes.
type ConfigFile struct {
	Path    string `json:"path"`
	Written bool   `json:"written"` // it says what it must
	Problem string `json:"problem,omitempty"`

	Immutable bool   `json:"immutable"`          // file and directory are locked
	Unlocked  string `json:"unlocked,omitempty"` // why they are not
	Tampers   uint64 `json:"tampers"`            // times that somebody changed what it must say
}

// Assurance is how far the name can be trusted against the notebook's user.
type Assurance struct {
	Level   string            `json:"level"` // enforced, tamper-evident or advisory
	Reasons []AssuranceReason `json:"reasons"`
	Checked time.Time         `json:"checked"`
}

// AssuranceReason is one observation behind the level.
type AssuranceReason struct {
	Fact  string `json:"fact"`
	Raise string `json:"raise,omitempty"` // how to mend it
}

// Fence is the state of the packet rules around the metadata service.
type Fence struct {
	Intact  bool   `json:"intact"`
	Backend string `json:"backend,omitempty"` // nftables or iptables
	Problem string `json:"problem,omitempty"`
	Repairs uint64 `json:"repairs"`
}
