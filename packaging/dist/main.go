// Command dist makes what is released: for each architecture a deb, an rpm and
// a tar.gz with static programs, and for all of them one SBOM and the checksums.
//
// The bytes depend on the sources, the Go release and the version alone: not on
// the time, the place, the user, the umask or what was built before. With -twice
// it proves that, by doing all of it again elsewhere.
//
// packaging/nfpm.yaml says what is in a package. nfpm and the Go toolchain do the
// work; the SBOM lists the modules that the linker says are in the programs.
//
// It is longer than most because it makes every kind of file of a release, a
// file for each.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.1"

func main() {
	var d dist
	var describe string
	var twice bool
	flag.StringVar(&describe, "version", "", "`version`: 1.2.3, or what git describe says")
	flag.StringVar(&d.out, "o", "dist", "`directory` for the results, which is emptied")
	architectures := flag.String("arch", "amd64,arm64", "`architectures`, Go's names of them")
	flag.BoolVar(&twice, "twice", false, "do it again elsewhere, and fail unless all bytes are the same")
	flag.Parse()
	d.architectures = strings.Split(*architectures, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := d.identify(ctx, describe)
	if err == nil {
		err = d.make(ctx)
	}
	if err == nil && twice {
		err = d.again(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// dist is one release.
type dist struct {
	version       string
	architectures []string
	date          time.Time // of every file in it
	out           string
}

// identify finds out which release this is.
func (d *dist) identify(ctx context.Context, describe string) error {
	git := func(args ...string) (int64, error) {
		out, err := output(ctx, nil, "git", args...)
		if err != nil {
			return 0, err
		}
		return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	}
	var err error
	d.version, err = packageVersion(describe, func() (int64, error) { return git("rev-list", "--count", "HEAD") })
	if err != nil {
		return err
	}
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		if epoch, err = git("log", "-1", "--format=%ct"); err != nil {
			return fmt.Errorf("dating the release (set SOURCE_DATE_EPOCH outside a git checkout): %w", err)
		}
	}
	d.date = time.Unix(epoch, 0).UTC()
	return nil
}

// packageVersion makes of git describe's words a version that dpkg, rpm and S3
// keys take, and that sorts: v1.2.3 is 1.2.3, five commits later it is
// 1.2.3.5.gabcdef0, and without any tag 0.0.0.COUNT.gabcdef0.
func packageVersion(describe string, count func() (int64, error)) (string, error) {
	v := strings.ReplaceAll(strings.TrimPrefix(describe, "v"), "-", ".")
	hash, dirty := strings.CutSuffix(v, ".dirty")
	if _, err := hexOnly(hash); err == nil && !strings.Contains(hash, ".") {
		n, err := count()
		if err != nil {
			return "", fmt.Errorf("counting commits for the version: %w", err)
		}
		v = fmt.Sprintf("0.0.0.%d.g%s", n, hash)
		if dirty {
			v += ".dirty"
		}
	}
	if v == "" || v[0] < '0' || v[0] > '9' || strings.Trim(v, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+~") != "" {
		return "", fmt.Errorf("version %q: want 1.2.3 or what git describe says (make dist VERSION=1.2.3)", describe)
	}
	return v, nil
}

func hexOnly(s string) (string, error) {
	if len(s) < 7 || strings.Trim(s, "0123456789abcdef") != "" {
		return "", errors.New("not a commit")
	}
	return s, nil
}

// make writes everything into d.out.
func (d *dist) make(ctx context.Context) error {
	if err := os.RemoveAll(d.out); err != nil {
		return err
	}
	if err := os.MkdirAll(d.out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "nbidentityd-dist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	var all []program
	for _, arch := range d.architectures {
		built, err := build(ctx, d.version, arch, filepath.Join(work, arch, "bin"))
		if err != nil {
			return err
		}
		all = append(all, built...)
	}
	modules, err := linked(ctx, all)
	if err != nil {
		return err
	}
	if err := d.writeBOM(all, modules); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, arch := range d.architectures {
		tree := filepath.Join(work, arch)
		if err := d.writeDocs(tree, modules); err != nil {
			return err
		}
		group.Go(func() error { return d.pack(ctx, arch, tree) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return writeSums(d.out)
}

// pack makes the packages of one architecture from what is in tree.
func (d *dist) pack(ctx context.Context, arch, tree string) error {
	rpmArch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
	deb := filepath.Join(d.out, fmt.Sprintf("nbidentityd_%s_%s.deb", d.version, arch))
	rpm := filepath.Join(d.out, fmt.Sprintf("nbidentityd-%s-1.%s.rpm", d.version, rpmArch))
	env := []string{
		"DIST_ARCH=" + arch, "DIST_VERSION=" + d.version, "DIST_BUILD=" + tree,
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", d.date.Unix()),
	}
	for packager, target := range map[string]string{"deb": deb, "rpm": rpm} {
		_, err := output(ctx, env, "go", "run", nfpm, "package", "-f", "packaging/nfpm.yaml", "-p", packager, "-t", target)
		if err != nil {
			return err
		}
	}
	return d.tarball(deb, filepath.Join(d.out, fmt.Sprintf("nbidentityd-%s-linux-%s.tar.gz", d.version, arch)))
}

// output runs a program with more environment and returns what it prints.
func output(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("running %s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}
