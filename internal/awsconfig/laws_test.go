package awsconfig

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// checkLaws fails t if Apply breaks a promise for text. It reports whether
// Apply accepted the text.
func checkLaws(t testing.TB, text string) bool {
	t.Helper()
	clean, err := Remove([]byte(text))
	if err != nil {
		t.Fatalf("Remove(%q): %v", text, err)
	}
	applied, err := Apply([]byte(text), testManaged)
	if err != nil {
		if syntax, ok := errors.AsType[*SyntaxError](err); !ok || syntax.Line < 1 || syntax.Line > len(splitLines([]byte(text))) {
			t.Fatalf("Apply(%q): error %v names no line of the text", text, err)
		}
		if len(Check([]byte(text), testManaged)) == 0 {
			t.Fatalf("Check(%q) finds nothing although Apply fails", text)
		}
		return false
	}
	if removed, err := Remove(applied); err != nil || !bytes.Equal(removed, clean) {
		t.Fatalf("Remove(Apply(%q)) = %q, %v, want %q\napplied: %q", text, removed, err, clean, applied)
	}
	if again, err := Apply(applied, testManaged); err != nil || !bytes.Equal(again, applied) {
		t.Fatalf("Apply twice on %q: %q, %v, first %q", text, again, err, applied)
	}
	other := Managed{CredentialProcess: "/opt/x --y", Region: "eu-west-1"}
	changed, err := Apply(applied, other)
	if err != nil {
		t.Fatalf("Apply other values on %q: %v", applied, err)
	}
	if fresh, err := Apply(clean, other); err != nil || !bytes.Equal(fresh, changed) {
		t.Fatalf("Apply with other values: %q, %v, want %q", changed, err, fresh)
	}
	if found := Check(applied, testManaged); len(found) > 0 || !Binds(applied, testManaged) {
		t.Fatalf("Check(Apply(%q)) = %v, or it does not bind", text, found)
	}
	checkOnlyManaged(t, string(clean), string(applied))
	checkClients(t, string(clean), string(applied))
	return true
}

// checkOnlyManaged walks both texts in step: each line of before must stand in
// after as it was or behind a mark, and what stands between must be ours.
func checkOnlyManaged(t testing.TB, before, after string) {
	t.Helper()
	rest := strings.SplitAfter(before, "\n")
	inBlock, skip := false, false
	for _, l := range strings.SplitAfter(after, "\n") {
		bare := strings.TrimRight(l, "\r\n")
		switch {
		case skip: // the rewritten form of the line before
			skip = false
		case strings.HasPrefix(bare, beginPrefix):
			inBlock = true
		case inBlock:
			inBlock = !strings.HasPrefix(bare, endMark)
			if !slices.Contains([]string{"[default]", "credential_process = /usr/bin/nbidentity credentials", "sts_regional_endpoints = regional", "region = us-east-1"}, bare) && inBlock {
				t.Fatalf("block of %q holds %q", after, bare)
			}
		default:
			l = strings.TrimPrefix(l, offMark)
			l, skip = strings.CutPrefix(l, wasMark)
			if l == "" && len(rest) == 0 {
				continue
			}
			if len(rest) == 0 || strings.TrimRight(rest[0], "\r\n") != strings.TrimRight(l, "\r\n") {
				t.Fatalf("%q became %q: at %q, rest %q", before, after, l, rest)
			}
			rest = rest[1:]
		}
	}
	if strings.Join(rest, "") != "" {
		t.Fatalf("%q became %q: lost %q", before, after, rest)
	}
}

