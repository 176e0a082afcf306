package main

import (
	"testing"
	"time"
)

// Each kill may cost one request, not two, and none may make up for another.
func TestOneEach(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	kills := []time.Time{at(10), at(20)}
	tests := []struct {
		name   string
		failed []float64
		good   bool
	}{
		{"none", nil, true},
		{"one each", []float64{10.1, 20.1}, true},
		{"one that had begun before", []float64{9.9}, true},
		{"two at one kill", []float64{20.1, 20.2}, false},
		{"before any kill", []float64{3}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var report callReport
			for _, s := range tt.failed {
				report.Failures = append(report.Failures, callFailure{at(s), "refused"})
			}
			if err := oneEach(report, kills); (err == nil) != tt.good {
				t.Errorf("got %v", err)
			}
		})
	}
}
