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

	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/clients"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

const (
	clientUID   = 1000
	clientLimit = 90 * time.Second
	// hangLimit is long enough for every client to start and to try whatever it
	// tries when credential_process does not answer.
	hangLimit = 15 * time.Second
)

// hanging is a client that never answers.
const hanging = "hanging-client"

// trial is one notebook of fakeaws' default scenario.
type trial struct {
	notebook lab.Notebook
	want     string // the name that every call must carry
	platform string // the one address at which the platform gives credentials
	app      string // of the scenario, in Studio
	about    string // what is special about it
}

const space = `{
	"AppType": "JupyterLab", "DomainId": "d-exampledomain", "SpaceName": "alice-space",
	"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:app/d-exampledomain/alice-space/JupyterLab/default",
	"ResourceName": "default"}`

// trials lists the notebooks: the same instance with different faces failing, a
// Studio app, and the instance for leftovers, on which nothing but
// credential_process leads to the right name. bin is where the programs are
// that stand in for the client.
func trials(bin string) []trial {
	onInstance := func(about string, nb lab.Notebook) trial {
		nb.UID, nb.Metadata = clientUID, lab.Metadata
		return trial{notebook: nb, want: "alice-nb", platform: stage.IMDSAddress, about: about}
	}
	return []trial{
		onInstance("all faces open", lab.Notebook{Name: "open"}),
		onInstance("the socket alone", lab.Notebook{Name: "socket", NoIMDSFace: true, NoContainerFace: true}),
		onInstance("container credentials alone; the client fails", lab.Notebook{Name: "container", NoIMDSFace: true, Client: "/bin/false"}),
		onInstance("the IMDS face alone; the client fails", lab.Notebook{Name: "imds", NoContainerFace: true, Client: "/bin/false"}),
		onInstance("the client hangs", lab.Notebook{Name: "hangs", Client: filepath.Join(bin, hanging)}),
		{notebook: lab.Notebook{Name: "space", UID: clientUID, Metadata: space}, want: "alice", platform: stage.ContainerAddress, app: "alice-lab"},
		// Without faces, install tells nobody's kernel of them.
		onInstance("without the fence and the other faces", lab.Notebook{Name: "unfenced", Unfenced: true, NoIMDSFace: true, NoContainerFace: true}),
	}
}

func (t trial) String() string {
	if t.app != "" {
		return fmt.Sprintf("Studio, private space alice-space of %s, credentials at %s", t.want, t.platform)
	}
	return fmt.Sprintf("notebook instance %s, %s", t.want, t.about)
}

