package nft

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
)

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

// exprs compiles a rule. The conditions come in the order of Rule.Text.
func exprs(r plan.Rule, f plan.Family) []expr.Any {
	var out []expr.Any
	equal := func(op expr.CmpOp, data []byte) { out = append(out, &expr.Cmp{Op: op, Register: 1, Data: data}) }
	load := func(base expr.PayloadBase, offset, length uint32) {
		out = append(out, &expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length})
	}
	mask := func(m byte) {
		out = append(out, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{m}, Xor: []byte{0}})
	}
	if r.To.IsValid() {
		offset := map[plan.Family]uint32{plan.IPv4: 16, plan.IPv6: 24}[f]
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
		load(expr.PayloadBaseNetworkHeader, map[plan.Family]uint32{plan.IPv4: 2, plan.IPv6: 4}[f], 2)
		equal(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, uint16(plan.BareLength(f, r.Bare))))
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
	if r.Owner != plan.OwnerAny {
		op, uid := expr.CmpOpEq, r.UID
		if r.Owner == plan.OwnerKnown {
			op, uid = expr.CmpOpNeq, plan.Nobody
		}
		out = append(out, &expr.Meta{Key: expr.MetaKeySKUID, Register: 1})
		equal(op, binaryutil.NativeEndian.PutUint32(uid))
	}
	if r.Tally != "" {
		out = append(out, &expr.Counter{})
	}
	return append(out, verdict(r, f)...)
}

func verdict(r plan.Rule, f plan.Family) []expr.Any {
	switch r.Verdict {
	case plan.Redirect:
		port := binary.BigEndian.AppendUint16(nil, r.RedirectTo)
		return []expr.Any{&expr.Immediate{Register: 1, Data: port}, &expr.Redir{RegisterProtoMin: 1}}
	case plan.Reset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	case plan.Reject:
		code := map[plan.Family]uint8{plan.IPv4: 13, plan.IPv6: 1}[f] // administratively prohibited
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}}
	default:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
	}
}
