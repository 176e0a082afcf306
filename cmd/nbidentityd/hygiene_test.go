package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnwritten(t *testing.T) {
	const smaps = `00400000-00a00000 r-xp 00000000 fe:00 131 /usr/bin/nbidentityd
Rss:                5552 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me dw sd
00a00000-00f00000 r--p 00600000 fe:00 131 /usr/bin/nbidentityd
Anonymous:             0 kB
00f00000-00f10000 r--p 00b00000 fe:00 131 /usr/bin/nbidentityd
Anonymous:             4 kB
00f10000-00f50000 rw-p 00b10000 fe:00 131 /usr/bin/nbidentityd
Anonymous:             0 kB
00f50000-00fa0000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 fe:00 132 /usr/lib/libc.so.6
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0xa00000}, {0xa00000, 0xf00000}}
	if diff := cmp.Diff(want, unwritten(smaps, "/usr/bin/nbidentityd"), cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// The test's own program goes on after its pages were given back.
func TestUnmapStart(t *testing.T) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Skip("no /proc/self/exe: ", err)
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("no /proc/self/smaps: ", err)
	}
	if len(unwritten(string(maps), self)) == 0 {
		t.Error("no mapping of the own program found")
	}
	for range 3 {
		unmapStart()
	}
}
