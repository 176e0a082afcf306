package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// policy runs the policy command.
func policy(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	err = runPolicy(t.Context(), program{stdout: &out, stderr: &diagnostics, getenv: func(string) string { return "" }}, args)
	return out.String(), diagnostics.String(), err
}

func TestPolicyWrites(t *testing.T) {
	names := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(names, []byte("# team\ncarol-nb\r\n\n dave-nb \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, err := policy(t, "launcher", "-account", "111122223333", "-name", "alice-nb,bob-nb", "-names-file", names, "-region", "cn-north-1", "-tag", "who")
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Mode  string
		Roles []struct {
			ARN  string
			Tags map[string]string
		}
	}
	if err := json.Unmarshal([]byte(out), &set); err != nil {
		t.Fatal(err)
	}
	tagged := map[string]string{}
	for _, r := range set.Roles {
		if r.Tags["who"] != "" {
			tagged[r.Tags["who"]] = r.ARN
		}
	}
	if len(tagged) != 4 || tagged["carol-nb"] != "arn:aws-cn:iam::111122223333:role/nb-launch/launch-carol-nb" {
		t.Errorf("launchers: %v", tagged)
	}
	for format, begins := range map[string]string{"cloudformation-json": "{", "cloudformation-yaml": "# IAM documents", "terraform": "# IAM documents", "cli": "#!/bin/sh\n"} {
		out, _, err := policy(t, "self", "-role", "arn:aws:iam::111122223333:role/service-role/ExecRole", "-name", "alice-nb", "-format", format)
		if err != nil || !strings.HasPrefix(out, begins) {
			t.Errorf("%s: %v: %.100s", format, err, out)
		}
	}
}

func TestPolicyExplains(t *testing.T) {
	out, _, err := policy(t, "self", "-role", "arn:aws:iam::111122223333:role/ExecRole", "-name", "alice-nb", "-name", "bob-nb", "-explain", "-deny-unattributed")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"POSSIBLE  abuse", "denied    abuse     a named session renews itself", "sts:GetCallerIdentity (cannot be denied anyway)", "DenyUnattributed breaks"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, `"Statement"`) {
		t.Error("it wrote documents too")
	}
}

func TestPolicyUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		err  error
		say  string
	}{
		{nil, errUsage, "studio-propagation"},
		{[]string{"-h"}, flag.ErrHelp, "studio-propagation"},
		{[]string{"-name", "x"}, errUsage, "policy MODE"},
		{[]string{"best"}, errUsage, `no mode "best"`},
		{[]string{"self", "-h"}, flag.ErrHelp, "-deny-unattributed"},
		{[]string{"self", "-size", "9"}, errUsage, "-size"},
		{[]string{"self", "alice"}, errUsage, `unexpected argument "alice"`},
		{[]string{"per-profile", "-user-id", "alice"}, errUsage, "profile=id"},
	} {
		out, diagnostics, err := policy(t, test.args...)
		said, silent := diagnostics, out
		if errors.Is(test.err, flag.ErrHelp) { // asked for, so it is what the command is for
			said, silent = out, diagnostics
		}
		if !errors.Is(err, test.err) || !strings.Contains(said, test.say) || silent != "" {
			t.Errorf("%q: %v, want %v; %q on stderr, %q on stdout", test.args, err, test.err, diagnostics, out)
		}
	}
}

func TestPolicyFails(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"self", "-role", "X", "-name", "a-nb"}, "account is missing"},
		{[]string{"self", "-role", "arn:aws:iam::111122223333:role/X", "-name", "a-nb", "-format", "toml"}, `no format "toml"`},
		{[]string{"self", "-role", "arn:aws:iam::111122223333:role/X", "-name", "a-nb", "-template", "{who}"}, "template"},
		{[]string{"launcher", "-names-file", "/nonexistent/names"}, "reading names"},
	} {
		out, _, err := policy(t, test.args...)
		if err == nil || !strings.Contains(err.Error(), test.want) || out != "" {
			t.Errorf("%q: %v, want %q; %q on stdout", test.args, err, test.want, out)
		}
	}
}
