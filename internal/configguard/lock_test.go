package configguard

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
	"golang.org/x/sys/unix"
)

// newLockable makes a home that can be locked, or skips.
func newLockable(t *testing.T, files map[string]string) Config {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: locks a user's files")
	}
	cfg := newConfig(t, files)
	cfg.Lock = true
	openHome(t, cfg)
	lockable(t, cfg)
	return cfg
}

func lockable(t *testing.T, cfg Config) {
	t.Helper()
	d, err := safefile.Open(cfg.Home, cfg.UID, cfg.GID)
	must(t, err)
	defer d.Close()
	if err := d.CanLock(); err != nil {
		t.Skipf("needs the immutable flag: %v", err)
	}
}

// mountHome puts another file system under the home.
func mountHome(t *testing.T, cfg Config, kind string) {
	t.Helper()
	mount := func(source, target, kind, options string) {
		if err := unix.Mount(source, target, kind, 0, options); err != nil {
			t.Skipf("needs %s: %v", kind, err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	switch kind {
	case "tmpfs":
		mount("tmpfs", cfg.Home, "tmpfs", "")
	case "overlay":
		base := t.TempDir()
		mount("tmpfs", base, "tmpfs", "")
		for _, d := range []string{"lower", "upper", "work"} {
			must(t, os.Mkdir(filepath.Join(base, d), 0o755))
		}
		mount("overlay", cfg.Home, "overlay", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base))
	}
	must(t, os.Chown(cfg.Home, cfg.UID, cfg.GID))
	t.Cleanup(func() { clearFlags(t, cfg.Home) })
}

// A real process of the user's tries everything, also with descriptors and
// mappings from before, on the file systems that differ in what those can do.
func TestLockedAgainstTheUser(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"here", "tmpfs", "overlay"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := newLockable(t, nil)
			if kind != "here" {
				mountHome(t, cfg, kind)
				lockable(t, cfg)
			}
			must(t, os.Mkdir(cfg.Home+"/.aws", 0o700))
			must(t, os.WriteFile(cfg.Home+"/.aws/config", []byte("[default]\noutput = json\n"+strings.Repeat("# room\n", 20)), 0o600))
			must(t, os.Mkdir(cfg.Home+"/outside", 0o755))
			for _, p := range []string{".aws", ".aws/config", "outside"} {
				must(t, os.Chown(filepath.Join(cfg.Home, p), cfg.UID, cfg.GID))
			}
			before := snapshot(t, cfg.Home)

			holder := attacker(t, cfg, "hold")
			stdin, err := holder.StdinPipe()
			must(t, err)
			stdout, err := holder.StdoutPipe()
			must(t, err)
			start(t, holder)
			lines := bufio.NewScanner(stdout)
			if !lines.Scan() || lines.Text() != "ready" {
				t.Fatalf("the holder says %q", lines.Text())
			}
			result, err := Write(cfg)
			must(t, err)
			text := read(t, result.Path)
			locked := snapshot(t, cfg.Home)

			_, err = stdin.Write([]byte("\n"))
			must(t, err)
			for lines.Scan() {
				t.Logf("holder: %s", lines.Text())
			}
			must(t, holder.Wait())
			for name := range singles("", "", "") {
				if name == "flood" {
					continue // not at the file
				}
				if out, err := again(holder, name).CombinedOutput(); err == nil {
					t.Errorf("%s succeeded", name)
				} else if !strings.Contains(string(out), "not permitted") && !strings.Contains(string(out), "denied") {
					t.Errorf("%s failed otherwise: %s", name, out)
				}
				if read(t, result.Path) != text {
					t.Fatalf("after %s the file is %q", name, read(t, result.Path))
				}
			}
			after := snapshot(t, cfg.Home)
			for name := range after {
				if strings.Contains(name, ".aws") && after[name] != locked[name] {
					t.Errorf("%s was %q, is %q", name, locked[name], after[name])
				}
			}
			for _, litter := range []string{"evil", "link", ".aws2", ".aws3", "own", "hard"} {
				must(t, os.RemoveAll(filepath.Join(cfg.Home, litter)))
			}

			// What clients and other tools need to write they can.
			user := again(holder, "")
			user.Path, user.Args = "/bin/sh", []string{"sh", "-ec", `cd ~/.aws; cat config >/dev/null
				for d in cli/cache sso/cache boto/cache login/cache models amazonq amazon_q enabled_features; do mkdir -p $d; echo x >$d/x; rm $d/x; done
				echo >>credentials; : >credentials; mkdir amazonq/lsp; rmdir amazonq/lsp`}
			if out, err := user.CombinedOutput(); err != nil {
				t.Errorf("the user cannot write what they must: %v: %s", err, out)
			}

			if _, err := Undo(cfg); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, snapshot(t, cfg.Home)); diff != "" {
				t.Errorf("after Undo (-before +after):\n%s", diff)
			}
		})
	}
}

