package deliver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/mail"
)

// metrics counts what attempts came to. Label sets are closed:
// outcome is delivered, deferred or failed; kind is new, reused, stale (kept,
// but the peer had hung up) or failed; tls is none or the name of a version.
type metrics struct {
	recipients  *prometheus.CounterVec
	connections *prometheus.CounterVec
	messages    *prometheus.CounterVec
	duration    prometheus.Histogram
	idle        prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		recipients: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_deliver_recipients_total",
			Help: "Recipients attempted, by outcome (delivered, deferred, failed).",
		}, []string{"outcome"}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_deliver_connections_total",
			Help: "Connections to next hops: new, reused, stale (reused in vain), failed.",
		}, []string{"kind"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_deliver_messages_total",
			Help: "Transactions that reached a next hop, by TLS version (none for clear text).",
		}, []string{"tls"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gatepost_deliver_attempt_duration_seconds",
			Help:    "Time of one attempt: lookup, connection and transaction.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60, 300},
		}),
		idle: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatepost_deliver_idle_connections",
			Help: "Connections kept for the next message.",
		}),
	}
	for _, o := range []mail.Outcome{mail.Delivered, mail.Deferred, mail.Failed} {
		m.recipients.WithLabelValues(o.String())
	}
	for _, k := range []string{"new", "reused", "stale", "failed"} {
		m.connections.WithLabelValues(k)
	}
	if r != nil {
		r.MustRegister(m.recipients, m.connections, m.messages, m.duration, m.idle)
	}
	return m
}

func (m *metrics) connection(kind string) { m.connections.WithLabelValues(kind).Inc() }

func (m *metrics) attempt(results []mail.Result, reached bool, tls string, took time.Duration) {
	for i := range results {
		m.recipients.WithLabelValues(results[i].Outcome.String()).Inc()
	}
	if reached {
		if tls == "" {
			tls = "none"
		}
		m.messages.WithLabelValues(tls).Inc()
	}
	m.duration.Observe(took.Seconds())
}

func (m *metrics) setIdle(n int) { m.idle.Set(float64(n)) }
