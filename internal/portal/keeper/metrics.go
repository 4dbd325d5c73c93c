package keeper

import "github.com/prometheus/client_golang/prometheus"

// metrics are what the reporter counts.
type metrics struct {
	rounds  prometheus.Histogram
	writes  *prometheus.CounterVec
	opened  *prometheus.CounterVec
	mails   *prometheus.CounterVec
	waiting prometheus.Gauge
	down    *prometheus.GaugeVec
}

func newMetrics(to prometheus.Registerer) *metrics {
	m := &metrics{
		rounds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gatepost_keeper_round_seconds", Help: "Time that one look at the forge took, with what followed from it.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 8),
		}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_keeper_writes_total", Help: "What was written to the forge, by what: comment, status, answer, request.",
		}, []string{"what"}),
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_keeper_opened_total", Help: "Requests that the reporter opened, by kind: renewal, removal, block.",
		}, []string{"kind"}),
		mails: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_keeper_mails_total", Help: "Attempts to hand a mail to the relay, by outcome: sent, failed, given-up.",
		}, []string{"outcome"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatepost_keeper_mails_waiting", Help: "Mails that the relay has not taken yet.",
		}),
		down: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatepost_keeper_down", Help: "1 for each part that the reporter cannot do: forge, register, book, mail.",
		}, []string{"part"}),
	}
	if to != nil {
		to.MustRegister(m.rounds, m.writes, m.opened, m.mails, m.waiting, m.down)
	}
	return m
}
