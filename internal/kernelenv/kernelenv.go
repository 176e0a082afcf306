// Package kernelenv says by which files a notebook's kernels and terminals learn
// where the daemon's faces are, so that an SDK whose credential_process fails
// asks the daemon, and not the base session. It is text and paths only; package
// installation writes and removes them.
//
// Every SDK looks along its chain: environment keys and the profile first, then
// AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, then AWS_CONTAINER_CREDENTIALS_FULL_URI
// with AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, then the metadata service of
// AWS_EC2_METADATA_SERVICE_ENDPOINT (AWS SDKs and Tools Reference Guide,
// "Container credential provider" and "IMDS credential provider"). With the
// variables set and no daemon behind them an SDK fails: JavaScript and C++ take
// the container provider instead of the metadata service, Java asks a metadata
// service at which nobody listens.
//
// Three files reach what a platform starts:
//
//   - profile.d: login shells, which are Jupyter's terminals, and on a notebook
//     instance Jupyter itself, whose unit sources it;
//   - IPython's system-wide start-up directory: Python kernels, whenever and by
//     whomever Jupyter was started (seen in IPython 9.18 with ipykernel 7.4);
//   - on a notebook instance a drop-in of Jupyter's unit, for what it starts by
//     no shell.
//
// Who is not root can write none of them, and has IPython's start-up directory
// in the home for their own Python kernels.
//
// In Studio the platform has put RELATIVE_URI, which wins over FULL_URI in every
// SDK, into the environment of the app. Shells and Python kernels take it out
// of theirs. Not reached there: kernels of other languages, extensions of the
// app, shells that are not login shells (Code Editor's terminals), and the
// app's own process. Nowhere reached: what runs already, what is started by
// cron, sudo or another user, and who sets the variables otherwise.
package kernelenv

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
)

// User is one whose kernels and terminals are told.
type User struct {
	UID       uint32
	TokenFile string // of the container face
}

// Config says what to tell them.
type Config struct {
	Users []User // the first one runs Jupyter
	// IMDS and Container are the URLs of the faces; "" is a face that is closed.
	IMDS, Container string
	// Studio: the platform sets the variable that wins over ours, and Jupyter is
	// not systemd's.
	Studio bool
	// Home is that of the first user, where only they write: the one file then
	// goes there. "" is root's way.
	Home string
}

// File is one that must be there, readable by all.
type File struct {
	Path string // absolute
	Text []byte
}

// Where the files are.
const (
	ProfilePath = "/etc/profile.d/nbidentityd.sh"
	StartupPath = "/etc/ipython/startup/00-nbidentityd.py"
	DropInPath  = "/etc/systemd/system/" + JupyterUnit + ".d/nbidentityd.conf"
	// JupyterUnit is Jupyter's on a notebook instance of Amazon Linux 2 and 2023.
	JupyterUnit = "jupyter-server.service"

	homeStartup = ".ipython/profile_default/startup/00-nbidentityd.py"
)

// Paths lists every file that root's Plan makes.
func Paths() []string { return []string{ProfilePath, StartupPath, DropInPath} }

// HomePath is the one file in a home.
func HomePath(home string) string { return filepath.Join(home, homeStartup) }

// mark begins each file, and is how one is known for ours.
const mark = "# Written by nbidentityd install; nbidentityd uninstall removes it.\n"

// Ours reports whether text is that of a file of Plan's, of whatever version.
func Ours(text []byte) bool { return bytes.HasPrefix(text, []byte(mark)) }

const relativeURI = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"

// plain is a value that shells, Python and systemd read alike without quoting.
var plain = lazyregexp.New(`^[A-Za-z0-9_./:@+-]+$`)

type variable struct{ name, value string }

// variables are what one user must be told, none if the faces are closed.
func (c Config) variables(u User) []variable {
	var all []variable
	if c.Container != "" {
		all = append(all, variable{"AWS_CONTAINER_CREDENTIALS_FULL_URI", c.Container},
			variable{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", u.TokenFile})
	}
	if c.IMDS != "" {
		all = append(all, variable{"AWS_EC2_METADATA_SERVICE_ENDPOINT", c.IMDS})
	}
	return all
}

// hides reports whether the platform's variable must go: only where ours takes
// its place.
func (c Config) hides() bool { return c.Studio && c.Container != "" }

// Plan returns the files, none if there is nothing to tell.
func Plan(c Config) ([]File, error) {
	if len(c.Users) == 0 || c.IMDS == "" && c.Container == "" {
		return nil, nil
	}
	for _, u := range c.Users {
		for _, v := range c.variables(u) {
			if !plain.MatchString(v.value) {
				return nil, fmt.Errorf("telling kernels %s=%q: it must not need quoting: letters, digits and _./:@+-", v.name, v.value)
			}
		}
	}
	if c.Home != "" {
		return []File{{HomePath(c.Home), c.startup()}}, nil
	}
	files := []File{{ProfilePath, c.profile()}, {StartupPath, c.startup()}}
	if !c.Studio {
		files = append(files, File{DropInPath, c.dropIn()})
	}
	return files, nil
}

// profile is for sh: Debian's login shell may be dash.
func (c Config) profile() []byte {
	var b strings.Builder
	b.WriteString(mark + "# It makes AWS SDKs that pass over ~/.aws/config ask nbidentityd for credentials.\n" +
		"case \"$(/usr/bin/id -u)\" in\n")
	for _, u := range c.Users {
		fmt.Fprintf(&b, "%d)\n", u.UID)
		for _, v := range c.variables(u) {
			fmt.Fprintf(&b, "\texport %s=%s\n", v.name, v.value)
		}
		if c.hides() {
			fmt.Fprintf(&b, "\tunset %s\n", relativeURI)
		}
		b.WriteString("\t;;\n")
	}
	b.WriteString("esac\n")
	return []byte(b.String())
}

// startup leaves no name behind in the user's session.
func (c Config) startup() []byte {
	var b strings.Builder
	b.WriteString(mark + "# It makes AWS SDKs that pass over ~/.aws/config ask nbidentityd for credentials.\n" +
		"def _nbidentityd():\n    import os\n    told = {\n")
	for _, u := range c.Users {
		fmt.Fprintf(&b, "        %d: {\n", u.UID)
		for _, v := range c.variables(u) {
			fmt.Fprintf(&b, "            %q: %q,\n", v.name, v.value)
		}
		b.WriteString("        },\n")
	}
	b.WriteString("    }.get(os.getuid())\n    if told:\n        os.environ.update(told)\n")
	if c.hides() {
		fmt.Fprintf(&b, "        os.environ.pop(%q, None)\n", relativeURI)
	}
	b.WriteString("\n\n_nbidentityd()\ndel _nbidentityd\n")
	return []byte(b.String())
}

func (c Config) dropIn() []byte {
	var b strings.Builder
	b.WriteString(mark + "[Service]\n")
	for _, v := range c.variables(c.Users[0]) {
		fmt.Fprintf(&b, "Environment=%s=%s\n", v.name, v.value)
	}
	return []byte(b.String())
}
