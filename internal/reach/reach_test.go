package reach

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/assurance"
)

// asProbe makes the test binary be the probe.
const asProbe = "--as-probe="

func TestMain(m *testing.M) {
	for _, arg := range os.Args[1:] {
		if target, ok := strings.CutPrefix(arg, asProbe); ok {
			var t Target
			if err := json.Unmarshal([]byte(target), &t); err != nil {
				panic(err)
			}
			_ = json.NewEncoder(os.Stdout).Encode(Probe(context.Background(), t))
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// service answers as a metadata service that lists role.
func service(t *testing.T, role string, status int) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		if r.Method == http.MethodPut {
			fmt.Fprint(w, "token")
			return
		}
		fmt.Fprint(w, role)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestProbeMetadata(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, tt := range []struct {
		name string
		urls []string
		want assurance.Answer
		says string
	}{
		{"ours", []string{service(t, "nbidentityd", 200)}, assurance.No, "leads to nbidentityd"},
		{"platform's", []string{service(t, "BaseNotebookInstanceEc2InstanceRole", 200)}, assurance.Yes, "answered"},
		{"somebody refuses", []string{service(t, "", 403)}, assurance.Yes, "HTTP 403"},
		{"nobody", []string{closed.URL}, assurance.No, "is refused"},
		{"one of two", []string{closed.URL, service(t, "Base", 200)}, assurance.Yes, "answered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Probe(t.Context(), Target{Metadata: tt.urls, OurRole: "nbidentityd"})
			if got.Base != tt.want || !strings.Contains(got.BaseReason, tt.says) {
				t.Errorf("got %+v, want %s and %q", got, tt.want, tt.says)
			}
		})
	}
}

func TestProbeSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := Probe(t.Context(), Target{Sockets: []string{path}}); got.DockerSocket != assurance.Yes {
		t.Errorf("an open socket: %+v", got)
	}
	if got := Probe(t.Context(), Target{Sockets: []string{path + ".none"}}); got.DockerSocket != assurance.No {
		t.Errorf("no socket: %+v", got)
	}
}

// program copies the test binary to where every uid can run it.
func program(t *testing.T, target Target) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "reach")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	copied := filepath.Join(dir, "probe")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, data, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	return []string{copied, asProbe + string(text)}
}

// A socket that only root may open is out of an ordinary user's reach, and in
// root's.
func TestObserveAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: only root starts a process under another uid")
	}
	path := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{User: "1500", UID: 1500, GID: 1500, Program: program(t, Target{Sockets: []string{path}, Metadata: []string{service(t, "x", 200)}})}
	got, err := Observe(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got.SameUID != assurance.No || got.DockerSocket != assurance.No || got.BaseReached != assurance.Yes || got.Sudo == assurance.Yes {
		t.Errorf("as 1500: %+v", got)
	}
	cfg.User, cfg.UID, cfg.GID = "root", 0, 0
	if got, err = Observe(t.Context(), cfg); err != nil || got.SameUID != assurance.Yes || got.DockerSocket != assurance.Yes || got.Sudo != assurance.Yes {
		t.Errorf("as root: %+v, %v", got, err)
	}
}

func TestObserveFails(t *testing.T) {
	me := uint32(os.Geteuid())
	got, err := Observe(t.Context(), Config{User: "me", UID: me, Program: []string{"/bin/false"}})
	if err == nil || got.BaseReached != assurance.Unknown || got.BaseReason == "" || got.DockerSocket != assurance.Unknown {
		t.Errorf("a probe that fails: %+v, %v", got, err)
	}
	got, err = Observe(t.Context(), Config{User: "me", UID: me, Program: []string{"/bin/echo", "hello"}})
	if err == nil || got.BaseReached != assurance.Unknown {
		t.Errorf("a probe that talks nonsense: %+v, %v", got, err)
	}
	if me != 0 {
		got, err = Observe(t.Context(), Config{User: "root", UID: 0, Program: []string{"/bin/true"}})
		if err == nil || !strings.Contains(err.Error(), "CAP_SETUID") || got.BaseReached != assurance.Unknown {
			t.Errorf("another uid without root: %+v, %v", got, err)
		}
	}
}
