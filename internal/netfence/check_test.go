package netfence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

func TestLiveHundredTimesLeavesNothing(t *testing.T) {
	times := 100
	if testing.Short() {
		times = 5
	}
	eachFlavour(t, func(t *testing.T, flavour string) {
		for _, others := range []bool{false, true} {
			n := newNamespace(t, "nft", "iptables-nft", "iptables-legacy")
			if others {
				n.feed("table inet other { chain c { type filter hook output priority 0; counter accept; }; }", "nft", "-f", "-")
				n.dockerRules("iptables-nft")
				n.dockerRules("iptables-legacy")
			}
			n.emptyTables(flavour)
			before := n.ruleset()
			for i := range times {
				f := n.fence(flavour, plan.Config{RedirectPort: facePort, Containers: i%2 == 0, AllowUIDs: []uint32{uint32(2000 + i)}})
				n.apply(f)
				if i%25 == 0 && n.ruleset() == before {
					t.Fatal("applying changed nothing")
				}
				n.remove(f)
			}
			if after := n.ruleset(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		}
	})
}

// emptyTables brings into being what the iptables tools leave behind.
func (n *namespace) emptyTables(flavour string) {
	n.t.Helper()
	if flavour == "nftables" {
		return
	}
	f := n.fence(flavour, fullPlan())
	n.apply(f)
	n.remove(f)
}

func TestLiveRemoveWithoutFence(t *testing.T) {
	n := newNamespace(t, "nft", "iptables-nft", "iptables-legacy")
	n.do(func() {
		if err := Remove(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if got := n.ruleset(); got != "" {
		t.Errorf("removing nothing made:\n%s", got)
	}
}

func TestLiveRemovedIsNotIntact(t *testing.T) {
	n := newNamespace(t)
	f := n.fence("nftables", fullPlan())
	n.apply(f)
	n.remove(f)
	if s := f.Status(); s.Intact() {
		t.Errorf("status after Remove: %+v", s)
	}
}

// The text for people makes the rules that Apply makes.
func TestLiveTextIsThePlan(t *testing.T) {
	n := newNamespace(t, "nft")
	f := n.fence("nftables", fullPlan())
	p, err := plan.New(fullPlan())
	if err != nil {
		t.Fatal(err)
	}
	n.feed(p.String(), "nft", "-f", "-")
	if d := n.check(f); len(d) != 0 {
		t.Errorf("the text made other rules: %v", d)
	}
	listed := n.run("nft", "list", "ruleset")
	n.remove(f)
	n.apply(f)
	if got := n.run("nft", "list", "ruleset"); got != listed {
		t.Errorf("nft lists the text as\n%s\nand the applied plan as\n%s", listed, got)
	}
}

func TestLiveCheckFindsTampering(t *testing.T) {
	const out = " chain ip nbidentityd out"
	tests := []struct {
		name, tamper string
		kind         ruleset.Kind
	}{
		{"table deleted", "nft delete table ip nbidentityd", ruleset.Missing},
		{"IPv6 table deleted", "nft delete table ip6 nbidentityd", ruleset.Missing},
		{"everything flushed", "nft flush ruleset", ruleset.Missing},
		{"chain flushed", "nft flush" + out, ruleset.Missing},
		{"chain deleted", "nft flush" + out + "; nft delete" + out, ruleset.Missing},
		{"rule deleted", "nft delete rule ip nbidentityd out handle $(nft -a list chain ip nbidentityd out | sed -n 's/.*tcp reset # handle //p' | head -1)", ruleset.Missing},
		{"rule for another uid", "nft insert rule ip nbidentityd out meta skuid 1500 accept", ruleset.Foreign},
		{"rule appended", "nft add rule ip nbidentityd natout counter", ruleset.Foreign},
		{"other port", "h=$(nft -a list chain ip nbidentityd natout | sed -n 's/.*redirect.* # handle //p');" +
			"nft replace rule ip nbidentityd natout handle $h ip daddr 169.254.169.254 meta l4proto tcp tcp dport 80 counter redirect to :1339", ruleset.Changed},
		{"other uid", "h=$(nft -a list chain ip nbidentityd out | sed -n 's/.*skuid 1501.* # handle //p');" +
			"nft replace rule ip nbidentityd out handle $h ip daddr 169.254.169.254 meta skuid 1500 return", ruleset.Changed},
		{"other address", "h=$(nft -a list chain ip nbidentityd out | sed -n 's/.*tcp reset # handle //p' | head -1);" +
			"nft replace rule ip nbidentityd out handle $h ip daddr 169.254.169.253 meta l4proto tcp counter reject with tcp reset", ruleset.Changed},
		{"table made dormant", "nft add table 'ip nbidentityd { flags dormant; }'", ruleset.Changed},
		{"policy changed", "nft chain 'ip nbidentityd out { policy drop; }'", ruleset.Changed},
		{"chain replaced by one without a hook", "nft flush" + out + "; nft delete" + out + "; nft add" + out, ruleset.Changed},
		{"chain at another priority", "nft flush" + out + "; nft delete" + out + "; nft add" + out + " '{ type filter hook output priority 7; }'", ruleset.Changed},
		{"chain added", "nft add chain ip nbidentityd more", ruleset.Foreign},
	}
	n := newNamespace(t, "nft", "sh", "sed")
	f := n.fence("nftables", fullPlan())
	n.apply(f)
	clean := n.run("nft", "list", "ruleset")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n.run("sh", "-e", "-c", test.tamper)
			wantFinding(t, n.check(f), test.kind)
			n.apply(f)
			if d := n.check(f); len(d) != 0 {
				t.Errorf("not repaired: %v", d)
			}
			if got := n.run("nft", "list", "ruleset"); got != clean {
				t.Errorf("repaired to\n%s\nfrom\n%s", got, clean)
			}
		})
	}
}

// The library reads no "dup", so by its reading this rule is ours.
func TestLiveCheckReadsEveryExpression(t *testing.T) {
	n := newNamespace(t)
	f := n.fence("nftables", plan.Config{})
	n.apply(f)
	table := &nftables.Table{Name: plan.TableName, Family: nftables.TableFamilyIPv4}
	chain := &nftables.Chain{Table: table, Name: "out"}
	n.do(func() {
		conn, err := nftables.New()
		if err != nil {
			t.Error(err)
			return
		}
		rules, err := conn.GetRules(table, chain)
		if err != nil {
			t.Error(err)
			return
		}
		conn.FlushChain(chain)
		for _, r := range rules {
			_, byAddress := r.Exprs[0].(*expr.Payload)
			if refusal, ok := r.Exprs[len(r.Exprs)-1].(*expr.Reject); ok && byAddress && refusal.Type == unix.NFT_REJECT_TCP_RST {
				r.Exprs = slices.Insert(r.Exprs, 2, expr.Any(&expr.Dup{RegAddr: 1}))
			}
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r.Exprs})
		}
		if err := conn.Flush(); err != nil {
			t.Error(err)
		}
	})
	got := n.check(f)
	wantFinding(t, got, ruleset.Changed)
	if len(got) != 1 || !strings.Contains(got[0].Have, "dup") {
		t.Errorf("found %v, want the one rule with dup", got)
	}
}

