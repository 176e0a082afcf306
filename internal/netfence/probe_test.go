package netfence

import (
	"net/netip"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/imdsprobe"
	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
)

// The probe sees what a process of its uid sees.
func TestLiveProbe(t *testing.T) {
	l := newLab(t)
	probe := func(uid uint32, addr string) imdsprobe.Outcome {
		var got imdsprobe.Outcome
		l.do(func() {
			var err error
			p := imdsprobe.Probe{UID: uid, Addr: netip.MustParseAddrPort(addr), MarkHeader: "Server", Mark: "face", Limit: answerLimit}
			if got, _, err = p.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
		return got
	}
	both := func(what string, user, daemon imdsprobe.Outcome) {
		t.Helper()
		for _, addr := range []string{"169.254.169.254:80", "[fd00:ec2::254]:80"} {
			if got := probe(notebookUID, addr); got != user {
				t.Errorf("%s: the notebook user's probe of %s: %s, want %s", what, addr, got, user)
			}
			if got := probe(daemonUID, addr); got != daemon {
				t.Errorf("%s: the daemon's probe of %s: %s, want %s", what, addr, got, daemon)
			}
		}
	}
	both("no fence", imdsprobe.Reached, imdsprobe.Reached)
	f := l.fence("nftables", plan.Config{RedirectPort: facePort})
	l.apply(f)
	both("redirecting", imdsprobe.Redirected, imdsprobe.Reached)
	l.remove(f)
	l.apply(l.fence("nftables", plan.Config{}))
	both("refusing", imdsprobe.Refused, imdsprobe.Reached)
}
