package doctor_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/doctor"
	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/fault"
	"github.com/nbidentityd/nbidentityd/internal/lab/executable"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// atMost is the limit and what a busy machine needs to begin and to end; what
// hangs here does so for longer.
const atMost = doctor.Limit + 30*time.Second

// TestEverythingHangs wants an end within 15 seconds when nothing answers: AWS,
// the daemon and systemd.
func TestEverythingHangs(t *testing.T) {
	if doctor.Limit >= 15*time.Second {
		t.Errorf("it may take %s", doctor.Limit)
	}
	for _, where := range []string{"imds", "sts", "sagemaker", "iam", "*"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, classic)
			s.start()
			hang(s)
			s.must(s.account.Faults.Set(fault.Fault{Service: where, Kind: fault.Hang}))
			s.systemd = map[string]string{}
			s.must(executable.Write(s.shims+"/systemctl", []byte("#!/bin/sh\nsleep 90\n")))
			began := time.Now()
			r := s.examine()
			if took := time.Since(began); took > atMost {
				t.Errorf("it took %s", took)
			}
			if !slices.Contains(ids(r), "daemon_hung") {
				t.Errorf("no word of the daemon:\n%s", text(t, r))
			}
			if !slices.ContainsFunc(r.Gaps, func(g report.Gap) bool { return strings.Contains(g.Reason, "systemctl") }) {
				t.Errorf("no word of systemd:\n%s", text(t, r))
			}
		})
	}
}

// TestWithoutMetadata wants no call to AWS by a program that does not know where
// it is, and still a word on what can be seen.
func TestWithoutMetadata(t *testing.T) {
	set := settings.Default()
	set.MetadataFile = t.TempDir() + "/none"
	set.Endpoints.STS = "https://sts.amazonaws.com"
	r := doctor.Run(context.Background(), doctor.Config{Settings: set, SettingsPath: "/etc/nbidentityd/nbidentityd.toml", Getenv: func(string) string { return "" }, Proc: "/proc"})
	got := ids(r)
	for _, id := range []string{"metadata", "sts_global_endpoint", "daemon_down"} {
		if !slices.Contains(got, id) {
			t.Errorf("%s was not found among %v", id, got)
		}
	}
	for _, f := range r.Findings {
		if strings.HasPrefix(f.ID, "sts_") && f.ID != "sts_global_endpoint" {
			t.Errorf("AWS was asked: %s", f.Saw)
		}
	}
}
