package doctor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/doctor"
	"github.com/nbidentityd/nbidentityd/internal/doctor/host"
	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/installation"
	"github.com/nbidentityd/nbidentityd/internal/lab/executable"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
	"github.com/nbidentityd/nbidentityd/internal/sidecar"
)

const (
	account = "111122223333"
	region  = "us-east-1"
	domain  = "d-examplealice1"
	exec1   = "arn:aws:iam::111122223333:role/service-role/ExecRole"
	// testUID is nobody's, so that no process of this machine is taken for a
	// kernel of the set-up's user.
	testUID = 61501
	version = "1.2.3-test"
)

// set-ups that are in order.
const (
	classic     = "classic" // one role, assumes itself
	perNotebook = "per-notebook"
	launcher    = "launcher"
	profile     = "profile"    // Studio, of a user profile
	propagated  = "propagated" // likewise, and the domain sets the source identity
	private     = "private"    // private space
	shared      = "shared"     // shared space
)

// setup is a machine with a real daemon, and an account of its own.
type setup struct {
	t        *testing.T
	kind     string
	dir      string
	uid      int
	set      settings.Settings // as they were written first
	scenario scenario.Scenario
	jobRoles []string
	getenv   map[string]string
	admin    *doctor.Admin
	systemd  map[string]string // properties of the unit; nil: no systemd
	version  string            // of the daemon
	bare     bool              // a terminal without what Studio gives to the app
	names    []string          // that list-… prints
	onMend   func(command string)
	program  func() string // the built nbidentityd

	// turn is held by who acts on the set-up: the test, or a command while the
	// test waits for it.
	turn sync.Mutex

	mu      sync.Mutex
	account *fakeaws.Account
	stop    func()
	shims   string // directory
	killed  []*exec.Cmd
	sockets []*os.File // as from systemd
}

// newSetup makes a set-up that is in order; its daemon does not run yet.
func newSetup(t *testing.T, kind string) *setup {
	s := &setup{t: t, kind: kind, dir: t.TempDir(), uid: os.Getuid(), getenv: map[string]string{}, version: version, names: []string{"alice-nb", "bob-nb"}}
	s.turn.Lock()
	if s.uid == 0 {
		s.uid = testUID
		s.must(os.Chmod(s.dir, 0o755))
		s.must(os.Chmod(filepath.Dir(s.dir), 0o755))
	}
	s.scenario = s.newScenario()
	s.rebuild()
	serve := func(pick func(*fakeaws.Account) http.Handler) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			a := s.account
			s.mu.Unlock()
			pick(a).ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		t.Cleanup(func() { s.account.Faults.Clear("", "") }) // before the server waits for what hangs
		return server.URL
	}
	api := serve((*fakeaws.Account).API)
	s.getenv["AWS_ENDPOINT_URL_IAM"] = api
	home := s.path("home")
	s.must(os.MkdirAll(home, 0o755))
	if os.Getuid() == 0 {
		s.must(os.Lchown(home, s.uid, s.uid))
	}
	s.must(executable.Write(s.path("nbidentity"), []byte("#!/bin/sh\n")))
	s.must(os.WriteFile(s.path("resource-metadata.json"), []byte(s.metadata()), 0o644))
	s.must(os.Mkdir(s.path("state"), 0o700))
	s.must(os.Mkdir(s.path("run"), 0o755))
	set := settings.Default()
	set.MetadataFile, set.StateDir, set.Socket, set.Client = s.path("resource-metadata.json"), s.path("state"), s.path("run/nb.sock"), s.path("nbidentity")
	set.Faces = settings.Faces{}
	set.Endpoints.STS, set.Endpoints.SageMaker = api, api
	if strings.Contains(s.metadata(), "notebook-instance") {
		set.Endpoints.IMDS = serve(func(a *fakeaws.Account) http.Handler {
			h, err := a.IMDS("alice-nb")
			s.must(err)
			return h
		})
	} else {
		set.Endpoints.Container = serve((*fakeaws.Account).Container)
	}
	if kind == launcher {
		set.Role.ARN = "arn:aws:iam::111122223333:role/NotebookWork"
	}
	s.set = set
	s.writeSettings(set)
	s.writeShims()
	t.Cleanup(s.unlock)
	return s
}

