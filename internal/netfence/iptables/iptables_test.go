package iptables

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// The daemon's start waits for the rules: another program that holds the tools'
// lock must not keep it for as many waits as a race with another writer is worth.
func TestLockedToolsAreNotTriedForLong(t *testing.T) {
	t.Parallel()
	if !mayAdminister() {
		t.Skip("needs CAP_NET_ADMIN, without which no tool is run")
	}
	dir := t.TempDir()
	tool := func(name, script string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tools := Tools{save4: tool("save", ""), restore4: tool("restore", "sleep "+lockLimit+"; exit 4")}
	p, err := plan.New(plan.Config{Metadata: plan.DefaultMetadata()[:1]})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*toolLimit)
	defer cancel()
	start := time.Now()
	if err := tools.Apply(ctx, p); err == nil {
		t.Error("applied by a tool that fails")
	}
	if took := time.Since(start); took > 2*toolLimit {
		t.Errorf("it took %v", took)
	}
}
