package netfence

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
)

// fullPlan asks for everything that a plan can hold.
func fullPlan() plan.Config {
	return plan.Config{
		UID: daemonUID, AllowUIDs: []uint32{agentUID}, RedirectPort: facePort,
		Containers: true,
	}
}

func TestNewRefuses(t *testing.T) {
	_, err := New(Config{Plan: plan.Config{UID: math.MaxUint32}, Backend: "ebpf"})
	if err == nil || !strings.Contains(err.Error(), "uid 4294967295") || !strings.Contains(err.Error(), `backend "ebpf"`) {
		t.Errorf("two faults: got %v, want both", err)
	}
}

// named is a backend of which no more than the name is asked.
type named struct {
	backend
	name string
}

func (n named) Name() string { return n.name }

func TestCandidates(t *testing.T) {
	p, err := plan.New(fullPlan())
	if err != nil {
		t.Fatal(err)
	}
	tools := []backend{named{name: "default"}, named{name: "other"}}
	name := func(cs []candidate) (out []string) {
		for _, c := range cs {
			n := c.Name()
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
		tools  []backend
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
