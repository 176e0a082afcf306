package configguard

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

var attackTime = flag.Duration("attack", 2*time.Second, "how long the hostile loops last")

const evil = "[default]\nrole_arn = arn:aws:iam::111122223333:role/evil\ncredential_source = Ec2InstanceMetadata\n"

// TestMain is also the attacker: the tests start it again as the user.
func TestMain(m *testing.M) {
	if name := os.Getenv("NBIDENTITYD_TEST_ATTACK"); name != "" {
		os.Exit(attack(name, os.Args[1]))
	}
	goleak.VerifyTestMain(m)
}

// attack runs in a process of the user's.
func attack(name, home string) int {
	dir := filepath.Join(home, ".aws")
	file := filepath.Join(dir, "config")
	one := singles(home, dir, file)
	switch {
	case name == "daemon":
		return daemon(home)
	case strings.HasPrefix(name, "guard "):
		return guardProcess(home, name)
	case name == "hold":
		return hold(file)
	case strings.HasPrefix(name, "loop:"):
		for {
			for _, a := range strings.Split(name[len("loop:"):], ",") {
				_ = one[a]() // what fails once may succeed next time
			}
		}
	}
	if err := one[name](); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// singles are the ways to change the file, once each.
func singles(home, dir, file string) map[string]func() error {
	place := func(to string) error {
		return errors.Join(os.WriteFile(home+"/evil", []byte(evil), 0o600), os.Rename(home+"/evil", to))
	}
	link := func(target, name string) error {
		_ = os.Remove(home + "/link")
		return errors.Join(os.Symlink(target, home+"/link"), os.Rename(home+"/link", name))
	}
	return map[string]func() error{
		"write":       func() error { return os.WriteFile(file, []byte(evil), 0o600) },
		"rename over": func() error { return place(file) },
		"unlink":      func() error { return os.Remove(file) },
		"create": func() error {
			_ = os.Remove(file)
			return os.WriteFile(file, []byte(evil), 0o600)
		},
		"move the file": func() error { return os.Rename(file, home+"/moved") },
		"link the file": func() error { return link(home+"/outside/config", file) },
		"move the directory": func() error {
			_ = os.RemoveAll(home + "/.aws2")
			return errors.Join(os.Rename(dir, home+"/.aws2"), os.Mkdir(dir, 0o755), place(file))
		},
		"link the directory": func() error {
			_ = os.RemoveAll(home + "/.aws3")
			return errors.Join(os.Rename(dir, home+"/.aws3"), link(home+"/outside", dir))
		},
		"exchange the directory": func() error {
			_ = os.Mkdir(home+"/own", 0o755)
			if err := place(home + "/own/config"); err != nil {
				return err
			}
			return unix.Renameat2(unix.AT_FDCWD, home+"/own", unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
		},
		"remove the directory": func() error { return os.RemoveAll(dir) },
		"hard link": func() error {
			_ = os.Remove(home + "/hard")
			return errors.Join(os.Link(file, home+"/hard"), os.WriteFile(home+"/hard", []byte(evil), 0o600))
		},
		"chmod":               func() error { return os.Chmod(file, 0) },
		"chmod the directory": func() error { return os.Chmod(dir, 0) },
		"mmap":                func() error { return mmapWrite(file) },
		"truncate":            func() error { return os.Truncate(file, 0) },
		"clear the flag": func() error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0)
		},
		"write a big one": func() error {
			return os.WriteFile(file, []byte(evil+strings.Repeat("# "+time.Now().String()+"\n", 15000)), 0o600)
		},
		"flood": func() error {
			f, err := os.Create(home + "/flood")
			return errors.Join(err, f.Close(), os.Remove(home+"/flood"))
		},
		"new name beside it": func() error { return os.WriteFile(dir+"/config2", nil, 0o600) },
		"as root of a user namespace": func() error {
			out, err := exec.Command("unshare", "-Urm", "sh", "-c",
				`chattr -i "$0" "$0/config" 2>/dev/null; mv "$0" "$0-gone" || rm "$0/config" || echo x >"$0/config"`, dir).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		},
	}
}

func mmapWrite(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 64, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m, evil)
	return unix.Munmap(m)
}

// hold opens the file and the directory, and uses what it holds when told to.
func hold(file string) int {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 64, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	dir, err := unix.Open(filepath.Dir(file), unix.O_DIRECTORY, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	copy(m, evil)
	_, err = f.WriteAt([]byte(evil), 0)
	fmt.Println(errors.Join(err, unix.Unlinkat(dir, "config", 0), unix.Renameat(dir, "config", dir, "x"),
		unix.Symlinkat("/x", dir, "l"), unix.Mkdirat(dir, "d", 0o755)))
	return 0
}

// attacker prepares a process of the user's. What it prints goes to the test's
// log when it ends.
func attacker(t *testing.T, cfg Config, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", cfg.Home) // no copy: nobody may write what is to run
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "NBIDENTITYD_TEST_ATTACK="+name, "GORACE=atexit_sleep_ms=1", "HOME="+cfg.Home)
	if os.Getuid() == 0 && name != "daemon" && !strings.HasPrefix(name, "guard ") {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(cfg.UID), Gid: uint32(cfg.GID)}}
	}
	return cmd
}

// again returns a copy of a command that has not been started.
func again(cmd *exec.Cmd, name string) *exec.Cmd {
	next := exec.Command(cmd.Path, cmd.Args[1:]...)
	next.Dir, next.SysProcAttr = cmd.Dir, cmd.SysProcAttr
	next.Env = append(cmd.Env, "NBIDENTITYD_TEST_ATTACK="+name)
	return next
}

// start starts cmd and kills it, and only it, when the test ends.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	must(t, cmd.Start())
	t.Cleanup(func() { stop(cmd) })
}

func stop(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// openHome makes cfg's home reachable for the user's processes, and sees that
// no flag is left behind, whatever becomes of the test.
func openHome(t *testing.T, cfg Config) {
	t.Helper()
	must(t, os.Chmod(filepath.Dir(cfg.Home), 0o755))
	t.Cleanup(func() { clearFlags(t, cfg.Home) })
}

func clearFlags(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return nil
		}
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil
		}
		defer f.Close()
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil || flags&0x10 == 0 {
			return nil
		}
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^0x10))
	})
	if err != nil {
		t.Error(err)
	}
}
