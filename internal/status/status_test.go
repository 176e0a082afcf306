package status

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func at(clock string) time.Time {
	t, err := time.Parse(time.RFC3339, "2026-01-02T"+clock+"Z")
	if err != nil {
		panic(err)
	}
	return t
}

func healthy() Report {
	return Report{
		State: OK, Version: "1.2.3", Started: at("02:00:00"),
		Identity:    Identity{Kind: "notebook", Name: "alice-nb", Surface: "notebook-instance"},
		RoleARN:     "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole",
		SessionName: "alice-nb", SourceIdentity: "alice-nb",
		Credential: &Credential{KeyIDSuffix: "MPLE", Expires: at("03:04:05"), Refreshed: at("02:04:05"), NextRefresh: at("02:34:05"), SecondsLeft: 2999},
		CallerARN:  "arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/alice-nb", Verified: true,
		Vends: 12, Failures: 1,
		ConfigFiles: []ConfigFile{{Path: "/home/ec2-user/.aws/config", Written: true}},
	}
}

func shared() Report {
	return Report{
		State: Degraded, Version: "1.2.3",
		Identity:    Identity{Kind: "space", Name: "team-space", Surface: "studio-space", Domain: "d-examplealice1", Space: "team-space"},
		SessionName: "team-space",
		Credential:  &Credential{KeyIDSuffix: "MPLE", Expires: at("03:04:05"), SecondsLeft: 61},
		Problem:     &Problem{Code: "throttled", Message: "STS asks us to slow down", Remedy: "none needed: it is tried again"},
		ConfigFiles: []ConfigFile{{Path: "/home/sagemaker-user/.aws/config", Problem: "another program rewrites it"}},
		Notes:       []string{"No source identity is sent: the base session carries one.", "Second note."},
	}
}

