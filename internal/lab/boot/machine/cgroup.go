package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// cgroupPrefix begins the names of the control groups of a lab's machines.
func cgroupPrefix(lab string) string {
	return "nbidentityd-" + strings.ReplaceAll(strings.Trim(lab, "/"), "/", "-") + "-"
}

// cgroup makes a control group of that name beneath our own, in every hierarchy
// that systemd uses, and returns a command line that enters it and becomes what
// follows. Two machines in one group would take each other's processes for
// their own.
func cgroup(name string) (command []string, err error) {
	ours, err := cgroups()
	if err != nil {
		return nil, err
	}
	command = []string{"sh", "-ec", `while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"`, "sh"}
	for _, dir := range ours {
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("making control group: %w", err)
		}
		command = append(command, dir)
	}
	return append(command, "--"), nil
}

// RemoveCgroups removes what machines of the lab have left, when none runs any
// more.
func RemoveCgroups(lab string) error {
	ours, err := cgroups()
	if err != nil {
		return err
	}
	var all []error
	for _, dir := range ours {
		names, err := filepath.Glob(filepath.Join(dir, cgroupPrefix(lab)+"*"))
		all = append(all, err)
		for _, name := range names {
			var dirs []string
			all = append(all, filepath.WalkDir(name, func(path string, e fs.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					dirs = append(dirs, path)
				}
				return err
			}))
			for i := len(dirs) - 1; i >= 0; i-- { // the innermost first; files go with their group
				all = append(all, os.Remove(dirs[i]))
			}
		}
	}
	return errors.Join(all...)
}

// cgroups returns the directory of our control group in the unified hierarchy
// and in systemd's own, those that are there.
func cgroups() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var dirs []string
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		controller := ""
		switch {
		case len(mount) < 5 || len(kind) < 3:
			continue
		case kind[0] == "cgroup2":
		case kind[0] == "cgroup" && strings.Contains(kind[2], "name=systemd"):
			controller = "name=systemd"
		default:
			continue
		}
		for line := range strings.Lines(string(groups)) {
			if fields := strings.SplitN(strings.TrimSpace(line), ":", 3); len(fields) == 3 && fields[1] == controller {
				dirs = append(dirs, filepath.Join(mount[4], fields[2]))
			}
		}
	}
	if len(dirs) == 0 {
		return nil, errors.New("no control groups that systemd could use are mounted")
	}
	return dirs, nil
}
