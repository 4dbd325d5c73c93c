package sts

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics counts fetches; result is fetched or failed.
type metrics struct {
	fetches *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, b *Book) *metrics {
	f := promauto.With(r)
	m := &metrics{fetches: f.NewCounterVec(prometheus.CounterOpts{
		Name: "gatepost_sts_fetches_total",
		Help: "MTA-STS policies asked for over HTTPS, by result: fetched, failed.",
	}, []string{"result"})}
	for _, result := range []string{"fetched", "failed"} {
		m.fetches.WithLabelValues(result)
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatepost_sts_policies",
		Help: "Domains whose MTA-STS policy is kept.",
	}, func() float64 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return float64(len(b.known))
	})
	return m
}
