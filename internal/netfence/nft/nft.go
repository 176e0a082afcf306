// Package nft keeps packet rules over netlink, in tables of nf_tables that are
// ours alone. It needs CAP_NET_ADMIN and no program.
package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

// netlinkLimit bounds one exchange with the kernel. The kernel answers before
// it returns from the sending, so this is only against an answer that never
// comes; it is long because the first rule may have to load a dozen modules,
// and a limit that passes meanwhile would lose answers that are there.
const netlinkLimit = time.Minute

// Tables are ours in this network namespace.
type Tables struct{}

// Name is that of the kernel's subsystem.
const Name = "nftables"

// Name returns Name.
func (Tables) Name() string { return Name }

func familyOf(f plan.Family) nftables.TableFamily {
	if f == plan.IPv4 {
		return nftables.TableFamilyIPv4
	}
	return nftables.TableFamilyIPv6
}

func dial(ctx context.Context) (*nftables.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	deadline := func(c *netlink.Conn) error { return c.SetDeadline(time.Now().Add(netlinkLimit)) }
	return nftables.New(nftables.WithSockOptions(deadline))
}

// Apply replaces whatever stands in our tables by p, in one transaction: there
// is no moment without a fence, and on an error nothing has changed.
func (Tables) Apply(ctx context.Context, p plan.Plan) error {
	return replaceTables(ctx, p)
}

// Remove deletes our tables.
func (Tables) Remove(ctx context.Context) error {
	err := replaceTables(ctx, plan.Plan{})
	if unsupported(err) {
		return nil
	}
	return err
}

// replaceTables deletes only tables that exist. To make, delete and make a
// table again would need no look before, and so no second try when another
// process made or deleted one meanwhile; but it takes the kernel ten times as
// long (20 ms against 2).
func replaceTables(ctx context.Context, p plan.Plan) error {
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	old, err := ownTables(conn)
	if err != nil {
		return err
	}
	for _, t := range old {
		conn.DelTable(t)
	}
	for _, t := range p.Tables {
		addTable(conn, t)
	}
	err = conn.Flush()
	if raced := errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT); !raced {
		return ruleset.Permitted(err)
	}
	for _, t := range append(old, kernelTables(p)...) {
		conn.AddTable(t)
		conn.DelTable(t)
	}
	for _, t := range p.Tables {
		addTable(conn, t)
	}
	return ruleset.Permitted(conn.Flush())
}

func kernelTables(p plan.Plan) (out []*nftables.Table) {
	for _, t := range p.Tables {
		out = append(out, &nftables.Table{Name: plan.TableName, Family: familyOf(t.Family)})
	}
	return out
}

func addTable(conn *nftables.Conn, t plan.Table) {
	table := conn.CreateTable(&nftables.Table{Name: plan.TableName, Family: familyOf(t.Family)}) // EEXIST when it exists
	for _, c := range t.Chains {
		chain := conn.AddChain(baseChain(table, c))
		for _, r := range c.Rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs(r, t.Family)})
		}
	}
}

func ownTables(conn *nftables.Conn) ([]*nftables.Table, error) {
	tables, err := conn.ListTables()
	if err != nil {
		return nil, ruleset.Permitted(err)
	}
	return slices.DeleteFunc(tables, func(t *nftables.Table) bool {
		return t.Name != plan.TableName || t.Family != nftables.TableFamilyIPv4 && t.Family != nftables.TableFamilyIPv6
	}), nil
}

// Planned returns what Live must return when p stands.
func (Tables) Planned(p plan.Plan) []ruleset.Section {
	var out []ruleset.Section
	for _, t := range p.Tables {
		out = append(out, ruleset.Section{Where: where(familyOf(t.Family), ""), Head: tableHead(0)})
		for _, c := range t.Chains {
			s := ruleset.Section{Where: where(familyOf(t.Family), c.Name), Head: c.Head(" ")}
			for _, r := range c.Rules {
				var keys []string
				for _, e := range exprs(r, t.Family) {
					keys = append(keys, exprKey(byte(familyOf(t.Family)), e))
				}
				s.Lines = append(s.Lines, ruleset.Line{Key: strings.Join(keys, " "), Text: r.Text(t.Family), Tally: r.Tally})
			}
			out = append(out, s)
		}
	}
	return out
}

// Live reads our tables. It also serves as the test for being installed: no
// section, no fence.
func (Tables) Live(ctx context.Context) ([]ruleset.Section, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	tables, err := ownTables(conn)
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, ruleset.Permitted(err)
	}
	var out []ruleset.Section
	for _, t := range tables {
		out = append(out, ruleset.Section{Where: where(t.Family, ""), Head: tableHead(t.Flags)})
		first := len(out)
		for _, c := range chains {
			if c.Table != nil && c.Table.Name == t.Name && c.Table.Family == t.Family {
				out = append(out, ruleset.Section{Where: where(t.Family, c.Name), Head: liveHead(c)})
			}
		}
		rules, err := dumpRules(t.Family)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			i := slices.IndexFunc(out[first:], func(s ruleset.Section) bool { return s.Where == where(t.Family, r.chain) })
			if i >= 0 {
				out[first+i].Lines = append(out[first+i].Lines, r.line)
			}
		}
	}
	return out, nil
}

func where(f nftables.TableFamily, chain string) string {
	family := plan.IPv4
	if f == nftables.TableFamilyIPv6 {
		family = plan.IPv6
	}
	return strings.TrimSuffix(fmt.Sprintf("nftables table %s %s chain %s", family, plan.TableName, chain), " chain ")
}

// tableHead shows the flags of a table: a dormant one holds every rule and
// applies none. The library leaves them in the byte order of the wire.
func tableHead(flags uint32) string {
	if flags == 0 {
		return "a table"
	}
	return fmt.Sprintf("a table with flags %#x (1 is dormant)", binary.BigEndian.Uint32(binaryutil.NativeEndian.PutUint32(flags)))
}

func liveHead(c *nftables.Chain) string {
	if c.Hooknum == nil || c.Priority == nil {
		return "no base chain"
	}
	hook := fmt.Sprintf("number %d", *c.Hooknum)
	for name, h := range hooks {
		if *h == *c.Hooknum {
			hook = name
		}
	}
	policy := "drop"
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyAccept {
		policy = "accept"
	}
	return plan.ChainHead(string(c.Type), hook, int(*c.Priority), policy, " ")
}

var hooks = map[string]*nftables.ChainHook{
	"prerouting": nftables.ChainHookPrerouting,
	"forward":    nftables.ChainHookForward,
	"output":     nftables.ChainHookOutput,
}

func baseChain(t *nftables.Table, c plan.Chain) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Table: t, Name: c.Name, Type: nftables.ChainType(c.Type), Hooknum: hooks[c.Hook],
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(c.Priority)), Policy: &accept,
	}
}

// unsupported reports whether err says that this kernel has no nf_tables.
func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}
