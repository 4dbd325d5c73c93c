package tlsreport

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics counts reports; result is sent, unwanted or failed.
type metrics struct {
	reports *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{reports: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "gatepost_tlsreport_reports_total",
		Help: "Domains and days for which a TLS report was due, by result: sent, unwanted (the domain asks for none by mail), failed (tried again).",
	}, []string{"result"})}
	for _, result := range []string{"sent", "unwanted", "failed"} {
		m.reports.WithLabelValues(result)
	}
	return m
}
