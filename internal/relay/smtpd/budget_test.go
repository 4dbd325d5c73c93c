package smtpd

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
)

// spent is a Limiter that says no to messages of 127.0.0.13, to the third
// recipient of 127.0.0.14, and to the third try of 127.0.0.15.
type spent struct{ tries atomic.Int32 }

func (s *spent) Check(v policy.Verdict, u Use, now time.Time) (Over, bool) {
	return Over{Limit: "500 recipients per hour", Whose: "127.0.0.14", RoomAt: now.Add(12 * time.Second), RoomIn: 12 * time.Second},
		v.Addr != netip.MustParseAddr("127.0.0.14") || u.Recipients < 3
}

func (s *spent) Take(v policy.Verdict, u Use, now time.Time) (Over, bool) {
	over := Over{Limit: "200 messages per hour", Whose: pathOf(v), RoomAt: now.Add(6 * time.Minute), RoomIn: 6 * time.Minute}
	if v.Addr == netip.MustParseAddr("127.0.0.15") && u.Recipients > 0 {
		return over, s.tries.Add(1) < 3
	}
	return over, v.Addr != netip.MustParseAddr("127.0.0.13")
}

func (*spent) Settle(policy.Verdict, Use, Use, time.Time) {}

// A ledger is a Limiter with one budget that never fills up again.
type ledger struct {
	mu   sync.Mutex
	most Use
	used Use
}

func (l *ledger) ask(u Use, take bool) (Over, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := Use{l.used.Sessions + u.Sessions, l.used.Messages + u.Messages, l.used.Recipients + u.Recipients, l.used.Octets + u.Octets}
	if next.Sessions > l.most.Sessions || next.Messages > l.most.Messages || next.Recipients > l.most.Recipients || next.Octets > l.most.Octets {
		return Over{Limit: "what there is", Whose: "registrations/lsa-physics/mfp.cue", RoomIn: time.Hour}, false
	}
	if take {
		l.used = next
	}
	return Over{}, true
}

func (l *ledger) Check(_ policy.Verdict, u Use, _ time.Time) (Over, bool) { return l.ask(u, false) }
func (l *ledger) Take(_ policy.Verdict, u Use, _ time.Time) (Over, bool)  { return l.ask(u, true) }
func (l *ledger) Settle(_ policy.Verdict, took, used Use, _ time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used.Messages += used.Messages - took.Messages
	l.used.Recipients += used.Recipients - took.Recipients
	l.used.Octets += used.Octets - took.Octets
}

func (l *ledger) now() Use {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

func plenty() *ledger { return &ledger{most: Use{1000, 1000, 1000, 1 << 40}} }

func TestAFullStoreCostsTheClientNoBudget(t *testing.T) {
	budget := plenty()
	budget.most.Messages = 1
	f := start(t, quick, func(o *Options) { o.Limiter = budget })
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	f.store.fail("create", ErrFull)
	for range 3 {
		c.transaction()
		c.do("DATA", "452 4.3.1")
	}
	f.store.fail("create", nil)
	c.transaction()
	c.do("DATA", "354")
	c.do(".", "250 2.0.0 accepted")
	c.do("MAIL FROM:<a@example.edu>", "250")
	c.do("RCPT TO:<b@example.org>", "451 4.7.1")
	if f.store.aborted != 0 || len(f.store.all()) != 1 {
		t.Errorf("%d aborted, %d stored", f.store.aborted, len(f.store.all()))
	}
}

// What is charged is what was accepted, in its real size; nothing else costs
// anything.
func TestWhatIsCharged(t *testing.T) {
	const hello = "Subject: x\r\n\r\nhello\r\n" // 21 octets
	big := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 20)
	accepted := Use{Messages: 1, Recipients: 1, Octets: int64(len(hello))}
	tests := []struct {
		name string
		fail string // of the store
		talk func(c *client)
		want Use
	}{
		{"an accepted message", "", func(c *client) { c.transaction(); c.do("DATA", "354"); c.do(hello+".", "250") }, accepted},
		{"in chunks", "", func(c *client) {
			c.transaction()
			c.do(fmt.Sprintf("BDAT %d LAST\r\n%s", len(hello), strings.TrimSuffix(hello, "\r\n")), "250")
		}, accepted},
		{"its real size, and not what was declared", "", func(c *client) {
			c.do("MAIL FROM:<a@example.edu> SIZE=900", "250")
			c.do("RCPT TO:<b@example.org>", "250")
			c.do("DATA", "354")
			c.do(hello+".", "250")
		}, accepted},
		{"two recipients, a third refused for its form", "", func(c *client) {
			c.transaction()
			c.do("RCPT TO:<c@example.org>", "250")
			c.do("RCPT TO:<c>", "553")
			c.do("DATA", "354")
			c.do(hello+".", "250")
		}, Use{Messages: 1, Recipients: 2, Octets: int64(len(hello))}},
		{"too large", "", func(c *client) { c.transaction(); c.do("DATA", "354"); c.do(big+".", "552") }, Use{}},
		{"a first chunk that is too large", "", func(c *client) {
			c.transaction()
			c.do("BDAT 2000 LAST\r\n"+strings.Repeat("x", 1998), "552")
		}, Use{}},
		{"broken off", "", func(c *client) { c.transaction(); c.do("DATA", "354"); c.send("half"); c.nc.Close() }, Use{}},
		{"abandoned in chunks", "", func(c *client) {
			c.transaction()
			c.do("BDAT 3\r\nx", "250")
			c.do("RSET", "250")
		}, Use{}},
		{"reset after RCPT", "", func(c *client) { c.transaction(); c.do("RSET", "250") }, Use{}},
		{"a store that fails to begin", "create", func(c *client) { c.transaction(); c.do("DATA", "451 4.3.0") }, Use{}},
		{"a store that fails to write", "write", func(c *client) { c.transaction(); c.do("DATA", "354"); c.do(hello+".", "451 4.3.0") }, Use{}},
		{"a store that fails to commit", "commit", func(c *client) { c.transaction(); c.do("DATA", "354"); c.do(hello+".", "451 4.3.0") }, Use{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			budget := plenty()
			f := start(t, Limits{MaxMessage: 1000, Refusal: time.Second}, func(o *Options) { o.Limiter = budget })
			if tt.fail != "" {
				f.store.fail(tt.fail, errors.New("the disk"))
			}
			c := f.dial(t, strictClient, relayPort)
			c.want("220")
			c.do("EHLO x", "250")
			tt.talk(c)
			f.cancel()
			f.served.Wait()
			if got := budget.now(); got != tt.want {
				t.Errorf("charged %+v, want %+v", got, tt.want)
			}
			if held := f.srv.memory.held.Load(); held != 0 {
				t.Errorf("%d octets of memory are still claimed", held)
			}
		})
	}
}

