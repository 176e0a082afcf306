package authtoken

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func dir(t *testing.T) string {
	t.Helper()
	d := t.TempDir()
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

func me() uint32 { return uint32(os.Geteuid()) }

func TestWrite(t *testing.T) {
	d := dir(t)
	defer syscall.Umask(syscall.Umask(0o777))
	tokens := New(me())
	if err := tokens.Write(d); err != nil {
		t.Fatal(err)
	}
	path := Path(d, me())
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if uid, ok := tokens.Owner(string(first)); !ok || uid != me() || len(first) != 43 || bytes.ContainsAny(first, "\r\n ") {
		t.Errorf("token %q is of uid %d, %v", first, uid, ok)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// A new start: another token, in another file, for who kept the old one open.
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	next := New(me())
	if err := next.Write(d); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(path)
	if err != nil || bytes.Equal(first, second) {
		t.Errorf("token not replaced: %v", err)
	}
	if _, ok := next.Owner(string(first)); ok {
		t.Error("the old token still passes")
	}
	var kept [64]byte
	if n, _ := old.Read(kept[:]); string(kept[:n]) != string(first) {
		t.Errorf("the open file shows %q", kept[:n])
	}
	if err := next.Remove(d); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(d); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := next.Remove(d); err != nil {
		t.Error(err)
	}
}

func TestOwner(t *testing.T) {
	tokens := New(1000, 1001)
	for _, u := range tokens.users {
		if uid, ok := tokens.Owner(u.token); !ok || uid != u.uid {
			t.Errorf("uid %d, %v", uid, ok)
		}
		for _, bad := range []string{"", u.token + "\n", u.token[:42], "Bearer " + u.token, u.token + u.token, strings.ToLower(u.token)} {
			if _, ok := tokens.Owner(bad); ok {
				t.Errorf("%q passes", bad)
			}
		}
	}
	if _, ok := New().Owner(""); ok {
		t.Error("no users: passes")
	}
}

// What a user has put in the way is replaced or refused, never followed.
func TestObstacles(t *testing.T) {
	for name, make := range map[string]func(path, victim string) error{
		"symlink": func(path, victim string) error { return os.Symlink(victim, path) },
		"link":    func(path, victim string) error { return os.Link(victim, path) },
		"fifo":    func(path, _ string) error { return syscall.Mkfifo(path, 0o666) },
		"file":    func(path, _ string) error { return os.WriteFile(path, []byte("x"), 0o666) },
	} {
		for _, suffix := range []string{"", ".new"} {
			t.Run(name+suffix, func(t *testing.T) {
				d := dir(t)
				victim := filepath.Join(t.TempDir(), "victim")
				if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := make(Path(d, me())+suffix, victim); err != nil {
					t.Fatal(err)
				}
				tokens := New(me())
				if err := tokens.Write(d); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(victim); err != nil || string(got) != "untouched" {
					t.Errorf("victim %q, %v", got, err)
				}
				info, err := os.Lstat(Path(d, me()))
				if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
					t.Errorf("%v, %v", info, err)
				}
			})
		}
	}
	t.Run("directory", func(t *testing.T) {
		d := dir(t)
		if err := os.Mkdir(Path(d, me()), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := New(me()).Write(d); err == nil || !strings.Contains(err.Error(), Path(d, me())) {
			t.Errorf("error %v", err)
		}
		if _, err := os.Lstat(Path(d, me()) + ".new"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left behind: %v", err)
		}
	})
}

func TestDirectoryOfOthers(t *testing.T) {
	for _, mode := range []fs.FileMode{0o775, 0o757, 0o777 | fs.ModeSticky} {
		d := dir(t)
		if err := os.Chmod(d, mode); err != nil {
			t.Fatal(err)
		}
		if err := New(me()).Write(d); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("%v: %v", mode, err)
		}
	}
	if err := New(me()).Write(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if me() != 0 {
		t.Skip("needs root: to make a directory of another uid")
	}
	d := dir(t)
	if err := os.Chown(d, 1500, -1); err != nil {
		t.Fatal(err)
	}
	if err := New(0).Write(d); err == nil || !strings.Contains(err.Error(), "belongs to uid 1500") {
		t.Errorf("error %v", err)
	}
}

func TestUsers(t *testing.T) {
	d := dir(t)
	if me() != 0 {
		// One that we may not give away does not keep the others from theirs.
		err := New(me()+1, me()).Write(d)
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("error %v", err)
		}
		if left, err := os.ReadDir(d); err != nil || len(left) != 1 || left[0].Name() != name(me()) {
			t.Errorf("files %v, %v", left, err)
		}
		t.Skip("needs root: to give files to other uids")
	}
	tokens := New(1500, 1501)
	if err := tokens.Write(d); err != nil {
		t.Fatal(err)
	}
	for _, u := range tokens.users {
		info, err := os.Lstat(Path(d, u.uid))
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != u.uid || info.Mode() != 0o600 {
			t.Errorf("uid %d has %v of uid %d", u.uid, info.Mode(), st.Uid)
		}
		if got, err := os.ReadFile(Path(d, u.uid)); err != nil || string(got) != u.token {
			t.Errorf("uid %d: %q, %v", u.uid, got, err)
		}
	}
}
