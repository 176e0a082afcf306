package peer

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func pair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", fmt.Sprintf("@%s-%d", t.Name(), os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

func TestOfSelf(t *testing.T) {
	server, _ := pair(t)
	got, err := Of(server)
	if err != nil {
		t.Fatal(err)
	}
	want := Cred{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), PID: int32(os.Getpid())}
	if got != want {
		t.Errorf("Of = %+v, want %+v", got, want)
	}
}

func TestOfNotUnix(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if c, err := Of(a); err == nil {
		t.Errorf("Of(pipe) = %+v, want an error", c)
	}
	server, client := pair(t)
	client.Close()
	server.Close()
	if c, err := Of(server); err == nil {
		t.Errorf("Of(closed) = %+v, want an error", c)
	}
}

func TestExe(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got := Exe(int32(os.Getpid())); got != printable(self) {
		t.Errorf("Exe(self) = %q, want %q", got, self)
	}
	for _, pid := range []int32{0, -1, -1 << 31, 1<<31 - 1} {
		if got := Exe(pid); got != "" {
			t.Errorf("Exe(%d) = %q, want nothing", pid, got)
		}
	}
}

func TestExeHostileName(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("needs sleep: " + err.Error())
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	// The name must still select the program in multi-call binaries.
	path := filepath.Join(t.TempDir(), "x\x1b]0;y\n\u202e", "sleep")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "60")
	if err := cmd.Start(); err != nil {
		t.Skip("needs a temporary directory that may hold programs: " + err.Error())
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if got := Exe(int32(cmd.Process.Pid)); !strings.HasSuffix(got, "x?]0;y??/sleep") {
		t.Errorf("Exe = %q", got)
	}
}

func TestPrintable(t *testing.T) {
	long := printable("/" + strings.Repeat("é", 4000) + "/end")
	if len(long) > maxExe || !utf8.ValidString(long) || !strings.HasSuffix(long, "/end") {
		t.Errorf("long path became %d bytes: %q", len(long), long)
	}
	if got := printable("/a\xff\x00b"); got != "/a??b" {
		t.Errorf("printable = %q", got)
	}
}

// A program's path is its user's choice, and goes into lines of a log.
func FuzzPrintable(f *testing.F) {
	f.Add("/usr/bin/python3.12 (deleted)")
	f.Add("/x\x1b]0;y\n\u202e\ufffd")
	f.Add(strings.Repeat("é", maxExe/2-1) + "\xff/…")
	f.Fuzz(func(t *testing.T, path string) {
		got := printable(path)
		if len(got) > maxExe || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
			t.Errorf("%q became %q", path, got)
		}
		if (got == "") != (path == "") || printable(got) != got {
			t.Errorf("%q became %q, then %q", path, got, printable(got))
		}
	})
}
