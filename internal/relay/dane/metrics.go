package dane

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// newValidates shows whether the resolver does what DANE rests on.
func newValidates(r prometheus.Registerer) func(bool) {
	g := promauto.With(r).NewGauge(prometheus.GaugeOpts{
		Name: "gatepost_dane_resolver_validates",
		Help: "1: deliver.resolver answers, and validates what it answers (DNSSEC).",
	})
	return func(yes bool) {
		g.Set(0)
		if yes {
			g.Set(1)
		}
	}
}
