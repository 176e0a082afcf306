// Package iptables keeps packet rules by the iptables tools, in chains of its own
// inside the tables of everybody else. The tools need root, or CAP_NET_ADMIN,
// CAP_NET_RAW and to write /run/xtables.lock (legacy).
package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

const (
	ownChains = "NBIDENTITYD-"
	// toolLimit bounds one run of a tool; -w makes it wait for the lock of
	// others that long at most.
	toolLimit = 10 * time.Second
	lockLimit = "5"
	// retryLimit is less than one wait for the lock.
	retryLimit = 4 * time.Second
)

// Tools are one flavour (legacy or nft) of the iptables tools. The zero value of
// a path means that the tool is not installed.
type Tools struct {
	save4, restore4 string
	save6, restore6 string
}

// Find returns the installed flavours, the system's default first. It
// looks in the system's directories and at no environment.
func Find() []Tools {
	var out []Tools
	var seen []string
	for _, flavour := range []string{"", "-legacy", "-nft"} {
		t := Tools{
			save4:    systemProgram("iptables" + flavour + "-save"),
			restore4: systemProgram("iptables" + flavour + "-restore"),
			save6:    systemProgram("ip6tables" + flavour + "-save"),
			restore6: systemProgram("ip6tables" + flavour + "-restore"),
		}
		if t.save4 == "" || t.restore4 == "" {
			continue
		}
		// The flavours are links to one program each.
		program := t.Flavour()
		if program == "" || slices.Contains(seen, program) {
			continue
		}
		seen, out = append(seen, program), append(out, t)
	}
	return out
}

func systemProgram(name string) string {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// Name is that of the tools, whichever flavour.
const Name = "iptables"

// Name returns Name.
func (Tools) Name() string { return Name }

// Flavour is the program behind the links.
func (t Tools) Flavour() string {
	program, err := filepath.EvalSymlinks(t.save4)
	if err != nil {
		return ""
	}
	return filepath.Base(program)
}

// Apply writes all chains of one family and table in one step. A table at a
// time, refusals first: on an error the fence may stand in part.
func (t Tools) Apply(ctx context.Context, p plan.Plan) error {
	for _, f := range []plan.Family{plan.IPv4, plan.IPv6} {
		var chains []plan.Chain
		for _, table := range p.Of(f).Tables {
			chains = append(chains, table.Chains...)
		}
		if f == plan.IPv6 && t.save6 == "" {
			if len(chains) > 0 {
				return errors.New("IPv6 needs ip6tables, which is not installed")
			}
			continue
		}
		if err := t.write(ctx, f, chains); err != nil {
			return err
		}
	}
	return nil
}

// write takes several tries, since another process may change our rules
// between the reading and the writing, and the writing then fails as a whole.
// That is known at once: what takes long has waited for the lock, and is for the
// caller to try again.
func (t Tools) write(ctx context.Context, f plan.Family, chains []plan.Chain) error {
	const tries = 20
	for try := 1; ; try++ {
		began := time.Now()
		saved, err := t.saved(ctx, f)
		if err != nil {
			return err
		}
		script := restoreScript(f, saved, chains)
		if script == "" {
			return nil
		}
		_, err = t.run(ctx, t.restore(f), script, "-n", "-w", lockLimit)
		if err == nil || errors.Is(err, ruleset.ErrNotPermitted) || ctx.Err() != nil || try == tries || time.Since(began) > retryLimit {
			return err
		}
	}
}

// Remove deletes our chains and what leads to them.
func (t Tools) Remove(ctx context.Context) error { return t.Apply(ctx, plan.Plan{}) }

func (t Tools) restore(f plan.Family) string {
	if f == plan.IPv4 {
		return t.restore4
	}
	return t.restore6
}

func (t Tools) saved(ctx context.Context, f plan.Family) (saved, error) {
	program := t.save4
	if f == plan.IPv6 {
		program = t.save6
	}
	out, err := t.run(ctx, program, "", "-c")
	if err != nil {
		return nil, err
	}
	return parseSaved(out), nil
}

func (Tools) run(ctx context.Context, program, stdin string, args ...string) (string, error) {
	if !mayAdminister() {
		return "", ruleset.ErrNotPermitted
	}
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.Join(strings.Fields(stderr.String()), " ")
		if strings.Contains(said, "Permission denied") || strings.Contains(said, "Operation not permitted") {
			err = fmt.Errorf("%w; these tools need root, or CAP_NET_RAW and the lock file besides", ruleset.ErrNotPermitted)
		}
		return "", fmt.Errorf("running %s: %w: %.300s", program, err, said)
	}
	return stdout.String(), nil
}

