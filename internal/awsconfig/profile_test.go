package awsconfig

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// Which edits a guard may leave alone.
func TestBinds(t *testing.T) {
	t.Parallel()
	applied := apply(t, "[default]\noutput = json\n[profile b]\nrole_arn = c\nsource_profile = default\n")
	process := "credential_process = /usr/bin/nbidentity credentials\n"
	tests := []struct {
		name     string
		old, new string // the edit: the first old becomes new
		want     bool
	}{
		{"nothing", "", "", true},
		{"another profile", "[profile b]", "[profile c]\ncredential_process = /x\n[profile b]", true},
		{"the region", "region = us-east-1", "region = eu-west-3", true},
		{"the region is deleted", "region = us-east-1\n", "", true},
		{"the endpoints", "regional\n", "legacy\n", true},
		{"a key of the user's", "output = json\n", "output = text\nretry_mode = standard\n", true},
		{"the marks are deleted", begin, "", true},
		{"another command", "/usr/bin/nbidentity c", "/tmp/evil c", false},
		{"another argument", "credentials\n", "credentials --x\n", false},
		{"a continued command", process, process + "  --x\n", false},
		{"a comment that Java takes for the command's", process, process + "  # x\n", false},
		{"a blank line and a continued command", process, process + "\n\t--x\n", false},
		{"the command is gone", process, "", false},
		{"the command is a comment", process, "# " + process, false},
		{"the command in another section", "[default]\n", "[profile x]\n", false},
		{"a role", "output = json\n", "output = json\nrole_arn = x\n", false},
		{"static keys", "output = json\n", "aws_access_key_id = AKIASTATICEXAMPLE\n", false},
		{"an odd spelling", "output = json\n", "Role_ARN : x\n", false},
		{"single sign-on", "output = json\n", "sso_session = x\n", false},
		{"nested", "output = json\n", "s3 =\n  role_arn = x\n", false},
		{"a second default", "[profile b]", "[profile default]\nregion = x\n[profile b]", false},
		{"an odd header", "[default]", "[ default ]", false},
		{"inherited", "[profile b]", "[DEFAULT]\nrole_arn = x\n[profile b]", false},
		{"unreadable", "[profile b]", "junk\n[profile b]", false},
		{"doubled", "[profile b]", "[default]\n[profile b]", false},
		{"empty", applied, "", false},
	}
	for _, tt := range tests {
		if got := Binds([]byte(strings.Replace(applied, tt.old, tt.new, 1)), testManaged); got != tt.want {
			t.Errorf("%s: Binds = %v", tt.name, got)
		}
	}
	if Binds(make([]byte, MaxSize+1), testManaged) {
		t.Error("a huge text binds")
	}
}

// However lines are mixed up: what binds gives the process's credentials in
// the grammars furthest from botocore's, too.
func TestWhatBindsIsBound(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	binds := 0
	const n = 8000
	for range n {
		lines := strings.SplitAfter(apply(t, "[default]\noutput = json\nregion = x\n[profile b]\nregion = c\n"), "\n")
		for range 1 + r.IntN(3) {
			i, j := r.IntN(len(lines)), r.IntN(len(lines))
			switch extra := strings.SplitAfter(nasty(r), "\n"); r.IntN(3) {
			case 0:
				lines[i], lines[j] = lines[j], lines[i]
			case 1:
				lines[i] = extra[r.IntN(len(extra))]
			default:
				lines[i] = extra[r.IntN(len(extra))] + "\n" + lines[i]
			}
		}
		text := strings.Join(lines, "")
		if !Binds([]byte(text), testManaged) {
			continue
		}
		binds++
		for name, read := range map[string]func(string) (map[string]string, bool){"js": readJS, "java": readJava} {
			got, ok := read(text)
			if !ok {
				continue
			}
			if got[keyProcess] != testManaged.CredentialProcess {
				t.Fatalf("%s reads %q from %q", name, got[keyProcess], text)
			}
			for k := range got {
				if conflicting(k) && k != keyProcess {
					t.Fatalf("%s reads %s from %q", name, k, text)
				}
			}
		}
	}
	if binds < n/20 || binds == n {
		t.Errorf("%d of %d texts bind: nothing was tested", binds, n)
	}
	t.Logf("%d of %d texts bind", binds, n)
}

