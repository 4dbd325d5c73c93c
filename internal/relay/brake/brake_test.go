package brake

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/mail"
)

var printer = Client{Registration: "registrations/lsa-physics/mfp.cue", Addr: netip.MustParseAddr("192.0.2.1"), PerHour: 200, Contact: "it@example.edu"}

// fresh is a brake that is kept nowhere.
func fresh(t testing.TB, change ...func(*Options)) *Brake {
	t.Helper()
	o := Options{Thresholds: thresholds()}
	for _, c := range change {
		c(&o)
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func to(n int) mail.Recipient {
	return mail.Recipient{Address: mail.Address{Local: fmt.Sprintf("user%d", n), Domain: "example.org"}}
}

// message is one to the recipients first to first+n-1.
func message(body uint64, first, n int) Message {
	m := Message{From: mail.Address{Local: "device", Domain: "example.edu"}, Octets: 1000, Body: body}
	for i := range n {
		m.To = append(m.To, to(first+i))
	}
	return m
}

// step is where the brake has c.
func (b *Brake) step(c Client) Step {
	if t := b.trackers[c.Registration]; t != nil {
		return t.state.Step
	}
	return Free
}

var failed = mail.Result{Outcome: mail.Failed, RemoteMTA: "mx.example.org", Status: mail.Status{Code: 550, Enhanced: mail.Enhanced{5, 1, 1}, Text: "no such user"}}

// Two weeks of what machines do that nothing is wrong with.
func TestWhatIsUsualIsNotBraked(t *testing.T) {
	tests := []struct {
		name string
		hour func(b *Brake, c Client, day, hour int, now time.Time)
	}{
		{"a printer that scans to 40 people, with a typing error now and then", func(b *Brake, c Client, day, hour int, now time.Time) {
			for i := range 25 {
				b.Accepted(c, message(uint64(day*1000+hour*100+i+1), (i*7+hour)%40, 1), now)
				r := mail.Result{Outcome: mail.Delivered}
				if i == 0 {
					r = failed
				}
				b.Result(c.Registration, r, now)
			}
		}},
		{"an application that tells 300 people the same once a day", func(b *Brake, c Client, day, hour int, now time.Time) {
			if hour == 6 {
				for i := range 300 {
					b.Accepted(c, message(uint64(day+1), i, 1), now.Add(time.Duration(i)*time.Second))
				}
			}
		}},
		{"an alarm that writes the same to two people every minute", func(b *Brake, c Client, _, _ int, now time.Time) {
			for i := range 60 {
				b.Accepted(c, message(7, 0, 2), now.Add(time.Duration(i)*time.Minute))
			}
		}},
		{"a queue of 400 that comes again twice an hour over the volume", func(b *Brake, c Client, day, hour int, now time.Time) {
			for range 2 {
				for i := range 400 {
					b.Refused(c, message(0, day*400+i, 1), now)
				}
				now = now.Add(30 * time.Minute)
			}
		}},
		{"a server that grows by the week", func(b *Brake, c Client, day, hour int, now time.Time) {
			for i := range 10 + 3*day {
				b.Accepted(c, message(uint64(i+1), day*5+hour*(10+3*day)+i, 1), now)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := fresh(t)
			for h := range 14 * 24 {
				now := noon.Add(time.Duration(h) * time.Hour)
				tt.hour(b, printer, h/24, h%24, now)
				if s := b.trackers[printer.Registration]; s != nil && s.state.Step != Free {
					t.Fatalf("day %d, hour %d: %+v", h/24, h%24, s.state)
				}
			}
		})
	}
}

func TestWhatIsNotUsualIsBraked(t *testing.T) {
	tests := []struct {
		name string
		kind string
		do   func(b *Brake, i int, now time.Time)
		most int
	}{
		{"messages over the volume", "volume", func(b *Brake, i int, now time.Time) { b.Refused(printer, message(0, i, 1), now) }, 1100},
		{"accepted ones count as well", "volume", func(b *Brake, i int, now time.Time) {
			if i%2 == 0 {
				b.Refused(printer, message(0, i, 1), now)
			} else {
				b.Accepted(printer, message(uint64(i), 1, 1), now)
			}
		}, 1100},
		{"the same text to many, one at a time", "same-body", func(b *Brake, i int, now time.Time) {
			b.Accepted(printer, message(7, i, 1), now.Add(time.Duration(i)*10*time.Second))
		}, 1100},
		{"the same text to many, a hundred at a time, between others", "same-body", func(b *Brake, i int, now time.Time) {
			b.Accepted(printer, message(7, i*100, 100), now)
			b.Accepted(printer, message(uint64(i+100), 1, 1), now)
		}, 12},
		{"other texts to many", "recipients", func(b *Brake, i int, now time.Time) {
			b.Accepted(printer, message(uint64(i+1), i*10, 10), now)
		}, 220},
		{"bounces", "bounces", func(b *Brake, _ int, now time.Time) { b.Result(printer.Registration, failed, now) }, 110},
		{"spam, in a status", "spam", func(b *Brake, _ int, now time.Time) {
			r := failed
			r.Status.Enhanced = mail.Enhanced{5, 7, 1}
			b.Result(printer.Registration, r, now)
		}, 25},
		{"spam, in words", "spam", func(b *Brake, _ int, now time.Time) {
			r := failed
			r.Status.Text = "Message considered SPAM"
			b.Result(printer.Registration, r, now)
		}, 25},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := fresh(t, func(o *Options) { o.Now = func() time.Time { return noon.Add(-3 * time.Hour) } })
			for i := range tt.most {
				tt.do(b, i, noon.Add(-3*time.Hour))
				if b.step(printer) == Slowed {
					break
				}
			}
			r, _ := b.Of(printer.Registration)
			if r.State.Step != Slowed || r.State.Why[0].Kind != tt.kind {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestAJumpOverWhatIsUsual(t *testing.T) {
	b := fresh(t)
	c := printer
	c.PerHour = 10_000
	day := func(n, recipients int) Step {
		now := noon.AddDate(0, 0, n)
		b.now = func() time.Time { return now }
		for i := range recipients {
			b.Accepted(c, message(uint64(i+1), i, 1), now)
		}
		return b.step(c)
	}
	for n := range 7 {
		if s := day(n, 100); s != Free {
			t.Fatalf("day %d: %s", n, s)
		}
	}
	if s := day(7, 900); s != Free {
		t.Errorf("nine times what is usual is braked: %s", s)
	}
	if s := day(8, 5000); s != Free {
		t.Errorf("900 are usual by now, and 5,000 are braked: %s", s)
	}
	if s := day(20, 5000); s != Free {
		t.Errorf("after a long silence nothing is usual: %s", s)
	}
	if s := day(21, 100); s != Free {
		t.Fatal(s)
	}
	b = fresh(t)
	for n := range 3 {
		day(n, 60)
	}
	if s := day(3, 1000); s != Slowed {
		t.Errorf("1,000 where 60 are usual: %s", s)
	}
}

// flood brings c to a step.
func flood(t testing.TB, b *Brake, c Client, step Step, now time.Time) time.Time {
	t.Helper()
	for i := range 20_000 {
		if i%100 == 0 {
			now = now.Add(time.Minute)
		}
		if b.step(c) >= step {
			return now
		}
		if _, ok := b.Ask(c, message(0, i, 1), now); ok {
			b.Refused(c, message(0, i, 1), now)
		}
	}
	t.Fatalf("it is never %s", step)
	return now
}

func TestSteps(t *testing.T) {
	now := noon
	b := fresh(t, func(o *Options) { o.Now = func() time.Time { return now } })
	other := Client{Registration: "other", Addr: netip.MustParseAddr("192.0.2.9"), PerHour: 10}

	now = flood(t, b, printer, Slowed, now)
	if _, ok := b.Ask(printer, message(0, 1, 1), now); !ok {
		t.Error("slowed, the first message does not come through")
	}
	said, ok := b.Ask(printer, message(0, 2, 1), now.Add(29*time.Second))
	if ok || said.Step != Slowed || said.Every != 30*time.Second || !strings.Contains(said.Why, "200 are declared") || said.Until.IsZero() {
		t.Errorf("slowed, the second message is told %+v", said)
	}
	if _, ok := b.Ask(printer, message(0, 2, 1), now.Add(30*time.Second)); !ok {
		t.Error("and does not come through when it is time")
	}
	if why := b.Holds(printer.Registration, now); why != "" {
		t.Errorf("slowed, queued mail is held: %s", why)
	}

	now = flood(t, b, printer, Held, now)
	if said, ok := b.Ask(printer, message(0, 1, 1), now.Add(time.Hour)); ok || said.Step != Held {
		t.Errorf("held, a message is told %+v", said)
	}
	if why := b.Holds(printer.Registration, now); !strings.HasPrefix(why, "the brake holds the mail of registrations/lsa-physics/mfp.cue: ") {
		t.Errorf("held, the queue is told %q", why)
	}

	now = flood(t, b, printer, Blocked, now)
	if said, ok := b.Ask(printer, message(0, 1, 1), now); ok || said.Step != Blocked {
		t.Errorf("blocked, a message is told %+v", said)
	}
	if _, ok := b.Ask(other, message(0, 1, 1), now); !ok || b.Holds("other", now) != "" {
		t.Error("others are braked, too")
	}
	if list := b.List(); len(list) != 1 || list[0].Path != printer.Registration || list[0].State.Step != Blocked || len(list[0].Machines) != 1 {
		t.Errorf("List tells %+v", list)
	}

	before, err := b.Release(printer.Registration, time.Hour, "a drill")
	if err != nil || before.Step != Blocked {
		t.Errorf("released from %s: %v", before.Step, err)
	}
	for i := range 5000 {
		b.Refused(printer, message(0, i, 1), now)
		if _, ok := b.Ask(printer, message(0, i, 1), now); !ok {
			t.Fatal("released, and braked within the hour")
		}
	}
	if _, err := b.Release(printer.Registration, 0, "again"); err == nil {
		t.Error("what is free is released")
	}
	now = now.Add(3 * time.Hour)
	now = flood(t, b, printer, Slowed, now)
	if _, err := b.Release(printer.Registration, 0, "and look again"); err != nil {
		t.Error(err)
	}
	if b.Refused(printer, message(0, 1, 1), now); b.step(printer) != Free {
		t.Error("released, and braked for what was before")
	}
}

func TestOff(t *testing.T) {
	b := fresh(t, func(o *Options) { o.Thresholds.Furthest = Free })
	for i := range 10_000 {
		b.Refused(printer, message(0, i, 1), noon)
		if _, ok := b.Ask(printer, message(0, i, 1), noon); !ok {
			t.Fatal("braked")
		}
	}
	if len(b.trackers) != 0 {
		t.Error("it watches")
	}
}

func TestIsSpam(t *testing.T) {
	for text, want := range map[string]bool{
		"5.7.1 rejected":                     true,
		"5.7.26 unauthenticated mail":        true,
		"5.1.1 no such user":                 false,
		"5.0.0 Spam message rejected":        true,
		"5.0.0 blocked, see the BLOCKLIST":   true,
		"5.2.2 mailbox full":                 false,
		"5.3.4 message too big for system":   false,
		"5.0.0 unsolicited mail":             true,
		"5.0.0 your host is on a blacklist.": true,
	} {
		var s mail.Status
		if _, err := fmt.Sscanf(text, "%d.%d.%d", &s.Enhanced[0], &s.Enhanced[1], &s.Enhanced[2]); err != nil {
			t.Fatal(err)
		}
		_, s.Text, _ = strings.Cut(text, " ")
		if got := isSpam(s); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// What never reached a next hop, or may still be delivered, is no bounce.
func TestOnlyNextHopsBounce(t *testing.T) {
	b := fresh(t)
	ours, later, code := failed, failed, failed
	ours.RemoteMTA = ""
	later.Outcome = mail.Deferred
	code.Status.Code = 451
	for range 1000 {
		for _, r := range []mail.Result{ours, later, code} {
			b.Result(printer.Registration, r, noon)
		}
	}
	if r, _ := b.Of(printer.Registration); r.Counts.Bounced != 0 || r.State.Step != Free {
		t.Errorf("%+v", r)
	}
}

// What was forgotten of a registration is not held against the others' next hops.
func TestReleasedResultsAreNobodys(t *testing.T) {
	b := fresh(t, func(o *Options) { o.Now = func() time.Time { return noon } })
	for range 2 {
		for range 300 {
			b.Result(printer.Registration, failed, noon)
		}
		if s := b.step(printer); s != Slowed {
			t.Fatalf("it is %s", s)
		}
		if _, err := b.Release(printer.Registration, 0, "again"); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		b.Result("other", failed, noon)
	}
	if r, _ := b.Of("other"); r.Counts.OthersBounced != 0 || r.Counts.Bounced != 50 {
		t.Errorf("%+v", r.Counts)
	}
}

// A next hop that refuses everybody's mail brakes nobody but, perhaps, the first.
func TestASickNextHopBrakesNobody(t *testing.T) {
	b := fresh(t)
	sick := failed
	sick.Status.Enhanced = mail.Enhanced{5, 7, 1}
	for i := range 5000 {
		b.Result(fmt.Sprintf("registrations/lab/%d.cue", i%20), sick, noon)
	}
	if list := b.List(); len(list) > 0 {
		t.Errorf("%d registrations are braked, %s first", len(list), list[0].State.words())
	}
}

func TestWindow(t *testing.T) {
	var w window
	add := func(after time.Duration, n int) { w.add(noon.Add(after), inHour, n) }
	sum := func(after time.Duration) int { return w.sum(noon.Add(after), inHour) }
	add(0, 5)
	add(30*time.Minute, 2)
	for after, want := range map[time.Duration]int{0: 0, 30 * time.Minute: 7, 59 * time.Minute: 7, 61 * time.Minute: 2, 3 * time.Hour: 0} {
		if got := sum(after); after > 0 && got != want {
			t.Errorf("after %s: %d, want %d", after, got, want)
		}
	}
	add(26*time.Minute, 1) // a clock that was set back a little
	if got := sum(30 * time.Minute); got != 8 {
		t.Errorf("%d", got)
	}
	add(-10*time.Hour, 1) // and by a lot
	if got := sum(-10 * time.Hour); got != 1 {
		t.Errorf("%d", got)
	}
	add(0, 1<<40)
	add(0, 1)
	if got := sum(0); got != 1<<32-1 {
		t.Errorf("%d", got)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	b := fresh(t, func(o *Options) { o.Registerer = reg })
	flood(t, b, printer, Slowed, noon)
	want := `
# HELP gatepost_brake_registrations Registrations that are braked now.
# TYPE gatepost_brake_registrations gauge
gatepost_brake_registrations{step="block"} 0
gatepost_brake_registrations{step="hold"} 0
gatepost_brake_registrations{step="slow"} 1
# HELP gatepost_brake_steps_total Steps that the abuse brake has taken.
# TYPE gatepost_brake_steps_total counter
gatepost_brake_steps_total{step="slow"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	b := fresh(t)
	var group sync.WaitGroup
	for k := range 8 {
		group.Go(func() {
			for i := range 300 {
				now := noon.Add(time.Duration(i) * time.Second)
				b.Ask(printer, message(7, k*300+i, 1), now)
				b.Accepted(printer, message(7, k*300+i, 1), now)
				b.Refused(printer, message(7, k*300+i, 1), now)
				b.Result(printer.Registration, failed, now)
				b.Holds(printer.Registration, now)
				b.List()
				b.clock(now)
				if i%50 == 0 {
					b.Release(printer.Registration, 0, "x")
				}
			}
		})
	}
	group.Wait()
}

func TestNotice(t *testing.T) {
	letter := Letterhead{Host: "relay.example.edu", Postmaster: mail.Address{Local: "postmaster", Domain: "example.edu"}, Portal: "https://relay.example.edu"}
	n := Notice{
		Registration: printer.Registration, Contact: printer.Contact,
		Machines: []Machine{{netip.MustParseAddr("2001:db8::1"), 2280}, {printer.Addr, 20}},
		State:    State{Step: Held, Since: noon},
		Counts:   Counts{Declared: 200, Tried: 2300, Delivered: 900, Bounced: 1200, Recipients: 2500, Usual: 40},
	}
	n.State.Why = thresholds().evidence(n.Counts)
	blocked := n
	blocked.State.Step, blocked.State.Until = Blocked, noon.Add(24*time.Hour)
	hostile := n
	hostile.Registration, hostile.Contact = "registrations/\r\nBcc: x'\x1b[2J\u202eé", "no mailbox\r\nBcc: y"
	hostile.State.Why = []Evidence{{Words: "\r\n.\r\nx " + strings.Repeat("x", 2000)}}
	for name, n := range map[string]Notice{"held": n, "blocked": blocked, "hostile": hostile} {
		t.Run(name, func(t *testing.T) {
			env, body := letter.Compose(n, noon.Add(time.Minute))
			got := fmt.Sprintf("%v\n%s", env.To, strings.ReplaceAll(string(body), "\r\n", "\n"))
			golden := "testdata/" + name + ".txt"
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || got != string(want) {
				t.Errorf("got\n%s\n%v", got, err)
			}
			if env.From != letter.Postmaster {
				t.Error("it is from somebody else")
			}
			for line := range strings.SplitSeq(string(body), "\r\n") {
				if len(line) > 998 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("line %q", line)
				}
			}
		})
	}
}
