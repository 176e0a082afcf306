package homewatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A program that writes a log in the home all the time is no flood, however long
// there is nothing to look at.
func TestBudgetIsThatOfAPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan fsnotify.Event)
		// To close this one, as a deaf watcher does, panics.
		w := &Watcher{Poll: time.Hour, Budget: 100, fs: &fsnotify.Watcher{Events: events}, homeDir: "/home/u", awsDir: "/home/u/.aws"}
		over := make(chan struct{})
		go func() {
			defer close(over)
			for range 500 {
				events <- fsnotify.Event{Name: "/home/u/log", Op: fsnotify.Write}
				time.Sleep(100 * time.Millisecond)
			}
			events <- fsnotify.Event{Name: "/home/u/.aws/config", Op: fsnotify.Write}
		}()
		if !w.Wait(t.Context()) {
			t.Error("ended")
		}
		<-over
	})
}
