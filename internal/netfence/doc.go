// Package netfence keeps notebook users off the instance metadata service.
//
// On a classic notebook instance AWS documents that service at
// 169.254.169.254, TCP port 80 (on Nitro instances also at fd00:ec2::254): it
// hands the execution role's credentials, which carry nobody's name, to
// whoever asks. The fence lets the daemon and a few uids ask, and sends
// everybody else's new connections to our own metadata service, or refuses
// them when there is none. Older connections are cut with a TCP reset: address
// translation alone would let them live on.
//
// # What it guarantees
//
// While Check finds nothing, no TCP segment with data from a socket made by
// another uid of this host reaches a fenced address, whatever client, IP
// family, source route or kind of TCP socket (MPTCP) that uid uses, as root of
// a user namespace too, and through rootless containers, whose traffic leaves
// from sockets of their user. Packets that this host forwards (containers
// behind a bridge) are refused, or sent to the address of their bridge, where
// our own metadata service may listen. AWS's hop limit, which can keep the
// service's tokens from containers, has no say then: nobody forwards that answer.
//
// The kernel asks who made a socket, not who uses it: a socket that an allowed
// process hands over passes. So does whatever an allowed process can be talked
// into fetching (a proxy run by root, a set-uid program), and root passes
// unless FenceRoot is set. Whoever has sudo, the rootful Docker socket or
// CAP_NET_ADMIN in this network namespace is past the fence. Containers that
// are attached below the IP layer (macvlan) need one of these. A route or
// translation that somebody with CAP_NET_ADMIN put elsewhere is not looked
// for; a probe under the user's uid finds such things, the rules do not.
//
// Nothing here can fence the container credentials endpoint of Studio
// (169.254.170.2), where the user may become root.
//
// # How it stands
//
// Package plan says which rules; packages nft and iptables each keep a plan in
// the kernel and read back what stands there; package ruleset compares. This one
// chooses among them, repairs and keeps.
//
// Over netlink the rules are tables "nbidentityd" of the families ip and ip6,
// written in one transaction. That needs CAP_NET_ADMIN and no program. A
// kernel before 4.18 cannot have address translation by nf_tables and by
// iptables at once: there, and where nf_tables refuse the plan, the same plan
// is written by the iptables tools, the system's default flavour first, into
// chains "NBIDENTITYD-…" that the built-in chains ask first. The tools need
// more: CAP_NET_RAW, and to write /run/xtables.lock (legacy). A kernel before
// 4.18 without them gets the refusals only. Status names the backend, and what
// this kernel could not be given.
//
// Remove leaves nothing of ours with either. The iptables backend leaves the
// kernel's own tables (nat, filter) in being, as the tools do.
package netfence
