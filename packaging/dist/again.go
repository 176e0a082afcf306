package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// again makes the release once more from a copy of the sources at another place,
// under another umask, time zone and name, and compares every byte. The
// compiler's cache is shared: that the same input compiles to the same output is
// for the Go toolchain to keep.
func (d *dist) again(ctx context.Context) error {
	elsewhere, err := os.MkdirTemp("", "another place ")
	if err != nil {
		return err
	}
	defer os.RemoveAll(elsewhere)
	if err := copySources(ctx, elsewhere); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", `umask 077; exec go run ./packaging/dist -version "$0" -arch "$1" -o out`,
		d.version, strings.Join(d.architectures, ","))
	cmd.Dir = elsewhere
	cmd.Env = append(os.Environ(), "TZ=Asia/Kathmandu", "LC_ALL=C", "USER=somebody", "LOGNAME=somebody", "HOSTNAME=elsewhere",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", d.date.Unix()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making the release again: %w\n%s", err, out)
	}
	entries, err := os.ReadDir(d.out)
	if err != nil {
		return err
	}
	var differ []string
	for _, e := range entries {
		first, err := os.ReadFile(filepath.Join(d.out, e.Name()))
		if err != nil {
			return err
		}
		second, err := os.ReadFile(filepath.Join(elsewhere, "out", e.Name()))
		if err != nil || !bytes.Equal(first, second) {
			differ = append(differ, e.Name())
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("not reproducible: %s", strings.Join(differ, ", "))
	}
	fmt.Printf("dist: made twice, %d files, identical\n", len(entries))
	return nil
}

// copySources copies what git knows of, as it is in the work tree.
func copySources(ctx context.Context, target string) error {
	out, err := output(ctx, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		info, err := os.Lstat(name)
		if os.IsNotExist(err) {
			continue // removed, and not yet committed
		}
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		to := filepath.Join(target, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, data, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}
