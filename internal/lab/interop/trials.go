package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/clients"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

const (
	clientUID   = 1000
	clientLimit = 90 * time.Second
)

// trial is one notebook of fakeaws' default scenario.
type trial struct {
	notebook lab.Notebook
	want     string // the name that every call must carry
	platform string // the one address at which the platform gives credentials
	app      string // of the scenario, in Studio
}

const instance = `{
	"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/alice-nb",
	"ResourceName": "alice-nb"}`

// trials lists the two on which every client calls, and the one for leftovers.
// On the first the fence leads to the right name whatever way a client takes;
// on the others only credential_process does.
func trials() (tables []trial, leftovers trial) {
	return []trial{
			{
				notebook: lab.Notebook{Name: "instance", UID: clientUID, Metadata: instance},
				want:     "alice-nb", platform: stage.IMDSAddress,
			},
			{
				notebook: lab.Notebook{Name: "space", UID: clientUID, Metadata: `{
				"AppType": "JupyterLab", "DomainId": "d-exampledomain", "SpaceName": "alice-space",
				"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:app/d-exampledomain/alice-space/JupyterLab/default",
				"ResourceName": "default"}`},
				want: "alice", platform: stage.ContainerAddress, app: "alice-lab",
			},
		}, trial{
			notebook: lab.Notebook{Name: "unfenced", UID: clientUID, Metadata: instance, Unfenced: true},
			want:     "alice-nb", platform: stage.IMDSAddress,
		}
}

func (t trial) String() string {
	if t.app != "" {
		return fmt.Sprintf("Studio, private space alice-space of %s, credentials at %s", t.want, t.platform)
	}
	fence := "with the fence"
	if t.notebook.Unfenced {
		fence = "without the fence"
	}
	return fmt.Sprintf("notebook instance %s, credentials at %s, %s", t.want, t.platform, fence)
}

// session is one run of the trials and what it has come to.
type session struct {
	dir     string
	lab     *lab.Lab
	account *lab.Account
	clients []clients.Client

	ran      map[string]bool // names of clients that ran
	total    verdict
	failures int
}

// fail notes what makes the run a failure and prints it at once, with the
// output of the program that it is about.
func (s *session) fail(output []byte, format string, args ...any) {
	s.failures++
	fmt.Printf("  FAILED: "+format+"\n", args...)
	for line := range strings.Lines(strings.TrimSpace(string(output))) {
		fmt.Print("    | ", strings.TrimRight(line, "\n"), "\n")
	}
}

// play runs on the stage, with everything laid out in dir.
func play(ctx context.Context, dir, casesDir string) (err error) {
	started := time.Now()
	cases, err := readLeftovers(casesDir) // before anything is mounted over it
	if err != nil {
		return err
	}
	s := &session{dir: dir, lab: &lab.Lab{Bin: filepath.Join(dir, "bin"), Dir: filepath.Join(dir, "lab")}, ran: map[string]bool{}}
	defer func() { err = errors.Join(err, s.lab.Close()) }()
	tables, leftovers := trials()
	if err := s.build(ctx, append(tables, leftovers)); err != nil {
		return err
	}
	for _, t := range tables {
		if err := s.table(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t.notebook.Name, err)
		}
	}
	nb, trail, err := s.attend(ctx, leftovers)
	if err != nil {
		return fmt.Errorf("%s: %w", leftovers.notebook.Name, err)
	}
	if err := s.playLeftovers(ctx, nb, leftovers.want, cases, trail); err != nil {
		return err
	}
	if err := s.searchSecrets(ctx, nb); err != nil {
		s.fail(nil, "searching for secrets: %v", err)
	}
	fmt.Printf("the trials took %.1f s; %d failures\n", time.Since(started).Seconds(), s.failures)
	fmt.Printf("interop: %d clients, %s\n", len(s.ran), s.total)
	if s.failures > 0 {
		return errShown
	}
	return nil
}

// build makes the network, starts AWS and makes its names and certificates
// work.
func (s *session) build(ctx context.Context, trials []trial) (err error) {
	var notebooks []stage.Notebook
	for _, t := range trials {
		notebooks = append(notebooks, stage.Notebook{Name: t.notebook.Name, Platform: t.platform})
	}
	// What clients leave in /tmp lies in the lab and is searched for secrets.
	if err := stage.Build(ctx, filepath.Join(s.lab.Dir, "tmp"), notebooks...); err != nil {
		return err
	}
	ca := filepath.Join(s.dir, "trust", "ca.pem")
	s.account, err = s.lab.StartAccount(ctx, "-allow-any", "-api", "", "-tls", stage.APIAddress+":443", "-ca-file", ca,
		"-imds", trials[0].want+"="+stage.IMDSAddress+":80", "-container", stage.ContainerAddress+":80",
		"-trail", filepath.Join(s.lab.Dir, "trail.jsonl"))
	if err != nil {
		return err
	}
	stores, err := clients.TrustStores()
	if err != nil {
		return err
	}
	if err := stage.Trust(ctx, filepath.Join(s.dir, "trust"), ca, stores); err != nil {
		return err
	}
	s.clients, err = clients.All(s.lab.Bin, ca)
	return err
}

