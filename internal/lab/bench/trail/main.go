// Command trail measures nbidentityd who on a generated trail, beside other readers of
// the same files in the same run: gunzip alone, a plain loop with encoding/json, jq and
// trailscraper. It prints a line for each: speed by the clock and by the processor, and
// memory. What cannot be had is skipped by name.
package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/trail/trailgen"
)

const scraperVersion = "0.10.0"

func main() {
	bin := flag.String("bin", "bin", "`directory` of the built programs")
	records := flag.Int("records", 100_000, "about how many records")
	rounds := flag.Int("rounds", 2, "how often the fast ones run; the best counts")
	decode := flag.String("decode", "", "only read the files below this `directory` with encoding/json")
	flag.Parse()
	var err error
	if *decode != "" {
		err = decodeAll(*decode)
	} else {
		err = run(context.Background(), *bin, *records, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, records, rounds int) (err error) {
	dir, err := os.MkdirTemp("", "nbidentityd-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t, err := generate(dir, records)
	if err != nil {
		return fmt.Errorf("making a trail: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ways := []*way{
		{name: "gunzip", rounds: rounds, args: []string{"sh", "-c", `find "$0" -name '*.gz' -print0 | xargs -0 gunzip -c >/dev/null`, t.dir}},
		{name: "nbidentityd who", rounds: rounds, args: []string{filepath.Join(bin, "nbidentityd"), "who", "--by", "name", t.dir}},
		{name: "encoding/json loop", rounds: rounds, args: []string{self, "-decode", t.dir}},
		{name: "jq", rounds: 1, args: []string{"sh", "-c", `find "$0" -name '*.gz' -print0 | xargs -0 gunzip -c | jq -c '.Records[] | [.eventTime, .eventName, .userIdentity.arn]' >/dev/null`, t.dir}},
	}
	if _, err := exec.LookPath("jq"); err != nil {
		ways[3].missing = "the program jq is not installed"
	}
	scraper := &way{name: "trailscraper", rounds: 1}
	if program, err := installScraper(ctx); err != nil {
		scraper.missing = err.Error()
	} else {
		scraper.args = []string{program, "select", "--log-dir", t.dir}
	}
	ways = append(ways, scraper)
	fmt.Printf("bench: trail of %d records, %d MB of JSON, in %d files\n", t.records, t.bytes/1e6, t.files)
	for round := range rounds {
		for _, w := range ways {
			if w.missing == "" && round < w.rounds {
				if err := w.run(ctx); err != nil {
					return err
				}
			}
		}
	}
	for _, w := range ways {
		w.print(t, ways[0].wall)
	}
	return nil
}

// trail is a directory of files that every reader can read.
type trail struct {
	dir            string
	records, files int
	bytes          int64 // of JSON
}

// generate writes a trail without the broken places that a generated one has: other
// readers stop there.
func generate(dir string, records int) (*trail, error) {
	cfg := trailgen.Config{Seed: 1, Records: records, Notebooks: 200, Days: max(1, min(7, records/250_000)), Start: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)}
	if _, err := trailgen.Write(dir, cfg); err != nil {
		return nil, err
	}
	t := &trail{dir: filepath.Join(dir, "AWSLogs")}
	err := filepath.WalkDir(t.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !strings.Contains(path, "/CloudTrail/") {
			return os.Remove(path)
		}
		size, count, err := decode(path)
		if err != nil {
			return os.Remove(path)
		}
		t.files++
		t.records += count
		t.bytes += size
		return nil
	})
	return t, err
}

func decodeAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		_, _, err = decode(path)
		return err
	})
}

// decode is the plain loop: what a program does that takes a few fields with
// encoding/json.
func decode(path string) (size int64, records int, err error) {
	stored, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer stored.Close()
	plain, err := gzip.NewReader(stored)
	if err != nil {
		return 0, 0, err
	}
	counted := &counter{r: plain}
	var file struct {
		Records []struct {
			EventTime, EventSource, EventName, EventID, SourceIPAddress, ErrorCode string
			RequestParameters, ResponseElements                                    json.RawMessage
			UserIdentity                                                           struct {
				Type, PrincipalID, ARN, AccessKeyID string
				SessionContext                      struct{ SourceIdentity string }
			}
		}
	}
	err = json.NewDecoder(counted).Decode(&file)
	return counted.n, len(file.Records), err
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// way is one reader of the trail.
type way struct {
	name    string
	args    []string
	rounds  int
	missing string // why it is not here

	wall, processor time.Duration // of the best round
	memory          int64         // bytes at most, of the largest process
}

func (w *way) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, w.args[0], w.args[1:]...)
	var said strings.Builder
	cmd.Stderr = &said
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %.500s", w.name, err, said.String())
	}
	wall := time.Since(begin)
	if w.wall == 0 || wall < w.wall {
		w.wall, w.processor = wall, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	}
	if use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		w.memory = max(w.memory, use.Maxrss<<10) // at least this program's own: a child begins as a copy
	}
	return nil
}

func (w *way) print(t *trail, gunzip time.Duration) {
	if w.missing != "" {
		fmt.Printf("bench: %s skipped: %s\n", w.name, w.missing)
		return
	}
	rate := func(d time.Duration) float64 { return float64(t.bytes) / 1e6 / d.Seconds() }
	fmt.Printf("bench: %s %.2f s, %.2fx gunzip (%.0f MB/s, %.0f k records/s; %.0f MB/s of a processor; at most %d MB of memory)\n",
		w.name, w.wall.Seconds(), float64(w.wall)/float64(gunzip), rate(w.wall), float64(t.records)/1e3/w.wall.Seconds(), rate(w.processor), w.memory/1e6)
}

// installScraper returns the program trailscraper, from PyPI.
func installScraper(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	venv := filepath.Join(cache, "nbidentityd-bench", "trailscraper-"+scraperVersion)
	program := filepath.Join(venv, "bin", "trailscraper")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	for _, args := range [][]string{{"python3", "-m", "venv", venv}, {filepath.Join(venv, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "trailscraper==" + scraperVersion}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s cannot be installed: %w: %.200s", "trailscraper", err, out)
		}
	}
	return program, nil
}
