package inventory

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Each thing that an uninstall could leave behind must show.
func TestCompareShows(t *testing.T) {
	tests := map[string]func(t *testing.T, dir string) error{
		"new file":      func(t *testing.T, dir string) error { return os.WriteFile(filepath.Join(dir, "b"), nil, 0o644) },
		"new directory": func(_ *testing.T, dir string) error { return os.Mkdir(filepath.Join(dir, "b"), 0o755) },
		"gone":          func(t *testing.T, dir string) error { return os.Remove(filepath.Join(dir, "a")) },
		"content": func(t *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, "a"), []byte("two"), 0o644)
		},
		"mode":   func(t *testing.T, dir string) error { return os.Chmod(filepath.Join(dir, "a"), 0o600) },
		"setuid": func(t *testing.T, dir string) error { return os.Chmod(filepath.Join(dir, "a"), 0o644|os.ModeSetuid) },
		"link":   func(t *testing.T, dir string) error { return os.Symlink("a", filepath.Join(dir, "b")) },
		"attribute": func(_ *testing.T, dir string) error {
			return unix.Setxattr(filepath.Join(dir, "a"), "user.left", []byte("1"), 0)
		},
		"immutable": func(t *testing.T, dir string) error {
			file, err := os.Open(filepath.Join(dir, "a"))
			if err != nil {
				return err
			}
			defer file.Close()
			t.Cleanup(func() { setFlags(t, filepath.Join(dir, "a"), 0) })
			return unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, immutable)
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "a"), []byte("one"), 0o644); err != nil {
				t.Fatal(err)
			}
			before := take(t, dir)
			if same := Compare(before, take(t, dir)); len(same) > 0 {
				t.Fatalf("without a change: %q", same)
			}
			if err := change(t, dir); err != nil {
				t.Skipf("cannot be made here: %v", err)
			}
			if got := Compare(before, take(t, dir)); len(got) != 1 {
				t.Errorf("got %q, want one line", got)
			}
		})
	}
}

func TestTakeLeavesOutWhatItIsTold(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"var/log/x", "var/lib/y"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "root")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	got, err := Take(link, []string{"/var/log", "/var/lib/*"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got["/var/lib"] == "" {
		t.Errorf("got %v, want /, /var and /var/lib", got)
	}
}

func take(t *testing.T, dir string) Inventory {
	t.Helper()
	all, err := Take(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func setFlags(t *testing.T, name string, flags int) {
	file, err := os.Open(name)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	if err := unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
		t.Error(err)
	}
}