// attend proves that an unattributed call would show and starts the daemon. It
// returns the trail from then on.
func (s *session) attend(ctx context.Context, t trial) (*lab.Notebook, *watch, error) {
	fmt.Printf("\n%s\n", t)
	t.notebook.Enter = stage.Enter(t.notebook.Name)
	if t.app != "" {
		t.notebook.Env = []string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=" + s.account.ContainerPaths[t.app]}
	}
	nb, err := s.lab.NewNotebook(s.account, t.notebook)
	if err != nil {
		return nil, nil, err
	}
	trail := &watch{account: s.account}
	if _, err := trail.calls(ctx); err != nil {
		return nil, nil, err
	}
	if err := s.prove(ctx, nb, "before the daemon", t.want, trail); err != nil {
		return nil, nil, err
	}
	_, err = nb.StartDaemon(ctx)
	return nb, trail, err
}

// table lets every client call.
func (s *session) table(ctx context.Context, t trial) error {
	nb, trail, err := s.attend(ctx, t)
	if err != nil {
		return err
	}
	for _, c := range s.clients {
		if c.Skip != "" {
			fmt.Printf("  %-18s skipped: %s\n", c.Name, c.Skip)
			if os.Getenv("CI") == "true" {
				s.fail(nil, "%s: skipped in CI", c.Name)
			}
			continue
		}
		if err := s.try(ctx, nb, c, t.want, trail); err != nil {
			return err
		}
	}
	return nil
}

// prove makes a call that the judge must object to.
func (s *session) prove(ctx context.Context, nb *lab.Notebook, when, want string, trail *watch) error {
	out, err := asUser(ctx, nb, []string{"AWS_REGION=" + s.account.Region}, s.lab.Program("whoami"))
	if err != nil {
		return fmt.Errorf("a call %s: %w\n%s", when, err, out)
	}
	calls, err := trail.calls(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("  %s: %s\n", when, describe(calls, want))
	if v := judge(calls, want); v.unattributed == 0 {
		return fmt.Errorf("a call %s was not unattributed (%s): this set-up would not show one", when, v)
	}
	return nil
}

// try runs one client and judges what it left in the trail.
func (s *session) try(ctx context.Context, nb *lab.Notebook, c clients.Client, want string, trail *watch) error {
	out, ended := asUser(ctx, nb, c.Env, c.Args...)
	if err := os.WriteFile(filepath.Join(s.lab.Dir, nb.Name, "client-"+fileName(c.Name)+".log"), out, 0o644); err != nil {
		return err
	}
	calls, err := trail.calls(ctx)
	if err != nil {
		return err
	}
	v := judge(calls, want)
	s.ran[c.Name] = true
	s.total.add(v)
	result := "all as " + want
	switch {
	case v.calls == 0:
		result = "no call"
	case !v.good():
		result = "NOT all as " + want
	}
	agent := "-"
	if len(calls) > 0 {
		agent = agentOf(calls[0])
	}
	fmt.Printf("  %-18s %-24s %-19s %s\n", c.Name, agent, result, describe(calls, want))
	switch {
	case ended != nil:
		s.fail(out, "%s on %s: %v", c.Name, nb.Name, ended)
	case !v.good():
		s.fail(out, "%s on %s: %s", c.Name, nb.Name, v)
	case !strings.HasPrefix(agent, c.Agent):
		s.fail(out, "%s on %s: its user agent is %s, not %s…", c.Name, nb.Name, agent, c.Agent)
	}
	return nil
}

// asUser runs a program on the notebook as its user, who has no capabilities.
func asUser(ctx context.Context, nb *lab.Notebook, env []string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	id := strconv.Itoa(nb.UID)
	user := []string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"}
	return nb.Command(ctx, env, slices.Concat(user, args)...).CombinedOutput()
}

// searchSecrets stops everything and searches all that was written for every
// secret that was issued. That the list of secrets is the right one shows in
// the credentials that the daemon hands out.
func (s *session) searchSecrets(ctx context.Context, nb *lab.Notebook) error {
	out, err := asUser(ctx, nb, nil, s.lab.Program("nbidentity"), "--socket", nb.Socket(), "credentials")
	if err != nil {
		return fmt.Errorf("nbidentity credentials: %w", err)
	}
	var held struct{ SecretAccessKey, SessionToken string }
	if err := json.Unmarshal(out, &held); err != nil {
		return err
	}
	secrets, err := s.account.Secrets(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(secrets, held.SecretAccessKey) || !slices.Contains(secrets, held.SessionToken) {
		return errors.New("the credentials in use are not among the secrets that fakeaws says it issued")
	}
	if err := s.lab.Close(); err != nil {
		return err
	}
	found, files, err := s.lab.FindSecrets(secrets)
	if err != nil {
		return err
	}
	fmt.Printf("\nsecrets: %d issued, %d files searched, %d found\n", len(secrets), files, len(found))
	for _, f := range found {
		s.fail(nil, "%s", f)
	}
	if files == 0 {
		s.fail(nil, "no file was searched for secrets")
	}
	return nil
}

// fileName makes a file's name of a client's.
func fileName(client string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, client)
}
