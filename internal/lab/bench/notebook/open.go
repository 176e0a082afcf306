package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

const (
	userUID = 1500
	place   = "bench" // the notebook's name on the stage
)

// bundles are where systems keep the certificates that they trust; the daemon
// reads the first, and what that costs belongs to its memory.
var bundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"}

// notebook is what a measurement is made on.
type notebook struct {
	measurement
	*lab.Notebook
	lab     *lab.Lab
	account *lab.Account
	daemon  *lab.Process
}

// onStage measures in dir, on a stage that this process becomes.
func (m measurement) onStage(ctx context.Context, dir string, watch time.Duration) (err error) {
	l := &lab.Lab{Bin: filepath.Join(dir, "bin"), Dir: filepath.Join(dir, "lab")}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := stage.Build(ctx, l.Dir, stage.Notebook{Name: place, Platform: stage.IMDSAddress}); err != nil {
		return err
	}
	ca := filepath.Join(dir, "trust", "ca.pem")
	account, err := m.account(ctx, l, "-allow-any", "-api", "", "-tls", stage.APIAddress+":443", "-ca-file", ca, "-imds", "alice-nb="+stage.IMDSAddress+":80")
	if err != nil {
		return err
	}
	var stores []string
	for _, path := range bundles {
		if _, err := os.Stat(path); err == nil {
			stores = append(stores, path)
		}
	}
	if err := stage.Trust(ctx, filepath.Join(dir, "trust"), ca, stores); err != nil {
		return err
	}
	return m.measure(ctx, l, account, watch, lab.Notebook{UID: userUID, Unlocked: m.unlocked, Enter: stage.Enter(place)})
}

// offStage measures without root.
func (m measurement) offStage(ctx context.Context, bin string, watch time.Duration) (err error) {
	l, err := lab.Open("bench", bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Discard()) }()
	account, err := m.account(ctx, l, "-imds", "alice-nb=127.0.0.1:0")
	if err != nil {
		return err
	}
	return m.measure(ctx, l, account, watch, lab.Notebook{UID: os.Getuid(), IMDS: account.IMDS["alice-nb"]})
}

// account starts an AWS in which an hour lasts as long as m wants.
func (m measurement) account(ctx context.Context, l *lab.Lab, flags ...string) (*lab.Account, error) {
	text, err := l.Command(ctx, nil, l.Program("fakeaws"), "-print-scenario").Output()
	if err != nil {
		return nil, err
	}
	var scenario map[string]any
	if err := json.Unmarshal(text, &scenario); err != nil {
		return nil, err
	}
	scenario["hour_lasts"] = m.hour.String()
	if text, err = json.Marshal(scenario); err != nil {
		return nil, err
	}
	path := filepath.Join(l.Dir, "scenario.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	return l.StartAccount(ctx, append(flags, "-scenario", path)...)
}

// measure starts the daemon, waits until it has seen to everything, and measures.
func (m measurement) measure(ctx context.Context, l *lab.Lab, account *lab.Account, watch time.Duration, like lab.Notebook) error {
	like.Name, like.Metadata = place, lab.Metadata
	nb, err := l.NewNotebook(account, like)
	if err != nil {
		return err
	}
	n := &notebook{measurement: m, Notebook: nb, lab: l, account: account}
	if n.daemon, err = nb.StartDaemon(ctx); err != nil {
		return err
	}
	var last report
	err = n.daemon.Await(ctx, "assurance", func() bool {
		last, err = n.status(ctx)
		return err == nil && last.Verified && last.Assurance != nil && len(last.ConfigFiles) > 0
	})
	if err != nil {
		return fmt.Errorf("%w (last status: %+v)", err, last)
	}
	if f := last.ConfigFiles[0]; like.UID != os.Getuid() && !m.unlocked && !f.Immutable {
		return stage.Lacking{Reason: fmt.Sprintf("needs %s to be locked: %s %s", f.Path, f.Unlocked, f.Problem)}
	}
	return m.of(ctx, n, watch)
}

// report is what is of use here in nbidentity status --json.
type report struct {
	Verified    bool
	Assurance   *struct{ Level string }
	ConfigFiles []struct {
		Path, Unlocked, Problem string
		Immutable               bool
	} `json:"config_files"`
}

func (n *notebook) status(ctx context.Context) (report, error) {
	var r report
	out, err := n.Command(ctx, nil, n.lab.Program("nbidentity"), "--socket", n.Socket(), "status", "--json").Output()
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}
