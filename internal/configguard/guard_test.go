package configguard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/configguard/memory"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

// run starts g and stops it, and looks for leaks, when the test ends.
func run(t *testing.T, g *Guard) {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		goleak.VerifyNone(t, leaks)
	})
	eventually(t, "the guard is at work", func() bool { s := g.State(); return s.Written && (s.Watching || s.Immutable) })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute not yet: %s", what)
		}
	}
}

// binds reports whether the file is there, readable, and ours.
func binds(cfg Config) bool {
	info, err := os.Lstat(cfg.Home + "/.aws/config")
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o400 == 0 {
		return false
	}
	if dir, err := os.Lstat(cfg.Home + "/.aws"); err != nil || !dir.IsDir() || dir.Mode()&0o700 != 0o700 {
		return false
	}
	text, err := os.ReadFile(cfg.Home + "/.aws/config")
	return err == nil && awsconfig.Binds(text, cfg.Managed)
}

// Every single attack is repaired, counted and described once.
func TestRepairs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"write", "rename over", "unlink", "create", "move the file", "link the file", "move the directory", "link the directory",
		"exchange the directory", "remove the directory", "hard link", "chmod", "chmod the directory", "mmap", "truncate"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := newConfig(t, map[string]string{".aws/config": "[profile mine]\nregion = eu-west-1\n" + strings.Repeat("# room\n", 20), "outside/config": "untouched"})
			openHome(t, cfg)
			core, logs := observer.New(zap.InfoLevel)
			cfg.Log = zap.New(core)
			g := New(cfg)
			g.look()
			if !binds(cfg) {
				t.Fatalf("not written: %+v", g.State())
			}
			if out, err := attacker(t, cfg, name).CombinedOutput(); err != nil {
				t.Fatalf("the attack failed: %v: %s", err, out)
			}
			if binds(cfg) {
				t.Fatal("the attack did nothing")
			}
			g.look()
			s := g.State()
			if os.Getuid() != 0 && name == "chmod the directory" {
				if s.Problem == "" || s.Written {
					t.Errorf("state = %+v", s)
				}
				must(t, os.Chmod(cfg.Home+"/.aws", 0o700))
				return // only root can look into it
			}
			if !binds(cfg) || !s.Written || s.Problem != "" {
				t.Fatalf("not repaired: %+v", s)
			}
			if s.Tampers != 1 || s.Repairs != 1 || s.Last.Count != 1 || s.Last.What == "" || !strings.Contains(s.Last.By, "process not known") {
				t.Errorf("state = %+v", s)
			}
			if warned := logs.FilterLevelExact(zap.WarnLevel).Len(); warned != 1 {
				t.Errorf("%d warnings: %v", warned, logs.All())
			}
			if got := read(t, cfg.Home+"/outside/config"); got != "untouched" && name != "link the directory" {
				t.Errorf("outside is %q", got)
			}
			t.Logf("%s", s.Last.What)
			text := read(t, s.Path)
			g.look()
			if again := g.State(); again.Tampers != 1 || again.Repairs != 1 || read(t, s.Path) != text {
				t.Errorf("second look: %+v", again)
			}
			if slices.Contains([]string{"link the file", "link the directory"}, name) && !strings.Contains(text, "[profile mine]") {
				t.Errorf("the user's profile is lost: %q", text)
			}
		})
	}
}

// A text that cannot be edited is kept aside and the last good one restored.
func TestUnreadableTextIsPutAway(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"junk":      "junk\n",
		"two":       "[default]\nrole_arn = x\n[default]\n",
		"too large": strings.Repeat("#\n", awsconfig.MaxSize),
		"pipe":      "",
	} {
		cfg := newConfig(t, map[string]string{".aws/config": "[profile mine]\n"})
		g := New(cfg)
		g.look()
		good := read(t, g.State().Path)
		for range 3 {
			must(t, os.Remove(g.State().Path))
			if name == "pipe" {
				must(t, unix.Mkfifo(g.State().Path, 0o666))
			} else {
				must(t, os.WriteFile(g.State().Path, []byte(text), 0o600))
			}
			must(t, os.Lchown(g.State().Path, cfg.UID, cfg.GID))
			g.look()
			if s := g.State(); !s.Written || read(t, s.Path) != good {
				t.Fatalf("%s: not repaired: %+v", name, s)
			}
		}
		if s := g.State(); s.Tampers != 3 {
			t.Errorf("%s: state = %+v", name, s)
		}
		entries, err := os.ReadDir(cfg.Home + "/.aws")
		if err != nil || len(entries) != 2 {
			t.Errorf("%s: litter: %v, %v", name, entries, err)
		}
		if name != "pipe" && read(t, cfg.Home+"/.aws/config.put-away-by-nbidentityd") != text {
			t.Errorf("%s: the user's text is lost", name)
		}
	}
}

