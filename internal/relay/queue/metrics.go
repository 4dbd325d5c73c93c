package queue

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/dsn"
)

// metrics are what a queue shows.
type metrics struct {
	attempts      map[mail.Outcome]prometheus.Counter // outcome: deferred, delivered, failed
	expired       prometheus.Counter
	latency       prometheus.Histogram
	notifications map[dsn.Kind]notifications // kind: failure, delay, relayed; result: sent, suppressed
}

type notifications struct{ sent, suppressed prometheus.Counter }

func newMetrics(r prometheus.Registerer, q *Queue) *metrics {
	f := promauto.With(r)
	m := &metrics{
		attempts:      map[mail.Outcome]prometheus.Counter{},
		notifications: map[dsn.Kind]notifications{},
		expired: f.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_queue_given_up_total",
			Help: "Recipients given up between attempts: expired, or returned by an operator.",
		}),
		latency: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "gatepost_queue_delivery_latency_seconds",
			Help:    "Time from the arrival of a message to its delivery to a recipient.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 300, 3600, 4 * 3600, 24 * 3600, 5 * 24 * 3600},
		}),
	}
	attempts := f.NewCounterVec(prometheus.CounterOpts{
		Name: "gatepost_queue_attempts_total",
		Help: "Outcomes of delivery attempts, one for each recipient.",
	}, []string{"outcome"}) // deferred, delivered, failed
	for _, o := range []mail.Outcome{mail.Deferred, mail.Delivered, mail.Failed} {
		m.attempts[o] = attempts.WithLabelValues(o.String())
	}
	sent := f.NewCounterVec(prometheus.CounterOpts{
		Name: "gatepost_queue_notifications_total",
		Help: "DSNs stored, and DSNs that were due but must not be sent.",
	}, []string{"kind", "result"}) // failure, delay, relayed; sent, suppressed
	for _, k := range dsn.Kinds() {
		m.notifications[k] = notifications{sent.WithLabelValues(k.String(), "sent"), sent.WithLabelValues(k.String(), "suppressed")}
	}
	for st, name := range stateNames {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "gatepost_queue_depth",
			Help:        "Transactions owed, by state.",
			ConstLabels: prometheus.Labels{"state": name}, // waiting, ready, running, held
		}, func() float64 {
			q.mu.Lock()
			defer q.mu.Unlock()
			return float64(q.sched.depth[st])
		})
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatepost_queue_oldest_age_seconds",
		Help: "Age of the oldest message that something is owed for; 0 when there is none.",
	}, func() float64 {
		q.mu.Lock()
		defer q.mu.Unlock()
		oldest := q.sched.oldest()
		if oldest.IsZero() {
			return 0
		}
		return time.Since(oldest).Seconds()
	})
	return m
}
