package trailgen

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/trail"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/intake"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
)

// size is the environment variable that makes TestAccuracy larger.
const size = "NBIDENTITYD_TRAIL_RECORDS"

func config(t testing.TB) Config {
	cfg := Config{Seed: 7, Records: 8_000, Notebooks: 20, Days: 1, Start: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)}
	if s := os.Getenv(size); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", size, err)
		}
		cfg.Records, cfg.Notebooks, cfg.Days = n, 200, max(1, min(7, n/250_000))
	}
	return cfg
}

func TestAccuracy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	truth, err := Write(dir, config(t))
	if err != nil {
		t.Fatal(err)
	}
	inputs, skipped, err := source.Find([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	read, err := intake.Read(t.Context(), inputs, nil, intake.Config{Workers: runtime.GOMAXPROCS(0), TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer read.Spool.Close()
	index := trail.NewIndex(read.Evidence, trail.Config{})
	score, copies := newScore(), 0
	for b := range read.Spool.Blocks() {
		err := read.Spool.Reader().Read(b, func(c *calls.Call) {
			if index.IsCopy(c) {
				copies++
				return
			}
			want, ok := truth.Of(c.ID)
			if !ok {
				t.Errorf("event %s is none of the trail's", c.ID)
				return
			}
			score.Add(c, want, index.Who(c))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	elapsed := time.Since(began)
	if skipped.DigestOrInsight != truth.Digests {
		t.Errorf("%d digest and insight files skipped, want %d", skipped.DigestOrInsight, truth.Digests)
	}
	type counts struct{ Calls, Duplicates, Copies, Broken, Files int }
	got := counts{score.Calls, read.Stats.Duplicates, copies, read.Stats.Broken, read.Stats.Inputs}
	if diff := cmp.Diff(counts{truth.Calls, truth.Duplicates, truth.Copies, truth.Broken, truth.Files}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var b strings.Builder
	if err := score.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files, %d MB of JSON, %d late, answered in %v\n%s", truth.Files, truth.Bytes/1e6, truth.Late, elapsed, b.String())
	for _, mistake := range score.Mistakes {
		t.Error(mistake)
	}
	if score.Right != score.Answerable || score.Wrong != 0 || score.Escapes != 0 || score.Unanswerable != score.Calls-score.Answerable {
		t.Errorf("not all right: %s", b.String()[strings.LastIndex(strings.TrimSpace(b.String()), "\n")+1:])
	}
}

// TestAllShapesOccur guards the accuracy test against becoming easier.
func TestAllShapesOccur(t *testing.T) {
	t.Parallel()
	truth, err := Write(t.TempDir(), Config{Seed: 3, Records: 2_000, Notebooks: 20, Days: 1, Start: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	shapes, rungs, reasons := map[string]bool{}, map[trail.Rung]bool{}, map[trail.Reason]bool{}
	for _, e := range truth.expect {
		shapes[e.Shape], rungs[e.Rung], reasons[e.Reason] = true, true, true
	}
	for _, shape := range []string{
		"attributed", "session name only", "forwarded", "studio", "unmanaged", "bypass", "bypass, chained", "bypass, before a claim", "start-up", "AssumeRole missing", "chain of three",
		"chain with a step missing", "forged", "forged, disputed", "stolen name", "beside a forgery", "name taken further up", "impersonated by a user",
		"Lake Formation", "Lake Formation, grant missing", "Lake Formation, session shared", "job", "in another account", "two at once", "issued before the trail",
		"claim", "user", "service", "service session", "stranger",
	} {
		if !shapes[shape] {
			t.Errorf("no record of shape %q", shape)
		}
	}
	for _, rung := range trail.Rungs() {
		if !rungs[rung] {
			t.Errorf("no record with evidence %s", rung)
		}
	}
	for _, reason := range []trail.Reason{trail.NoIssue, trail.NoClaim, trail.Disputed, trail.Ambiguous, trail.UnknownName, trail.NoGrant, trail.OtherAccount} {
		if !reasons[reason] {
			t.Errorf("no record that is unanswerable because of %s", reason)
		}
	}
	if truth.Late == 0 || truth.Duplicates == 0 || truth.Copies == 0 || truth.Broken == 0 {
		t.Errorf("%+v", truth)
	}
}

func TestSameSeedSameTrail(t *testing.T) {
	t.Parallel()
	cfg := Config{Seed: 11, Records: 1000, Notebooks: 20, Days: 1, Start: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)}
	var trails [2]map[string]string
	for i := range trails {
		dir := t.TempDir()
		if _, err := Write(dir, cfg); err != nil {
			t.Fatal(err)
		}
		trails[i] = make(map[string]string)
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			trails[i][strings.TrimPrefix(path, dir)] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(trails[0], trails[1]); diff != "" {
		t.Error("two trails of one seed differ")
	}
}