func TestReleaseAndUndoAreExact(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"nothing":        nil,
		"directory":      {".aws/": ""},
		"file":           {".aws/config": "[default]\nrole_arn = a\n"},
		"some caches":    {".aws/cli/": "", ".aws/sso/cache/x": "y", ".aws/credentials": "[other]\n"},
		"odd caches":     {".aws/cli": "a file", ".aws/sso": "-> /etc", ".aws/models/x": "", ".aws/credentials": "-> ../x", "x": ""},
		"public file":    {".aws/config": "[default]\n"},
		"link set aside": {".aws": "-> real", "real/config": "[default]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := newLockable(t, files)
			cfg.MoveAside = true
			if name == "public file" {
				must(t, os.Chmod(cfg.Home+"/.aws/config", 0o644))
			}
			before := snapshot(t, cfg.Home)
			for range 2 { // a second round must find nothing of the first
				result, err := Write(cfg)
				must(t, err)
				text := read(t, result.Path)
				if err := os.WriteFile(result.Path, nil, 0o600); !errors.Is(err, unix.EPERM) {
					t.Fatalf("root can write to it: %v", err)
				}
				locked := snapshot(t, cfg.Home)
				if again, err := Write(cfg); err != nil || again.Changed {
					t.Errorf("second Write: %+v, %v", again, err)
				}
				changed := cfg
				changed.Managed.CredentialProcess += "2"
				if again, err := Write(changed); err != nil || !again.Changed {
					t.Errorf("Write of another command to a locked file: %+v, %v", again, err)
				}
				_, err = Write(cfg)
				must(t, err)
				if diff := cmp.Diff(locked, snapshot(t, cfg.Home)); diff != "" {
					t.Errorf("locked again (-before +after):\n%s", diff)
				}
				for range 2 {
					must(t, Release(cfg))
				}
				if read(t, result.Path) != text {
					t.Error("Release changed the text")
				}
				must(t, os.WriteFile(result.Path, []byte(text), 0o600))
				if info, err := os.Stat(result.Path); err != nil || name == "public file" && info.Mode() != 0o644 {
					t.Errorf("after Release the file has mode %v, %v", info.Mode(), err)
				}
				_, err = Write(cfg)
				must(t, err)
				for range 2 {
					_, err = Undo(cfg)
					must(t, err)
				}
				if diff := cmp.Diff(before, snapshot(t, cfg.Home)); diff != "" {
					t.Fatalf("after Undo (-before +after):\n%s", diff)
				}
			}
		})
	}
}

// Without its record the lock is still found and taken off.
func TestReleaseWithoutTheRecord(t *testing.T) {
	t.Parallel()
	cfg := newLockable(t, map[string]string{".aws/config": "[default]\nrole_arn = a\n"})
	result, err := Write(cfg)
	must(t, err)
	files, err := filepath.Glob(cfg.StateDir + "/*")
	must(t, err)
	for _, f := range files {
		must(t, os.Remove(f))
	}
	_, err = Undo(cfg)
	must(t, err)
	if got := read(t, result.Path); got != "[default]\nrole_arn = a\n" {
		t.Errorf("after Undo: %q", got)
	}
	info, err := os.Stat(result.Path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	must(t, os.Rename(cfg.Home+"/.aws", cfg.Home+"/x"))
}

// A user must not be able to keep an uninstallation from its end by a directory
// that is called like a temporary file of ours.
func TestUndoPassesOverADirectoryWithOurName(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, nil)
	_, err := Write(cfg)
	must(t, err)
	must(t, os.Mkdir(filepath.Join(cfg.Home, ".aws", safefile.RandomName(".config.nbidentityd-")), 0o755))
	_, err = Undo(cfg)
	must(t, err)
	if left := snapshot(t, cfg.StateDir); len(left) != 1 {
		t.Errorf("state directory holds %v", left)
	}
}

