package netfence

import (
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fullConfig asks for everything that a plan can hold.
func fullConfig() Config {
	return Config{
		UID: daemonUID, AllowUIDs: []uint32{agentUID}, RedirectPort: facePort,
		Containers: true,
	}
}

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

func plans() map[string]Config {
	return map[string]Config{
		"full":   fullConfig(),
		"refuse": {UID: daemonUID, FenceRoot: true, Containers: true}, // to no port
		"ipv4":   {UID: 0, RedirectPort: facePort, Metadata: []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.3")}},
	}
}

func TestPlanText(t *testing.T) {
	for name, cfg := range plans() {
		p, err := NewPlan(cfg)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".nft", p.String())
	}
}

func TestPlanIPTables(t *testing.T) {
	for name, cfg := range plans() {
		p, err := NewPlan(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, table := range p.Tables {
			b.WriteString("# " + string(table.Family) + "\n" + restoreScript(table.Family, nil, table.Chains))
		}
		golden(t, name+".iptables", b.String())
	}
}

func TestPlanIsTheSameWhateverTheOrder(t *testing.T) {
	a, err := NewPlan(Config{UID: 7, AllowUIDs: []uint32{5, 9, 5, 0}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewPlan(Config{UID: 9, AllowUIDs: []uint32{7, 5}, Metadata: append(DefaultMetadata(), DefaultMetadata()...)})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a.String(), b.String()); d != "" {
		t.Error(d)
	}
}

func TestPlanRefuses(t *testing.T) {
	addr := netip.MustParseAddr
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"nobody", Config{UID: math.MaxUint32}, "uid 4294967295"},
		{"nobody among the allowed", Config{UID: 1, AllowUIDs: []uint32{math.MaxUint32}}, "uid 4294967295"},
		{"root fenced, daemon is root", Config{FenceRoot: true}, "uid 0"},
		{"root fenced and allowed", Config{UID: 1, AllowUIDs: []uint32{0}, FenceRoot: true}, "uid 0"},
		{"no address", Config{Metadata: []netip.Addr{{}}}, "metadata address"},
		{"mapped address", Config{Metadata: []netip.Addr{addr("::ffff:169.254.169.254")}}, "metadata address"},
		{"zone", Config{Metadata: []netip.Addr{addr("fe80::1%eth0")}}, "metadata address"},
		{"any address", Config{Metadata: []netip.Addr{addr("0.0.0.0")}}, "metadata address"},
		{"loopback address", Config{Metadata: []netip.Addr{addr("127.0.0.1")}}, "metadata address"},
		{"backend", Config{Backend: "ebpf"}, "backend"},
	}
	for _, test := range tests {
		if _, err := NewPlan(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error about %q", test.name, err, test.want)
		}
		if f, err := New(test.cfg); err == nil {
			t.Errorf("%s: New took it: %v", test.name, f.Plan())
		}
	}
	_, err := NewPlan(Config{UID: math.MaxUint32, Backend: "ebpf"})
	if err == nil || !strings.Contains(err.Error(), "uid") || !strings.Contains(err.Error(), "backend") {
		t.Errorf("two faults: got %v, want both", err)
	}
}

func TestCandidates(t *testing.T) {
	p, err := NewPlan(fullConfig())
	if err != nil {
		t.Fatal(err)
	}
	tools := []iptables{{save4: "default"}, {save4: "other"}}
	name := func(cs []candidate) (out []string) {
		for _, c := range cs {
			n := string(c.name())
			if t, ok := c.backend.(iptables); ok {
				n = t.save4
			}
			if c.weaker != "" {
				n += ": " + c.weaker
			}
			out = append(out, n)
		}
		return out
	}
	options, refuse := "source-routed packets pass", "connections are refused, not redirected"
	tests := []struct {
		name   string
		forced Backend
		kernel release
		tools  []iptables
		want   []string
	}{
		{"new kernel", "", release{6, 1}, tools, []string{"nftables", "default", "other", "default: " + options, "other: " + options}},
		{"first kernel with both", "", release{4, 18}, nil, []string{"nftables"}},
		{"old kernel", "", release{4, 14}, tools[:1], []string{"default", "default: " + options, "nftables: " + refuse}},
		{"old kernel without tools", "", release{4, 14}, nil, []string{"nftables: " + refuse}},
		{"forced", BackendNFTables, release{4, 14}, tools, []string{"nftables"}},
		{"forced tools", BackendIPTables, release{6, 1}, tools[:1], []string{"default", "default: " + options}},
		{"forced tools that lack", BackendIPTables, release{6, 1}, nil, nil},
	}
	for _, test := range tests {
		got := candidates(p, test.forced, test.kernel, test.tools)
		if d := cmp.Diff(test.want, name(got)); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, d)
		}
		for _, c := range got {
			text := c.plan.String()
			if strings.Contains(text, "redirect") == (c.weaker == refuse) || strings.Contains(text, "hdrlength") == (c.weaker == options) {
				t.Errorf("%s: %q has the plan\n%s", test.name, c.weaker, text)
			}
		}
	}
}

func TestDrift(t *testing.T) {
	rules := func(keys string) (out []line) {
		for k := range strings.FieldsSeq(keys) {
			out = append(out, line{key: k, text: k})
		}
		return out
	}
	tests := []struct{ want, have, findings string }{
		{"a b c", "a b c", ""},
		{"a b c", "a c", "missing b"},
		{"a b c", "x a b c", "foreign x"},
		{"a b c", "a x c", "changed b"},
		{"a b c", "", "missing a,missing b,missing c"},
		{"", "a", "foreign a"},
		{"a b c", "c b a", "missing a,missing b,foreign b,foreign a"},
		{"a b", "a b a b", "foreign a,foreign b"},
	}
	for _, test := range tests {
		var got []string
		for _, f := range driftLines("here", rules(test.want), rules(test.have)) {
			got = append(got, string(f.Kind)+" "+max(f.Want, f.Have))
			if f.String() == "" {
				t.Error("a finding without text")
			}
		}
		var want []string
		if test.findings != "" {
			want = strings.Split(test.findings, ",")
		}
		if test.want == "a b c" && test.have == "c b a" { // any of several ways to say it
			if len(got) == 0 {
				t.Error("another order is no drift")
			}
			continue
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) && !(test.have == "a x c" && len(got) == 1 && strings.HasPrefix(got[0], "changed")) {
			t.Errorf("want %q, have %q: got %q, want %q", test.want, test.have, got, want)
		}
	}
}

func FuzzParseSaved(f *testing.F) {
	f.Add("*nat\n:OUTPUT ACCEPT [0:0]\n[3:180] -A OUTPUT -j NBIDENTITYD-NATOUT\nCOMMIT\n")
	f.Add("[1:2] -A X\n*\n:\n[\n[9] -A\n[1:1] -A OUTPUT -j\n*filter\n[0:0] -A OUTPUT -m comment --comment \"a \\\" -j b\" -j ACCEPT\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := parseSaved(text)
		for _, table := range s {
			table.sections(IPv4)
		}
		restoreScript(IPv4, s, nil)
	})
}

func FuzzParseRule(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, 1, 0, 'a', 'b', 'c', 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, msg []byte) {
		parseRule(2, msg)
	})
}
