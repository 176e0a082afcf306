package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/clients"
)

// The daemon's faces, as its metrics name them.
const (
	unixFace      = "unix"
	containerFace = "container"
	imdsFace      = "imds"
)

// What a client that makes no call does.
const (
	refuses = "refuses"
	cannot  = "cannot"
	waits   = "waits"
)

// column is one way to the credentials under one condition: every client is
// tried in it.
type column struct {
	way, condition string // for the table
	trial          string // on whose notebook
	// alone: the client has a configuration that names no credential_process.
	alone bool
	// container and imds: its environment leads to these faces.
	container, imds bool

	face  string // that must answer
	hangs bool   // nothing answers: the client waits for credential_process
}

// columns are what the table shows. Each face is tried alone; with the others
// configured as an installation does, and failing; and by the fence, which
// leads those to it that were told nothing.
var columns = []column{
	{"socket", "normal", "open", false, false, false, unixFace, false},
	{"socket", "others fail", "socket", false, true, true, unixFace, false},
	{"container", "normal", "open", true, true, false, containerFace, false},
	{"container", "others fail", "container", false, true, true, containerFace, false},
	{"IMDS, fence", "normal", "open", true, false, false, imdsFace, false},
	{"IMDS, fence", "others fail", "imds", false, false, false, imdsFace, false},
	{"IMDS, variable", "normal", "open", true, false, true, imdsFace, false},
	{"IMDS, variable", "others fail", "imds", false, true, true, imdsFace, false},
	{"all", "client hangs", "hangs", false, true, true, "", true},
}

