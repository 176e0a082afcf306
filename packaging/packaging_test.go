// Package packaging_test tries what is packaged before it is packed: the units,
// the settings file, the man pages, the completion.
package packaging_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// tool skips the test, by name and with the reason, when a program is not here.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("the program %s is not installed", name)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Every key is there, with its default: as it is, and without the #.
func TestDefaultSettings(t *testing.T) {
	text := read(t, "nbidentityd.toml")
	bare := regexp.MustCompile(`(?m)^#([^# ])`).ReplaceAllString(text, "$1")
	for name, text := range map[string]string{"as packaged": text, "without #": bare} {
		got, err := settings.Parse("nbidentityd.toml", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// An empty list and none are the same.
		if len(got.Role.Tags) == 0 {
			got.Role.Tags = nil
		}
		if len(got.Fence.AllowUsers) == 0 {
			got.Fence.AllowUsers = nil
		}
		if diff := cmp.Diff(settings.Default(), got); diff != "" {
			t.Errorf("%s: -default +file\n%s", name, diff)
		}
	}
	manual := read(t, "man/nbidentityd.toml.5")
	for _, key := range settings.Keys() {
		last := key[strings.LastIndexByte(key, '.')+1:]
		if !regexp.MustCompile(`(?m)^(\.It Li .*\b|\.Ss Table |\.Li \[\[)` + last + `\b`).MatchString(manual) {
			t.Errorf("nbidentityd.toml(5) does not explain %s", key)
		}
		if !strings.HasPrefix(key, "user") && !regexp.MustCompile(`(?m)^(#\[|#)`+last+`\b`).MatchString(text) {
			t.Errorf("nbidentityd.toml does not have %s", key)
		}
	}
}

func TestManPages(t *testing.T) {
	pages, err := filepath.Glob("man/*")
	if err != nil || len(pages) < 7 {
		t.Fatal(pages, err)
	}
	lint, _ := exec.Command(tool(t, "mandoc"), append([]string{"-Tlint", "-W", "style"}, pages...)...).CombinedOutput() // its exit code is in the lines
	reference := regexp.MustCompile(`(?:referenced manual not found: Xr |outdated mandoc.db lacks )([a-z.-]+)[ (]([1-8])`)
	for line := range strings.Lines(string(lint)) {
		// It looks for what a page refers to among the machine's own.
		if m := reference.FindStringSubmatch(line); m == nil || !slices.Contains(pages, "man/"+m[1]+"."+m[2]) {
			t.Error(line)
		}
	}
	man := tool(t, "man")
	for _, page := range pages {
		cmd := exec.Command(man, "--warnings", "-l", page)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80", "PAGER=cat")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 || !bytes.Contains(out, []byte("DESCRIPTION")) {
			t.Errorf("man %s: %v\n%s%.300s", page, err, stderr.Bytes(), out)
		}
	}
}

// programs builds the two programs and returns their directory.
func programs(t *testing.T) string {
	t.Helper()
	// go test remembers a result as long as the files that the test itself has
	// looked at stay the same.
	for _, root := range []string{"../cmd", "../internal"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir+"/", "../cmd/nbidentityd", "../cmd/nbidentity").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// help is what a program says of itself.
func help(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], append(args[1:], "-h")...).CombinedOutput()
	if err != nil {
		t.Errorf("%v -h: %v", args, err)
	}
	return string(out)
}

