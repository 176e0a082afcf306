package awsconfig

import (
	"fmt"
	"strings"
	"testing"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, config, credentials, want string }{
		{"none", "[default]\nregion = a\n[profile x]\ns3 =\n  a = b\n", "[default]\nx = y\n", ""},
		{"a colon", "[profile x]\noutput: json\n", "", "config:2:output"},
		{"a colon in the default profile is rewritten", apply(t, "[default]\noutput: json\n"), "", ""},
		{"a colon before the equals sign", "[profile x]\nurl: a=b\n", "", ""},
		{"a colon in a nested line", "[profile x]\ns3 =\n  a = b:c\n", "", ""},
		{"a colon in a continuation", "[profile x]\na = b\n  c: d\n", "", ""},
		{"a colon in the credentials", "", "[x]\n\naws_access_key_id : AKIAIOSFODNN7EXAMPLE\n", "credentials:3:aws_access_key_id"},
		{"an indented key", "[profile x]\n  output = json\n", "", "config:2:output"},
		{"an indented header", "[profile x]\n  [profile y]\n", "", "config:2:"},
		{"a comment behind the region", "[default]\nregion = us-west-2 # home\n", "", "config:2:region"},
		{"a comment behind the region of [profile default]", "[profile default]\nregion=us-west-2\t; home\n", "", "config:2:region"},
		{"a comment behind another profile's region is that profile's", "[profile x]\nregion = us-west-2 # home\n", "", ""},
		{"a sign without a blank is none", "[default]\nregion = a#b\n", "", ""},
		{"unreadable", "junk\n[profile x]\noutput: json\n", "\xff", ""},
	} {
		var got []string
		for _, f := range Faults([]byte(tt.config), []byte(tt.credentials)) {
			got = append(got, fmt.Sprintf("%s:%d:%s", f.File, f.Line, f.Key))
			if f.Remedy == "" || f.Problem == "" {
				t.Errorf("%s: %+v", tt.name, f)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
}

// The readers in this package's tests, which follow JavaScript's and Java's
// grammars, agree on what a colon does.
func TestFaultsAgreeWithTheGrammars(t *testing.T) {
	t.Parallel()
	for name, text := range leftovers(t) {
		applied, err := Apply([]byte(text), testManaged)
		if err != nil {
			continue
		}
		_, reads := readJava(string(applied))
		colons := 0
		for _, f := range Faults(applied, nil) {
			if strings.Contains(f.Problem, "Java") {
				colons++
			}
		}
		if !reads && colons == 0 {
			t.Errorf("%s: Java refuses it and no fault says so", name)
		} else if reads && colons > 0 {
			t.Errorf("%s: Java reads it, and a fault says otherwise", name)
		}
	}
}
