package installation_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

// onStage names, in the environment, the directory of the built programs of a
// test that plays on a stage.
const onStage = "NBIDENTITYD_TEST_STAGE"

const userID = 1000

// What install and a real daemon do to a machine is undone exactly, by
// comparison of files, flags, packet rules and environment: after a stop, after
// SIGKILL and under the running daemon. It plays on a stage of its own, since it
// raises the fence and writes to /etc.
func TestUninstallIsExact(t *testing.T) {
	if dir := os.Getenv(onStage); dir != "" {
		play(t, dir)
		return
	}
	if err := stage.Possible(", nftables", "nft"); err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "nbidentityd-uninstall-") // the user must get there
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	check(t, os.Chmod(dir, 0o755))
	check(t, os.Mkdir(filepath.Join(dir, "lab"), 0o755))
	check(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	for _, name := range []string{"nbidentityd", "nbidentity", "fakeaws"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "bin", name), "../../cmd/"+name).CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v: %s", name, err, out)
		}
	}
	t.Setenv(onStage, dir)
	err = stage.Start(t.Context(), "-test.run=^TestUninstallIsExact$", "-test.v")
	if lacking := (stage.Lacking{}); errors.As(err, &lacking) {
		t.Skip(lacking)
	}
	check(t, err)
}

// machine is what the comparison looks at.
type machine map[string]string

func play(t *testing.T, dir string) {
	ctx := context.WithoutCancel(t.Context()) // which ends before the cleanups
	l := &lab.Lab{Bin: filepath.Join(dir, "bin"), Dir: filepath.Join(dir, "lab")}
	t.Cleanup(func() { check(t, l.Close()) })
	check(t, stage.Build(ctx, l.Dir, stage.Notebook{Name: "instance", Platform: stage.IMDSAddress}))
	account, err := l.StartAccount(ctx, "-allow-any", "-api", stage.APIAddress+":8080", "-imds", notebook+"="+stage.IMDSAddress+":80")
	check(t, err)
	// Rules of others, as Docker's.
	enter := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/instance", "--"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return string(out)
	}
	enter("nft", "add table ip docker")
	enter("nft", "add chain ip docker out { type nat hook output priority -100 ; }")

	for _, home := range []struct {
		name  string
		files map[string]string // path below the home → text; a directory ends in /
	}{
		{"empty", nil},
		{"lived in", map[string]string{
			".aws/config":        "[default]\nrole_arn = arn:aws:iam::111122223333:role/Mine\nregion: eu-west-1\n[profile x]\noutput = json",
			".aws/credentials":   "[other]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n",
			".aws/sso/cache/a":   "{}",
			".aws/cli/":          "",
			"SageMaker/note.txt": "mine",
		}},
	} {
		for _, end := range []string{"stop", "kill", "running"} {
			t.Run(home.name+", "+end, func(t *testing.T) {
				name := strings.ReplaceAll(home.name+"-"+end, " ", "-")
				nb, err := l.NewNotebook(account, lab.Notebook{Name: name, UID: userID, Enter: stage.Enter("instance"),
					Metadata: `{"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/alice-nb", "ResourceName": "alice-nb"}`})
				check(t, err)
				fill(t, nb.Home, home.files)
				settings, err := nb.WriteSettings("nbidentityd")
				check(t, err)
				look := func() machine { return observe(t, nb, enter) }
				program := func(command string) string {
					t.Helper()
					out, err := nb.Command(ctx, nil, l.Program("nbidentityd"), command, "-settings", settings).CombinedOutput()
					if err != nil {
						t.Fatalf("%s: %v: %s", command, err, out)
					}
					return string(out)
				}
				before := look()
				program("install")
				daemon, err := nb.StartDaemon(ctx)
				check(t, err)
				program("install") // once more, beside the daemon
				during := look()
				for _, what := range []string{"/etc/profile.d/nbidentityd.sh", "nft", "environment"} {
					if during[what] == before[what] {
						t.Errorf("the daemon has not changed %s: the comparison would prove nothing", what)
					}
				}
				config := filepath.Join(nb.Home, ".aws/config")
				if flags := during[config]; !strings.Contains(flags, "immutable") && lockable(t, nb.Home) {
					t.Errorf("%s is not locked: %s", config, flags)
				}
				switch end {
				case "stop":
					check(t, daemon.Stop())
					if now := look(); now["nft"] != during["nft"] {
						t.Errorf("the fence went with the daemon: %s", now["nft"])
					}
				case "kill":
					check(t, unix.Kill(daemon.PID(), unix.SIGKILL))
					<-daemon.Done()
				}
				said := program("uninstall")
				if diff := cmp.Diff(before, look()); diff != "" {
					t.Errorf("after uninstall (-before +after):\n%s\nit said:\n%s", diff, said)
				}
				again := program("uninstall")
				if diff := cmp.Diff(before, look()); diff != "" || strings.Contains(again, "removed") {
					t.Errorf("after a second uninstall:\n%s\n%s", diff, again)
				}
			})
		}
	}
}

func fill(t *testing.T, home string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(home, name)
		check(t, os.MkdirAll(filepath.Dir(path), 0o750))
		if strings.HasSuffix(name, "/") {
			check(t, os.MkdirAll(path, 0o711))
			continue
		}
		check(t, os.WriteFile(path, []byte(text), 0o640))
	}
	check(t, filepath.WalkDir(home, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, userID, userID))
	}))
}

// lockable reports whether the kernel keeps the flag on this file system.
func lockable(t *testing.T, dir string) bool {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	check(t, err)
	defer unix.Close(fd)
	_, err = unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	return err == nil
}

// observe lists the home, /etc and the daemon's directories with mode, owner,
// flags and hash; the packet rules; and what a login shell of the user's has in
// its environment.
func observe(t *testing.T, nb *lab.Notebook, enter func(...string) string) machine {
	t.Helper()
	m := machine{
		"nft":         enter("nft", "-s", "list", "ruleset"),
		"environment": enter("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "env", "-i", "HOME="+nb.Home, "sh", "-lc", "env"),
	}
	for _, top := range []string{filepath.Dir(nb.Home), "/etc", "/run"} {
		check(t, filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path == "/run/etc" || path == "/run/netns":
				return fs.SkipDir // the stage's own
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			text := fmt.Sprintf("%s %d:%d", info.Mode(), st.Uid, st.Gid)
			if info.Mode().IsRegular() || info.IsDir() {
				fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil && flags&0x10 != 0 {
					text += " immutable"
				}
			}
			if info.Mode().IsRegular() {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				text += fmt.Sprintf(" %x", sha256.Sum256(data))
			}
			m[path] = text
			return nil
		}))
	}
	return m
}
