// Package doctor examines an installation of nbidentityd and says what is wrong,
// what it means and which command mends it.
//
// On the notebook it looks at everything between the metadata file and the
// kernels: it goes by the daemon's own settings, and asks AWS with the base
// credentials that the daemon uses. From an administrator's machine it looks at
// the AWS side alone. Nothing is changed, but that a look without a running
// daemon assumes the role once, which CloudTrail records; the credentials are
// dropped at once.
//
// # What is guaranteed
//
// A finding is something that was seen: what could not be looked at is a gap
// with its reason. One cause is one finding: when the policies explain a refusal
// of STS, the refusal is not reported beside them. The examination ends within
// Limit, whatever hangs. Run as root it follows no path that a notebook's user
// controls (packages safefile, shadow).
//
// # Packages below
//
//	report    findings, notes, gaps, and their text
//	rolebook  reads roles and their policies from IAM
//	trust     judges them, and writes the policies that mend them
//	shadow    kernels' environment and the users' AWS files
//	host      the daemon, its socket, its unit
//
// This package is longer than most because its checks share what has been seen
// already, so that one cause is one finding: a file for each subject.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/discovery"
	"github.com/nbidentityd/nbidentityd/internal/doctor/host"
	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/doctor/rolebook"
	"github.com/nbidentityd/nbidentityd/internal/doctor/shadow"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/installation"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// Limit bounds an examination.
const Limit = 14 * time.Second

// Config says what to examine.
type Config struct {
	// Settings are the daemon's. When they could not be read they are the
	// defaults, and SettingsProblem says why.
	Settings        settings.Settings
	SettingsPath    string
	SettingsProblem error

	Version  string
	Program  string // nbidentityd, as a shell here finds it; "" is by that name
	Getenv   func(string) string
	JobRoles []string // names or ARNs of roles that are passed to jobs

	// Proc is /proc, and Systemctl the program that asks systemd, "" where
	// systemd does not run.
	Proc, Systemctl string
	// Root stands before the paths of the system's own files; "" but in tests.
	Root string

	// Admin examines the AWS side from elsewhere; nil means this machine.
	Admin *Admin
}

// Admin is what an administrator asks about.
type Admin struct {
	AWS      aws.Config // credentials and region of the one who asks
	Notebook string     // name of a notebook instance
	Domain   string     // id of a Studio domain
	Profile  string     // of that domain
	Role     string     // ARN of the role to assume, when it is not the execution role
}

// examination is one run. Its facts are found once, by whoever asks first.
type examination struct {
	Config

	notebook func() (identity.Notebook, error)
	users    func() ([]notebookuser.User, error)
	status   func() (status.Report, error)
	cloud    func() (cloud, error)
	caller   func() (caller, error)
	facts    func() (facts, error)
	judged   func() (verdict, error)
	told     func() (installation.Told, error)
	books    func() (*rolebook.Book, error)
}

// settingsCheck is the one that the others wait for.
const settingsCheck = "settings"

// Run examines.
func Run(ctx context.Context, cfg Config) report.Report {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	cfg.Program = cmp.Or(cfg.Program, "nbidentityd")
	e := &examination{Config: cfg}
	e.remember(ctx)
	checks := []report.Check{
		{Name: "STS", Run: e.checkSTS},
		{Name: "name and role", Run: e.checkName},
		{Name: "notebook instance", Run: e.checkInstance},
		{Name: "domain", Run: e.checkDomain},
		{Name: "trust and permissions", Run: e.checkTrust},
		{Name: "job roles", Run: e.checkJobRoles},
	}
	if cfg.Admin == nil {
		checks = append(checks,
			report.Check{Name: settingsCheck, Run: e.checkSettings},
			report.Check{Name: "metadata file", Run: e.checkMetadata},
			report.Check{Name: "daemon and its supervision", Run: e.checkDaemon},
			report.Check{Name: "client and socket", Run: e.checkFiles},
			report.Check{Name: "AWS configuration of the users", Run: e.checkConfigs},
			report.Check{Name: "environment of running kernels", Run: e.checkKernels},
			report.Check{Name: "base credentials", Run: e.checkBase},
			report.Check{Name: "assuming the role", Run: e.checkAssume},
		)
	}
	if cfg.SettingsProblem != nil {
		for i := range checks {
			if checks[i].Name != settingsCheck {
				checks[i].Run = func(context.Context, *report.Sheet) error { return errors.New("the settings could not be read") }
			}
		}
	}
	r := report.Examine(ctx, checks)
	r.Version = cfg.Version
	r.Subject = e.subject(ctx)
	if cfg.Admin == nil {
		r.Notes = append(r.Notes, e.whose(r.Findings)...)
	}
	return r
}

