package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab/boot/image"
	"github.com/nbidentityd/nbidentityd/internal/lab/boot/inventory"
	"github.com/nbidentityd/nbidentityd/internal/lab/boot/machine"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

const (
	instanceNet  = "instance"
	instanceName = "alice-nb"
	instanceUser = "ec2-user"
	daemonUnit   = "nbidentityd.service"
)

// instance is a notebook instance.
type instance struct {
	*run
	machine *machine.Machine
	volume  string // what outlives a stop, at /home/ec2-user/SageMaker
	roots   int    // file systems that it has had
	before  inventory.Inventory
}

// playInstance takes a notebook instance from its creation to a clean removal.
func (r *run) playInstance(ctx context.Context) (err error) {
	fmt.Printf("\nnotebook instance %s: systemd, %s without root, credentials at %s\n", instanceName, instanceUser, stage.IMDSAddress)
	n := &instance{run: r, volume: filepath.Join(r.dir, "volume")}
	if err := os.Mkdir(n.volume, 0o755); err != nil {
		return err
	}
	if err := os.Chown(n.volume, 1000, 1000); err != nil {
		return err
	}
	r.kernel = kernelLog{path: filepath.Join(n.volume, "kernel.log")}
	for _, part := range []func(context.Context) error{
		n.create, n.install, n.restart, n.kill, n.hang, n.upgrade, n.rebuild, n.uninstall, n.byHand, n.uninstall,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return n.machine.Stop(ctx)
}

// newRoot makes the file system with which the platform starts an instance.
func (n *instance) newRoot(ctx context.Context) error {
	n.roots++
	root := filepath.Join(n.dir, fmt.Sprintf("instance-%d", n.roots))
	if err := image.Unpack(ctx, n.archive, root); err != nil {
		return err
	}
	n.machine = &machine.Machine{
		Lab: n.lab, Name: "notebook", Root: root, Network: "/run/netns/" + instanceNet,
		Volumes: map[string]string{"/home/ec2-user/SageMaker": n.volume, "/opt/lab": toolDir(n.dir)},
	}
	add := exec.CommandContext(ctx, "chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", "--uid", "1000", "--user-group", instanceUser)
	if _, err := output(add); err != nil {
		return err
	}
	return n.furnish(root, "notebook", map[string]string{
		"opt/ml/metadata/resource-metadata.json": `{"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/` + instanceName +
			`", "ResourceName": "` + instanceName + `"}`,
		"etc/opt/ml/sagemaker-notebook-instance-version.txt": "notebook-al2023-v1\n",
		"etc/systemd/system/jupyter-server.service": `[Unit]
Description=Jupyter, or what stands for it here
[Service]
User=ec2-user
WorkingDirectory=/home/ec2-user/SageMaker
ExecStart=/usr/bin/python3 /opt/lab/kernel.py /home/ec2-user/SageMaker/kernel.log
Restart=always
`,
	}, map[string]string{
		"etc/systemd/system/multi-user.target.wants/jupyter-server.service": "../jupyter-server.service",
		// Housekeeping would change files meanwhile.
		"etc/systemd/system/timers.target":         "/dev/null",
		"etc/systemd/system/console-getty.service": "/dev/null",
	})
}

// create starts the machine as the platform does, and shows what its calls
// look like without us.
func (n *instance) create(ctx context.Context) error {
	return n.step(ctx, step{name: "machine", do: func() (string, error) {
		started := time.Now()
		if err := n.newRoot(ctx); err != nil {
			return "", err
		}
		made := time.Since(started)
		started = time.Now()
		if err := n.machine.Start(ctx); err != nil {
			return "", err
		}
		booted := time.Since(started)
		if err := n.settle(ctx); err != nil {
			return "", err
		}
		_, err := n.boto3(ctx)
		return fmt.Sprintf("made in %.1f s, systemd up %.2f s after its start", made.Seconds(), booted.Seconds()), err
	}})
}

// settle waits until Jupyter calls.
func (n *instance) settle(ctx context.Context) error {
	return n.awaitCalls(ctx, func(string) bool { return true })
}

// boto3 is one call by a program that the notebook's user starts from a
// terminal, and returns the caller's ARN.
func (n *instance) boto3(ctx context.Context) (string, error) {
	const program = `import boto3; print(boto3.client("sts", region_name="us-east-1").get_caller_identity()["Arn"])`
	return output(n.machine.As(ctx, instanceUser, nil, "/bin/bash", "-lc", "exec python3 -c '"+program+"'"))
}

// onStart runs the on-start script as the platform does.
func (n *instance) onStart(ctx context.Context, packages string) (string, error) {
	text, err := n.script("nb.sh", packages, "*.deb")
	if err != nil {
		return "", err
	}
	return n.runScript(n.machine, text, func(path string) *exec.Cmd { return n.machine.Command(ctx, path) })
}

// install runs the script for the first time, and again.
func (n *instance) install(ctx context.Context) error {
	return errors.Join(
		n.start(ctx, "on-start.sh"),
		n.step(ctx, step{name: "on-start.sh again", want: instanceName, do: func() (string, error) {
			before, err := n.mainPID(ctx)
			if err != nil {
				return "", err
			}
			started := time.Now()
			if _, err := n.onStart(ctx, "old"); err != nil {
				return "", err
			}
			took := time.Since(started)
			after, err := n.mainPID(ctx)
			if err == nil && after != before {
				err = errors.New("the daemon was started anew")
			}
			return fmt.Sprintf("the same daemon runs on; %.1f s", took.Seconds()), errors.Join(err, n.settle(ctx))
		}}),
	)
}

// start runs the script on a machine that has just been made.
func (n *instance) start(ctx context.Context, name string) error {
	var figure string
	err := n.step(ctx, step{name: name, free: true, do: func() (string, error) {
		started := time.Now()
		said, err := n.onStart(ctx, "old")
		if err != nil {
			return "", err
		}
		took := time.Since(started)
		named, err := n.awaitName(ctx, instanceName, started, attribLimit)
		figure = fmt.Sprintf("%.1f s", named.Seconds())
		if err != nil {
			err = fmt.Errorf("%w\n%s\n%s", err, said, n.journal(ctx))
		}
		return fmt.Sprintf("exit 0 after %.1f s, the first call with the name after %s", took.Seconds(), figure), err
	}})
	return errors.Join(err, n.named(ctx))
}

// named calls AWS from a terminal and from Jupyter.
func (n *instance) named(ctx context.Context) error {
	return n.step(ctx, step{name: "boto3", want: instanceName, do: func() (string, error) {
		if _, err := n.boto3(ctx); err != nil {
			return "", err
		}
		if err := n.settle(ctx); err != nil {
			return "", err
		}
		status, err := output(n.machine.As(ctx, instanceUser, nil, "nbidentity", "status", "--json"))
		if err == nil && !strings.Contains(status, `"enforced"`) {
			err = fmt.Errorf("the assurance is not enforced:\n%s", status)
		}
		return "from a terminal and from Jupyter; assurance enforced", err
	}})
}

// restart restarts systemd and all that it runs, on the same files.
func (n *instance) restart(ctx context.Context) error {
	return n.step(ctx, step{name: "reboot", want: instanceName, do: func() (string, error) {
		started := time.Now()
		if err := n.machine.Reboot(ctx); err != nil {
			return "", err
		}
		booted := time.Since(started)
		named, err := n.awaitName(ctx, instanceName, started, attribLimit)
		if err != nil {
			return "", fmt.Errorf("%w\n%s", err, n.journal(ctx))
		}
		_, err = n.boto3(ctx)
		return fmt.Sprintf("up after %.1f s, the first call with the name after %.1f s", booted.Seconds(), named.Seconds()), err
	}})
}

// mainPID is the daemon's, on the machine.
func (n *instance) mainPID(ctx context.Context) (string, error) {
	pid, err := output(n.machine.Command(ctx, "systemctl", "show", "--property=MainPID", "--value", daemonUnit))
	if err == nil && pid == "0" {
		err = errors.New("the daemon does not run")
	}
	return pid, err
}

// journal is the end of what the daemon and systemd said.
func (n *instance) journal(ctx context.Context) string {
	out, _ := n.machine.Command(ctx, "journalctl", "--no-pager", "--lines=25", "--output=cat").CombinedOutput() // a help, not a judgement
	return string(out)
}