// checkClients reads both texts by small models of the two grammars that are
// furthest from botocore's: JavaScript's, which trims lines, and Java's, in
// which every indented line continues the value above.
func checkClients(t testing.TB, before, after string) {
	t.Helper()
	for name, read := range map[string]func(string) (map[string]string, bool){"js": readJS, "java": readJava} {
		old, okBefore := read(before)
		got, ok := read(after)
		if !ok {
			if okBefore {
				t.Fatalf("%s cannot read %q any more: %q", name, before, after)
			}
			continue
		}
		if got["credential_process"] != testManaged.CredentialProcess || got["sts_regional_endpoints"] != "regional" {
			t.Fatalf("%s reads %v from %q", name, got, after)
		}
		for k, v := range got {
			if conflicting(k) && k != "credential_process" {
				t.Fatalf("%s reads %s = %q from %q", name, k, v, after)
			}
		}
		was, _, _ := strings.Cut(old["region"], "\n")
		is, _, _ := strings.Cut(got["region"], "\n")
		// A region inside the continuation of another value, or under a header
		// that only some clients recognise, is one to few.
		odd := strings.Contains(before, " region") || strings.Contains(before, "\tregion") || strings.Contains(before, "];") || strings.Contains(before, "]#")
		if okBefore && was != "" && is != was && !odd {
			t.Fatalf("%s: region was %q, is %q in %q", name, was, is, after)
		}
	}
}

func readJS(text string) (map[string]string, bool) {
	sections := map[string]map[string]string{}
	section, parent := "", ""
	for raw := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		l := cutComment(raw)
		if strings.HasPrefix(l, "[") && strings.HasSuffix(l, "]") {
			section, parent = strings.ReplaceAll(l[1:len(l)-1], `"`, ""), ""
			if sections[section] == nil {
				sections[section] = map[string]string{}
			}
			continue
		}
		k, v, found := strings.Cut(l, "=")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		switch {
		case !found || k == "" || section == "":
		case v == "":
			parent = k
		default:
			if strings.TrimLeft(raw, " \t") == raw {
				parent = ""
			}
			if parent != "" {
				k = parent + "." + k
			}
			sections[section][k] = v
		}
	}
	if s := sections["profile default"]; s != nil {
		return s, true
	}
	return sections["default"], true
}

func cutComment(l string) string {
	for i := range l {
		if (l[i] == '#' || l[i] == ';') && (i == 0 || strings.ContainsRune(" \t", rune(l[i-1]))) {
			l = l[:i]
			break
		}
	}
	return strings.TrimSpace(l)
}

// readJava reports false where the SDK throws.
func readJava(text string) (map[string]string, bool) {
	sections := map[string]map[string]string{}
	section, key, ignored := "", "", false
	for l := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		switch {
		case strings.Trim(l, " \t") == "" || l[0] == '#' || l[0] == ';':
		case l[0] == '[':
			if i := strings.IndexAny(l, "#;"); i >= 0 {
				l = l[:i]
			}
			l = strings.TrimSpace(l)
			if !strings.HasSuffix(l, "]") {
				return nil, false
			}
			section = strings.Join(strings.Fields(l[1:len(l)-1]), " ")
			key, ignored = "", section != "default" && !strings.HasPrefix(section, "profile ")
			if sections[section] == nil {
				sections[section] = map[string]string{}
			}
		case ignored:
		case section == "":
			return nil, false
		case l[0] == ' ' || l[0] == '\t':
			if key == "" {
				return nil, false
			}
			sections[section][key] += "\n" + strings.TrimSpace(l)
		default:
			k, v, found := strings.Cut(cutComment(l), "=")
			if key = strings.TrimSpace(k); !found || key == "" {
				return nil, false
			}
			sections[section][key] = strings.TrimSpace(v)
		}
	}
	if s := sections["profile default"]; s != nil {
		return s, true
	}
	return sections["default"], true
}