// At the start nothing is put away: what stands there may be wanted.
func TestLinkAtTheStartIsRefused(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, map[string]string{".aws": "-> real", "real/": ""})
	before := snapshot(t, cfg.Home)
	g := New(cfg)
	g.look()
	if s := g.State(); s.Written || !strings.Contains(s.Problem, "aside") || s.Reason == "" {
		t.Errorf("state = %+v", s)
	}
	if diff := cmp.Diff(before, snapshot(t, cfg.Home)); diff != "" {
		t.Errorf("the home was changed:\n%s", diff)
	}
	must(t, os.Remove(cfg.Home+"/.aws"))
	g.look()
	if s := g.State(); !s.Written || s.Problem != "" || s.Tampers != 0 {
		t.Errorf("state = %+v", s)
	}
}

// The directory may have been made on a disk that is gone.
func TestStateDirectoryIsMadeAgain(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, nil)
	must(t, os.RemoveAll(cfg.StateDir))
	g := New(cfg)
	g.look()
	if s := g.State(); !s.Written || s.Problem != "" {
		t.Errorf("state = %+v", s)
	}
}

// Edits that keep our keys are the user's right.
func TestPoliteness(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, map[string]string{".aws/config": "[default]\nrole_arn = x\noutput = json\n"})
	g := New(cfg)
	g.look()
	path := g.State().Path
	for name, change := range map[string]func(string) string{
		"a profile":  func(s string) string { return s + "[profile b]\ncredential_process = /x\n" },
		"the output": func(s string) string { return strings.Replace(s, "json", "text", 1) },
		"the region": func(s string) string { return strings.Replace(s, "us-east-1\n", "eu-west-3\n", 1) },
	} {
		edit(t, path, change)
		want := read(t, path)
		g.look()
		if s := g.State(); s.Tampers != 0 || !s.Written {
			t.Errorf("%s: state = %+v", name, s)
		}
		got := read(t, path)
		if name == "the region" {
			if !strings.Contains(got, "region = eu-west-3\n") || strings.Contains(got, "region = us-east-1") {
				t.Errorf("the region is lost: %q", got)
			}
		} else if got != want {
			t.Errorf("%s: %q became %q", name, want, got)
		}
	}
}

func TestPolitenessToTheCLI(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("aws"); err != nil {
		t.Skip("needs the AWS CLI: ", err)
	}
	cfg := newConfig(t, map[string]string{".aws/config": "[default]\noutput = json\n"})
	g := New(cfg)
	g.look()
	for _, args := range [][]string{{"region", "eu-west-1", "--profile", "b"}, {"region", "eu-west-3"}} {
		cmd := exec.Command("aws", append([]string{"configure", "set"}, args...)...)
		cmd.Env = append(os.Environ(), "AWS_CONFIG_FILE="+g.State().Path)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("needs a working AWS CLI: %v: %s", err, out)
		}
		g.look()
	}
	text := read(t, g.State().Path)
	if s := g.State(); s.Tampers != 0 || !s.Written || !strings.Contains(text, "[profile b]\nregion = eu-west-1") || !strings.Contains(text, "region = eu-west-3") {
		t.Errorf("state = %+v, file = %q", s, text)
	}
}

// A program like Unified Studio's start-up, which removes the file and writes
// its own, is told from a person.
func TestRival(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, nil)
	core, logs := observer.New(zap.WarnLevel)
	cfg.Log = zap.New(core)
	g := New(cfg)
	g.look()
	for i := range 6 {
		if rival := g.State().Rival; (i >= 3) != (rival != "") {
			t.Errorf("after %d rounds: rival = %q", i, rival)
		}
		must(t, os.Remove(g.State().Path))
		must(t, os.WriteFile(g.State().Path, []byte("[default]\nregion = us-east-1\ncredential_process = studio credentials\n"), 0o600))
		must(t, os.Lchown(g.State().Path, cfg.UID, cfg.GID))
		g.look()
	}
	if n := logs.FilterMessage("another program keeps writing the aws config").Len(); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// Shadows are reported once when they come and once when they go; what holds