func TestWriteText(t *testing.T) {
	tests := []struct {
		name   string
		report Report
		want   string
	}{
		{"healthy", healthy(), `AWS calls from this notebook are made as alice-nb

  state            ok
  identity         notebook instance alice-nb
  role             arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole
  session name     alice-nb
  source identity  alice-nb
  verified         yes: AWS sees arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/alice-nb
  credential       …MPLE expires in 49 minutes at 2026-01-02 03:04:05 UTC, next refresh 02:34:05
  handed out       12 times, 1 failure
  config file      /home/ec2-user/.aws/config: written
  daemon           version 1.2.3, up since 2026-01-02 02:00:00 UTC
`},
		{"shared space, degraded", shared(), `AWS calls from this shared space are made as team-space

  state            degraded
  identity         shared space team-space (the person cannot be known), domain d-examplealice1
  session name     team-space
  verified         not yet
  credential       …MPLE expires in 61 seconds at 2026-01-02 03:04:05 UTC
  config file      /home/sagemaker-user/.aws/config: not written (another program rewrites it)
  daemon           version 1.2.3

problem (throttled): STS asks us to slow down
what to do: none needed: it is tried again

note: No source identity is sent: the base session carries one.
note: Second note.
`},
		{"failed, with no remedy", Report{
			State: Failed, SessionName: "alice",
			Identity:   Identity{Kind: "profile", Name: "alice", Surface: "studio-space", Domain: "d-examplealice1", Space: "alice-space"},
			Credential: &Credential{KeyIDSuffix: "MPLE", Expires: at("03:04:05")},
			CallerARN:  "arn:aws:sts::111122223333:assumed-role/R/bob",
			Problem:    &Problem{Code: "misattributed", Message: "AWS sees another name"},
			Failures:   2,
		}, `AWS calls from this Studio app should be made as alice, but there is no valid credential now

  state            failed
  identity         user profile alice, domain d-examplealice1, space alice-space
  session name     alice
  verified         NO: AWS sees arn:aws:sts::111122223333:assumed-role/R/bob
  credential       …MPLE expired at 2026-01-02 03:04:05 UTC
  handed out       0 times, 2 failures

problem (misattributed): AWS sees another name
`},
		{"guarded", Report{
			State: OK, SessionName: "alice-nb",
			ConfigFiles: []ConfigFile{{Path: "/home/ec2-user/.aws/config", Written: true, Immutable: true, Tampers: 1}},
			Fence:       &Fence{Intact: true, Backend: "nftables", Repairs: 2},
			Assurance:   &Assurance{Level: "advisory", Reasons: []AssuranceReason{{Fact: "The user may sudo.", Raise: "Disable root access."}, {Fact: "So be it."}}},
		}, `AWS calls from this notebook are made as alice-nb

  state            ok
  session name     alice-nb
  config file      /home/ec2-user/.aws/config: written, immutable, changed by somebody 1 time
  fence            in place (nftables), 2 repairs
  assurance        advisory

assurance: advisory
  The user may sudo.
    to raise it: Disable root access.
  So be it.
`},
		{"starting", Report{State: Starting, Identity: Identity{Kind: "notebook", Name: "alice-nb"}},
			"AWS calls from this notebook will be made as alice-nb: waiting for the first credential\n\n" +
				"  state            starting\n  identity         notebook instance alice-nb\n"},
		{"stepped aside", Report{State: SteppedAside, SessionName: "alice", Notes: []string{"Unified Studio names its users itself."}},
			"AWS calls from this notebook keep the platform's own identity: nbidentityd has stepped aside\n\n" +
				"  state            stepped_aside\n  session name     alice\n\nnote: Unified Studio names its users itself.\n"},
		{"nothing known", Report{}, "AWS calls from this notebook have no name yet\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			if err := tt.report.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, b.String()); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLeft(t *testing.T) {
	for seconds, want := range map[int64]string{
		1: "1 second", 119: "119 seconds", 120: "2 minutes", 7199: "119 minutes", 7200: "2 hours 0 min", 11*3600 + 61: "11 hours 1 min",
	} {
		if got := left(seconds); got != want {
			t.Errorf("left(%d) = %q, want %q", seconds, got, want)
		}
	}
}

// Whatever a field holds, the text has the lines that we wrote and nothing that
// a terminal obeys.
func TestWriteTextHostile(t *testing.T) {
	evil := "x\x1b[2J\x1b]0;t\a\r\nstate ok\x00\u009b31m\u202eabc\u2028\xff\ttab" + strings.Repeat("A", 5000)
	r := Report{
		State: State(evil), Version: evil, Started: at("00:00:00"),
		Identity: Identity{evil, evil, evil, evil, evil},
		RoleARN:  evil, SessionName: evil, SourceIdentity: evil, CallerARN: evil,
		Credential:  &Credential{KeyIDSuffix: evil, SecondsLeft: 1},
		Problem:     &Problem{evil, evil, evil},
		ConfigFiles: []ConfigFile{{Path: evil, Problem: evil, Immutable: true, Tampers: 2}},
		Assurance:   &Assurance{Level: evil, Reasons: []AssuranceReason{{evil, evil}}},
		Fence:       &Fence{Intact: true, Backend: evil, Problem: evil, Repairs: 1},
		Notes:       []string{evil},
		Vends:       1,
	}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for i, c := range text {
		if c != '\n' && !unicode.IsPrint(c) {
			t.Fatalf("character %U at %d", c, i)
		}
	}
	if got, want := strings.Count(text, "\n"), 23; got != want {
		t.Errorf("%d lines, want %d:\n%s", got, want, text)
	}
	if len(text) > 30*maxField {
		t.Errorf("%d bytes", len(text))
	}
}

func TestWriteTextReportsError(t *testing.T) {
	f, err := os.Open(os.DevNull) // read-only
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := healthy().WriteText(f); err == nil {
		t.Error("no error from a writer that fails")
	}
}

// The keys are read by scripts.
func TestJSON(t *testing.T) {
	r := healthy()
	r.Problem = &Problem{Code: "c", Message: "m", Remedy: "r"}
	r.Notes = []string{"n"}
	r.Identity.Domain, r.Identity.Space = "d", "s"
	r.ConfigFiles[0].Problem, r.ConfigFiles[0].Immutable, r.ConfigFiles[0].Tampers = "p", true, 2
	r.Assurance = &Assurance{Level: "enforced", Reasons: []AssuranceReason{{"f", "up"}}, Checked: at("02:30:00")}
	r.Fence = &Fence{Intact: true, Backend: "nftables", Repairs: 1}
	r.Faces = []string{"http://127.0.0.1:938"}
	got, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "state": "ok",
 "version": "1.2.3",
 "started": "2026-01-02T02:00:00Z",
 "identity": {
  "kind": "notebook",
  "name": "alice-nb",
  "surface": "notebook-instance",
  "domain": "d",
  "space": "s"
 },
 "role_arn": "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole",
 "session_name": "alice-nb",
 "source_identity": "alice-nb",
 "credential": {
  "key_id_suffix": "MPLE",
  "expires": "2026-01-02T03:04:05Z",
  "refreshed": "2026-01-02T02:04:05Z",
  "next_refresh": "2026-01-02T02:34:05Z",
  "seconds_left": 2999
 },
 "caller_arn": "arn:aws:sts::111122223333:assumed-role/AmazonSageMaker-ExecutionRole/alice-nb",
 "verified": true,
 "problem": {
  "code": "c",
  "message": "m",
  "remedy": "r"
 },
 "vends": 12,
 "failures": 1,
 "config_files": [
  {
   "path": "/home/ec2-user/.aws/config",
   "written": true,
   "problem": "p",
   "immutable": true,
   "tampers": 2
  }
 ],
 "assurance": {
  "level": "enforced",
  "reasons": [
   {
    "fact": "f",
    "raise": "up"
   }
  ],
  "checked": "2026-01-02T02:30:00Z"
 },
 "fence": {
  "intact": true,
  "backend": "nftables",
  "repairs": 1
 },
 "faces": [
  "http://127.0.0.1:938"
 ],
 "notes": [
  "n"
 ]
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestJSONEmpty(t *testing.T) {
	got, err := json.Marshal(Report{State: Starting})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"config_files":[]`, `"notes":[]`, `"credential":null`, `"problem":null`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
}
