package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Trust covers files of the machine, for this process's children, by copies
// that lie in dir: the PEM bundles stores and Java's, with the authority's
// certificate added, and /etc/hosts, in which AWS's names lead to APIAddress.
func Trust(ctx context.Context, dir, authority string, stores []string) error {
	ca, err := os.ReadFile(authority)
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
