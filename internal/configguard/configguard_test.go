package configguard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

var managed = awsconfig.Managed{
	CredentialProcess:    "/usr/bin/nbidentity credentials",
	Region:               "us-east-1",
	STSRegionalEndpoints: "regional",
}

// newConfig makes a home with the given files; as root it belongs to uid 1500.
// A name that ends in "/" is a directory, a content "-> x" makes a link to x.
func newConfig(t *testing.T, files map[string]string) Config {
	t.Helper()
	cfg := Config{Home: t.TempDir(), UID: os.Getuid(), GID: os.Getgid(), Managed: managed, StateDir: t.TempDir()}
	must(t, os.Chmod(cfg.StateDir, 0o700))
	if cfg.UID == 0 {
		cfg.UID, cfg.GID = 1500, 1500
	}
	for name, content := range files {
		path := filepath.Join(cfg.Home, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			must(t, os.Symlink(to, path))
			continue
		}
		must(t, os.WriteFile(path, []byte(content), 0o640))
	}
	must(t, filepath.WalkDir(cfg.Home, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, cfg.UID, cfg.GID))
	}))
	return cfg
}

// snapshot renders everything below dir: kind, mode, owner and content.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		what := fmt.Sprintf("%v %d:%d ", info.Mode(), st.Uid, st.Gid)
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += string(data)
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += to
		}
		all[strings.TrimPrefix(path, dir)] = what
		return nil
	}))
	return all
}

func TestWriteThenUndo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		files     map[string]string
		moveAside bool
		created   bool
	}{
		{"nothing", nil, false, true},
		{"empty directory", map[string]string{".aws/": ""}, false, true},
		{"empty file", map[string]string{".aws/config": ""}, false, false},
		{"other files", map[string]string{".aws/cli/cache/x": "y", ".bashrc": "z"}, false, true},
		{"conflicts", map[string]string{".aws/config": "[default]\nrole_arn = a\n  more\ncredential_source = b\n[profile b]\nregion = c"}, false, false},
		{"CRLF", map[string]string{".aws/config": "[default]\r\nrole_arn = a"}, false, false},
		{"directory is a link", map[string]string{".aws": "-> SageMaker/aws", "SageMaker/aws/config": "[default]\n"}, true, true},
		{"directory is a file", map[string]string{".aws": "x"}, true, true},
		{"file is a link", map[string]string{".aws/config": "-> ../real", "real": "[default]\nrole_arn = x\n"}, true, true},
		{"file is a directory", map[string]string{".aws/config/": ""}, true, true},
		{"dangling links", map[string]string{".aws/config": "-> config"}, true, true},
	}
	for _, tt := range tests {
		for _, state := range []bool{true, false} {
			if !state && (tt.created || tt.moveAside) {
				continue // without a record, what was created stays as an empty file
			}
			t.Run(fmt.Sprintf("%s, record %v", tt.name, state), func(t *testing.T) {
				t.Parallel()
				cfg := newConfig(t, tt.files)
				cfg.MoveAside = tt.moveAside
				if !state {
					cfg.StateDir = ""
				}
				before := snapshot(t, cfg.Home)

				preview, err := Preview(cfg)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, snapshot(t, cfg.Home)); diff != "" {
					t.Fatalf("Preview changed the home:\n%s", diff)
				}
				result, err := Write(cfg)
				if err != nil {
					t.Fatal(err)
				}
				if !result.Changed || result.Created != tt.created || (result.Backup != "") != (state && !tt.created) {
					t.Errorf("result = %+v", result)
				}
				if diff := cmp.Diff(preview.Changes, result.Changes); diff != "" {
					t.Errorf("Preview told otherwise:\n%s", diff)
				}
				checkWritten(t, cfg, result)
				after := snapshot(t, cfg.Home)

				if again, err := Write(cfg); err != nil || again.Changed {
					t.Errorf("second Write = %+v, %v", again, err)
				}
				if diff := cmp.Diff(after, snapshot(t, cfg.Home)); diff != "" {
					t.Errorf("second Write changed the home:\n%s", diff)
				}
				for range 2 {
					if _, err := Undo(cfg); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(before, snapshot(t, cfg.Home)); diff != "" {
						t.Errorf("after Undo (-before +after):\n%s", diff)
					}
				}
				if state {
					if left := snapshot(t, cfg.StateDir); len(left) != 1 {
						t.Errorf("state directory holds %v", left)
					}
				}
			})
		}
	}
}

