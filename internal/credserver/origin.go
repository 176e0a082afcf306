package credserver

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// forwarded reports whether somebody else's request seems to arrive through an
// allowed caller: a browser page or a proxy. Sec-Fetch-Mode alone is no sign of
// a browser, which sends Sec-Fetch-Site with it: Node's fetch sends it as well.
func forwarded(r *http.Request) bool {
	for name := range r.Header {
		switch name {
		case "Origin", "Referer", "Forwarded", "Via", "X-Real-Ip":
			return true
		}
		if strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Sec-Fetch-") && name != "Sec-Fetch-Mode" {
			return true
		}
	}
	return false
}

// hosts are the names by which a face is called. A page whose own name was made
// to resolve to this machine (DNS rebinding) sends that name.
type hosts struct {
	usual string       // what SDKs are told
	port  string       // of the listener
	plain []netip.Addr // of the metadata service, on port 80
}

func newHosts(port uint16, plain ...string) hosts {
	h := hosts{port: strconv.Itoa(int(port))}
	h.usual = "127.0.0.1:" + h.port
	for _, a := range plain {
		h.plain = append(h.plain, netip.MustParseAddr(a))
	}
	return h
}

// ours reports whether a request for this host is meant for the face: a
// loopback name with the listener's port or none, or a plain address.
func (h hosts) ours(host string) bool {
	if host == h.usual {
		return true
	}
	name, port := host, ""
	if n, p, err := net.SplitHostPort(host); err == nil {
		name, port = n, p
	} else {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	}
	if name == "localhost" {
		return port == "" || port == h.port
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	for _, a := range h.plain {
		if addr == a {
			return port == "" || port == "80"
		}
	}
	if addr != netip.AddrFrom4([4]byte{127, 0, 0, 1}) && addr != netip.IPv6Loopback() {
		return false
	}
	return port == "" || port == h.port
}
