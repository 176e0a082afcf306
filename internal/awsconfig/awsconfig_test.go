package awsconfig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var testManaged = Managed{
	CredentialProcess:    "/usr/bin/nbidentity credentials",
	Region:               "us-east-1",
	STSRegionalEndpoints: "regional",
}

const (
	begin    = beginMark + "\n"
	beginNew = beginNewMark + "\n"
	keys     = "credential_process = /usr/bin/nbidentity credentials\nsts_regional_endpoints = regional\n"
	end      = endMark + "\n"
	endEast  = "region = us-east-1\n" + endMark + endRegion + "us-east-1\n"
	off      = offMark
	was      = wasMark
)

func TestApply(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"empty", "", beginNew + "[default]\n" + keys + endEast},
		{"header only", "[default]\n", "[default]\n" + begin + keys + endEast},
		{"user's region stays", "[default]\nregion = eu-west-1\n",
			"[default]\n" + begin + keys + end + "region = eu-west-1\n"},
		{"user's region in another case stays", "[default]\nRegion: eu-west-1\n",
			"[default]\n" + begin + keys + end + was + "Region: eu-west-1\nRegion = eu-west-1\n"},
		{"empty region is no preference", "[default]\nregion =\n",
			"[default]\n" + begin + keys + endEast + off + "region =\n"},
		{"conflict with continuation lines", "[default]\nrole_arn = a\n b\n\n\t# c\n d = e\noutput = json\n f\n",
			"[default]\n" + begin + keys + endEast + off + "role_arn = a\n" + off + " b\n\n" + off + "\t# c\n" + off + " d = e\noutput = json\n f\n"},
		{"conflict that only some clients see", "[default]\noutput = json\n  role_arn = a\n  other = b\n",
			"[default]\n" + begin + keys + endEast + "output = json\n" + off + "  role_arn = a\n  other = b\n"},
		{"indented section", "[default]\n  # note\n  output = json\n  s3 =\n    a = b\n",
			"[default]\n" + begin + keys + endEast + off + "  # note\n" + was + "  output = json\noutput = json\n" + was + "  s3 =\ns3 =\n    a = b\n"},
		{"indented headers", " [default]\n output = json\n [profile b]\n x = y\n",
			was + " [default]\n[default]\n" + begin + keys + endEast + was + " output = json\noutput = json\n" + was + " [profile b]\n[profile b]\n x = y\n"},
		{"spaced header", "[ default ]\n", was + "[ default ]\n[default]\n" + begin + keys + endEast},
		{"header with comment", "[default] ; mine\n", "[default] ; mine\n" + begin + keys + endEast},
		{"no final newline at the header", "[default]", "[default]\n" + begin + keys + strings.TrimSuffix(endEast, "\n")},
		{"no final newline at a conflict", "[default]\nrole_arn=x", "[default]\n" + begin + keys + endEast + off + "role_arn=x"},
		{"no final newline at a rewritten line", "[default]\n a=b", "[default]\n" + begin + keys + endEast + was + " a=b\na=b"},
		{"new section on top, indented note below", "# a\n  # b\n[profile x]\n  # c\n",
			beginNew + "[default]\n" + keys + endEast + "# a\n" + off + "  # b\n[profile x]\n  # c\n"},
		{"header that JavaScript overlooks", "[profile a]#x\nrole_arn = b\n", beginNew + "[default]\n" + keys + endEast + was + "[profile a]#x\n[profile a] #x\nrole_arn = b\n"},
		{"both forms", "[default]\nsso_region = a\n[profile default]\nregion = b\n",
			"[default]\n" + begin + keys + endEast + off + "sso_region = a\n[profile default]\n" + begin + keys + end + "region = b\n"},
		{"inherited region", "[DEFAULT]\nregion = eu-west-1\n[default]\n", "[DEFAULT]\nregion = eu-west-1\n[default]\n" + begin + keys + end},
		{"CRLF", "[default]\r\nrole_arn=x\r\n",
			strings.ReplaceAll("[default]\n"+begin+keys+endEast+off+"role_arn=x\n", "\n", "\r\n")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Apply([]byte(tt.in), testManaged)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("Apply (-want +got):\n%s", diff)
			}
			checkLaws(t, tt.in)
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		line     int
		problem  string
	}{
		{"duplicate section", "[default]\n[profile a]\n[default]\n", 3, "already on line 1"},
		{"duplicate other section", "[default]\n[profile a]\n[profile a]\n", 3, "already on line 2"},
		{"two spellings", "[default]\n[ default ]\n", 2, "already on line 1"},
		{"two quotings", "[profile default]\n[profile \"default\"]\n", 2, "already on line 1"},
		{"duplicate key", "[profile a]\nx = 1\nX: 2\n", 3, "already on line 2"},
		{"no equals sign", "[default]\nregion\n", 2, "neither"},
		{"no key", "[default]\n= x\n", 2, "without a key"},
		{"before the first section", "region = x\n[default]\n", 1, "before the first"},
		{"byte order mark", "\ufeff[default]\n", 1, "byte order mark"},
		{"NUL", "[default]\nregion = a\x00b\n", 2, "control character"},
		{"UTF-16", "[\x00d\x00e\x00", 1, "control character"},
		{"lone CR", "[default]\noutput = json\rrole_arn = x\n", 2, "carriage return"},
		{"not UTF-8", "# caf\xe9\n[default]\n", 1, "not UTF-8"},
		{"no-break space", "[default]\n\u00a0role_arn = x\n", 2, "U+00A0"},
		{"line separator", "[default]\ns3 =\n a = b\u2028c\n", 3, "U+2028"},
		{"nested without equals sign", "[profile a]\ns3 =\n  junk\n", 3, "nested"},
		{"indented header as continuation", "[default]\noutput = json\n  [profile b]\n", 3, "indented section header"},
		{"text after header", "[default] role_arn = x\n", 1, "after a section header"},
		{"comment sign in a name", "[default]\n[profile a;b]\n", 2, "comment sign"},
		{"two forms, one oddly spelt", "[default]\n[profile  default]\n", 2, "not both are spelt plainly"},
		{"conflict in DEFAULT", "[DEFAULT]\naws_access_key_id = x\n[default]\n", 2, "[DEFAULT]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Apply([]byte(tt.in), testManaged)
			syntax, ok := errors.AsType[*SyntaxError](err)
			if !ok {
				t.Fatalf("Apply = %q, %v, want a SyntaxError", got, err)
			}
			if syntax.Line != tt.line || !strings.Contains(syntax.Problem, tt.problem) || syntax.Remedy == "" {
				t.Errorf("error = %v, want line %d, %q and a remedy", err, tt.line, tt.problem)
			}
		})
	}
	if _, err := Apply(make([]byte, MaxSize+1), testManaged); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over-long text: %v", err)
	}
	if _, err := Remove(make([]byte, MaxSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over-long text: %v", err)
	}
}

