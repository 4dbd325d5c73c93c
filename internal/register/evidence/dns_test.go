package evidence

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestPoolName(t *testing.T) {
	tests := []struct {
		name, ip string
		pool     bool
	}{
		{"dhcp-13-21.physics.example.edu", "141.211.13.21", true},
		{"wifi3.lsa.example.edu", "141.211.13.21", true},
		{"host.resnet.example.edu", "141.211.13.21", true},
		{"141-211-13-21.lsa.example.edu", "141.211.13.21", true},
		{"21.13.211.141.lsa.example.edu", "141.211.13.21", true},
		{"ip-141-211-013-021.example.edu", "141.211.13.21", true},
		{"x8dd30d15.lsa.example.edu", "141.211.13.21", true},
		{"mfp1.physics.example.edu", "141.211.13.21", false},
		{"mfp-13-21.physics.example.edu", "141.211.13.21", false},
		{"poolhouse.recsports.example.edu", "141.211.13.21", false},
		{"natural.museum.example.edu", "141.211.13.21", false},
		{"host.dhcp.edu", "141.211.13.21", false},
		{"dhcp.example.edu", "2001:db8::1", true},
		{"mfp1.example.edu", "2001:db8::1", false},
	}
	for _, tt := range tests {
		if why := poolName(tt.name, netip.MustParseAddr(tt.ip)); (why != "") != tt.pool {
			t.Errorf("%s: %q, want pool %t", tt.name, why, tt.pool)
		}
	}
}

