// Package image makes the root file system of a trial's machine: Debian with
// systemd and boto3, by debootstrap from the mirror that the machine at hand
// uses itself. It is kept as an archive, since making it takes minutes.
package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// cache is where archives are kept.
const cache = "/var/cache/nbidentityd-boot"

const (
	suite  = "bookworm"
	recipe = "2" // what is done with the packages; a change makes another archive
)

// packages are what a notebook has that matters here: AWS's SDK and command
// line, and a supervisor. What the daemon needs must come with its own package.
// debootstrap does not see what provides a virtual package: python3-cffi-backend
// is for awscli.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", "procps", "iproute2", "sudo", "e2fsprogs", "ca-certificates", "curl", "python3-boto3", "awscli",
	"python3-cffi-backend",
}

// useless are the files there on a machine that lives for minutes, and most of
// its bytes. Their directories stay: dpkg would take them for the first package's
// that brings one, and strike them from the lists of all others.
var useless = []string{"usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists"}

// Archive returns the path of the image, which it makes if there is none yet.
func Archive(ctx context.Context) (path string, err error) {
	key := sha256.Sum256([]byte(strings.Join(slices.Concat([]string{recipe, suite}, packages, useless), " ")))
	path = filepath.Join(cache, fmt.Sprintf("%s-%.6x.tar", suite, key))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	mirror, err := mirror(ctx)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root := filepath.Join(dir, "root")
	for range 2 { // a transfer may be cut off
		if err = os.RemoveAll(root); err != nil {
			break
		}
		err = run(ctx, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), suite, root, mirror)
		if err == nil {
			break
		}
	}
	if err != nil {
		return "", err
	}
	for _, name := range useless {
		if err := removeFiles(filepath.Join(root, name)); err != nil {
			return "", err
		}
	}
	made := filepath.Join(dir, "root.tar")
	if err := run(ctx, "tar", "--create", "--numeric-owner", "--xattrs", "--file", made, "--directory", root, "."); err != nil {
		return "", err
	}
	return path, os.Rename(made, path) // a whole archive or none
}

// removeFiles leaves nothing but directories.
func removeFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return os.Remove(path)
	})
}

// Unpack makes a root file system of an archive.
func Unpack(ctx context.Context, archive, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return run(ctx, "tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--same-permissions", "--file", archive, "--directory", dir)
}

// mirror is the first Debian archive among the machine's own sources.
func mirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("asking apt for its sources: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		if len(fields) == 3 && fields[0] == "Debian" && !strings.Contains(fields[1], "-") {
			return fields[2], nil
		}
	}
	return "", errors.New("apt has no Debian archive among its sources, or has not read it yet (apt-get update)")
}

func run(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", args[0], err, out[max(0, bytes.LastIndexByte(out[:max(0, len(out)-2000)], '\n')):])
	}
	return nil
}
