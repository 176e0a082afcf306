package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab/boot/machine"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

// furnish puts files and links into a new root, and makes AWS's names lead to
// fakeaws, whose certificates are trusted there.
func (r *run) furnish(root, host string, files, links map[string]string) error {
	const region = ".us-east-1.amazonaws.com"
	names := []string{"sts" + region, "sts.amazonaws.com", "api.sagemaker" + region, "s3" + region, "s3.amazonaws.com", bucket + ".s3" + region, bucket + ".s3.amazonaws.com"}
	files["etc/hosts"] = "127.0.0.1 localhost " + host + "\n" + stage.APIAddress + " " + strings.Join(names, " ") + "\n"
	files["etc/hostname"] = host + "\n"
	store := "etc/ssl/certs/ca-certificates.crt"
	trusted, err := os.ReadFile(filepath.Join(root, store))
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(r.account.CAFile)
	if err != nil {
		return err
	}
	files[store] = string(trusted) + string(authority)
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for name, target := range links {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	return nil
}

// script is a lifecycle script as an administrator attaches it, for the one
// package in that folder of the bucket.
func (r *run) script(name, folder, pattern string) (string, error) {
	text, err := os.ReadFile(filepath.Join(scriptDir(r.dir), name))
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(bucketDir(r.dir), folder, pattern))
	if err != nil || len(found) != 1 {
		return "", errors.Join(err, fmt.Errorf("%d files %s in the bucket's %s", len(found), pattern, folder))
	}
	content, err := os.ReadFile(found[0])
	if err != nil {
		return "", err
	}
	edited := string(text)
	for variable, value := range map[string]string{
		"NBIDENTITY_PACKAGE": "s3://" + bucket + "/" + folder + "/" + filepath.Base(found[0]),
		"NBIDENTITY_SHA256":  fmt.Sprintf("%x", sha256.Sum256(content)),
	} {
		line := "${" + variable + ":=}"
		if strings.Count(edited, line) != 1 {
			return "", fmt.Errorf("%s has no line to set %s", name, variable)
		}
		edited = strings.Replace(edited, line, "${"+variable+":="+value+"}", 1)
	}
	return edited, nil
}

// runScript puts a script on the machine under the name that the platform
// gives it, runs it, and returns what it said.
func (r *run) runScript(m *machine.Machine, text string, command func(path string) *exec.Cmd) (string, error) {
	const path = "/tmp/OnStart_2026-01-01-00-00abcdefgh"
	if err := os.WriteFile(m.Path(path), []byte(text), 0o755); err != nil {
		return "", err
	}
	said, err := output(command(path))
	if err == nil && !strings.Contains(said, "nbidentityd:") {
		err = fmt.Errorf("the script says nothing in the lifecycle log: %q", said)
	}
	return said, errors.Join(err, os.Remove(m.Path(path)))
}

// kernelLog is what the notebook's own program wrote: a line for each call.
type kernelLog struct {
	path   string
	offset int64
}

// lines returns the lines since the last time. A file that is not there yet is
// empty.
func (k *kernelLog) lines() ([]string, error) {
	file, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(k.offset, io.SeekStart); err != nil {
		return nil, err
	}
	var all []string
	for reader := bufio.NewReader(file); ; {
		line, err := reader.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return all, nil // half a line is read the next time
		}
		if err != nil {
			return nil, err
		}
		k.offset += int64(len(line))
		all = append(all, strings.TrimSpace(line))
	}
}

// failed returns the lines of calls that failed since the last time.
func (k *kernelLog) failed() ([]string, error) {
	lines, err := k.lines()
	var all []string
	for _, line := range lines {
		if fields := strings.SplitN(line, " ", 3); len(fields) == 3 && fields[1] != "ok" {
			all = append(all, line)
		}
	}
	return all, err
}

// awaitCalls waits for two more calls of the notebook that succeed, the second of
// which has begun since.
func (r *run) awaitCalls(ctx context.Context, wanted func(line string) bool) error {
	log := r.kernel
	if _, err := log.lines(); err != nil { // to its end
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	var last []string
	for good := 0; good < 2; time.Sleep(50 * time.Millisecond) {
		lines, err := log.lines()
		if err != nil {
			return err
		}
		for _, line := range lines {
			if fields := strings.SplitN(line, " ", 3); len(fields) == 3 && fields[1] == "ok" && wanted(line) {
				good++
			}
			last = append(last, line)
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("the notebook's own program does not succeed:\n%s", strings.Join(last[max(0, len(last)-5):], "\n"))
		}
	}
	return nil
}
