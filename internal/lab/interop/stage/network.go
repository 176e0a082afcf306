package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
)

// Addresses of the platform, and one where all of AWS's host names lead.
const (
	IMDSAddress      = "169.254.169.254"
	ContainerAddress = "169.254.170.2"
	APIAddress       = "10.9.255.1"
)

// Notebook is one machine on the stage.
type Notebook struct {
	Name     string
	Platform string // the one address at which the platform gives credentials
}

// hostNames are those that the clients and the leftover configurations need.
var hostNames = []string{
	"sts.amazonaws.com", "sts.us-east-1.amazonaws.com", "sts.us-west-2.amazonaws.com", "sts.eu-west-1.amazonaws.com",
	"s3.amazonaws.com", "s3.us-east-1.amazonaws.com", "sagemaker-us-east-1-111122223333.s3.us-east-1.amazonaws.com",
	"api.sagemaker.us-east-1.amazonaws.com",
}

// Source is the address from which the calls of Build's i-th notebook come.
func Source(i int) string { return fmt.Sprintf("10.9.%d.2", i) }

// checkOwn makes sure that the platform's addresses cannot get onto a network
// that somebody else uses: on a cloud machine they are real.
func checkOwn() error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	if os.Getpid() != 1 || len(links) != 1 || links[0].Flags&net.FlagLoopback == 0 || links[0].Flags&net.FlagUp != 0 {
		return errors.New("this process has no new namespaces of its own: it must be started by Start")
	}
	return nil
}

// network joins this namespace, which is AWS, with one for each notebook. A
// notebook reaches AWS's API and one address of the platform, nothing else:
// there is no default route.
func network(ctx context.Context, notebooks []Notebook) error {
	commands := []string{
		"link set lo up",
		"addr add " + APIAddress + "/32 dev lo",
	}
	for i, n := range notebooks {
		name, ours, theirs := n.Name, fmt.Sprintf("10.9.%d.1", i), Source(i)+"/24"
		commands = append(commands,
			"netns add "+name,
			"-n "+name+" link set lo up",
			"link add "+name+" type veth peer name eth0 netns "+name,
			"addr add "+ours+"/24 dev "+name,
			"addr add "+n.Platform+"/32 dev "+name,
			"link set "+name+" up",
			"-n "+name+" addr add "+theirs+" dev eth0",
			"-n "+name+" link set eth0 up",
			"-n "+name+" route add "+n.Platform+" dev eth0",
			"-n "+name+" route add "+APIAddress+" via "+ours,
		)
	}
	for _, c := range commands {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w\n%s", c, err, out)
		}
	}
	return nil
}

// Enter is what stands before a command to run it on a notebook's network.
func Enter(notebook string) []string {
	return []string{"nsenter", "--net=/run/netns/" + notebook, "--"}
}

// hosts makes AWS's names lead to fakeaws. The machine's own is there since sudo
// asks for it, and nobody on the stage answers.
func hosts() string {
	own, _ := os.Hostname() // "" is no name, and none is missing
	return "127.0.0.1 localhost " + own + "\n" + APIAddress + " " + strings.Join(hostNames, " ") + "\n"
}
