// Package internal_test keeps the dependencies between rooms one-way and the
// programs free of what they must not link.
package internal_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/nbidentityd/nbidentityd/"

// edges lists, for each of our packages, which of ours it may import. A
// package that is not listed, or an edge that is not listed, fails the test:
// adding one is a decision, made here.
var edges = map[string][]string{
	"internal/assurance":              {},
	"internal/awscause":               {},
	"internal/awsconfig":              {"internal/lazyregexp"},
	"internal/basesession":            {"internal/identity", "internal/settings"},
	"internal/blueprint":              {"internal/awsconfig", "internal/configguard", "internal/credserver", "internal/credserver/authtoken", "internal/discovery", "internal/identity", "internal/netfence/plan", "internal/notebookuser", "internal/settings"},
	"internal/bridges":                {},
	"internal/configguard":            {"internal/awsconfig", "internal/configguard/awsdir", "internal/configguard/homewatch", "internal/configguard/memory", "internal/configguard/tamper", "internal/safefile"},
	"internal/configguard/awsdir":     {"internal/awsconfig", "internal/safefile"},
	"internal/configguard/homewatch":  {"internal/configguard/awsdir", "internal/safefile"},
	"internal/configguard/memory":     {"internal/awsconfig", "internal/safefile"},
	"internal/configguard/tamper":     {"internal/safefile"},
	"internal/credserver":             {"internal/awscause", "internal/credserver/authtoken", "internal/credserver/caller", "internal/credserver/document", "internal/credserver/gate", "internal/credserver/imdstoken", "internal/credserver/passthrough", "internal/credserver/refusals", "internal/credserver/sockowner", "internal/status"},
	"internal/credserver/caller":      {"internal/credserver/sockowner", "internal/peer"},
	"internal/credserver/document":    {},
	"internal/credserver/gate":        {"internal/credserver/caller"},
	"internal/credserver/refusals":    {"internal/credserver/caller"},
	"internal/credserver/authtoken":   {},
	"internal/credserver/imdstoken":   {},
	"internal/credserver/listener":    {},
	"internal/credserver/passthrough": {},
	"internal/credserver/sockowner":   {},
	"internal/discovery":              {"internal/awscause", "internal/identity"},
	"internal/doctor":                 {"internal/awscause", "internal/basesession", "internal/blueprint", "internal/discovery", "internal/doctor/host", "internal/doctor/report", "internal/doctor/rolebook", "internal/doctor/shadow", "internal/doctor/trust", "internal/identity", "internal/installation", "internal/notebookuser", "internal/rolecreds", "internal/settings", "internal/status"},
	"internal/doctor/host":            {"internal/doctor/report", "internal/status"},
	"internal/doctor/report":          {"internal/awscause"},
	"internal/doctor/rolebook":        {"internal/awscause", "internal/iameval", "internal/identity"},
	"internal/doctor/shadow":          {"internal/awsconfig", "internal/doctor/report", "internal/lazyregexp", "internal/safefile"},
	"internal/doctor/trust":           {"internal/doctor/report", "internal/doctor/rolebook", "internal/iameval", "internal/lazyregexp"},
	"internal/iameval":                {},
	"internal/identity":               {"internal/lazyregexp"},
	"internal/imdsprobe":              {},
	"internal/installation":           {"internal/blueprint", "internal/configguard", "internal/credserver/listener", "internal/identity", "internal/kernelenv", "internal/netfence", "internal/netfence/plan", "internal/notebookuser", "internal/safefile", "internal/settings"},
	"internal/journal":                {},
	"internal/kernelenv":              {"internal/lazyregexp"},
	"internal/lazyregexp":             {},
	"internal/metadatafile":           {"internal/awscause", "internal/identity"},
	"internal/netfence":               {"internal/netfence/iptables", "internal/netfence/nft", "internal/netfence/plan", "internal/netfence/ruleset"},
	"internal/netfence/iptables":      {"internal/netfence/plan", "internal/netfence/ruleset"},
	"internal/netfence/nft":           {"internal/netfence/plan", "internal/netfence/ruleset"},
	"internal/netfence/plan":          {},
	"internal/netfence/ruleset":       {"internal/netfence/plan"},
	"internal/notebookuser":           {"internal/settings"},
	"internal/peer":                   {},
	"internal/reach":                  {"internal/assurance", "internal/imdsprobe"},
	"internal/rolecreds":              {"internal/awscause", "internal/identity", "internal/rolecreds/denial"},
	"internal/rolecreds/denial":       {"internal/identity"},
	"internal/safefile":               {},
	"internal/settings":               {},
	"internal/sidecar":                {"internal/assurance", "internal/awsconfig", "internal/basesession", "internal/blueprint", "internal/bridges", "internal/configguard", "internal/credserver", "internal/credserver/authtoken", "internal/credserver/listener", "internal/discovery", "internal/identity", "internal/metadatafile", "internal/netfence", "internal/netfence/plan", "internal/netfence/ruleset", "internal/notebookuser", "internal/reach", "internal/rolecreds", "internal/settings", "internal/status", "internal/supervision"},
	"internal/status":                 {},
	"internal/supervision":            {},
	"internal/trail":                  {"internal/identity", "internal/lazyregexp", "internal/trail/calls", "internal/trail/evidence"},
	"internal/trail/archive":          {"internal/lazyregexp", "internal/trail/source"},
	"internal/trail/calls":            {"internal/trail/record"},
	"internal/trail/evidence":         {"internal/lazyregexp", "internal/trail/calls", "internal/trail/record"},
	"internal/trail/intake":           {"internal/trail/calls", "internal/trail/evidence", "internal/trail/record", "internal/trail/source"},
	"internal/trail/record":           {},
	"internal/trail/report":           {"internal/trail", "internal/trail/calls", "internal/trail/intake"},
	"internal/trail/source":           {},
	"internal/trail/trailgen":         {"internal/trail", "internal/trail/calls"},
	"internal/trail/who":              {"internal/identity", "internal/trail", "internal/trail/athena", "internal/trail/calls", "internal/trail/evidence", "internal/trail/intake", "internal/trail/report", "internal/trail/source"},
	"internal/iampolicy":              {"internal/iameval", "internal/iampolicy/ordered", "internal/iampolicy/proof", "internal/identity", "internal/lazyregexp"},
	"internal/iampolicy/ordered":      {},
	"internal/iampolicy/proof":        {"internal/iameval"},
	"internal/iampolicy/rendering":    {"internal/iampolicy", "internal/iampolicy/ordered"},
	"internal/trail/athena":           {"internal/lazyregexp", "internal/trail"},
	"lifecycle":                       {},
	"packaging":                       {},
	"packaging/fleet":                 {},
}

