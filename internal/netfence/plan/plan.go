// Package plan says which packet rules make the fence: data, the same for every
// way to keep rules in the kernel.
package plan

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
)

// Family is a protocol family as nft and the kernel tell them apart.
type Family string

const (
	IPv4 Family = "ip"
	IPv6 Family = "ip6"
)

// DefaultMetadata returns the addresses at which AWS documents the instance
// metadata service: the second answers on Nitro instances.
func DefaultMetadata() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("fd00:ec2::254")}
}

// Config says whom the fence lets through and what becomes of the others.
type Config struct {
	// UID is the daemon's own; it always reaches the metadata service.
	UID uint32
	// AllowUIDs reach it too.
	AllowUIDs []uint32
	// FenceRoot keeps out uid 0, which otherwise passes: agents of the
	// platform run as root.
	FenceRoot bool

	// RedirectPort is where our own metadata service listens, on 127.0.0.1 and
	// [::1]. 0 refuses connections instead.
	RedirectPort uint16
	// Containers are led to RedirectPort of their bridge's own address on this
	// host (say 172.17.0.1): a bridge that comes later needs a listener, and no
	// other rule. Otherwise, or without a RedirectPort, they are refused.
	Containers bool

	// Metadata holds the addresses to fence; empty means DefaultMetadata.
	Metadata []netip.Addr
}

// Plan is the fence as data: what shall stand in the kernel, independent of
// how it gets there. String renders it in the syntax of nft.
type Plan struct {
	Tables []Table
}

// Table holds the chains of one family. Every table is called TableName.
type Table struct {
	Family Family
	Chains []Chain
}

// Chain is a base chain with policy accept. Type is "nat" or "filter", Hook is
// "prerouting", "forward" or "output".
type Chain struct {
	Name, Type, Hook string
	Priority         int
	Rules            []Rule
}

// Rule applies its verdict to packets that meet every condition it states; a
// zero field states none.
type Rule struct {
	To    netip.Addr // destination address
	TCP   bool
	Port  uint16 // destination port; only with TCP
	Owner Owner  // of the socket that sent the packet; only in hook output
	UID   uint32 // for OwnerIs

	// Bare, in bytes, is met by a TCP segment that consists of a header of
	// this length and of nothing else, and does not open a connection.
	Bare int
	// Options is met by a packet with IPv4 options (source routing is one).
	Options bool

	Verdict    Verdict
	RedirectTo uint16 // for Redirect: the port
	Tally      Tally  // under what the kernel's counter of this rule is reported; "" has no counter
}

// Owner is a condition on who owns the socket that sent a packet.
type Owner int

const (
	OwnerAny   Owner = iota // no condition
	OwnerIs                 // the socket was made by Rule.UID
	OwnerKnown              // the socket was made by anybody; not met when the kernel knows no owner
)

// Verdict is what happens to a packet.
type Verdict string

const (
	Return   Verdict = "return"   // leave this chain; the packet passes
	Redirect Verdict = "redirect" // to a port of this host; a container's packet to that of its bridge's address
	Reset    Verdict = "reset"    // refuse with a TCP reset
	Reject   Verdict = "reject"   // refuse with "administratively prohibited"
)

// Tally names a sum of counters.
type Tally string

const (
	Redirected           Tally = "redirected"            // connections of this host's users sent to our listener
	Blocked              Tally = "blocked"               // packets of this host's users refused
	ContainersRedirected Tally = "containers_redirected" // connections of containers sent to our listener
	ContainersBlocked    Tally = "containers_blocked"    // packets of containers refused
)

// TableName is that of every table.
const TableName = "nbidentityd"

const (
	imdsPort = 80

	// natPriority comes before the -100 of iptables and Docker: in the kernel
	// the first chain that translates a connection decides it.
	natPriority     = -105
	outputPriority  = 0
	forwardPriority = -10
)

// New returns the fence that cfg asks for, or every fault of cfg, joined.
func New(cfg Config) (Plan, error) {
	if err := cfg.validate(); err != nil {
		return Plan{}, err
	}
	metadata := cfg.Metadata
	if len(metadata) == 0 {
		metadata = DefaultMetadata()
	}
	allowed := append([]uint32{cfg.UID}, cfg.AllowUIDs...)
	if !cfg.FenceRoot {
		allowed = append(allowed, 0)
	}
	slices.Sort(allowed)
	allowed = slices.Compact(allowed)

	var p Plan
	for _, family := range []Family{IPv4, IPv6} {
		var to []netip.Addr
		for _, a := range metadata {
			if familyOf(a) == family && !slices.Contains(to, a) {
				to = append(to, a)
			}
		}
		if len(to) == 0 {
			continue
		}
		t := Table{Family: family}
		if cfg.RedirectPort != 0 {
			t.Chains = append(t.Chains, redirectChain(to, allowed, cfg.RedirectPort))
		}
		if cfg.RedirectPort != 0 && cfg.Containers {
			t.Chains = append(t.Chains, containerChain(to, cfg.RedirectPort))
		}
		t.Chains = append(t.Chains, outputChain(family, to, allowed), forwardChain(to))
		p.Tables = append(p.Tables, t)
	}
	return p, nil
}

