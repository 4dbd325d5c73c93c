package spool

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what a spool shows. None has a label.
type metrics struct {
	committed     prometheus.Counter
	bytes         prometheus.Counter
	commitSeconds prometheus.Histogram
	entries       prometheus.Gauge
	damaged       prometheus.Counter
	full          prometheus.Counter
	background    prometheus.Counter
	failed        prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		committed: f.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_spool_messages_committed_total",
			Help: "Messages put on stable storage.",
		}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_spool_committed_bytes_total",
			Help: "Octets of the bodies of committed messages.",
		}),
		commitSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "gatepost_spool_commit_seconds",
			Help:    "Time from the end of a message to its being on stable storage.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}),
		entries: f.NewGauge(prometheus.GaugeOpts{
			Name: "gatepost_spool_entries",
			Help: "Messages in the spool.",
		}),
		damaged: f.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_spool_damaged_total",
			Help: "Damaged records, bodies and tables met since the start.",
		}),
		full: f.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_spool_full_total",
			Help: "Refusals because the free space was below the reserve or the disk was full.",
		}),
		background: f.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_spool_background_errors_total",
			Help: "Failed flushes and compactions; the engine tries them again.",
		}),
		failed: f.NewGauge(prometheus.GaugeOpts{
			Name: "gatepost_spool_failed",
			Help: "1 when the storage engine has failed and the relay must be started again.",
		}),
	}
}
