package deliver

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
)

// thisMachine is the interfaces of a test.
func thisMachine() ([]net.Addr, error) {
	return []net.Addr{
		&net.IPNet{IP: net.ParseIP("192.0.2.1"), Mask: net.CIDRMask(24, 32)},
		&net.IPNet{IP: net.ParseIP("2001:db8::1"), Mask: net.CIDRMask(64, 128)},
	}, nil
}

func TestOwnAddresses(t *testing.T) {
	for _, c := range []struct {
		listen, to string
		want       bool
	}{
		{":25", "192.0.2.1:25", true},
		{":25", "[2001:db8::1]:25", true},
		{"0.0.0.0:25", "192.0.2.1:25", true},
		{"[::]:25", "192.0.2.1:25", true},
		{":25", "127.0.0.1:25", true},
		{":25", "127.9.9.9:25", true},
		{":25", "[::1]:25", true},
		{":25", "0.0.0.0:25", true},
		{":25", "[::]:25", true},
		{":25", "192.0.2.2:25", false},
		{":25", "192.0.2.1:2525", false},
		{"192.0.2.1:25", "192.0.2.1:25", true},
		{"192.0.2.1:25", "0.0.0.0:25", true},
		{"192.0.2.1:25", "127.0.0.1:25", false},
		{"192.0.2.1:25", "[2001:db8::1]:25", false},
		{"[::ffff:192.0.2.1]:25", "192.0.2.1:25", true},
		{"nonsense", "192.0.2.1:25", false},
	} {
		to := netip.MustParseAddrPort(c.to)
		_, port, _ := net.SplitHostPort(c.to)
		if got := newSelf([]string{c.listen}, thisMachine).is(host{port: port}, to.Addr(), time.Now()); got != c.want {
			t.Errorf("listening on %s, %s is ours: %v", c.listen, c.to, got)
		}
	}
	broken := newSelf([]string{":25"}, func() ([]net.Addr, error) { return nil, errors.New("no netlink") })
	if broken.is(host{port: "25"}, netip.MustParseAddr("192.0.2.1"), time.Now()) {
		t.Error("an address is ours although nobody knows")
	}
}

// Addresses that come and go are noticed, and not looked up for each connection.
func TestOwnAddressesChange(t *testing.T) {
	looks, list := 0, []net.Addr(nil)
	s := newSelf([]string{":25"}, func() ([]net.Addr, error) { looks++; return list, nil })
	h, addr, now := host{port: "25"}, netip.MustParseAddr("192.0.2.1"), time.Now()
	if s.is(h, addr, now) {
		t.Error("not ours yet")
	}
	list, _ = thisMachine()
	if s.is(h, addr, now.Add(ownFor-1)) || looks != 1 {
		t.Errorf("%d looks", looks)
	}
	if !s.is(h, addr, now.Add(ownFor)) || looks != 2 {
		t.Errorf("%d looks, and it is not ours", looks)
	}
}