func (c Config) validate() error {
	var errs []error
	for _, uid := range append([]uint32{c.UID}, c.AllowUIDs...) {
		if uid == math.MaxUint32 {
			errs = append(errs, fmt.Errorf("fence: uid %d means nobody; name a real user", uid))
		}
	}
	if c.FenceRoot && (c.UID == 0 || slices.Contains(c.AllowUIDs, 0)) {
		errs = append(errs, errors.New("fence: uid 0 is both allowed and fenced off; run the daemon as another user, or allow root"))
	}
	for _, a := range c.Metadata {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
			errs = append(errs, fmt.Errorf("fence: metadata address %s: want a plain IPv4 or IPv6 unicast address", a))
		}
	}
	return errors.Join(errs...)
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// redirectChain sends new connections of everybody else to our listener.
// Translation is decided once for a connection, by its first packet.
func redirectChain(to []netip.Addr, allowed []uint32, port uint16) Chain {
	c := Chain{Name: "natout", Type: "nat", Hook: "output", Priority: natPriority}
	for _, a := range to {
		c.Rules = append(c.Rules, passes(a, allowed)...)
		c.Rules = append(c.Rules, Rule{To: a, TCP: true, Port: imdsPort,
			Verdict: Redirect, RedirectTo: port, Tally: Redirected})
	}
	return c
}

// containerChain sends new connections of containers to the address of the
// bridge by which they come. Where nobody listens they are refused: what comes
// by another interface than a bridge's, too.
func containerChain(to []netip.Addr, port uint16) Chain {
	c := Chain{Name: "natpre", Type: "nat", Hook: "prerouting", Priority: natPriority}
	for _, a := range to {
		c.Rules = append(c.Rules, Rule{To: a, TCP: true, Port: imdsPort,
			Verdict: Redirect, RedirectTo: port, Tally: ContainersRedirected})
	}
	return c
}

// outputChain refuses what was not redirected: connections older than the
// fence, other ports and protocols, and everything when nothing is redirected.
//
// A segment whose owner the kernel does not know is refused like a stranger's:
// a rule "not these uids" is not met by it, and a kernel that makes a socket on
// a user's behalf, as for multipath TCP, need not give it an owner (6.1 and
// 6.18 do). But the acknowledgement that ends an allowed user's connection has
// no owner either, its socket being closed already. It carries no data, so the
// two usual forms pass. What else has no owner is the kernel's own: neighbour
// discovery must not be refused.
func outputChain(family Family, to []netip.Addr, allowed []uint32) Chain {
	c := Chain{Name: "out", Type: "filter", Hook: "output", Priority: outputPriority}
	for _, a := range to {
		c.Rules = append(c.Rules, passes(a, allowed)...)
		c.Rules = append(c.Rules,
			Rule{To: a, TCP: true, Bare: 20, Verdict: Return},
			Rule{To: a, TCP: true, Bare: 32, Verdict: Return}, // with timestamps
			Rule{To: a, TCP: true, Verdict: Reset, Tally: Blocked},
			Rule{To: a, Owner: OwnerKnown, Verdict: Reject, Tally: Blocked})
	}
	if family == IPv4 {
		// With a source route the first hop stands where the destination
		// does. Recent kernels (6.1.192, 6.18) ask CAP_NET_RAW for setting one.
		c.Rules = append(c.Rules, Rule{TCP: true, Port: imdsPort, Options: true, Verdict: Reset, Tally: Blocked})
	}
	return c
}

// forwardChain refuses containers behind a bridge: their packets pass no
// output hook and show no owner.
func forwardChain(to []netip.Addr) Chain {
	c := Chain{Name: "forw", Type: "filter", Hook: "forward", Priority: forwardPriority}
	for _, a := range to {
		c.Rules = append(c.Rules,
			Rule{To: a, TCP: true, Verdict: Reset, Tally: ContainersBlocked},
			Rule{To: a, Verdict: Reject, Tally: ContainersBlocked})
	}
	return c
}

func passes(to netip.Addr, allowed []uint32) []Rule {
	var rules []Rule
	for _, uid := range allowed {
		rules = append(rules, Rule{To: to, Owner: OwnerIs, UID: uid, Verdict: Return})
	}
	return rules
}

// Without returns p less the rules that drop reports true for, and less the
// chains that this leaves empty.
func (p Plan) Without(drop func(Chain, Rule) bool) Plan {
	var out Plan
	for _, t := range p.Tables {
		kept := Table{Family: t.Family}
		for _, c := range t.Chains {
			c.Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(r Rule) bool { return drop(c, r) })
			if len(c.Rules) > 0 {
				kept.Chains = append(kept.Chains, c)
			}
		}
		out.Tables = append(out.Tables, kept)
	}
	return out
}

// Of returns the part of p for one family.
func (p Plan) Of(f Family) Plan {
	return Plan{Tables: slices.DeleteFunc(slices.Clone(p.Tables), func(t Table) bool { return t.Family != f })}
}
