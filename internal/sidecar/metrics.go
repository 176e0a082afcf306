package sidecar

import (
	"github.com/VictoriaMetrics/metrics"

	"github.com/nbidentityd/nbidentityd/internal/rolecreds"
)

// register adds what the source knows to the metrics that the server shows.
func (d *Daemon) register(set *metrics.Set) {
	gauge := func(name string, value func(rolecreds.Status) float64) {
		set.NewGauge(name, func() float64 {
			d.mu.Lock()
			source := d.source
			d.mu.Unlock()
			if source == nil {
				return value(rolecreds.Status{})
			}
			return value(source.Status())
		})
	}
	// Counters of the source; gauges only in the library's words.
	gauge(`nbidentityd_sts_calls_total{call="assume_role"}`, func(s rolecreds.Status) float64 { return float64(s.Calls.AssumeRole) })
	gauge(`nbidentityd_sts_calls_total{call="get_caller_identity"}`, func(s rolecreds.Status) float64 { return float64(s.Calls.GetCallerIdentity) })
	gauge(`nbidentityd_sts_calls_total{call="probe"}`, func(s rolecreds.Status) float64 { return float64(s.Calls.Probe) })
	gauge(`nbidentityd_assume_role_failures_total`, func(s rolecreds.Status) float64 { return float64(s.Calls.AssumeRoleFailed) })
}