// exempt are the trees that stand outside the daemon: the stand-in for AWS and
// the programs that start everything together or pack it.
var exempt = []string{"cmd/", "internal/fakeaws", "internal/lab", "packaging/dist"}

// banned names, for each program and for the daemon's own package, what it must not
// link, with the reason.
var banned = map[string]map[string]string{
	"cmd/nbidentityd": {
		"testing":                   "test code in the daemon",
		"net/http/httptest":         "test code in the daemon",
		"html/template":             "18 MB: its reflection keeps every method of every type",
		"text/template":             "18 MB: its reflection keeps every method of every type",
		module + "internal/fakeaws": "the stand-in for AWS in the daemon",
		module + "internal/lab":     "the test bench in the daemon",
	},
	"internal/sidecar": {
		"github.com/aws/aws-sdk-go-v2/config":      "the default chain reads the environment and users' files",
		"github.com/aws/aws-sdk-go-v2/service/sso": "the default chain reads the environment and users' files",
	},
	"cmd/nbidentity": {
		"github.com/aws/":   "every SDK call pays for what this program links",
		"encoding/json":     "every SDK call pays for what this program links",
		"net":               "every SDK call pays for what this program links",
		"net/http":          "every SDK call pays for what this program links",
		"go.uber.org/zap":   "every SDK call pays for what this program links",
		module + "internal": "every SDK call pays for what this program links",
	},
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestEdges(t *testing.T) {
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		from, imports, _ := strings.Cut(line, " ")
		from = strings.TrimPrefix(from, module)
		outside := func(prefix string) bool { return strings.HasPrefix(from, prefix) }
		if from == strings.TrimSuffix(module, "/")+"/internal" || from == "internal" || slices.ContainsFunc(exempt, outside) {
			continue
		}
		allowed, known := edges[from]
		if !known {
			t.Errorf("%s: not in the list of packages; say what it may import", from)
		}
		for imported := range strings.FieldsSeq(imports) {
			to, ours := strings.CutPrefix(imported, module)
			if ours && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s, which is not among its edges %v", from, to, allowed)
			}
		}
	}
}

func TestPrograms(t *testing.T) {
	for program, bans := range banned {
		for _, dep := range goList(t, "-deps", "./"+program) {
			for ban, reason := range bans {
				if dep == ban || strings.HasPrefix(dep, strings.TrimSuffix(ban, "/")+"/") && strings.Contains(ban, ".") {
					t.Errorf("%s links %s: %s", program, dep, reason)
				}
			}
		}
	}
}
