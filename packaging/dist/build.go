package main

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// programs are what is packaged.
var programs = []string{"nbidentityd", "nbidentity"}

// program is one that was built.
type program struct{ name, arch, path string }

// plainGo is an environment in which the toolchain makes the same bytes
// everywhere.
func plainGo(arch string) []string {
	return []string{"GOOS=linux", "GOARCH=" + arch, "GOAMD64=v1", "GOARM64=v8.0", "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOTOOLCHAIN=local"}
}

// build makes the static programs of one architecture.
func build(ctx context.Context, version, arch, dir string) ([]program, error) {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=" + version, "-o", dir + "/"}
	for _, name := range programs {
		args = append(args, "./cmd/"+name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := output(ctx, plainGo(arch), "go", args...); err != nil {
		return nil, err
	}
	var built []program
	for _, name := range programs {
		built = append(built, program{name, arch, filepath.Join(dir, name)})
	}
	return built, nil
}

// module is one that is linked into a program.
type module struct {
	path, version string
	sum           string // as in go.sum; the Go standard library has none
	spdx          []string
	texts         []licence
}

// licence is a file with terms that must go along with the programs.
type licence struct{ file, text string }

// linked lists the modules that the linker put into the programs, by path, the
// Go standard library first, each with its terms.
func linked(ctx context.Context, all []program) ([]module, error) {
	found := map[string]module{}
	var goVersion string
	for _, p := range all {
		info, err := buildinfo.ReadFile(p.path)
		if err != nil {
			return nil, fmt.Errorf("reading what is linked into %s: %w", p.path, err)
		}
		goVersion = strings.TrimPrefix(info.GoVersion, "go")
		for _, dep := range info.Deps {
			if dep.Replace != nil {
				return nil, fmt.Errorf("%s links %s replaced: name what is really in it first", p.name, dep.Path)
			}
			found[dep.Path] = module{path: dep.Path, version: dep.Version, sum: dep.Sum}
		}
	}
	dirs, err := packageDirs(ctx)
	if err != nil {
		return nil, err
	}
	std := module{path: "std", version: goVersion}
	root, err := output(ctx, nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	if err := std.readTerms(strings.TrimSpace(string(root)), nil); err != nil {
		return nil, err
	}
	modules := []module{std}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		m := found[path]
		place, ok := dirs[path]
		if !ok {
			return nil, fmt.Errorf("module %s is in a program, but none of its packages is", path)
		}
		if err := m.readTerms(place.root, place.packages); err != nil {
			return nil, err
		}
		modules = append(modules, m)
	}
	return modules, nil
}

// place is where the sources of a module are.
type place struct {
	root     string
	packages []string
}

// packageDirs lists the packages of the programs, by module.
func packageDirs(ctx context.Context) (map[string]place, error) {
	dirs := map[string]place{}
	for _, arch := range []string{"amd64", "arm64"} {
		args := []string{"list", "-deps", "-json=Dir,Module"}
		for _, name := range programs {
			args = append(args, "./cmd/"+name)
		}
		out, err := output(ctx, plainGo(arch), "go", args...)
		if err != nil {
			return nil, err
		}
		for d := json.NewDecoder(strings.NewReader(string(out))); ; {
			var p struct {
				Dir    string
				Module *struct{ Path, Dir string }
			}
			if err := d.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("reading go list: %w", err)
			}
			if p.Module == nil {
				continue // of the standard library
			}
			at := dirs[p.Module.Path]
			at.root = p.Module.Dir
			at.packages = append(at.packages, p.Dir)
			dirs[p.Module.Path] = at
		}
	}
	return dirs, nil
}

var terms = regexp.MustCompile(`(?i)^(li[cs]en[cs]e|copying|notice|copyright|patents)([.-].*)?$`)

// readTerms reads the files with terms in root, in the packages and in the
// directories between them. A module without any cannot be passed on.
func (m *module) readTerms(root string, packages []string) error {
	seen := map[string]bool{}
	for _, dir := range append([]string{root}, packages...) {
		for ; !seen[dir]; dir = filepath.Dir(dir) {
			seen[dir] = true
			if dir == root {
				break
			}
		}
	}
	ids := map[string]bool{}
	for _, dir := range slices.Sorted(maps.Keys(seen)) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !terms.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			m.texts = append(m.texts, licence{name, string(text)})
			for _, match := range licensecheck.Scan(text).Match {
				if match.ID != "GooglePatentsFile" { // a grant besides the licence, unknown to SPDX
					ids[match.ID] = true
				}
			}
		}
	}
	m.spdx = slices.Sorted(maps.Keys(ids))
	if len(m.spdx) == 0 {
		return fmt.Errorf("module %s %s: no licence known to licensecheck in %s", m.path, m.version, root)
	}
	return nil
}
