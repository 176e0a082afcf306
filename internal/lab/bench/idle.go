package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory is what the kernel says a process holds, in bytes.
type memory struct{ rss, pss int64 }

func memoryOf(pid int) (memory, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "Rss:":
			m.rss = kib << 10
		case "Pss:":
			m.pss = kib << 10
		}
	}
	return m, nil
}

// wakeGap separates two wake-ups: a timer that lets several threads run in a
// row wakes the machine once.
const wakeGap = 100 * time.Millisecond

// wakeUps counts how often a process ran within d, from the context switches
// of its threads: once a burst, and in all.
func wakeUps(pid int, d time.Duration) (bursts, switches int, err error) {
	last, err := switchesOf(pid)
	if err != nil {
		return 0, 0, err
	}
	first, quiet := last, true
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(wakeGap)
		now, err := switchesOf(pid)
		if err != nil {
			return 0, 0, err
		}
		if now != last && quiet {
			bursts++
		}
		quiet, last = now == last, now
	}
	return bursts, last - first, nil
}

func switchesOf(pid int) (int, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	var all int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(line, ":")
			if !strings.HasSuffix(key, "voluntary_ctxt_switches") {
				continue
			}
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				return 0, fmt.Errorf("%s: %w", file, err)
			}
			all += n
		}
	}
	return all, nil
}

// idle prints what a daemon costs that nobody asks anything. Its user is itself,
// so that it watches ~/.aws/config every three seconds instead of locking it.
func idle(pid int, watch time.Duration) error {
	bursts, switches, err := wakeUps(pid, watch)
	if err != nil {
		return fmt.Errorf("counting the daemon's wake-ups: %w", err)
	}
	m, err := memoryOf(pid)
	if err != nil {
		return fmt.Errorf("reading the daemon's memory: %w", err)
	}
	fmt.Printf("bench: memory-idle %.1f MB resident, %.1f MB proportional\n", mb(m.rss), mb(m.pss))
	minutes := watch.Minutes()
	fmt.Printf("bench: wake-ups %.1f a minute (%.0f context switches a minute, watched for %s)\n",
		float64(bursts)/minutes, float64(switches)/minutes, watch)
	return nil
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }
