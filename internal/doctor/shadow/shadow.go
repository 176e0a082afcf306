// Package shadow finds what makes a notebook's SDKs take other credentials than
// nbidentityd's: the environment of running kernels, and the user's own AWS
// files.
//
// All of it is written by the notebook's user, who may be hostile to a reader
// that is root. So files are read through package safefile, sizes are bounded,
// and of the environment only the names below are looked at; the values of those
// that may be secret (keys, tokens) are never kept. A user can make a read of
// their process's memory hang: whoever calls must not wait for ever.
//
// Which client prefers what is documented for none of them together; it was read
// in their sources and tried with real ones.
package shadow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
)

// User is somebody who runs notebooks.
type User struct {
	Name     string
	UID, GID int
	Home     string
}

// maxEnviron bounds what is read of a process. The kernel allows 6 MB; what
// AWS clients look for stands in the first page of ordinary kernels.
const maxEnviron = 1 << 20

// Told is what the kernels of a machine are told of the daemon's faces.
type Told struct {
	Since           time.Time // those that started before were not; zero: it is not known
	IMDS, Container string    // the URLs; "" is none
}

// Kernels looks at the environment and the age of the users' running kernels and
// Jupyter servers under proc, which is /proc.
func Kernels(ctx context.Context, proc string, users []User, told Told, s *report.Sheet) error {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return fmt.Errorf("looking for running kernels: %w", err)
	}
	seen, closed := 0, 0
	groups := map[string]*group{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || ctx.Err() != nil {
			continue
		}
		p, err := readProcess(proc, pid, users)
		switch {
		case errors.Is(err, errNotKernel), errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ESRCH):
			continue
		case err != nil:
			closed++
			continue
		}
		seen++
		for _, f := range append(p.shadows(), p.old(told)...) {
			key := f.ID + "\n" + p.user.Name + "\n" + f.Saw
			if groups[key] == nil {
				groups[key] = &group{finding: f, user: p.user}
			}
			groups[key].pids = append(groups[key].pids, pid)
			groups[key].program = p.program
		}
	}
	for _, g := range groups {
		s.Find(g.done())
	}
	if closed > 0 {
		s.Gap("environment of kernels", "%d running kernels could not be looked into; run doctor as root", closed)
	}
	return ctx.Err()
}

// group is one finding of several processes.
type group struct {
	finding report.Finding
	user    User
	program string
	pids    []int
}

func (g *group) done() report.Finding {
	f := g.finding
	slices.Sort(g.pids)
	var pids []string
	for _, p := range g.pids {
		pids = append(pids, strconv.Itoa(p))
	}
	f.Subject = fmt.Sprintf("%s, pid %s", g.program, strings.Join(pids, " "))
	f.Commands = []string{
		fmt.Sprintf("grep -sE '%s' /etc/environment /etc/profile.d/* %s/.bashrc %[2]s/.bash_profile %[2]s/.profile", strings.Join(variables(f.ID), "|"), g.user.Home),
		"kill " + strings.Join(pids, " "),
	}
	if f.ID == idOld {
		f.Commands = f.Commands[1:]
		f.Hint = "the command ends them: kernels are lost, so save first, or restart each from its notebook. Jupyter's server is started again by systemd, or with the app"
		return f
	}
	f.Hint = "the first command shows where it is set: take it out there. The second ends the kernels that still have it; they are lost, so save first, or restart each from its notebook."
	return f
}

// Environ is one variable of a process, "" when it has none or it cannot be read.
func Environ(proc string, pid int, name string) string {
	dir, err := os.OpenRoot(filepath.Join(proc, strconv.Itoa(pid)))
	if err != nil {
		return ""
	}
	defer dir.Close()
	environ, err := readBounded(dir, "environ", maxEnviron)
	if err != nil {
		return ""
	}
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if key, value, found := strings.Cut(string(entry), "="); found && key == name {
			return value
		}
	}
	return ""
}

// process is a kernel, a Jupyter server, or another program that starts them.
type process struct {
	user    User
	program string
	env     map[string]string // of the names in known; secret values are empty
	started time.Time         // zero if it cannot be known
}

var errNotKernel = errors.New("not a kernel of a notebook user")

// readProcess looks at one process. The directory is held open, so that all that
// is read belongs to one process even if its pid goes to another.
func readProcess(proc string, pid int, users []User) (process, error) {
	dir, err := os.OpenRoot(filepath.Join(proc, strconv.Itoa(pid)))
	if err != nil {
		return process{}, err
	}
	defer dir.Close()
	info, err := dir.Stat(".")
	if err != nil {
		return process{}, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return process{}, errNotKernel
	}
	i := slices.IndexFunc(users, func(u User) bool { return u.UID == int(owner.Uid) })
	if i < 0 {
		return process{}, errNotKernel
	}
	args, err := readBounded(dir, "cmdline", 64<<10)
	if err != nil {
		return process{}, err
	}
	program, ok := kernel(strings.Split(string(args), "\x00"))
	if !ok {
		return process{}, errNotKernel
	}
	environ, err := readBounded(dir, "environ", maxEnviron)
	if err != nil {
		return process{}, err
	}
	p := process{user: users[i], program: program, env: map[string]string{}, started: started(dir)}
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		name, value, found := strings.Cut(string(entry), "=")
		if !found || !slices.Contains(known(), name) || value == "" {
			continue
		}
		if secret(name) {
			value = ""
		}
		p.env[name] = value
	}
	return p, nil
}

func readBounded(dir *os.Root, name string, limit int64) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// kernel recognises Jupyter's servers and kernels, of any language, by their
// command line: a kernel is started with the connection file that Jupyter has
// written for it.
func kernel(args []string) (program string, ok bool) {
	for _, a := range args {
		base := filepath.Base(a)
		switch {
		case strings.HasPrefix(base, "kernel-") && strings.HasSuffix(base, ".json"), strings.Contains(a, "ipykernel"):
			return "kernel", true
		case base == "jupyter-lab", base == "jupyter-labhub", base == "jupyter-server", base == "jupyter-notebook", base == "jupyterhub-singleuser":
			return base, true
		}
	}
	return "", false
}

// The findings about the environment.
const (
	idKeys        = "env_keys"
	idProfile     = "env_profile"
	idFile        = "env_config_file"
	idWebIdentity = "env_web_identity"
	idHome        = "env_home"
	idOld         = "kernel_old"
)

// What tells an SDK of the daemon's faces.
const (
	containerURI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
	imdsEndpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
)

// variables are the names behind a finding.
func variables(id string) []string {
	switch id {
	case idKeys:
		return []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
	case idProfile:
		return []string{"AWS_PROFILE", "AWS_DEFAULT_PROFILE"}
	case idFile:
		return []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}
	case idWebIdentity:
		return []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"}
	}
	return []string{"HOME"}
}

func known() []string {
	all := []string{containerURI, imdsEndpoint}
	for _, id := range []string{idKeys, idProfile, idFile, idWebIdentity, idHome} {
		all = append(all, variables(id)...)
	}
	return all
}

func secret(name string) bool { return slices.Contains(variables(idKeys), name) }

// shadows are what this process's SDKs prefer to ~/.aws/config.
func (p process) shadows() []report.Finding {
	var all []report.Finding
	add := func(id, saw, means string) {
		i := slices.IndexFunc(all, func(f report.Finding) bool { return f.ID == id })
		if i < 0 {
			all = append(all, report.Finding{ID: id, Saw: saw, Means: means})
			return
		}
		// Of two about one process, a report would take the first alone.
		all[i].Saw += "; " + saw
		if all[i].Means != means {
			all[i].Means += "; " + means
		}
	}
	if _, set := p.env["AWS_ACCESS_KEY_ID"]; set {
		add(idKeys, "AWS_ACCESS_KEY_ID is set in the environment (its value was not read)",
			"every SDK takes these keys before anything else: the calls go out as whoever they belong to, and when they are temporary they end")
	}
	for _, name := range variables(idProfile) {
		if value := p.env[name]; value != "" && value != "default" && p.named(value) {
			add(idProfile, fmt.Sprintf("%s is %.60q", name, value),
				"every SDK reads that profile instead of [default], where nbidentityd's credentials are")
		}
	}
	home := filepath.Join(p.user.Home, ".aws")
	for _, file := range []struct{ name, own string }{{"AWS_CONFIG_FILE", "config"}, {"AWS_SHARED_CREDENTIALS_FILE", "credentials"}} {
		value := p.env[file.name]
		if value == "" || value == "~/.aws/"+file.own || filepath.Clean(value) == filepath.Join(home, file.own) {
			continue
		}
		means := "every SDK reads that file instead of ~/.aws/config, and finds no nbidentityd there; AWS's own script for naming notebooks works so, and can go now"
		if file.own == "credentials" {
			means = "boto3, the AWS CLI, Go, JavaScript and C++ prefer keys in its [default] to nbidentityd"
		}
		add(idFile, fmt.Sprintf("%s is %.200q", file.name, value), means)
	}
	if p.env["AWS_WEB_IDENTITY_TOKEN_FILE"] != "" && p.env["AWS_ROLE_ARN"] != "" {
		add(idWebIdentity, fmt.Sprintf("AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN (%.200q) are set", p.env["AWS_ROLE_ARN"]),
			"boto3, the AWS CLI, Go and Java assume that role before they ask nbidentityd")
	}
	if value := p.env["HOME"]; value != "" && filepath.Clean(value) != filepath.Clean(p.user.Home) {
		add(idHome, fmt.Sprintf("HOME is %.200q, and nbidentityd writes %s", value, filepath.Join(home, "config")),
			"the SDKs of this kernel find no ~/.aws/config and take the base credentials, which have no name; Studio's recovery mode does this")
	}
	return all
}

// old is a process from before the installation. One whose environment names a
// face has been told, if by an earlier file; a Python kernel's own start-up file
// does not show there.
func (p process) old(told Told) []report.Finding {
	const slack = 2 * time.Second // of two clocks
	if told.Since.IsZero() || p.started.IsZero() || p.started.Add(slack).After(told.Since) ||
		told.Container != "" && p.env[containerURI] == told.Container || told.IMDS != "" && p.env[imdsEndpoint] == told.IMDS {
		return nil
	}
	return []report.Finding{{ID: idOld, Saw: "it was started before nbidentityd was installed, on " + told.Since.UTC().Format(time.DateTime) + " UTC",
		Means: "an SDK that has found other credentials keeps them as long as it runs, and its calls have no name; it was not told of the daemon's faces either"}}
}

// started is when the process of a directory of /proc was, by the clock of the
// boot, which steps of the wall clock do not move.
func started(dir *os.Root) time.Time {
	const perSecond = 100 // USER_HZ, the same on all machines that we build for
	stat, err := readBounded(dir, "stat", 4096)
	if err != nil {
		return time.Time{}
	}
	// proc(5): the name may hold spaces and parentheses; starttime is field 22.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return time.Time{}
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	var now unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(ticks)*(time.Second/perSecond) - time.Duration(now.Nano()))
}

// named reports whether a profile takes its credentials elsewhere. One that
// begins with [default] keeps the name: a source identity goes along into every
// further role.
func (p process) named(profile string) bool {
	files, err := readFiles(p.user)
	if err != nil {
		return true
	}
	for _, sec := range profiles(files.config) {
		if sec.name == profile {
			return sec.keys["source_profile"] != "default"
		}
	}
	return true
}
