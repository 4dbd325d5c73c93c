package fleet

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what a fleet shows.
type metrics struct {
	orders *prometheus.CounterVec // order: block, unblock, release; result: done, refused, failed, unknown
}

func newMetrics(r prometheus.Registerer, f *Fleet) *metrics {
	make := promauto.With(r)
	for state, up := range map[string]bool{"up": true, "silent": false} {
		make.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "gatepost_fleet_relays",
			Help:        "Relays, by whether they answered the portal when they were asked last.",
			ConstLabels: prometheus.Labels{"state": state}, // up, silent
		}, func() (n float64) {
			for _, r := range f.Relays() {
				if r.Up() == up {
					n++
				}
			}
			return n
		})
	}
	m := &metrics{make.NewCounterVec(prometheus.CounterOpts{
		Name: "gatepost_fleet_orders_total",
		Help: "Orders of postmasters to relays, one for each relay.",
	}, []string{"order", "result"})}
	for _, order := range []string{"block", "unblock", "release"} {
		for _, result := range []string{Done, NotDone, Failed, Unknown} {
			m.orders.WithLabelValues(order, result)
		}
	}
	return m
}
