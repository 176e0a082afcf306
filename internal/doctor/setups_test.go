package doctor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/doctor"
	"github.com/nbidentityd/nbidentityd/internal/doctor/host"
	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/fault"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/kernelenv"
	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// broken is a set-up with a defect that was made for real.
type broken struct {
	name string
	kind string
	// before makes the defect before the daemon starts, after while it runs.
	before, after func(*setup)
	want          []string // ids of the findings, all of them
	root          bool     // the daemon's user must be another than the notebook's
	alone         bool     // it starts kernels, which others of this uid would see
	// mend does what the remedy's words say beyond its commands.
	mend func(*setup)
}

func (s *setup) home(name string) string { return filepath.Join(s.path("home"), ".aws", name) }

// write puts a file of the user's own.
func (s *setup) write(path, text string) {
	s.t.Helper()
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	_ = os.Remove(path)
	s.must(os.WriteFile(path, []byte(text), 0o600))
	if os.Getuid() == 0 {
		if dir := filepath.Dir(path); !owned(dir, s.uid) {
			s.must(os.Lchown(dir, s.uid, s.uid))
		}
		s.must(os.Lchown(path, s.uid, s.uid))
	}
}

func owned(path string, uid int) bool {
	info, err := os.Lstat(path)
	return err == nil && int(info.Sys().(*syscall.Stat_t).Uid) == uid
}

func (s *setup) change(edit func(*settings.Settings)) {
	edit(&s.set)
	s.writeSettings(s.set)
}

// withoutIAM takes the right to read roles away, as it is on most notebooks.
func withoutIAM(s *setup) {
	for _, r := range s.scenario.Roles {
		s.dropPolicy(r.Name, "ReadIAM")
	}
}

func both(steps ...func(*setup)) func(*setup) {
	return func(s *setup) {
		for _, step := range steps {
			step(s)
		}
	}
}

func trust(role, old, new string) func(*setup) {
	return func(s *setup) { s.editTrust(role, old, new) }
}

// statements keeps only the statements of a trust policy whose Sid is listed.
func statements(role string, sids ...string) func(*setup) {
	return func(s *setup) {
		var doc struct {
			Version   string
			Statement []map[string]any
		}
		r := s.role(role)
		s.must(json.Unmarshal(r.Trust, &doc))
		doc.Statement = slices.DeleteFunc(doc.Statement, func(st map[string]any) bool {
			return !slices.Contains(sids, fmt.Sprint(st["Sid"]))
		})
		text, err := json.Marshal(doc)
		s.must(err)
		r.Trust = text
		s.rebuild()
	}
}

func faulty(service string, kind fault.Kind, d time.Duration) func(*setup) {
	return func(s *setup) { s.must(s.account.Faults.Set(fault.Fault{Service: service, Kind: kind, Duration: d})) }
}

func clearFaults(s *setup) { s.account.Faults.Clear("", "") }

func stopped(s *setup) {
	if s.stop != nil {
		s.stop()
	}
}

const (
	execRole = "ExecRole"
	sidServe = "SageMaker"
)

