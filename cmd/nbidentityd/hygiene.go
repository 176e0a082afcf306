package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// keepMemoryPrivate is called before the first secret. Without it another
// process of the same uid reads the credentials from /proc/PID/mem, and a crash
// may write them to a core file. Root can still read everything.
func keepMemoryPrivate() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keeping other processes out of the daemon's memory: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	return nil
}

// unmapStart gives back the pages of our own program file that only the start
// needed; of 14 MB resident about 11 are such. The kernel keeps them in its
// cache as long as there is room, and a page that is touched again is mapped
// again. Whatever cannot be read or given back stays: nothing depends on it.
func unmapStart() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range unwritten(string(maps), self) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// unwritten takes from the text of proc_pid_smaps(5) the mappings of file that
// cannot be written to and hold no page that ever was: giving one of those back
// would lose what was written.
func unwritten(smaps, file string) []mapping {
	var found []mapping
	var current mapping
	ours := false
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"):
			ours = len(fields) == 6 && fields[5] == file && fields[1][1] == '-'
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &current.from, &current.to); err != nil {
				ours = false
			}
		case ours && len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0":
			found = append(found, current)
		}
	}
	return found
}
