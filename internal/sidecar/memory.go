package sidecar

import (
	"context"
	"runtime/debug"
	"time"
)

const tidyEvery = time.Minute

// tidy gives back what memory the last minute's work has left, until ctx ends. It
// does so on whole minutes of the clock, with the daemon's other looks: one wake-up.
// Without it the runtime wakes the machine for that at times of its own.
func tidy(ctx context.Context) {
	for {
		now := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-time.After(now.Truncate(tidyEvery).Add(tidyEvery).Sub(now)):
		}
		debug.FreeOSMemory()
	}
}
