package deliver

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"example.edu/gatepost/internal/mail"
)

const (
	offersTLS = "S 220 sink\nC EHLO\nS 250-sink\nS 250-REQUIRETLS\nS 250 STARTTLS\nC STARTTLS\n"
	insideTLS = "S 220 go\nT\nC EHLO\nS 250-sink\nS 250 PIPELINING\n"
	inClear   = "S 220 sink\nC EHLO\nS 250-sink\nS 250 STARTTLS\n" + accepted + "B\nS 250 ok\nC QUIT"
)

func TestStartTLS(t *testing.T) {
	done := accepted + "B\nS 250 ok\nC QUIT"
	for _, c := range []struct {
		name       string
		scripts    []string
		requireTLS bool
		verify     bool // our configuration wants a certificate that is not there
		want       string
		status     string
		tls        bool
		stalls     bool
	}{
		{name: "offered", scripts: []string{offersTLS + insideTLS + done}, want: "delivered", tls: true},
		{name: "declined", scripts: []string{offersTLS + "S 454 4.7.0 not now\n" + done}, want: "delivered"},
		{name: "refused", scripts: []string{offersTLS + "S 501 no\n" + done}, want: "delivered"},
		{name: "garbage in the handshake, then clear", scripts: []string{offersTLS + "S 220 go\nA no TLS here\nW", inClear}, want: "delivered"},
		{name: "closed in the handshake, then clear", scripts: []string{offersTLS + "S 220 go\nX", inClear}, want: "delivered"},
		{name: "handshake stalls, then clear", scripts: []string{offersTLS + "S 220 go\nW", inClear}, want: "delivered", stalls: true},
		{name: "certificate refused, then clear", scripts: []string{offersTLS + insideTLS, inClear}, verify: true, want: "delivered"},
		{name: "clear fails too", scripts: []string{offersTLS + "S 220 go\nX", "S 421 bye"}, want: "deferred"},
		{name: "injection behind the 220", scripts: []string{offersTLS + `R 220 go\r\n250-evil\r\n250 AUTH\r\n` + "\nW"}, want: "deferred", status: "4.7.10"},
		{name: "EHLO refused inside", scripts: []string{offersTLS + "S 220 go\nT\nC EHLO\nS 421 bye"}, want: "deferred", tls: true},
		{name: "required, closed in the handshake", scripts: []string{offersTLS + "S 220 go\nX"}, requireTLS: true, want: "deferred", status: "4.7.10"},
		{name: "required, declined", scripts: []string{offersTLS + "S 454 not now\nC QUIT"}, requireTLS: true, want: "deferred", status: "4.7.10"},
		{name: "required, not offered", scripts: []string{stepwise + "C QUIT"}, requireTLS: true, want: "deferred", status: "4.7.10"},
		{name: "required, certificate unknown", scripts: []string{offersTLS + insideTLS}, requireTLS: true, want: "deferred", status: "4.7.10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t, c.scripts...)
			s.tls, _ = certificate(t, "sink.example.org")
			o := Options{Smarthosts: []string{s.addr()}, Reuse: Reuse{Messages: 1}}
			if c.verify {
				o.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
			}
			if c.stalls {
				o.Timeouts = fast()
			}
			e := entry(1)
			e.Envelope.RequireTLS = c.requireTLS
			got := newCourier(t, o).Deliver(t.Context(), e, bodyOf(content), indexes(1))
			if outcomes(got) != c.want || c.status != "" && got[0].Status.Enhanced.String() != c.status {
				t.Errorf("%+v", got)
			}
			if tls := strings.HasPrefix(got[0].TLS, "TLS 1."); tls != c.tls {
				t.Errorf("TLS %q", got[0].TLS)
			}
		})
	}
}

// RFC 8689: the certificate is verified, and the next hop must know REQUIRETLS.
func TestRequireTLS(t *testing.T) {
	for _, c := range []struct{ name, offers, want, status string }{
		{"offered", "S 250 REQUIRETLS\nC MAIL FROM:<s@example.edu> REQUIRETLS\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 354 go\nB\nS 250 ok\n", "delivered", "0.0.0"},
		{"not offered", "S 250 PIPELINING\n", "failed", "5.7.30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink(t, "S 220 sink\nC EHLO\nS 250-sink\nS 250 STARTTLS\nC STARTTLS\nS 220 go\nT\nC EHLO\nS 250-sink\n"+c.offers+"C QUIT")
			config, roots := certificate(t, "sink.example.org")
			s.tls = config
			courier := newCourier(t, Options{
				Smarthosts: []string{"sink.example.org:25"},
				Resolver:   zone{ip: map[string][]string{"sink.example.org": {"192.0.2.1"}}},
				Dialer:     dialMap{"192.0.2.1:25": s.addr()},
				TLS:        &tls.Config{RootCAs: roots, InsecureSkipVerify: true},
			})
			e := entry(1)
			e.Envelope.RequireTLS = true
			got := courier.Deliver(t.Context(), e, bodyOf(content), indexes(1))
			if outcomes(got) != c.want || got[0].Status.Enhanced.String() != c.status {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A smarthost without the TLS that one message asks for is not down for others.
func TestRequireTLSDoesNotMarkASmarthostDown(t *testing.T) {
	courier := newCourier(t, Options{Smarthosts: []string{newSink(t, stepwise+"C QUIT").addr()}})
	e := entry(1)
	e.Envelope.RequireTLS = true
	if got := courier.Deliver(t.Context(), e, bodyOf(content), indexes(1)); outcomes(got) != "deferred" {
		t.Fatalf("%+v", got)
	}
	if down := courier.health.down; len(down) > 0 {
		t.Errorf("down: %v", down)
	}
}

// What the peer offered in clear text does not count inside TLS.
func TestNothingIsCarriedOverIntoTLS(t *testing.T) {
	s := newSink(t, "S 220 sink\nC EHLO\nS 250-sink\nS 250-SIZE 1\nS 250-PIPELINING\nS 250 STARTTLS\nC STARTTLS\nS 220 go\nT\nC EHLO\nS 250 sink\nC MAIL FROM:<s@example.edu>\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT")
	s.tls, _ = certificate(t, "x")
	got := newCourier(t, Options{Smarthosts: []string{s.addr()}, Reuse: Reuse{Messages: 1}}).Deliver(t.Context(), entry(1), bodyOf(content), indexes(1))
	if got[0].Outcome != mail.Delivered {
		t.Errorf("%+v", got)
	}
}
