package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

//go:embed kernel.py
var kernelProgram []byte

const (
	bucket      = "nbidentityd-packages"
	attribLimit = 30 * time.Second // from the start of a lifecycle script to calls with the name
)

// run is one run of the steps and what it has come to.
type run struct {
	dir     string
	archive string
	lab     *lab.Lab
	account *lab.Account
	seen    int       // records of the trail that have been judged
	kernel  kernelLog // of the machine that runs

	total    lab.Verdict
	steps    int
	failures int
}

// play runs on the stage, with everything laid out in its directory.
func play(ctx context.Context, o options) (err error) {
	started := time.Now()
	r := &run{dir: o.stage, archive: o.archive, lab: &lab.Lab{Bin: filepath.Join(o.stage, "bin"), Dir: labDir(o.stage)}}
	defer func() {
		if closed := r.lab.Close(); err == nil {
			err = closed
		}
	}()
	if err := r.build(ctx); err != nil {
		return err
	}
	if o.only != "studio" {
		if err := r.playInstance(ctx); err != nil {
			return err
		}
	}
	if o.only != "instance" {
		if err := r.playStudio(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("the steps took %.1f s\n", time.Since(started).Seconds())
	fmt.Printf("boot: %d steps, %d failed, %s\n", r.steps, r.failures, r.total)
	if r.failures > 0 {
		return stage.ErrShown
	}
	return nil
}

// build makes the network and starts AWS, with the packages in a bucket.
func (r *run) build(ctx context.Context) (err error) {
	err = stage.Build(ctx, filepath.Join(r.lab.Dir, "tmp"),
		stage.Notebook{Name: instanceNet, Platform: stage.IMDSAddress}, stage.Notebook{Name: studioNet, Platform: stage.ContainerAddress})
	if err != nil {
		return err
	}
	text, err := exec.CommandContext(ctx, r.lab.Program("fakeaws"), "-print-scenario").Output()
	if err != nil {
		return err
	}
	var scenario map[string]any
	if err := json.Unmarshal(text, &scenario); err != nil {
		return err
	}
	scenario["buckets"] = []map[string]string{{"name": bucket, "directory": bucketDir(r.dir)}}
	if text, err = json.Marshal(scenario); err != nil {
		return err
	}
	file := filepath.Join(r.lab.Dir, "scenario.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	r.account, err = r.lab.StartAccount(ctx, "-scenario", file, "-allow-any", "-api", "", "-tls", stage.APIAddress+":443",
		"-ca-file", filepath.Join(r.dir, "ca.pem"), "-imds", instanceName+"="+stage.IMDSAddress+":80", "-container", stage.ContainerAddress+":80")
	return err
}

// step is one thing that must hold.
type step struct {
	name string
	want string // the name that all calls made meanwhile carry; empty: none
	free bool   // nothing is promised about the calls made meanwhile
	// tolerate is how many calls of the notebook's own program may fail.
	tolerate int
	do       func() (figure string, err error)
}

// step does it, judges the calls, and prints a line. Its error ends the run; a
// step that fails does not.
func (r *run) step(ctx context.Context, s step) error {
	r.steps++
	started := time.Now()
	figure, wrong := s.do()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	calls, fetches, err := r.calls(ctx)
	if err != nil {
		return err
	}
	failed, err := r.kernel.failed()
	if err != nil {
		return err
	}
	if len(failed) > s.tolerate && !s.free {
		wrong = errors.Join(wrong, fmt.Errorf("%d calls of the notebook failed:\n%s", len(failed), strings.Join(failed[:min(5, len(failed))], "\n")))
	}
	v := lab.Judge(calls, s.want)
	line := []string{figure}
	if fetches > 0 {
		line = append(line, fmt.Sprintf("%d requests to S3 by the script", fetches))
	}
	switch {
	case s.free:
		line = append(line, fmt.Sprintf("%d calls", v.Calls))
	case s.want == "":
		line = append(line, fmt.Sprintf("%d calls, none with a name", v.Calls))
	default:
		whose := "all"
		if !v.Good() {
			whose = "NOT all"
		}
		line = append(line, fmt.Sprintf("%d calls, %d failed, %s as %s", v.Calls, len(failed), whose, s.want))
		r.total.Add(v)
	}
	if !s.free && !v.Good() {
		wrong = errors.Join(wrong, fmt.Errorf("the trail does not bear this out: %s: %s", v, describe(calls)))
	}
	word := "ok"
	if wrong != nil {
		word = "FAILED"
		r.failures++
	}
	fmt.Printf("  %-6s %-18s %s (%.1f s)\n", word, s.name, strings.Join(line, "; "), time.Since(started).Seconds())
	if wrong != nil {
		for line := range strings.Lines(strings.TrimSpace(wrong.Error())) {
			fmt.Print("    | ", strings.TrimRight(line, "\n"), "\n")
		}
	}
	return nil
}

// calls returns the clients' calls since the last time, and how many others a
// lifecycle script made to fetch its package, with the base session.
func (r *run) calls(ctx context.Context) (calls []lab.Record, fetches int, err error) {
	records, err := r.account.Records(ctx, r.seen)
	r.seen += len(records)
	for _, c := range records {
		switch {
		case !c.ByClient():
		case c.SessionName() == lab.PlatformName && (c.EventName == "GetObject" || c.EventName == "HeadObject"):
			fetches++
		default:
			calls = append(calls, c)
		}
	}
	return calls, fetches, err
}

// awaitName waits for the first call that carries want, and returns how long
// it took from started. Nothing is judged yet.
func (r *run) awaitName(ctx context.Context, want string, started time.Time, limit time.Duration) (time.Duration, error) {
	for seen := r.seen; time.Since(started) < limit; lab.Wait(ctx, 50*time.Millisecond) {
		records, err := r.account.Records(ctx, seen)
		if err != nil {
			return 0, err
		}
		seen += len(records)
		for _, c := range records {
			if c.ByClient() && c.UserIdentity.SessionContext.SourceIdentity == want {
				return time.Since(started), nil
			}
		}
	}
	return 0, fmt.Errorf("no call as %s within %s", want, limit)
}

// output runs a command and returns what it printed; its failure says so too.
func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(bytes.TrimSpace(out)), err
}