// Line numbers must be those of the text as given, also when it holds marks.
func TestLineNumbersCountOurLines(t *testing.T) {
	t.Parallel()
	text := apply(t, "[default]\n[profile a]\nx = 1\n") + "x = 2\n"
	_, err := Apply([]byte(text), testManaged)
	syntax, ok := errors.AsType[*SyntaxError](err)
	if !ok || syntax.Line != strings.Count(text, "\n") {
		t.Errorf("error = %v, want line %d", err, strings.Count(text, "\n"))
	}
}

func TestManagedValidate(t *testing.T) {
	t.Parallel()
	good := []Managed{testManaged, {CredentialProcess: "/x"}, {CredentialProcess: "/opt/nb-1/x --socket=/run/a_b.sock credentials"}}
	for _, m := range good {
		if err := m.Validate(); err != nil {
			t.Errorf("%+v: %v", m, err)
		}
	}
	for _, command := range []string{"", "nbidentity", "./x", "/a/../b", "/a  b", "/a ", " /a", "/a\tb", "/a\nregion = x", "/a\r",
		`/a "b"`, "/a 'b'", "/a#b", "/a;b", "/a[b]", "/a %b", "/a ~b", "/a $b", `/a\b`, "/a|b", "/a&", "/a >b", "/a `b`", "/a*", "/é"} {
		if _, err := Apply(nil, Managed{CredentialProcess: command}); err == nil {
			t.Errorf("command %q accepted", command)
		}
	}
	for _, m := range []Managed{{"/x", "us east", ""}, {"/x", "us-east-1\n", ""}, {"/x", "", "Regional"}} {
		if err := m.Validate(); err == nil {
			t.Errorf("%+v accepted", m)
		}
	}
}

