package gauge

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestSelf(t *testing.T) {
	pid := os.Getpid()
	m, err := MemoryOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	if m.Proportional <= 0 || m.Resident < m.Proportional || m.Own <= 0 || m.Own >= m.Resident || m.Peak < 1<<20 {
		t.Errorf("memory %+v", m)
	}
	before, err := Descriptors(pid)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if after, err := Descriptors(pid); err != nil || after != before+1 {
		t.Errorf("descriptors %d, then %d (%v)", before, after, err)
	}
	ran, err := Processor(pid)
	if err != nil || ran <= 0 {
		t.Errorf("has run %s (%v)", ran, err)
	}
	for more := ran; more == ran; { // ends as soon as the kernel accounts for this loop
		if more, err = Processor(pid); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWakeUps tells a process that sleeps from one that wakes up.
func TestWakeUps(t *testing.T) {
	asleep := exec.Command("sleep", "60")
	restless := exec.Command("sh", "-c", "while :; do sleep 0.3; done")
	for _, cmd := range []*exec.Cmd{asleep, restless} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		}()
	}
	// A loaded machine starts a process late, and may starve it.
	for end := time.Now().Add(30 * time.Second); ; {
		still, _, err := WakeUps(asleep.Process.Pid, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		often, switches, err := WakeUps(restless.Process.Pid, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if still == 0 && often > 0 && switches >= often {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("asleep: %d wake-ups; restless: %d, %d switches", still, often, switches)
		}
	}
}

func TestGone(t *testing.T) {
	const nobody = 1 << 30
	if _, err := Processor(nobody); err == nil {
		t.Error("a process that does not exist has run")
	}
	if _, _, err := WakeUps(nobody, 0); err == nil {
		t.Error("a process that does not exist wakes up")
	}
}

func TestSummarise(t *testing.T) {
	s := Summarise([]time.Duration{40, 10, 20, 30})
	if s.Mean != 25 || s.Median != 30 || s.Deviation != 11 || s.P99 != 30 {
		t.Errorf("%+v", s)
	}
}
