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

	Metered   bool      // it counts what it asks a service for:
	Requests  []Request // attempts, each kind once
	Throttled int64     // of those
	Retries   int64     // of those
	USD       float64   // what they cost by the price list

	Budgeted      bool // the keys that it may be asked to make are bounded:
	CreationsLeft int
}

// A Request is a kind of request to a service, and how often it was made.
type Request struct {
	Operation, Outcome string
	Count              int64
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
	backendRequests = prometheus.NewDesc("signet_backend_requests_total", "Requests to a back-end's service, each attempt, by operation and outcome.",
		[]string{"backend", "operation", "outcome"}, nil)
	backendThrottled = prometheus.NewDesc("signet_backend_throttled_total", "Requests that the service refused for a quota.",
		[]string{"backend"}, nil)
	backendRetries = prometheus.NewDesc("signet_backend_retries_total", "Requests that were made again.",
		[]string{"backend"}, nil)
	backendCost = prometheus.NewDesc("signet_backend_cost_usd_total", "What the requests cost by the service's price list, in US dollars.",
		[]string{"backend"}, nil)
	backendCreations = prometheus.NewDesc("signet_backend_creations_left", "Keys that the back-end may still be asked to make in this hour.",
		[]string{"backend"}, nil)
)

// Describe implements prometheus.Collector.
func (backends) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		backendState, backendSessions, backendWaiting, backendRefused, backendRecoveries, backendCheck, backendChecked,
		backendRequests, backendThrottled, backendRetries, backendCost, backendCreations,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (all backends) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	for _, b := range all() {
		if b.Metered {
			b.collectUsage(counter)
		}
		if b.Budgeted {
			gauge(backendCreations, float64(b.CreationsLeft), b.Name)
		}
		gauge(backendState, 1, b.Name, b.State)
		gauge(backendSessions, float64(b.Busy), b.Name, "busy")
		gauge(backendSessions, float64(b.Sessions-b.Busy), b.Name, "idle")
		gauge(backendWaiting, float64(b.Waiting), b.Name)
		counter(backendRefused, float64(b.Refused), b.Name)
		for rung, n := range b.Recoveries {
			counter(backendRecoveries, float64(n), b.Name, rung)
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

// collectUsage shows what a service was asked for.
func (b Backend) collectUsage(counter func(*prometheus.Desc, float64, ...string)) {
	for _, r := range b.Requests {
		counter(backendRequests, float64(r.Count), b.Name, r.Operation, r.Outcome)
	}
	counter(backendThrottled, float64(b.Throttled), b.Name)
	counter(backendRetries, float64(b.Retries), b.Name)
	counter(backendCost, b.USD, b.Name)
}
