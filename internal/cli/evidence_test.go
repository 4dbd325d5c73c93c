package cli_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
)

// dnsServer answers on loopback from a file of records for the rest of the
// script: dnsserver VAR FILE.
func dnsServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: dnsserver VAR FILE")
	}
	var records []dns.RR
	parser := dns.NewZoneParser(strings.NewReader(ts.ReadFile(args[1])), ".", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records = append(records, rr)
	}
	ts.Check(parser.Err())
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	ts.Check(err)
	started, done := make(chan struct{}), make(chan error, 1)
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }}
	server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		for _, rr := range records {
			if strings.EqualFold(rr.Header().Name, q.Question[0].Name) && rr.Header().Rrtype == q.Question[0].Qtype {
				r.Answer = append(r.Answer, rr)
			}
		}
		if len(r.Answer) == 0 {
			r.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(r)
	})
	go func() { done <- server.ActivateAndServe() }()
	<-started
	ts.Defer(func() {
		server.Shutdown()
		<-done
	})
	ts.Setenv(args[0], conn.LocalAddr().String())
}

// webServer answers on loopback for the rest of the script: webserver VAR DIR.
// "/api/ipam/prefixes/?contains=…" is answered from "api-ipam-prefixes", with
// 404 where there is none, and 403 where the folder has a file "token" and the
// request does not show it.
func webServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: webserver VAR DIR")
	}
	dir := ts.MkAbs(args[1])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := os.ReadFile(filepath.Join(dir, "token"))
		if err == nil && r.Header.Get("Authorization") != "Token "+strings.TrimSpace(string(token)) {
			http.Error(w, "{}", http.StatusForbidden)
			return
		}
		name := strings.NewReplacer("/", "-", ":", "-").Replace(strings.Trim(r.URL.Path, "/"))
		answer, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Write(answer)
	}))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}
