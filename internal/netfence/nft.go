package netfence

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const tableName = "nbidentityd"

// netlinkLimit bounds one exchange with the kernel. The kernel answers before
// it returns from the sending, so this is only against an answer that never
// comes; it is long because the first rule may have to load a dozen modules,
// and a limit that passes meanwhile would lose answers that are there.
const netlinkLimit = time.Minute

// nft keeps the fence in tables of its own, over netlink.
type nft struct{}

func (nft) name() Backend { return BackendNFTables }

func nftFamily(f Family) nftables.TableFamily {
	if f == IPv4 {
		return nftables.TableFamilyIPv4
	}
	return nftables.TableFamilyIPv6
}

func nftConn(ctx context.Context) (*nftables.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	deadline := func(c *netlink.Conn) error { return c.SetDeadline(time.Now().Add(netlinkLimit)) }
	return nftables.New(nftables.WithSockOptions(deadline))
}

// apply replaces whatever stands in our tables by p, in one transaction: there
// is no moment without a fence, and on an error nothing has changed.
func (nft) apply(ctx context.Context, p Plan) error {
	return replaceTables(ctx, p)
}

func (nft) remove(ctx context.Context) error {
	err := replaceTables(ctx, Plan{})
	if unsupported(err) {
		return nil
	}
	return err
}

// replaceTables deletes only tables that exist. To make, delete and make a
// table again would need no look before, and so no second try when another
// process made or deleted one meanwhile; but it takes the kernel ten times as
// long (20 ms against 2).
func replaceTables(ctx context.Context, p Plan) error {
	conn, err := nftConn(ctx)
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
		return permitted(err)
	}
	for _, t := range append(old, kernelTables(p)...) {
		conn.AddTable(t)
		conn.DelTable(t)
	}
	for _, t := range p.Tables {
		addTable(conn, t)
	}
	return permitted(conn.Flush())
}

func kernelTables(p Plan) (out []*nftables.Table) {
	for _, t := range p.Tables {
		out = append(out, &nftables.Table{Name: tableName, Family: nftFamily(t.Family)})
	}
	return out
}

func addTable(conn *nftables.Conn, t Table) {
	table := conn.CreateTable(&nftables.Table{Name: tableName, Family: nftFamily(t.Family)}) // EEXIST when it exists
	for _, c := range t.Chains {
		chain := conn.AddChain(nftChain(table, c))
		for _, r := range c.Rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r.exprs(t.Family)})
		}
	}
}

func ownTables(conn *nftables.Conn) ([]*nftables.Table, error) {
	tables, err := conn.ListTables()
	if err != nil {
		return nil, permitted(err)
	}
	return slices.DeleteFunc(tables, func(t *nftables.Table) bool {
		return t.Name != tableName || t.Family != nftables.TableFamilyIPv4 && t.Family != nftables.TableFamilyIPv6
	}), nil
}

// planned returns what live must return when p stands.
func (nft) planned(p Plan) []section {
	var out []section
	for _, t := range p.Tables {
		out = append(out, section{where: nftWhere(nftFamily(t.Family), ""), head: tableHead(0)})
		for _, c := range t.Chains {
			s := section{where: nftWhere(nftFamily(t.Family), c.Name), head: c.head(" ")}
			for _, r := range c.Rules {
				var keys []string
				for _, e := range r.exprs(t.Family) {
					keys = append(keys, exprKey(byte(nftFamily(t.Family)), e))
				}
				s.lines = append(s.lines, line{key: strings.Join(keys, " "), text: r.text(t.Family), tally: r.Tally})
			}
			out = append(out, s)
		}
	}
	return out
}

// live reads our tables. It also serves as the test for being installed: no
// section, no fence.
func (nft) live(ctx context.Context) ([]section, error) {
	conn, err := nftConn(ctx)
	if err != nil {
		return nil, err
	}
	tables, err := ownTables(conn)
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, permitted(err)
	}
	var out []section
	for _, t := range tables {
		out = append(out, section{where: nftWhere(t.Family, ""), head: tableHead(t.Flags)})
		first := len(out)
		for _, c := range chains {
			if c.Table != nil && c.Table.Name == t.Name && c.Table.Family == t.Family {
				out = append(out, section{where: nftWhere(t.Family, c.Name), head: liveHead(c)})
			}
		}
		rules, err := dumpRules(t.Family)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			i := slices.IndexFunc(out[first:], func(s section) bool { return s.where == nftWhere(t.Family, r.chain) })
			if i >= 0 {
				out[first+i].lines = append(out[first+i].lines, r.line)
			}
		}
	}
	return out, nil
}

