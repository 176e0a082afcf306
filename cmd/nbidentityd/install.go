package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"

	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/installation"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

func runInstall(ctx context.Context, p program, args []string) error {
	var dry bool
	cfg, err := p.installation("install", args, func(fs *flag.FlagSet) {
		fs.BoolVar(&dry, "dry-run", false, "only say what would change, here and by the daemon")
	})
	if err != nil {
		return err
	}
	if cfg.Notebook, err = identity.ReadFile(cfg.Settings.MetadataFile); err != nil {
		return err
	}
	if reason, aside := blueprint.StepsAside(blueprint.Aside(cfg.Notebook, p.getenv)); aside {
		fmt.Fprintln(p.stdout, "nothing is installed:", reason)
		return nil
	}
	var steps []installation.Step
	if dry {
		steps, err = installation.Preview(cfg)
	} else {
		steps, err = installation.Install(ctx, cfg)
	}
	p.show(steps)
	return err
}

func runUninstall(ctx context.Context, p program, args []string) error {
	cfg, err := p.installation("uninstall", args, func(*flag.FlagSet) {})
	if err != nil {
		return err
	}
	// What the metadata says is no more needed.
	if cfg.Notebook, err = identity.ReadFile(cfg.Settings.MetadataFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(p.stderr, "nbidentityd: going on without:", err)
	}
	steps, err := installation.Uninstall(ctx, cfg)
	p.show(steps)
	return err
}

// installation reads the flags and the settings that they name. define adds the
// command's own.
func (p program) installation(name string, args []string, define func(*flag.FlagSet)) (cfg installation.Config, err error) {
	var path string
	err = p.flags(name, args, func(fs *flag.FlagSet) {
		fs.StringVar(&path, "settings", settings.DefaultPath, "settings `file`")
		fs.BoolVar(&cfg.RestartJupyter, "restart-jupyter", false, "restart a running Jupyter whose environment has changed, without waiting; this ends its kernels")
		define(fs)
	})
	if err != nil {
		return cfg, err
	}
	if cfg.Settings, err = settings.Load(path); err != nil {
		return cfg, err
	}
	cfg.Users, err = notebookuser.Find(cfg.Settings.Users)
	return cfg, err
}

func (p program) show(steps []installation.Step) {
	for _, s := range steps {
		fmt.Fprint(p.stdout, s)
	}
}
