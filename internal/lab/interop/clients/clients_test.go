package clients

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// Two runs of the same commit must meet the same clients.
func TestEverythingIsPinned(t *testing.T) {
	pin := regexp.MustCompile(`^[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*$`)
	for _, name := range []string{"python/requirements.txt", "python/constraints.txt"} {
		for line := range strings.Lines(read(t, name)) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !pin.MatchString(line) {
				t.Errorf("%s: %q is not a pin", name, line)
			}
		}
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity, Resolved string }
	}
	if err := json.Unmarshal([]byte(read(t, "js/package-lock.json")), &lock); err != nil {
		t.Fatal(err)
	}
	for name, p := range lock.Packages {
		if name != "" && (p.Version == "" || p.Integrity == "") {
			t.Errorf("js/package-lock.json: %s has no version or no hash", name)
		}
		if p.Resolved != "" {
			t.Errorf("js/package-lock.json: %s names the registry that it came from", name)
		}
	}
	if len(lock.Packages) < 2 {
		t.Error("js/package-lock.json locks nothing")
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
