package netfence

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
)

// bridge makes one, with these beginnings of addresses, and a namespace behind it.
func (l *lab) bridge(name, net4, net6 string, tools ...string) *namespace {
	l.t.Helper()
	c := newNamespace(l.t, tools...)
	for _, args := range []string{
		"ip link add " + name + " type bridge", "ip addr add " + net4 + ".1/16 dev " + name,
		"ip addr add " + net6 + ":1/64 dev " + name + " nodad", "ip link set " + name + " up",
		"ip link add " + name + "-p type veth peer name eth0 netns " + c.path(),
		"ip link set " + name + "-p master " + name + " up",
	} {
		l.run(strings.Fields(args)...)
	}
	for _, args := range []string{
		"ip addr add " + net4 + ".2/16 dev eth0", "ip addr add " + net6 + ":2/64 dev eth0 nodad", "ip link set eth0 up",
		"ip route add default via " + net4 + ".1", "ip -6 route add default via " + net6 + ":1",
	} {
		c.run(strings.Fields(args)...)
	}
	return c
}

// container is a namespace behind a bridge and MASQUERADE, as Docker makes
// them, with Docker's rules by one flavour of iptables.
func (l *lab) container(flavour string) *namespace {
	l.t.Helper()
	c := l.bridge("docker0", "172.17.0", "fd00:d0:", "sysctl", flavour)
	l.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	l.dockerRules(flavour)
	for _, url := range []string{imds4, imds6} {
		for i := 0; !strings.HasPrefix(c.get(0, url), "real"); i++ {
			if i > 100 {
				l.t.Fatalf("the container does not reach %s without a fence: %s", url, c.get(0, url))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return c
}

// dockerRules are those of a Docker daemon with one published port.
func (n *namespace) dockerRules(flavour string) {
	n.t.Helper()
	n.feed(`*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
`, flavour+"-restore")
	n.feed(`*nat
-A POSTROUTING -s fd00:d0::/64 ! -o docker0 -j MASQUERADE
COMMIT
`, strings.Replace(flavour, "iptables", "ip6tables", 1)+"-restore")
}

// Every backend beside Docker's rules by either flavour.
func TestLiveContainers(t *testing.T) {
	for _, docker := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run("docker by "+docker, func(t *testing.T) {
			eachFlavour(t, func(t *testing.T, flavour string) {
				l := newLab(t)
				c := l.container(docker)
				old := c.converse(0, "keepalive", imds4)
				wantPrefix(t, "container before the fence", old.ask(), "real")
				l.emptyTables(flavour)
				before := l.ruleset()

				f := l.fence(flavour, plan.Config{RedirectPort: facePort})
				l.apply(f)
				wantPrefix(t, "container's older connection", old.ask(), "error")
				for _, url := range []string{imds4, imds6} {
					wantPrefix(t, "container", c.get(0, url), "error")
					wantPrefix(t, "notebook user beside Docker", l.get(notebookUID, url), "face")
					wantPrefix(t, "daemon beside Docker", l.get(daemonUID, url), "real")
				}
				if n := l.counters(f); n.ContainersBlocked < 3 || n.ContainersRedirected != 0 {
					t.Errorf("counters: got %+v, want 3 packets of containers or more", n)
				}
				l.remove(f)

				f = l.fence(flavour, plan.Config{RedirectPort: facePort, Containers: true})
				l.apply(f)
				wantPrefix(t, "container of a bridge without a listener", c.get(0, imds4), "error")
				serve(t, l.listen(fmt.Sprintf("172.17.0.1:%d", facePort)), "bridge")
				serve(t, l.listen(fmt.Sprintf("[fd00:d0::1]:%d", facePort)), "bridge")
				wantPrefix(t, "container, IPv4", c.get(0, imds4), "bridge peer=172.17.0.2 meant=169.254.169.254:80")
				wantPrefix(t, "container, IPv6", c.get(0, imds6), "bridge peer=fd00:d0::2 meant=[fd00:ec2::254]:80")
				wantPrefix(t, "container, another port", c.get(0, "http://169.254.169.254:8080/"), "error")
				if n := l.counters(f); n.ContainersRedirected != 3 {
					t.Errorf("counters: got %+v, want 3 connections of containers redirected", n)
				}
				late := l.bridge("br-late", "172.18.0", "fd00:d1:")
				serve(t, l.listen(fmt.Sprintf("172.18.0.1:%d", facePort)), "late")
				wantPrefix(t, "container of a bridge made later", late.get(0, imds4), "late peer=172.18.0.2")
				wantPrefix(t, "notebook user beside a listener on a bridge", l.get(notebookUID, imds4), "face")
				if d := l.check(f); len(d) != 0 {
					t.Errorf("beside Docker: %v", d)
				}
				l.remove(f)
				if after := l.ruleset(); strip(after) != strip(before) {
					t.Errorf("Docker's rules before:\n%s\nand after:\n%s", before, after)
				}
				wantPrefix(t, "container after", c.get(0, imds4), "real")
			})
		})
	}
}

// strip leaves out what packets count.
func strip(ruleset string) string {
	var out strings.Builder
	for l := range strings.Lines(ruleset) {
		var words []string
		skip := false
		for _, w := range strings.Fields(l) {
			switch {
			case skip:
				skip = false
			case w == "packets" || w == "bytes":
				skip = true
			case strings.HasPrefix(w, "[") && strings.Contains(w, ":"):
			default:
				words = append(words, w)
			}
		}
		out.WriteString(strings.Join(words, " ") + "\n")
	}
	return out.String()
}