// checkWritten checks content, owner and mode of the file and the backup.
func checkWritten(t *testing.T, cfg Config, result Result) {
	t.Helper()
	text, err := os.ReadFile(result.Path)
	if err != nil {
		t.Fatal(err)
	}
	if found := awsconfig.Check(text, cfg.Managed); len(found) > 0 {
		t.Errorf("the file is not as wanted: %v", found)
	}
	var st syscall.Stat_t
	must(t, syscall.Lstat(result.Path, &st))
	want := uint32(0o640)
	if result.Created {
		want = 0o600
	}
	if int(st.Uid) != cfg.UID || int(st.Gid) != cfg.GID || st.Mode&0o7777 != want {
		t.Errorf("file has owner %d:%d, mode %o, want %d:%d, %o", st.Uid, st.Gid, st.Mode&0o7777, cfg.UID, cfg.GID, want)
	}
	if result.Backup == "" {
		return
	}
	must(t, syscall.Lstat(result.Backup, &st))
	original, err := awsconfig.Remove(text)
	must(t, err)
	saved, err := os.ReadFile(result.Backup)
	if err != nil || string(saved) != string(original) || st.Mode&0o7777 != 0o600 || int(st.Uid) != os.Geteuid() {
		t.Errorf("backup = %q, %v, mode %o, uid %d", saved, err, st.Mode&0o7777, st.Uid)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		files map[string]string
		spoil func(cfg *Config)
		want  error
		says  string
	}{
		{"home missing", nil, func(c *Config) { c.Home += "/gone" }, unix.ENOENT, "home directory"},
		{"home is a link", map[string]string{"l": "-> ."}, func(c *Config) { c.Home += "/l" }, safefile.ErrNotDirectory, "home directory"},
		{"home is somebody else's", nil, func(c *Config) { c.UID += 7 }, safefile.ErrForeign, "home directory"},
		{"directory is a link", map[string]string{".aws": "-> x", "x/config": "[default]\n"}, nil, safefile.ErrNotDirectory, "aside"},
		{"file is a link", map[string]string{".aws/config": "-> ../x", "x": "[default]\n"}, nil, safefile.ErrNotRegular, "aside"},
		{"file cannot be edited", map[string]string{".aws/config": "[default]\njunk\n"}, nil, nil, "line 2"},
		{"bad command", nil, func(c *Config) { c.Managed.CredentialProcess = "x y" }, nil, "absolute path"},
		{"state directory missing", nil, func(c *Config) { c.StateDir += "/gone" }, unix.ENOENT, "state directory"},
		{"state directory open to all", nil, func(c *Config) { _ = os.Chmod(c.StateDir, 0o777) }, nil, "0700"},
		{"too large", map[string]string{".aws/config": strings.Repeat("#\n", awsconfig.MaxSize)}, nil, safefile.ErrTooLarge, "config"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := newConfig(t, tt.files)
			home := cfg.Home
			before := snapshot(t, home)
			if tt.spoil != nil {
				tt.spoil(&cfg)
			}
			if tt.name == "home is somebody else's" && os.Getuid() == 0 {
				must(t, os.Chown(home, 1600, 1600))
				before = snapshot(t, home)
			}
			_, err := Write(cfg)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Write: %v, want %v saying %q", err, tt.want, tt.says)
			}
			if diff := cmp.Diff(before, snapshot(t, home)); diff != "" {
				t.Errorf("the home was changed:\n%s", diff)
			}
		})
	}
}

func TestUndoKeepsLaterEdits(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, nil)
	result, err := Write(cfg)
	must(t, err)
	edit(t, result.Path, func(s string) string { return s + "[profile mine]\nregion = eu-west-1\n" })
	must(t, os.WriteFile(filepath.Join(cfg.Home, ".aws", "credentials"), nil, 0o600))
	if _, err := Undo(cfg); err != nil {
		t.Fatal(err)
	}
	if got := read(t, result.Path); got != "[profile mine]\nregion = eu-west-1\n" {
		t.Errorf("after Undo: %q", got)
	}
}

