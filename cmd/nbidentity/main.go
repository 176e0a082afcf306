// Command nbidentity is what notebook users and their AWS SDKs call:
//
//	nbidentity [--socket PATH] credentials      the credential_process
//	nbidentity [--socket PATH] status [--json]  who the AWS calls are made as
//	nbidentity [--socket PATH] profile add NAME KEY=VALUE...
//	nbidentity [--socket PATH] profile remove NAME
//	                                            named profiles of ~/.aws/config,
//	                                            which may be locked
//
// It starts with every SDK session, so it is built to start fast: system calls
// instead of packages net, net/http, encoding/json and fmt, and no AWS SDK.
//
// credentials prints one process-credentials JSON object by one write and
// nothing on stderr. When it fails it prints nothing on stdout, one line
// "nbidentity: CODE: message" on stderr, and exits 1. It never reads stdin and
// ends within 4 seconds. Some SDKs (JavaScript, Java, C++) fall through to the
// notebook's plain role when it fails, and stay there. So while the daemon
// restarts it is patient to the end of its 3.5 seconds; only where the socket's
// directory does not exist, because nbidentityd is not installed or was taken
// away, does it fail at once.
//
// status exits 0 when the state is ok, 3 when it is anything else, and 1 when
// the daemon cannot be asked; for that it takes at most a second of patience.
//
// It is longer than most, and the one command with more than wiring, because it
// does by system calls what packages would do for it (ask.go, answer.go).
package main

import (
	"syscall"
	_ "unsafe" // for go:linkname
)

// version is set by the linker.
var version = "dev"

const defaultSocket = "/run/nbidentityd/nbidentityd.sock"

const (
	second = int64(1e9)
	limit  = 3*second + second/2
)

const usage = `usage: nbidentity [--socket PATH] credentials
       nbidentity [--socket PATH] status [--json]
       nbidentity [--socket PATH] profile add NAME KEY=VALUE...
       nbidentity [--socket PATH] profile remove NAME
       nbidentity --version

credentials  print credentials for an AWS SDK's credential_process
status       say who AWS calls from this notebook are made as;
             exit 0: ok, 3: not ok, 1: the daemon cannot be asked
profile      add a named profile to your ~/.aws/config, or remove one, such as
             nbidentity profile add work region=eu-west-1 source_profile=default

The default socket is ` + defaultSocket + `.
`

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitNotOK  = 3
)

func main() { syscall.Exit(run(args()[1:])) }

// args is where os.Args comes from. Package os, and what it initialises at
// every start, costs about a twentieth of the time of a call.
//
//go:linkname args os.runtime_args
func args() []string

// call is a parsed command line.
type call struct {
	command string // credentials, status, add, remove, help or version
	socket  string
	json    bool
	profile string
	keys    string // of the profile: lines of key=value
}

func run(args []string) int {
	c, problem := parseArgs(args)
	if problem != "" {
		write(2, []byte("nbidentity: "+oneLine(problem, 200)+"\n"+usage))
		return exitUsage
	}
	var code int
	var err error
	switch c.command {
	case "help":
		err = write(1, []byte(usage))
	case "version":
		err = write(1, []byte("nbidentity "+version+"\n"))
	case "credentials":
		err = credentials(c.socket)
	case "status":
		code, err = status(c.socket, c.json)
	case "add":
		err = change(c, "POST")
	case "remove":
		err = change(c, "DELETE")
	}
	if err != nil {
		write(2, []byte(oneLine("nbidentity: "+err.Error(), 299)+"\n"))
		return exitFailed
	}
	return code
}

// parseArgs returns what is asked for, or what is wrong with it.
func parseArgs(args []string) (c call, problem string) {
	c.socket = defaultSocket
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--help" || arg == "-h":
			return call{command: "help"}, ""
		case arg == "--version":
			return call{command: "version"}, ""
		case arg == "--socket":
			if i++; i == len(args) {
				return c, "--socket needs a path"
			}
			c.socket = args[i]
		case len(arg) >= 9 && arg[:9] == "--socket=":
			c.socket = arg[9:]
		case arg == "--json" && c.command == "status":
			c.json = true
		case c.command == "" && (arg == "credentials" || arg == "status"):
			c.command = arg
		case c.command == "" && arg == "profile":
			return parseProfile(c, args[i+1:])
		default:
			return c, "unexpected argument: " + arg
		}
	}
	switch {
	case c.command == "":
		return c, "say what to do"
	case c.socket == "" || c.socket[0] == '@':
		return c, "--socket needs the path of a socket"
	}
	return c, ""
}

// parseProfile takes all arguments after "profile". Options stand before it.
func parseProfile(c call, args []string) (_ call, problem string) {
	if len(args) < 2 || args[0] != "add" && args[0] != "remove" {
		return c, "say: profile add NAME KEY=VALUE..., or: profile remove NAME"
	}
	c.command, c.profile = args[0], args[1]
	for _, b := range []byte(c.profile) {
		// It becomes a part of a request's first line.
		if b <= ' ' || b > '~' || b == '/' || b == '?' || b == '%' || b == '#' {
			return c, "not the name of a profile: " + c.profile
		}
	}
	for _, arg := range args[2:] {
		equals := 0
		for i := range len(arg) {
			switch {
			case arg[i] == '\n':
				return c, "a value of one line is wanted: " + arg
			case arg[i] == '=' && equals == 0:
				equals = i
			}
		}
		if equals == 0 {
			return c, "want KEY=VALUE: " + arg
		}
		c.keys += arg + "\n"
	}
	switch {
	case c.profile == "":
		return c, "the profile has no name"
	case (c.command == "add") != (c.keys != ""):
		return c, "a profile is added with at least one KEY=VALUE, and removed without"
	case len(c.keys) > maxProfile:
		return c, "too much for one profile"
	}
	return c, ""
}

// change adds a profile or removes one, and says what the daemon says.
func change(c call, method string) error {
	a, err := ask(question{
		socket: c.socket, method: method, path: "/v1/profiles/" + c.profile, accept: "text/plain", body: c.keys,
		maxBody: maxStatus, patience: second, limit: limit,
	})
	if err != nil {
		return err
	}
	if err := refused(a); err != nil {
		return err
	}
	return write(1, printable(a.body))
}

func credentials(socket string) error {
	a, err := ask(question{
		socket: socket, method: "GET", path: "/v1/credentials", accept: "application/json",
		maxBody: maxCredentials, patience: limit, limit: limit,
	})
	if err != nil {
		return err
	}
	if err := refused(a); err != nil {
		return err
	}
	if !isCredentials(a.body) {
		return &failure{"bad_answer", "the answer is not a credential"}
	}
	return write(1, a.body)
}

func status(socket string, json bool) (int, error) {
	accept := "text/plain"
	if json {
		accept = "application/json"
	}
	a, err := ask(question{
		socket: socket, method: "GET", path: "/v1/status", accept: accept,
		maxBody: maxStatus, patience: second, limit: limit,
	})
	if err != nil {
		return exitFailed, err
	}
	if err := refused(a); err != nil {
		return exitFailed, err
	}
	if err := write(1, printable(a.body)); err != nil {
		return exitFailed, err
	}
	if a.state != "ok" {
		return exitNotOK, nil
	}
	return exitOK, nil
}

// refused returns the daemon's reason when a is not what was asked for.
func refused(a answer) error {
	switch {
	case a.status == 200:
		return nil
	case a.code == "":
		return &failure{"bad_answer", "the daemon refused without a reason"}
	default:
		return &failure{oneLine(a.code, 40), a.message}
	}
}

// write writes all of b to fd, by one system call if the kernel takes it.
func write(fd int, b []byte) error {
	deadline := now() + second/4
	for len(b) > 0 {
		n, err := syscall.Write(fd, b)
		switch {
		case n > 0:
			b = b[n:]
		case err == syscall.EINTR:
		case err == syscall.EAGAIN && now() < deadline: // a pipe that somebody made non-blocking
			sleep(1e6)
		default:
			return &failure{"output", "writing the answer: " + err.Error()}
		}
	}
	return nil
}
