package daemon

import "github.com/prometheus/client_golang/prometheus"

// newNotAfter tells when the certificate in use ends; with a nil reg it tells
// nobody.
func newNotAfter(reg prometheus.Registerer) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gatepost_tls_certificate_not_after_timestamp_seconds",
		Help: "When the certificate in use expires, in Unix time.",
	})
	if reg != nil {
		reg.MustRegister(g)
	}
	return g
}