// A damaged or lost record costs no more than the removal of empty files.
func TestUndoWithoutItsRecord(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, map[string]string{".aws/config": "[default]\nrole_arn = a\n"})
	before := snapshot(t, cfg.Home)
	_, err := Write(cfg)
	must(t, err)
	files, err := filepath.Glob(filepath.Join(cfg.StateDir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("state: %v, %v", files, err)
	}
	for _, f := range files {
		must(t, os.WriteFile(f, []byte("{"), 0o600))
	}
	if _, err := Undo(cfg); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("Undo with a damaged record: %v", err)
	}
	for _, f := range files {
		must(t, os.Remove(f))
	}
	if _, err := Undo(cfg); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t, cfg.Home)); diff != "" {
		t.Errorf("after Undo:\n%s", diff)
	}
}

// The first Write's record and backup count, whatever the user does between.
func TestBackupIsTakenOnce(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, map[string]string{".aws/config": "[default]\nregion = a\n"})
	first, err := Write(cfg)
	must(t, err)
	edit(t, first.Path, func(string) string { return "[default]\nrole_arn = tampered\n" })
	second, err := Write(cfg)
	must(t, err)
	if second.Backup != first.Backup || read(t, first.Backup) != "[default]\nregion = a\n" {
		t.Errorf("backup %q is %q", second.Backup, read(t, first.Backup))
	}
}

func TestReportsShadowsAndNoSecret(t *testing.T) {
	t.Parallel()
	keys := "[default]\naws_access_key_id = AKIASTATICEXAMPLE\naws_secret_access_key = hush/EXAMPLE\n"
	cfg := newConfig(t, map[string]string{".aws/config": keys, ".aws/credentials": keys})
	core, logs := observer.New(zap.DebugLevel)
	cfg.Log = zap.New(core)
	result, err := Write(cfg)
	must(t, err)
	if len(result.Shadows) != 2 || result.Shadows[0].Line != 2 {
		t.Errorf("shadows = %v", result.Shadows)
	}
	secrets := 0
	for _, c := range result.Changes {
		if c.Secret {
			secrets++
		}
	}
	if secrets != 1 {
		t.Errorf("%d changes are marked secret: %v", secrets, result.Changes)
	}
	if logs.Len() == 0 {
		t.Error("nothing was logged")
	}
	if s := fmt.Sprintf("%+v %+v", result, logs.All()); strings.Contains(s, "hush") || strings.Contains(s, "AKIA") {
		t.Errorf("a secret leaks: %s", s)
	}
}

// Several containers may share a home: all succeed or say so, and the file is
// whole at each moment.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, map[string]string{".aws/config": "[default]\nrole_arn = a\n"})
	var wg sync.WaitGroup
	for i := range 4 {
		own := cfg
		own.StateDir = t.TempDir()
		must(t, os.Chmod(own.StateDir, 0o700))
		own.Managed.CredentialProcess = fmt.Sprintf("/usr/bin/nbidentity-%d credentials", i)
		wg.Go(func() {
			for range 20 {
				if _, err := Write(own); err != nil && !errors.Is(err, safefile.ErrContended) {
					t.Error(err)
				}
				text := read(t, filepath.Join(cfg.Home, ".aws/config"))
				if clean, err := awsconfig.Remove([]byte(text)); err != nil || string(clean) != "[default]\nrole_arn = a\n" {
					t.Errorf("the file is %q", text)
				}
			}
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(filepath.Join(cfg.Home, ".aws"))
	if err != nil || len(entries) != 1 {
		t.Errorf("litter: %v, %v", entries, err)
	}
}

// What root has put there for the user stays root's, if the user can read it.
func TestFilesOfRoots(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes files of root's in a user's home")
	}
	cfg := newConfig(t, map[string]string{".aws/config": "[default]\n"})
	path := filepath.Join(cfg.Home, ".aws/config")
	must(t, os.Chown(path, 0, 0))
	must(t, os.Chmod(path, 0o644))
	if _, err := Write(cfg); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	must(t, syscall.Stat(path, &st))
	if st.Uid != 0 || st.Mode&0o777 != 0o644 {
		t.Errorf("owner %d, mode %o", st.Uid, st.Mode&0o777)
	}
	must(t, os.Chmod(path, 0o600))
	if _, err := Write(cfg); !errors.Is(err, safefile.ErrForeign) || !strings.Contains(err.Error(), "chown") {
		t.Errorf("Write over root's private file: %v", err)
	}
}

func edit(t *testing.T, path string, f func(string) string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(f(read(t, path))), 0o600))
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