func nftWhere(f nftables.TableFamily, chain string) string {
	family := IPv4
	if f == nftables.TableFamilyIPv6 {
		family = IPv6
	}
	return strings.TrimSuffix(fmt.Sprintf("nftables table %s %s chain %s", family, tableName, chain), " chain ")
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
	return chainHead(string(c.Type), hook, int(*c.Priority), policy, " ")
}

var hooks = map[string]*nftables.ChainHook{
	"prerouting": nftables.ChainHookPrerouting,
	"forward":    nftables.ChainHookForward,
	"output":     nftables.ChainHookOutput,
}

func nftChain(t *nftables.Table, c Chain) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Table: t, Name: c.Name, Type: nftables.ChainType(c.Type), Hooknum: hooks[c.Hook],
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(c.Priority)), Policy: &accept,
	}
}

type liveRule struct {
	chain string
	line  line
}

// dumpRules reads the rules of our table in one family. The library's own
// reader drops expressions that it does not know, and with them the difference
// between our rule and one that somebody has narrowed.
func dumpRules(f nftables.TableFamily) ([]liveRule, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(netlinkLimit)); err != nil {
		return nil, err
	}
	table, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(tableName + "\x00")}})
	if err != nil {
		return nil, err
	}
	msgs, err := conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{byte(f), unix.NFNETLINK_V0, 0, 0}, table...),
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the rules of table %s: %w", tableName, permitted(err))
	}
	var out []liveRule
	for _, m := range msgs {
		r, ours, err := parseRule(byte(f), m.Data)
		if err != nil {
			return nil, fmt.Errorf("reading a rule of table %s: %w", tableName, err)
		}
		if ours {
			out = append(out, r)
		}
	}
	return out, nil
}

func parseRule(family byte, msg []byte) (r liveRule, ours bool, err error) {
	if len(msg) < 4 {
		return r, false, errors.New("the message is too short")
	}
	ad, err := netlink.NewAttributeDecoder(msg[4:])
	if err != nil {
		return r, false, err
	}
	var keys, names []string
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_TABLE:
			ours = ad.String() == tableName
		case unix.NFTA_RULE_CHAIN:
			r.chain = ad.String()
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(func(elems *netlink.AttributeDecoder) error {
				for elems.Next() {
					elems.Nested(func(e *netlink.AttributeDecoder) error {
						var name string
						var data []byte
						for e.Next() {
							switch e.Type() {
							case unix.NFTA_EXPR_NAME:
								name = e.String()
							case unix.NFTA_EXPR_DATA:
								data = e.Bytes()
							}
						}
						key, packets := liveKey(family, name, data)
						keys, names = append(keys, key), append(names, name)
						r.line.packets += packets
						return nil
					})
				}
				return nil
			})
		}
	}
	r.line.key = strings.Join(keys, " ")
	r.line.text = "a rule of expressions " + strings.Join(names, ", ")
	return r, ours, ad.Err()
}

// exprKey is the wire form of an expression without what the kernel counts or
// fills in.
func exprKey(family byte, e expr.Any) string {
	switch x := e.(type) {
	case *expr.Counter:
		e = &expr.Counter{}
	case *expr.Redir:
		e = &expr.Redir{RegisterProtoMin: x.RegisterProtoMin, Flags: x.Flags &^ unix.NF_NAT_RANGE_PROTO_SPECIFIED}
		if x.RegisterProtoMax != x.RegisterProtoMin {
			e.(*expr.Redir).RegisterProtoMax = x.RegisterProtoMax
		}
	}
	b, err := expr.Marshal(family, e)
	if err != nil {
		return "unprintable: " + err.Error()
	}
	return hex.EncodeToString(b)
}