// A lock that somebody else has set stays.
func TestForeignLock(t *testing.T) {
	t.Parallel()
	cfg := newLockable(t, map[string]string{".aws/config": "[default]\n"})
	home, err := safefile.Open(cfg.Home, cfg.UID, cfg.GID)
	must(t, err)
	defer home.Close()
	dir, err := home.Sub(".aws")
	must(t, err)
	defer dir.Close()
	must(t, dir.Lock())
	if _, err := Write(cfg); !errors.Is(err, errForeignLock) {
		t.Errorf("Write: %v", err)
	}
	must(t, Release(cfg))
	_, err = Undo(cfg)
	must(t, err)
	if locked, err := dir.Locked(); err != nil || !locked {
		t.Errorf("locked = %v, %v", locked, err)
	}
}

// An administrator may set the flag on a file that was written before and is not
// locked by us.
func TestForeignLockOfAManagedFile(t *testing.T) {
	t.Parallel()
	cfg := newLockable(t, map[string]string{".aws/config": "[default]\n"})
	cfg.Lock = false
	g := New(cfg)
	g.look()
	f, err := os.Open(g.State().Path)
	must(t, err)
	defer f.Close()
	must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0x10))
	stays := func(after string) {
		t.Helper()
		if flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); err != nil || flags&0x10 == 0 {
			t.Errorf("after %s the flags are %#x, %v", after, flags, err)
		}
	}
	g.look()
	stays("a look")
	if s := g.State(); !s.Written || s.Immutable || s.Tampers != 0 || !strings.Contains(s.Reason, "somebody else") {
		t.Errorf("state = %+v", s)
	}
	must(t, Release(cfg))
	stays("Release")
	cfg.Managed.CredentialProcess += "2"
	if _, err := Write(cfg); !errors.Is(err, errForeignLock) {
		t.Errorf("Write: %v", err)
	}
	stays("Write")
}

// daemon locks, releases and undoes until it is killed.
func daemon(home string) int {
	cfg := Config{Home: home, UID: 1500, GID: 1500, Managed: managed, StateDir: os.Getenv("STATE"), Lock: true}
	g := New(cfg)
	for {
		if _, err := Write(cfg); err != nil {
			fmt.Println(err)
			return 1
		}
		g.look()
		if err := Release(cfg); err != nil {
			fmt.Println(err)
			return 1
		}
		if _, err := Undo(cfg); err != nil {
			fmt.Println(err)
			return 1
		}
	}
}

// Whenever the daemon is killed, Undo gives back what was there before.
func TestKilledAtAnyTime(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"file":    {".aws/config": "[default]\nrole_arn = a\n", ".aws/sso/cache/x": "y"},
		"nothing": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := newLockable(t, files)
			before := snapshot(t, cfg.Home)
			cmd := attacker(t, cfg, "daemon")
			cmd.Env = append(cmd.Env, "STATE="+cfg.StateDir)
			rounds, states := 15, map[string]bool{}
			if testing.Short() {
				rounds = 5
			}
			for range rounds {
				victim := again(cmd, "daemon")
				var out strings.Builder
				victim.Stdout = &out
				start(t, victim)
				time.Sleep(20*time.Millisecond + rand.N(80*time.Millisecond))
				stop(victim)
				if out.Len() > 0 {
					t.Fatalf("the daemon failed: %s", out.String())
				}
				states[fmt.Sprint(snapshot(t, cfg.Home))] = true
				_, err := Undo(cfg)
				must(t, err)
				if diff := cmp.Diff(before, snapshot(t, cfg.Home)); diff != "" {
					t.Fatalf("after a kill and Undo (-before +after):\n%s", diff)
				}
				if left := snapshot(t, cfg.StateDir); len(left) != 1 {
					t.Errorf("state directory holds %v", left)
				}
			}
			t.Logf("%d kills left %d different states", rounds, len(states))
			if len(states) < 2 {
				t.Error("the kills do not strike")
			}
		})
	}
}

