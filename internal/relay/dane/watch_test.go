package dane

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A resolver that does not do what it is there for is told about, once.
func TestTheResolverIsWatched(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var validates, fails atomic.Bool
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.AuthenticatedData = validates.Load()
		if fails.Load() {
			m.Rcode = dns.RcodeServerFailure
		}
		_ = w.WriteMsg(m)
	})}
	var done sync.WaitGroup
	done.Go(func() { _ = server.ActivateAndServe() })
	defer done.Wait()
	defer func() { _ = conn.Close() }()
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	r, err := New(Options{Server: conn.LocalAddr().(*net.UDPAddr).AddrPort(), Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	state := stateWell
	for i, c := range []struct {
		validates, fails bool
		event            string // "": nothing is logged
	}{
		{true, false, ""},
		{false, false, "dane.unvalidated"},
		{false, false, ""},
		{false, true, "dane.resolver_failed"},
		{false, true, ""},
		{false, false, "dane.unvalidated"},
		{true, false, "dane.validated"},
		{true, false, ""},
	} {
		validates.Store(c.validates)
		fails.Store(c.fails)
		log.Reset()
		state = r.look(t.Context(), state)
		if c.event == "" && log.Len() > 0 || c.event != "" && (strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "event="+c.event)) {
			t.Errorf("step %d: %s", i, log.String())
		}
		if h, asked := r.Health(); !asked || h.Validates != (c.validates && !c.fails) || (h.Err != nil) != c.fails {
			t.Errorf("step %d: %+v", i, h)
		}
		want := "gatepost_dane_resolver_validates 0"
		if c.validates && !c.fails {
			want = "gatepost_dane_resolver_validates 1"
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader("# HELP gatepost_dane_resolver_validates 1: deliver.resolver answers, and validates what it answers (DNSSEC).\n# TYPE gatepost_dane_resolver_validates gauge\n"+want+"\n")); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
}
