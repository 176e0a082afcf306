//go:build !race

// The race detector gives up on so many goroutines.

package rolecreds

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
)

// A thousand notebooks start in the same second, as after an outage, against
// the quota of a real account: all are served soon, and their renewals half an
// hour later, which fall together again, fail nobody.
func TestThousandNotebooksInOneSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, func(s *fakeaws.Scenario) { s.STSRequestsPerSecond = 600 })
		begun := time.Now()
		sources := make([]*Source, 1000)
		var worst atomic.Int64
		var wg sync.WaitGroup
		for i := range sources {
			sources[i] = New(onNotebook(a, "alice-nb", testRole))
			run(t, sources[i])
			wg.Go(func() {
				for _, err := within(sources[i]); err != nil; _, err = within(sources[i]) {
					if cause := (*awscause.Error)(nil); !errors.As(err, &cause) || cause.Code() != "throttled" {
						t.Errorf("notebook %d: %v", i, err)
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
				took := int64(time.Since(begun))
				for w := worst.Load(); took > w && !worst.CompareAndSwap(w, took); w = worst.Load() {
				}
			})
		}
		wg.Wait()
		first, calls := time.Duration(worst.Load()), assumeRoleCalls(t, a)
		least := time.Hour
		for range 9 {
			time.Sleep(5 * time.Minute)
			for _, s := range sources {
				least = min(least, time.Until(mustServe(t, s).Expires))
			}
		}
		var tries uint64
		for _, s := range sources {
			tries += s.Status().Calls.AssumeRole
		}
		t.Logf("all served after %v with %d sessions; at least %v left at any time; %d tries in 45 minutes", first, calls, least, tries)
		if first > 15*time.Second {
			t.Errorf("the last notebook was served after %v", first)
		}
		if least <= 25*time.Minute {
			t.Errorf("only %v left", least)
		}
		if tries > 4*uint64(len(sources)) {
			t.Errorf("%d tries for two sessions each", tries)
		}
	})
}