// setups are the broken ones. "Sid" names are those of nbidentityd policy.
func setups() []broken {
	return []broken{
		// IAM, read and evaluated.
		{name: "no self trust", kind: classic, before: statements(execRole, sidServe), want: []string{"trust_self_missing"}},
		{name: "trust lacks SetSourceIdentity", kind: classic, before: statements(execRole, sidServe, "NbIdentityAssume"), want: []string{"trust_set_source_identity"}},
		{name: "permissions missing", kind: classic, before: func(s *setup) { s.dropPolicy(execRole, "nbidentity") },
			want: []string{"permission_assume_role"}},
		{name: "work role's trust forgets the launchers", kind: launcher, before: trust("NotebookWork", "role/nb-launch/*", "role/other/*"), want: []string{"trust_condition"}},
		{name: "launcher without its tag", kind: launcher, before: func(s *setup) { s.role("launch-alice-nb").Tags = nil; s.rebuild() }, want: []string{"launcher_tag"}},
		{name: "launcher with another's tag", kind: launcher, before: func(s *setup) {
			s.role("launch-alice-nb").Tags = map[string]string{"nbidentity": "bob-nb"}
			s.rebuild()
		}, want: []string{"launcher_tag"}},
		{name: "launcher without a tag of two words", kind: launcher, before: both(func(s *setup) { s.role("launch-alice-nb").Tags = nil }, trust("NotebookWork", "PrincipalTag/nbidentity", "PrincipalTag/nb identity")), want: []string{"launcher_tag"}},
		{name: "launcher that can work", kind: launcher, before: func(s *setup) { s.addPolicy("launch-alice-nb", "TooMuch", workPolicy) }, want: []string{"launcher_permissions"}},
		{name: "name not listed", kind: classic, before: trust(execRole, "alice-nb", "carol-nb"), want: []string{"trust_name"}},
		{name: "path lost in the trust policy", kind: classic, before: trust(execRole, `"aws:PrincipalArn":"arn:aws:iam::111122223333:role/service-role/ExecRole"`, `"aws:PrincipalArn":"arn:aws:iam::111122223333:role/ExecRole"`), want: []string{"trust_path"}},
		{name: "explicit deny in the trust policy", kind: classic,
			before: trust(execRole, `"Statement":[`, `"Statement":[{"Sid":"NoNames","Effect":"Deny","Principal":"*","Action":"sts:SetSourceIdentity"},`),
			want:   []string{"jobs_trust", "trust_denies"}, mend: trust(execRole, `{"Sid":"NoNames","Effect":"Deny","Principal":"*","Action":"sts:SetSourceIdentity"},`, "")},
		{name: "explicit deny in a permission", kind: classic,
			before: func(s *setup) {
				s.addPolicy(execRole, "NoAssume", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"sts:AssumeRole","Resource":"*"}]}`)
			},
			want: []string{"permission_denied"}, mend: func(s *setup) { s.dropPolicy(execRole, "NoAssume") }},
		{name: "any name can be taken", kind: classic, before: func(s *setup) { s.role(execRole).Trust = []byte(openTrust); s.rebuild() }, want: []string{"name_open"}},
		{name: "session name condition beside SetSourceIdentity", kind: classic, before: func(s *setup) { s.role(execRole).Trust = []byte(joinedTrust); s.rebuild() }, want: []string{"trust_session_name_condition"}},
		{name: "execution role made again", kind: classic, before: func(s *setup) { s.role(execRole).Trust = []byte(deadTrust); s.rebuild() }, want: []string{"trust_dead_principal"}},
		{name: "jobs with the own role", kind: classic, before: trust(execRole, `"Principal":{"Service":"sagemaker.amazonaws.com"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"]`, plainStatement), want: []string{"jobs_trust"}},
		{name: "job role without SetSourceIdentity", kind: classic,
			before: func(s *setup) {
				s.jobRoles = []string{"JobRole"}
				s.role("JobRole").Trust = []byte(plainService)
				s.rebuild()
			}, want: []string{"job_role_trust"}},
		{name: "job role of another service", kind: classic,
			before: func(s *setup) {
				s.jobRoles = []string{"JobRole"}
				s.role("JobRole").Trust = []byte(strings.Replace(plainService, "sagemaker", "glue", 1))
				s.rebuild()
			}, want: []string{"job_role_service"}},
		{name: "policy keyed on the session SageMaker", kind: classic,
			before: func(s *setup) {
				s.addPolicy(execRole, "Keyed", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*","Condition":{"StringLike":{"aws:userid":"*:SageMaker"}}}]}`)
			},
			want: []string{"keyed_policy"}, mend: func(s *setup) { s.dropPolicy(execRole, "Keyed") }},
		{name: "work role missing", kind: launcher, before: func(s *setup) {
			s.change(func(set *settings.Settings) { set.Role.ARN = "arn:aws:iam::111122223333:role/team/NotebookWork" })
		}, want: []string{"role_missing"}},
		{name: "domain sets names, trust is for sessions without", kind: propagated,
			before: func(s *setup) {
				s.role(execRole).Trust = []byte(strings.ReplaceAll(baseTrust, "alice-nb", "alice"))
				s.rebuild()
			}, want: []string{"propagation_conflict"}},
		{name: "trust for a domain that sets names, and it does not", kind: propagated, before: func(s *setup) { s.scenario.Domain.ExecutionRoleIdentityConfig = ""; s.rebuild() }, want: []string{"propagation_off"}},

		// IAM that cannot be read: what STS says.
		{name: "no self trust, IAM unreadable", kind: classic, before: both(withoutIAM, statements(execRole, sidServe)), want: []string{"assume_role_denied"}},
		{name: "trust lacks SetSourceIdentity, IAM unreadable, no daemon", kind: classic, before: both(withoutIAM, statements(execRole, sidServe, "NbIdentityAssume")), after: stopped,
			want: []string{"daemon_down", "set_source_identity_denied"}},

		// The way to AWS.
		{name: "STS refuses connections", kind: classic, after: faulty("sts", fault.Reset, 0), want: []string{"sts_unreachable"}, mend: clearFaults},
		{name: "SageMaker refuses connections", kind: classic, after: faulty("sagemaker", fault.Reset, 0), want: []string{"sagemaker_unreachable"}, mend: clearFaults},
		{name: "STS hangs", kind: classic, after: faulty("sts", fault.Hang, 0), want: []string{"sts_unreachable"}, mend: clearFaults},
		{name: "clock behind", kind: classic, after: faulty("*", fault.ClockSkew, 10*time.Minute), want: []string{"clock_skew"}},
		{name: "metadata service down", kind: classic, after: faulty("imds", fault.Reset, 0), want: []string{"base_credentials"}, mend: clearFaults},
		{name: "container endpoint down", kind: profile, after: faulty("container", fault.Reset, 0), want: []string{"base_credentials"}, mend: clearFaults},
		{name: "container path unknown", kind: profile, after: func(s *setup) { s.change(func(set *settings.Settings) { set.Endpoints.ContainerPath = "/gone" }) }, want: []string{"base_credentials"},
			mend: func(s *setup) { s.change(func(set *settings.Settings) { set.Endpoints.ContainerPath = "" }) }},
		{name: "container path nowhere", kind: profile, after: func(s *setup) { stopped(s); s.bare = true }, want: []string{"base_container_path", "daemon_down"},
			mend: func(s *setup) { s.bare = false; s.restart() }},
		{name: "describe denied", kind: private, before: func(s *setup) {
			s.dropPolicy(execRole, "nbidentity")
			s.dropPolicy(execRole, "Work")
			s.addPolicy(execRole, "Assume", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:AssumeRole","sts:SetSourceIdentity"],"Resource":"`+exec1+`"}]}`)
		}, want: []string{"describe_denied"}},
		{name: "permission for SetSourceIdentity missing", kind: classic, before: func(s *setup) {
			s.dropPolicy(execRole, "nbidentity")
			s.addPolicy(execRole, "Assume", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"`+exec1+`"}]}`)
		}, want: []string{"permission_set_source_identity"}},
		{name: "space deleted", kind: private, after: func(s *setup) {
			s.scenario.Spaces, s.scenario.Apps = nil, nil
			s.scenario.Apps = []scenario.App{{Name: "app", Type: "JupyterLab", Profile: "alice"}}
			s.rebuild()
		},
			want: []string{"resource_unknown"}, mend: func(s *setup) { s.scenario = s.newScenario(); s.rebuild() }},

		// The notebook instance.
		{name: "root access", kind: classic, before: func(s *setup) { s.scenario.Notebooks[0].RootAccess = "Enabled"; s.rebuild() }, want: []string{"root_access"}},
		{name: "metadata version 1", kind: classic, before: func(s *setup) { s.scenario.Notebooks[0].MinimumIMDSVersion = "1"; s.rebuild() }, want: []string{"imds_v1"}},

		// The machine.
		{name: "settings misspelt", kind: classic, after: func(s *setup) { s.must(appendTo(s.path("nb.toml"), "\nlog_levle = \"info\"\n")) }, want: []string{"settings"},
			mend: func(s *setup) { s.writeSettings(s.set) }},
		{name: "metadata cut off", kind: classic, before: func(s *setup) {
			s.must(os.WriteFile(s.path("resource-metadata.json"), []byte(`{"ResourceArn":"arn:aws`), 0o644))
		},
			want: []string{"daemon_down", "metadata"}, mend: func(s *setup) {
				s.must(os.WriteFile(s.path("resource-metadata.json"), []byte(s.metadata()), 0o644))
				s.restart()
			}},
		{name: "daemon not running", kind: perNotebook, after: stopped, want: []string{"daemon_down"}},
		{name: "daemon hangs", kind: classic, after: hang, want: []string{"daemon_hung"}},
		{name: "daemon of an earlier version", kind: classic, before: func(s *setup) { s.version = "1.2.2-test" }, want: []string{"daemon_outdated"}, mend: func(s *setup) { s.version = version; s.restart() }},
		{name: "socket closed to users", kind: classic, root: true, after: func(s *setup) { s.must(os.Chmod(s.path("run/nb.sock"), 0o600)) }, want: []string{"socket_closed"}},
		{name: "directory of the socket closed", kind: launcher, root: true, after: func(s *setup) { s.must(os.Chmod(s.path("run"), 0o700)) }, want: []string{"socket_closed"}},
		{name: "client cannot be run", kind: classic, after: func(s *setup) { s.must(os.Chmod(s.path("nbidentity"), 0o644)) }, want: []string{"client_missing"}},
		{name: "port of a face taken", kind: classic, before: takePort, after: installed, want: []string{"face_closed"}, mend: func(s *setup) { s.onMend(""); s.restart() }},
		{name: "unit disabled", kind: classic, before: unit("UnitFileState", "disabled"), want: []string{"unit_disabled"}},
		{name: "unit failed", kind: classic, before: unit("ActiveState", "failed"), after: stopped, want: []string{"unit_inactive"}},
		{name: "unit restarts", kind: classic, before: unit("NRestarts", "123"), want: []string{"unit_restarts"}},
		{name: "unit missing", kind: classic, before: unit("LoadState", "not-found"), after: stopped, want: []string{"unit_missing"}},

		// What shadows nbidentityd.
		{name: "keys in a kernel's environment", kind: classic, alone: true, after: func(s *setup) {
			s.kernel("AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
		}, want: []string{"env_keys"}},
		{name: "profile in a kernel's environment", kind: profile, alone: true, after: func(s *setup) { s.kernel("AWS_PROFILE=personal") }, want: []string{"env_profile"}},
		{name: "config file in a kernel's environment", kind: classic, alone: true, after: func(s *setup) { s.kernel("AWS_CONFIG_FILE=/home/ec2-user/SageMaker/config") }, want: []string{"env_config_file"}},
		{name: "web identity in a kernel's environment", kind: classic, alone: true, after: func(s *setup) {
			s.kernel("AWS_WEB_IDENTITY_TOKEN_FILE=/tmp/t", "AWS_ROLE_ARN=arn:aws:iam::111122223333:role/R")
		}, want: []string{"env_web_identity"}},
		{name: "another home", kind: private, alone: true, after: func(s *setup) { s.kernel("HOME=/tmp/sagemaker-recovery-mode-home") }, want: []string{"env_home"}},
		{name: "kernels not told of the faces", kind: classic, before: faces, want: []string{"kernels_not_told"}},
		{name: "kernels told of another port", kind: profile, before: faces, after: both(installed, faces, (*setup).restart), want: []string{"kernels_not_told"}},
		{name: "kernel from before the installation", kind: classic, alone: true, before: faces, after: both(func(s *setup) { s.kernel() }, installed, later), want: []string{"kernel_old"}},
		{name: "keys in the credentials file", kind: classic, after: func(s *setup) {
			s.write(s.home("credentials"), "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n")
		}, want: []string{"credentials_shadow"}},
		{name: "credentials file is a link", kind: classic, before: func(s *setup) {
			s.write(s.home("x"), "")
			s.must(os.Symlink("/etc/hostname", s.home("credentials")))
		}, want: []string{"credentials_unreadable"}},
		{name: "config never written", kind: profile, after: both(stopped, func(s *setup) { s.must(os.Remove(s.home("config"))) }), want: []string{"config_missing", "daemon_down"}},
		{name: "config overwritten", kind: profile, after: both(stopped, func(s *setup) {
			s.write(s.home("config"), "[default]\nregion = us-east-1\nrole_arn = arn:aws:iam::111122223333:role/R\ncredential_source = Ec2InstanceMetadata\n")
		}), want: []string{"config_changed", "daemon_down"}},
		{name: "config that clients refuse", kind: classic, before: func(s *setup) { s.write(s.home("config"), "[default]\nregion = us-east-1\n[default]\noutput = json\n") }, want: []string{"config_syntax"},
			mend: func(s *setup) { s.write(s.home("config"), "[default]\nregion = us-east-1\n"); s.restart() }},
		{name: "config is a link", kind: classic, before: func(s *setup) {
			s.write(s.home("x"), "")
			s.must(os.Symlink(s.path("elsewhere"), s.home("config")))
		}, want: []string{"config_unreadable"}, mend: (*setup).restart},
		{name: "named profile of the base session", kind: classic, before: func(s *setup) {
			s.write(s.home("config"), "[profile team]\nrole_arn = arn:aws:iam::444455556666:role/R\ncredential_source = Ec2InstanceMetadata\n")
		}, want: []string{"profile_unnamed"}},
		{name: "named profile with a long session", kind: classic, before: func(s *setup) {
			s.write(s.home("config"), "[profile team]\nrole_arn = arn:aws:iam::444455556666:role/R\nsource_profile = default\nduration_seconds = 43200\n")
		}, want: []string{"profile_duration"}},

		// From an administrator's machine.
		{name: "admin: trust lacks SetSourceIdentity", kind: perNotebook, before: both(asAdmin(doctor.Admin{Notebook: "alice-nb"}), statements("nb-alice-nb", sidServe, "NbIdentityAssume")), want: []string{"trust_set_source_identity"}},
		{name: "admin: permission for the role missing", kind: perNotebook, before: both(asAdmin(doctor.Admin{Notebook: "alice-nb"}), func(s *setup) { s.dropPolicy("nb-alice-nb", "nbidentity") }), want: []string{"permission_assume_role"}},
		{name: "admin: profile, no self trust", kind: profile, before: both(asAdmin(doctor.Admin{Domain: domain, Profile: "alice"}), statements(execRole, sidServe)), want: []string{"trust_self_missing"}},
		{name: "admin: role alone, any name", kind: classic, before: both(asAdmin(doctor.Admin{Role: exec1}), func(s *setup) { s.role(execRole).Trust = []byte(openTrust); s.rebuild() }), want: []string{"name_open"}},
		{name: "admin: domain sets names, role does not let it", kind: propagated, before: both(asAdmin(doctor.Admin{Domain: domain}), trust(execRole, `"Principal":{"Service":"sagemaker.amazonaws.com"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"]`, plainStatement)), want: []string{"propagation_trust"}},
		{name: "admin: launcher, work role's trust", kind: launcher, before: both(asAdmin(doctor.Admin{Notebook: "alice-nb", Role: "arn:aws:iam::111122223333:role/NotebookWork"}), statements("NotebookWork", "NbIdentitySet")), want: []string{"trust_base_missing"}},
	}
}

const (
	plainStatement = `"Principal":{"Service":"sagemaker.amazonaws.com"},"Action":"sts:AssumeRole"`
	plainService   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"sagemaker.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	serve          = `{"Effect":"Allow","Principal":{"Service":"sagemaker.amazonaws.com"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"]}`
	openTrust      = `{"Version":"2012-10-17","Statement":[` + serve + `,
 {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"],
  "Condition":{"ArnEquals":{"aws:PrincipalArn":"` + exec1 + `"},"StringLike":{"sts:SourceIdentity":"*"},"Null":{"aws:SourceIdentity":"true"}}}]}`
	joinedTrust = `{"Version":"2012-10-17","Statement":[` + serve + `,
 {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"],
  "Condition":{"ArnEquals":{"aws:PrincipalArn":"` + exec1 + `"},"StringEquals":{"sts:SourceIdentity":"alice-nb","sts:RoleSessionName":"alice-nb"},"Null":{"aws:SourceIdentity":"true"}}}]}`
	deadTrust = `{"Version":"2012-10-17","Statement":[` + serve + `,
 {"Effect":"Allow","Principal":{"AWS":"AROAIOSFODNN7EXAMPLEX"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:RoleSessionName":"alice-nb"}}},
 {"Effect":"Allow","Principal":{"AWS":"AROAIOSFODNN7EXAMPLEX"},"Action":"sts:SetSourceIdentity","Condition":{"StringEquals":{"sts:SourceIdentity":"alice-nb"}}}]}`
	baseTrust = `{"Version":"2012-10-17","Statement":[` + serve + `,
 {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"sts:AssumeRole",
  "Condition":{"ArnEquals":{"aws:PrincipalArn":"` + exec1 + `"},"StringEquals":{"sts:SourceIdentity":"alice-nb","sts:RoleSessionName":"alice-nb"},"Null":{"aws:SourceIdentity":"true"}}},
 {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"sts:SetSourceIdentity",
  "Condition":{"ArnEquals":{"aws:PrincipalArn":"` + exec1 + `"},"StringEquals":{"sts:SourceIdentity":"alice-nb"}}}]}`
)

func asAdmin(a doctor.Admin) func(*setup) {
	return func(s *setup) { s.admin = &a }
}

func unit(key, value string) func(*setup) {
	return func(s *setup) {
		s.systemd = map[string]string{"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "NRestarts": "0", "Result": "success"}
		s.systemd[key] = value
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// hang puts somebody who never answers in the daemon's place, until it is
// started again.
func hang(s *setup) {
	s.stop()
	_ = os.Remove(s.path("run/nb.sock"))
	l, err := net.Listen("unix", s.path("run/nb.sock"))
	s.must(err)
	s.must(os.Chmod(s.path("run/nb.sock"), 0o666))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	s.stop = func() { l.Close(); s.stop = nil }
	s.t.Cleanup(func() { l.Close() })
}

// takePort is faster than the daemon at one of its ports, and gives it back when
// it is told to.
func takePort(s *setup) {
	port, err := lab.FreePort()
	s.must(err)
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	s.must(err)
	s.t.Cleanup(func() { l.Close() })
	s.onMend = func(string) {
		l.Close()
		// A program that another test is just starting keeps the port a moment longer.
		for refused := false; !refused; {
			c, err := net.Dial("tcp4", l.Addr().String())
			if refused = errors.Is(err, syscall.ECONNREFUSED); err == nil {
				c.Close()
				time.Sleep(time.Millisecond)
			}
		}
	}
	s.change(func(set *settings.Settings) { set.Faces.ContainerPort = port })
}

// faces opens the container face at a port of its own, as systemd does: nobody
// can take it meanwhile.
func faces(s *setup) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	s.must(err)
	file, err := l.(*net.TCPListener).File()
	s.must(err)
	s.t.Cleanup(func() { l.Close(); file.Close() })
	s.sockets = append(s.sockets, file)
	s.change(func(set *settings.Settings) { set.Faces.ContainerPort = l.Addr().(*net.TCPAddr).Port })
}

func installed(s *setup) { s.must(s.install()) }

// later makes the installation younger than what was started before it, without
// waiting.
func later(s *setup) {
	for _, path := range []string{s.path("root") + kernelenv.ProfilePath, s.path("root") + kernelenv.StartupPath, s.path("root") + kernelenv.DropInPath, kernelenv.HomePath(s.path("home"))} {
		now := time.Now().Add(5 * time.Second)
		if err := os.Chtimes(path, now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.t.Fatal(err)
		}
	}
}

func ids(r report.Report) []string {
	var all []string
	for _, f := range r.Findings {
		all = append(all, f.ID)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func text(t *testing.T, r report.Report) string {
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestSetUps breaks set-ups that are in order, wants the defect found and
// nothing else, does what doctor says, and wants nothing found.
func TestSetUps(t *testing.T) {
	dir := t.TempDir()
	program := sync.OnceValue(func() string {
		path := filepath.Join(dir, "nbidentityd")
		if out, err := exec.Command("go", "build", "-o", path, "../../cmd/nbidentityd").CombinedOutput(); err != nil {
			t.Errorf("building nbidentityd: %v: %s", err, out)
		}
		return path
	})
	all := setups()
	var tried, found, missed, wrong atomic.Int32
	t.Run("all", func(t *testing.T) {
		for _, tt := range all {
			t.Run(tt.name, func(t *testing.T) {
				if tt.root && os.Getuid() != 0 {
					t.Skip("needs root: the notebook's user must not be the daemon's")
				}
				tried.Add(1)
				if !tt.alone {
					t.Parallel()
				}
				tt.try(t, program, &found, &missed, &wrong)
			})
		}
	})
	fmt.Printf("doctor: %d set-ups, %d found, %d missed, %d false\n", tried.Load(), found.Load(), missed.Load(), wrong.Load())
}

// try breaks, examines, mends and examines again.
func (tt broken) try(t *testing.T, program func() string, found, missed, wrong *atomic.Int32) {
	s := newSetup(t, tt.kind)
	s.program = program
	if tt.before != nil {
		tt.before(s)
	}
	s.start()
	if tt.after != nil {
		tt.after(s)
	}
	began := time.Now()
	r := s.examine()
	if took := time.Since(began); took > atMost {
		t.Errorf("it took %s", took)
	}
	got := ids(r)
	for _, id := range tt.want {
		if slices.Contains(got, id) {
			continue
		}
		missed.Add(1)
		t.Errorf("%s was not found", id)
	}
	for _, id := range got {
		if !slices.Contains(tt.want, id) {
			wrong.Add(1)
			t.Errorf("%s is a false finding", id)
		}
	}
	if !t.Failed() {
		found.Add(1)
	}
	for _, f := range r.Findings {
		if len(f.Commands) == 0 || f.Saw == "" || f.Means == "" {
			t.Errorf("%s has no remedy, or says nothing", f.ID)
		}
	}
	out := text(t, r)
	for _, secret := range []string{"wJalrXUtnFEMI", "AKIAIOSFODNN7EXAMPLE"} {
		if strings.Contains(out, secret) {
			t.Errorf("the report holds a secret: %s", secret)
		}
	}
	s.mend(r)
	if tt.mend != nil {
		tt.mend(s)
	}
	s.settle()
	if after := s.examine(); len(after.Findings) > 0 {
		t.Errorf("after the remedy:\n%s\nbefore:\n%s", text(t, after), out)
	}
}

// TestHealthy wants nothing found where nothing is wrong.
func TestHealthy(t *testing.T) {
	for _, kind := range []string{classic, perNotebook, launcher, profile, propagated, private, shared} {
		t.Run(kind, func(t *testing.T) {
			s := newSetup(t, kind)
			s.jobRoles = []string{s.scenario.Roles[slices.IndexFunc(s.scenario.Roles, func(r scenario.Role) bool { return strings.Contains(strings.ToLower(r.Name), "job") })].Name}
			faces(s)
			s.start()
			installed(s)
			s.kernel()
			r := s.examine()
			if len(r.Findings) > 0 || len(r.Gaps) > 0 {
				t.Errorf("found in a healthy set-up:\n%s", text(t, r))
			}
			if kind == shared && !slices.ContainsFunc(r.Notes, func(n report.Note) bool { return n.ID == "shared_space" }) {
				t.Errorf("nothing about the shared space:\n%s", text(t, r))
			}
			s.bare = true // a login shell of Studio's
			if r := s.examine(); len(r.Findings) > 0 {
				t.Errorf("found in a healthy set-up, in a bare terminal:\n%s", text(t, r))
			}
			s.bare = false
			withoutIAM(s) // as most notebooks are
			s.restart()
			if r := s.examine(); len(r.Findings) > 0 {
				t.Errorf("found in a healthy set-up without IAM:\n%s", text(t, r))
			}
		})
	}
}

// settle waits until a daemon that was mended has credentials.
func (s *setup) settle() {
	if s.stop == nil || s.admin != nil {
		return
	}
	set, err := s.load()
	if err != nil {
		return
	}
	for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		r, err := (host.Config{Socket: set.Socket}).Ask(context.Background())
		if err == nil && r.Credential != nil && r.Problem == nil {
			return
		}
	}
	s.restart() // it waits for its next attempt, which may be a minute away
}
