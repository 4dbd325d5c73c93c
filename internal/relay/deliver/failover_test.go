package deliver

import (
	"net"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/mail"
)

// What a next hop says of itself before it asks for the message sends those
// who are open to the next one; what it says of one recipient stands.
// RFC 5321 §5.1.
func TestNextHopIsFollowedByTheNext(t *testing.T) {
	const (
		later  = "C MAIL\nS 451 4.7.1 later\nP C RCPT\nP S 503 no\nP C RCPT\nP S 503 no\nP C DATA\nP S 503 no\nC QUIT"
		second = "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT"
		one    = "C MAIL\nS 250 ok\nC RCPT TO:<r1@\nS 250 ok\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT"
		both   = "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC RCPT\nS 250 ok\n"
	)
	for _, c := range []struct {
		name   string
		hops   []string // scripts after EHLO; "-" is a host that is not there
		want   string
		remote string // of the second recipient
		stalls bool
	}{
		{name: "4xx to MAIL", hops: []string{later, second}, want: "delivered delivered", remote: "b.example"},
		{name: "421 to MAIL", hops: []string{"C MAIL\nS 421 bye\nX", second}, want: "delivered delivered", remote: "b.example"},
		{name: "closed at MAIL", hops: []string{"C MAIL\nX", second}, want: "delivered delivered", remote: "b.example"},
		{name: "stalls at MAIL", hops: []string{"C MAIL\nW", second}, want: "delivered delivered", remote: "b.example", stalls: true},
		{name: "no SMTP at MAIL", hops: []string{"C MAIL\nS +OK\nW", second}, want: "delivered delivered", remote: "b.example"},
		{name: "421 to the second RCPT", hops: []string{"C MAIL\nS 250 ok\nC RCPT\nS 550 5.1.1 no\nC RCPT\nS 421 bye\nX", one}, want: "failed delivered", remote: "b.example"},
		{name: "closed behind an accepted RCPT", hops: []string{"C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nX", second}, want: "delivered delivered", remote: "b.example"},
		{name: "421 to DATA", hops: []string{both + "C DATA\nS 421 bye\nX", second}, want: "delivered delivered", remote: "b.example"},
		{name: "three in trouble, and no fourth", hops: []string{later, later, later, ""}, want: "deferred deferred", remote: "c.example"},
		{name: "the others are gone", hops: []string{later, "-", "-"}, want: "deferred deferred", remote: "a.example"},
		{name: "the next refuses the message", hops: []string{later, "C MAIL\nS 550 5.7.1 no\nP C RCPT\nP S 503 no\nP C RCPT\nP S 503 no\nP C DATA\nP S 503 no\nC QUIT"}, want: "failed failed", remote: "b.example"},
		{name: "the next refuses us", hops: []string{later, "refuses"}, want: "deferred deferred", remote: "a.example"},

		{name: "5xx to MAIL stands", hops: []string{"C MAIL\nS 550 no\nP C RCPT\nP S 503 no\nP C RCPT\nP S 503 no\nP C DATA\nP S 503 no\nC QUIT", ""}, want: "failed failed", remote: "a.example"},
		{name: "4xx to RCPT stands", hops: []string{"C MAIL\nS 250 ok\nC RCPT\nS 450 later\nC RCPT\nS 450 later\nP C DATA\nP S 503 no\nC QUIT", ""}, want: "deferred deferred", remote: "a.example"},
		{name: "4xx to DATA stands", hops: []string{both + "C DATA\nS 451 later\nC QUIT", ""}, want: "deferred deferred", remote: "a.example"},
		{name: "4xx to the dot stands", hops: []string{both + "C DATA\nS 354 go\nB\nS 451 later\nC QUIT", ""}, want: "deferred deferred", remote: "a.example"},
		{name: "421 to the dot stands", hops: []string{both + "C DATA\nS 354 go\nB\nS 421 later\nX", ""}, want: "deferred deferred", remote: "a.example"},
		{name: "closed behind the dot: it may have the message", hops: []string{both + "C DATA\nS 354 go\nB\nX", ""}, want: "deferred deferred"},
	} {
		for _, smart := range []bool{true, false} {
			for _, hello := range []string{stepwise, pipelined} {
				name := c.name
				if smart {
					name += ", smarthosts"
				}
				if hello == pipelined {
					name += ", pipelined"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					z := zone{mx: map[string][]*net.MX{}, ip: map[string][]string{}}
					d := dialMap{}
					o := Options{Resolver: z, Dialer: d, Reuse: Reuse{Messages: 1}}
					if c.stalls {
						o.Timeouts = fast()
					}
					for i, script := range c.hops {
						host, addr := string(rune('a'+i))+".example", "192.0.2."+string(rune('1'+i))
						z.ip[host], z.ip[host+"."] = []string{addr}, []string{addr}
						z.mx["example.org."] = append(z.mx["example.org."], &net.MX{Host: host + ".", Pref: uint16(i)})
						if smart {
							o.Smarthosts = append(o.Smarthosts, host)
						}
						switch {
						case script == "-":
						case script == "": // one connection would be one too many
							d[addr+":25"] = newSink(t).addr()
						case script == "refuses":
							d[addr+":25"] = newSink(t, "S 554 5.7.1 no\nC QUIT").addr()
						default:
							d[addr+":25"] = newSink(t, hello+script).addr()
						}
					}
					got := newCourier(t, o).Deliver(t.Context(), entry(2), bodyOf(content), indexes(2))
					remote := c.remote
					if smart && c.name == "the next refuses us" {
						remote = "b.example" // which is as temporary, and later
					}
					if outcomes(got) != c.want || got[1].RemoteMTA != remote {
						t.Errorf("%+v", got)
					}
					if got[1].Outcome == mail.Deferred && got[1].Cause == "" {
						t.Error("no cause")
					}
				})
			}
		}
	}
}

// A kept connection whose peer is in trouble is followed by another next hop,
// and not by the same one again.
func TestKeptConnectionInTroubleIsFollowedByTheNext(t *testing.T) {
	z := zone{ip: map[string][]string{"a.example": {"192.0.2.1"}, "b.example": {"192.0.2.2"}}}
	first := newSink(t, pipelined+oneMore+"C MAIL\nS 250 ok\nC RCPT\nS 421 4.3.2 bye\nX")
	dialer := &recordingDialer{to: dialMap{
		"192.0.2.1:25": first.addr(),
		"192.0.2.2:25": newSink(t, pipelined+oneMore+"W").addr(),
	}}
	courier := newCourier(t, Options{Smarthosts: []string{"a.example", "b.example"}, Resolver: z, Dialer: dialer})
	for i, want := range []string{"a.example", "b.example"} {
		got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1))
		if outcomes(got) != "delivered" || got[0].RemoteMTA != want {
			t.Errorf("message %d: %+v", i, got)
		}
	}
	if want := []string{"192.0.2.1:25", "192.0.2.2:25"}; !slices.Equal(dialer.tried, want) {
		t.Errorf("tried %q", dialer.tried)
	}
	if hosts, _ := courier.route(t.Context(), smarthosts); hosts[0].name != "b.example" {
		t.Errorf("the first is asked first again: %+v", hosts)
	}
	if n := len(strings.Join(first.received(), "")); n == 0 {
		t.Error("the first was never asked")
	}
}
