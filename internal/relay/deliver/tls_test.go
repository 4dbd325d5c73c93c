package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

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
		{name: "required, certificate unknown", scripts: []string{offersTLS + insideTLS}, requireTLS: true, want: "deferred", status: "4.7.5"},
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
		{"offered", "S 250 REQUIRETLS\nC MAIL FROM:<s@example.edu> REQUIRETLS\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT", "delivered", "0.0.0"},
		{"not offered", "S 250 PIPELINING\nW", "failed", "5.7.30"}, // it is kept for mail that does not need it
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink(t, "S 220 sink\nC EHLO\nS 250-sink\nS 250 STARTTLS\nC STARTTLS\nS 220 go\nT\nC EHLO\nS 250-sink\n"+c.offers)
			config, roots := certificate(t, "sink.example.org")
			s.tls = config
			courier := newCourier(t, Options{
				Smarthosts: []string{"sink.example.org:25"},
				Resolver:   zone{ip: map[string][]string{"sink.example.org": {"192.0.2.1"}}},
				Dialer:     dialMap{"192.0.2.1:25": s.addr()},
				TLS:        &tls.Config{RootCAs: roots, InsecureSkipVerify: true},
				Reuse:      Reuse{Messages: 1},
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

// demands is a Guard of fixed answers, by host.
type demands map[string]Demand

func (d demands) Demand(_ context.Context, hop Hop) Demand { return d[hop.Host] }

// What is demanded of a host holds, or no mail goes there.
func TestDemands(t *testing.T) {
	done := accepted + "B\nS 250 ok\nC QUIT"
	config, roots := certificate(t, "sink.example.org")
	nobody := func(tls.ConnectionState) error { return errors.New("no such key") }
	anybody := func(tls.ConnectionState) error { return nil }
	refused := temporary(4, 3, "the DNS is bogus")
	for _, c := range []struct {
		name   string
		demand Demand
		script string // "": nobody connects
		roots  *x509.CertPool
		want   string
		status string
		tls    string // how it ends
		cause  string
		met    bool
	}{
		{name: "nothing, no TLS", script: stepwise + done, want: "delivered"},
		{name: "never", demand: Demand{Use: Never}, script: inClear, want: "delivered"},
		{name: "TLS", demand: Demand{Use: Always}, script: offersTLS + insideTLS + done, want: "delivered", tls: "TLS 1.3"},
		{name: "TLS, not offered", demand: Demand{Use: Always, Why: "the site demands"}, script: stepwise + "C QUIT", want: "deferred", status: "4.7.10", cause: "without it no mail goes there, as the site demands"},
		{name: "TLS, declined", demand: Demand{Use: Always}, script: offersTLS + "S 454 not now\nC QUIT", want: "deferred", status: "4.7.10"},
		{name: "TLS, a refusal in clear text", demand: Demand{Use: Always}, script: "S 554 5.7.1 go away\nC QUIT", want: "deferred", status: "5.7.1", met: true},
		{name: "TLS, a refusal inside", demand: Demand{Use: Always}, script: offersTLS + "S 220 go\nT\nC EHLO\nS 550 5.7.1 go away\nC HELO\nS 550 5.7.1 go away\nC QUIT", want: "failed", status: "5.7.1", met: true, tls: "TLS 1.3"},
		{name: "TLS, broken", demand: Demand{Use: Always}, script: offersTLS + "S 220 go\nX", want: "deferred", status: "4.7.10"},
		{name: "an authority", demand: Demand{Use: Always, PKIX: true, As: STS}, roots: roots, script: offersTLS + insideTLS + done, want: "delivered", tls: "TLS 1.3, sts"},
		{name: "another authority", demand: Demand{Use: Always, PKIX: true, As: STS}, roots: x509.NewCertPool(), script: offersTLS + insideTLS, want: "deferred", status: "4.7.5", cause: "unknown authority"},
		{name: "a key", demand: Demand{Use: Always, Verify: anybody, As: DANE}, roots: x509.NewCertPool(), script: offersTLS + insideTLS + done, want: "delivered", tls: "TLS 1.3, dane"},
		{name: "another key", demand: Demand{Use: Always, Verify: nobody, As: DANE, Why: "the TLSA records demand"}, script: offersTLS + insideTLS, want: "deferred", status: "4.7.5", cause: "no such key; without it no mail goes there, as the TLSA records demand"},
		{name: "not this host", demand: Demand{Refused: &mail.Result{Status: refused, Cause: "bogus"}}, want: "deferred", status: "4.4.3", cause: "bogus"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var scripts []string
			if c.script != "" {
				scripts = append(scripts, c.script)
			}
			s := newSink(t, scripts...)
			s.tls = config
			registry := prometheus.NewRegistry()
			courier := newCourier(t, Options{
				Resolver: zone{mx: map[string][]*net.MX{"example.org.": {{Host: "sink.example.org."}}}, ip: map[string][]string{"sink.example.org.": {"192.0.2.1"}}},
				Dialer:   dialMap{"192.0.2.1:25": s.addr()},
				TLS:      &tls.Config{RootCAs: c.roots, InsecureSkipVerify: true},
				Guard:    demands{"sink.example.org": c.demand},
				Reuse:    Reuse{Messages: 1}, Registerer: registry,
			})
			got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1))
			if outcomes(got) != c.want || c.status != "" && got[0].Status.Enhanced.String() != c.status || !strings.Contains(got[0].Cause, c.cause) {
				t.Errorf("%+v", got)
			}
			if c.tls != "" && got[0].TLS != c.tls || c.tls == "" && c.want == "delivered" && got[0].TLS != "" {
				t.Errorf("TLS %q", got[0].TLS)
			}
			unmet := 0.0
			for p := Unverified; p <= DANE; p++ {
				unmet += testutil.ToFloat64(courier.metrics.demands.WithLabelValues(p.String()))
			}
			if (unmet > 0) != (c.want == "deferred" && !c.met) {
				t.Errorf("%v demands unmet", unmet)
			}
		})
	}
}