func TestServerAddr(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.53": "192.0.2.53:53", "192.0.2.53:5353": "192.0.2.53:5353",
		"2001:db8::53": "[2001:db8::53]:53", "[2001:db8::53]": "[2001:db8::53]:53", "[2001:db8::53]:5353": "[2001:db8::53]:5353",
		"dns.example.edu": "", "192.0.2.53:0": "", "": "", "192.0.2.53:99999": "",
	} {
		if got, err := serverAddr(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// zone is what the resolvers of these tests know.
var zone = []string{
	"edu. NS ns.example.edu.",
	// A printer as it should be, on both families.
	"21.13.211.141.in-addr.arpa. PTR mfp1.physics.example.edu.",
	"mfp1.physics.example.edu. A 141.211.13.21",
	"1.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.1.0.0.1.0.0.0.8.1.0.f.7.0.6.2.ip6.arpa. PTR mfp1.physics.example.edu.",
	"mfp1.physics.example.edu. AAAA 2607:f018:1:13::21",
	// Forth and not back; back and not forth; another's.
	"mfp2.physics.example.edu. A 141.211.13.22",
	"23.13.211.141.in-addr.arpa. PTR mfp3.physics.example.edu.",
	"mfp3.physics.example.edu. A 141.211.13.99",
	"24.13.211.141.in-addr.arpa. PTR dhcp-24.physics.example.edu.",
	"mfp4.physics.example.edu. A 141.211.13.24",
	// Names that agree and prove nothing.
	"25.13.211.141.in-addr.arpa. PTR dhcp-25.physics.example.edu.",
	"dhcp-25.physics.example.edu. A 141.211.13.25",
	"26.13.211.141.in-addr.arpa. PTR scanner.wild.example.edu.",
	"scanner.wild.example.edu. A 141.211.13.26",
	"gatepost-wildcard-probe.wild.example.edu. A 141.211.13.26",
}

type dnsCase struct {
	ip, name string
	outcome  Outcome
	text     string
}

var dnsCases = []dnsCase{
	{"141.211.13.21", "mfp1.physics.example.edu", Confirmed, "141.211.13.21 is mfp1.physics.example.edu, and"},
	{"141.211.13.21", "MFP1.Physics.example.EDU", Confirmed, "141.211.13.21 is MFP1"},
	{"2607:f018:1:13::21", "mfp1.physics.example.edu", Confirmed, "2607:f018:1:13::21 is mfp1"},
	{"141.211.13.21", "mfp9.physics.example.edu", Contradicted, "141.211.13.21 is mfp1.physics.example.edu in the DNS, not mfp9"},
	{"141.211.13.22", "mfp2.physics.example.edu", Contradicted, "no name in the DNS (no PTR record), though"},
	{"141.211.13.23", "mfp3.physics.example.edu", Contradicted, "calls itself mfp3.physics.example.edu, but mfp3.physics.example.edu has 141.211.13.99"},
	{"141.211.13.24", "mfp4.physics.example.edu", Contradicted, "is dhcp-24.physics.example.edu in the DNS, not mfp4"},
	{"141.211.13.25", "dhcp-25.physics.example.edu", Unknown, "looks like one of a pool"},
	{"141.211.13.26", "scanner.wild.example.edu", Unknown, "every name below wild.example.edu"},
	{"141.211.13.77", "nowhere.example.edu", Contradicted, "no name in the DNS (no PTR record), and nowhere.example.edu has no address"},
}

// unbound starts Debian's resolver with the zone on a loopback port.
func unbound(t *testing.T) (server string, stop func()) {
	t.Helper()
	program := needs(t, "unbound")
	port := freePort(t)
	var conf strings.Builder
	fmt.Fprintf(&conf, "server:\n interface: 127.0.0.1@%d\n do-daemonize: no\n use-syslog: no\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n", port)
	conf.WriteString(" directory: \"/\"\n verbosity: 0\n num-threads: 1\n module-config: \"iterator\"\n access-control: 127.0.0.0/8 allow\n do-not-query-localhost: yes\n")
	for _, local := range []string{"edu.", "13.211.141.in-addr.arpa.", "7.0.6.2.ip6.arpa."} {
		fmt.Fprintf(&conf, " local-zone: %q static\n", local)
	}
	for _, record := range zone {
		fmt.Fprintf(&conf, " local-data: '%s'\n", record)
	}
	conf.WriteString("remote-control:\n control-enable: no\n")
	file := filepath.Join(t.TempDir(), "unbound.conf")
	if err := os.WriteFile(file, []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd := exec.Command(program, "-d", "-c", file)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	t.Cleanup(stop)
	server = fmt.Sprintf("127.0.0.1:%d", port)
	d, err := NewDNS(server)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := d.addrs(ctx, "mfp1.physics.example.edu", netip.MustParseAddr("192.0.2.1")); err == nil {
			return server, stop
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			stop()
			t.Fatalf("unbound does not answer: %s", log.String())
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

func TestDNSAgainstUnbound(t *testing.T) {
	server, stop := unbound(t)
	d, err := NewDNS(server)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range dnsCases {
		observe(t, d, claim(tt.ip, tt.name), tt.outcome, tt.text)
	}
	stop()
	observe(t, d, claim("141.211.13.21", "mfp1.physics.example.edu"), Unknown, "could not be asked")
}

// serveDNS runs a server of the tests' own on loopback, over UDP and TCP.
func serveDNS(t *testing.T, handle dns.HandlerFunc) string {
	t.Helper()
	packets, streams := samePort(t)
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handle}, {Listener: streams, Handler: handle}} {
		started, done := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(started) }
		go func() { done <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			s.Shutdown()
			<-done
		})
	}
	return packets.LocalAddr().String()
}

// samePort opens a port of loopback for UDP and TCP: one that is free for both.
func samePort(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	var last error
	for range 50 {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		streams, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, streams
		}
		packets.Close()
		last = err
	}
	t.Fatal(last)
	return nil, nil
}

