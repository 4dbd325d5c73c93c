package deliver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"example.edu/gatepost/internal/mail"
)

// dnsServer answers from zone lines on loopback; names under servfail.example
// fail, and one kind of question about names under no-a-answer or
// no-aaaa-answer. It returns a resolver that asks it.
func dnsServer(t *testing.T, records string) *net.Resolver {
	t.Helper()
	known := map[string][]dns.RR{}
	zp := dns.NewZoneParser(strings.NewReader(records), ".", "test")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		name := strings.ToLower(rr.Header().Name)
		known[name] = append(known[name], rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.RecursionAvailable = true
		name := strings.ToLower(q.Question[0].Name)
		rrs, exists := known[name]
		switch {
		case strings.HasSuffix(name, "servfail.example."),
			strings.HasPrefix(name, "no-"+strings.ToLower(dns.TypeToString[q.Question[0].Qtype])+"-answer."):
			m.Rcode = dns.RcodeServerFailure
		case !exists:
			m.Rcode = dns.RcodeNameError
		}
		for _, rr := range rrs {
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})}
	var done sync.WaitGroup
	done.Go(func() { _ = server.ActivateAndServe() })
	t.Cleanup(func() {
		_ = conn.Close()
		done.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

const records = `
no-aaaa-answer.plain.example. 60 IN A 192.0.2.2
plain.example.          60 IN MX 10 mx1.plain.example.
plain.example.          60 IN MX 20 mx2.plain.example.
mx1.plain.example.      60 IN A 192.0.2.1
mx1.plain.example.      60 IN AAAA 2001:db8::1
mx2.plain.example.      60 IN A 192.0.2.2
implicit.example.       60 IN A 192.0.2.2
null.example.           60 IN MX 0 .
dead.example.           60 IN MX 10 none.dead.example.
halfdead.example.       60 IN MX 10 none.halfdead.example.
halfdead.example.       60 IN MX 20 mx2.plain.example.
tempdead.example.       60 IN MX 10 mx.servfail.example.
mailless.example.       60 IN TXT "here"
no-a-answer.example.    60 IN TXT "here"
no-aaaa-answer.example. 60 IN TXT "here"
xn--mnchen-3ya.example. 60 IN MX 10 mx2.plain.example.
relay.example.edu.      60 IN A 192.0.2.9
self.example.           60 IN MX 10 relay.example.edu.
self.example.           60 IN MX 20 mx2.plain.example.
behind.example.         60 IN MX 5 mx2.plain.example.
behind.example.         60 IN MX 10 Relay.Example.EDU.
behind.example.         60 IN MX 10 mx1.plain.example.
many.example.           60 IN MX 1 many1.example.
many1.example.          60 IN A 192.0.2.11
many1.example.          60 IN A 192.0.2.12
many1.example.          60 IN A 192.0.2.13
many1.example.          60 IN A 192.0.2.14
many1.example.          60 IN A 192.0.2.15
many1.example.          60 IN A 192.0.2.16
many1.example.          60 IN A 192.0.2.17
many1.example.          60 IN A 192.0.2.18
many1.example.          60 IN A 192.0.2.19
many1.example.          60 IN A 192.0.2.20
many1.example.          60 IN A 192.0.2.21
many1.example.          60 IN A 192.0.2.2
`

const ok = stepwise + accepted + "B\nS 250 ok\nC QUIT"

func TestRoutes(t *testing.T) {
	resolver := dnsServer(t, records)
	for _, c := range []struct {
		domain  string
		first   string // script of mx1; "" if it must not be reached
		second  string // script of mx2
		want    string
		status  string
		remote  string
		refused []string // addresses that were dialled in vain
	}{
		{domain: "plain.example", first: ok, want: "delivered", remote: "mx1.plain.example"},
		{domain: "PLAIN.example", first: ok, want: "delivered", remote: "mx1.plain.example"},
		{domain: "plain.example", first: "S 421 4.3.2 busy", second: ok, want: "delivered", remote: "mx2.plain.example"},
		{domain: "plain.example", first: "S 554 5.7.1 no\nC QUIT", second: ok, want: "delivered", remote: "mx2.plain.example"},
		{domain: "plain.example", first: "S 554 5.7.1 no\nC QUIT", second: "S 421 4.3.2 busy", want: "deferred", status: "4.3.2", remote: "mx2.plain.example"},
		{domain: "plain.example", first: "S 554 5.7.1 no\nC QUIT", second: "S 521 5.3.2 no mail here\nC QUIT", want: "failed", status: "5.3.2", remote: "mx2.plain.example"},
		{domain: "implicit.example", second: ok, want: "delivered", remote: "implicit.example"},
		{domain: "null.example", want: "failed", status: "5.1.10"},
		{domain: "nowhere.example", want: "failed", status: "5.1.2"},
		{domain: "mailless.example", want: "failed", status: "5.1.2"},
		{domain: "no-a-answer.example", want: "deferred", status: "4.4.3"},
		{domain: "no-aaaa-answer.example", want: "deferred", status: "4.4.3"},
		{domain: "no-aaaa-answer.plain.example", second: ok, want: "delivered", remote: "no-aaaa-answer.plain.example"},
		{domain: "servfail.example", want: "deferred", status: "4.4.3"},
		{domain: "dead.example", want: "failed", status: "5.4.4"},
		{domain: "tempdead.example", want: "deferred", status: "4.4.3"},
		{domain: "halfdead.example", second: ok, want: "delivered", remote: "mx2.plain.example"},
		{domain: "halfdead.example", second: "S 421 busy", want: "deferred", remote: "mx2.plain.example"},
		{domain: "self.example", want: "failed", status: "5.4.6"},
		{domain: "relay.example.edu", want: "failed", status: "5.4.6"},
		{domain: "behind.example", second: ok, want: "delivered", remote: "mx2.plain.example"},
		{domain: "münchen.example", second: ok, want: "delivered", remote: "mx2.plain.example"},
		{domain: "[192.0.2.2]", second: ok, want: "delivered", remote: "[192.0.2.2]"},
		{domain: "[IPv6:2001:db8::1]", first: ok, want: "delivered", remote: "[ipv6:2001:db8::1]"},
		{domain: "many.example", want: "deferred", status: "4.4.1"},
	} {
		t.Run(c.domain, func(t *testing.T) {
			dialer := &recordingDialer{to: dialMap{}}
			if c.first != "" {
				dialer.to["[2001:db8::1]:25"] = newSink(t, c.first, c.first).addr()
				dialer.to["192.0.2.1:25"] = dialer.to["[2001:db8::1]:25"]
			}
			if c.second != "" {
				dialer.to["192.0.2.2:25"] = newSink(t, c.second).addr()
			}
			courier := newCourier(t, Options{Resolver: resolver, Dialer: dialer, Reuse: Reuse{Messages: 1}})
			e := entry(1)
			e.Envelope.To[0].Address.Domain = c.domain
			got := courier.Deliver(t.Context(), e, bodyOf(content), indexes(1))
			if outcomes(got) != c.want || got[0].RemoteMTA != c.remote || c.status != "" && got[0].Status.Enhanced.String() != c.status {
				t.Errorf("%+v", got)
			}
			if c.domain == "many.example" && len(dialer.tried) != maxAddresses {
				t.Errorf("%d addresses tried", len(dialer.tried))
			}
			if c.domain == "plain.example" && dialer.tried[0] != "[2001:db8::1]:25" {
				t.Errorf("tried %q", dialer.tried)
			}
		})
	}
}

type recordingDialer struct {
	to    dialMap
	tried []string
}

func (d *recordingDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	d.tried = append(d.tried, addr)
	return d.to.DialContext(ctx, network, addr)
}

func TestSmarthosts(t *testing.T) {
	z := zone{ip: map[string][]string{"a.example": {"192.0.2.1"}, "b.example": {"192.0.2.2"}}}
	both := []string{"a.example:2525", "b.example"}
	for _, c := range []struct {
		name   string
		hosts  []string
		first  string
		second string
		want   string
		remote string
		status string
	}{
		{name: "the first", first: ok, want: "delivered", remote: "a.example"},
		{name: "the first refuses the connection", second: ok, want: "delivered", remote: "b.example"},
		{name: "the first is busy", first: "S 421 busy", second: ok, want: "delivered", remote: "b.example"},
		{name: "the first closes", first: "X", second: ok, want: "delivered", remote: "b.example"},
		{name: "neither wants us: our fault, not the sender's", first: "S 554 5.7.1 no\nC QUIT", second: "S 554 5.7.1 no\nC QUIT", want: "deferred", remote: "b.example", status: "5.7.1"},
		{name: "neither is there", want: "deferred", status: "4.4.1"},
		{name: "a name that is not in the DNS", hosts: []string{"typo.example"}, want: "deferred", status: "4.4.3"},
		{name: "a refused message is refused", first: stepwise + "C MAIL\nS 550 no\nC QUIT", want: "failed", remote: "a.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := dialMap{}
			if c.first != "" {
				d["192.0.2.1:2525"] = newSink(t, c.first).addr()
			}
			if c.second != "" {
				d["192.0.2.2:25"] = newSink(t, c.second).addr()
			}
			hosts := c.hosts
			if hosts == nil {
				hosts = both
			}
			courier := newCourier(t, Options{Smarthosts: hosts, Resolver: z, Dialer: d, Reuse: Reuse{Messages: 1}})
			got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1))
			if outcomes(got) != c.want || got[0].RemoteMTA != c.remote || c.status != "" && got[0].Status.Enhanced.String() != c.status {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestSmarthostThatIsDownIsTriedLast(t *testing.T) {
	z := zone{ip: map[string][]string{"a.example": {"192.0.2.1"}, "b.example": {"192.0.2.2"}}}
	dialer := &recordingDialer{to: dialMap{"192.0.2.2:25": newSink(t, ok, ok).addr()}}
	courier := newCourier(t, Options{Smarthosts: []string{"a.example", "b.example"}, Resolver: z, Dialer: dialer, Reuse: Reuse{Messages: 1}})
	for range 2 {
		if got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1)); outcomes(got) != "delivered" {
			t.Fatalf("%+v", got)
		}
	}
	if want := []string{"192.0.2.1:25", "192.0.2.2:25", "192.0.2.2:25"}; !slices.Equal(dialer.tried, want) {
		t.Errorf("tried %q", dialer.tried)
	}
}

// Load is spread over smarthosts of one preference; those of a higher one are
// for when these are of no use.
func TestSmarthostsByPreference(t *testing.T) {
	courier := newCourier(t, Options{
		Smarthosts:  []string{"backup.example", "a.example", "b.example"},
		Preferences: []int{20, 10, 10},
	})
	first := map[string]int{}
	for range 200 {
		hosts, _ := courier.route(t.Context(), smarthosts)
		first[hosts[0].name]++
		if hosts[2].name != "backup.example" {
			t.Fatalf("%+v", hosts)
		}
	}
	if len(first) != 2 || first["a.example"] < 50 || first["b.example"] < 50 {
		t.Errorf("first were %v", first)
	}
	courier.health.note(courier.smart[1], false, courier.o.Now())
	courier.health.note(courier.smart[2], false, courier.o.Now())
	if hosts, _ := courier.route(t.Context(), smarthosts); hosts[0].name != "backup.example" {
		t.Errorf("%+v", hosts)
	}
	if _, err := New(Options{Hostname: "h", Smarthosts: []string{"a", "b"}, Preferences: []int{1}}); err == nil {
		t.Error("a preference is missing, and nobody says so")
	}
}

func TestDestination(t *testing.T) {
	direct := newCourier(t, Options{})
	smart := newCourier(t, Options{Smarthosts: []string{"192.0.2.1"}})
	for _, c := range []struct{ domain, want string }{
		{"Example.ORG", "example.org"},
		{"MÜNCHEN.example", "xn--mnchen-3ya.example"},
		{"_x.example.org", "_x.example.org"},
		{"[192.0.2.1]", "[192.0.2.1]"},
		{"[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"},
		{"", "relay.example.edu"},
	} {
		if got := direct.Destination(c.domain); got != c.want {
			t.Errorf("%q goes to %q, want %q", c.domain, got, c.want)
		}
		if got := smart.Destination(c.domain); got != smarthosts {
			t.Errorf("with smarthosts %q goes to %q", c.domain, got)
		}
	}
}

func TestNewRefusesBadSmarthosts(t *testing.T) {
	for _, s := range []string{"", ":25", "a b", "user@host", "[nonsense]:25"} {
		if _, err := New(Options{Hostname: "h", Smarthosts: []string{s}}); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
	for s, want := range map[string]host{
		"mx.example.org":      {name: "mx.example.org", port: "25", smart: true},
		"MX.example.org.:587": {name: "mx.example.org", port: "587", smart: true},
		"192.0.2.1:2525":      {name: "[192.0.2.1]", port: "2525", addr: netip.MustParseAddr("192.0.2.1"), smart: true},
		"[2001:db8::1]:25":    {name: "[2001:db8::1]", port: "25", addr: netip.MustParseAddr("2001:db8::1"), smart: true},
		"2001:db8::1":         {name: "[2001:db8::1]", port: "25", addr: netip.MustParseAddr("2001:db8::1"), smart: true},
	} {
		if got, err := parseSmarthost(s); err != nil || got != want {
			t.Errorf("%q is %+v, %v", s, got, err)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no hostname accepted")
	}
}

func TestChoose(t *testing.T) {
	keep := func(int, func(i, j int)) {}
	reverse := func(n int, swap func(i, j int)) {
		for i := range n / 2 {
			swap(i, n-1-i)
		}
	}
	mx := func(pref uint16, host string) *net.MX { return &net.MX{Host: host, Pref: pref} }
	for _, c := range []struct {
		name    string
		mxs     []*net.MX
		shuffle func(int, func(i, j int))
		want    string
		status  mail.Enhanced
	}{
		{"by preference", []*net.MX{mx(20, "b."), mx(10, "a."), mx(30, "c.")}, keep, "a b c", mail.Enhanced{}},
		{"shuffled within one", []*net.MX{mx(10, "a."), mx(10, "b."), mx(5, "c.")}, reverse, "c b a", mail.Enhanced{}},
		{"at most five", []*net.MX{mx(1, "a."), mx(2, "b."), mx(3, "c."), mx(4, "d."), mx(5, "e."), mx(6, "f.")}, keep, "a b c d e", mail.Enhanced{}},
		{"none at our preference", []*net.MX{mx(1, "a."), mx(2, "b."), mx(2, "us."), mx(2, "c.")}, keep, "a", mail.Enhanced{}},
		{"ourselves first", []*net.MX{mx(2, "a."), mx(2, "US."), mx(3, "b.")}, keep, "", mail.Enhanced{5, 4, 6}},
		{"null", []*net.MX{mx(0, ".")}, keep, "", mail.Enhanced{5, 1, 10}},
		{"implicit", nil, keep, "domain", mail.Enhanced{}},
	} {
		got, problem := choose("domain", "us.", c.mxs, c.shuffle)
		if problem == nil {
			problem = &mail.Result{}
		}
		if strings.Join(got, " ") != c.want || problem.Status.Enhanced != c.status {
			t.Errorf("%s: %q, %v", c.name, got, problem.Status)
		}
	}
}

func TestNotFound(t *testing.T) {
	if notFound(errors.New("x")) || notFound(&net.DNSError{IsTimeout: true}) || !notFound(&net.DNSError{IsNotFound: true}) {
		t.Error("wrong")
	}
}
