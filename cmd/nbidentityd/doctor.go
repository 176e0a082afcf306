package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/nbidentityd/nbidentityd/internal/doctor"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// errFound means that something was found; it is on stdout already.
const errFound = exitCode(3)

// runDoctor examines this notebook or, with -notebook, -domain or -role, the AWS
// side of one from elsewhere.
func runDoctor(ctx context.Context, p program, args []string) error {
	cfg := doctor.Config{Version: version, Program: found(), Getenv: p.getenv, Proc: "/proc", SettingsPath: settings.DefaultPath}
	var admin doctor.Admin
	var asJSON bool
	var ignore []string
	list := func(to *[]string) func(string) error {
		return func(s string) error {
			*to = append(*to, strings.Split(s, ",")...)
			return nil
		}
	}
	err := p.flags("doctor", args, func(fs *flag.FlagSet) {
		fs.BoolVar(&asJSON, "json", false, "write JSON instead of text")
		fs.Func("ignore", "`id` of a finding that is accepted; comma lists, and may be repeated", list(&ignore))
		fs.Func("job-role", "`role` (name or ARN) that is passed to SageMaker jobs; comma lists, and may be repeated", list(&cfg.JobRoles))
		fs.StringVar(&cfg.SettingsPath, "settings", cfg.SettingsPath, "the daemon's settings `file`, on the notebook")
		fs.StringVar(&admin.Notebook, "notebook", "", "examine the notebook instance of this `name` from an administrator's machine")
		fs.StringVar(&admin.Domain, "domain", "", "examine the Studio domain of this `id` from an administrator's machine")
		fs.StringVar(&admin.Profile, "profile-name", "", "user profile of the -domain, by `name`")
		fs.StringVar(&admin.Role, "role", "", "`ARN` of the role that is assumed, when it is not the execution role; alone: examine this role, from an administrator's machine")
		fs.StringVar(&admin.AWS.Region, "region", "", "`region` to ask in, from an administrator's machine; default: that of your AWS configuration")
	})
	if err != nil {
		return err
	}
	if admin.Notebook+admin.Domain+admin.Profile+admin.Role != "" {
		cfg.Settings = settings.Default()
		if err := callersOwn(ctx, &admin.AWS); err != nil {
			return err
		}
		if err := admin.Check(); err != nil {
			fmt.Fprintln(p.stderr, "nbidentityd doctor:", err)
			return errUsage
		}
		cfg.Admin = &admin
	} else {
		if cfg.Settings, cfg.SettingsProblem = settings.Load(cfg.SettingsPath); cfg.SettingsProblem != nil {
			cfg.Settings = settings.Default()
		}
		cfg.Systemctl = systemctl()
	}
	report := doctor.Run(ctx, cfg).Without(ignore)
	if asJSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", " ")
		err = enc.Encode(report)
	} else {
		err = report.WriteText(p.stdout)
	}
	switch {
	case err != nil:
		return err
	case len(report.Findings) > 0:
		return errFound
	case len(report.Checks) == 0:
		return exitCode(1)
	}
	return nil
}

// found is this program as a shell finds it: in Studio it is in no directory of
// the PATH.
func found() string {
	if _, err := exec.LookPath("nbidentityd"); err == nil {
		return ""
	}
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return path
}

// systemctl is the program that asks systemd, "" where systemd does not run.
func systemctl() string {
	if info, err := os.Lstat("/run/systemd/system"); err != nil || !info.IsDir() { // sd_booted(3)
		return ""
	}
	path, err := exec.LookPath("systemctl")
	if err != nil {
		return ""
	}
	return path
}

// callersOwn are the credentials and region of whoever runs the command, from
// wherever the AWS CLI would take them. An explicit region wins.
func callersOwn(ctx context.Context, to *aws.Config) error {
	own, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return fmt.Errorf("reading the AWS configuration: %w", err)
	}
	to.Credentials = own.Credentials
	if to.Region == "" {
		to.Region = own.Region
	}
	return nil
}
