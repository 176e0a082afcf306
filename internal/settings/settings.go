// Package settings holds the daemon's own file: what it may say, what it says
// when it is silent, and where it is wrong.
//
// The file is TOML and read strictly. An unknown key, a value of the wrong
// shape or a value that cannot work is an error that names the file, the line
// and, for a misspelt key, the key that was probably meant: a daemon that
// ignores half of its settings would protect nothing without saying so.
//
// Only cmd/nbidentityd reads this package; it hands each part its own Config.
// Nothing here reads the environment or talks to AWS.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// DefaultPath is where the packages put the file.
const DefaultPath = "/etc/nbidentityd/nbidentityd.toml"

// maxFileBytes bounds what is read: the documented file is 4 KiB.
const maxFileBytes = 1 << 20

// Settings is the whole file. The zero value is not useful; start from
// [Default].
type Settings struct {
	// MetadataFile is SageMaker's description of this notebook.
	MetadataFile string `toml:"metadata_file"`
	// MetadataWait is how long to wait for that file at start.
	MetadataWait Duration `toml:"metadata_wait"`
	// StateDir holds what discovery learnt, so that a restart needs no
	// Describe call. It never holds a secret.
	StateDir string `toml:"state_dir"`
	// Socket is where nbidentity asks for credentials.
	Socket string `toml:"socket"`
	// Client is the installed nbidentity, as ~/.aws/config will name it.
	Client string `toml:"client"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `toml:"log_level"`

	Identity  Identity  `toml:"identity"`
	Role      Role      `toml:"role"`
	Endpoints Endpoints `toml:"endpoints"`
	Faces     Faces     `toml:"faces"`
	Fence     Fence     `toml:"fence"`
	Guard     Guard     `toml:"guard"`

	// Users may ask for credentials, and have their ~/.aws/config written.
	// Empty means those of ec2-user and sagemaker-user that exist.
	Users []User `toml:"user"`
}

// Identity says how the notebook's name becomes the names that AWS records.
// The placeholders are those of package identity.
type Identity struct {
	SessionName    string `toml:"session_name"`
	SourceIdentity string `toml:"source_identity"`
}

// Role says which role to assume.
type Role struct {
	// ARN is the role; empty means the notebook's own execution role. It may
	// hold {partition}, {account} and {name}, for one role per profile.
	ARN string `toml:"arn"`
	// Tags are session tags (sts:TagSession must be allowed).
	Tags map[string]string `toml:"tags"`
}

// Endpoints are base URLs. Empty means the public one of the region; VPC
// endpoints without private DNS need their own.
type Endpoints struct {
	STS       string `toml:"sts"`
	SageMaker string `toml:"sagemaker"`
	IMDS      string `toml:"imds"`
	// Container is the host of Studio's container credentials.
	Container string `toml:"container"`
	// ContainerPath is Studio's AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; empty
	// means the variable of the daemon's own environment.
	ContainerPath string `toml:"container_path"`
}

// Faces are loopback ports for SDKs that do not, or no longer, run the client.
// 0 closes a face. The defaults are below 1024, where no user can be first.
type Faces struct {
	IMDSPort      int `toml:"imds_port"`
	ContainerPort int `toml:"container_port"`
}

// Fence says how the metadata service of a notebook instance is fenced off.
// With endpoints.imds set there is none: that address is somebody's own.
type Fence struct {
	Enabled bool `toml:"enabled"`
	// AllowUsers reach the platform's own service, besides root and the daemon.
	AllowUsers []string `toml:"allow_users"`
	// Containers behind a bridge are led to the daemon's metadata service; else
	// they are refused. Nothing but their address is known of them, but who can
	// start them could ask for the same credentials themselves.
	Containers bool `toml:"containers"`
}

// Guard says how ~/.aws/config is kept.
type Guard struct {
	// Lock makes file and directory immutable on notebook instances, where the
	// daemon is root and the user is not: see package configguard for what
	// users then cannot do. Elsewhere the file is watched.
	Lock bool `toml:"lock"`
}

// User is a notebook user.
type User struct {
	Name string `toml:"name"`
	// Home is the directory that holds .aws; empty means the one in passwd.
	Home string `toml:"home"`
}

// Duration is a time.Duration written as Go writes it: "90s", "2m".
type Duration time.Duration

// UnmarshalText parses "90s", "2m".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("want a duration such as \"90s\" or \"2m\", got %q", text)
	}
	*d = Duration(v)
	return nil
}

// Default is what holds where the file is silent.
func Default() Settings {
	return Settings{
		MetadataFile: "/opt/ml/metadata/resource-metadata.json",
		MetadataWait: Duration(2 * time.Minute),
		StateDir:     "/var/lib/nbidentityd",
		Socket:       "/run/nbidentityd/nbidentityd.sock",
		Client:       "/usr/bin/nbidentity",
		LogLevel:     "info",
		Identity:     Identity{SessionName: "{name}", SourceIdentity: "{name}"},
		Endpoints:    Endpoints{Container: "http://169.254.170.2"},
		Faces:        Faces{IMDSPort: 938, ContainerPort: 937},
		Fence:        Fence{Enabled: true, Containers: true},
		Guard:        Guard{Lock: true},
	}
}

// Load reads the file. A missing file is an error: the caller decides whether
// defaults will do.
func Load(path string) (Settings, error) {
	f, err := os.Open(path)
	if err != nil {
		return Settings{}, fmt.Errorf("reading settings: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return Settings{}, fmt.Errorf("reading settings %s: %w", path, err)
	}
	if len(data) > maxFileBytes {
		return Settings{}, fmt.Errorf("reading settings %s: larger than %d bytes", path, maxFileBytes)
	}
	return Parse(path, data)
}

// Parse reads the text of a settings file; file is named in errors.
func Parse(file string, data []byte) (Settings, error) {
	s := Default()
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Settings{}, explain(file, err)
	}
	if err := s.Validate(); err != nil {
		return Settings{}, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// explain turns the decoder's errors into one line each: file:line: what.
func explain(file string, err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		var all []error
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			key := []string(e.Key())
			msg := fmt.Sprintf("%s:%d: unknown key %q", file, line, strings.Join(key, "."))
			if near := nearest(key); near != "" {
				msg += fmt.Sprintf("; did you mean %q?", near)
			}
			all = append(all, errors.New(msg))
		}
		return errors.Join(all...)
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		line, _ := wrong.Position()
		return fmt.Errorf("%s:%d: %s", file, line, strings.TrimPrefix(wrong.Error(), "toml: "))
	}
	return fmt.Errorf("%s: %w", file, err)
}

// Validate reports everything that cannot work, joined.
func (s Settings) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for _, p := range []struct{ key, value string }{
		{"metadata_file", s.MetadataFile}, {"state_dir", s.StateDir}, {"socket", s.Socket}, {"client", s.Client},
	} {
		if !strings.HasPrefix(p.value, "/") {
			bad("%s: want an absolute path, got %q", p.key, p.value)
		}
	}
	if len(s.Socket) > maxSocketPath {
		bad("socket: %d bytes, and Linux takes at most %d", len(s.Socket), maxSocketPath)
	}
	// To the decoder a number without a unit is one of nanoseconds.
	if s.MetadataWait < Duration(time.Millisecond) {
		bad("metadata_wait: want a duration such as \"90s\" or \"2m\", got %s", time.Duration(s.MetadataWait))
	}
	if a := s.Role.ARN; a != "" && (!strings.HasPrefix(a, "arn:") || !strings.Contains(a, ":iam::") || !strings.Contains(a, ":role/")) {
		bad("role.arn: want arn:aws:iam::ACCOUNT:role/NAME, with the path of the role if it has one, got %q", a)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, s.LogLevel) {
		bad("log_level: want debug, info, warn or error, got %q", s.LogLevel)
	}
	for _, e := range []struct{ key, value string }{
		{"sts", s.Endpoints.STS}, {"sagemaker", s.Endpoints.SageMaker}, {"imds", s.Endpoints.IMDS}, {"container", s.Endpoints.Container},
	} {
		if err := checkURL(e.value); err != nil {
			bad("endpoints.%s: %w", e.key, err)
		}
	}
	if p := s.Endpoints.ContainerPath; p != "" && !strings.HasPrefix(p, "/") {
		bad("endpoints.container_path: want a path that starts with /, got %q", p)
	}
	for _, f := range []struct {
		key  string
		port int
	}{{"imds_port", s.Faces.IMDSPort}, {"container_port", s.Faces.ContainerPort}} {
		if f.port < 0 || f.port > 65535 {
			bad("faces.%s: want a port from 1 to 65535, or 0 for none, got %d", f.key, f.port)
		}
	}
	if p := s.Faces.IMDSPort; p != 0 && p == s.Faces.ContainerPort {
		bad("faces: both are on port %d", p)
	}
	for i, u := range s.Users {
		if u.Name == "" {
			bad("user %d: name is missing", i+1)
		}
		if u.Home != "" && !strings.HasPrefix(u.Home, "/") {
			bad("user %q: home: want an absolute path, got %q", u.Name, u.Home)
		}
	}
	return errors.Join(problems...)
}