// Where one host is less than is demanded, the next one is tried.
func TestTheNextHostMayMeetTheDemand(t *testing.T) {
	bad, good := newSink(t, stepwise+"C QUIT"), newSink(t, offersTLS+insideTLS+accepted+"B\nS 250 ok\nC QUIT")
	good.tls, _ = certificate(t, "b.example.org")
	courier := newCourier(t, Options{
		Resolver: zone{
			mx: map[string][]*net.MX{"example.org.": {{Host: "a.example.org.", Pref: 1}, {Host: "b.example.org.", Pref: 2}}},
			ip: map[string][]string{"a.example.org.": {"192.0.2.1"}, "b.example.org.": {"192.0.2.2"}},
		},
		Dialer: dialMap{"192.0.2.1:25": bad.addr(), "192.0.2.2:25": good.addr()},
		Guard:  demands{"a.example.org": {Use: Always}, "b.example.org": {Use: Always}},
		Reuse:  Reuse{Messages: 1},
	})
	if got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1)); outcomes(got) != "delivered" || got[0].RemoteMTA != "b.example.org" {
		t.Errorf("%+v", got)
	}
}

// A connection that is kept serves a message with REQUIRETLS only if it is fit
// for it, and one that is serves both kinds.
func TestAKeptConnectionIsReusedForWhatItSatisfies(t *testing.T) {
	config, roots := certificate(t, "sink.example.org")
	inside := "S 220 go\nT\nC EHLO\nS 250-sink\nS 250-PIPELINING\nS 250 REQUIRETLS\n"
	plain, strict := accepted+"B\nS 250 ok\n", "C MAIL FROM:<s@example.edu> REQUIRETLS\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 354 go\nB\nS 250 ok\n"
	s := newSink(t, offersTLS+inside+plain+"W", offersTLS+inside+strict+strict+plain+plain+"W")
	s.tls = config
	courier := newCourier(t, Options{
		Smarthosts: []string{"sink.example.org:25"},
		Resolver:   zone{ip: map[string][]string{"sink.example.org": {"192.0.2.1"}}},
		Dialer:     dialMap{"192.0.2.1:25": s.addr()},
		TLS:        &tls.Config{RootCAs: roots, InsecureSkipVerify: true},
		Guard:      known{},
		Reuse:      Reuse{Idle: time.Minute},
	})
	for i, c := range []struct {
		strict bool
		conns  int
	}{{false, 1}, {true, 2}, {true, 2}, {false, 2}, {false, 2}} {
		e := entry(1)
		e.Envelope.RequireTLS = c.strict
		if got := courier.Deliver(t.Context(), e, bodyOf(content), indexes(1)); outcomes(got) != "delivered" || strings.HasSuffix(got[0].TLS, "verified") != (i > 0) {
			t.Fatalf("message %d: %+v", i, got)
		}
		s.mu.Lock()
		if s.conns != c.conns {
			t.Errorf("message %d: %d connections", i, s.conns)
		}
		s.mu.Unlock()
	}
	if n := testutil.ToFloat64(courier.metrics.connections.WithLabelValues("stale")); n > 0 {
		t.Errorf("%v connections were tried in vain", n)
	}
}

