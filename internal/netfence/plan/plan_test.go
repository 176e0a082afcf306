package plan

import (
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSameWhateverTheOrder(t *testing.T) {
	a, err := New(Config{UID: 7, AllowUIDs: []uint32{5, 9, 5, 0}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{UID: 9, AllowUIDs: []uint32{7, 5}, Metadata: append(DefaultMetadata(), DefaultMetadata()...)})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a.String(), b.String()); d != "" {
		t.Error(d)
	}
}

func TestRefuses(t *testing.T) {
	addr := netip.MustParseAddr
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"nobody", Config{UID: math.MaxUint32}, "uid 4294967295"},
		{"nobody among the allowed", Config{UID: 1, AllowUIDs: []uint32{math.MaxUint32}}, "uid 4294967295"},
		{"root fenced, daemon is root", Config{FenceRoot: true}, "uid 0"},
		{"root fenced and allowed", Config{UID: 1, AllowUIDs: []uint32{0}, FenceRoot: true}, "uid 0"},
		{"no address", Config{Metadata: []netip.Addr{{}}}, "metadata address"},
		{"mapped address", Config{Metadata: []netip.Addr{addr("::ffff:169.254.169.254")}}, "metadata address"},
		{"zone", Config{Metadata: []netip.Addr{addr("fe80::1%eth0")}}, "metadata address"},
		{"any address", Config{Metadata: []netip.Addr{addr("0.0.0.0")}}, "metadata address"},
		{"loopback address", Config{Metadata: []netip.Addr{addr("127.0.0.1")}}, "metadata address"},
	}
	for _, test := range tests {
		if _, err := New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error about %q", test.name, err, test.want)
		}
	}
	_, err := New(Config{UID: math.MaxUint32, Metadata: []netip.Addr{{}}})
	if err == nil || !strings.Contains(err.Error(), "uid") || !strings.Contains(err.Error(), "metadata address") {
		t.Errorf("two faults: got %v, want both", err)
	}
}
