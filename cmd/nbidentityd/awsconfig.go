package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/netfence"
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

// guardConfig is one user's, with a directory of the daemon's own for what the
// text of the file cannot remember.
func guardConfig(u notebookUser, m awsconfig.Managed, stateDir string, log *zap.Logger) configguard.Config {
	return configguard.Config{
		Home: u.home, UID: u.uid, GID: u.gid,
		Managed:  m,
		StateDir: filepath.Join(stateDir, "aws-config", u.name),
		Log:      log.Named("configguard"),
	}
}

// guardConfigs makes every user's SDKs ask us, and returns who keeps it so. A
// file that cannot be written does not keep the others, nor the daemon, from
// working: it shows in the status and is tried again.
func guardConfigs(set settings.Settings, users []notebookUser, region string, log *zap.Logger) []*configguard.Guard {
	var guards []*configguard.Guard
	for _, u := range users {
		cfg := guardConfig(u, managed(set, region), set.StateDir, log)
		if _, err := writeConfig(cfg); err != nil {
			log.Error("aws config not written", zap.String("user", u.name), zap.Error(err))
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

func writeConfig(cfg configguard.Config) (configguard.Result, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return configguard.Result{}, fmt.Errorf("making the state directory: %w", err)
	}
	return configguard.Write(cfg)
}

func runInstall(_ context.Context, p program, args []string) error {
	var dry bool
	define := func(fs *flag.FlagSet) { fs.BoolVar(&dry, "dry-run", false, "only say what would change") }
	_, err := eachUser(p, "install", args, define, func(cfg configguard.Config) error {
		do := writeConfig
		if dry {
			do = configguard.Preview
		}
		result, err := do(cfg)
		if err == nil {
			p.describe(result, dry)
		}
		return err
	})
	return err
}

func runUninstall(ctx context.Context, p program, args []string) error {
	set, err := eachUser(p, "uninstall", args, func(*flag.FlagSet) {}, func(cfg configguard.Config) error {
		result, err := configguard.Undo(cfg)
		if err == nil {
			p.describe(result, false)
		}
		return err
	})
	// The fence goes last: as long as a file still points at us, it may stand.
	if err == nil && fenced(set) {
		if err := netfence.Remove(ctx); err != nil && !errors.Is(err, netfence.ErrNotPermitted) {
			return fmt.Errorf("taking the fence down: %w", err)
		}
	}
	return err
}

// eachUser does something to every notebook user's file, and goes on after a
// failure. define adds the command's own flags. It returns the settings that it
// went by.
func eachUser(p program, name string, args []string, define func(*flag.FlagSet), do func(configguard.Config) error) (settings.Settings, error) {
	var path string
	err := p.flags(name, args, func(fs *flag.FlagSet) {
		fs.StringVar(&path, "settings", settings.DefaultPath, "settings `file`")
		define(fs)
	})
	if err != nil {
		return settings.Settings{}, err
	}
	set, err := settings.Load(path)
	if err != nil {
		return settings.Settings{}, err
	}
	users, err := notebookUsers(set.Users)
	if err != nil {
		return settings.Settings{}, err
	}
	nb, err := readNotebook(set)
	if err != nil {
		return settings.Settings{}, err
	}
	var failed []error
	for _, u := range users {
		if err := do(guardConfig(u, managed(set, nb.Region), set.StateDir, zap.NewNop())); err != nil {
			failed = append(failed, fmt.Errorf("user %s: %w", u.name, err))
		}
	}
	return set, errors.Join(failed...)
}

func (p program) describe(r configguard.Result, dry bool) {
	what := "in order"
	switch {
	case r.Removed:
		what = "removed"
	case r.Created && r.Changed:
		what = "created"
	case r.Changed:
		what = "changed"
	}
	if dry && r.Changed {
		what = "would be " + what
	}
	fmt.Fprintf(p.stdout, "%s: %s\n", r.Path, what)
	for _, c := range r.Changes {
		fmt.Fprintf(p.stdout, "  %s\n", c)
	}
	for _, s := range r.Shadows {
		fmt.Fprintf(p.stdout, "  in the way: %s\n", s)
	}
}

func readNotebook(set settings.Settings) (identity.Notebook, error) {
	return identity.ReadFile(set.MetadataFile)
}
