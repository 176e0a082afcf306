package shadow

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// files are what a user's ~/.aws holds; nil for a file that is not there.
type files struct {
	config, credentials []byte
	// locked: the daemon has made the directory and the config immutable, so
	// that nothing there can be renamed or made.
	locked bool
}

// unreadable is a file that is there and was not read, on purpose.
type unreadable struct {
	name string
	path string // of what is in the way
	err  error
}

func (u *unreadable) Error() string { return u.err.Error() }
func (u *unreadable) Unwrap() error { return u.err }

// readFiles reads as much as the user could read anyway.
func readFiles(u User) (files, error) {
	home, err := safefile.Open(u.Home, u.UID, u.GID)
	if err != nil {
		return files{}, fmt.Errorf("home of %s: %w", u.Name, err)
	}
	defer home.Close()
	dir, err := home.Sub(".aws")
	if errors.Is(err, unix.ENOENT) {
		return files{}, nil
	}
	if err != nil {
		return files{}, &unreadable{"config", filepath.Join(u.Home, ".aws"), err}
	}
	defer dir.Close()
	var f files
	var v safefile.Version
	if f.config, v, err = dir.Read("config", awsconfig.MaxSize); err != nil && !errors.Is(err, unix.ENOENT) {
		return files{}, &unreadable{"config", filepath.Join(u.Home, ".aws", "config"), err}
	}
	f.locked = v.Exists() && v.UID == 0 && u.UID != 0
	if f.credentials, _, err = dir.Read("credentials", awsconfig.MaxSize); err != nil && !errors.Is(err, unix.ENOENT) {
		return f, &unreadable{"credentials", filepath.Join(u.Home, ".aws", "credentials"), err}
	}
	return f, nil
}

// NoConfig is the id of the finding that nothing was written for a user.
const NoConfig = "config_missing"

// Files compares a user's AWS files with what they must say. install is the
// command that writes them; fenced tells that the metadata service of this
// machine hands out named credentials only.
func Files(u User, m awsconfig.Managed, install string, fenced bool, s *report.Sheet) error {
	path := filepath.Join(u.Home, ".aws", "config")
	f, err := readFiles(u)
	var odd *unreadable
	switch {
	case errors.As(err, &odd) && odd.name == "config":
		s.Find(report.Finding{ID: "config_unreadable", Subject: path, Saw: odd.Error(),
			Means:    "nbidentityd does not follow links or read odd files in a user's home, so this one was not written: SDKs do what it says, whatever that is",
			Commands: []string{"ls -ld " + filepath.Dir(path) + " " + path, u.as("mv " + odd.path + " " + odd.path + ".before-nbidentityd"), install}})
		return nil
	case errors.As(err, &odd):
		s.Find(report.Finding{ID: "credentials_unreadable", Subject: odd.path, Saw: odd.Error(),
			Means:    "keys in its [default] would win over nbidentityd in most SDKs; whether there are any could not be seen",
			Commands: u.unlocked(f.locked, u.as("mv "+odd.path+" "+odd.path+".aside")),
			Hint:     "what it was lies beside it then; put named profiles back in a plain file"})
	case err != nil:
		return err
	}
	_, err = awsconfig.Apply(f.config, m)
	syntax, isSyntax := errors.AsType[*awsconfig.SyntaxError](err)
	switch {
	case f.config == nil:
		s.Find(report.Finding{ID: NoConfig, Subject: path, Saw: "there is no such file",
			Means: "SDKs are not told to ask nbidentityd and take the base credentials, which have no name", Commands: []string{install}})
	case isSyntax:
		s.Find(report.Finding{ID: "config_syntax", Subject: path, Saw: fmt.Sprintf("line %d: %s", syntax.Line, syntax.Problem),
			Means:    "some SDKs refuse the whole file and others read it differently, so nbidentityd leaves it alone and does not work here",
			Commands: []string{fmt.Sprintf("sed -n '%dp' %s", max(1, syntax.Line), path), install},
			Hint:     syntax.Remedy + "; then run the second command"})
	case !awsconfig.Binds(f.config, m):
		saw := "[default] does not name nbidentityd's command as its only source of credentials"
		if found := awsconfig.Check(f.config, m); len(found) > 0 {
			saw = found[0].String()
		}
		s.Find(report.Finding{ID: "config_changed", Subject: path, Saw: saw,
			Means: "some SDKs take other credentials than nbidentityd's", Commands: []string{install},
			Hint: "a running nbidentityd puts it back by itself: when it does not last, another program writes the file"})
	case len(awsconfig.Check(f.config, m)) > 0:
		s.Note("config_edited", "%s was edited around nbidentityd's lines; every SDK still asks nbidentityd", path)
	}
	u.credentials(f.credentials, s)
	if !isSyntax {
		u.profiles(f, fenced, s)
	}
	return nil
}

