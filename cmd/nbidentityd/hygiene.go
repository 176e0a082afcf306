package main

import (
	"fmt"

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
