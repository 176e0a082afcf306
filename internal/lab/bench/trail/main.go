// Command trail measures nbidentityd who on a generated trail, beside other readers of
// the same files in the same run: gunzip alone, a plain loop with encoding/json, jq and
// trailscraper. It prints a line for each: speed by the clock and by the processor, and
// memory. What cannot be had is skipped by name. Two more lines say how fast the reader
// of records is by itself, and what a trail of the same notebooks with four times the
// calls takes.
package main

import (
	"bytes"
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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/trail/record"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
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
	t, err := generate(filepath.Join(dir, "once"), records, days(records))
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
	fmt.Printf("bench: trail of %d records, %d MB of JSON, in %d files; load of the machine before: %s\n", t.records, t.bytes/1e6, t.files, load())
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
	if err := readAlone(t); err != nil {
		return err
	}
	if err := os.RemoveAll(t.dir); err != nil {
		return err
	}
	return grow(ctx, t, ways[1], filepath.Join(dir, "more"), 4*records, days(records))
}

// days is how long a trail of so many records is.
func days(records int) int { return max(1, min(7, records/250_000)) }

// load is how many programs wanted a processor during the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	last, _, _ := strings.Cut(string(text), " ")
	return last
}

// readAlone says how fast one processor reads records, from memory, without
// decompression: the part of the command for which there is a goal by itself.
func readAlone(t *trail) error {
	var spent time.Duration
	plain, records := new(source.Decompressor), record.NewReader(nil)
	var text bytes.Buffer
	err := t.each(func(path string) error {
		stored, err := os.Open(path)
		if err != nil {
			return err
		}
		defer stored.Close()
		from, err := plain.Plain(stored)
		if err != nil {
			return err
		}
		defer from.Close()
		text.Reset()
		if _, err := text.ReadFrom(from); err != nil {
			return err
		}
		before, err := used()
		if err != nil {
			return err
		}
		for records.Reset(&text); err == nil; {
			_, err = records.Next()
		}
		if !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", path, err)
		}
		after, err := used()
		spent += after - before
		return err
	})
	if err != nil {
		return err
	}
	fmt.Printf("bench: reader of records alone, from memory: %.0f MB/s of JSON on one processor (goal 300)\n", float64(t.bytes)/1e6/spent.Seconds())
	return nil
}

// used is the processor time that this process has used.
func used() (time.Duration, error) {
	var use syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &use)
	return time.Duration(use.Utime.Nano() + use.Stime.Nano()), err
}

// grow runs the command on a larger trail of the same days and notebooks.
func grow(ctx context.Context, t *trail, who *way, dir string, records, days int) error {
	large, err := generate(dir, records, days)
	if err != nil {
		return fmt.Errorf("making a larger trail: %w", err)
	}
	again := &way{name: who.name, args: append(slices.Clone(who.args[:len(who.args)-1]), large.dir)}
	for range who.rounds {
		if err := again.run(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("bench: %s on %d MB of JSON, %.1f times as much: %.1f times the time, %.1f times the processor time, at most %d MB of memory after %d (goal 256)\n",
		who.name, large.bytes/1e6, float64(large.bytes)/float64(t.bytes), float64(again.wall)/float64(who.wall), float64(again.processor)/float64(who.processor), again.memory/1e6, who.memory/1e6)
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
func generate(dir string, records, days int) (*trail, error) {
	cfg := trailgen.Config{Seed: 1, Records: records, Notebooks: 200, Days: days, Start: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)}
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

// each calls f with the path of each file.
func (t *trail) each(f func(path string) error) error {
	return filepath.WalkDir(t.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return f(path)
	})
}

func decodeAll(dir string) error {
	return (&trail{dir: dir}).each(func(path string) error {
		_, _, err := decode(path)
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
