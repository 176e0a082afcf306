package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/rendering"
	"github.com/nbidentityd/nbidentityd/lifecycle"
)

// studioApps are the types of apps that have lifecycle configurations.
var studioApps = []string{"JupyterLab", "CodeEditor", "JupyterServer", "KernelGateway"}

// fleetFlags are those of the policy command and what a fleet needs besides.
type fleetFlags struct {
	policyFlags
	file, s3Endpoint         string
	apps                     string
	bucketExists, failClosed bool
}

// runFleet writes one template of everything that a fleet needs.
func runFleet(_ context.Context, p program, args []string) error {
	var f fleetFlags
	if err := f.parse(p, "fleet", args, f.define); err != nil {
		return err
	}
	fleet, err := f.fleet()
	if err != nil {
		return err
	}
	set, err := f.generate()
	if err != nil {
		return err
	}
	surface := lifecycle.NotebookInstance
	if len(fleet.Apps) > 0 {
		surface = lifecycle.Studio
	}
	fleet.Script, err = lifecycle.Script(surface, lifecycle.Choices{
		Package: "s3://" + fleet.Bucket + "/" + fleet.Key, SHA256: fleet.SHA256, S3Endpoint: f.s3Endpoint,
		Settings: daemonSettings(set, f.template), FailClosed: f.failClosed,
	})
	if err != nil {
		return err
	}
	if f.explain {
		return set.Explain(p.stdout)
	}
	return rendering.WriteFleet(p.stdout, set, rendering.Format(f.format), fleet)
}

func (f *fleetFlags) define(fs *flag.FlagSet) {
	f.policyFlags.define(fs)
	format := fs.Lookup("format")
	format.Usage, format.DefValue = fmt.Sprintf("`language` to write, one of %v", rendering.FleetFormats()), string(rendering.CloudFormationYAML)
	f.format = format.DefValue
	fs.StringVar(&f.file, "file", "", "`package` that make dist has made: the .rpm for notebook instances, the .tar.gz for Studio")
	fs.StringVar(&f.apps, "app", "JupyterLab,CodeEditor", fmt.Sprintf("`types` of Studio apps, of %v", studioApps))
	fs.BoolVar(&f.bucketExists, "bucket-exists", false, "the bucket of -package is there already")
	fs.StringVar(&f.s3Endpoint, "s3-endpoint", "", "`URL` of a VPC endpoint of S3 without private DNS")
	fs.BoolVar(&f.failClosed, "fail-closed", false, "a notebook on which the daemon cannot be installed does not start")
}

// fleet reads the package and says where it is to be.
func (f *fleetFlags) fleet() (rendering.Fleet, error) {
	fleet := rendering.Fleet{File: f.file, BucketExists: f.bucketExists}
	if f.Package == "" || f.file == "" {
		return fleet, errors.New("a fleet needs -file, a package of make dist, and -package, the bucket/prefix to keep it in")
	}
	name := filepath.Base(f.file)
	bucket, prefix, _ := strings.Cut(f.Package, "/")
	fleet.Bucket, fleet.Key = bucket, path.Join(prefix, name)
	studio := f.Mode == iampolicy.StudioPropagation || f.Mode == iampolicy.PerProfile || f.kind == "profile" || f.kind == "space"
	switch {
	case strings.HasSuffix(name, ".tar.gz") && f.Mode != iampolicy.PerNotebook && f.Mode != iampolicy.Launcher:
		fleet.Apps = strings.Split(f.apps, ",")
	case strings.HasSuffix(name, ".rpm") && !studio:
	default:
		return fleet, fmt.Errorf("%s is not a package for mode %s: notebook instances take the .rpm, Studio the .tar.gz", name, f.Mode)
	}
	for _, app := range fleet.Apps {
		if !slices.Contains(studioApps, app) {
			return fleet, fmt.Errorf("%q is not a type of app: use those of %v", app, studioApps)
		}
	}
	in, err := os.Open(f.file)
	if err != nil {
		return fleet, fmt.Errorf("reading the package: %w", err)
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return fleet, fmt.Errorf("reading the package %s: %w", f.file, err)
	}
	fleet.SHA256 = fmt.Sprintf("%x", sum.Sum(nil))
	return fleet, nil
}

// daemonSettings are the settings that go with the documents.
func daemonSettings(set *iampolicy.Set, template string) string {
	var lines []string
	if set.DaemonRole != "" {
		lines = append(lines, fmt.Sprintf("role.arn = %q", set.DaemonRole))
	}
	if template != "{name}" {
		lines = append(lines, fmt.Sprintf("identity.session_name = %q", template))
	}
	return strings.Join(lines, "\n")
}
