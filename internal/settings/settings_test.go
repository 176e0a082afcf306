package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	got, err := Parse("f.toml", []byte(`
metadata_wait = "90s"
log_level = "debug"

[identity]
session_name = "{kind}_{name}"

[role]
arn = "arn:{partition}:iam::{account}:role/SageMakerStudioExecutionRole_{name}"
tags = { team = "fraud" }

[endpoints]
sts = "https://vpce-1.sts.us-east-1.vpce.amazonaws.com"

[[user]]
name = "ec2-user"

[[user]]
name = "root"
home = "/root"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.MetadataWait = Duration(90 * time.Second)
	want.LogLevel = "debug"
	want.Identity.SessionName = "{kind}_{name}"
	want.Role = Role{
		ARN:  "arn:{partition}:iam::{account}:role/SageMakerStudioExecutionRole_{name}",
		Tags: map[string]string{"team": "fraud"},
	}
	want.Endpoints.STS = "https://vpce-1.sts.us-east-1.vpce.amazonaws.com"
	want.Users = []User{{Name: "ec2-user"}, {Name: "root", Home: "/root"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseEmptyIsDefault(t *testing.T) {
	got, err := Parse("f.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Error(diff)
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"misspelt", "metadata_fil = \"/x\"\n", []string{`f.toml:1: unknown key "metadata_fil"; did you mean "metadata_file"?`}},
		{"misspelt in a table", "[endpoints]\n\nstss = \"https://x\"\n", []string{`f.toml:3: unknown key "endpoints.stss"; did you mean "endpoints.sts"?`}},
		{"in the wrong table", "[role]\nsession_name = \"x\"\n", []string{`f.toml:2: unknown key "role.session_name"; did you mean "identity.session_name"?`}},
		{"nothing near", "zzzzzzzz = 1\n", []string{`f.toml:1: unknown key "zzzzzzzz"`}},
		{"two at once", "aaaaaaaaaaaa = 1\nlog_levle = \"info\"\n", []string{"f.toml:1:", "f.toml:2:", `"log_level"`}},
		{"wrong type", "\nsocket = 3\n", []string{"f.toml:2:"}},
		{"syntax", "socket = \n", []string{"f.toml:1:"}},
		{"given twice", "socket = \"/a\"\nsocket = \"/b\"\n", []string{"f.toml"}},
		{"bad duration", "metadata_wait = \"soon\"\n", []string{"f.toml:1:", "2m"}},
		{"no wait", "metadata_wait = \"0s\"\n", []string{"metadata_wait"}},
		{"wait without a unit", "metadata_wait = 120\n", []string{"metadata_wait: want a duration", "120ns"}},
		{"name of a role", "[role]\narn = \"WorkRole\"\n", []string{"role.arn: want arn:aws:iam::"}},
		{"session for a role", "[role]\narn = \"arn:aws:sts::111122223333:assumed-role/WorkRole/x\"\n", []string{"role.arn: want arn:aws:iam::"}},
		{"relative", "socket = \"nb.sock\"\nstate_dir=\"x\"\n", []string{"socket: want an absolute path", "state_dir: want an absolute path"}},
		{"long socket", "socket = \"/" + strings.Repeat("s", 107) + "\"\n", []string{"socket: 108 bytes"}},
		{"level", "log_level = \"loud\"\n", []string{"log_level"}},
		{"endpoint", "[endpoints]\nsts = \"sts.us-east-1.amazonaws.com\"\n", []string{"endpoints.sts: want http"}},
		{"endpoint query", "[endpoints]\nsts = \"https://h/?a=b\"\n", []string{"endpoints.sts: want no user"}},
		{"container path", "[endpoints]\ncontainer_path = \"creds\"\n", []string{"endpoints.container_path"}},
		{"port", "[faces]\nimds_port = 70000\n", []string{"faces.imds_port: want a port"}},
		{"one port for both", "[faces]\nimds_port = 937\n", []string{"both are on port 937"}},
		{"nameless user", "[[user]]\nhome = \"/root\"\n", []string{"user 1: name is missing"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.toml", []byte(tt.text))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("missing file: %v", err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("big file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("socket = \"/run/x\"\n[[user]]\nname=\"a\"\n"))
	f.Add([]byte("[role.tags]\nq.r = 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("f", data)
		if err == nil && s.Validate() != nil {
			t.Errorf("accepted what Validate refuses: %v", s.Validate())
		}
	})
}
