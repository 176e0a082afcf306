package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

const (
	name = "alice-nb" // of the notebook instance
	app  = `{"AppType": "KernelGateway", "DomainId": "d-exampledomain", "UserProfileName": "alice", "ExecutionRoleArn": "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole", "ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:app/d-exampledomain/alice/KernelGateway/datascience--1-0-ml-t3-medium", "ResourceName": "datascience--1-0-ml-t3-medium"}`

	// hour is how long an hour of a session lasts here, and a whole session
	// with it: it is renewed at half of that.
	hour = 20 * time.Second

	wellLimit = 90 * time.Second // for a notebook to be well again
)

// trial is one way for the platform to fail.
type trial struct {
	name  string
	root  bool // needs root
	alone bool // disturbs others: its own turn
	// cutOff: AWS itself cannot be reached, so a program's own call says nothing
	// about the credentials.
	cutOff bool
	studio bool          // credentials come from the container endpoint
	base   time.Duration // life of the platform's own sessions; default six hours
	hour   time.Duration // that an hour of a session lasts; default the constant
	// late leaves the daemon to act; else it serves before act is called.
	late bool
	// prefix stands before the daemon's command.
	prefix []string
	// act does the harm and mends it, and returns when it is mended.
	act func(ctx context.Context, r *rig) error
}

// result is what came of a trial.
type result struct {
	name, skipped string
	tally
	recovery time.Duration
	said     string // what status called the problem while it lasted
	witness  []string
	err      error
}

// rig is the notebook and the AWS of one trial.
type rig struct {
	trial    trial
	lab      *lab.Lab
	account  *lab.Account
	notebook *lab.Notebook
	daemon   *lab.Process
	crowd    *crowd
	said     string
}

func (t trial) play(ctx context.Context, bin string) (res result) {
	res.name = t.name
	if t.root && os.Geteuid() != 0 {
		res.skipped = "needs root"
		return res
	}
	r, err := t.rig(ctx, bin)
	if err != nil {
		res.err = err
		return res
	}
	defer func() { res.err = errors.Join(res.err, r.lab.Discard()) }()
	home := r.crowd.gather(ctx)
	if !t.late {
		lab.Wait(ctx, time.Second)
	}
	err = t.act(ctx, r)
	mended := time.Now()
	if lacks := (lacking{}); errors.As(err, &lacks) {
		home()
		res.skipped = lacks.reason
		return res
	}
	if err == nil {
		err = r.awaitWell(ctx)
	}
	res.recovery = time.Since(mended)
	lab.Wait(ctx, time.Second) // of the life after it
	home()
	lab.Wait(ctx, 200*time.Millisecond) // calls under way
	res.said, res.tally, res.witness = r.said, r.crowd.tally, r.crowd.witness
	if err == nil {
		res.unattributed, err = r.unattributed(ctx, &res)
	}
	res.err = err
	return res
}

// lacking is why a trial cannot be run here.
type lacking struct{ reason string }

func (l lacking) Error() string { return l.reason }

func (t trial) rig(ctx context.Context, bin string) (r *rig, err error) {
	l, err := lab.Open("faults", bin)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Discard())
		}
	}()
	r = &rig{trial: t, lab: l}
	r.crowd = &crowd{rig: r, used: map[string]bool{}}
	scenario, err := r.scenario(ctx)
	if err != nil {
		return nil, err
	}
	// The port of a service that refuses is nobody's; on an address of the trial's
	// own no other trial takes it meanwhile.
	own := fmt.Sprintf("127.1.%d.%d:0", 1+rand.N(254), 1+rand.N(254))
	if r.account, err = l.StartAccount(ctx, "-scenario", scenario, "-imds", name+"="+own, "-container", own); err != nil {
		return nil, err
	}
	nb := lab.Notebook{Name: "nb", UID: os.Getuid(), Metadata: lab.Metadata, IMDS: r.account.IMDS[name]}
	if t.studio {
		nb.IMDS, nb.Metadata = "", app
		nb.Container, nb.ContainerPath = r.account.Container, r.account.ContainerPaths["alice-classic"]
	}
	if r.notebook, err = l.NewNotebook(r.account, nb); err != nil {
		return nil, err
	}
	if !t.late {
		err = r.start(ctx)
	}
	return r, err
}

