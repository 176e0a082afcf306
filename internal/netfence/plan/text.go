package plan

import (
	"fmt"
	"strings"
)

// String renders the plan in the syntax of nft, for people and for a dry run.
// `nft -f` accepts it on a machine without the fence, and makes the same rules.
func (p Plan) String() string {
	var b strings.Builder
	for _, t := range p.Tables {
		fmt.Fprintf(&b, "table %s %s {\n", t.Family, TableName)
		for i, c := range t.Chains {
			if i > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "\tchain %s {\n\t\t%s;\n", c.Name, c.Head("; "))
			for _, r := range c.Rules {
				fmt.Fprintf(&b, "\t\t%s\n", r.Text(t.Family))
			}
			b.WriteString("\t}\n")
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// Head is what the chain is besides its rules, in the words of nft.
func (c Chain) Head(sep string) string {
	return ChainHead(c.Type, c.Hook, c.Priority, "accept", sep)
}

// ChainHead is Chain.Head for a chain that need not be ours.
func ChainHead(typ, hook string, priority int, policy, sep string) string {
	return fmt.Sprintf("type %s hook %s priority %d%spolicy %s", typ, hook, priority, sep, policy)
}

// Text renders the rule in the syntax of nft.
func (r Rule) Text(f Family) string {
	var w []string
	if r.To.IsValid() {
		w = append(w, fmt.Sprintf("%s daddr %s", f, r.To))
	}
	if r.TCP {
		w = append(w, "meta l4proto tcp")
	}
	if r.Port != 0 {
		w = append(w, fmt.Sprintf("tcp dport %d", r.Port))
	}
	if r.Bare != 0 {
		w = append(w, fmt.Sprintf("%s length %d", f, BareLength(f, r.Bare)),
			fmt.Sprintf("tcp doff %d", r.Bare/4), "tcp flags & syn == 0x0")
	}
	if r.Options {
		w = append(w, "ip hdrlength > 5")
	}
	switch r.Owner {
	case OwnerIs:
		w = append(w, fmt.Sprintf("meta skuid %d", r.UID))
	case OwnerKnown:
		w = append(w, fmt.Sprintf("meta skuid != %d", Nobody))
	}
	if r.Tally != "" {
		w = append(w, "counter")
	}
	switch r.Verdict {
	case Redirect:
		w = append(w, fmt.Sprintf("redirect to :%d", r.RedirectTo))
	case Reset:
		w = append(w, "reject with tcp reset")
	case Reject:
		w = append(w, map[Family]string{
			IPv4: "reject with icmp type admin-prohibited",
			IPv6: "reject with icmpv6 type admin-prohibited",
		}[f])
	default:
		w = append(w, string(r.Verdict))
	}
	return strings.Join(w, " ")
}

// Nobody is the uid that no socket has.
const Nobody = 1<<32 - 1

// BareLength returns what the length field of the IP header says of a segment
// without data: IPv4 counts its own header.
func BareLength(f Family, tcpHeader int) int {
	if f == IPv4 {
		return 20 + tcpHeader
	}
	return tcpHeader
}