// whose says who can do what the remedies say.
func (e *examination) whose(findings []report.Finding) []report.Note {
	var iam, machine bool
	for _, f := range findings {
		commands := strings.Join(f.Commands, "\n")
		here := !strings.Contains(commands, "aws iam") && !strings.Contains(commands, "-format cli")
		iam, machine = iam || !here, machine || here
	}
	var notes []report.Note
	if nb, err := e.notebook(); machine && os.Geteuid() != 0 && err == nil && nb.Surface == identity.SurfaceNotebookInstance {
		notes = append(notes, report.Note{ID: "needs_root", Text: "what these commands change on the machine takes root: where the notebook has no sudo, they are for its administrator"})
	}
	if iam {
		notes = append(notes, report.Note{ID: "needs_iam", Text: "the commands that change roles are for an administrator, on a machine with their credentials and nbidentityd"})
	}
	return notes
}

// remember makes each fact one that is found once.
func (e *examination) remember(ctx context.Context) {
	e.notebook = sync.OnceValues(func() (identity.Notebook, error) { return e.findNotebook() })
	e.users = sync.OnceValues(func() ([]notebookuser.User, error) { return notebookuser.Find(e.Settings.Users) })
	e.status = sync.OnceValues(func() (status.Report, error) { return e.host().Ask(ctx) })
	e.cloud = sync.OnceValues(func() (cloud, error) { return e.connect() })
	e.caller = sync.OnceValues(func() (caller, error) { return e.findCaller(ctx) })
	e.facts = sync.OnceValues(func() (facts, error) { return e.findFacts(ctx) })
	e.told = sync.OnceValues(func() (installation.Told, error) { return e.findTold() })
	e.judged = sync.OnceValues(func() (verdict, error) { return e.judge(ctx) })
	e.books = sync.OnceValues(func() (*rolebook.Book, error) {
		c, err := e.cloud()
		if err != nil {
			return nil, err
		}
		return rolebook.New(c.iam), nil
	})
}

// subject names what was examined, as far as it is known when time is up.
func (e *examination) subject(ctx context.Context) string {
	if a := e.Admin; a != nil {
		switch {
		case a.Notebook != "":
			return "notebook instance " + a.Notebook
		case a.Profile != "":
			return "user profile " + a.Profile + " of domain " + a.Domain
		case a.Domain != "":
			return "domain " + a.Domain
		}
		return "role " + a.Role
	}
	nb, err := e.notebook()
	if err != nil {
		return "this machine"
	}
	switch nb.Surface {
	case identity.SurfaceNotebookInstance:
		return "notebook instance " + nb.InstanceName
	case identity.SurfaceStudioProfile:
		return "user profile " + nb.UserProfile
	case identity.SurfaceStudioSpace:
		return "space " + nb.Space
	}
	return "this notebook"
}

// appsOwn lists the variables that Studio gives to an app, and that login shells
// of a machine with nbidentityd may have lost.
func appsOwn() []string {
	return []string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "TRUSTED_IDENTITY_PROPOGATION_ENABLED"}
}