func wantFinding(t *testing.T, got []ruleset.Finding, kind ruleset.Kind) {
	t.Helper()
	for _, f := range got {
		if f.Kind == kind {
			return
		}
	}
	t.Errorf("found %v, want something %s", got, kind)
}

func TestLiveCheckFindsTamperingIPTables(t *testing.T) {
	tests := []struct {
		name, tamper string
		kind         ruleset.Kind
	}{
		{"chain flushed", "TOOL -F NBIDENTITYD-OUT", ruleset.Missing},
		{"jump deleted", "TOOL -D OUTPUT -j NBIDENTITYD-OUT", ruleset.Missing},
		{"built-in chain flushed", "TOOL -t nat -F OUTPUT", ruleset.Missing},
		{"everything flushed", "TOOL -F; TOOL -t nat -F; TOOL -X; TOOL -t nat -X", ruleset.Missing},
		{"jump narrowed", "TOOL -D OUTPUT -j NBIDENTITYD-OUT; TOOL -I OUTPUT -p udp -j NBIDENTITYD-OUT", ruleset.Changed},
		{"jump doubled", "TOOL -I OUTPUT -j NBIDENTITYD-OUT", ruleset.Shadowed},
		{"accepted before", "TOOL -I OUTPUT -d 169.254.169.254 -j ACCEPT", ruleset.Shadowed},
		{"rule deleted", "TOOL -D NBIDENTITYD-OUT 4", ruleset.Missing},
		{"rule for another uid", "TOOL -I NBIDENTITYD-OUT -m owner --uid-owner 1500 -j RETURN", ruleset.Foreign},
		{"inverted", "TOOL -R NBIDENTITYD-OUT 2 -d 169.254.169.254 -m owner ! --uid-owner 1501 -j RETURN", ruleset.Changed},
		{"other port", "TOOL -t nat -R NBIDENTITYD-NATOUT 4 -d 169.254.169.254 -p tcp --dport 80 -j REDIRECT --to-ports 1339", ruleset.Changed},
		{"chain added", "TOOL -N NBIDENTITYD-MORE", ruleset.Foreign},
	}
	for _, flavour := range flavours[1:] {
		t.Run(flavour, func(t *testing.T) {
			n := newNamespace(t, "sh", flavour)
			n.dockerRules(flavour)
			f := n.fence(flavour, fullPlan())
			n.apply(f)
			for _, test := range tests {
				t.Run(test.name, func(t *testing.T) {
					n.run("sh", "-e", "-c", strings.ReplaceAll(test.tamper, "TOOL", flavour))
					wantFinding(t, n.check(f), test.kind)
					n.apply(f)
					if d := n.check(f); len(d) != 0 {
						t.Errorf("not repaired: %v", d)
					}
				})
			}
		})
	}
}