// liveKey is exprKey of an expression as the kernel tells it. One that our
// plans never hold keeps its own bytes and so equals none of theirs.
func liveKey(family byte, name string, data []byte) (key string, packets uint64) {
	var e expr.Any
	switch name {
	case "meta":
		e = &expr.Meta{}
	case "cmp":
		e = &expr.Cmp{}
	case "payload":
		e = &expr.Payload{}
	case "bitwise":
		e = &expr.Bitwise{}
	case "counter":
		e = &expr.Counter{}
	case "redir":
		e = &expr.Redir{}
	case "reject":
		e = &expr.Reject{}
	case "immediate":
		imm := &expr.Immediate{}
		if err := expr.Unmarshal(family, data, imm); err == nil && imm.Register != unix.NFT_REG_VERDICT {
			return exprKey(family, imm), 0
		}
		e = &expr.Verdict{}
	default:
		return name + ":" + hex.EncodeToString(data), 0
	}
	if err := expr.Unmarshal(family, data, e); err != nil {
		return name + ":" + hex.EncodeToString(data), 0
	}
	if c, ok := e.(*expr.Counter); ok {
		packets = c.Packets
	}
	return exprKey(family, e), packets
}

// exprs compiles a rule. The conditions come in the order of Rule.text.
func (r Rule) exprs(f Family) []expr.Any {
	var out []expr.Any
	equal := func(op expr.CmpOp, data []byte) { out = append(out, &expr.Cmp{Op: op, Register: 1, Data: data}) }
	load := func(base expr.PayloadBase, offset, length uint32) {
		out = append(out, &expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length})
	}
	mask := func(m byte) {
		out = append(out, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{m}, Xor: []byte{0}})
	}
	if r.To.IsValid() {
		offset := map[Family]uint32{IPv4: 16, IPv6: 24}[f]
		load(expr.PayloadBaseNetworkHeader, offset, uint32(r.To.BitLen()/8))
		equal(expr.CmpOpEq, r.To.AsSlice())
	}
	if r.TCP {
		out = append(out, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1})
		equal(expr.CmpOpEq, []byte{unix.IPPROTO_TCP})
	}
	if r.Port != 0 {
		load(expr.PayloadBaseTransportHeader, 2, 2)
		equal(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, r.Port))
	}
	if r.Bare != 0 {
		load(expr.PayloadBaseNetworkHeader, map[Family]uint32{IPv4: 2, IPv6: 4}[f], 2)
		equal(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, uint16(bareLength(f, r.Bare))))
		load(expr.PayloadBaseTransportHeader, 12, 1)
		mask(0xf0)
		equal(expr.CmpOpEq, []byte{byte(r.Bare/4) << 4})
		load(expr.PayloadBaseTransportHeader, 13, 1)
		mask(0x02)
		equal(expr.CmpOpEq, []byte{0})
	}
	if r.Options {
		load(expr.PayloadBaseNetworkHeader, 0, 1)
		mask(0x0f)
		equal(expr.CmpOpGt, []byte{5})
	}
	if r.Owner != OwnerAny {
		op, uid := expr.CmpOpEq, r.UID
		if r.Owner == OwnerKnown {
			op, uid = expr.CmpOpNeq, nobody
		}
		out = append(out, &expr.Meta{Key: expr.MetaKeySKUID, Register: 1})
		equal(op, binaryutil.NativeEndian.PutUint32(uid))
	}
	if r.Tally != "" {
		out = append(out, &expr.Counter{})
	}
	return append(out, r.verdict(f)...)
}

func (r Rule) verdict(f Family) []expr.Any {
	switch r.Verdict {
	case Redirect:
		port := binary.BigEndian.AppendUint16(nil, r.RedirectTo)
		return []expr.Any{&expr.Immediate{Register: 1, Data: port}, &expr.Redir{RegisterProtoMin: 1}}
	case Reset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	case Reject:
		code := map[Family]uint8{IPv4: 13, IPv6: 1}[f] // administratively prohibited
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}}
	default:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
	}
}

// permitted makes the kernel's refusal recognisable.
func permitted(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return err
}

// unsupported reports whether err says that this kernel has no nf_tables.
func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}