// getenv is the environment of whoever runs doctor and, for what Studio gives to
// an app, that of the app's first process.
func (e *examination) getenv(name string) string {
	value := e.Getenv(name)
	if value == "" && e.Admin == nil && slices.Contains(appsOwn(), name) {
		value = shadow.Environ(e.Proc, 1, name)
	}
	return value
}

// findNotebook is what the metadata file says, or what the administrator asks
// about.
func (e *examination) findNotebook() (identity.Notebook, error) {
	if e.Admin != nil {
		c, err := e.caller()
		if err != nil {
			return identity.Notebook{}, err
		}
		return e.Admin.notebook(c)
	}
	return identity.ReadFile(e.Settings.MetadataFile)
}

// host is the daemon as the settings want it.
func (e *examination) host() host.Config {
	return host.Config{
		Socket: e.Settings.Socket, Client: e.Settings.Client,
		IMDSPort: e.Settings.Faces.IMDSPort, ContainerPort: e.Settings.Faces.ContainerPort,
		Fenced: blueprint.Fenced(e.Settings), Version: e.Version, SettingsPath: e.SettingsPath, Program: e.Program, Systemctl: e.Systemctl,
	}
}

// install is the command that writes the users' files.
func (e *examination) install() string {
	command := e.Program + " install"
	if e.SettingsPath != settings.DefaultPath {
		command += " -settings " + e.SettingsPath
	}
	return command
}

func (e *examination) checkSettings(_ context.Context, s *report.Sheet) error {
	if err := e.SettingsProblem; err != nil {
		f := report.Finding{ID: "settings", Subject: e.SettingsPath, Saw: err.Error(),
			Means:    "nbidentityd does not start, and what should be there cannot be known",
			Commands: []string{e.Program + " run -check -settings " + e.SettingsPath},
			Hint:     "correct in the file what was seen, until the command says that it is in order; then systemctl restart " + unit}
		if errors.Is(err, fs.ErrNotExist) {
			f.Commands = []string{"touch " + e.SettingsPath, "systemctl restart " + unit}
			f.Hint = "an empty file is in order: everything in it has a default"
		}
		s.Find(f)
		return nil
	}
	if hostOf(e.Settings.Endpoints.STS) == "sts.amazonaws.com" {
		s.Find(report.Finding{ID: "sts_global_endpoint", Subject: e.SettingsPath, Saw: "endpoints.sts is STS's global endpoint",
			Means:    "CloudTrail records the AssumeRole calls in us-east-1, away from the others, and a regional VPC endpoint is not used",
			Commands: []string{"sed -i '/^sts *=/d' " + e.SettingsPath, "systemctl reload-or-restart " + unit}})
	}
	if _, err := e.users(); err != nil {
		s.Find(report.Finding{ID: "users", Subject: e.SettingsPath, Saw: err.Error(),
			Means:    "nbidentityd does not know for whom it works, and does not start",
			Commands: []string{"printf '\\n[[user]]\\nname = \"%s\"\\n' ec2-user >> " + e.SettingsPath, "systemctl restart " + unit},
			Hint:     "put the name of the notebook's user in the place of ec2-user"})
	}
	return nil
}

const unit = host.Unit

func (e *examination) checkMetadata(_ context.Context, s *report.Sheet) error {
	nb, err := e.notebook()
	if err != nil {
		s.Find(report.Finding{ID: "metadata", Subject: e.Settings.MetadataFile, Saw: err.Error(),
			Means:    "nbidentityd cannot tell whose notebook this is and waits; meanwhile SDKs get errors, not credentials without a name",
			Commands: []string{"ls -l " + e.Settings.MetadataFile, "cat " + e.Settings.MetadataFile},
			Hint:     "SageMaker writes this file; on a notebook instance a restart of the instance writes it anew. Notebook jobs and training jobs have none, and need no nbidentityd"})
		return nil
	}
	if reason, aside := blueprint.StepsAside(blueprint.Aside(nb, e.getenv)); aside {
		s.Note("aside", "nbidentityd leaves this notebook alone: %s", reason)
	}
	return nil
}

