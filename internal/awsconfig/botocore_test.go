package awsconfig

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nbidentityd/nbidentityd/internal/lab/executable"
)

type oracleView struct {
	Error    string
	Sections map[string]map[string]string
	Method   string
	Key      string
	Region   string
	STS      string
}

type oracleCase struct{ Before, After oracleView }

// botocores runs test once for each installed botocore: the first python3 of
// the path and the system's own, if their versions differ.
func botocores(t *testing.T, test func(t *testing.T, ask func(t *testing.T, resolve bool, cases []map[string]string) []oracleCase)) {
	seen := map[string]bool{}
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		out, err := exec.Command(python, "-c", "import botocore; print(botocore.__version__)").Output()
		version := strings.TrimSpace(string(out))
		if err != nil || seen[version] {
			continue
		}
		seen[version] = true
		t.Run("botocore "+version, func(t *testing.T) {
			t.Parallel()
			test(t, func(t *testing.T, resolve bool, cases []map[string]string) []oracleCase {
				return askBotocore(t, python, resolve, cases)
			})
		})
	}
	if len(seen) == 0 {
		t.Skip("needs python3 with botocore: none is installed")
	}
}

func askBotocore(t *testing.T, python string, resolve bool, cases []map[string]string) []oracleCase {
	t.Helper()
	in, err := json.Marshal(map[string]any{"cases": cases, "resolve": resolve})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/botocore_oracle.py")
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("asking botocore: %v\n%s", err, stderr.Bytes())
	}
	var answer struct{ Cases []oracleCase }
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Cases) != len(cases) {
		t.Fatalf("%d answers to %d cases", len(answer.Cases), len(cases))
	}
	return answer.Cases
}

