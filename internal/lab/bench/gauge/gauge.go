// Package gauge reads what the kernel tells of a process that is being measured,
// and describes samples of times.
package gauge

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Memory is what a process holds, in bytes.
type Memory struct {
	Resident, Proportional int64
	Own                    int64 // resident, and not of any file: what the kernel cannot take back
	Peak                   int64 // most that was ever resident
}

// MemoryOf reads /proc/PID/smaps_rollup and status.
func MemoryOf(pid int) (Memory, error) {
	var m Memory
	for file, fields := range map[string]map[string]*int64{
		"smaps_rollup": {"Rss:": &m.Resident, "Pss:": &m.Proportional, "Anonymous:": &m.Own},
		"status":       {"VmHWM:": &m.Peak},
	} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			return Memory{}, err
		}
		for line := range strings.Lines(string(data)) {
			words := strings.Fields(line)
			if len(words) != 3 || fields[words[0]] == nil {
				continue
			}
			kib, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				return Memory{}, fmt.Errorf("/proc/%d/%s: %w", pid, file, err)
			}
			*fields[words[0]] = kib << 10
		}
	}
	return m, nil
}

// MB is a number of bytes in megabytes.
func MB(bytes int64) float64 { return float64(bytes) / 1e6 }

// Descriptors counts a process's open files.
func Descriptors(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries), err
}

// Processor is the time that a process's threads have run. Threads that have
// ended are forgotten, which those of a Go program do not do by themselves.
func Processor(pid int) (time.Duration, error) {
	var all int64
	err := eachThread(pid, "schedstat", func(text string) error {
		first, _, _ := strings.Cut(text, " ")
		n, err := strconv.ParseInt(first, 10, 64)
		all += n
		return err
	})
	return time.Duration(all), err
}

// wakeGap separates two wake-ups: a timer that lets several threads run in a
// row wakes the machine once.
const wakeGap = 100 * time.Millisecond

// WakeUps counts how often a process ran within d, from the context switches of
// its threads: once a burst, and in all.
func WakeUps(pid int, d time.Duration) (bursts, switches int, err error) {
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
	var all int
	err := eachThread(pid, "status", func(text string) error {
		for line := range strings.Lines(text) {
			key, value, _ := strings.Cut(line, ":")
			if !strings.HasSuffix(key, "voluntary_ctxt_switches") {
				continue
			}
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				return err
			}
			all += n
		}
		return nil
	})
	return all, err
}

// eachThread reads one file of each thread.
func eachThread(pid int, name string, read func(text string) error) error {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/%s", pid, name))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("process %d: %w", pid, os.ErrNotExist)
	}
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		if err := read(string(data)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}
