package daemon_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// validating is a resolver on loopback that says of everything that it has
// validated it. Without tlsa it has no answer about TLSA records.
func validating(t *testing.T, tlsa bool) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]string{
		"example.org. MX":             "example.org. 60 IN MX 10 mx.example.org.",
		"mx.example.org. A":           "mx.example.org. 60 IN A 192.0.2.1",
		"_smtp._tls.example.org. TXT": `_smtp._tls.example.org. 60 IN TXT "v=TLSRPTv1; rua=mailto:tls@reports.example"`,
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.AuthenticatedData = true
		name, kind := strings.ToLower(q.Question[0].Name), dns.TypeToString[q.Question[0].Qtype]
		if text := records[name+" "+kind]; text != "" {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		if kind == "TLSA" && !tlsa {
			m.Rcode = dns.RcodeServerFailure
		}
		_ = w.WriteMsg(m)
	})}
	var done sync.WaitGroup
	done.Go(func() { _ = server.ActivateAndServe() })
	t.Cleanup(func() {
		_ = conn.Close()
		done.Wait()
	})
	return conn.LocalAddr().String()
}

// TestWhatADomainDemandsIsKept has mail go straight to an MX: what the DNS and
// the MTA-STS policy that was kept say of it stops the mail before anybody is
// connected to, and the operator is told.
func TestWhatADomainDemandsIsKept(t *testing.T) {
	for _, tt := range []struct {
		name string
		tlsa bool
		want string
	}{
		{"bogus", false, "the DNS gives no signed answer about mx.example.org now"},
		{"MTA-STS", true, "mx.example.org is none of the mail servers that the MTA-STS policy of example.org names"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.direct = true
			w.extra = fmt.Sprintf("deliver: resolver: %q", validating(t, tt.tlsa))
			kept := fmt.Sprintf(`{"version":1,"what":"gatepost mta-sts"}
{"domain":"example.org","id":"1","policy":{"mode":"enforce","mx":["mail.example.org"],"maxAge":604800000000000},"fetched":%q,"used":%[1]q}
`, time.Now().UTC().Format(time.RFC3339))
			if err := os.MkdirAll(w.state, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(w.state, "mta-sts"), []byte(kept), 0o600); err != nil {
				t.Fatal(err)
			}
			w.start()
			w.accepted("127.0.0.1", "to whom?")
			w.eventually("it is deferred", func() bool {
				_, out := w.gatepost("queue", "list")
				return strings.Contains(out, tt.want)
			})
			if r := w.report().Resolver; r == nil || !r.Validates || r.Error != "" {
				t.Errorf("the resolver: %+v", r)
			}
		})
	}
}

// TestDomainsThatAskAreTold: what was counted on a day before this one goes to
// who the domain names. RFC 8460.
func TestDomainsThatAskAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.direct = true
	w.extra = fmt.Sprintf(`deliver: {resolver: %q, tlsReports: contact: "tls@lab.example"}`, validating(t, true))
	kept := fmt.Sprintf(`{"version":1,"what":"gatepost tls-reports"}
{"day":%q,"domain":"example.org","policies":[{"policy":{"policy-type":"no-policy-found","policy-domain":"example.org"},"summary":{"total-successful-session-count":7,"total-failure-session-count":0}}]}
`, time.Now().UTC().AddDate(0, 0, -2).Format(time.DateOnly))
	if err := os.MkdirAll(w.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.state, "tls-reports"), []byte(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.eventually("it is told", func() bool {
		return strings.Contains(w.log.tail(200), "event=tlsreport.sent destination=example.org to=tls@reports.example")
	})
	// Where reports.example is nowhere, nobody is bothered with that.
	w.eventually("it is dropped", func() bool { return strings.Contains(w.log.tail(200), "event=queue.dropped") })
}
