// Package host looks at nbidentityd on this machine: whether the daemon runs and
// answers, what it says about itself, and who keeps it running.
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// Config says what should be there.
type Config struct {
	Socket        string
	Client        string // nbidentity, as ~/.aws/config names it
	IMDSPort      int    // of the faces; 0 is closed on purpose
	ContainerPort int
	Fenced        bool // the settings want a fence
	Version       string
	SettingsPath  string
	Program       string // nbidentityd, as a shell here finds it
	Users         []User

	// Systemctl asks systemd; "" where there is none.
	Systemctl string
}

// User is somebody whose SDKs must reach the daemon.
type User struct {
	Name   string
	UID    uint32
	Groups []uint32
}

// may reports whether the user has a right (4 read, 2 write, 1 search) on an
// object, by owner, group and mode.
func (u User) may(right uint32, st *syscall.Stat_t) bool {
	switch {
	case u.UID == 0:
		return true
	case st.Uid == u.UID:
		right <<= 6
	case slices.Contains(u.Groups, st.Gid):
		right <<= 3
	}
	return st.Mode&right != 0
}

// Unit is the service as packages install it.
const Unit = "nbidentityd"

const (
	restart    = "systemctl restart " + Unit
	answerTime = 4 * time.Second // the daemon answers in milliseconds, and says so when it waits
)

// ErrDown is the cause when nobody answers on the socket.
var ErrDown = errors.New("no nbidentityd answers")