// known is a Guard that knows whose host it is, and asks for a certificate only
// where the message does.
type known struct{}

func (known) Demand(ctx context.Context, hop Hop) Demand {
	d := opportunistic{}.Demand(ctx, hop)
	d.Secure = true
	return d
}

// What came of TLS on a connection is told, for reports, also where mail goes on.
func TestSeen(t *testing.T) {
	done := accepted + "B\nS 250 ok\nC QUIT"
	config, roots := certificate(t, "sink.example.org")
	foreign, _ := certificate(t, "other.example.org")
	nobody := func(tls.ConnectionState) error { return errors.New("no such key") }
	for _, c := range []struct {
		name    string
		demand  Demand
		config  *tls.Config
		scripts []string
		want    string // "": all went well; "-": nothing is told
	}{
		{name: "TLS", scripts: []string{offersTLS + insideTLS + done}},
		{name: "TLS, judged for the report", demand: Demand{Watch: true}, scripts: []string{offersTLS + insideTLS + done}},
		{name: "another name, judged for the report", demand: Demand{Watch: true}, config: foreign, scripts: []string{offersTLS + insideTLS + done}, want: "not sink.example.org"},
		{name: "no STARTTLS", scripts: []string{stepwise + done}, want: "the peer does not take it"},
		{name: "no STARTTLS, demanded", demand: Demand{Use: Always}, scripts: []string{stepwise + "C QUIT"}, want: "the peer does not take it"},
		{name: "declined", scripts: []string{offersTLS + "S 454 not now\n" + done}, want: "the peer does not take it"},
		{name: "a handshake that fails, then clear", scripts: []string{offersTLS + "S 220 go\nX", inClear}, want: "TLS handshake failed"},
		{name: "another key", demand: Demand{Use: Always, Verify: nobody}, scripts: []string{offersTLS + insideTLS}, want: "no such key"},
		{name: "never", demand: Demand{Use: Never}, scripts: []string{inClear}, want: "-"},
		{name: "it has no time", scripts: []string{"S 421 bye"}, want: "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink(t, c.scripts...)
			s.tls = config
			if c.config != nil {
				s.tls = c.config
			}
			var seen []Handshake
			c.demand.Seen = func(hs Handshake) { seen = append(seen, hs) }
			courier := newCourier(t, Options{
				Resolver: zone{mx: map[string][]*net.MX{"example.org.": {{Host: "sink.example.org."}}}, ip: map[string][]string{"sink.example.org.": {"192.0.2.1"}}},
				Dialer:   dialMap{"192.0.2.1:25": s.addr()},
				TLS:      &tls.Config{RootCAs: roots, InsecureSkipVerify: true},
				Guard:    demands{"sink.example.org": c.demand},
				Reuse:    Reuse{Messages: 1},
			})
			courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1))
			switch {
			case c.want == "-":
				if len(seen) != 0 {
					t.Errorf("%+v", seen)
				}
			case len(seen) != 1 || seen[0].Host != "sink.example.org" || !seen[0].Local.IsLoopback() || !seen[0].Remote.IsLoopback():
				t.Errorf("%+v", seen)
			case (seen[0].Err == nil) != (c.want == "") || seen[0].Err != nil && !strings.Contains(seen[0].Err.Error(), c.want):
				t.Errorf("%v, want %q", seen[0].Err, c.want)
			}
		})
	}
}

// A report on TLS goes even where TLS fails, and leaves no connection behind for
// mail that does not. RFC 8460 §3.
func TestAReportGoesWithoutTLS(t *testing.T) {
	config, _ := certificate(t, "sink.example.org")
	s := newSink(t, stepwise+accepted+"B\nS 250 ok\nC QUIT", offersTLS+insideTLS+accepted+"B\nS 250 ok\nW")
	s.tls = config
	courier := newCourier(t, Options{
		Resolver: zone{mx: map[string][]*net.MX{"example.org.": {{Host: "sink.example.org."}}}, ip: map[string][]string{"sink.example.org.": {"192.0.2.1"}}},
		Dialer:   dialMap{"192.0.2.1:25": s.addr()},
		Guard:    demands{"sink.example.org": {Use: Always}},
	})
	e := entry(1)
	e.Envelope.AnyTLS = true
	if got := courier.Deliver(t.Context(), e, bodyOf(content), indexes(1)); outcomes(got) != "delivered" || got[0].TLS != "" {
		t.Errorf("%+v", got)
	}
	if got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1)); outcomes(got) != "delivered" || got[0].TLS == "" {
		t.Errorf("%+v", got)
	}
}