var (
	commandLine = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*)  `)
	flagWord    = regexp.MustCompile(`(?m)(?:^ +|, |\[)(--?[a-z][a-z-]*)`)
	manFlag     = regexp.MustCompile(`(?:^|[ (,])Fl (-?[a-z][a-z-]*)`)
)

// Each command and each flag is in its manual, and no others are.
func TestManPagesAreComplete(t *testing.T) {
	dir := programs(t)
	daemon := filepath.Join(dir, "nbidentityd")
	overview := read(t, "man/nbidentityd.8")
	for _, m := range commandLine.FindAllStringSubmatch(help(t, daemon), -1) {
		command := m[1]
		if !regexp.MustCompile(`(?m)^\.It Cm .*\b` + command + `\b`).MatchString(overview) {
			t.Errorf("nbidentityd(8) does not name %s", command)
		}
		args, pages := []string{daemon, command}, []string{"nbidentityd-" + command + ".8"}
		switch command {
		case "version":
			continue
		case "uninstall":
			pages = []string{"nbidentityd-install.8"}
		case "policy":
			args = append(args, "self")
		case "fleet":
			args, pages = append(args, "self"), append(pages, "nbidentityd-policy.8")
		}
		compareFlags(t, help(t, args...), command == "uninstall", pages...)
	}
	compareFlags(t, help(t, filepath.Join(dir, "nbidentity")), false, "nbidentity.1")
}

// compareFlags wants the flags that a help lists and those that the pages explain
// to be the same, but for those of another command on the same page.
func compareFlags(t *testing.T, help string, shared bool, pages ...string) {
	t.Helper()
	var want, got []string
	for _, m := range flagWord.FindAllStringSubmatch(help, -1) {
		want = append(want, m[1])
	}
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join("man", page))
		if err != nil {
			t.Errorf("a command without a manual: %v", err)
			return
		}
		for line := range strings.Lines(string(text)) {
			for _, m := range manFlag.FindAllStringSubmatch(strings.TrimPrefix(line, "."), -1) {
				got = append(got, "-"+m[1])
			}
		}
	}
	for _, flag := range want {
		if !slices.Contains(got, flag) {
			t.Errorf("%s does not explain %s", pages, flag)
		}
	}
	for _, flag := range got {
		if !shared && !strings.Contains(help, flag) {
			t.Errorf("%s explains %s, which the program does not know", pages, flag)
		}
	}
}

func TestCompletion(t *testing.T) {
	bash := tool(t, "bash")
	dir := programs(t)
	for _, tt := range []struct {
		line string // the last word is completed; _ is none
		want string // all of these, and what follows a ! not
	}{
		{"nbidentityd _", "run install uninstall policy who version"},
		{"nbidentityd po", "policy !who"},
		{"nbidentityd run -", "-check -settings !-format"},
		{"nbidentityd install -d", "-dry-run !-settings"},
		{"nbidentityd policy _", "self per-notebook launcher studio-propagation per-profile"},
		{"nbidentityd policy self -f", "-format !-name"},
		{"nbidentityd policy self -format t", "terraform !json"},
		{"nbidentityd policy self -format _", "json cli"},
		{"nbidentityd fleet self -format _", "cloudformation-yaml !cli"},
		{"nbidentityd who --", "--by --name --since --until --html !--check"},
		{"nbidentityd who --by _", "name action resource hour"},
		{"nbidentityd who --format c", "csv !cli"},
		{"nbidentityd nosuch -", "!-settings"},
		{"nbidentity _", "credentials status --socket --version"},
		{"nbidentity status --j", "--json !--socket"},
		{"nbidentity --socket _", "!status"},
	} {
		const script = `. completion/nbidentityd.bash; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
[[ ${COMP_WORDS[COMP_CWORD]} == _ ]] && COMP_WORDS[COMP_CWORD]=
"$(complete -p "$1" | sed 's/.*-F \([^ ]*\).*/\1/')" "$1"; printf '%s\n' "${COMPREPLY[@]}"`
		cmd := exec.Command(bash, append([]string{"-c", script, "bash", "-"}, strings.Fields(tt.line)...)...)
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "LC_ALL=C"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", tt.line, err, out)
		}
		got := strings.Fields(string(out))
		for _, want := range strings.Fields(tt.want) {
			word, not := strings.CutPrefix(want, "!")
			if slices.Contains(got, word) == not {
				t.Errorf("%s: got %q, want %s", tt.line, got, tt.want)
				break
			}
		}
	}
}