func TestLiveApplyKeepsCounters(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		l := newLab(t)
		f := l.fence(flavour, plan.Config{})
		l.apply(f)
		l.get(notebookUID, imds4)
		before := l.counters(f)
		for range 3 {
			l.apply(f)
		}
		if after := l.counters(f); before.Blocked == 0 || after != before {
			t.Errorf("counters before %+v, after applying again %+v", before, after)
		}
	})
}

// Another process put up the fence, with the same settings or others.
func TestLiveAnotherProcess(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		n := newNamespace(t)
		first := n.fence(flavour, fullPlan())
		n.apply(first)

		same, err := New(Config{Plan: fullPlan()}) // chooses by itself
		if err != nil {
			t.Fatal(err)
		}
		if d := n.check(same); len(d) != 0 || !same.Status().Intact() {
			t.Errorf("with the same settings: %v, %+v", d, same.Status())
		}
		other := fullPlan()
		other.RedirectPort = 4444
		f, err := New(Config{Plan: other})
		if err != nil {
			t.Fatal(err)
		}
		wantFinding(t, n.check(f), ruleset.Changed)
		if f.Status().Intact() {
			t.Error("other settings, and yet intact")
		}
		// Applying goes to the best backend and takes down the other's rules.
		n.apply(f)
		if f.Status().Backend != BackendNFTables {
			t.Errorf("chose %s", f.Status().Backend)
		}
		if flavour != "nftables" {
			if s := n.run(flavour + "-save"); strings.Contains(s, "NBIDENTITYD-") {
				t.Errorf("two fences stand; %s has:\n%s", flavour, s)
			}
		}
		n.remove(f)
		wantFinding(t, n.check(first), ruleset.Missing)
	})
}

func TestLiveConcurrentApply(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		n := newNamespace(t)
		var fences []*Fence
		for range 4 { // as four processes have them
			fences = append(fences, n.fence(flavour, fullPlan()))
		}
		n.apply(fences[0])
		var wg sync.WaitGroup
		var mu sync.Mutex
		var failed []error
		for _, f := range fences {
			for worker := range 2 {
				wg.Go(func() {
					n.do(func() {
						b := f.candidates[0].backend
						for i := range 10 {
							var err error
							if worker == 1 && i%2 == 0 {
								err = b.Remove(context.Background())
							} else {
								err = b.Apply(context.Background(), f.candidates[0].plan)
							}
							if err != nil {
								mu.Lock()
								failed = append(failed, err)
								mu.Unlock()
							}
						}
					})
				})
			}
		}
		wg.Wait()
		n.apply(fences[0])
		if d := n.check(fences[0]); len(d) != 0 {
			t.Errorf("after the storm: %v", d)
		}
		if len(failed) > 0 {
			t.Errorf("%d of 80 operations failed, first: %v", len(failed), failed[0])
		}
	})
}

// One Fence, many callers: nothing for the race detector to find.
func TestLiveOneFenceManyCallers(t *testing.T) {
	n := newNamespace(t)
	f := n.fence("nftables", fullPlan())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			n.do(func() {
				for range 10 {
					var err error
					switch i % 3 {
					case 0:
						err = f.Apply(context.Background())
					case 1:
						_, err = f.Check(context.Background())
					case 2:
						_ = f.Status()
						err = f.Remove(context.Background())
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
	wg.Wait()
}

func TestMissingCapability(t *testing.T) {
	for _, backend := range []Backend{BackendNFTables, BackendIPTables, ""} {
		if os.Getuid() != 0 {
			f, err := New(Config{Plan: plan.Config{UID: daemonUID}, Backend: backend})
			if err != nil {
				continue // no iptables here
			}
			if err := f.Apply(t.Context()); !errors.Is(err, ErrNotPermitted) {
				t.Errorf("%s: got %v", backend, err)
			}
			continue
		}
		n := newNamespace(t)
		if got := n.ask(notebookUID, "apply", string(backend)); !strings.HasPrefix(got, "true") {
			t.Errorf("%s: got %s", backend, got)
		}
	}
}

// One capability is enough for everything over netlink.
func TestLiveOneCapability(t *testing.T) {
	n := newNamespace(t)
	n.do(func() {
		cmd := n.command(daemonUID, "capable")
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "<nil>" {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// Who asks how the fence stands must not wait for the tools, which may wait for
// the lock of somebody else's.
func TestStatusDoesNotWait(t *testing.T) {
	f, err := New(Config{Plan: fullPlan()})
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.doneLocked()
	answered := make(chan Status, 1)
	go func() { answered <- f.Status() }()
	select {
	case s := <-answered:
		if s.Intact() {
			t.Errorf("before any look: %+v", s)
		}
	case <-time.After(time.Minute):
		t.Error("it waits")
	}
}

func TestApplyEndsWithItsContext(t *testing.T) {
	for _, flavour := range flavours {
		n := &namespace{t: t}
		f := n.fence(flavour, plan.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.Apply(ctx); err == nil {
			t.Errorf("%s: applied after the end", flavour)
		} else if fmt.Sprint(err) == "" {
			t.Error("no reason")
		}
	}
}
