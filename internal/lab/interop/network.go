package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Addresses of the platform, and one where all of AWS's host names lead.
const (
	imdsAddress      = "169.254.169.254"
	containerAddress = "169.254.170.2"
	apiAddress       = "10.9.255.1"
)

// hostNames are those that the clients and the leftover configurations need.
var hostNames = []string{
	"sts.amazonaws.com", "sts.us-east-1.amazonaws.com", "sts.us-west-2.amazonaws.com", "sts.eu-west-1.amazonaws.com",
	"s3.amazonaws.com", "s3.us-east-1.amazonaws.com", "sagemaker-us-east-1-111122223333.s3.us-east-1.amazonaws.com",
	"api.sagemaker.us-east-1.amazonaws.com",
}

// checkOwn makes sure that the platform's addresses cannot get onto a network
// that somebody else uses: on a cloud machine they are real.
func checkOwn() error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	if os.Getpid() != 1 || len(links) != 1 || links[0].Flags&net.FlagLoopback == 0 || links[0].Flags&net.FlagUp != 0 {
		return errors.New("-stage is for interop itself: this process has no new namespaces of its own")
	}
	return nil
}

// network joins this namespace, which is AWS, with one for each notebook. A
// notebook reaches AWS's API and one address of the platform, nothing else:
// there is no default route.
func network(ctx context.Context, notebooks []trial) error {
	commands := []string{
		"link set lo up",
		"addr add " + apiAddress + "/32 dev lo",
	}
	for i, t := range notebooks {
		name, ours, theirs := t.notebook.Name, fmt.Sprintf("10.9.%d.1", i), fmt.Sprintf("10.9.%d.2/24", i)
		commands = append(commands,
			"netns add "+name,
			"-n "+name+" link set lo up",
			"link add "+name+" type veth peer name eth0 netns "+name,
			"addr add "+ours+"/24 dev "+name,
			"addr add "+t.platform+"/32 dev "+name,
			"link set "+name+" up",
			"-n "+name+" addr add "+theirs+" dev eth0",
			"-n "+name+" link set eth0 up",
			"-n "+name+" route add "+t.platform+" dev eth0",
			"-n "+name+" route add "+apiAddress+" via "+ours,
		)
	}
	for _, c := range commands {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w\n%s", c, err, out)
		}
	}
	return nil
}

// enter is what stands before a command to run it on a notebook's network.
func enter(notebook string) []string {
	return []string{"nsenter", "--net=/run/netns/" + notebook, "--"}
}

// mounts makes this process's view of the files its own: what it mounts is seen
// by its children alone. Names of namespaces go to a /run of its own, and what
// clients leave in /tmp goes to the lab, where it is searched for secrets.
func mounts(tmp string) error {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", 0},
		{"tmpfs", "/run", "tmpfs", 0},
		{tmp, "/tmp", "", unix.MS_BIND},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mounting on %s: %w", m.target, err)
		}
	}
	return nil
}

// hosts makes AWS's names lead to fakeaws.
func hosts() string {
	return "127.0.0.1 localhost\n" + apiAddress + " " + strings.Join(hostNames, " ") + "\n"
}
