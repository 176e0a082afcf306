package sidecar

import (
	"fmt"
	"runtime"

	"github.com/VictoriaMetrics/metrics"

	"github.com/nbidentityd/nbidentityd/internal/assurance"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/netfence"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
	"github.com/nbidentityd/nbidentityd/internal/rolecreds"
)

// register adds what the daemon knows to the metrics that the server shows.
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

	for _, level := range []assurance.Level{assurance.Enforced, assurance.TamperEvident, assurance.Advisory} {
		set.NewGauge(fmt.Sprintf("nbidentityd_assurance{level=%q}", level), func() float64 {
			d.mu.Lock()
			defer d.mu.Unlock()
			return number(d.assurance != nil && d.assurance.Level == string(level))
		})
	}
	set.NewGauge("nbidentityd_config_files_in_order", func() float64 {
		n := 0.0
		for _, s := range d.configStates() {
			n += number(s.Written)
		}
		return n
	})
	set.NewGauge("nbidentityd_config_tampers_total", func() float64 {
		var n uint64
		for _, s := range d.configStates() {
			n += s.Tampers
		}
		return float64(n)
	})
	set.NewGauge("nbidentityd_goroutines", func() float64 { return float64(runtime.NumGoroutine()) })
	d.registerFence(set)
}

func (d *Daemon) registerFence(set *metrics.Set) {
	gauge := func(name string, value func(netfence.Status) float64) {
		set.NewGauge(name, func() float64 {
			d.mu.Lock()
			fence := d.fence
			d.mu.Unlock()
			if fence == nil {
				return 0
			}
			return value(fence.Status())
		})
	}
	gauge("nbidentityd_fence_intact", func(s netfence.Status) float64 { return number(s.Intact()) })
	// As the fence's last look found them, at most a minute ago. They begin
	// at zero again when the rules are written anew.
	for verdict, count := range map[string]func(ruleset.Counters) uint64{
		"redirected":           func(c ruleset.Counters) uint64 { return c.Redirected },
		"refused":              func(c ruleset.Counters) uint64 { return c.Blocked },
		"container_redirected": func(c ruleset.Counters) uint64 { return c.ContainersRedirected },
		"container_refused":    func(c ruleset.Counters) uint64 { return c.ContainersBlocked },
	} {
		gauge(fmt.Sprintf("nbidentityd_fence_packets_total{verdict=%q}", verdict),
			func(s netfence.Status) float64 { return float64(count(s.Counters)) })
	}
}

func (d *Daemon) configStates() []configguard.State {
	d.mu.Lock()
	guards := d.guards
	d.mu.Unlock()
	var states []configguard.State
	for _, g := range guards {
		states = append(states, g.State())
	}
	return states
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