// session is one run of the trials and what it has come to.
type session struct {
	dir     string
	lab     *lab.Lab
	account *lab.Account
	clients []clients.Client

	ran      map[string]bool // names of clients that ran
	total    lab.Verdict
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

// site is a notebook that a daemon attends.
type site struct {
	trial
	nb    *lab.Notebook
	trail *watch
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
	all := trials(s.lab.Bin)
	if err := s.build(ctx, all); err != nil {
		return err
	}
	fmt.Println("without the daemon, a call from each of these reaches AWS without the name (not counted):")
	sites := make(map[string]*site)
	for i, t := range all {
		if sites[t.notebook.Name], err = s.attend(ctx, t, stage.Source(i)); err != nil {
			return fmt.Errorf("%s: %w", t.notebook.Name, err)
		}
	}
	if err := s.run(ctx, sites, cases); err != nil {
		return err
	}
	if err := s.searchSecrets(ctx, sites["open"].nb); err != nil {
		s.fail(nil, "searching for secrets: %v", err)
	}
	fmt.Printf("the trials took %.1f s; %d failures\n", time.Since(started).Seconds(), s.failures)
	fmt.Printf("interop: %d clients, %s\n", len(s.ran), s.total)
	if s.failures > 0 {
		return stage.ErrShown
	}
	return nil
}

// run lets the clients loose, on two notebooks at a time, and prints what came
// of it. On one notebook one client is over before the next begins.
func (s *session) run(ctx context.Context, sites map[string]*site, cases []leftover) error {
	studio := column{face: unixFace}
	var ofStudio []result
	results := make([][]result, len(columns))
	m := &matrix{session: s, site: sites["unfenced"], cases: cases}
	if err := m.settle(ctx); err != nil {
		return err
	}
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(2)
	faces := func(name string) {
		group.Go(func() (err error) {
			for i, c := range columns {
				if c.trial == name && err == nil {
					results[i], err = s.tryAll(running, sites[name], c)
				}
			}
			return err
		})
	}
	faces("open") // the longest first
	group.Go(func() error { return m.run(running) })
	for _, name := range []string{"imds", "socket", "container"} {
		faces(name)
	}
	group.Go(func() (err error) {
		ofStudio, err = s.tryAll(running, sites["space"], studio)
		return err
	})
	faces("hangs")
	if err := group.Wait(); err != nil {
		return err
	}
	s.printFaces(sites["open"].want, results)
	s.printStudio(sites["space"], studio, ofStudio)
	return m.finish(ctx)
}

// build makes the network, starts AWS and makes its names and certificates
// work.
func (s *session) build(ctx context.Context, trials []trial) (err error) {
	var notebooks []stage.Notebook
	for _, t := range trials {
		notebooks = append(notebooks, stage.Notebook{Name: t.notebook.Name, Platform: t.platform})
	}
	if err := os.WriteFile(s.lab.Program(hanging), []byte("#!/bin/sh\nexec sleep 30\n"), 0o755); err != nil {
		return err
	}
	// What clients leave in /tmp lies in the lab and is searched for secrets.
	if err := stage.Build(ctx, s.lab.Dir, notebooks...); err != nil {
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

// attend proves that an unattributed call would show and starts the daemon. The
// site's trail begins then.
func (s *session) attend(ctx context.Context, t trial, source string) (*site, error) {
	t.notebook.Enter = stage.Enter(t.notebook.Name)
	if t.app != "" {
		t.notebook.Env = []string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=" + s.account.ContainerPaths[t.app]}
	}
	nb, err := s.lab.NewNotebook(s.account, t.notebook)
	if err != nil {
		return nil, err
	}
	at := &site{trial: t, nb: nb, trail: &watch{account: s.account, source: source}}
	if err := s.prove(ctx, at, nb, t.String()); err != nil {
		return nil, err
	}
	_, err = nb.StartDaemon(ctx)
	return at, err
}

// printStudio lists what each client did in Studio, where there is the socket
// only: the platform's own container credentials come before ours.
func (s *session) printStudio(at *site, c column, results []result) {
	fmt.Printf("\n%s\n", at)
	for i, client := range s.clients {
		if client.Skip != "" {
			continue // said above
		}
		r := results[i]
		s.count(client, r.calls, at.want)
		fmt.Printf("  %-18s %-14s %s\n", client.Name, r.word(c, client, at.want), describe(r.calls, at.want))
		if r.word(c, client, at.want) != unixFace {
			s.fail(r.output, "%s in Studio: ended with %v; credentials by %q", client.Name, r.ended, r.vended)
		}
	}
}

// prove makes a call that the judge must object to.
func (s *session) prove(ctx context.Context, at *site, nb *lab.Notebook, where string) error {
	out, err := asUser(ctx, nb, []string{"AWS_REGION=" + s.account.Region}, s.lab.Program("whoami"))
	if err != nil {
		return fmt.Errorf("a call that must be possible: %w\n%s", err, out)
	}
	calls, err := at.trail.calls(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("  %s: %s\n", where, describe(calls, at.want))
	if v := lab.Judge(calls, at.want); v.Unattributed == 0 {
		return fmt.Errorf("a call was not unattributed (%s): this set-up would not show one", v)
	}
	return nil
}

// asUser runs a program on the notebook as its user, who has no capabilities.
func asUser(ctx context.Context, nb *lab.Notebook, env []string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	id := strconv.Itoa(nb.UID)
	user := []string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"}
	cmd := nb.Command(ctx, env, slices.Concat(user, args)...)
	cmd.WaitDelay = time.Second // for children that hold the output
	return cmd.CombinedOutput()
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
