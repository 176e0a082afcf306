package reach

import (
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/assurance"
)

const markHeader = "Test-Mark"

func TestSudoName(t *testing.T) {
	const nameless = 4000000000
	for _, tt := range []struct {
		user string
		uid  uint32
		want string
	}{
		{"0", 0, "root"},
		{"toor", 0, "root"},
		{"4000000000", nameless, "#4000000000"},
		{"from-elsewhere", nameless, "from-elsewhere"},
	} {
		if got := sudoName(Config{User: tt.user, UID: tt.uid}); got != tt.want {
			t.Errorf("%s, uid %d: %q, want %q", tt.user, tt.uid, got, tt.want)
		}
	}
}

// Sudo itself, asked of a user who has no rights and of one who has a number only.
func TestSudoItself(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: sudo tells it about others")
	}
	if _, err := exec.LookPath("sudo"); err != nil {
		t.Skip("needs sudo, which is not installed")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	if got := sudo(t.Context(), Config{User: nobody.Uid, UID: uint32(uid)}); got != assurance.No {
		t.Errorf("nobody: %q", got)
	}
	if got := sudo(t.Context(), Config{User: "4000000000", UID: 4000000000}); got == assurance.Yes {
		t.Errorf("a number: %q", got)
	}
}

// service answers as a metadata service, ours when it has a mark.
func service(t *testing.T, mark string) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mark != "" {
			w.Header().Set(markHeader, mark)
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(s.Close)
	return address(t, s.URL)
}

func address(t *testing.T, base string) netip.AddrPort {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddrPort(u.Host)
}

func TestBase(t *testing.T) {
	nobody := netip.MustParseAddrPort("127.0.0.1:1") // a port that is given to nobody
	ours, platform, other := service(t, "m1"), service(t, ""), service(t, "m2")
	for _, tt := range []struct {
		name string
		at   []netip.AddrPort
		want assurance.Answer
		says string
	}{
		{"ours", []netip.AddrPort{ours}, assurance.No, "redirected"},
		{"platform's", []netip.AddrPort{platform}, assurance.Yes, "reached"},
		{"with another mark", []netip.AddrPort{other}, assurance.Yes, "reached"},
		{"nobody", []netip.AddrPort{nobody}, assurance.No, "refused"},
		{"one of two", []netip.AddrPort{nobody, platform}, assurance.Yes, "reached"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Observe(t.Context(), Config{User: "me", UID: uint32(os.Geteuid()), Metadata: tt.at, MarkHeader: markHeader, Mark: "m1"})
			if got.BaseReached != tt.want || !strings.Contains(got.BaseReason, tt.says) || got.SameUID != assurance.Yes {
				t.Errorf("got %+v, want %s and %q", got, tt.want, tt.says)
			}
		})
	}
}

