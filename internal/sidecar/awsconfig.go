package sidecar

import (
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// managed is what [default] in ~/.aws/config must say.
func managed(set settings.Settings, region string) awsconfig.Managed {
	command := set.Client
	if set.Socket != settings.Default().Socket {
		command += " --socket " + set.Socket
	}
	return awsconfig.Managed{
		CredentialProcess:    command + " credentials",
		Region:               region,
		STSRegionalEndpoints: "regional",
	}
}

// GuardConfig is one user's, with a directory of the daemon's own for what the
// text of the file cannot remember.
func GuardConfig(u notebookuser.User, set settings.Settings, region string, log *zap.Logger) configguard.Config {
	return configguard.Config{
		Home: u.Home, UID: u.UID, GID: u.GID,
		Managed:  managed(set, region),
		StateDir: filepath.Join(set.StateDir, "aws-config", u.Name),
		Log:      log.Named("configguard"),
	}
}

// guardConfigs makes every user's SDKs ask us, and returns who keeps it so. A
// file that cannot be written does not keep the others, nor the daemon, from
// working: it shows in the status and is tried again.
func guardConfigs(set settings.Settings, users []notebookuser.User, region string, log *zap.Logger) []*configguard.Guard {
	var guards []*configguard.Guard
	for _, u := range users {
		cfg := GuardConfig(u, set, region, log)
		if _, err := WriteConfig(cfg); err != nil {
			log.Error("aws config not written", zap.String("user", u.Name), zap.Error(err))
		}
		guards = append(guards, configguard.New(cfg))
	}
	return guards
}

// reportConfig says what a guard has seen last.
func reportConfig(s configguard.State) status.ConfigFile {
	f := status.ConfigFile{Path: s.Path, Written: s.Written, Problem: s.Problem, Immutable: s.Immutable, Tampers: s.Tampers}
	if f.Problem == "" && len(s.Shadows) > 0 {
		f.Problem = s.Shadows[0].String()
	}
	return f
}

// WriteConfig makes one user's SDKs ask us.
func WriteConfig(cfg configguard.Config) (configguard.Result, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return configguard.Result{}, fmt.Errorf("making the state directory: %w", err)
	}
	return configguard.Write(cfg)
}
