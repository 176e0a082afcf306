package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/clients"
)

// leftover is what may already stand in a home's ~/.aws. The cases and what
// their names mean are internal/awsconfig's.
type leftover struct {
	name string // of the case
	file string // in ~/.aws: config or credentials
	text []byte
}

// shadows: some client prefers what is in this file, so nbidentityd install
// must say that it is in the way. Its calls may come from anybody.
func (c leftover) shadows() bool { return strings.HasPrefix(c.name, "shadow-") }

func readLeftovers(dir string) ([]leftover, error) {
	var all []leftover
	for _, kind := range []struct{ dir, file string }{{"leftovers", "config"}, {"credentials", "credentials"}} {
		paths, err := filepath.Glob(filepath.Join(dir, kind.dir, "*."+kind.file))
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("no *.%s in %s: run this from the root of the repository", kind.file, filepath.Join(dir, kind.dir))
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			all = append(all, leftover{strings.TrimSuffix(filepath.Base(path), "."+kind.file), kind.file, text})
		}
	}
	return all, nil
}

// matrix is the trial of all leftovers: the homes in which they lie, and what
// each client made of each.
type matrix struct {
	*session
	*site
	cases   []leftover
	homes   []*lab.Notebook // the same notebook with another home, one a case
	clients []clients.Client
	results [][]outcome // of client, of case
}

// outcome is what one client made of one leftover.
type outcome struct {
	calls  []lab.Record
	output []byte
	err    error
}

// settle lets nbidentityd write its part into every leftover.
func (m *matrix) settle(ctx context.Context) error {
	empty := *m.nb
	empty.Home = filepath.Join(m.lab.Dir, "leftovers", "none")
	if err := m.prove(ctx, m.site, &empty, m.site.String()+", past the daemon with an empty home"); err != nil {
		return fmt.Errorf("with an empty home: %w", err)
	}
	for _, c := range m.session.clients {
		if c.Quick && c.Skip == "" {
			m.clients = append(m.clients, c)
		}
	}
	for _, c := range m.cases {
		if err := m.settleOne(ctx, c); err != nil {
			return fmt.Errorf("leftover %s: %w", c.name, err)
		}
	}
	return nil
}

// finish prints what the clients made of the leftovers and lets nbidentityd
// take its part out again.
func (m *matrix) finish(ctx context.Context) error {
	before := m.failures
	fmt.Printf("\n%s, with these leftovers in ~/.aws, after nbidentityd install:\n", m.site)
	calls, err := m.trail.calls(ctx)
	if err != nil {
		return err
	}
	m.print(len(calls))
	for i, c := range m.cases {
		if err := m.leave(ctx, i, c); err != nil {
			return fmt.Errorf("leftover %s: %w", c.name, err)
		}
	}
	fmt.Printf("leftovers: %d cases × %d clients, %d failed\n", len(m.cases), len(m.clients), m.failures-before)
	return nil
}

// settleOne makes a home with the leftover and runs nbidentityd install on it.
func (m *matrix) settleOne(ctx context.Context, c leftover) error {
	home := *m.nb
	home.Home = filepath.Join(m.lab.Dir, "leftovers", c.name)
	m.homes = append(m.homes, &home)
	aws := filepath.Join(home.Home, ".aws")
	if err := os.MkdirAll(aws, 0o755); err != nil {
		return err
	}
	path := filepath.Join(aws, c.file)
	if err := os.WriteFile(path, c.text, 0o600); err != nil {
		return err
	}
	for _, p := range []string{home.Home, aws, path} {
		if err := os.Chown(p, home.UID, home.UID); err != nil {
			return err
		}
	}
	out, err := m.program(ctx, &home, c, "install")
	switch {
	case err != nil:
		m.fail(out, "install on %s: %v", c.name, err)
	case bytes.Contains(out, []byte("in the way")) != c.shadows():
		m.fail(out, "install on %s: must report what is in the way of credential_process: %v", c.name, c.shadows())
	}
	return nil
}

// program runs an nbidentityd command on the case's home.
func (m *matrix) program(ctx context.Context, home *lab.Notebook, c leftover, command string) ([]byte, error) {
	settings, err := home.WriteSettings("leftover-" + c.name)
	if err != nil {
		return nil, err
	}
	return home.Command(ctx, nil, m.lab.Program("nbidentityd"), command, "-settings", settings).CombinedOutput()
}

