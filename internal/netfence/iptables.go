package netfence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ownChains = "NBIDENTITYD-"
	// toolLimit bounds one run of a tool; -w makes it wait for the lock of
	// others that long at most.
	toolLimit = 10 * time.Second
	lockLimit = "5"
)

// iptables keeps the fence in chains of its own inside the tables of everybody
// else, by one flavour (legacy or nft) of the iptables tools. The zero value
// of a path means that the tool is not installed.
type iptables struct {
	save4, restore4 string
	save6, restore6 string
}

// findIPTables returns the installed flavours, the system's default first. It
// looks in the system's directories and at no environment.
func findIPTables() []iptables {
	var out []iptables
	var seen []string
	for _, flavour := range []string{"", "-legacy", "-nft"} {
		t := iptables{
			save4:    systemProgram("iptables" + flavour + "-save"),
			restore4: systemProgram("iptables" + flavour + "-restore"),
			save6:    systemProgram("ip6tables" + flavour + "-save"),
			restore6: systemProgram("ip6tables" + flavour + "-restore"),
		}
		if t.save4 == "" || t.restore4 == "" {
			continue
		}
		// The flavours are links to one program each.
		program := t.flavour()
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

func (iptables) name() Backend { return BackendIPTables }

// flavour is the program behind the links.
func (t iptables) flavour() string {
	program, err := filepath.EvalSymlinks(t.save4)
	if err != nil {
		return ""
	}
	return filepath.Base(program)
}

// apply writes all chains of one family and table in one step. A table at a
// time, refusals first: on an error the fence may stand in part.
func (t iptables) apply(ctx context.Context, p Plan) error {
	for _, f := range []Family{IPv4, IPv6} {
		var chains []Chain
		for _, table := range p.family(f).Tables {
			chains = append(chains, table.Chains...)
		}
		if f == IPv6 && t.save6 == "" {
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
func (t iptables) write(ctx context.Context, f Family, chains []Chain) error {
	const tries = 20
	for try := 1; ; try++ {
		saved, err := t.saved(ctx, f)
		if err != nil {
			return err
		}
		script := restoreScript(f, saved, chains)
		if script == "" {
			return nil
		}
		_, err = t.run(ctx, t.restore(f), script, "-n", "-w", lockLimit)
		if err == nil || errors.Is(err, ErrNotPermitted) || ctx.Err() != nil || try == tries {
			return err
		}
	}
}

func (t iptables) remove(ctx context.Context) error { return t.apply(ctx, Plan{}) }

func (t iptables) restore(f Family) string {
	if f == IPv4 {
		return t.restore4
	}
	return t.restore6
}

func (t iptables) saved(ctx context.Context, f Family) (saved, error) {
	program := t.save4
	if f == IPv6 {
		program = t.save6
	}
	out, err := t.run(ctx, program, "", "-c")
	if err != nil {
		return nil, err
	}
	return parseSaved(out), nil
}

func (iptables) run(ctx context.Context, program, stdin string, args ...string) (string, error) {
	if !mayAdminister() {
		return "", ErrNotPermitted
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
			err = fmt.Errorf("%w; these tools need root, or CAP_NET_RAW and the lock file besides", ErrNotPermitted)
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

// saved holds what iptables-save printed of one family.
type saved []savedTable

type savedTable struct {
	name   string // nat, filter, …
	chains []string
	rules  []savedRule
}

type savedRule struct {
	chain, spec string
	packets     uint64
}

// target returns the chain that r hands packets to, or "".
func (r savedRule) target() string {
	words := strings.Fields(r.spec)
	for i, w := range words[:max(0, len(words)-1)] {
		if w == "-j" || w == "-g" {
			return words[i+1]
		}
	}
	return ""
}

func (s saved) table(name string) savedTable {
	for _, t := range s {
		if t.name == name {
			return t
		}
	}
	return savedTable{name: name}
}

func parseSaved(text string) saved {
	var out saved
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		switch {
		case strings.HasPrefix(l, "*"):
			out = append(out, savedTable{name: l[1:]})
		case len(out) == 0:
		case strings.HasPrefix(l, ":"):
			name, _, _ := strings.Cut(l[1:], " ")
			out[len(out)-1].chains = append(out[len(out)-1].chains, name)
		case strings.HasPrefix(l, "["):
			counts, rest, _ := strings.Cut(l[1:], "] -A ")
			packets, _, _ := strings.Cut(counts, ":")
			n, _ := strconv.ParseUint(packets, 10, 64)
			chain, spec, _ := strings.Cut(rest, " ")
			out[len(out)-1].rules = append(out[len(out)-1].rules, savedRule{chain: chain, spec: spec, packets: n})
		}
	}
	return out
}

// restoreScript turns what is saved into what chains ask for, touching no rule
// of others. It is empty when there is nothing of ours, neither there nor
// asked for: then not even the kernel's tables need come into being.
func restoreScript(f Family, s saved, chains []Chain) string {
	var b strings.Builder
	for _, name := range []string{"filter", "nat"} {
		have := s.table(name)
		want := slices.DeleteFunc(slices.Clone(chains), func(c Chain) bool { return c.Type != name })
		var stale []string
		for _, c := range have.chains {
			if strings.HasPrefix(c, ownChains) && !slices.ContainsFunc(want, func(w Chain) bool { return ownChain(w) == c }) {
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
				fmt.Fprintf(&b, "-A %s %s\n", ownChain(c), r.spec(f))
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

func ownChain(c Chain) string { return ownChains + strings.ToUpper(c.Name) }

func iptablesWhere(f Family, table, chain string) string {
	return fmt.Sprintf("iptables family %s table %s chain %s", f, table, chain)
}

const (
	ownHead     = "a chain"
	builtinHead = "the built-in chain"
)

func (iptables) planned(p Plan) []section {
	var out []section
	for _, t := range p.Tables {
		for _, c := range t.Chains {
			jump := "-j " + ownChain(c)
			out = append(out, section{where: iptablesWhere(t.Family, c.Type, strings.ToUpper(c.Hook)), head: builtinHead,
				shared: true, lines: []line{{key: specKey(jump), text: jump}}})
			s := section{where: iptablesWhere(t.Family, c.Type, ownChain(c)), head: ownHead}
			for _, r := range c.Rules {
				spec := r.spec(t.Family)
				s.lines = append(s.lines, line{key: specKey(spec), text: spec, tally: r.Tally})
			}
			out = append(out, s)
		}
	}
	return out
}

// live returns our chains and, of the built-in ones, the rules down to the
// last that leads to ours: those before it are asked first.
func (t iptables) live(ctx context.Context) ([]section, error) {
	var out []section
	for _, f := range []Family{IPv4, IPv6} {
		if f == IPv6 && t.save6 == "" {
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

func (t savedTable) sections(f Family) []section {
	ours := func(chain string) bool { return strings.HasPrefix(chain, ownChains) }
	var out []section
	for _, chain := range t.chains {
		s := section{where: iptablesWhere(f, t.name, chain), head: ownHead, shared: !ours(chain)}
		if s.shared {
			s.head = builtinHead
		}
		last := 0
		for _, r := range t.rules {
			if r.chain != chain {
				continue
			}
			s.lines = append(s.lines, line{key: specKey(r.spec), text: r.spec, packets: r.packets})
			if ours(r.target()) {
				last = len(s.lines)
			}
		}
		if s.shared {
			s.lines = s.lines[:last]
		}
		if !s.shared || last > 0 {
			out = append(out, s)
		}
	}
	return out
}

// spec renders r as iptables and ip6tables take it.
func (r Rule) spec(f Family) string {
	var w []string
	add := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	if r.To.IsValid() {
		add("-d %s/%d", r.To, r.To.BitLen())
	}
	if r.TCP {
		add("-p tcp")
	}
	if r.Port != 0 {
		add("-m tcp --dport %d", r.Port)
	}
	if r.Bare != 0 {
		// The length counts the IP header in both families, whose least is 20
		// or 40 bytes. TCP's least is 20; with a timestamp it is 32.
		add("-m tcp --tcp-flags SYN NONE")
		if r.Bare > 20 {
			add("--tcp-option 8")
		}
		add("-m length --length %d", map[Family]int{IPv4: 20, IPv6: 40}[f]+r.Bare)
	}
	if r.Options {
		add(`-m u32 --u32 "0x0>>0x18&0xf=0x6:0xf"`)
	}
	switch r.Owner {
	case OwnerIs:
		add("-m owner --uid-owner %d", r.UID)
	case OwnerKnown:
		add("-m owner --uid-owner 0-%d", uint32(nobody-1))
	}
	switch r.Verdict {
	case Redirect:
		add("-j REDIRECT --to-ports %d", r.RedirectTo)
	case Reset:
		add("-j REJECT --reject-with tcp-reset")
	case Reject:
		add("-j REJECT --reject-with %s", map[Family]string{IPv4: "icmp-admin-prohibited", IPv6: "icmp6-adm-prohibited"}[f])
	default:
		add("-j RETURN")
	}
	return strings.Join(w, " ")
}

// specKey brings a rule into a form that does not depend on the order in which
// a version of the tools prints its options.
func specKey(spec string) string {
	var options []string
	negated := ""
	for _, w := range strings.Fields(spec) {
		switch {
		case w == "!":
			negated = "! "
		case strings.HasPrefix(w, "-"):
			options = append(options, negated+w)
			negated = ""
		case len(options) > 0:
			w = strings.TrimSuffix(strings.TrimSuffix(w, "/32"), "/128")
			options[len(options)-1] += " " + negated + w
			negated = ""
		}
	}
	options = slices.DeleteFunc(options, func(o string) bool {
		return o == "-m tcp" || o == "-m owner" || o == "-m length" || o == "-m u32"
	})
	slices.Sort(options)
	return strings.Join(options, " ")
}