func TestAddProfile(t *testing.T) {
	t.Parallel()
	keys := []Key{{"role_arn", "arn:aws:iam::111122223333:role/x"}, {"source_profile", "default"}}
	section := "[profile p]\nrole_arn = arn:aws:iam::111122223333:role/x\nsource_profile = default\n"
	for before, want := range map[string]string{
		"":                             section,
		"[default]\nregion = a":        "[default]\nregion = a\n" + section,
		"[profile q]\r\n# odd\r\n":     "[profile q]\r\n# odd\r\n" + strings.ReplaceAll(section, "\n", "\r\n"),
		apply(t, ""):                   apply(t, "") + section,
		"[p]\nx = y\n[profile pp]\n\n": "[p]\nx = y\n[profile pp]\n\n" + section,
	} {
		got, err := AddProfile([]byte(before), "p", keys)
		if err != nil || string(got) != want {
			t.Errorf("AddProfile(%q) = %q, %v", before, got, err)
		}
		if _, err := AddProfile(got, "p", keys); err == nil || !strings.Contains(err.Error(), "already on line") {
			t.Errorf("the same profile again: %v", err)
		}
	}
	refused := []struct {
		text, name string
		keys       []Key
		says       string
	}{
		{"", "default", keys, "default"}, {"", "Default", keys, "default"}, {"", "", keys, "name"},
		{"", "a b", keys, "name"}, {"", "a]\n[default", keys, "name"}, {"", `"default"`, keys, "name"}, {"", "-x", keys, "name"},
		{"", strings.Repeat("a", 65), keys, "name"},
		{"", "p", nil, "0 keys"},
		{"", "p", make([]Key, 65), "65 keys"},
		{"", "p", []Key{{"region", "a"}, {"region", "b"}}, "twice"},
		{"", "p", []Key{{"credential_process", "/bin/x"}}, "credential_process"},
		{"", "p", []Key{{"credential_source", "Ec2InstanceMetadata"}}, "source_profile = default"},
		{"", "p", []Key{{"aws_secret_access_key", "hush"}}, "~/.aws/credentials"},
		{"", "p", []Key{{"Region", "x"}}, "lower-case"}, {"", "p", []Key{{"a = b\nc", "x"}}, "lower-case"}, {"", "p", []Key{{"# nbidentityd", "x"}}, "lower-case"},
		{"", "p", []Key{{"region", ""}}, "printable"}, {"", "p", []Key{{"region", "x\n[default]"}}, "printable"},
		{"", "p", []Key{{"region", " x"}}, "printable"}, {"", "p", []Key{{"region", "x # y"}}, "printable"},
		{"", "p", []Key{{"region", "\xff"}}, "printable"}, {"", "p", []Key{{"region", strings.Repeat("x", 2049)}}, "printable"},
		{"", "p", []Key{{"region", "x\u2028y"}}, "printable"},
		{"junk\n", "p", keys, "line 1"},
		{`[profile "p"]` + "\n", "p", keys, "line 1"},
		{strings.Repeat("#\n", MaxSize/2), "p", keys, "1 MiB"},
		{strings.Repeat("#\n", MaxSize), "p", keys, "1 MiB"},
	}
	for _, tt := range refused {
		if got, err := AddProfile([]byte(tt.text), tt.name, tt.keys); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("AddProfile(%.20q, %q, %.80q) = %.80q, %v, want an error saying %q", tt.text, tt.name, tt.keys, got, err, tt.says)
		} else if strings.Contains(err.Error(), "hush") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func TestRemoveProfile(t *testing.T) {
	t.Parallel()
	const tail = "\n# about b\n[profile b]\nregion = b\n"
	for _, tt := range []struct{ name, text, want string }{
		{"the last one", "[default]\noutput = json\n[profile a]\nregion = a\n", "[default]\noutput = json\n"},
		{"comments after it stay", "[profile a]\nregion = a\n" + tail, tail},
		{"nested keys", "[profile a]\ns3 =\n  endpoint_url = x\n\n# in it\nregion = a\n" + tail, tail},
		{"an indented comment would go on the value before", "[profile z]\nregion = z\n[profile a]\nregion = a\n  # note\n", "[profile z]\nregion = z\n"},
		{"an odd spelling", "[profile \"a\"]\nregion = a\n" + tail, tail},
		{"no end of the last line", "[profile z]\nregion = z\n[profile a]\nregion = a", "[profile z]\nregion = z\n"},
		{"an empty one", "[profile a]\n[profile z]\nx = y\n", "[profile z]\nx = y\n"},
		{"managed", apply(t, "[profile a]\nrole_arn = a\n[profile z]\nx = y\n"), apply(t, "[profile z]\nx = y\n")},
	} {
		got, err := RemoveProfile([]byte(tt.text), "a")
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
	for text, name := range map[string]string{
		"[default]\nx = y\n": "default", "[profile default]\nx = y\n": "Default", "[a]\nx = y\n": "a",
		"[profile b]\nx = y\n": "a", "junk\n[profile a]\nx = y\n": "a", "[profile a b]\n": "a b", "": "",
	} {
		if got, err := RemoveProfile([]byte(text), name); err == nil {
			t.Errorf("%q was removed from %q: %q", name, text, got)
		}
	}
}

// What was added can be removed, and nothing else goes with it.
func TestRemoveIsAddUndone(t *testing.T) {
	t.Parallel()
	for name, text := range leftovers(t) {
		for _, text := range []string{text, apply(t, text)} {
			added, err := AddProfile([]byte(text), "new-one", []Key{{"region", "eu-west-1"}, {"s3", "a = b"}})
			if err != nil {
				continue // a file that has it, or that nobody reads
			}
			got, err := RemoveProfile(added, "new-one")
			if want := string(added[:bytes.LastIndex(added, []byte("[profile new-one]"))]); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v, want %q", name, got, err, want)
			}
		}
	}
}

func FuzzAddProfile(f *testing.F) {
	f.Add([]byte(""), "p", "region", "us-east-1")
	f.Add([]byte("[default]\r\nregion = a"), "p.q", "s3", "x = y")
	f.Add([]byte(apply(f, "[profile a]\nrole_arn = b\n")), "default", "credential_process", "/x")
	f.Fuzz(func(t *testing.T, config []byte, name, key, value string) {
		text, err := AddProfile(config, name, []Key{{key, value}})
		if err != nil {
			return
		}
		if !bytes.HasPrefix(text, config) {
			t.Errorf("bytes of the user's were changed: %q → %q", config, text)
		}
		if Binds(config, testManaged) != Binds(text, testManaged) {
			t.Errorf("the default profile is another: %q → %q", config, text)
		}
		edit, err := Apply(config, testManaged)
		if err != nil {
			return
		}
		added, err := AddProfile(edit, name, []Key{{key, value}})
		if err != nil {
			t.Fatalf("AddProfile after Apply: %v", err)
		}
		if found := Check(added, testManaged); len(found) > 0 {
			t.Errorf("Check of %q: %v", added, found)
		}
	})
}
