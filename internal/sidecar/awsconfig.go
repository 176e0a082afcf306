package sidecar

import (
	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// guardConfigs makes every user's SDKs ask us, and returns who keeps it so. A
// file that cannot be written does not keep the others, nor the daemon, from
// working: it shows in the status and is tried again.
func guardConfigs(set settings.Settings, users []notebookuser.User, nb identity.Notebook, log *zap.Logger) []*configguard.Guard {
	var guards []*configguard.Guard
	for _, u := range users {
		cfg := blueprint.GuardConfig(u, set, nb, log)
		if _, err := blueprint.WriteConfig(cfg); err != nil {
			log.Error("aws config not written", zap.String("user", u.Name), zap.Error(err))
		}
		guards = append(guards, configguard.New(cfg))
	}
	return guards
}

// reportConfig says what a guard has seen last.
func reportConfig(s configguard.State) status.ConfigFile {
	f := status.ConfigFile{Path: s.Path, Written: s.Written, Problem: s.Problem, Immutable: s.Immutable, Unlocked: s.Reason, Tampers: s.Tampers}
	if wrong := append(s.Shadows, s.Faults...); f.Problem == "" && len(wrong) > 0 {
		f.Problem = wrong[0].String()
	}
	return f
}