// scenario is the default one with short lives.
func (r *rig) scenario(ctx context.Context) (path string, err error) {
	out, err := r.lab.Command(ctx, nil, r.lab.Program("fakeaws"), "-print-scenario").Output()
	if err != nil {
		return "", err
	}
	var s map[string]any
	if err := json.Unmarshal(out, &s); err != nil {
		return "", err
	}
	s["hour_lasts"] = cmp.Or(r.trial.hour, hour).String()
	if r.trial.base != 0 {
		s["base_session"] = map[string]string{"lifetime": r.trial.base.String(), "rotate_before": (r.trial.base / 2).String()}
	}
	data, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	path = filepath.Join(r.lab.Dir, "scenario.json")
	return path, os.WriteFile(path, data, 0o600)
}

// start runs the daemon and waits until it serves.
func (r *rig) start(ctx context.Context) error {
	if err := r.launch(ctx); err != nil {
		return err
	}
	return r.daemon.Await(ctx, "credentials", func() bool { return r.client(ctx, "credentials").Run() == nil })
}

// launch runs the daemon and does not wait.
func (r *rig) launch(ctx context.Context) error {
	settings, err := r.notebook.WriteSettings("nbidentityd")
	if err != nil {
		return err
	}
	args := append(append([]string{}, r.trial.prefix...), r.lab.Program("nbidentityd"), "run", "-settings", settings)
	r.daemon, err = r.lab.Start(ctx, "nbidentityd", r.notebook.Env, args...)
	return err
}

func (r *rig) client(ctx context.Context, args ...string) *exec.Cmd {
	return r.notebook.Command(ctx, nil, append([]string{r.lab.Program("nbidentity"), "--socket", r.notebook.Socket()}, args...)...)
}

// sdk is a program that knows nothing of us. Where it can get at the platform's
// own credentials it is told so, and must not use them.
func (r *rig) sdk(ctx context.Context) *exec.Cmd {
	env := []string{"AWS_REGION=" + r.account.Region, "AWS_ENDPOINT_URL=" + r.account.API}
	if r.trial.studio {
		env = append(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+r.notebook.Container+r.notebook.ContainerPath)
	} else {
		env = append(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+r.notebook.IMDS)
	}
	return r.notebook.Command(ctx, env, r.lab.Program("whoami"), name)
}

// configured reports whether ~/.aws/config leads to the daemon.
func (r *rig) configured() bool {
	data, err := os.ReadFile(filepath.Join(r.notebook.Home, ".aws", "config"))
	return err == nil && bytes.Contains(data, []byte("credential_process"))
}

// status asks the daemon how it is.
func (r *rig) status(ctx context.Context) (state, code string) {
	out, _ := r.client(ctx, "status", "--json").Output() // its exit code says that something is wrong, too
	var s struct {
		State   string
		Problem *struct{ Code string }
	}
	if json.Unmarshal(out, &s) != nil {
		return "unreachable", "unreachable"
	}
	if s.Problem != nil {
		code = s.Problem.Code
	}
	return s.State, code
}

// notice keeps what status says about the harm that is being done.
func (r *rig) notice(ctx context.Context) {
	if state, code := r.status(ctx); state != "ok" || code != "" {
		r.said = strings.TrimSuffix(state+" "+code, " ")
	}
}

// awaitWell waits until everybody is served again and status says ok.
func (r *rig) awaitWell(ctx context.Context) error {
	begun := time.Now()
	for {
		state, code := r.status(ctx)
		if state == "ok" && code == "" && r.crowd.well() {
			return nil
		}
		if time.Since(begun) > wellLimit || ctx.Err() != nil {
			return fmt.Errorf("not well again after %s: status says %s %s", wellLimit, state, code)
		}
		lab.Wait(ctx, 100*time.Millisecond)
	}
}

// unattributed counts the calls in the trail that bear no name, or another.
func (r *rig) unattributed(ctx context.Context, res *result) (n int, err error) {
	records, err := r.account.Records(ctx, 0)
	if err != nil {
		return 0, err
	}
	want, calls := name, 0
	if r.trial.studio {
		want = "alice"
	}
	for _, rec := range records {
		if !rec.ByClient() {
			continue
		}
		calls++
		if rec.SessionName() != want || rec.UserIdentity.SessionContext.SourceIdentity != want {
			n++
			res.witness = append(res.witness, fmt.Sprintf("%s by %s", rec.EventName, rec.UserIdentity.ARN))
		}
	}
	if calls == 0 {
		return n, errors.New("no call reached AWS: the trial shows nothing")
	}
	return n, nil
}

// overlay puts a file of the lab in the place of one of the system, in the
// namespace of this program, and returns its path.
func (r *rig) overlay(system, content string) (path string, err error) {
	path = filepath.Join(r.lab.Dir, filepath.Base(system))
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		return "", err
	}
	if err := unix.Mount(path, system, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("putting %s over %s: %w", path, system, err)
	}
	return path, nil
}
