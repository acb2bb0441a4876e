package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Backend is how a back-end fares, for the metrics.
type Backend struct {
	Name, State             string
	Sessions, Busy, Waiting int
	Refused                 int64
	Recoveries              map[string]int64 // by rung
	Checked                 time.Time        // the last health check, zero for none
	CheckFailed             bool
}

// WatchBackends has the state of the back-ends read at each scrape.
func (m *Metrics) WatchBackends(all func() []Backend) { m.registry.MustRegister(backends(all)) }

// backends reads them when asked.
type backends func() []Backend

var (
	backendState = prometheus.NewDesc("signet_backend_state", "1 for the state that a back-end is in.",
		[]string{"backend", "state"}, nil)
	backendSessions = prometheus.NewDesc("signet_backend_sessions", "Sessions to sign with, by whether they are at work.",
		[]string{"backend", "use"}, nil)
	backendWaiting = prometheus.NewDesc("signet_backend_waiting", "Signatures that wait for a session.",
		[]string{"backend"}, nil)
	backendRefused = prometheus.NewDesc("signet_backend_refused_total", "Signatures refused by the back-end's limits or breaker.",
		[]string{"backend"}, nil)
	backendRecoveries = prometheus.NewDesc("signet_backend_recoveries_total", "Steps of the recovery ladder that were taken, by rung.",
		[]string{"backend", "rung"}, nil)
	backendCheck = prometheus.NewDesc("signet_backend_health_check_ok", "1 if the last health check made a signature that verifies.",
		[]string{"backend"}, nil)
	backendChecked = prometheus.NewDesc("signet_backend_health_check_timestamp_seconds", "When the last health check ended.",
		[]string{"backend"}, nil)
)

// Describe implements prometheus.Collector.
func (backends) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		backendState, backendSessions, backendWaiting, backendRefused, backendRecoveries, backendCheck, backendChecked,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (all backends) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, b := range all() {
		gauge(backendState, 1, b.Name, b.State)
		gauge(backendSessions, float64(b.Busy), b.Name, "busy")
		gauge(backendSessions, float64(b.Sessions-b.Busy), b.Name, "idle")
		gauge(backendWaiting, float64(b.Waiting), b.Name)
		ch <- prometheus.MustNewConstMetric(backendRefused, prometheus.CounterValue, float64(b.Refused), b.Name)
		for rung, n := range b.Recoveries {
			ch <- prometheus.MustNewConstMetric(backendRecoveries, prometheus.CounterValue, float64(n), b.Name, rung)
		}
		if b.Checked.IsZero() {
			continue
		}
		ok := 1.0
		if b.CheckFailed {
			ok = 0
		}
		gauge(backendCheck, ok, b.Name)
		gauge(backendChecked, float64(b.Checked.Unix()), b.Name)
	}
}
