package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/boot/image"
	"github.com/nbidentityd/nbidentityd/internal/lab/boot/inventory"
	"github.com/nbidentityd/nbidentityd/internal/lab/boot/machine"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

const (
	studioNet  = "space"
	studioApp  = "alice-lab" // in fakeaws' scenario, a private space of
	studioName = "alice"
	studioUser = "sagemaker-user"
	studioHome = "/home/" + studioUser
	studioDir  = "/var/tmp/nbidentityd-1000" // of the lifecycle script
	appKills   = 3
)

const (
	spaceMetadata = `{"AppType": "JupyterLab", "DomainId": "d-exampledomain", "SpaceName": "alice-space",
"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:app/d-exampledomain/alice-space/JupyterLab/default", "ResourceName": "default"`
	unifiedMetadata = spaceMetadata + `, "AdditionalMetadata": {"DataZoneDomainId": "dzd_example", "DataZoneUserId": "example", "DataZoneProjectId": "example"}`
)

// app is a Studio app of a private space.
type app struct {
	*run
	machine  *machine.Machine
	home     string // outlives an app
	roots    int
	platform []string // environment that the platform gives to the app's processes
	before   inventory.Inventory
}

// playStudio takes a space through the lives of its apps.
func (r *run) playStudio(ctx context.Context) error {
	fmt.Printf("\nStudio app %s of %s: no systemd, %s, credentials at %s\n", studioApp, studioName, studioUser, stage.ContainerAddress)
	a := &app{run: r, home: filepath.Join(r.dir, "home"), platform: []string{
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=" + r.account.ContainerPaths[studioApp], "AWS_REGION=us-east-1", "SAGEMAKER_APP_TYPE=JupyterLab",
	}}
	if err := os.Mkdir(a.home, 0o755); err != nil {
		return err
	}
	if err := os.Chown(a.home, 1000, 100); err != nil {
		return err
	}
	r.kernel = kernelLog{path: filepath.Join(a.home, "kernel.log")}
	for _, part := range []func(context.Context) error{a.create, a.install, a.kill, a.replace, a.uninstall, a.aside} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return a.machine.Stop(ctx)
}

// newApp starts an app in the space, on a new root file system, and a kernel
// in it.
func (a *app) newApp(ctx context.Context, metadata string) error {
	if a.machine != nil {
		if err := a.machine.Stop(ctx); err != nil {
			return err
		}
		if err := remove(a.machine.Root); err != nil {
			return err
		}
	}
	a.roots++
	root := filepath.Join(a.dir, fmt.Sprintf("app-%d", a.roots))
	if err := image.Unpack(ctx, a.archive, root); err != nil {
		return err
	}
	add := exec.CommandContext(ctx, "chroot", root, "useradd", "--no-create-home", "--shell", "/bin/bash", "--uid", "1000", "--gid", "100", studioUser)
	if _, err := output(add); err != nil {
		return err
	}
	err := a.furnish(root, "default", map[string]string{
		"opt/ml/metadata/resource-metadata.json": metadata + "}",
		"etc/sudoers":                            "ALL ALL=(ALL) NOPASSWD: ALL\n",
	}, nil)
	if err != nil {
		return err
	}
	a.machine = &machine.Machine{
		Lab: a.lab, Name: "app", App: true, Root: root, Network: "/run/netns/" + studioNet,
		Volumes: map[string]string{studioHome: a.home, "/opt/lab": toolDir(a.dir)},
	}
	if err := a.machine.Start(ctx); err != nil {
		return err
	}
	kernel := a.as(ctx, "python3", "/opt/lab/kernel.py", studioHome+"/kernel.log")
	if err := kernel.Start(); err != nil {
		return err
	}
	go func() { _ = kernel.Wait() }() // it ends with the app
	return nil
}

// as prepares a program of the app's user.
func (a *app) as(ctx context.Context, args ...string) *exec.Cmd {
	return a.machine.As(ctx, studioUser, a.platform, args...)
}

func (a *app) settle(ctx context.Context) error {
	return a.awaitCalls(ctx, func(string) bool { return true })
}

