package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The system's bundle, which Go, pyarrow and most of Debian use, and the one in
// Debian's botocore.
var bundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/usr/lib/python3/dist-packages/botocore/cacert.pem"}

// storeName is what Python packages call the bundle that they bring along.
const storeName = "cacert.pem"

// trust covers files of the machine, for this process's children, by copies
// that lie in dir: the trust stores, with the throw-away authority added, and
// /etc/hosts.
func trust(ctx context.Context, dir, authority string) error {
	ca, err := os.ReadFile(authority)
	if err != nil {
		return err
	}
	stores, err := trustStores()
	if err != nil {
		return err
	}
	c := cover{dir: dir}
	for _, store := range stores {
		data, err := os.ReadFile(store)
		if err != nil {
			return err
		}
		if err := c.put(store, bytes.Join([][]byte{data, ca}, []byte("\n"))); err != nil {
			return err
		}
	}
	if err := c.put("/etc/hosts", []byte(hosts())); err != nil {
		return err
	}
	return c.java(ctx, authority)
}

// trustStores lists the PEM bundles that are there: the system's, and every
// one in the virtual environment (CLI v1 has its own botocore).
func trustStores() ([]string, error) {
	var found []string
	for _, path := range bundles {
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		}
	}
	for _, p := range parts() {
		if p.missing() != "" {
			continue
		}
		dir, err := p.dir()
		if err != nil {
			return nil, err
		}
		err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Name() == storeName && entry.Type().IsRegular() {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// cover makes copies of files and mounts them over the files.
type cover struct {
	dir   string
	count int
}

// put mounts a file of this content over path.
func (c *cover) put(path string, content []byte) error {
	c.count++
	copied := filepath.Join(c.dir, fmt.Sprintf("%d-%s", c.count, filepath.Base(path)))
	if err := os.WriteFile(copied, content, 0o644); err != nil {
		return err
	}
	if err := unix.Mount(copied, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting over %s: %w", path, err)
	}
	return nil
}

// java adds the authority to the store of the Java that "java" stands for; a
// machine may have several, and a distribution's store may be a link.
func (c *cover) java(ctx context.Context, authority string) error {
	java, err := exec.LookPath("java")
	if errors.Is(err, exec.ErrNotFound) {
		return nil // its client is skipped
	}
	if err == nil {
		java, err = filepath.EvalSymlinks(java)
	}
	if err != nil {
		return err
	}
	store, err := filepath.EvalSymlinks(filepath.Join(filepath.Dir(java), "../lib/security/cacerts"))
	if err != nil {
		return err
	}
	edited := filepath.Join(c.dir, "cacerts")
	data, err := os.ReadFile(store)
	if err == nil {
		err = os.WriteFile(edited, data, 0o644)
	}
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(java), "keytool"),
		"-importcert", "-noprompt", "-alias", "fakeaws", "-file", authority, "-keystore", edited, "-storepass", "changeit")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("keytool: %w\n%s", err, out)
	}
	if data, err = os.ReadFile(edited); err != nil {
		return err
	}
	return c.put(store, data)
}