// credentials looks for what wins over the config file.
func (u User) credentials(text []byte, s *report.Sheet) {
	found := awsconfig.Shadows(nil, text)
	if len(found) == 0 {
		return
	}
	var lines []string
	for _, f := range found {
		lines = append(lines, fmt.Sprintf("%s on line %d", f.Key, f.Line))
	}
	path := filepath.Join(u.Home, ".aws", "credentials")
	s.Find(report.Finding{ID: "credentials_shadow", Subject: path,
		Saw:      "[default] has " + strings.Join(lines, ", ") + " (values not shown)",
		Means:    "boto3, the AWS CLI, Go, JavaScript and C++ take these before they ask nbidentityd; Java and Rust do not. Such calls bear another name, or none",
		Commands: []string{u.edit(`s/^[[:space:]]*\[[[:space:]]*default[[:space:]]*\]/[personal]/`, path)},
		Hint:     "this keeps the keys under the name personal: aws --profile personal … uses them"})
}

// maxChained is the longest session of a role that another role's session
// assumes, in seconds.
const maxChained = 3600

// profiles looks at the named profiles.
func (u User) profiles(f files, fenced bool, s *report.Sheet) {
	path := filepath.Join(u.Home, ".aws", "config")
	for _, p := range profiles(f.config) {
		if !profileName.MatchString(p.name) {
			continue // no command could be written that names it
		}
		in := func(edit string) []string { // inside this section only
			return u.unlocked(f.locked, u.edit(fmt.Sprintf(`/^\[profile %s\]/,/^\[/%s`, strings.ReplaceAll(p.name, ".", `\.`), edit), path))
		}
		if source := p.keys["credential_source"]; source != "" && (source != "Ec2InstanceMetadata" || !fenced) {
			s.Find(report.Finding{ID: "profile_unnamed", Subject: path + " [profile " + p.name + "]",
				Saw:      fmt.Sprintf("the profile %s has credential_source = %.40s", p.name, source),
				Means:    "what uses this profile begins with the base credentials, which have no name, and passes nbidentityd by",
				Commands: in("s/^credential_source.*/source_profile = default/")})
		}
		if d, err := strconv.Atoi(p.keys["duration_seconds"]); err == nil && d > maxChained && p.keys["role_arn"] != "" {
			s.Find(report.Finding{ID: "profile_duration", Subject: path + " [profile " + p.name + "]",
				Saw:      fmt.Sprintf("the profile %s asks for sessions of %d seconds", p.name, d),
				Means:    "STS refuses it: a role that is assumed from another role's session, as all of a notebook are, lives one hour at most",
				Commands: in("s/^duration_seconds.*/duration_seconds = 3600/")})
		}
	}
}

var profileName = lazyregexp.New(`^[A-Za-z0-9_.@+-]{1,64}$`)

// as is a command that is run as the user: root must not write in a home where
// somebody else can put a link.
func (u User) as(command string) string {
	if os.Geteuid() == u.UID {
		return command // whoever runs doctor pastes it
	}
	return fmt.Sprintf("setpriv --reuid=%d --regid=%d --clear-groups %s", u.UID, u.GID, command)
}

// edit changes a file in place, by a sed expression without quotes or dollars: in
// a locked directory no new file can be made.
func (u User) edit(expression, path string) string {
	return u.as(fmt.Sprintf(`sh -c 'new=$(sed "%s" %s) && printf "%%s\n" "$new" >%[2]s'`, expression, path))
}

// unlocked are commands for which the daemon's lock must be off.
func (u User) unlocked(locked bool, commands ...string) []string {
	if !locked {
		return commands
	}
	dir := filepath.Join(u.Home, ".aws")
	config := filepath.Join(dir, "config")
	return slices.Concat([]string{"systemctl stop nbidentityd", "chattr -i " + dir + " " + config, fmt.Sprintf("chown -h %d:%d %s", u.UID, u.GID, config)},
		commands, []string{"systemctl start nbidentityd"})
}

// section is one [profile name] of a config file.
type section struct {
	name string
	keys map[string]string // at column 0, names in lower case
}

// profiles reads what all clients read alike: keys at column 0.
func profiles(config []byte) []section {
	var all []section
	in := false
	for line := range strings.Lines(string(config)) {
		line = strings.TrimRight(line, "\r\n")
		if header, ok := strings.CutPrefix(line, "["); ok {
			name, found := strings.CutPrefix(strings.TrimSuffix(strings.TrimSpace(header), "]"), "profile ")
			if in = found; in {
				all = append(all, section{name: strings.TrimSpace(name), keys: map[string]string{}})
			}
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if in && found && !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "#") {
			all[len(all)-1].keys[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		}
	}
	return all
}
