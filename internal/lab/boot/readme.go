package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// readmeInstall is the block of the README's commands with which an
// administrator installs the package by hand. Where a line has another for
// Debian behind "# or", that one.
func readmeInstall(file string) (commands string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for _, m := range regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$").FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(m[1], "systemctl enable") {
			continue
		}
		for line := range strings.Lines(m[1]) {
			if _, other, found := strings.Cut(line, "# or "); found {
				line = other
			}
			commands += line
		}
		return commands, nil
	}
	return "", fmt.Errorf("%s has no commands that install the package", file)
}

// byHand installs the package as the README says, without a lifecycle script.
func (n *instance) byHand(ctx context.Context) error {
	err := n.step(ctx, step{name: "README: Install", free: true, do: func() (string, error) {
		commands, err := readmeInstall(filepath.Join(scriptDir(n.dir), "README.md"))
		if err != nil {
			return "", err
		}
		name := regexp.MustCompile(`dist/\S+\.deb`).FindString(commands)
		found, err := filepath.Glob(filepath.Join(bucketDir(n.dir), "new", "*.deb"))
		if err != nil || len(found) != 1 || name == "" {
			return "", errors.Join(err, fmt.Errorf("packages %q for %q", found, name))
		}
		data, err := os.ReadFile(found[0])
		if err != nil {
			return "", err
		}
		const checkout = "/tmp/checkout"
		inside := filepath.Join(n.machine.Path(checkout), name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(inside), 0o755), os.WriteFile(inside, data, 0o644)); err != nil {
			return "", err
		}
		started := time.Now()
		said, err := output(n.machine.Command(ctx, "/bin/sh", "-eu", "-c", "cd "+checkout+"\n"+commands))
		if err != nil {
			return "", err
		}
		took := time.Since(started)
		if err := os.RemoveAll(n.machine.Path(checkout)); err != nil {
			return "", err
		}
		if _, err := output(n.machine.Command(ctx, "systemctl", "restart", "jupyter-server.service")); err != nil {
			return "", err
		}
		if _, err := n.awaitName(ctx, instanceName, started, attribLimit); err != nil {
			return "", fmt.Errorf("%w\n%s\n%s", err, said, n.journal(ctx))
		}
		return fmt.Sprintf("%d commands, %.1f s", strings.Count(commands, "\n"), took.Seconds()), nil
	}})
	return errors.Join(err, n.named(ctx))
}
