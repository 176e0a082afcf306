package gauge

import (
	"fmt"
	"math"
	"os/exec"
	"slices"
	"time"
)

// Summary describes one sample.
type Summary struct {
	Mean, Deviation time.Duration
	Median, P99     time.Duration
}

// Summarise describes a sample, which must not be empty.
func Summarise(sample []time.Duration) Summary {
	var sum, squares float64
	for _, d := range sample {
		sum += float64(d)
	}
	mean := sum / float64(len(sample))
	for _, d := range sample {
		squares += (float64(d) - mean) * (float64(d) - mean)
	}
	sorted := slices.Sorted(slices.Values(sample))
	return Summary{
		Mean:      time.Duration(mean),
		Deviation: time.Duration(math.Sqrt(squares / float64(len(sample)))),
		Median:    sorted[len(sorted)/2],
		P99:       At(sorted, .99),
	}
}

// At is the element of a sorted sample below which the part q of it lies.
func At(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(q*float64(len(sorted)-1))]
}

// InTurns starts each command runs times, one after the other in rounds, and
// returns the wall times of each. The first tenth warms caches and is dropped.
func InTurns(runs int, commands ...func() *exec.Cmd) ([][]time.Duration, error) {
	times := make([][]time.Duration, len(commands))
	for i := range runs + runs/10 {
		for c, command := range commands {
			cmd := command()
			begin := time.Now()
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("running %s: %w", cmd.Path, err)
			}
			if i >= runs/10 {
				times[c] = append(times[c], time.Since(begin))
			}
		}
	}
	return times, nil
}

// MS is a time in milliseconds.
func MS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Ratio is how many times b is a.
func Ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }
