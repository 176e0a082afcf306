package iptables

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
)

// spec renders r as iptables and ip6tables take it.
func spec(r plan.Rule, f plan.Family) string {
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
		add("-m length --length %d", map[plan.Family]int{plan.IPv4: 20, plan.IPv6: 40}[f]+r.Bare)
	}
	if r.Options {
		add(`-m u32 --u32 "0x0>>0x18&0xf=0x6:0xf"`)
	}
	switch r.Owner {
	case plan.OwnerIs:
		add("-m owner --uid-owner %d", r.UID)
	case plan.OwnerKnown:
		add("-m owner --uid-owner 0-%d", uint32(plan.Nobody-1))
	}
	switch r.Verdict {
	case plan.Redirect:
		add("-j REDIRECT --to-ports %d", r.RedirectTo)
	case plan.Reset:
		add("-j REJECT --reject-with tcp-reset")
	case plan.Reject:
		add("-j REJECT --reject-with %s", map[plan.Family]string{plan.IPv4: "icmp-admin-prohibited", plan.IPv6: "icmp6-adm-prohibited"}[f])
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
