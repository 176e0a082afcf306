package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// made is the directory that make dist has filled, its one version, and the
// machine's packages in it.
type made struct{ dir, version, deb, rpm, tarball string }

// dist finds what was made; without it the test is skipped.
func findDist(t *testing.T) made {
	t.Helper()
	dir := os.Getenv("NBIDENTITYD_DIST")
	if dir == "" {
		t.Skip("NBIDENTITYD_DIST names no directory of make dist (make dist-check does)")
	}
	boms, err := filepath.Glob(filepath.Join(dir, "nbidentityd-*.cdx.json"))
	if err != nil || len(boms) != 1 {
		t.Fatal("not one SBOM: ", boms, err)
	}
	v := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(boms[0]), "nbidentityd-"), ".cdx.json")
	return made{
		dir: dir, version: v,
		deb:     filepath.Join(dir, "nbidentityd_"+v+"_amd64.deb"),
		rpm:     filepath.Join(dir, "nbidentityd-"+v+"-1.x86_64.rpm"),
		tarball: filepath.Join(dir, "nbidentityd-"+v+"-linux-amd64.tar.gz"),
	}
}

// need skips the test, by name, when something it needs is not here; where
// everything must be here (CI), that is a failure.
func need(t *testing.T, here bool, what string) {
	t.Helper()
	switch {
	case here:
	case os.Getenv("CI") == "true":
		t.Fatalf("not here: %s", what)
	default:
		t.Skipf("not here: %s", what)
	}
}

func needTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	need(t, err == nil, "the program "+name)
	return path
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestDistFiles(t *testing.T) {
	m := findDist(t)
	want := []string{"SHA256SUMS", "nbidentityd-" + m.version + ".cdx.json"}
	for _, arch := range []string{"amd64", "arm64"} {
		want = append(want, "nbidentityd_"+m.version+"_"+arch+".deb", "nbidentityd-"+m.version+"-linux-"+arch+".tar.gz")
	}
	for _, arch := range []string{"x86_64", "aarch64"} {
		want = append(want, "nbidentityd-"+m.version+"-1."+arch+".rpm")
	}
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(want, got) {
		t.Errorf("got %q, want %q", got, want)
	}
	sums, err := os.ReadFile(filepath.Join(m.dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range want {
		if name == "SHA256SUMS" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(m.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if line := fmt.Sprintf("%x  %s\n", sha256.Sum256(data), name); !strings.Contains(string(sums), line) {
			t.Errorf("SHA256SUMS lacks %s", line)
		}
	}
}

// The programs of the tarball are static, of this version, and the SBOM lists
// just what is in them.
func TestDistPrograms(t *testing.T) {
	m := findDist(t)
	root := t.TempDir()
	run(t, needTool(t, "tar"), "-xzf", m.tarball, "-C", root)
	bin := filepath.Join(root, "nbidentityd-"+m.version, "usr/bin")
	var bom struct {
		Metadata struct {
			Component struct {
				Version    string
				Components []struct {
					Name   string
					Hashes []struct{ Content string }
				}
			}
		}
		Components []struct{ Name, Version string }
	}
	data, err := os.ReadFile(filepath.Join(m.dir, "nbidentityd-"+m.version+".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &bom); err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, c := range bom.Components {
		listed[c.Name] = c.Version
	}
	linked := map[string]bool{"std": true}
	for _, name := range programs {
		path := filepath.Join(bin, name)
		version := "version"
		if name == "nbidentity" {
			version = "--version"
		}
		if out := run(t, path, version); out != name+" "+m.version+"\n" {
			t.Errorf("%s says it is %q", name, out)
		}
		if out := run(t, "go", "version", "-m", path); !strings.Contains(out, "CGO_ENABLED=0") || !strings.Contains(out, "-trimpath=true") {
			t.Errorf("%s is built otherwise:\n%s", name, out)
		}
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range info.Deps {
			linked[dep.Path] = true
			if listed[dep.Path] != dep.Version {
				t.Errorf("the SBOM has %s %q, and %s has %s", dep.Path, listed[dep.Path], name, dep.Version)
			}
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		known := false
		for _, c := range bom.Metadata.Component.Components {
			known = known || c.Name == name+"-linux-amd64" && c.Hashes[0].Content == hex.EncodeToString(sum[:])
		}
		if !known {
			t.Errorf("the SBOM has no or another SHA-256 of %s", name)
		}
	}
	for name := range listed {
		if !linked[name] {
			t.Errorf("the SBOM lists %s, which is in no program", name)
		}
	}
	if bom.Metadata.Component.Version != m.version {
		t.Errorf("the SBOM is of version %q", bom.Metadata.Component.Version)
	}
	notices, err := os.ReadFile(filepath.Join(root, "nbidentityd-"+m.version, "usr/share/doc/nbidentityd/NOTICES"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range linked {
		if !strings.Contains(string(notices), "\n"+name+" "+listed[name]+", ") {
			t.Errorf("NOTICES lacks the terms of %s", name)
		}
	}
}

// An independent program, with CycloneDX's own schema, takes the SBOM.
func TestDistSBOMIsValid(t *testing.T) {
	m := findDist(t)
	python := needTool(t, "python3")
	venv := filepath.Join(t.TempDir(), "venv")
	err := exec.Command(python, "-m", "venv", venv).Run()
	need(t, err == nil, "python3 -m venv")
	pip := exec.Command(filepath.Join(venv, "bin/pip"), "install", "-q", "--disable-pip-version-check", "cyclonedx-python-lib[json-validation]==11.5.0")
	out, err := pip.CombinedOutput()
	need(t, err == nil, "cyclonedx-python-lib from PyPI: "+string(out))
	const script = `import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(problem) if problem else 0)`
	run(t, filepath.Join(venv, "bin/python"), "-c", script, filepath.Join(m.dir, "nbidentityd-"+m.version+".cdx.json"))
}

func TestDistLintian(t *testing.T) {
	m := findDist(t)
	// It reads the strings of a program across their seams, and finds words that
	// depend on the build.
	out, err := exec.Command(needTool(t, "lintian"), "--allow-root", "--suppress-tags", "spelling-error-in-binary", "-I", "--pedantic", "--tag-display-limit", "0", "--fail-on", "info,pedantic,warning,error", m.deb).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("lintian: %v\n%s", err, out)
	}
}

func TestDistRPMLint(t *testing.T) {
	m := findDist(t)
	// The names in our rpm begin with /, as rpm has it, and rpmlint lets cpio
	// unpack them just there.
	dir := t.TempDir()
	shim := fmt.Sprintf("#!/bin/sh\nexec %s --no-absolute-filenames \"$@\"\n", needTool(t, "cpio"))
	if err := os.WriteFile(filepath.Join(dir, "cpio"), []byte(shim), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(needTool(t, "rpmlint"), "--config", "../rpmlint.toml", m.rpm)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "0 errors, 0 warnings") {
		t.Errorf("rpmlint: %v\n%s", err, out)
	}
	if _, err := os.Lstat("/usr/share/doc/nbidentityd/NOTICES"); err == nil {
		t.Error("the package is installed on this machine, or was unpacked over it")
	}
}

// clean is a root with a shell and nothing else, for packages' scripts.
func clean(t *testing.T) string {
	t.Helper()
	need(t, os.Getuid() == 0, "root, to enter another root")
	busybox, err := os.ReadFile("/bin/busybox")
	need(t, err == nil, "the static program busybox")
	root := t.TempDir()
	for _, dir := range []string{"bin", "dev", "etc", "tmp", "home/ec2-user", "var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(filepath.Join(root, "dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"bin/busybox": string(busybox), "var/lib/dpkg/status": "",
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nec2-user:x:1000:1000::/home/ec2-user:/bin/sh\n",
		"etc/group":  "root:x:0:\nec2-user:x:1000:\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "rm", "rmdir"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// tree lists the files of a root with their modes, but for the shell and the
// package manager's own.
func tree(t *testing.T, root string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		for _, others := range []string{"/bin", "/dev", "/tmp", "/etc/passwd", "/etc/group", "/root/.rpmdb", "/var/lib/dpkg", "/var/lib/rpm", "/usr/lib/sysimage", "/var/log", "/var/cache"} {
			if name == others || strings.HasPrefix(name, others+"/") {
				return nil
			}
		}
		if e.IsDir() {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		all = append(all, fmt.Sprintf("%v %s", info.Mode(), name))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// installed is what must be there after an installation, whichever the format.
func installed(t *testing.T, root, version string) {
	t.Helper()
	got := tree(t, root)
	for _, want := range []string{
		"-rwxr-xr-x /usr/bin/nbidentity",
		"-rwxr-xr-x /usr/bin/nbidentityd",
		"-rw-r--r-- /etc/nbidentityd/nbidentityd.toml",
		"-rw-r--r-- /usr/lib/systemd/system/nbidentityd.service",
		"-rw-r--r-- /usr/lib/systemd/system/nbidentityd.socket",
		"-rw-r--r-- /usr/lib/systemd/system/nbidentityd-faces.socket",
		"-rw-r--r-- /usr/lib/tmpfiles.d/nbidentityd.conf",
		"-rw-r--r-- /usr/share/man/man8/nbidentityd.8.gz",
		"Lrwxrwxrwx /usr/share/man/man8/nbidentityd-uninstall.8.gz",
		"-rw-r--r-- /usr/share/bash-completion/completions/nbidentityd",
		"-rwxr-xr-x /usr/share/nbidentityd/lifecycle/notebook-instance/on-start.sh",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("lacks %s; there are\n%s", want, strings.Join(got, "\n"))
		}
	}
	for _, file := range got {
		if strings.Contains(file, "/etc/systemd/") {
			t.Errorf("something was enabled: %s", file)
		}
	}
	if out := run(t, "chroot", root, "/usr/bin/nbidentityd", "version"); out != "nbidentityd "+version+"\n" {
		t.Errorf("version: %q", out)
	}
}

// user leaves what a user's edit and a daemon would.
func used(t *testing.T, root string) {
	t.Helper()
	settings := filepath.Join(root, "etc/nbidentityd/nbidentityd.toml")
	if err := os.WriteFile(settings, []byte("log_level = \"debug\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(root, "var/lib/nbidentityd")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "discovery.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func keepsEdits(t *testing.T, root string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "etc/nbidentityd/nbidentityd.toml"))
	if err != nil || string(text) != "log_level = \"debug\"\n" {
		t.Errorf("the edited settings: %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(root, "var/lib/nbidentityd/discovery.json")); err != nil {
		t.Error(err)
	}
}

func TestDistDpkg(t *testing.T) {
	m := findDist(t)
	dpkg := needTool(t, "dpkg")
	root := clean(t)
	run(t, dpkg, "--root", root, "-i", m.deb)
	installed(t, root, m.version)
	used(t, root)
	run(t, dpkg, "--root", root, "-i", m.deb) // an upgrade
	installed(t, root, m.version)
	keepsEdits(t, root)
	run(t, dpkg, "--root", root, "-r", "nbidentityd")
	if left := tree(t, root); len(left) != 1 || left[0] != "-rw-r--r-- /etc/nbidentityd/nbidentityd.toml" {
		t.Errorf("removed but for its settings, it leaves %q", left)
	}
	run(t, dpkg, "--root", root, "-P", "nbidentityd")
	if left := tree(t, root); len(left) > 0 {
		t.Errorf("purged, it leaves %q", left)
	}
}

func TestDistRPM(t *testing.T) {
	m := findDist(t)
	rpm := needTool(t, "rpm")
	root := clean(t)
	run(t, rpm, "--root", root, "-i", m.rpm)
	installed(t, root, m.version)
	if out := run(t, rpm, "--root", root, "-V", "nbidentityd"); out != "" {
		t.Errorf("rpm -V: %s", out)
	}
	used(t, root)
	run(t, rpm, "--root", root, "-U", "--force", m.rpm)
	installed(t, root, m.version)
	keepsEdits(t, root)
	run(t, rpm, "--root", root, "-e", "nbidentityd")
	for _, left := range tree(t, root) {
		if left != "-rw-r--r-- /etc/nbidentityd/nbidentityd.toml.rpmsave" {
			t.Errorf("removed, it leaves %s", left)
		}
	}
}
