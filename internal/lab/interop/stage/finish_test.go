package stage

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// On CI nothing may be left out, and no failure may look like success.
func TestFinish(t *testing.T) {
	lacking := fmt.Errorf("preparing: %w", Lacking{"needs root"})
	for _, tt := range []struct {
		name           string
		err            error
		ci             bool
		code           int
		stdout, stderr string
	}{
		{"done", nil, true, 0, "", ""},
		{"lacking", lacking, false, 0, "x: skipped: needs root", ""},
		{"lacking on CI", lacking, true, 1, "", "x: skipped: needs root"},
		{"failures shown", errors.Join(ErrShown, nil), false, 1, "", ""},
		{"failed", errors.New("no network"), false, 1, "", "x: no network"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := Finish("x", tt.err, tt.ci, &stdout, &stderr)
			if code != tt.code || strings.TrimSpace(stdout.String()) != tt.stdout || strings.TrimSpace(stderr.String()) != tt.stderr {
				t.Errorf("code %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
			}
		})
	}
}