// What MAIL declares is asked for before the body comes.
func TestTheDeclaredSizeCounts(t *testing.T) {
	budget := plenty()
	budget.most.Octets = 500
	f := start(t, quick, func(o *Options) { o.Limiter = budget })
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.do("MAIL FROM:<a@example.edu> SIZE=501", "250")
	c.do("RCPT TO:<b@example.org>", "451 4.7.1 127.0.0.2 is over its limit of what there is (registrations/lsa-physics/mfp.cue); there is room again in 1h, at ")
}

func TestMemoryIsBounded(t *testing.T) {
	most := Limits{}.withDefaults().bodyMemory() + 3*recipientMemory
	f := start(t, Limits{Memory: most, Refusal: time.Second}, func(o *Options) { o.Limiter = nil })
	a, b := f.dial(t, strictClient, relayPort), f.dial(t, strictClient, relayPort)
	a.begin()
	b.want("220")
	b.do("EHLO x", "250")
	b.transaction()
	b.do("RCPT TO:<c@example.org>", "250")
	b.do("RCPT TO:<d@example.org>", "451 4.3.2 the relay has as many messages under way as it can hold")
	b.do("DATA", "451 4.3.2")
	a.do(".", "250 2.0.0 accepted")
	b.transaction()
	b.do("DATA", "354")
	b.do(".", "250 2.0.0 accepted")
	a.do("QUIT", "221")
	b.do("QUIT", "221")
	f.cancel()
	f.served.Wait()
	if held := f.srv.memory.held.Load(); held != 0 {
		t.Errorf("%d octets are still claimed", held)
	}
}

func TestStrangersHaveABudgetOfSessions(t *testing.T) {
	budget := plenty()
	budget.most.Sessions = 2
	f := start(t, quick, func(o *Options) { o.Limiter = budget })
	for range 2 {
		f.dial(t, "127.0.0.6", relayPort).want("220")
	}
	c := f.dial(t, "127.0.0.6", relayPort)
	c.want("421 4.7.1 127.0.0.6 is not registered with this relay and has used up its what there is; the next is in 1h, at ")
	c.wantClosed()
	f.dial(t, "127.0.0.7", relayPort).want("421 4.7.1 127.0.0.7 has a registration that has expired and has used up")
	for range 5 {
		f.dial(t, strictClient, relayPort).want("220")
	}
	if n := f.srv.Counts().Sessions; n != 7 {
		t.Errorf("%d sessions, want 7", n)
	}
}

func TestSessionsOfARegistrationAreBounded(t *testing.T) {
	f := start(t, Limits{SessionsPerRegistration: 2, Refusal: time.Second})
	f.dial(t, strictClient, relayPort).want("220")
	f.dial(t, "127.0.0.20", relayPort).want("220")
	f.dial(t, "127.0.0.21", relayPort).want("421 4.7.0 too many connections at once from the machines of registrations/lsa-physics/mfp.cue (2 are allowed)")
	f.dial(t, "127.0.0.6", relayPort).want("220")
}

func TestCrowdForgetsWhoLeft(t *testing.T) {
	c := newCrowd(Limits{Sessions: 100, SessionsPerAddress: 50, SessionsPerRegistration: 50}.withDefaults())
	f := &campus{}
	var leave []func()
	for i := range 60 {
		if l, full := c.enter(f.Lookup(netip.AddrFrom4([4]byte{127, 0, 0, byte(i%6) + 2}), time.Time{})); full == roomForAll {
			leave = append(leave, l)
		}
	}
	for _, l := range leave {
		l()
	}
	if c.all != 0 || c.strangers != 0 || len(c.each) != 0 || len(c.files) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "1s", time.Millisecond: "1s", 45 * time.Second: "45s", 6 * time.Minute: "6m", 90*time.Second + 1: "1m31s",
		time.Hour: "1h", 2*time.Hour + 5*time.Minute: "2h5m", 26*time.Hour + time.Second: "26h1m",
	} {
		if got := span(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
	if got := stamp(time.Date(2026, 11, 23, 12, 0, 0, 1, time.UTC)); got != "2026-11-23 12:00:01 UTC" {
		t.Errorf("got %q", got)
	}
}