// them is not touched, and no secret is shown.
func TestShadowsComeAndGo(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, map[string]string{".aws/": ""})
	core, logs := observer.New(zap.InfoLevel)
	cfg.Log = zap.New(core)
	g := New(cfg)
	path := cfg.Home + "/.aws/credentials"
	steps := []struct {
		text            string
		shadows, logged int // new log lines
	}{
		{"", 0, 0},
		{"[default]\naws_access_key_id = AKIASTATICEXAMPLE\naws_secret_access_key = hush\n", 2, 2},
		{"# moved down\n[default]\naws_access_key_id = AKIASTATICEXAMPLE\naws_secret_access_key = hush\n", 2, 0},
		{"[profile default]\naws_access_key_id = AKIASTATICEXAMPLE\n", 1, 1},
		{"[default]\nregion = x\n[other]\naws_access_key_id = AKIASTATICEXAMPLE\n", 0, 1},
	}
	for i, step := range steps {
		must(t, os.WriteFile(path, []byte(step.text), 0o600))
		must(t, os.Lchown(path, cfg.UID, cfg.GID))
		g.look()
		new := logs.FilterMessage("aws config is overridden").Len() + logs.FilterMessage("aws config is no longer overridden").Len()
		if s := g.State(); len(s.Shadows) != step.shadows || new != step.logged || s.Tampers != 0 || !s.Written || read(t, path) != step.text {
			t.Errorf("step %d: %d lines logged, state = %+v", i, new, s)
		}
		if i > 0 {
			_ = logs.TakeAll()
		}
	}
	must(t, os.Remove(path))
	must(t, os.Symlink("/somewhere", path))
	g.look()
	if s := g.State(); len(s.Shadows) != 1 {
		t.Errorf("a link: state = %+v", s)
	}
	if s := fmt.Sprint(logs.All(), g.State()); strings.Contains(s, "hush") || strings.Contains(s, "AKIA") {
		t.Error("a secret leaks")
	}
}

// A loop of links, also before the file is in order, fills neither the disk nor
// the log, nor the record that Undo needs.
func TestLitterIsBounded(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, nil)
	cfg.MoveAside = true
	core, logs := observer.New(zap.InfoLevel)
	cfg.Log = zap.New(core)
	for range 100 {
		must(t, os.RemoveAll(cfg.Home+"/.aws"))
		must(t, os.Symlink("/nowhere", cfg.Home+"/.aws"))
		New(cfg).look()
	}
	g := New(cfg)
	g.look()
	_ = logs.TakeAll()
	for i := range 100 {
		must(t, os.WriteFile(cfg.Home+"/.aws/credentials", []byte(strings.Repeat("[default]\nrole_arn = x\n", i%2)), 0o600))
		must(t, os.Lchown(cfg.Home+"/.aws/credentials", cfg.UID, cfg.GID))
		g.look()
	}
	if logs.Len() > maxShadowLines {
		t.Errorf("%d log lines", logs.Len())
	}
	entries, err := os.ReadDir(cfg.Home)
	if err != nil || len(entries) > memory.MaxAside+2 || !g.State().Written {
		t.Errorf("%d entries, %v, state = %+v", len(entries), err, g.State())
	}
	if _, err := Undo(cfg); err != nil {
		t.Error(err)
	}
}

// Whoever takes the lock off is noticed, and it is put on again.
func TestFlagTakenOff(t *testing.T) {
	t.Parallel()
	cfg := newLockable(t, nil)
	g := New(cfg)
	g.look()
	if s := g.State(); !s.Immutable || s.Reason != "" || !s.Written {
		t.Fatalf("state = %+v", s)
	}
	for i := range 2 {
		clearFlags(t, cfg.Home)
		if i > 0 {
			must(t, os.WriteFile(g.State().Path, []byte(evil), 0o600))
		}
		g.look()
		s := g.State()
		if s.Tampers != uint64(i+1) || !s.Immutable || !binds(cfg) {
			t.Errorf("state = %+v", s)
		}
		if i == 0 && s.Last.What != "the immutable flag was taken off" {
			t.Errorf("what = %q", s.Last.What)
		}
	}
	if err := os.Remove(g.State().Path); !errors.Is(err, unix.EPERM) {
		t.Errorf("removed: %v", err)
	}
	// Another Guard, as after a kill, finds all in order and writes nothing.
	before := snapshot(t, cfg.Home)
	next := New(cfg)
	next.look()
	if s := next.State(); !s.Immutable || s.Tampers != 0 {
		t.Errorf("state of the next = %+v", s)
	}
	if diff := cmp.Diff(before, snapshot(t, cfg.Home)); diff != "" {
		t.Errorf("the next one changed:\n%s", diff)
	}
}