// aside reports whether nbidentityd has nothing to do here.
func (e *examination) aside() bool {
	if e.Admin != nil {
		return false
	}
	nb, err := e.notebook()
	if err != nil {
		return false
	}
	_, aside := blueprint.StepsAside(blueprint.Aside(nb, e.getenv))
	return aside
}

func (e *examination) checkDaemon(ctx context.Context, s *report.Sheet) error {
	var own report.Sheet // what systemd knows explains a daemon that is down
	err := e.host().Supervision(ctx, &own)
	own.Copy(s)
	r, askErr := e.status()
	if e.aside() || errors.Is(askErr, host.ErrDown) && own.Found() {
		return err
	}
	e.host().Daemon(r, askErr, s)
	return err
}

func (e *examination) checkFiles(_ context.Context, s *report.Sheet) error {
	if e.aside() {
		return report.ErrNotApplicable
	}
	h := e.host()
	users, err := e.users()
	for _, u := range users {
		h.Users = append(h.Users, host.User{Name: u.Name, UID: uint32(u.UID), Groups: u.Groups})
	}
	return errors.Join(err, h.Files(s))
}

func (e *examination) checkConfigs(_ context.Context, s *report.Sheet) error {
	if e.aside() {
		return report.ErrNotApplicable
	}
	users, err := e.users()
	if err != nil {
		return err
	}
	nb, err := e.notebook()
	if err != nil {
		return fmt.Errorf("without the metadata file it is not known what they must say")
	}
	r, err := e.status()
	fenced := err == nil && r.Fence != nil && r.Fence.Intact
	var failed []error
	var own report.Sheet // what was never installed is one finding
	for _, u := range users {
		managed := blueprint.GuardConfig(u, e.Settings, nb, zap.NewNop()).Managed
		failed = append(failed, shadow.Files(shadowUser(u), managed, e.install(), fenced, &own))
	}
	own.Copy(s)
	if own.Has(shadow.NoConfig) {
		return errors.Join(failed...)
	}
	told, err := e.told()
	if len(told.Wrong) > 0 {
		s.Find(report.Finding{ID: "kernels_not_told", Subject: strings.Join(told.Wrong, " "),
			Saw:      "the files that tell kernels and terminals of the daemon are not there, or say something else than the settings",
			Means:    "SDKs that pass over ~/.aws/config, or fall through when its command fails (JavaScript, Java, C++), do not ask nbidentityd: where there is no fence they take the base credentials, which have no name",
			Commands: []string{e.install()},
			Hint:     "kernels that run already are not told: restart them afterwards"})
	}
	return errors.Join(append(failed, err)...)
}

// findTold looks at what kernels are told of the daemon's faces.
func (e *examination) findTold() (installation.Told, error) {
	users, err := e.users()
	if err != nil {
		return installation.Told{}, err
	}
	nb, err := e.notebook()
	if err != nil {
		return installation.Told{}, err
	}
	return installation.ReadTold(installation.Config{Settings: e.Settings, Users: users, Notebook: nb, Root: e.Root})
}

func shadowUser(u notebookuser.User) shadow.User {
	return shadow.User{Name: u.Name, UID: u.UID, GID: u.GID, Home: u.Home}
}

func (e *examination) checkKernels(ctx context.Context, s *report.Sheet) error {
	if e.aside() {
		return report.ErrNotApplicable
	}
	found, err := e.users()
	if err != nil {
		return err
	}
	var users []shadow.User
	for _, u := range found {
		users = append(users, shadowUser(u))
	}
	told, _ := e.told() // what could not be read, the check of the files says
	return shadow.Kernels(ctx, e.Proc, users, shadow.Told{Since: told.Since, IMDS: told.IMDS, Container: told.Container}, s)
}

// facts are who the calls are made for, and as which roles.
type facts struct {
	discovery.Facts
	base, target                identity.RoleARN // base is zero when it is not known
	sessionName, sourceIdentity string
}
