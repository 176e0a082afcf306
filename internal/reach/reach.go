// Package reach finds out, by trying, what a notebook's user can reach that
// would let them shed the name: the platform's metadata service, root by sudo,
// and Docker's socket.
//
// What cannot be tried is reported as unknown with the reason, never as good
// news. The observation holds for its moment and for the daemon's own network
// namespace. No process runs under the user's uid, since the user could stop it
// and make it lie; see package imdsprobe.
package reach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/assurance"
	"github.com/nbidentityd/nbidentityd/internal/imdsprobe"
)

// limit is how long one observation may take at the least. It ends on a whole
// minute of the clock, when the daemon looks at all it watches: a timer that is
// stopped may wake the machine all the same.
const limit = 20 * time.Second

// Config says who is to be observed, and what is tried.
type Config struct {
	User string // name, or the uid in digits
	UID  uint32
	GIDs []uint32 // all groups of the user

	// Metadata are the addresses of the metadata service; with none, what can
	// be reached is unknown.
	Metadata []netip.AddrPort
	// MarkHeader and Mark tell our own metadata service's answers from the
	// platform's.
	MarkHeader, Mark string
	// Files are what the name comes from, or the program that tells it.
	Files []string
	// Sockets are unix sockets with root's power; nil means Docker's,
	// containerd's and Podman's.
	Sockets []string
}

// Observe tries what the user can reach. Facts that it does not look for are
// left unknown.
func Observe(ctx context.Context, cfg Config) assurance.Facts {
	ctx, cancel := context.WithDeadline(ctx, time.Now().Add(limit).Truncate(time.Minute).Add(time.Minute))
	defer cancel()
	facts := assurance.Facts{
		SameUID:      answer(uint32(os.Geteuid()) == cfg.UID),
		Sudo:         sudo(ctx, cfg),
		DockerSocket: anySocket(cfg),
		SourceFiles:  cfg.changeable(cfg.Files),
	}
	facts.BaseReached, facts.BaseReason = base(ctx, cfg)
	return facts
}

func answer(yes bool) assurance.Answer {
	if yes {
		return assurance.Yes
	}
	return assurance.No
}

// base tries each address. One that is reached decides; one that could not be
// tried leaves the whole unknown.
func base(ctx context.Context, cfg Config) (assurance.Answer, string) {
	if len(cfg.Metadata) == 0 {
		return assurance.Unknown, "there is no address to try"
	}
	reached := assurance.No
	var met []string
	for _, addr := range cfg.Metadata {
		outcome, detail, err := imdsprobe.Probe{UID: cfg.UID, Addr: addr, MarkHeader: cfg.MarkHeader, Mark: cfg.Mark}.Run(ctx)
		switch {
		case err != nil:
			met = append(met, err.Error())
			if reached == assurance.No {
				reached = assurance.Unknown
			}
			continue
		case outcome == imdsprobe.Reached:
			reached = assurance.Yes
		}
		met = append(met, fmt.Sprintf("%s: %s (%s)", addr, outcome, detail))
	}
	return reached, strings.Join(met, "; ")
}

// sudo asks sudo itself. It tells root, and each user about themselves; words
// and exit codes differ between its releases, so only plain answers count.
func sudo(ctx context.Context, cfg Config) assurance.Answer {
	if cfg.UID == 0 {
		return assurance.Yes
	}
	path, err := exec.LookPath("sudo")
	if errors.Is(err, exec.ErrNotFound) {
		return assurance.No
	}
	if err != nil {
		return assurance.Unknown
	}
	args := []string{"-n", "-l"}
	if os.Geteuid() == 0 {
		args = append(args, "-U", sudoName(cfg))
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C"}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	switch text := string(out); {
	case strings.Contains(text, "may run the following"):
		return assurance.Yes
	case strings.Contains(text, "is not allowed to run sudo"):
		return assurance.No
	case err == nil && os.Geteuid() != 0:
		return assurance.Yes
	}
	return assurance.Unknown
}

// sudoName is how sudo calls the user. It goes by the uid, and by the first name
// that has it. A user without one it lets do nothing, but says so only to
// themselves; some releases take a number here.
func sudoName(cfg Config) string {
	uid := strconv.FormatUint(uint64(cfg.UID), 10)
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	if cfg.User == uid {
		return "#" + uid
	}
	return cfg.User
}

func defaultSockets() []string {
	return []string{"/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock"}
}

// anySocket reports whether the user may connect to one of the sockets:
// connecting needs the right to write.
func anySocket(cfg Config) assurance.Answer {
	result := assurance.No
	sockets := cfg.Sockets
	if sockets == nil {
		sockets = defaultSockets()
	}
	for _, path := range sockets {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			continue
		}
		if st.Uid == cfg.UID && st.Uid != 0 {
			continue // a rootless runtime of the user's own: no power but theirs
		}
		switch yes, err := cfg.mayWrite(path); {
		case yes:
			return assurance.Yes
		case err != nil:
			result = assurance.Unknown
		}
	}
	return result
}
