package discovery

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// learn makes a state file for the private space and returns its content.
func learn(t *testing.T, path string) string {
	t.Helper()
	if _, err := Discover(t.Context(), Config{SageMaker: newFake(), StateFile: path}, private); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestStateFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "facts.json")
	if err := os.WriteFile(path+".new", []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	content := learn(t, path)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("directory holds %v, %v", entries, err)
	}
	var m memory
	if err := json.Unmarshal([]byte(content), &m); err != nil || m.Facts.Subject.Name != "alice" || m.Domain != domainID || m.Space != "alice-space" {
		t.Errorf("remembered %s: %v", content, err)
	}
}

// A file that is not certainly the daemon's own about this notebook is not
// believed: AWS is asked, and the log says why.
func TestStateFileIsNotTrustedBlindly(t *testing.T) {
	t.Parallel()
	content := learn(t, filepath.Join(t.TempDir(), "facts.json"))
	write := func(data string, mode os.FileMode) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	edit := func(old, new string) func(t *testing.T, path string) {
		if !strings.Contains(content, old) {
			t.Fatalf("%q is not in %s", old, content)
		}
		return write(strings.Replace(content, old, new, 1), 0o600)
	}
	for name, tt := range map[string]struct {
		prepare func(t *testing.T, path string)
		trusted bool
	}{
		"as written":          {write(content, 0o600), true},
		"empty":               {write("", 0o600), false},
		"half":                {write(content[:len(content)/2], 0o600), false},
		"garbage":             {write("\x00\xff{]", 0o600), false},
		"trailing":            {write(content+"{}", 0o600), false},
		"huge":                {write(content+strings.Repeat(" ", maxMemory), 0o600), false},
		"unknown key":         {edit(`"version"`, `"x": 1, "version"`), false},
		"another version":     {edit(`"version": 1`, `"version": 2`), false},
		"another app":         {edit("JupyterLab/default", "JupyterLab/other"), false},
		"another domain":      {edit(`"domain": "d-examplealice1"`, `"domain": "d-examplebob"`), false},
		"another space":       {edit(`"space": "alice-space"`, `"space": "bob-space"`), false},
		"subject elsewhere":   {edit(`"app": "default"`, `"app": "other"`), false},
		"kind":                {edit(`"kind": "profile"`, `"kind": "notebook"`), false},
		"space's name":        {edit(`"kind": "profile"`, `"kind": "space"`), false},
		"hostile owner":       {edit(`"name": "alice"`, `"name": "../bob"`), false},
		"role elsewhere":      {edit("iam::111122223333", "iam::444455556666"), false},
		"role source":         {edit(`"role_source": "user-profile"`, `"role_source": "hearsay"`), false},
		"propagation":         {edit(`"propagates_source_identity": false,`+"\n"+`  "propagation_known": true`, `"propagates_source_identity": true, "propagation_known": false`), false},
		"group may write":     {write(content, 0o620), false},
		"everybody may write": {write(content, 0o666), false},
		"readable is fine":    {write(content, 0o644), true},
		"symlink": {func(t *testing.T, path string) {
			write(content, 0o600)(t, path+".target")
			if err := os.Symlink(path+".target", path); err != nil {
				t.Fatal(err)
			}
		}, false},
		"fifo": {func(t *testing.T, path string) {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		"another owner": {func(t *testing.T, path string) {
			if os.Geteuid() != 0 {
				t.Skip("needs root: only root gives a file to another user")
			}
			write(content, 0o600)(t, path)
			if err := os.Chown(path, 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "facts.json")
			tt.prepare(t, path)
			core, logs := observer.New(zapcore.InfoLevel)
			fake := newFake()
			facts, err := Discover(t.Context(), Config{SageMaker: fake, StateFile: path, Log: zap.New(core)}, private)
			if err != nil || facts.Subject.Name != "alice" || facts.ExecutionRoleARN != profileRole {
				t.Errorf("got %+v, %v", facts, err)
			}
			ignored := logs.FilterMessage("ignoring the remembered facts").Len() == 1
			if asked := len(fake.calls) > 0; asked == tt.trusted || ignored == tt.trusted {
				t.Errorf("asked %v; logged %v", fake.calls, logs.All())
			}
		})
	}
}

func TestStateFileOfAnotherNotebook(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "facts.json")
	learn(t, path)
	fake := newFake()
	facts, err := Discover(t.Context(), Config{SageMaker: fake, StateFile: path}, shared)
	if err != nil || facts.Subject.Kind != identity.KindSharedSpace || len(fake.calls) == 0 {
		t.Errorf("got %+v, %v after %v", facts, err, fake.calls)
	}
}

// A role that came from the settings is not remembered beyond them.
func TestStateFileDoesNotKeepTheSetting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "facts.json")
	fake := newFake()
	for _, tt := range []struct{ setting, want string }{{settingRole, settingRole}, {"", profileRole}, {settingRole + "2", settingRole + "2"}} {
		facts, err := Discover(t.Context(), Config{SageMaker: fake, StateFile: path, RoleARN: tt.setting}, private)
		if err != nil || facts.ExecutionRoleARN != tt.want {
			t.Errorf("setting %q: got %+v, %v", tt.setting, facts, err)
		}
	}
}

func TestStateFileCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"directory missing":           filepath.Join(dir, "absent", "facts.json"),
		"directory is a file":         filepath.Join(blocked, "facts.json"),
		"path is a directory":         taken,
		"read-only":                   "/proc/nbidentityd-facts.json",
		"disk full":                   "/dev/full/facts.json",
		"name too long for the disk":  filepath.Join(dir, strings.Repeat("n", 300)),
		"path with a zero byte in it": filepath.Join(dir, "a\x00b"),
	} {
		core, logs := observer.New(zapcore.InfoLevel)
		facts, err := Discover(t.Context(), Config{SageMaker: newFake(), StateFile: path, Log: zap.New(core)}, private)
		if err != nil || facts.Subject.Name != "alice" {
			t.Errorf("%s: got %+v, %v", name, facts, err)
		}
		if logs.FilterMessage("facts not remembered, the next start asks aws again").Len() != 1 {
			t.Errorf("%s: logged %v", name, logs.All())
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func FuzzParseMemory(f *testing.F) {
	m := (&discovery{nb: private}).memory(Facts{
		Subject:    identity.Subject{Kind: identity.KindProfile, Name: "alice", Domain: domainID, Space: "alice-space", App: "default"},
		RoleSource: RoleFromMetadata,
	})
	seed, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &discovery{nb: private}
		facts, err := d.parse(data)
		if err != nil {
			return
		}
		if facts.ExecutionRoleARN != "" && !d.legalRole(facts.ExecutionRoleARN) {
			t.Errorf("believed the role %q", facts.ExecutionRoleARN)
		}
		if s := facts.Subject; s != d.newSubject(s.Kind, s.Name) || identity.CheckName(s.Name) != nil ||
			s.Kind == identity.KindNotebook || s.Kind == identity.KindSharedSpace && s.Name != "alice-space" {
			t.Errorf("believed the subject %+v", s)
		}
	})
}