// run lets each client walk all homes. The clients do so at the same time: the
// user agent tells their calls apart, and for one client one case is over
// before the next begins.
func (m *matrix) run(ctx context.Context) error {
	m.results = make([][]outcome, len(m.clients))
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range m.clients {
		group.Go(func() error {
			trail := &watch{account: m.account, source: m.trail.source}
			if _, err := trail.calls(ctx); err != nil {
				return err
			}
			for _, home := range m.homes {
				var o outcome
				o.output, o.err = asUser(ctx, home, c.Env, c.Args...)
				calls, err := trail.calls(ctx)
				if err != nil {
					return err
				}
				o.calls = slices.DeleteFunc(calls, func(r lab.Record) bool { return !strings.HasPrefix(r.Agent(), c.Agent) })
				m.results[i] = append(m.results[i], o)
			}
			return nil
		})
	}
	return group.Wait()
}

// print writes the matrix, what its words mean and every failure. total is how
// many calls the trail holds, whoever made them: each must be some client's.
func (m *matrix) print(total int) {
	fmt.Printf("  %-30s", "")
	for _, c := range m.clients {
		fmt.Printf(" %-18s", c.Name)
	}
	fmt.Println()
	assigned, count := 0, map[string]int{}
	for i, c := range m.cases {
		fmt.Printf("  %-30s", c.name)
		for j := range m.clients {
			o := m.results[j][i]
			assigned += len(o.calls)
			count[m.mark(c, o)]++
			fmt.Printf(" %-18s", m.mark(c, o))
		}
		fmt.Println()
	}
	for _, l := range legend {
		fmt.Printf("  %3d × %-16s %s\n", count[l.mark], l.mark, l.meaning)
	}
	for i, c := range m.cases {
		for j, client := range m.clients {
			if o := m.results[j][i]; m.mark(c, o) == markFailed {
				m.fail(o.output, "%s with %s: %v; calls: [%s]", client.Name, c.name, o.err, describe(o.calls, m.want))
			}
		}
	}
	if assigned != total {
		m.fail(nil, "%d of the trail's %d calls belong to no client of the matrix", total-assigned, total)
	}
}

const (
	markGood     = "ok"
	markShadowed = "shadowed"
	markLeak     = "shadowed, calls"
	markRegion   = "own region bad"
	markFailed   = "FAILED"
)

// legend explains the marks. The shadowed cases say how things are while
// nothing keeps ~/.aws/credentials in order.
var legend = []struct{ mark, meaning string }{
	{markGood, "there were calls, and all had the right name"},
	{markShadowed, "~/.aws/credentials wins, as install said; the client fails, and made no call without the right name"},
	{markLeak, "~/.aws/credentials wins, as install said; calls came through without the right name"},
	{markRegion, "boto3 refuses the user's own region line, with and without nbidentityd; no call"},
	{markFailed, ""},
}

// badRegion is botocore's complaint about the user's own region line with a
// comment behind the value, which it takes for part of the value. nbidentityd
// leaves the line alone: boto3 has never made a call under such a file.
const badRegion = "InvalidRegionError: Provided region_name 'us-west-2 # home'"

func (m *matrix) mark(c leftover, o outcome) string {
	v := lab.Judge(o.calls, m.want)
	switch {
	case o.err == nil && v.Good():
		return markGood
	case c.shadows() && v.Unattributed+v.Misattributed > 0:
		return markLeak
	case c.shadows():
		return markShadowed
	case len(o.calls) == 0 && bytes.Contains(o.output, []byte(badRegion)):
		return markRegion
	}
	return markFailed
}

// leave runs nbidentityd uninstall: what was there must be there again, byte
// for byte, and nothing else.
func (m *matrix) leave(ctx context.Context, i int, c leftover) error {
	home := m.homes[i]
	home.Sock = "none.sock" // else it would end the daemon
	out, err := m.program(ctx, home, c, "uninstall")
	if err != nil {
		m.fail(out, "uninstall on %s: %v", c.name, err)
		return nil
	}
	for _, file := range []string{"config", "credentials"} {
		got, err := os.ReadFile(filepath.Join(home.Home, ".aws", file))
		switch {
		case errors.Is(err, fs.ErrNotExist) && file != c.file:
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case file != c.file:
			m.fail(got, "uninstall on %s has left a %s file", c.name, file)
		case err != nil || !bytes.Equal(got, c.text):
			m.fail(got, "uninstall on %s has not restored the %s file", c.name, file)
		}
	}
	return nil
}