// Where it cannot lock, the state says why.
func TestReasons(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, nil)
	g := New(cfg)
	if s := g.State(); s.Immutable || s.Watching || s.Reason == "" {
		t.Errorf("before Run: %+v", s)
	}
	g.look()
	if s := g.State(); !strings.Contains(s.Reason, "switched off") {
		t.Errorf("state = %+v", s)
	}
	cfg.Lock = true
	if os.Getuid() == 0 {
		cfg.UID, cfg.GID = 0, 0
		must(t, os.Chown(cfg.Home, 0, 0))
		must(t, os.RemoveAll(cfg.Home+"/.aws"))
	}
	g = New(cfg)
	g.look()
	want := "CAP_LINUX_IMMUTABLE"
	if os.Getuid() == 0 {
		want = "root"
	}
	if s := g.State(); s.Immutable || !s.Written || !strings.Contains(s.Reason, want) {
		t.Errorf("state = %+v", s)
	}
	if err := New(Config{Home: "/nowhere"}).gone(); !strings.Contains(err, "/nowhere") {
		t.Errorf("problem = %q", err)
	}
}

func (g *Guard) gone() string {
	g.look()
	return g.State().Problem
}

// A home that has ceased to answer is not said to be in order for ever.
func TestStateOfAHomeThatHangs(t *testing.T) {
	cfg := newConfig(t, nil)
	synctest.Test(t, func(t *testing.T) {
		g := New(cfg)
		g.look()
		time.Sleep(unanswered)
		if s := g.State(); !s.Written || s.Problem != "" {
			t.Errorf("too early: %+v", s)
		}
		time.Sleep(time.Second)
		if s := g.State(); s.Written || s.Immutable || !strings.Contains(s.Problem, "has not answered") || s.Reason == "" {
			t.Errorf("state = %+v", s)
		}
		g.look()
		if s := g.State(); !s.Written || s.Problem != "" {
			t.Errorf("it answers again: %+v", s)
		}
	})
}

// Repairs are bounded, a burst is one record, and all ends well.
func TestBurstAndPause(t *testing.T) {
	cfg := newConfig(t, nil)
	core, logs := observer.New(zap.WarnLevel)
	cfg.Log = zap.New(core)
	synctest.Test(t, func(t *testing.T) {
		g := New(cfg)
		g.look()
		path := g.State().Path
		tamper := func() {
			must(t, os.WriteFile(path, []byte(fmt.Sprintf("[default]\nrole_arn = %d\n", time.Now().UnixNano())), 0o600))
			must(t, os.Lchown(path, cfg.UID, cfg.GID))
		}
		begin := time.Now()
		for time.Since(begin) < 10*time.Minute {
			tamper()
			g.look()
			time.Sleep(100 * time.Millisecond)
		}
		s := g.State()
		if s.Repairs < 40 || s.Repairs > 80 {
			t.Errorf("%d repairs in 10 min", s.Repairs)
		}
		if s.Last.Count != s.Tampers || s.Last.Count < s.Repairs || !s.Last.First.Equal(begin) || s.PausedUntil.IsZero() || s.Written {
			t.Errorf("state = %+v", s)
		}
		if logs.Len() > 12 {
			t.Errorf("%d warnings in 10 min", logs.Len())
		}
		for !g.State().Written {
			time.Sleep(3 * time.Second)
			g.look()
		}
		if healed := time.Since(begin) - 10*time.Minute; healed > 5*time.Minute+3*time.Second {
			t.Errorf("healed only after %v", healed)
		}
		time.Sleep(20 * time.Minute)
		g.look()
		if logs.FilterMessage("tampering has stopped").Len() != 1 {
			t.Error("the end of the burst was not logged")
		}
		tamper()
		g.look()
		if s := g.State(); !s.Written || s.Last.Count != 1 || s.Last.First.Equal(begin) {
			t.Errorf("the next burst: %+v", s)
		}
		t.Logf("%d repairs, %d findings, %d warnings", s.Repairs, s.Tampers, logs.Len())
	})
}

// What the user changes between the reading of the file and the look at its flag
// is looked at again: as an error it would be neither counted nor repaired.
func TestReplacedBeforeTheFlagIsLookedAt(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"removed": os.Remove,
		"a link":  func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/nowhere", path)) },
		"a lease": func(path string) error { lease(t, path, ""); return nil },
	} {
		cfg := newConfig(t, map[string]string{".aws/config": "[default]\n"})
		v, err := openVisit(cfg)
		must(t, err)
		defer v.close()
		f, err := v.find(true)
		must(t, err)
		defer f.close()
		must(t, change(cfg.path()))
		if _, err := f.held(); !errors.Is(err, safefile.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