// What a user or a tool does after Apply.
func TestLaterEdits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, before string
		old, new     string // the edit: the first old becomes new
		removed      string
	}{
		{"another profile is added", "[default]\nrole_arn = a\n", "role_arn = a\n", "role_arn = a\n[profile b]\nregion = c\n",
			"[default]\nrole_arn = a\n[profile b]\nregion = c\n"},
		{"a key is added to the section that we added", "", "us-east-1\n", "us-east-1\noutput = json\n",
			"[default]\noutput = json\n"},
		{"a key is added to our section after the end mark", "[profile b]\n", "added region us-east-1\n", "added region us-east-1\noutput = json\n",
			"[default]\noutput = json\n[profile b]\n"},
		{"the region is changed in place", "[default]\n", "region = us-east-1", "region = eu-west-3",
			"[default]\nregion = eu-west-3\n"},
		{"a commented-out key is set anew", "[default]\nrole_arn = a\n more\n#\noutput = json\n", "output = json\n", "output = json\nrole_arn = b\n",
			"[default]\n#\noutput = json\nrole_arn = b\n"},
		{"a rewritten line is edited", "[default]\n  output = json\n", "\noutput = json\n", "\noutput = text\n",
			"[default]\noutput = text\n"},
		{"the command is changed", "[default]\n", "/usr/bin/nbidentity", "/tmp/evil", "[default]\n"},
		{"a line is put into the block", "[default]\n", "sts_regional", "role_arn = a\nsts_regional", "[default]\nrole_arn = a\n"},
		{"the end mark is deleted", "[default]\noutput = json\nregion = us-east-1\n", endMark + "\n", "", "[default]\noutput = json\nregion = us-east-1\n"},
		{"the begin mark is deleted", "[default]\n", begin, "",
			"[default]\ncredential_process = /usr/bin/nbidentity credentials\nsts_regional_endpoints = regional\nregion = us-east-1\n"},
		{"the block is deleted", "[default]\nrole_arn = x\n", begin + keys + endEast, "", "[default]\nrole_arn = x\n"},
		{"the block is doubled", "[default]\n", begin + keys + endEast, begin + keys + endEast + begin + keys + endEast, "[default]\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			applied := apply(t, tt.before)
			edited := strings.Replace(applied, tt.old, tt.new, 1)
			if edited == applied {
				t.Fatal("the edit changed nothing")
			}
			removed, err := Remove([]byte(edited))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.removed, string(removed)); diff != "" {
				t.Errorf("Remove (-want +got):\n%s", diff)
			}
			again, err := Apply([]byte(edited), testManaged)
			if err != nil {
				t.Fatalf("Apply after the edit: %v", err)
			}
			if found := Check(again, testManaged); len(found) > 0 {
				t.Errorf("Check after repair: %v", found)
			}
		})
	}
}

// The AWS CLI edits the file line by line too. What it sets survives Remove,
// and a new profile is no reason to repair.
func TestEditsByTheCLI(t *testing.T) {
	t.Parallel()
	aws, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("needs the AWS CLI: aws is not installed")
	}
	const config = "[default]\nrole_arn = a\n[profile b]\nregion = c\n"
	tests := []struct {
		before, removed string
		set             []string
		repair          bool
	}{
		{"", "[default]\noutput = json\n", []string{"output", "json"}, true},
		{"", "[profile b]\nregion = x\n", []string{"region", "x", "--profile", "b"}, false},
		{config, "[default]\nrole_arn = a\noutput = json\n[profile b]\nregion = c\n", []string{"output", "json"}, false},
		{config, "[default]\nregion = x\nrole_arn = a\n[profile b]\nregion = c\n", []string{"region", "x"}, true},
		{config, "[default]\nrole_arn = z\n[profile b]\nregion = c\n", []string{"role_arn", "z"}, true},
		{config, "[default]\nrole_arn = a\n[profile b]\nregion = x\n", []string{"region", "x", "--profile", "b"}, false},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.set, " "), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(file, []byte(apply(t, tt.before)), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), aws, append([]string{"configure", "set"}, tt.set...)...)
			cmd.Env = append(os.Environ(), "AWS_CONFIG_FILE="+file)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			edited, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			removed, err := Remove(edited)
			if err != nil || string(removed) != tt.removed {
				t.Errorf("Remove = %q, %v, want %q", removed, err, tt.removed)
			}
			if found := Check(edited, testManaged); tt.repair != (len(found) > 0) {
				t.Errorf("Check = %v", found)
			}
			if found := Check([]byte(apply(t, string(edited))), testManaged); len(found) > 0 {
				t.Errorf("Check after repair = %v", found)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	applied := apply(t, "[default]\nrole_arn = a\n[profile b]\nrole_arn = c\n")
	tests := []struct {
		name, text string
		line       int
		problem    string
	}{
		{"missing", "[default]\n", 0, "no managed block"},
		{"command changed", strings.Replace(applied, "/usr/bin", "/tmp", 1), 3, "inside the managed block"},
		{"line added inside", strings.Replace(applied, "sts_", "output = json\nsts_", 1), 4, "inside the managed block"},
		{"conflict added", strings.Replace(applied, offMark, "", 1), 7, "role_arn in the default profile"},
		{"end mark lost", strings.Replace(applied, endMark, "# ", 1), 2, "lost its end mark"},
		{"begin mark changed", strings.Replace(applied, "(managed", "(unmanaged", 1), 2, "not as nbidentityd writes it"},
		{"unreadable", applied + "junk\n", 10, "neither"},
	}
	if found := Check([]byte(applied), testManaged); found != nil {
		t.Errorf("Check of an applied text = %v", found)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found := Check([]byte(tt.text), testManaged)
			for _, f := range found {
				if f.Line == tt.line && strings.Contains(f.Problem, tt.problem) && f.Remedy != "" && f.File == "config" {
					return
				}
			}
			t.Errorf("Check = %v, want line %d, %q", found, tt.line, tt.problem)
		})
	}
}

