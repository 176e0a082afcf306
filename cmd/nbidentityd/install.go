package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/netfence"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
	"github.com/nbidentityd/nbidentityd/internal/sidecar"
)

func runInstall(_ context.Context, p program, args []string) error {
	var dry bool
	define := func(fs *flag.FlagSet) { fs.BoolVar(&dry, "dry-run", false, "only say what would change") }
	_, err := eachUser(p, "install", args, define, func(cfg configguard.Config) error {
		do := sidecar.WriteConfig
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
	if err == nil && sidecar.Fenced(set) {
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
	users, err := notebookuser.Find(set.Users)
	if err != nil {
		return settings.Settings{}, err
	}
	nb, err := identity.ReadFile(set.MetadataFile)
	if err != nil {
		return settings.Settings{}, err
	}
	var failed []error
	for _, u := range users {
		if err := do(sidecar.GuardConfig(u, set, nb.Region, zap.NewNop())); err != nil {
			failed = append(failed, fmt.Errorf("user %s: %w", u.Name, err))
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