// No connection is made to ourselves, and none to a host behind: RFC 5321 §5.1.
func TestMailDoesNotComeBack(t *testing.T) {
	ehlo := "S 220 x\nC EHLO\nS 250 "
	for _, c := range []struct {
		name   string
		mx     []*net.MX
		smart  []string
		script map[string]string // by address
		want   string
		status string
	}{
		{name: "the MX is this machine", mx: []*net.MX{{Host: "us.example.", Pref: 1}, {Host: "b.example.", Pref: 2}}, script: map[string]string{"192.0.2.2": ""}, want: "failed", status: "5.4.6"},
		{name: "a better MX is busy", mx: []*net.MX{{Host: "b.example.", Pref: 1}, {Host: "us.example.", Pref: 2}, {Host: "c.example.", Pref: 3}},
			script: map[string]string{"192.0.2.2": "S 421 4.3.2 busy", "192.0.2.3": ""}, want: "deferred", status: "4.3.2"},
		{name: "the MX has our name", mx: []*net.MX{{Host: "b.example.", Pref: 1}, {Host: "c.example.", Pref: 2}},
			script: map[string]string{"192.0.2.2": ehlo + "Relay.example.edu greets you\nC QUIT", "192.0.2.3": ""}, want: "failed", status: "5.4.6"},
		{name: "a name that begins like ours", mx: []*net.MX{{Host: "b.example.", Pref: 1}},
			script: map[string]string{"192.0.2.2": ehlo + "relay.example.edu.evil.example\n" + accepted + "B\nS 250 ok\nC QUIT"}, want: "delivered", status: "0.0.0"},
		{name: "the smarthost is this machine", smart: []string{"us.example", "b.example"}, script: map[string]string{"192.0.2.2": ehlo + "b\n" + accepted + "B\nS 250 ok\nC QUIT"}, want: "delivered", status: "0.0.0"},
		{name: "the only smarthost is this machine", smart: []string{"us.example"}, want: "deferred", status: "4.4.6"},
		{name: "the smarthost has our name", smart: []string{"b.example"}, script: map[string]string{"192.0.2.2": ehlo + "relay.example.edu\nC QUIT"}, want: "deferred", status: "4.4.6"},
		{name: "a filter beside us has our name", smart: []string{"b.example:10024"}, script: map[string]string{"192.0.2.2:10024": ehlo + "relay.example.edu\n" + accepted + "B\nS 250 ok\nC QUIT"}, want: "delivered", status: "0.0.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := dialMap{}
			for addr, script := range c.script {
				if !strings.Contains(addr, ":") {
					addr += ":25"
				}
				if script == "" {
					d[addr] = newSink(t).addr()
				} else {
					d[addr] = newSink(t, script).addr()
				}
			}
			ip := map[string][]string{}
			for name, addr := range map[string]string{"us.example": "192.0.2.1", "b.example": "192.0.2.2", "c.example": "192.0.2.3"} {
				ip[name], ip[name+"."] = []string{addr}, []string{addr}
			}
			courier := newCourier(t, Options{
				Smarthosts: c.smart, Listeners: []string{":25", "192.0.2.1:587"}, Interfaces: thisMachine, Dialer: d, Reuse: Reuse{Messages: 1},
				Resolver: zone{mx: map[string][]*net.MX{"example.org.": c.mx}, ip: ip},
			})
			got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1))
			if outcomes(got) != c.want || got[0].Status.Enhanced.String() != c.status {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestFamilies(t *testing.T) {
	var in []netip.Addr
	for _, s := range []string{"192.0.2.1", "192.0.2.2", "::ffff:192.0.2.3", "2001:db8::1", "2001:db8::2"} {
		in = append(in, netip.MustParseAddr(s))
	}
	for family, want := range map[Family]string{
		"":        "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3",
		IPv6First: "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3",
		IPv4First: "192.0.2.1 2001:db8::1 192.0.2.2 2001:db8::2 192.0.2.3",
		IPv6Only:  "2001:db8::1 2001:db8::2",
		IPv4Only:  "192.0.2.1 192.0.2.2 192.0.2.3",
	} {
		var out []string
		for _, a := range family.order(in) {
			out = append(out, a.String())
		}
		if got := strings.Join(out, " "); got != want {
			t.Errorf("%s: %s", family, got)
		}
	}
	if _, err := New(Options{Hostname: "h", Family: "ipv5"}); err == nil {
		t.Error("a family that there is not")
	}
}

func TestNoAddressOfOurFamily(t *testing.T) {
	for _, domain := range []string{"example.org", "[IPv6:2001:db8::1]"} {
		courier := newCourier(t, Options{Family: IPv4Only, Resolver: zone{ip: map[string][]string{"example.org.": {"2001:db8::1"}}}, Dialer: dialMap{}})
		e := entry(1)
		e.Envelope.To[0].Address.Domain = domain
		got := courier.Deliver(t.Context(), e, bodyOf(content), indexes(1))
		if outcomes(got) != "failed" || !strings.Contains(got[0].Cause, "ipv4only") {
			t.Errorf("%+v", got)
		}
	}
}

// A connection comes from the address that was asked for.
func TestSource(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := DialFrom([]netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("127.0.0.7")})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if from := conn.LocalAddr().(*net.TCPAddr).IP.String(); from != "127.0.0.7" {
		t.Errorf("from %s", from)
	}
	if _, err := d.DialContext(t.Context(), "tcp", "[::1]:9"); err == nil {
		t.Error("an address that is not here was used")
	}
	for _, bad := range [][]string{{"127.0.0.1", "127.0.0.2"}, {"0.0.0.0"}, {"::"}, {"224.0.0.1"}} {
		var addrs []netip.Addr
		for _, s := range bad {
			addrs = append(addrs, netip.MustParseAddr(s))
		}
		if _, err := DialFrom(addrs); err == nil {
			t.Errorf("%v accepted", bad)
		}
	}
}

func TestEightBit(t *testing.T) {
	const sent = "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT"
	for _, c := range []struct {
		name, offers, body, script, want string
		strict                           bool
		declared                         mail.BodyType
	}{
		{name: "sent as it is", body: "Subject: x\r\n\r\nGrüße\r\n", script: sent, want: "delivered 0.0.0"},
		{name: "returned", body: "Subject: x\r\n\r\n" + strings.Repeat("x\r\n", 5000) + "Grüße\r\n", strict: true, script: "W", want: "failed 5.6.3"},
		{name: "in the header alone", body: "Subject: ü\r\n\r\nx\r\n", strict: true, script: "W", want: "failed 5.6.3"},
		{name: "offered", offers: "S 250-8BITMIME\n", body: "Subject: x\r\n\r\nGrüße\r\n", strict: true, script: sent, want: "delivered 0.0.0"},
		{name: "declared, and not so", body: content, declared: mail.Body8Bit, strict: true, script: sent, want: "delivered 0.0.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink(t, "S 220 sink\nC EHLO\nS 250-sink\n"+c.offers+"S 250 HELP\n"+c.script)
			e := entry(1)
			e.Envelope.Body = c.declared
			courier := newCourier(t, Options{Smarthosts: []string{s.addr()}, Reuse: Reuse{Messages: 1}, Strict8Bit: c.strict})
			got := courier.Deliver(t.Context(), e, bodyOf(c.body), indexes(1))
			if outcomes(got)+" "+got[0].Status.Enhanced.String() != c.want {
				t.Errorf("%+v", got)
			}
		})
	}
}
