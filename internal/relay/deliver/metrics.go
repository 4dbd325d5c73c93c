package deliver

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/mail"
)

// metrics counts what attempts came to. Label sets are closed:
// outcome is delivered, deferred or failed; kind is new, reused, stale (kept,
// but the peer had hung up) or failed; tls is none or the name of a version;
// protection and demand are the words of Protection; result is signed, none (no
// key is for it) or failed (one is, and the message cannot be signed).
type metrics struct {
	recipients  *prometheus.CounterVec
	connections *prometheus.CounterVec
	messages    *prometheus.CounterVec
	protected   *prometheus.CounterVec
	demands     *prometheus.CounterVec
	signatures  *prometheus.CounterVec
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
		protected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_deliver_protected_messages_total",
			Help: "Transactions that delivered to somebody, by what protected them (none, unverified, verified, sts, dane).",
		}, []string{"protection"}),
		demands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_deliver_unmet_demands_total",
			Help: "Hosts that got no mail because they are not protected as demanded: at least unverified, verified, sts, dane.",
		}, []string{"demand"}),
		signatures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_deliver_signatures_total",
			Help: "Messages that reached a next hop where there are DKIM keys, by result (signed, none, failed).",
		}, []string{"result"}),
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
	for p := range protections {
		m.protected.WithLabelValues(p.String())
		if p > Clear {
			m.demands.WithLabelValues(p.String())
		}
	}
	for _, k := range []string{"signed", "none", "failed"} {
		m.signatures.WithLabelValues(k)
	}
	if r != nil {
		r.MustRegister(m.recipients, m.connections, m.messages, m.protected, m.demands, m.signatures, m.duration, m.idle)
	}
	return m
}

func (m *metrics) connection(kind string) { m.connections.WithLabelValues(kind).Inc() }

func (m *metrics) signed(result string) { m.signatures.WithLabelValues(result).Inc() }

func (m *metrics) attempt(results []mail.Result, s *session, took time.Duration) {
	delivered := false
	for i := range results {
		m.recipients.WithLabelValues(results[i].Outcome.String()).Inc()
		delivered = delivered || results[i].Outcome == mail.Delivered
	}
	if s != nil {
		m.messages.WithLabelValues(cmp.Or(s.tls, "none")).Inc()
		if delivered {
			m.protected.WithLabelValues(s.as.String()).Inc()
		}
	}
	m.duration.Observe(took.Seconds())
}

// unmet counts a host that is less than was demanded of it.
func (m *metrics) unmet(d *Demand) {
	m.demands.WithLabelValues(max(d.As, Unverified).String()).Inc()
}

func (m *metrics) setIdle(n int) { m.idle.Set(float64(n)) }