func TestBaseNotPermitted(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user: root may act as anyone")
	}
	got := Observe(t.Context(), Config{User: "root", UID: 0, Metadata: []netip.AddrPort{service(t, "m1")}, MarkHeader: markHeader, Mark: "m1"})
	if got.BaseReached != assurance.Unknown || !strings.Contains(got.BaseReason, "CAP_SETUID") {
		t.Errorf("got %+v", got)
	}
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	openParents(t, dir)
	path := filepath.Join(dir, "docker.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	me, group := uint32(os.Geteuid()), uint32(os.Getegid())
	for _, tt := range []struct {
		name string
		mode os.FileMode
		uid  uint32
		gids []uint32
		want assurance.Answer
	}{
		{"for its owner only", 0o600, me + 1500, []uint32{group + 1500}, assurance.No},
		{"for its group, of which the user is", 0o660, me + 1500, []uint32{group + 1500, group}, assurance.Yes},
		{"for its group, of which the user is not", 0o660, me + 1500, []uint32{group + 1500}, assurance.No},
		{"for all", 0o666, me + 1500, nil, assurance.Yes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			if got := anySocket(Config{UID: tt.uid, GIDs: tt.gids, Sockets: []string{path, path + ".none"}}); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSudo(t *testing.T) {
	if got := sudo(t.Context(), Config{User: "root", UID: 0}); got != assurance.Yes {
		t.Errorf("root: %q", got)
	}
	t.Setenv("PATH", t.TempDir())
	if got := sudo(t.Context(), Config{User: "1500", UID: 1500}); got != assurance.No {
		t.Errorf("without the program: %q", got)
	}
	for script, want := range map[string]assurance.Answer{
		"echo 'User x may run the following commands on h:'":         assurance.Yes,
		"echo 'User x is not allowed to run sudo on h.'; exit 1":     assurance.No,
		"echo 'sudo: a password is required' >&2; exit 1":            assurance.Unknown,
		"echo 'sudo: unknown user: x' >&2; echo 'unable'; exit 1":    assurance.Unknown,
		"echo 'Matching Defaults'; echo 'may run the following' >&2": assurance.Yes,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir)
		if got := sudo(t.Context(), Config{User: "x", UID: 1500}); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
}

// An access control list lets a user in whom owner, group and mode keep out.
func TestSocketWithList(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("TestSocketWithList: only root can ask the kernel as another user")
	}
	dir := t.TempDir()
	openParents(t, dir)
	path := filepath.Join(dir, "docker.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	user := Config{UID: 1500, GIDs: []uint32{1500}, Sockets: []string{path}}
	if got := anySocket(user); got != assurance.No {
		t.Errorf("without a list: %q", got)
	}
	list := []byte{2, 0, 0, 0} // version, then tag, rights and id of each entry
	for _, e := range []struct {
		tag, rights uint16
		id          uint32
	}{{1, 6, 1<<32 - 1}, {2, 6, 1500}, {4, 6, 1<<32 - 1}, {16, 6, 1<<32 - 1}, {32, 0, 1<<32 - 1}} {
		list = binary.LittleEndian.AppendUint16(list, e.tag)
		list = binary.LittleEndian.AppendUint16(list, e.rights)
		list = binary.LittleEndian.AppendUint32(list, e.id)
	}
	if err := unix.Setxattr(path, "system.posix_acl_access", list, 0); err != nil {
		t.Skip("TestSocketWithList: no access control lists here:", err)
	}
	if got := anySocket(user); got != assurance.Yes {
		t.Errorf("with a list: %q", got)
	}
	if self, err := os.ReadFile("/proc/thread-self/status"); err != nil || !strings.Contains(string(self), "Uid:\t0\t0\t0\t0\n") {
		t.Errorf("the thread is not itself again: %v\n%s", err, self)
	}
}

// openParents lets others search a test's directory.
func openParents(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChangeableFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("TestChangeableFiles: only root can make another's files")
	}
	dir := t.TempDir()
	openParents(t, dir)
	file := filepath.Join(dir, "sub", "resource-metadata.json")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	user := Config{UID: 1500, GIDs: []uint32{1500, 1501}}
	for _, tt := range []struct {
		name string
		do   func() error
		want assurance.Answer
	}{
		{"root's alone", func() error { return nil }, assurance.No},
		{"the user's group may write", func() error { return errors.Join(os.Chown(file, 0, 1501), os.Chmod(file, 0o664)) }, assurance.Yes},
		{"the user's own, read-only", func() error { return errors.Join(os.Chown(file, 1500, 0), os.Chmod(file, 0o444)) }, assurance.Yes},
		{"its directory is the user's", func() error { return errors.Join(os.Chown(file, 0, 0), os.Chown(filepath.Dir(file), 1500, 0)) }, assurance.Yes},
		{"a directory for all", func() error {
			return errors.Join(os.Chown(filepath.Dir(file), 0, 0), os.Chmod(filepath.Dir(file), 0o777))
		}, assurance.Yes},
		{"a sticky directory for all", func() error { return os.Chmod(filepath.Dir(file), 0o777|os.ModeSticky) }, assurance.No},
		{"gone", func() error { return os.Remove(file) }, assurance.Unknown},
	} {
		if err := tt.do(); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{file, link} {
			if got := user.changeable([]string{path}); got != tt.want {
				t.Errorf("%s: %s: %q, want %q", tt.name, filepath.Base(path), got, tt.want)
			}
		}
	}
	if got := user.changeable(nil); got != assurance.Unknown {
		t.Errorf("no files: %q", got)
	}
}