// mayAdminister reports whether this thread has CAP_NET_ADMIN.
func mayAdminister() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}

// restoreScript turns what is saved into what chains ask for, touching no rule
// of others. It is empty when there is nothing of ours, neither there nor
// asked for: then not even the kernel's tables need come into being.
func restoreScript(f plan.Family, s saved, chains []plan.Chain) string {
	var b strings.Builder
	for _, name := range []string{"filter", "nat"} {
		have := s.table(name)
		want := slices.DeleteFunc(slices.Clone(chains), func(c plan.Chain) bool { return c.Type != name })
		var stale []string
		for _, c := range have.chains {
			if strings.HasPrefix(c, ownChains) && !slices.ContainsFunc(want, func(w plan.Chain) bool { return ownChain(w) == c }) {
				stale = append(stale, c)
			}
		}
		if len(want) == 0 && len(stale) == 0 {
			continue
		}
		fmt.Fprintf(&b, "*%s\n", name)
		for _, c := range want {
			fmt.Fprintf(&b, ":%s - [0:0]\n", ownChain(c)) // makes or empties it
		}
		for _, c := range stale {
			fmt.Fprintf(&b, ":%s - [0:0]\n", c)
		}
		for _, r := range have.rules {
			if strings.HasPrefix(r.target(), ownChains) && !strings.HasPrefix(r.chain, ownChains) {
				fmt.Fprintf(&b, "-D %s %s\n", r.chain, r.spec)
			}
		}
		for _, c := range want {
			for _, r := range c.Rules {
				fmt.Fprintf(&b, "-A %s %s\n", ownChain(c), spec(r, f))
			}
			fmt.Fprintf(&b, "-I %s 1 -j %s\n", strings.ToUpper(c.Hook), ownChain(c))
		}
		for _, c := range stale {
			fmt.Fprintf(&b, "-X %s\n", c)
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

func ownChain(c plan.Chain) string { return ownChains + strings.ToUpper(c.Name) }

func where(f plan.Family, table, chain string) string {
	return fmt.Sprintf("iptables family %s table %s chain %s", f, table, chain)
}

const (
	ownHead     = "a chain"
	builtinHead = "the built-in chain"
)

// Planned returns what Live must return when p stands.
func (Tools) Planned(p plan.Plan) []ruleset.Section {
	var out []ruleset.Section
	for _, t := range p.Tables {
		for _, c := range t.Chains {
			jump := "-j " + ownChain(c)
			out = append(out, ruleset.Section{Where: where(t.Family, c.Type, strings.ToUpper(c.Hook)), Head: builtinHead,
				Shared: true, Lines: []ruleset.Line{{Key: specKey(jump), Text: jump}}})
			s := ruleset.Section{Where: where(t.Family, c.Type, ownChain(c)), Head: ownHead}
			for _, r := range c.Rules {
				text := spec(r, t.Family)
				s.Lines = append(s.Lines, ruleset.Line{Key: specKey(text), Text: text, Tally: r.Tally})
			}
			out = append(out, s)
		}
	}
	return out
}

// Live returns our chains and, of the built-in ones, the rules down to the
// last that leads to ours: those before it are asked first.
func (t Tools) Live(ctx context.Context) ([]ruleset.Section, error) {
	var out []ruleset.Section
	for _, f := range []plan.Family{plan.IPv4, plan.IPv6} {
		if f == plan.IPv6 && t.save6 == "" {
			continue
		}
		s, err := t.saved(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, table := range s {
			out = append(out, table.sections(f)...)
		}
	}
	return out, nil
}
