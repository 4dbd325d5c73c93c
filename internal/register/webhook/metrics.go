package webhook

import "github.com/prometheus/client_golang/prometheus"

// A result is what became of one request.
type result string

// The results, which are the values of the label.
const (
	woke       result = "woke"       // a poll was asked for
	ignored    result = "ignored"    // signed, and about something else
	ping       result = "ping"       // signed, and a question whether somebody is here
	repeated   result = "repeated"   // signed, and known already
	unsigned   result = "unsigned"   // no signature that counts
	mismatched result = "mismatched" // a signature by another secret, or of another body
	malformed  result = "malformed"  // no delivery, or not a whole one
)

type metrics struct {
	deliveries *prometheus.CounterVec
	evicted    prometheus.Counter
}

// newMetrics registers the metrics; with a nil reg they are counted for nobody.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_webhook_deliveries_total",
			Help: "Deliveries of the forge, by result: woke, ignored, ping, repeated, unsigned, mismatched, malformed.",
		}, []string{"result"}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_webhook_evicted_connections_total",
			Help: "Connections that were cut to make room for a newer one.",
		}),
	}
	for _, r := range []result{woke, ignored, ping, repeated, unsigned, mismatched, malformed} {
		m.deliveries.WithLabelValues(string(r))
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.deliveries, m.evicted} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