// nasty builds a config from pieces that are each known to trouble a client.
func nasty(r *rand.Rand) string {
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	headers := []string{"[default]", "[default]", "[default]", "[profile default]", "[ default ]", "[default] # c", "[default];c", "[default] [x]", "[DEFAULT]",
		"[profile a]", "[profile b]", "[profile c]# c", "[profile d];", "[a#b]", "[services x]", "[sso-session s]", "[profile \"default\"]", "[Default]", "[profile default ] ; x", "[plain]", "[profile  default]", "[default]]"}
	lines := []string{"region = eu-west-1", "region=", "REGION = x", "output = json", "output: json", "role_arn = a", "Role_Arn: a:b=c", "role_arn:x = y",
		"credential_source=Ec2InstanceMetadata", "source_profile = a", "sso_start_url = https://x/#/start", "sso_session = s", "aws_access_key_id = AKIAEXAMPLE",
		"aws_secret_access_key = s#x ;y", "credential_process = \"/a b\" c", "sts_regional_endpoints = legacy", "s3 =", "max_attempts = 3 # three",
		"# a comment = x", "; [another]", "", "", "   ", "\t", "x = [y]", "é = ü", "a = b = c", "mfa_serial=", "login_session = x", "duration_seconds : 900"}
	odd := []string{"junk", "= x", "[", "[]", "\u00a0x = y", "a\rb = c", "\x00", "[broken", "\xff", "a\x0b = b"}
	indents := []string{"", "", "", "", " ", "  ", "\t", "    "}
	var b strings.Builder
	base := ""
	if r.IntN(8) == 0 {
		base = "  "
	}
	eol := pick([]string{"\n", "\n", "\n", "\r\n"})
	seen := map[string]bool{}
	for range r.IntN(14) {
		l := pick(lines)
		switch n := r.IntN(100); {
		case n < 22:
			if l = pick(headers); seen[l] && r.IntN(20) > 0 {
				continue
			}
			clear(seen)
			seen[l] = true
			b.WriteString(base + l)
		case n < 23:
			b.WriteString(pick(odd))
		default:
			if seen[l] && l != "" && r.IntN(30) > 0 {
				continue
			}
			seen[l] = true
			b.WriteString(base + pick(indents) + l)
		}
		if r.IntN(30) == 0 {
			b.WriteString(" ")
		}
		b.WriteString(eol)
		if r.IntN(40) == 0 {
			eol = pick([]string{"\n", "\r\n"})
		}
	}
	s := b.String()
	if r.IntN(4) == 0 {
		s = strings.TrimRight(s, "\r\n")
	}
	return s
}

func TestLawsOnNastyFiles(t *testing.T) {
	t.Parallel()
	n := 15_000
	if testing.Short() {
		n = 5_000
	}
	r := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	for range n {
		if checkLaws(t, nasty(r)) {
			accepted++
		}
	}
	if accepted < n/8 {
		t.Errorf("only %d of %d generated files were accepted: the generator tests refusals alone", accepted, n)
	}
	t.Logf("%d of %d files accepted", accepted, n)
}

func TestLawsOnLeftovers(t *testing.T) {
	t.Parallel()
	for name, text := range leftovers(t) {
		if !checkLaws(t, text) {
			_, err := Apply([]byte(text), testManaged)
			t.Errorf("%s refused: %v", name, err)
		}
	}
}

func leftovers(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/leftovers/*.config")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	texts := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimSuffix(filepath.Base(file), ".config")] = string(data)
	}
	return texts
}

func FuzzApply(f *testing.F) {
	for _, text := range leftovers(f) {
		f.Add([]byte(text))
		if applied, err := Apply([]byte(text), testManaged); err == nil {
			f.Add(applied)
			f.Add(applied[:len(applied)/2])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > MaxSize {
			return
		}
		clean, err := Remove(data)
		if err != nil {
			t.Fatal(err)
		}
		if Marked(clean) {
			return // a mark behind a mark: the text was never written by Apply
		}
		if !Marked(data) && !bytes.Equal(clean, data) {
			t.Fatalf("Remove(%q) = %q without a mark", data, clean)
		}
		checkLaws(t, string(data))
		Shadows(data, data)
	})
}
