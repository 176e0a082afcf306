package host

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// judged are the ids of what Daemon finds and notes.
func judged(c Config, r status.Report, err error) (found, noted []string) {
	got := report.Examine(context.Background(), []report.Check{{Name: "daemon", Run: func(_ context.Context, s *report.Sheet) error {
		c.Daemon(r, err, s)
		return nil
	}}})
	for _, f := range got.Findings {
		found = append(found, f.ID)
	}
	for _, n := range got.Notes {
		noted = append(noted, n.ID)
	}
	return found, noted
}

// What only a machine with packet rules, an attacker or an older program can
// report.
func TestDaemon(t *testing.T) {
	for _, tt := range []struct {
		name         string
		config       Config
		report       status.Report
		err          error
		found, noted []string
	}{
		{"in order", Config{Fenced: true, IMDSPort: 938}, status.Report{Fence: &status.Fence{Intact: true}, Faces: []string{"http://127.0.0.1:938"}}, nil, nil, nil},
		{"fence down", Config{Fenced: true}, status.Report{Fence: &status.Fence{Problem: "no CAP_NET_ADMIN"}}, nil, []string{"fence_down"}, nil},
		{"fence off", Config{}, status.Report{Fence: &status.Fence{Problem: "off"}}, nil, nil, []string{"fence_off"}},
		{"fence repaired", Config{Fenced: true}, status.Report{Fence: &status.Fence{Intact: true, Repairs: 3}}, nil, nil, []string{"fence_repairs"}},
		{"another port", Config{IMDSPort: 938}, status.Report{Faces: []string{"http://127.0.0.1:9380", "http://127.0.0.1:937/v1/container-credentials"}}, nil, []string{"face_closed"}, nil},
		{"container face", Config{ContainerPort: 937}, status.Report{Faces: []string{"http://127.0.0.1:937/v1/container-credentials"}}, nil, nil, nil},
		{"stepped aside", Config{Fenced: true, IMDSPort: 938}, status.Report{State: status.SteppedAside, Fence: &status.Fence{}}, nil, nil, nil},
		{"tampered", Config{}, status.Report{ConfigFiles: []status.ConfigFile{{Path: "/home/u/.aws/config", Written: true, Tampers: 2}}}, nil, nil, []string{"config_tampers"}},
		{"upgraded", Config{Version: "2"}, status.Report{Version: "1"}, nil, []string{"daemon_outdated"}, nil},
		{"no status", Config{}, status.Report{}, errors.New("asking: 500"), []string{"daemon_hung"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, noted := judged(tt.config, tt.report, tt.err)
			if !slices.Equal(found, tt.found) || !slices.Equal(noted, tt.noted) {
				t.Errorf("found %v, want %v; noted %v, want %v", found, tt.found, noted, tt.noted)
			}
		})
	}
}
