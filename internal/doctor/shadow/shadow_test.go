package shadow

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
)

// TestTwoVariablesOfOneKind sees that both are found: a sheet takes one finding of a kind
// about a process.
func TestTwoVariablesOfOneKind(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	dir := filepath.Join(proc, "7")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"cmdline": "python\x00-m\x00ipykernel", "environ": "AWS_CONFIG_FILE=/x\x00AWS_SHARED_CREDENTIALS_FILE=/y", "stat": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	user := User{Name: "u", UID: os.Getuid(), GID: os.Getgid(), Home: "/home/u"}
	r := report.Examine(t.Context(), []report.Check{{Name: "kernels", Run: func(ctx context.Context, s *report.Sheet) error {
		return Kernels(ctx, proc, []User{user}, Told{}, s)
	}}})
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Saw, "AWS_CONFIG_FILE") || !strings.Contains(r.Findings[0].Saw, "AWS_SHARED_CREDENTIALS_FILE") {
		t.Errorf("%+v", r)
	}
}