// fromZone answers from records as the zone has them.
func fromZone(t *testing.T, records ...string) dns.HandlerFunc {
	var all []dns.RR
	for _, r := range records {
		name, rest, _ := strings.Cut(r, " ")
		rr, err := dns.NewRR(name + " 60 IN " + rest)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(q)
		for _, rr := range all {
			if strings.EqualFold(rr.Header().Name, q.Question[0].Name) && (rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME) {
				r.Answer = append(r.Answer, rr)
				if alias, ok := rr.(*dns.CNAME); ok {
					for _, rr := range all {
						if rr.Header().Name == alias.Target && rr.Header().Rrtype == q.Question[0].Qtype {
							r.Answer = append(r.Answer, rr)
						}
					}
				}
			}
		}
		if len(r.Answer) == 0 {
			r.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(r)
	}
}

func TestDNSAgainstAServerInGo(t *testing.T) {
	d, err := NewDNS(serveDNS(t, fromZone(t, zone...)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range dnsCases {
		observe(t, d, claim(tt.ip, tt.name), tt.outcome, tt.text)
	}
}

// TestDNSFollowsAliases: RFC 2317 delegates small networks by CNAMEs.
func TestDNSFollowsAliases(t *testing.T) {
	d, err := NewDNS(serveDNS(t, fromZone(t,
		"21.13.211.141.in-addr.arpa. CNAME 21.0-127.13.211.141.in-addr.arpa.",
		"21.0-127.13.211.141.in-addr.arpa. PTR mfp1.example.edu.",
		"mfp1.example.edu. CNAME real.example.edu.", "real.example.edu. A 141.211.13.21")))
	if err != nil {
		t.Fatal(err)
	}
	observe(t, d, claim("141.211.13.21", "mfp1.example.edu"), Confirmed, "mfp1.example.edu")
}

func TestDNSThatIsNoHelp(t *testing.T) {
	good := fromZone(t, zone...)
	tests := map[string]struct {
		handle dns.HandlerFunc
		text   string
	}{
		"a failure": {func(w dns.ResponseWriter, q *dns.Msg) {
			w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))
		}, "SERVFAIL"},
		"a refusal": {func(w dns.ResponseWriter, q *dns.Msg) {
			w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused))
		}, "REFUSED"},
		"the forward zone is broken": {func(w dns.ResponseWriter, q *dns.Msg) {
			if q.Question[0].Qtype != dns.TypePTR {
				w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))
				return
			}
			good(w, q)
		}, "SERVFAIL"},
		"denial of everything": {func(w dns.ResponseWriter, q *dns.Msg) {
			w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError))
		}, "not even the domain edu"},
		"another question": {func(w dns.ResponseWriter, q *dns.Msg) {
			r := new(dns.Msg).SetReply(q)
			r.Question[0].Name = "evil.example."
			w.WriteMsg(r)
		}, "another question"},
		"garbage": {func(w dns.ResponseWriter, q *dns.Msg) { w.Write([]byte{byte(q.Id >> 8), byte(q.Id), 0x80}) }, "could not be asked"},
		"silence": {func(dns.ResponseWriter, *dns.Msg) {}, "no answer within 300ms"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := NewDNS(serveDNS(t, tt.handle))
			if err != nil {
				t.Fatal(err)
			}
			reports, err := Gather(t.Context(), []Claim{claim("141.211.13.21", "mfp1.physics.example.edu")}, []Source{d}, Options{Timeout: 300 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if f := reports[0].Findings[0]; f.Outcome != Unknown || !strings.Contains(f.Text, tt.text) {
				t.Errorf("%s %q, want unknown with %q", f.Outcome, f.Text, tt.text)
			}
		})
	}
}

// TestDNSLongAnswer: a thousand names come over TCP, and three are shown.
func TestDNSLongAnswer(t *testing.T) {
	var records []string
	for i := range 1000 {
		records = append(records, fmt.Sprintf("21.13.211.141.in-addr.arpa. PTR host%d.example.edu.", i))
	}
	answer := fromZone(t, records...)
	d, err := NewDNS(serveDNS(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			r := new(dns.Msg).SetReply(q)
			r.Truncated = true
			w.WriteMsg(r)
			return
		}
		answer(w, q)
	}))
	if err != nil {
		t.Fatal(err)
	}
	observe(t, d, claim("141.211.13.21", "mfp1.example.edu"), Contradicted, "host0.example.edu, host1.example.edu, host2.example.edu and 997 more")
}
