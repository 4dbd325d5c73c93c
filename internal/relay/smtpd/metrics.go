package smtpd

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Label sets, all closed:
//
//	port      relay, submission
//	outcome   served, or the word of the greeting's refusal
//	stage     greeting, and the verbs of verbOf in command.go: EHLO, ..., other
//	reason    the words in replies.go
//	result    recorded, repeated
//	tls       none, or the version as crypto/tls names it
//	leniency  the words in device.go
type metrics struct {
	sessions           prometheus.Gauge
	connections        *prometheus.CounterVec // port, outcome
	refusals           *prometheus.CounterVec // stage, reason
	accepted           prometheus.Counter
	acceptedBytes      prometheus.Counter
	acceptedRecipients prometheus.Counter
	acceptedTLS        *prometheus.CounterVec // tls
	leniencies         *prometheus.CounterVec // leniency
	aborted            prometheus.Counter
	proofs             *prometheus.CounterVec // result
	handshakeFailures  prometheus.Counter
	commitSeconds      prometheus.Histogram
}

// newMetrics registers with reg, if there is one.
func newMetrics(reg prometheus.Registerer, held *memory) (*metrics, error) {
	m := &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatepost_smtpd_sessions", Help: "SMTP sessions now open."}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_smtpd_connections_total", Help: "Connections met, by listener and what became of them before the greeting."},
			[]string{"port", "outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_smtpd_refusals_total", Help: "4xx and 5xx replies inside sessions, by command and reason."},
			[]string{"stage", "reason"}),
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_smtpd_accepted_messages_total", Help: "Messages answered 250 after they were stored."}),
		acceptedBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_smtpd_accepted_bytes_total", Help: "Octets of accepted messages as they arrived."}),
		acceptedRecipients: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_smtpd_accepted_recipients_total", Help: "Recipients of accepted messages."}),
		acceptedTLS: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_smtpd_accepted_tls_total", Help: "Accepted messages by the version of TLS that they came over."},
			[]string{"tls"}),
		leniencies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_smtpd_leniencies_total", Help: "Accepted messages that needed a leniency of their device profile."},
			[]string{"leniency"}),
		aborted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_smtpd_aborted_messages_total", Help: "Bodies that broke off: disconnected, too slow, or abandoned by the client."}),
		proofs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_smtpd_proofs_total", Help: "Messages that proved control of an address: recorded, or with a token that had proved before."},
			[]string{"result"}),
		handshakeFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatepost_smtpd_tls_handshake_failures_total", Help: "STARTTLS handshakes that failed."}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gatepost_smtpd_commit_seconds", Help: "Time the store took to make a message durable.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}),
	}
	if reg == nil {
		return m, nil
	}
	errs := []error{reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatepost_smtpd_claimed_memory_bytes", Help: "Octets that recipients and bodies under way may hold at most; see limits.memoryBytes."},
		func() float64 { return float64(held.held.Load()) }))}
	for _, c := range []prometheus.Collector{m.sessions, m.connections, m.refusals, m.accepted, m.acceptedBytes, m.acceptedRecipients, m.acceptedTLS, m.leniencies, m.aborted, m.proofs, m.handshakeFailures, m.commitSeconds} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// took counts one accepted message.
func (m *metrics) took(a Accepted) {
	m.accepted.Inc()
	m.acceptedBytes.Add(float64(a.Octets))
	m.acceptedRecipients.Add(float64(a.Recipients))
	over := a.TLS
	if over == "" {
		over = "none"
	}
	m.acceptedTLS.WithLabelValues(over).Inc()
	a.Needed.each(func(word string) { m.leniencies.WithLabelValues(word).Inc() })
}

// proved counts one proof.
func (m *metrics) proved(news bool) {
	if news {
		m.proofs.WithLabelValues("recorded").Inc()
		return
	}
	m.proofs.WithLabelValues("repeated").Inc()
}
