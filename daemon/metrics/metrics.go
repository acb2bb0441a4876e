// Package metrics is every metric of the daemon, by name. The README of this
// folder says what each means and when to worry.
//
// Labels come from closed sets: a profile that is not in the configuration is
// counted as "unknown", so that a caller can't make series.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics holds the daemon's metrics and where they are gathered.
type Metrics struct {
	registry *prometheus.Registry
	profiles map[string]bool

	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	denied   *prometheus.CounterVec
}

// New makes the metrics, for the profiles that the configuration names.
func New(version string, profiles ...string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), profiles: map[string]bool{}}
	for _, p := range profiles {
		m.profiles[p] = true
	}
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_requests_total", Help: "Requests answered, by lane, profile and gRPC code.",
	}, []string{"lane", "profile", "code"})
	m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "signet_request_seconds", Help: "Time from a request's arrival to its answer, by lane.",
		Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .5, 1, 5},
	}, []string{"lane"})
	m.denied = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_denied_total", Help: "Requests refused by policy, by rule.",
	}, []string{"rule"})
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "signet_build_info", Help: "1, with the version as a label.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	m.registry.MustRegister(m.requests, m.seconds, m.denied, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Request counts a request that was answered with a gRPC code.
func (m *Metrics) Request(lane, profile, code string, took time.Duration) {
	if !m.profiles[profile] {
		profile = "unknown"
	}
	m.requests.WithLabelValues(lane, profile, code).Inc()
	m.seconds.WithLabelValues(lane).Observe(took.Seconds())
}

// Denied counts a refusal by policy.
func (m *Metrics) Denied(rule string) { m.denied.WithLabelValues(rule).Inc() }

// A Part is something that can be well or not: the ledger, an issuer, a key.
type Part struct {
	Kind, Name string
	Healthy    bool
}

// Watch has the health of the daemon's parts, and the states of its key
// versions, read at each scrape.
func (m *Metrics) Watch(parts func() []Part, versions func() []Version) {
	m.registry.MustRegister(&scrape{parts, versions})
}

// WatchTokens has the number of remembered tokens read at each scrape.
func (m *Metrics) WatchTokens(live func() int64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "signet_tokens_remembered", Help: "Opaque tokens, and single-use ones that were used, that are remembered.",
	}, func() float64 { return float64(live()) }))
}

// A Version is a key version for the metrics.
type Version struct {
	Key, Version, State string
}

// scrape reads parts and versions when asked, so that no series outlives what
// it describes.
type scrape struct {
	parts    func() []Part
	versions func() []Version
}

var (
	partUp = prometheus.NewDesc("signet_part_up", "1 while a part (ledger, issuer, key) is healthy.",
		[]string{"kind", "name"}, nil)
	versionState = prometheus.NewDesc("signet_key_version_state", "1 for the state that a key version is in.",
		[]string{"key", "version", "state"}, nil)
)

// Describe implements prometheus.Collector.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) { ch <- partUp; ch <- versionState }

// Collect implements prometheus.Collector.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	for _, p := range s.parts() {
		up := 0.0
		if p.Healthy {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(partUp, prometheus.GaugeValue, up, p.Kind, p.Name)
	}
	for _, v := range s.versions() {
		ch <- prometheus.MustNewConstMetric(versionState, prometheus.GaugeValue, 1, v.Key, v.Version, v.State)
	}
}

// Handler serves the metrics in Prometheus' text form.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