// onStart runs the lifecycle script as the platform does: as the app's user.
func (a *app) onStart(ctx context.Context) (string, error) {
	text, err := a.script("st.sh", "old", "*.tar.gz")
	if err != nil {
		return "", err
	}
	return a.runScript(a.machine, text, func(path string) *exec.Cmd { return a.as(ctx, path) })
}

// daemon is the pid of the one daemon in the app.
func (a *app) daemon(ctx context.Context) (string, error) {
	pids, err := output(a.machine.Command(ctx, "pgrep", "-x", "nbidentityd"))
	if err == nil && strings.Contains(pids, "\n") {
		err = fmt.Errorf("more than one daemon: %s", strings.Fields(pids))
	}
	return pids, err
}

// log is the end of what the daemon and its supervisor said.
func (a *app) log() string {
	text, err := os.ReadFile(a.machine.Path(studioDir + "/nbidentityd.log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-3000):])
}

func (a *app) create(ctx context.Context) error {
	return a.step(ctx, step{name: "app", do: func() (string, error) {
		started := time.Now()
		if err := a.newApp(ctx, spaceMetadata); err != nil {
			return "", err
		}
		if err := a.settle(ctx); err != nil {
			return "", err
		}
		var err error
		a.before, err = a.inventory(ctx)
		return fmt.Sprintf("made in %.1f s", time.Since(started).Seconds()), err
	}})
}

// start runs the script in a new app.
func (a *app) start(ctx context.Context, name string) error {
	err := a.step(ctx, step{name: name, free: true, do: func() (string, error) {
		started := time.Now()
		said, err := a.onStart(ctx)
		if err != nil {
			return "", err
		}
		took := time.Since(started)
		named, err := a.awaitName(ctx, studioName, started, attribLimit)
		if err != nil {
			err = fmt.Errorf("%w\n%s\n%s", err, said, a.log())
		}
		return fmt.Sprintf("exit 0 after %.1f s, the first call with the name after %.1f s", took.Seconds(), named.Seconds()), err
	}})
	return errors.Join(err, a.step(ctx, step{name: "boto3", want: studioName, do: func() (string, error) { return "from a kernel", a.settle(ctx) }}))
}

func (a *app) install(ctx context.Context) error {
	return errors.Join(a.start(ctx, "on-start.sh"), a.step(ctx, step{name: "on-start.sh again", want: studioName, do: func() (string, error) {
		before, err := a.daemon(ctx)
		if err != nil {
			return "", err
		}
		files, err := inventory.Take(a.home, []string{"/kernel.log"})
		if err != nil {
			return "", err
		}
		started := time.Now()
		if _, err := a.onStart(ctx); err != nil {
			return "", err
		}
		took := time.Since(started)
		after, err := a.daemon(ctx)
		if err == nil && after != before {
			err = errors.New("the daemon was started anew")
		}
		if err != nil {
			return "", err
		}
		now, err := inventory.Take(a.home, []string{"/kernel.log"})
		if changed := inventory.Compare(files, now); err == nil && len(changed) > 0 {
			err = fmt.Errorf("the home has changed:\n%s", strings.Join(changed, "\n"))
		}
		return fmt.Sprintf("the same daemon runs on, the home as it was; %.1f s", took.Seconds()), errors.Join(err, a.settle(ctx))
	}}))
}

// kill ends the daemon where it stands: the supervisor must start it again.
func (a *app) kill(ctx context.Context) error {
	return a.step(ctx, step{name: fmt.Sprintf("SIGKILL × %d", appKills), want: studioName, tolerate: 100, do: func() (string, error) {
		var pauses []time.Duration
		for range appKills {
			pid, err := a.daemon(ctx)
			if err != nil {
				return "", err
			}
			started := time.Now()
			if _, err := output(a.machine.Command(ctx, "kill", "-KILL", pid)); err != nil {
				return "", err
			}
			for {
				out, err := output(a.as(ctx, studioDir+"/bin/nbidentity", "--socket", studioDir+"/nbidentityd.sock", "credentials"))
				if err == nil {
					break
				}
				if time.Since(started) > restartLimit || ctx.Err() != nil {
					return "", fmt.Errorf("no answer %s after the daemon's end: %s\n%s", restartLimit, out, a.log())
				}
			}
			pauses = append(pauses, time.Since(started))
		}
		return fmt.Sprintf("the supervisor starts it again: answered after %d ms at first, %d ms at worst", pauses[0].Milliseconds(), slices.Max(pauses).Milliseconds()), a.settle(ctx)
	}})
}

// replace deletes the app and makes another in the same space.
func (a *app) replace(ctx context.Context) error {
	err := a.step(ctx, step{name: "app deleted, made", free: true, do: func() (string, error) {
		if err := a.newApp(ctx, spaceMetadata); err != nil {
			return "", err
		}
		config, err := os.ReadFile(filepath.Join(a.home, ".aws/config"))
		if err == nil && !strings.Contains(string(config), "credential_process") {
			err = errors.New("the home no longer has our configuration")
		}
		return "killed without notice; a new file system, the home as it was", err
	}})
	return errors.Join(err, a.start(ctx, "on-start.sh, new app"))
}

// inventory notes all that an uninstall could leave.
func (a *app) inventory(ctx context.Context) (inventory.Inventory, error) {
	all, err := inventory.Take(a.machine.Path("/"), append(slices.Clone(passing), studioHome+"/kernel.log", studioDir))
	if err != nil {
		return nil, err
	}
	for name, script := range map[string]string{
		"(login environment)": "bash -lc env | grep -v -e ^SHLVL= -e ^_=",
		"(processes)":         "ps -e -o comm= | grep -v -e ^kworker -e ^ps$ -e ^sh$ -e ^bash$ -e ^sort$ -e ^nsenter$ -e ^setpriv$ -e ^grep$",
		"(sockets)":           "ss --no-header --listening --tcp --udp --numeric; ss --no-header --listening --unix",
	} {
		if all[name], err = output(a.as(ctx, "sh", "-c", "("+script+") | sort -u")); err != nil {
			return nil, err
		}
	}
	all["(packet rules)"], err = output(a.machine.Host(ctx, "nft", "list", "ruleset"))
	return all, err
}

// uninstall does what lifecycle/README.md says, in the running app; what then
// lies outside the home goes with the app.
func (a *app) uninstall(ctx context.Context) error {
	return a.step(ctx, step{name: "uninstall", free: true, do: func() (string, error) {
		said, err := output(a.as(ctx, studioDir+"/uninstall"))
		if err != nil {
			return "", err
		}
		if err := a.awaitCalls(ctx, func(line string) bool { return strings.HasSuffix(line, "/"+lab.PlatformName) }); err != nil {
			return "", fmt.Errorf("%w\n%s", err, said)
		}
		if left, err := output(a.machine.Command(ctx, "pgrep", "--full", "--list-full", "nbidentityd|supervise")); err == nil {
			return "", fmt.Errorf("there still runs: %s\n%s", left, a.log())
		}
		if err := a.newApp(ctx, spaceMetadata); err != nil {
			return "", err
		}
		if err := a.settle(ctx); err != nil {
			return "", err
		}
		return a.untouched(ctx, a.before, "calls are the platform's again, no trace", said)
	}})
}

// untouched says that the app is as it was.
func (a *app) untouched(ctx context.Context, before inventory.Inventory, figure, said string) (string, error) {
	after, err := a.inventory(ctx)
	if left := inventory.Compare(before, after); err == nil && len(left) > 0 {
		err = fmt.Errorf("%d traces:\n%s\nthe program said: %s", len(left), strings.Join(left[:min(20, len(left))], "\n"), said)
	}
	return fmt.Sprintf("%d files, processes and the environment compared: %s", len(after), figure), err
}

// aside runs the script where Unified Studio names its users: it must leave
// everything alone but its own directory, which goes with the app.
func (a *app) aside(ctx context.Context) error {
	return a.step(ctx, step{name: "Unified Studio", do: func() (string, error) {
		if err := a.newApp(ctx, unifiedMetadata); err != nil {
			return "", err
		}
		if err := a.settle(ctx); err != nil {
			return "", err
		}
		before, err := a.inventory(ctx)
		if err != nil {
			return "", err
		}
		started := time.Now()
		said, err := a.onStart(ctx)
		if err != nil {
			return "", err
		}
		took := time.Since(started)
		if err := a.settle(ctx); err != nil {
			return "", err
		}
		return a.untouched(ctx, before, fmt.Sprintf("stepped aside in %.1f s, nothing written", took.Seconds()), said)
	}})
}