// Ask asks the running daemon for its status.
func (c Config) Ask(ctx context.Context) (status.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nbidentityd/v1/status", nil)
	if err != nil {
		return status.Report{}, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return status.Report{}, fmt.Errorf("%w on %s: %w", ErrDown, c.Socket, root(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return status.Report{}, fmt.Errorf("asking %s: %s", c.Socket, resp.Status)
	}
	var r status.Report
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&r); err != nil {
		return status.Report{}, fmt.Errorf("asking %s: %w", c.Socket, root(err))
	}
	return r, nil
}

func root(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// Daemon judges how asking for the status went.
func (c Config) Daemon(r status.Report, err error, s *report.Sheet) {
	start := "systemctl enable --now " + Unit + ".socket " + Unit + ".service"
	why := "journalctl -u " + Unit + " -n 50"
	if c.Systemctl == "" {
		start, why = "setsid -f "+c.Program+" run -settings "+c.SettingsPath+" </dev/null >/dev/null 2>&1", "what it says when you run it in the foreground"
		// As the lifecycle script of Studio leaves it, see supervise.sh there.
		dir := filepath.Dir(c.SettingsPath)
		supervisor := dir + "/bin/../share/nbidentityd/lifecycle/studio/supervise.sh"
		if _, err := os.Stat(supervisor); err == nil {
			start, why = "setsid -f sh "+supervisor+" "+dir, "tail "+dir+"/nbidentityd.log"
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s.Find(report.Finding{ID: "daemon_hung", Subject: c.Socket, Saw: fmt.Sprintf("somebody listens on the socket and did not answer within %s", answerTime),
			Means: "no SDK gets credentials", Commands: []string{restart}})
		return
	case errors.Is(err, fs.ErrPermission):
		s.Find(report.Finding{ID: "socket_closed", Subject: c.Socket, Saw: "you may not connect to the socket",
			Means: "SDKs get no credentials from nbidentityd", Commands: c.openSocket()})
		return
	case errors.Is(err, ErrDown):
		s.Find(report.Finding{ID: "daemon_down", Subject: c.Socket, Saw: err.Error(),
			Means: "SDKs that are told to ask nbidentityd fail; others take the base credentials, which have no name", Commands: []string{start},
			Hint: "why it ended: " + why})
		return
	case err != nil:
		s.Find(report.Finding{ID: "daemon_hung", Subject: c.Socket, Saw: err.Error(), Means: "what listens there is not a healthy nbidentityd", Commands: []string{restart}})
		return
	}
	if r.Version != c.Version {
		s.Find(report.Finding{ID: "daemon_outdated", Subject: c.Socket, Saw: fmt.Sprintf("version %.60s is running, and %s is installed", r.Version, c.Version),
			Means: "an upgrade has not taken effect", Commands: []string{restart}})
	}
	c.faces(r, s)
	c.fence(r, s)
	for _, f := range r.ConfigFiles {
		if f.Tampers > 0 {
			s.Note("config_tampers", "%s was changed by somebody %d times since the daemon started, and put back", f.Path, f.Tampers)
		}
	}
	if a := r.Assurance; a != nil {
		var why []string
		for _, reason := range a.Reasons {
			why = append(why, reason.Fact)
		}
		s.Note("assurance", "assurance is %s: %s", a.Level, strings.Join(why, " "))
	}
	for _, n := range r.Notes {
		s.Note("daemon", "%s", n)
	}
}

// faces compares the ports that are open with those that the settings want.
func (c Config) faces(r status.Report, s *report.Sheet) {
	if r.State == status.SteppedAside {
		return
	}
	for _, face := range []struct {
		key  string
		port int
		who  string
	}{{"imds_port", c.IMDSPort, "programs that read no configuration"}, {"container_port", c.ContainerPort, "JavaScript, Java and C++ when they fall through"}} {
		open := slices.ContainsFunc(r.Faces, func(url string) bool {
			return strings.Contains(strings.TrimPrefix(url, "http://")+"/", ":"+strconv.Itoa(face.port)+"/")
		})
		if face.port == 0 || open {
			continue
		}
		s.Find(report.Finding{ID: "face_closed", Subject: "faces." + face.key, Saw: fmt.Sprintf("the daemon could not listen on 127.0.0.1:%d", face.port),
			Means:    "it serves no credentials there for " + face.who + "; whoever holds the port instead can pretend to",
			Commands: []string{fmt.Sprintf("ss -ltnp 'sport = :%d'", face.port), restart},
			Hint:     fmt.Sprintf("end what holds the port, or set another %s under [faces] in %s, before the second command", face.key, c.SettingsPath)})
	}
}

func (c Config) fence(r status.Report, s *report.Sheet) {
	switch {
	case r.Fence == nil || r.State == status.SteppedAside:
	case !c.Fenced:
		s.Note("fence_off", "there is no fence around the metadata service: the settings switch it off, so every process can take the base credentials, which have no name")
	case !r.Fence.Intact:
		s.Find(report.Finding{ID: "fence_down", Subject: "169.254.169.254", Saw: "the packet rules around the metadata service are not in place: " + r.Fence.Problem,
			Means:    "every process can take the base credentials, which have no name",
			Commands: []string{restart},
			Hint:     "it needs CAP_NET_ADMIN, and nf_tables in the kernel or the iptables programs"})
	case r.Fence.Repairs > 0:
		s.Note("fence_repairs", "the fence was taken down by somebody and repaired %d times since the daemon started", r.Fence.Repairs)
	}
}

// openSocket lets everybody connect; the daemon looks at who they are.
func (c Config) openSocket() []string {
	return []string{"chmod 755 " + filepath.Dir(c.Socket), "chmod 666 " + c.Socket}
}

// Files looks at what the users must be able to reach.
func (c Config) Files(s *report.Sheet) error {
	if info, err := os.Stat(c.Client); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 != 0o111 {
		saw := fmt.Sprintf("mode %o", modeOf(info))
		if err != nil {
			saw = root(err).Error()
		}
		s.Find(report.Finding{ID: "client_missing", Subject: c.Client, Saw: "~/.aws/config names this program, and it cannot be run: " + saw,
			Means:    "boto3, the AWS CLI, Go and Rust fail; JavaScript, Java and C++ go on to the base credentials, which have no name",
			Commands: []string{"chmod 755 " + c.Client},
			Hint:     "when it is not there at all, install the package again, or set client in " + c.SettingsPath})
	}
	for _, u := range c.Users {
		if what := c.closedTo(u); what != "" {
			s.Find(report.Finding{ID: "socket_closed", Subject: c.Socket, Saw: fmt.Sprintf("the mode of %s keeps %s out", what, u.Name),
				Means: "SDKs get no credentials from nbidentityd", Commands: c.openSocket()})
		}
	}
	return nil
}

// closedTo is what keeps a user from the socket, "" when nothing does or there
// is none, which Daemon says.
func (c Config) closedTo(u User) string {
	var st syscall.Stat_t
	if syscall.Stat(c.Socket, &st) != nil {
		return ""
	}
	if !u.may(2, &st) {
		return c.Socket
	}
	for dir := filepath.Dir(c.Socket); ; dir = filepath.Dir(dir) {
		if syscall.Stat(dir, &st) == nil && !u.may(1, &st) {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

func modeOf(info fs.FileInfo) fs.FileMode {
	if info == nil {
		return 0
	}
	return info.Mode().Perm()
}
