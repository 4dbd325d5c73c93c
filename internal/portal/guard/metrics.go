package guard

import "github.com/prometheus/client_golang/prometheus"

// metrics are the guard's own.
type metrics struct {
	requests *prometheus.CounterVec
	refused  *prometheus.CounterVec
	duration prometheus.Histogram
	panics   prometheus.Counter
	streams  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		// page: the patterns that the portal serves, or none; code: 2xx, 3xx, 4xx, 5xx
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "gatepost", Subsystem: "guard", Name: "requests_total",
			Help: "Requests to the portal, by page and class of status."}, []string{"page", "code"}),
		// reason: address, person, opened, size, host, streams, connections
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "gatepost", Subsystem: "guard", Name: "refused_total",
			Help: "Requests and connections that did not reach a page, by the bound."}, []string{"reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "gatepost", Subsystem: "guard", Name: "request_duration_seconds",
			Help: "Time to answer, but for pages that keep themselves up to date.", Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "gatepost", Subsystem: "guard", Name: "faults_total",
			Help: "Pages with a fault; each is a line guard.fault."}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gatepost", Subsystem: "guard", Name: "streams",
			Help: "Pages that are being kept up to date."}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.refused, m.duration, m.panics, m.streams)
	}
	return m
}