// env is what the client's environment has besides the platform's own.
func (c column) env(nb *lab.Notebook) []string {
	var env []string
	if c.alone {
		env = append(env, "AWS_CONFIG_FILE="+ownConfig(nb))
	}
	if c.container {
		env = append(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:937/v1/container-credentials",
			"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE="+filepath.Join(filepath.Dir(nb.Socket()), fmt.Sprintf("container-token-%d", nb.UID)))
	}
	if c.imds {
		env = append(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:938")
	}
	return env
}

// ownConfig is a configuration that says no more than the region.
func ownConfig(nb *lab.Notebook) string { return filepath.Join(nb.Home, "own-config") }

// expect says which face must answer the client, or what it does instead.
func (c column) expect(client clients.Client) string {
	processFails := !c.alone && c.face != unixFace
	switch {
	case c.hangs:
		return waits
	case processFails && !client.FallsThrough:
		return refuses
	case c.face == containerFace && client.NoTokenFile:
		return cannot
	case c.face == imdsFace && c.container && client.NotBoth:
		return cannot
	case c.face == imdsFace && c.imds && client.WantsSlash:
		return cannot
	}
	return c.face
}

// words explains the table.
var words = []struct{ word, meaning string }{
	{unixFace + ", " + containerFace + ", " + imdsFace, "the face that gave the credentials: every call had the right name"},
	{refuses, "no call: for this client a credential_process that fails is the end"},
	{cannot, "no call: it knows no token file (old botocore), wants a slash at the end of the metadata service's URL, which others do not take (old AWS CLI v2),"},
	{"", "or asks no metadata service when container credentials are configured (C++, JavaScript)"},
	{waits, "no call: it waits for credential_process, however long that takes"},
}

// result is what one client did in one column.
type result struct {
	calls  []lab.Record
	vended string // which faces gave credentials
	output []byte
	ended  error
}

// word is what the table shows of it.
func (r result) word(c column, client clients.Client, want string) string {
	expected := c.expect(client)
	v := lab.Judge(r.calls, want)
	quiet := v.Calls == 0 && r.ended != nil && r.vended == ""
	named := v.Good() && r.ended == nil && r.vended == expected && strings.HasPrefix(r.calls[0].Agent(), client.Agent)
	if named || quiet && slices.Contains([]string{refuses, cannot, waits}, expected) {
		return expected
	}
	return "FAILED"
}

// tryAll runs every client in a column, one after the other; those that only
// wait, at the same time.
func (s *session) tryAll(ctx context.Context, at *site, c column) ([]result, error) {
	results := make([]result, len(s.clients))
	if err := os.WriteFile(ownConfig(at.nb), []byte("[default]\nregion = "+s.account.Region+"\n"), 0o644); err != nil {
		return nil, err
	}
	if c.hangs {
		return results, s.hang(ctx, at, c, results)
	}
	for i, client := range s.clients {
		if client.Skip != "" {
			continue
		}
		var err error
		if results[i], err = s.try(ctx, at, client, c.env(at.nb)); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// hang gives the clients some time. A call would be one that went past the
// program: it is shown with whoever it may be of.
func (s *session) hang(ctx context.Context, at *site, c column, results []result) error {
	ctx2, cancel := context.WithTimeout(ctx, hangLimit)
	defer cancel()
	var all sync.WaitGroup
	for i, client := range s.clients {
		if client.Skip == "" {
			all.Go(func() {
				results[i].output, results[i].ended = asUser(ctx2, at.nb, slices.Concat(c.env(at.nb), client.Env), client.Args...)
			})
		}
	}
	all.Wait()
	calls, err := at.trail.calls(ctx)
	if err != nil {
		return err
	}
	for _, call := range calls {
		i := max(0, slices.IndexFunc(s.clients, func(c clients.Client) bool { return strings.HasPrefix(call.Agent(), c.Agent) }))
		results[i].calls = append(results[i].calls, call)
	}
	return nil
}

// try runs one client and collects what it left in the trail and in the
// daemon's counts.
func (s *session) try(ctx context.Context, at *site, c clients.Client, env []string) (result, error) {
	before, err := vends(ctx, at.nb)
	if err != nil {
		return result{}, err
	}
	var r result
	r.output, r.ended = asUser(ctx, at.nb, slices.Concat(env, c.Env), c.Args...)
	log := filepath.Join(s.lab.Dir, at.nb.Name, "client-"+fileName(c.Name)+".log")
	if err := os.WriteFile(log, r.output, 0o644); err != nil {
		return r, err
	}
	if r.calls, err = at.trail.calls(ctx); err != nil {
		return r, err
	}
	after, err := vends(ctx, at.nb)
	var by []string
	for _, face := range []string{unixFace, containerFace, imdsFace} {
		if after[face] != before[face] {
			by = append(by, face)
		}
	}
	r.vended = strings.Join(by, "+")
	return r, err
}

// vends reads how often each face has given credentials.
func vends(ctx context.Context, nb *lab.Notebook) (map[string]float64, error) {
	all, err := nb.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	counts := make(map[string]float64)
	for _, face := range []string{unixFace, containerFace, imdsFace} {
		counts[face] = all[fmt.Sprintf("nbidentityd_vends_total{face=%q}", face)]
	}
	return counts, nil
}

// printFaces writes the table and every failure, and counts the calls.
func (s *session) printFaces(want string, results [][]result) {
	fmt.Printf("\nclient × face × condition → the face that answered\n  %-18s %-22s", "", "")
	for _, c := range columns {
		fmt.Printf(" %-14s", c.way)
	}
	fmt.Printf("\n  %-18s %-22s", "", "")
	for _, c := range columns {
		fmt.Printf(" %-14s", c.condition)
	}
	fmt.Println()
	for i, client := range s.clients {
		if s.skip(client) {
			continue
		}
		agent := "-"
		if calls := results[0][i].calls; len(calls) > 0 {
			agent = calls[0].Agent()
		}
		fmt.Printf("  %-18s %-22s", client.Name, agent)
		for j, c := range columns {
			fmt.Printf(" %-14s", results[j][i].word(c, client, want))
		}
		fmt.Println()
	}
	for _, w := range words {
		fmt.Printf("  %-22s %s\n", w.word, w.meaning)
	}
	for i, client := range s.clients {
		for j, c := range columns {
			r := results[j][i]
			if client.Skip != "" {
				continue
			}
			s.count(client, r.calls, want)
			if r.word(c, client, want) == "FAILED" {
				s.fail(r.output, "%s, %s, %s: want %s; ended with %v; credentials by %q; calls: [%s]",
					client.Name, c.way, c.condition, c.expect(client), r.ended, r.vended, describe(r.calls, want))
			}
		}
	}
}

// count takes a client's calls into the sum of the run.
func (s *session) count(c clients.Client, calls []lab.Record, want string) {
	s.ran[c.Name] = true
	s.total.Add(lab.Judge(calls, want))
}

// skip says that a client cannot run here, which CI does not accept.
func (s *session) skip(c clients.Client) bool {
	if c.Skip == "" {
		return false
	}
	fmt.Printf("  %-18s skipped: %s\n", c.Name, c.Skip)
	if os.Getenv("CI") == "true" {
		s.fail(nil, "%s: skipped in CI", c.Name)
	}
	return true
}
