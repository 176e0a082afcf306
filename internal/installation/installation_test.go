package installation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/kernelenv"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// newMachine is a directory tree in which everything lies, with a home.
func newMachine(t *testing.T) Config {
	t.Helper()
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755)) // another umask has made it too open
	for _, dir := range []string{"home", "etc/profile.d", "run", "var/lib"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	set := settings.Default()
	set.StateDir = filepath.Join(root, "var/lib/nbidentityd")
	set.Socket = filepath.Join(root, "run/nbidentityd/nb.sock")
	set.Endpoints.IMDS = "http://127.0.0.1:1" // no fence on this machine
	return Config{
		Settings: set,
		Users:    []notebookuser.User{{Name: "me", UID: os.Getuid(), GID: os.Getgid(), Home: filepath.Join(root, "home")}},
		Notebook: identity.Notebook{Surface: identity.SurfaceNotebookInstance, Region: "us-east-1"},
		Root:     root,
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listing is path → mode, owner and content of everything under dir.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		var text []byte
		if info.Mode().IsRegular() {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		all[strings.TrimPrefix(path, dir)] = fmt.Sprintf("%s %d:%d %q", info.Mode(), st.Uid, st.Gid, text)
		return nil
	}))
	return all
}

func install(t *testing.T, cfg Config) {
	t.Helper()
	_, err := Install(t.Context(), cfg)
	must(t, err)
}

func uninstall(t *testing.T, cfg Config) {
	t.Helper()
	_, err := Uninstall(t.Context(), cfg)
	must(t, err)
}

// unchanged compares the machine with a listing of before.
func unchanged(t *testing.T, cfg Config, before map[string]string) {
	t.Helper()
	if diff := cmp.Diff(before, listing(t, cfg.Root)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// toldBy lists the files that tell kernels, below Root: who is not root has one
// in the home.
func toldBy(cfg Config) []string {
	if os.Geteuid() != 0 {
		return []string{strings.TrimPrefix(kernelenv.HomePath(cfg.Users[0].Home), cfg.Root)}
	}
	return kernelenv.Paths()
}

func TestInstallAndUninstall(t *testing.T) {
	t.Parallel()
	cfg := newMachine(t)
	before := listing(t, cfg.Root)
	for range 2 {
		steps, err := Preview(cfg)
		must(t, err)
		if diff := cmp.Diff(before, listing(t, cfg.Root)); diff != "" {
			t.Fatalf("Preview changed something (-before +after):\n%s", diff)
		}
		first, err := Install(t.Context(), cfg)
		must(t, err)
		after := listing(t, cfg.Root)
		for _, path := range append(toldBy(cfg), "/home/.aws/config") {
			if _, there := after[path]; !there {
				t.Errorf("%s was not written", path)
			}
			if said := fmt.Sprint(steps); !strings.Contains(said, cfg.Root+path+": would be created") {
				t.Errorf("Preview did not say %s: %s", path, said)
			}
			if said := fmt.Sprint(first); !strings.Contains(said, cfg.Root+path+": created") {
				t.Errorf("Install did not say %s: %s", path, said)
			}
		}
		again, err := Install(t.Context(), cfg)
		must(t, err)
		if diff := cmp.Diff(after, listing(t, cfg.Root)); diff != "" {
			t.Errorf("a second Install changed something (-first +second):\n%s", diff)
		}
		if said := fmt.Sprint(again); strings.Contains(said, "created") || strings.Contains(said, "changed") {
			t.Errorf("the second Install says %s", said)
		}
		for range 2 {
			uninstall(t, cfg)
		}
		if diff := cmp.Diff(before, listing(t, cfg.Root)); diff != "" {
			t.Fatalf("after Uninstall (-before +after):\n%s", diff)
		}
	}
}

// What was there before stays as it was, empty directories too.
func TestUninstallLeavesWhatWasThere(t *testing.T) {
	t.Parallel()
	cfg := newMachine(t)
	for _, dir := range []string{"etc/ipython/startup", "etc/systemd/system/jupyter-server.service.d", "var/lib/nbidentityd", "run/nbidentityd"} {
		must(t, os.MkdirAll(filepath.Join(cfg.Root, dir), 0o711))
	}
	must(t, os.WriteFile(filepath.Join(cfg.Root, "etc/ipython/startup/10-site.py"), []byte("x = 1\n"), 0o640))
	before := listing(t, cfg.Root)
	install(t, cfg)
	uninstall(t, cfg)
	unchanged(t, cfg, before)
}

// Another's file under our name is neither replaced nor removed.
func TestForeignFile(t *testing.T) {
	t.Parallel()
	cfg := newMachine(t)
	path := cfg.Root + toldBy(cfg)[0]
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte("export AWS_PROFILE=mine\n"), 0o644))
	before := listing(t, cfg.Root)
	_, err := Install(t.Context(), cfg)
	if !errors.Is(err, errNotOurs) || !strings.Contains(err.Error(), path) {
		t.Errorf("Install: %v", err)
	}
	uninstall(t, cfg)
	unchanged(t, cfg, before)
}

// Install follows the settings: what they no longer ask for goes.
func TestFacesClosedLater(t *testing.T) {
	t.Parallel()
	cfg := newMachine(t)
	before := listing(t, cfg.Root)
	install(t, cfg)
	closed := cfg
	closed.Settings.Faces = settings.Faces{}
	install(t, closed)
	after := listing(t, cfg.Root)
	for _, path := range kernelenv.Paths() {
		if _, there := after[path]; there {
			t.Errorf("%s is still there", path)
		}
	}
	uninstall(t, closed)
	unchanged(t, cfg, before)
}

// A daemon that was never installed, or whose ledger is gone, leaves at worst
// empty directories.
func TestUninstallWithoutTheLedger(t *testing.T) {
	t.Parallel()
	cfg := newMachine(t)
	install(t, cfg)
	must(t, os.Remove(filepath.Join(cfg.Settings.StateDir, ledgerName)))
	must(t, os.WriteFile(filepath.Join(cfg.Settings.StateDir, "discovery.json"), nil, 0o600))
	uninstall(t, cfg)
	for path, what := range listing(t, cfg.Root) {
		if !strings.HasPrefix(what, "d") {
			t.Errorf("%s is left: %s", path, what)
		}
	}
	if _, err := os.Stat(cfg.Settings.StateDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state directory is left: %v", err)
	}
}

// Whoever holds the daemon's place and is no daemon's process to be ended is
// not waited for for ever, and nothing is undone under it.
func TestPlaceIsTaken(t *testing.T) {
	t.Parallel()
	cfg := newMachine(t)
	install(t, cfg)
	must(t, os.MkdirAll(filepath.Dir(cfg.Settings.Socket), 0o755))
	place, err := listener.Hold(cfg.Settings.Socket)
	must(t, err)
	pid, err := holder(listener.LockPath(cfg.Settings.Socket))
	if err != nil || pid != os.Getpid() {
		t.Errorf("the holder is %d, %v; we are %d", pid, err, os.Getpid())
	}
	must(t, place.Close())
	if pid, err := holder(listener.LockPath(cfg.Settings.Socket)); err != nil || pid != 0 {
		t.Errorf("the holder is %d, %v", pid, err)
	}
}