func (s *setup) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *setup) path(name string) string { return filepath.Join(s.dir, name) }

func (s *setup) metadata() string {
	app := func(owner, extra string) string {
		return fmt.Sprintf(`{"AppType":"JupyterLab","DomainId":%q,%s"ResourceArn":"arn:aws:sagemaker:%s:%s:app/%s/%s/JupyterLab/default","ResourceName":"default"}`,
			domain, extra, region, account, domain, owner)
	}
	switch s.kind {
	case profile, propagated:
		return app("alice", `"UserProfileName":"alice",`)
	case private:
		return app("alice-space", `"SpaceName":"alice-space",`)
	case shared:
		return app("team-space", `"SpaceName":"team-space",`)
	}
	return fmt.Sprintf(`{"ResourceArn":"arn:aws:sagemaker:%s:%s:notebook-instance/alice-nb","ResourceName":"alice-nb"}`, region, account)
}

// readIAM lets a role look at the account's roles, which the documents of
// nbidentityd do not.
const readIAM = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:Get*","iam:List*"],"Resource":"*"}]}`

const workPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","sagemaker:*"],"Resource":"*"}]}`

// newScenario has the roles that nbidentityd's own documents make.
func (s *setup) newScenario() scenario.Scenario {
	options := iampolicy.Options{Mode: iampolicy.Self, Roles: []string{exec1}, Names: []string{"alice-nb", "bob-nb"}, JobRoles: []string{"JobRole"}, Account: account, Region: region}
	switch s.kind {
	case perNotebook:
		options.Mode, options.Roles = iampolicy.PerNotebook, nil
	case launcher:
		options.Mode, options.Roles = iampolicy.Launcher, nil
	case profile, private, shared:
		options.Names, options.Kind = []string{"alice", "bob", "team-space"}, "profile"
		s.names = options.Names
	case propagated:
		options.Mode, options.Names, options.DomainID = iampolicy.StudioPropagation, nil, domain
	}
	made, err := iampolicy.Generate(options)
	s.must(err)
	sc := scenario.Scenario{AccountID: account, Region: region}
	text := func(o ordered.Object) []byte {
		pretty, err := ordered.JSON(o)
		s.must(err)
		var b bytes.Buffer // compact, for editTrust
		s.must(json.Compact(&b, pretty))
		return b.Bytes()
	}
	for _, r := range made.Roles {
		role := scenario.Role{Name: r.Name, Path: r.Path, Trust: text(r.Trust), Tags: map[string]string{}}
		for _, tag := range r.Tags {
			role.Tags[tag.Key] = tag.Value
		}
		for _, p := range r.Inline {
			role.Policies = append(role.Policies, scenario.Policy{Name: p.Name, Document: text(p.Document)})
		}
		for _, m := range made.Managed {
			if slices.Contains(m.Roles, r.Name) {
				role.Policies = append(role.Policies, scenario.Policy{Name: m.Name, ARN: m.ARN, Document: text(m.Document)})
			}
		}
		if r.Works {
			role.Policies = append(role.Policies, scenario.Policy{Name: "Work", ARN: "arn:aws:iam::111122223333:policy/Work", Document: []byte(workPolicy)})
		}
		role.Policies = append(role.Policies, scenario.Policy{Name: "ReadIAM", Document: []byte(readIAM)})
		sc.Roles = append(sc.Roles, role)
	}
	sc.Roles = append(sc.Roles, scenario.Role{Name: "Admin", Trust: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}]}`),
		Policies: []scenario.Policy{{Name: "All", Document: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)}}})
	base := sc.Roles[0].Name
	for _, r := range made.Roles {
		if strings.HasSuffix(r.Name, "alice-nb") {
			base = r.Name
		}
	}
	switch s.kind {
	case classic, perNotebook, launcher:
		sc.Notebooks = []scenario.Notebook{{Name: "alice-nb", Role: base, RootAccess: "Disabled"}, {Name: "bob-nb", Role: base, RootAccess: "Disabled"}}
	default:
		sc.Domain = &scenario.Domain{ID: domain, UserRole: base}
		if s.kind == propagated {
			sc.Domain.ExecutionRoleIdentityConfig = scenario.PropagateProfileName
		}
		sc.Profiles = []scenario.Profile{{Name: "alice"}, {Name: "bob"}}
		sc.Spaces = []scenario.Space{{Name: "alice-space", Owner: "alice", Sharing: scenario.Private}, {Name: "team-space", Owner: "bob", Sharing: scenario.Shared}}
		app := scenario.App{Name: "app", Type: "JupyterLab", Profile: "alice"}
		if s.kind == private {
			app = scenario.App{Name: "app", Type: "JupyterLab", Space: "alice-space"}
		}
		if s.kind == shared {
			app = scenario.App{Name: "app", Type: "JupyterLab", Space: "team-space"}
		}
		sc.Apps = []scenario.App{app}
	}
	return sc
}

// rebuild makes the account anew from the scenario, as after a restart.
func (s *setup) rebuild() {
	s.t.Helper()
	a, err := fakeaws.New(fakeaws.Config{Scenario: s.scenario})
	s.must(err)
	s.mu.Lock()
	s.account = a
	s.mu.Unlock()
}

// role is one of the scenario's, to be edited before the daemon starts.
func (s *setup) role(name string) *scenario.Role {
	s.t.Helper()
	i := slices.IndexFunc(s.scenario.Roles, func(r scenario.Role) bool { return r.Name == name })
	if i < 0 {
		s.t.Fatalf("no role %s", name)
	}
	return &s.scenario.Roles[i]
}

// editTrust replaces text in a role's trust policy; it must be there.
func (s *setup) editTrust(role, old, new string) {
	s.t.Helper()
	r := s.role(role)
	if !bytes.Contains(r.Trust, []byte(old)) {
		s.t.Fatalf("the trust policy of %s does not hold %s: %s", role, old, r.Trust)
	}
	r.Trust = bytes.ReplaceAll(r.Trust, []byte(old), []byte(new))
	s.rebuild()
}

func (s *setup) dropPolicy(role, name string) {
	r := s.role(role)
	r.Policies = slices.DeleteFunc(r.Policies, func(p scenario.Policy) bool { return p.Name == name })
	s.rebuild()
}

func (s *setup) addPolicy(role, name, document string) {
	r := s.role(role)
	r.Policies = append(r.Policies, scenario.Policy{Name: name, Document: []byte(document)})
	s.rebuild()
}

func (s *setup) writeSettings(set settings.Settings) {
	var b strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&b, "%s = %s\n", key, quoted(value)) }
	line("metadata_file", set.MetadataFile)
	line("metadata_wait", "3s")
	line("state_dir", set.StateDir)
	line("socket", set.Socket)
	line("client", set.Client)
	b.WriteString("[identity]\n")
	line("session_name", set.Identity.SessionName)
	line("source_identity", set.Identity.SourceIdentity)
	b.WriteString("[role]\n")
	line("arn", set.Role.ARN)
	b.WriteString("[endpoints]\n")
	line("sts", set.Endpoints.STS)
	line("sagemaker", set.Endpoints.SageMaker)
	line("imds", set.Endpoints.IMDS)
	line("container", set.Endpoints.Container)
	line("container_path", set.Endpoints.ContainerPath)
	b.WriteString("[faces]\n")
	line("imds_port", set.Faces.IMDSPort)
	line("container_port", set.Faces.ContainerPort)
	fmt.Fprintf(&b, "[[user]]\nname = \"%d\"\nhome = %q\n", s.uid, s.path("home"))
	s.must(os.WriteFile(s.path("nb.toml"), []byte(b.String()), 0o644))
}

func quoted(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// load are the settings as doctor and daemon read them.
func (s *setup) load() (settings.Settings, error) {
	set, err := settings.Load(s.path("nb.toml"))
	if err != nil {
		return settings.Default(), err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.getenv, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
	if set.Endpoints.ContainerPath == "" && !s.bare {
		s.getenv["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = s.account.ContainerPath("app")
	}
	return set, nil
}

// start runs a daemon and waits until it has credentials or says why not.
func (s *setup) start() {
	s.t.Helper()
	set, err := s.load()
	if err != nil {
		return // as the real one
	}
	d, err := sidecar.New(sidecar.Config{Settings: set, Getenv: s.env, Notify: func(string) {}, Version: s.version, Log: zap.NewNop(), Inherited: s.sockets})
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil && ctx.Err() == nil {
			s.t.Logf("the daemon ended: %v", err)
		}
	}()
	s.stop = func() { cancel(); <-done; s.stop = nil }
	s.t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
	})
	ask := host.Config{Socket: set.Socket}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-done:
			return // it gave up; the set-up is so
		default:
		}
		r, err := ask.Ask(ctx)
		if err == nil && (r.Credential != nil && r.Verified && r.Assurance != nil || r.Problem != nil) {
			return
		}
	}
}

// unlock takes the daemon's lock off the home, which could not be removed else.
func (s *setup) unlock() {
	set, err := s.load()
	if err != nil {
		set = s.set
	}
	users, err := notebookuser.Find(set.Users)
	if err != nil {
		users = []notebookuser.User{{Name: fmt.Sprint(s.uid), UID: s.uid, GID: s.uid, Home: s.path("home")}}
	}
	for _, u := range users {
		if err := configguard.Release(blueprint.GuardConfig(u, set, identity.Notebook{}, zap.NewNop())); err != nil {
			s.t.Logf("taking the lock off: %v", err)
		}
	}
}

func (s *setup) restart() {
	if s.stop != nil {
		s.stop()
	}
	s.start()
}

func (s *setup) env(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.getenv[name]
}

// examine runs doctor on the set-up.
func (s *setup) examine() report.Report {
	s.t.Helper()
	cfg := doctor.Config{SettingsPath: s.path("nb.toml"), Version: version, Getenv: s.env, JobRoles: s.jobRoles, Proc: "/proc", Root: s.path("root"), Admin: s.admin}
	cfg.Settings, cfg.SettingsProblem = s.load()
	if s.systemd != nil {
		cfg.Systemctl = filepath.Join(s.shims, "systemctl")
	}
	if s.admin != nil {
		cfg.Settings = settings.Default()
		cfg.Settings.Endpoints.STS, cfg.Settings.Endpoints.SageMaker = s.set.Endpoints.STS, s.set.Endpoints.SageMaker
		s.admin.AWS = aws.Config{Region: region, Credentials: s.adminCredentials()}
		s.must(s.admin.Check())
	}
	s.turn.Unlock()
	defer s.turn.Lock()
	return doctor.Run(context.Background(), cfg)
}

// adminCredentials are an administrator's.
func (s *setup) adminCredentials() aws.CredentialsProvider {
	req := httptest.NewRequest(http.MethodPost, "/sessions", strings.NewReader(`{"role":"Admin"}`))
	w := httptest.NewRecorder()
	s.account.Admin().ServeHTTP(w, req)
	var c struct{ AccessKeyId, SecretAccessKey, SessionToken string }
	s.must(json.Unmarshal(w.Body.Bytes(), &c))
	return credentials.NewStaticCredentialsProvider(c.AccessKeyId, c.SecretAccessKey, c.SessionToken)
}

// kernel starts a process that looks like a notebook's kernel.
func (s *setup) kernel(env ...string) {
	s.t.Helper()
	// It waits without a child, which until its exec would look like a second kernel.
	cmd := exec.Command("/bin/sh", "-c", "read line", "ipykernel_launcher", "-f", "kernel-1.json")
	_, err := cmd.StdinPipe()
	s.must(err)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + s.path("home")}, env...)
	s.asUser(cmd)
	s.must(cmd.Start())
	s.killed = append(s.killed, cmd)
	s.t.Cleanup(func() { endGroup(cmd) })
	proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
	shown := func(file, text string) bool {
		data, err := os.ReadFile(proc + file)
		return err == nil && strings.Contains(string(data), text)
	}
	// Start returns in the midst of the exec, before the kernel shows these.
	for end := time.Now().Add(time.Minute); !shown("cmdline", "ipykernel_launcher") || !shown("environ", cmd.Env[len(cmd.Env)-1]); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatal("the notebook's kernel does not start")
		}
	}
}

// install is what nbidentityd install does, below a root of its own.
func (s *setup) install() error {
	set, err := s.load()
	if err != nil {
		return err
	}
	users, err := notebookuser.Find(set.Users)
	if err != nil {
		return err
	}
	nb, err := identity.ReadFile(set.MetadataFile)
	if err != nil {
		return err
	}
	_, err = installation.Install(context.Background(), installation.Config{Settings: set, Users: users, Notebook: nb, Root: s.path("root")})
	return err
}
