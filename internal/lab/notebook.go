package lab

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Metadata is resource-metadata.json on the notebook instance alice-nb of
// fakeaws' own scenario.
const Metadata = `{"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/alice-nb", "ResourceName": "alice-nb"}`

// Notebook is a machine or Studio app on which the daemon runs: its metadata,
// its user and the daemon's settings.
type Notebook struct {
	Name     string // of its files in the lab
	Metadata string // content of resource-metadata.json
	UID      int
	Home     string
	// IMDS or Container is where its base session comes from; with neither, the
	// addresses of the platform.
	IMDS, Container, ContainerPath string
	// IMDSPort and ContainerPort are those of the faces on the host's own
	// loopback; 0 opens none.
	IMDSPort, ContainerPort int
	// Enter stands before every command on this notebook: nothing, or what
	// enters its network.
	Enter []string
	// Unfenced leaves the metadata service open to everybody, so that a program
	// which passes over nbidentity shows.
	Unfenced bool
	// Unlocked leaves ~/.aws to its user, whom the daemon otherwise locks out
	// where it is root and they are not.
	Unlocked bool
	// Sock is the name of the daemon's socket, if not nb.sock.
	Sock string
	// Client is the program that ~/.aws/config will name, instead of nbidentity.
	Client string
	// NoIMDSFace and NoContainerFace leave these ports to nobody.
	NoIMDSFace, NoContainerFace bool
	// Env is what the platform gives to every program, the daemon too.
	Env []string

	lab     *Lab
	account *Account
}

// NewNotebook prepares a notebook's files; home is made when it is missing.
func (l *Lab) NewNotebook(a *Account, nb Notebook) (*Notebook, error) {
	nb.lab, nb.account = l, a
	if nb.Home == "" {
		nb.Home = filepath.Join(l.Dir, nb.Name, "home")
	}
	if err := os.MkdirAll(nb.Home, 0o755); err != nil {
		return nil, err
	}
	if err := os.Lchown(nb.Home, nb.UID, nb.UID); err != nil && os.Geteuid() == 0 {
		return nil, err
	}
	if _, err := l.writeFile(nb.Name+"/resource-metadata.json", nb.Metadata); err != nil {
		return nil, err
	}
	return &nb, os.MkdirAll(filepath.Join(l.Dir, nb.Name, "state"), 0o700)
}

func (nb *Notebook) path(name string) string { return filepath.Join(nb.lab.Dir, nb.Name, name) }

// Socket is where the daemon listens.
func (nb *Notebook) Socket() string {
	if nb.Sock != "" {
		return nb.path(nb.Sock)
	}
	return nb.path("nb.sock")
}

// Command prepares a program on the notebook, with the home directory, the
// platform's variables, these and no others.
func (nb *Notebook) Command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	env = slices.Concat([]string{"HOME=" + nb.Home}, nb.Env, env)
	return nb.lab.Command(ctx, env, slices.Concat(nb.Enter, args)...)
}

// settings is the daemon's file. Endpoints that the notebook or the account
// leaves open are the public ones, which a namespace then has to provide.
func (nb *Notebook) settings() string {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s = %q\n", key, value)
		}
	}
	line("metadata_file", nb.path("resource-metadata.json"))
	line("state_dir", nb.path("state"))
	line("socket", nb.Socket())
	line("client", cmp.Or(nb.Client, nb.lab.Program("nbidentity")))
	b.WriteString("[endpoints]\n")
	line("sts", nb.account.API)
	line("sagemaker", nb.account.API)
	line("imds", nb.IMDS)
	line("container", nb.Container)
	line("container_path", nb.ContainerPath)
	b.WriteString("[faces]\n")
	hosts := len(nb.Enter) == 0 // the ports are then the host's, which others may be using
	if hosts || nb.NoIMDSFace {
		fmt.Fprintf(&b, "imds_port = %d\n", nb.IMDSPort)
	}
	if hosts || nb.NoContainerFace {
		fmt.Fprintf(&b, "container_port = %d\n", nb.ContainerPort)
	}
	if nb.Unfenced {
		b.WriteString("[fence]\nenabled = false\n")
	}
	if nb.Unlocked {
		b.WriteString("[guard]\nlock = false\n")
	}
	fmt.Fprintf(&b, "[[user]]\nname = \"%d\"\nhome = %q\n", nb.UID, nb.Home)
	return b.String()
}

// WriteSettings writes a settings file of that name and returns its path.
func (nb *Notebook) WriteSettings(name string) (path string, err error) {
	return nb.lab.writeFile(nb.Name+"/"+name+".toml", nb.settings())
}

// StartDaemon runs nbidentityd and waits until it hands credentials out.
func (nb *Notebook) StartDaemon(ctx context.Context) (*Process, error) {
	path, err := nb.WriteSettings("nbidentityd")
	if err != nil {
		return nil, err
	}
	run := slices.Concat(nb.Enter, []string{nb.lab.Program("nbidentityd"), "run", "-settings", path})
	p, err := nb.lab.Start(ctx, "nbidentityd-"+nb.Name, nb.Env, run...)
	if err != nil {
		return nil, err
	}
	return p, p.Await(ctx, "credentials", func() bool {
		return nb.Command(ctx, nil, nb.lab.Program("nbidentity"), "--socket", nb.Socket(), "credentials").Run() == nil
	})
}