// The leftover matrix: whatever stood in the default profile, afterwards the
// process provides its credentials.
func TestLeftoversWithBotocore(t *testing.T) {
	t.Parallel()
	process := filepath.Join(t.TempDir(), "process")
	script := "#!/bin/sh\necho '{\"Version\":1,\"AccessKeyId\":\"ASIAPROCESSEXAMPLE\",\"SecretAccessKey\":\"s\",\"SessionToken\":\"t\",\"Expiration\":\"2199-01-01T00:00:00Z\"}'\n"
	if err := executable.Write(process, []byte(script)); err != nil {
		t.Fatal(err)
	}
	m := testManaged
	m.CredentialProcess = process + " credentials"
	var names []string
	var cases []map[string]string
	for name, text := range leftovers(t) {
		after, err := Apply([]byte(text), m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		names = append(names, name)
		cases = append(cases, map[string]string{"before": text, "after": string(after)})
	}
	botocores(t, func(t *testing.T, ask func(*testing.T, bool, []map[string]string) []oracleCase) {
		otherwise := 0
		for i, c := range ask(t, true, cases) {
			t.Logf("%-24s before: %-24s after: %s %s", names[i], c.Before.Method+c.Before.Error, c.After.Method, c.After.Region)
			if c.Before.Method != "custom-process" {
				otherwise++
			}
			if c.After.Method != "custom-process" || c.After.Key != "ASIAPROCESSEXAMPLE" {
				t.Errorf("%s: default profile uses %q, %q %s", names[i], c.After.Method, c.After.Key, c.After.Error)
			}
			if c.After.STS != "regional" {
				t.Errorf("%s: sts_regional_endpoints = %q", names[i], c.After.STS)
			}
			if c.After.Region == "" || c.Before.Region != "" && c.After.Region != c.Before.Region {
				t.Errorf("%s: region was %q, is %q", names[i], c.Before.Region, c.After.Region)
			}
		}
		if otherwise == 0 {
			t.Error("no leftover made botocore use anything but the process: the cases test nothing")
		}
	})
}

// On generated files Apply accepts only what botocore can read, and afterwards
// only the default profile's managed and conflicting keys differ.
func TestNastyFilesWithBotocore(t *testing.T) {
	t.Parallel()
	n := 800
	if testing.Short() {
		n = 300
	}
	r := rand.New(rand.NewPCG(3, 4))
	var cases []map[string]string
	var refused []error
	for range n {
		before := nasty(r)
		c := map[string]string{"before": before}
		after, err := Apply([]byte(before), testManaged)
		if err == nil {
			c["after"] = string(after)
		}
		if utf8.ValidString(before) { // JSON cannot carry it
			cases, refused = append(cases, c), append(refused, err)
		}
	}
	botocores(t, func(t *testing.T, ask func(*testing.T, bool, []map[string]string) []oracleCase) {
		accepted, strict := 0, 0
		for i, c := range ask(t, false, cases) {
			if refused[i] != nil {
				if c.Before.Error == "" {
					strict++
				}
				continue
			}
			accepted++
			if c.Before.Error != "" || c.After.Error != "" {
				t.Fatalf("accepted, but botocore says %q before and %q after: %q\n%q", c.Before.Error, c.After.Error, cases[i]["before"], cases[i]["after"])
			}
			compareSections(t, c, cases[i])
		}
		t.Logf("%d accepted, %d refused, %d of them readable by botocore", accepted, len(cases)-accepted, strict)
		if accepted < n/8 {
			t.Error("too few files were accepted to test anything")
		}
	})
}

func compareSections(t *testing.T, c oracleCase, texts map[string]string) {
	t.Helper()
	found := false
	inherited := inheritedKeys(texts["before"])
	for name, keys := range c.After.Sections {
		isDefault := canonicalHeader("["+name+"]") != ""
		old := c.Before.Sections[name]
		if isDefault && old == nil { // the header was respelled
			for other, k := range c.Before.Sections {
				if canonicalHeader("["+other+"]") == "["+name+"]" {
					old = k
				}
			}
		}
		for k, v := range keys {
			managed := k == keyProcess || k == keySTS || k == keyRegion && (old[k] == "" || old[k][0] == '\n')
			switch {
			case isDefault && k == keyProcess:
				found = true
				if v != testManaged.CredentialProcess {
					t.Fatalf("credential_process = %q in %q", v, texts["after"])
				}
			case isDefault && conflicting(k):
				t.Fatalf("%s is left in %q", k, texts["after"])
			case isDefault && managed, isDefault && old[k] == "" && inherited[k]:
			case v != old[k] && !(isDefault && lostNested(old[k], v)):
				t.Fatalf("[%s] %s was %q, is %q\n%q\n%q", name, k, old[k], v, texts["before"], texts["after"])
			}
		}
		for k := range old {
			if _, ok := keys[k]; !ok && !(isDefault && conflicting(k)) && !inherited[k] {
				t.Fatalf("[%s] %s is gone\n%q\n%q", name, k, texts["before"], texts["after"])
			}
		}
	}
	if !found {
		t.Fatalf("no default profile in %q", texts["after"])
	}
}

// lostNested reports whether now is old without the continuation lines that
// set an unwanted key for some client.
func lostNested(old, now string) bool {
	var kept []string
	for l := range strings.SplitSeq(old, "\n") {
		if _, bad := findKey(l, func(k string) bool { return conflicting(k) || k == keySTS }); !bad {
			kept = append(kept, l)
		}
	}
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	return squeeze(strings.Join(kept, "\n")) == squeeze(now)
}

// inheritedKeys are those of [DEFAULT], which botocore shows in each section.
func inheritedKeys(text string) map[string]bool {
	keys := map[string]bool{}
	in := false
	for _, l := range splitLines([]byte(text)) {
		if isHeader(strings.TrimSpace(l.text)) {
			in = strings.TrimSpace(l.text) == "[DEFAULT]"
		} else if in {
			for _, k := range keysOf(l.text) {
				keys[k] = true
			}
		}
	}
	return keys
}