// What a user may ask for when the file is locked.
func TestAddProfile(t *testing.T) {
	t.Parallel()
	for _, lock := range []bool{true, false} {
		t.Run(fmt.Sprintf("lock %v", lock), func(t *testing.T) {
			t.Parallel()
			var cfg Config
			if lock {
				cfg = newLockable(t, map[string]string{".aws/config": "[default]\nrole_arn = a"})
			} else {
				cfg = newConfig(t, map[string]string{".aws/config": "[default]\nrole_arn = a"})
			}
			g := New(cfg)
			g.look()
			path := g.State().Path
			was := read(t, path)
			keys := []awsconfig.Key{{Name: "region", Value: "eu-west-1"}}
			must(t, g.AddProfile("mine", keys))
			if got := read(t, path); got != was+"\n[profile mine]\nregion = eu-west-1\n" {
				t.Errorf("the file is %q, was %q", got, was)
			}
			for _, name := range []string{"mine", "default", "x]\n[default"} {
				if err := g.AddProfile(name, keys); err == nil {
					t.Errorf("profile %q was added", name)
				}
			}
			g.look()
			if s := g.State(); s.Tampers != 0 || s.Immutable != lock || !s.Written {
				t.Errorf("state = %+v", s)
			}
			_, err := Undo(cfg)
			must(t, err)
			if got := read(t, path); got != "[default]\nrole_arn = a\n[profile mine]\nregion = eu-west-1\n" {
				t.Errorf("after Undo: %q", got)
			}
		})
	}
}

// A profile for which there is no room leaves the file as it was, not cut in the
// middle of a line, of which some clients read nothing at all.
func TestAddProfileOnAFullDisk(t *testing.T) {
	t.Parallel()
	cfg := newLockable(t, nil)
	mountHome(t, cfg, "tmpfs")
	lockable(t, cfg)
	must(t, unix.Mount("tmpfs", cfg.Home, "tmpfs", unix.MS_REMOUNT, "size=64k"))
	g := New(cfg)
	g.look()
	path := g.State().Path
	filler, err := os.Create(cfg.Home + "/filler")
	must(t, err)
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	add := func(i int) error {
		return g.AddProfile(fmt.Sprintf("p%d", i), []awsconfig.Key{{Name: "region", Value: "eu-west-1"}})
	}
	for i := range 1000 { // to the end of the file's last block
		before := read(t, path)
		if add(i) == nil {
			continue
		}
		if got := read(t, path); got != before {
			t.Errorf("the file ends with %q", got[len(before):])
		}
		g.look()
		if s := g.State(); !s.Written || !s.Immutable || s.Tampers != 0 {
			t.Errorf("state = %+v", s)
		}
		must(t, os.Remove(filler.Name()))
		must(t, filler.Close())
		must(t, add(i))
		return
	}
	t.Error("there was always room")
}

// What the AWS CLI can and cannot do for a user whose file is locked.
func TestTheCLIUnderTheLock(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/usr/bin/aws"); err != nil {
		t.Skip("needs Debian's AWS CLI: ", err)
	}
	cfg := newLockable(t, map[string]string{".aws/config": "[default]\noutput = json\n"})
	result, err := Write(cfg)
	must(t, err)
	text := read(t, result.Path)
	aws := func(args ...string) (string, error) {
		user := again(attacker(t, cfg, ""), "")
		user.Path, user.Args = "/usr/bin/aws", append([]string{"aws"}, args...)
		out, err := user.CombinedOutput()
		return string(out), err
	}
	if out, err := aws("configure", "set", "aws_access_key_id", "AKIAIOSFODNN7EXAMPLE", "--profile", "b"); err != nil {
		t.Errorf("keys of a profile: %v: %s", err, out)
	}
	if got := read(t, cfg.Home+"/.aws/credentials"); got != "[b]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n" {
		t.Errorf("the credentials file is %q", got)
	}
	if out, err := aws("configure", "set", "region", "eu-west-1", "--profile", "b"); err == nil || !strings.Contains(out, "not permitted") {
		t.Errorf("a profile in the locked file: %v: %s", err, out)
	}
	if got := read(t, result.Path); got != text {
		t.Errorf("the file is %q", got)
	}
	must(t, New(cfg).AddProfile("b", []awsconfig.Key{{Name: "region", Value: "eu-west-1"}}))
	if out, err := aws("configure", "get", "region", "--profile", "b"); err != nil || out != "eu-west-1\n" {
		t.Errorf("a profile that was added: %v: %s", err, out)
	}
}
