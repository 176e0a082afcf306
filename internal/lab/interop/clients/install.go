package clients

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// cacheRoot holds what the registries gave, for the next run. It is root's and
// readable by everybody, as the clients do not run as root.
const cacheRoot = "/var/cache/nbidentityd-interop"

//go:embed python js java
var files embed.FS

// part is one language's clients: the files in the directory of that name, and
// how they become something that runs.
type part struct {
	name     string     // of its directory
	tools    []string   // programs of the machine, without which it is skipped
	commands [][]string // run in the part's directory
}

// parts names Python by its path: the first one on the path may be in a
// directory that only root can read.
func parts() []part {
	return []part{
		{"python", []string{"/usr/bin/python3"}, [][]string{
			{"/usr/bin/python3", "-m", "venv", "venv"},
			{"venv/bin/pip", "install", "--quiet", "--no-input", "--requirement", "requirements.txt", "--constraint", "constraints.txt"},
		}},
		{"js", []string{"node", "npm"}, [][]string{
			{"npm", "ci", "--loglevel=error", "--ignore-scripts", "--no-audit", "--no-fund"},
		}},
		{"java", []string{"java", "javac", "mvn"}, [][]string{
			{"mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=lib"},
			{"javac", "-cp", "lib/*", "Identity.java"},
		}},
	}
}

// missing is the tool that the machine lacks, or "".
func (p part) missing() string {
	for _, tool := range p.tools {
		if _, err := exec.LookPath(tool); err != nil {
			return tool
		}
	}
	return ""
}

// dir is named after everything that decides what is in it: the pins, the
// commands, and which version of a tool its name stands for.
func (p part) dir() (string, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%q\n", p.commands)
	for _, tool := range p.tools {
		path, err := exec.LookPath(tool)
		if err == nil {
			path, err = filepath.EvalSymlinks(path)
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%q\n", path)
	}
	err := p.eachFile(func(name string, data []byte) error {
		fmt.Fprintf(hash, "%q %q\n", name, data)
		return nil
	})
	return filepath.Join(cacheRoot, p.name+"-"+hex.EncodeToString(hash.Sum(nil)[:6])), err
}

func (p part) eachFile(do func(name string, data []byte) error) error {
	return fs.WalkDir(files, p.name, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		return do(strings.TrimPrefix(path, p.name+"/"), data)
	})
}

// Install makes every part whose tools are there, once for each set of pins.
func Install(ctx context.Context) error {
	if err := os.MkdirAll(cacheRoot, 0o755); err != nil {
		return err
	}
	lock, err := os.Create(filepath.Join(cacheRoot, ".lock"))
	if err != nil {
		return err
	}
	defer lock.Close() // and with it the lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", cacheRoot, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range parts() {
		if p.missing() == "" {
			group.Go(func() error { return p.install(ctx) })
		}
	}
	return group.Wait()
}

// install is whole or will be made again: the mark is written last.
func (p part) install(ctx context.Context) error {
	dir, err := p.dir()
	if err != nil {
		return err
	}
	mark := filepath.Join(dir, ".complete")
	if _, err := os.Stat(mark); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	err = p.eachFile(func(name string, data []byte) error {
		return os.WriteFile(filepath.Join(dir, name), data, 0o644)
	})
	if err != nil {
		return err
	}
	for _, command := range p.commands {
		if out, err := tryThrice(ctx, dir, command); err != nil {
			return fmt.Errorf("installing the %s clients: %s: %w\n%s", p.name, strings.Join(command, " "), err, out)
		}
	}
	return os.WriteFile(mark, nil, 0o644)
}

// tryThrice runs a command that downloads: a transfer may be cut off.
func tryThrice(ctx context.Context, dir string, command []string) (out []byte, err error) {
	for range 3 {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Dir = dir
		if out, err = cmd.CombinedOutput(); err == nil || ctx.Err() != nil {
			break
		}
	}
	return out, err
}