func TestPlanChanges(t *testing.T) {
	t.Parallel()
	in := []byte("[default]\naws_secret_access_key = x\nrole_arn = y\n output = z\n")
	want := []Change{
		{Section: "[default]", Key: "credential_process", Action: Added},
		{Section: "[default]", Key: "sts_regional_endpoints", Action: Added},
		{Section: "[default]", Key: "region", Action: Added},
		{Line: 2, Section: "[default]", Key: "aws_secret_access_key", Action: CommentedOut, Secret: true},
		{Line: 3, Section: "[default]", Key: "role_arn", Action: CommentedOut},
		{Line: 4, Section: "[default]", Action: CommentedOut, Secret: true},
	}
	edit, err := Plan(in, testManaged)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, edit.Changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	for _, c := range edit.Changes {
		if strings.ContainsAny(c.String(), "xz") && c.Key != "external_id" {
			t.Errorf("%q tells a value", c)
		}
	}
}

func TestShadows(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/credentials/*.credentials")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := Shadows(nil, data)
		if want := strings.HasPrefix(filepath.Base(file), "shadow-"); want != (len(found) > 0) {
			t.Errorf("%s: Shadows = %v", file, found)
		}
		for _, f := range found {
			if f.File != "credentials" || f.Line == 0 || strings.Contains(f.String(), "EXAMPLE") {
				t.Errorf("%s: finding %v", file, f)
			}
		}
	}
	config := "[default]\n[profile default]\nregion = x\n"
	if found := Shadows([]byte(config), nil); len(found) != 1 || found[0].Line != 2 {
		t.Errorf("Shadows = %v, want line 2", found)
	}
	if found := Shadows([]byte(apply(t, config)), nil); found != nil {
		t.Errorf("Shadows after Apply = %v", found)
	}
}

func apply(t testing.TB, text string) string {
	t.Helper()
	got, err := Apply([]byte(text), testManaged)
	if err != nil {
		t.Fatalf("Apply(%q): %v", text, err)
	}
	return string(got)
}

// A user's file of nothing but line ends took the daemon half a gigabyte, and one
// of nothing but conflicts as many findings as lines.
func TestHostileTextCostsLittle(t *testing.T) {
	ends := bytes.Repeat([]byte("\n"), MaxSize)
	var conflicts, faults bytes.Buffer
	conflicts.WriteString("[default]\n")
	faults.WriteString("[a]\n")
	for i := range MaxLines {
		fmt.Fprintf(&conflicts, "sso_%x=\n", i)
		fmt.Fprintf(&faults, "%x:\n", i)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Plan(ends, testManaged); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Plan of %d line ends: %v, want ErrTooLarge", len(ends), err)
	}
	if _, err := AddProfile(ends, "p", []Key{{"region", "us-east-1"}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("AddProfile to %d line ends: %v, want ErrTooLarge", len(ends), err)
	}
	if Binds(ends, testManaged) || len(Check(ends, testManaged)) != 1 {
		t.Error("line ends bind, or have not one finding")
	}
	if found := Shadows(nil, ends); len(found) != 1 || !strings.Contains(found[0].Problem, "too large") {
		t.Errorf("Shadows of line ends = %v, want that they are too many", found)
	}
	if found := Faults(ends, ends); len(found) != 0 {
		t.Errorf("Faults of line ends: %d", len(found))
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
		t.Errorf("looking at a megabyte of line ends took %d MB", took>>20)
	}
	if n := len(Shadows(nil, conflicts.Bytes())); n != maxFindings {
		t.Errorf("%d shadows, want the first %d", n, maxFindings)
	}
	if n := len(Faults(faults.Bytes(), nil)); n != maxFindings {
		t.Errorf("%d faults, want the first %d", n, maxFindings)
	}
}

// What Apply accepts it must accept again, with the lines that it has added.
func TestLargestTextStaysAcceptable(t *testing.T) {
	t.Parallel()
	text := []byte("[default]\n" + strings.Repeat("#\n", MaxLines-1-32))
	for i := range 31 {
		text = fmt.Appendf(text, "sso_%x = x\n", i)
	}
	text = append(text, "region: x\n"...)
	for range 2 {
		out, err := Apply(text, testManaged)
		if err != nil {
			t.Fatal(err)
		}
		text = out
	}
	if _, err := Apply(append(text, "#\n"...), testManaged); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one line more: %v, want ErrTooLarge", err)
	}
}
