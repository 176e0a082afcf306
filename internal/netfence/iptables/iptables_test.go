package iptables

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
)

// golden compares got with a file of testdata; UPDATE=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

// TestPlans shows what the tools are told beside the plan in the syntax of nft.
func TestPlans(t *testing.T) {
	for name, cfg := range map[string]plan.Config{
		"full":   {UID: 1501, AllowUIDs: []uint32{1502}, RedirectPort: 1338, Containers: true},
		"refuse": {UID: 1501, FenceRoot: true, Containers: true}, // to no port
		"ipv4":   {RedirectPort: 1338, Metadata: []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.3")}},
	} {
		p, err := plan.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".nft", p.String())
		var b strings.Builder
		for _, table := range p.Tables {
			b.WriteString("# " + string(table.Family) + "\n" + restoreScript(table.Family, nil, table.Chains))
		}
		golden(t, name+".iptables", b.String())
	}
}

func FuzzParseSaved(f *testing.F) {
	f.Add("*nat\n:OUTPUT ACCEPT [0:0]\n[3:180] -A OUTPUT -j NBIDENTITYD-NATOUT\nCOMMIT\n")
	f.Add("[1:2] -A X\n*\n:\n[\n[9] -A\n[1:1] -A OUTPUT -j\n*filter\n[0:0] -A OUTPUT -m comment --comment \"a \\\" -j b\" -j ACCEPT\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := parseSaved(text)
		for _, table := range s {
			table.sections(plan.IPv4)
		}
		restoreScript(plan.IPv4, s, nil)
	})
}
