package queue

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/mail"
)

func even(d time.Duration) time.Duration { return d }

// TestPace: what a destination may have under way after what it said.
func TestPace(t *testing.T) {
	now := time.Now()
	say := func(p *pace, v verdict, n int) {
		for range n {
			p.learn(v, p.round, p.slots(), now, even)
		}
	}
	t.Run("slow start", func(t *testing.T) {
		p := newPace(16)
		if p.slots() != windowStart {
			t.Errorf("begins with %d", p.slots())
		}
		say(&p, reached, 14)
		if p.slots() != 16 {
			t.Errorf("%d after 14 successes", p.slots())
		}
		say(&p, reached, 100)
		if p.slots() != 16 {
			t.Errorf("beyond its limit: %d", p.slots())
		}
	})
	t.Run("what is not used does not grow", func(t *testing.T) {
		p := newPace(16)
		for range 100 {
			p.learn(reached, p.round, 1, now, even)
		}
		if p.slots() != windowStart {
			t.Errorf("%d", p.slots())
		}
	})
	t.Run("one of many", func(t *testing.T) {
		p := newPace(16)
		say(&p, reached, 20)
		began := p.round
		p.learn(missed, began, 16, now, even)
		for range 15 {
			p.learn(reached, began, 16, now, even)
		}
		if p.slots() != 8 || p.failures != 0 || !p.blockedUntil.IsZero() {
			t.Errorf("%+v", p)
		}
		say(&p, reached, 200)
		if p.slots() != 16 {
			t.Errorf("it does not recover: %d", p.slots())
		}
	})
	t.Run("a whole round is one failure", func(t *testing.T) {
		p := newPace(16)
		say(&p, reached, 20)
		began := p.round
		for i := range 16 {
			if p.failures != 0 {
				t.Errorf("given up after %d of 16", i)
			}
			p.learn(missed, began, 16-i, now, even)
		}
		if p.failures != 1 || p.slots() != 1 || !p.blockedUntil.Equal(now.Add(backoffBase)) {
			t.Errorf("%+v", p)
		}
		p.learn(missed, began, 1, now, even) // of the same round
		if p.failures != 1 {
			t.Errorf("%+v", p)
		}
		later := now.Add(backoffBase)
		p.learn(missed, p.round, 1, later, even)
		if p.failures != 2 || !p.blockedUntil.Equal(later.Add(2*backoffBase)) {
			t.Errorf("%+v", p)
		}
		say(&p, reached, 1)
		if p.failures != 0 || p.slots() != windowStart || !p.blockedUntil.IsZero() {
			t.Errorf("back: %+v", p)
		}
		say(&p, reached, 14)
		if p.slots() != 16 {
			t.Errorf("%d soon after it was back", p.slots())
		}
	})
	t.Run("busy", func(t *testing.T) {
		p := newPace(16)
		say(&p, reached, 20)
		began := p.round
		for range 16 {
			p.learn(busy, began, 16, now, even)
		}
		if p.slots() != 8 || p.failures != 0 || !p.blockedUntil.IsZero() {
			t.Errorf("once for all of a round: %+v", p)
		}
		say(&p, busy, 3)
		if p.slots() != 1 || !p.blockedUntil.IsZero() {
			t.Errorf("%+v", p)
		}
		for n, want := range []time.Duration{1, 2, 4, 8} {
			if say(&p, busy, 1); !p.blockedUntil.Equal(now.Add(want*time.Second)) || p.failures != 0 {
				t.Errorf("pause %d: %+v", n, p)
			}
		}
		say(&p, busy, 50)
		if !p.blockedUntil.Equal(now.Add(pauseLimit)) {
			t.Errorf("%+v", p)
		}
		say(&p, reached, 1)
		if p.pauses != 0 || !p.blockedUntil.IsZero() {
			t.Errorf("%+v", p)
		}
	})
	t.Run("ours", func(t *testing.T) {
		p := newPace(4)
		say(&p, unsaid, 100)
		if p != newPace(4) {
			t.Errorf("%+v", p)
		}
	})
	for limit := 1; limit < 5; limit++ { // there is always one
		p := newPace(limit)
		for i := range 200 {
			say(&p, verdict(i*7%4), 1)
			if p.slots() < 1 || p.slots() > limit {
				t.Fatalf("limit %d: %+v", limit, p)
			}
		}
	}
}

func TestWhatIsSaidOfADestination(t *testing.T) {
	later := func(code mail.Code, e mail.Enhanced, text string) mail.Result {
		return mail.Result{RemoteMTA: "mx", Status: mail.Status{Code: code, Enhanced: e, Text: text}}
	}
	full := later(452, mail.Enhanced{4, 2, 2}, "mailbox full")
	for _, test := range []struct {
		results []mail.Result
		ours    bool
		want    verdict
	}{
		{nil, false, missed},
		{[]mail.Result{{}, {}}, false, missed},
		{[]mail.Result{{Cause: "certificate"}}, true, unsaid},
		{[]mail.Result{{Outcome: mail.Delivered}}, true, reached},
		{[]mail.Result{{}, {Outcome: mail.Failed}}, false, reached}, // no such domain
		{[]mail.Result{full}, false, reached},
		{[]mail.Result{later(450, mail.Enhanced{4, 7, 1}, "Greylisted, try again later")}, false, reached},
		{[]mail.Result{later(450, mail.Enhanced{4, 7, 1}, "Error: too many connections from 192.0.2.1")}, false, busy},
		{[]mail.Result{later(451, mail.Enhanced{4, 7, 500}, "Server busy. Please try again later")}, false, busy},
		{[]mail.Result{later(452, mail.Enhanced{4, 3, 2}, "later")}, false, busy},
		{[]mail.Result{later(421, mail.Enhanced{}, "bye"), later(421, mail.Enhanced{}, "bye")}, false, busy},
		{[]mail.Result{full, later(421, mail.Enhanced{}, "bye")}, false, reached},
		{[]mail.Result{later(550, mail.Enhanced{5, 7, 1}, "rate limit")}, false, reached},
	} {
		if got := whatWasSaid(test.results, test.ours); got != test.want {
			t.Errorf("%+v: %d, not %d", test.results, got, test.want)
		}
	}
}

// TestSlowStart: a destination gets two at first, and all that it may have
// within a few dozen messages.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier()
		c.takes = time.Second
		b := run(t, Options{PerDestination: 16}, newMemory(), c)
		defer b.stop()
		for i := range 200 {
			b.send("r", fmt.Sprintf("x%d@one.example", i))
		}
		pass(time.Second / 2)
		if n := c.atOnce("one.example"); n != 2 {
			t.Errorf("%d at first", n)
		}
		for sent := 0; c.atOnce("one.example") < 16; pass(time.Second) {
			if sent = c.count(); sent > 40 {
				t.Fatalf("%d at the same time after %d messages", c.atOnce("one.example"), sent)
			}
		}
		if s := b.Stats(); s.Destinations[0].Window != 16 || s.Destinations[0].Running != 16 {
			t.Errorf("%+v", s.Destinations)
		}
	})
}

// TestAWindowOutlastsAPause, and not the day.
func TestAWindowOutlastsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier()
		c.takes = time.Second
		b := run(t, Options{PerDestination: 16}, newMemory(), c)
		defer b.stop()
		flood := func(want int) {
			c.set(func() { c.most = map[string]int{} })
			for i := range 100 {
				b.send("r", fmt.Sprintf("x%d@one.example", i))
			}
			pass(time.Second / 2)
			if n := c.atOnce("one.example"); n != want {
				t.Errorf("%d at the same time at first, and not %d", n, want)
			}
			pass(time.Minute)
		}
		flood(2)
		pass(restedFor / 2)
		flood(16)
		pass(2 * restedFor)
		flood(2)
		// How many are remembered is bounded.
		r := rested{}
		for i := range 2 * restedMost {
			r.keep(fmt.Sprint(i), pace{window: 3}, time.Now())
		}
		if len(r) != restedMost {
			t.Errorf("%d windows are remembered", len(r))
		}
	})
}

// TestABusyDestinationGetsLess, as little as it wants, and is never given up.
func TestABusyDestinationGetsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier()
		c.takes = time.Second
		var most int
		c.outcomes = func(to mail.Address, _ int) mail.Result {
			if now := c.of(c.running, "one.example"); now > 3 {
				return mail.Result{RemoteMTA: "mx", Status: mail.Status{Code: 421, Text: "too many connections"}}
			}
			return mail.Result{Outcome: mail.Delivered, RemoteMTA: "mx"}
		}
		b := run(t, Options{PerDestination: 16, Schedule: []time.Duration{time.Minute}}, newMemory(), c)
		defer b.stop()
		for i := range 500 {
			b.send("r", fmt.Sprintf("x%d@one.example", i))
		}
		for range 3600 {
			pass(time.Second)
			if s := b.Stats(); len(s.Destinations) > 0 {
				most = max(most, s.Destinations[0].Running)
				if s.Destinations[0].Failures != 0 {
					t.Fatalf("%+v", s.Destinations)
				}
			}
		}
		if b.mem.len() != 0 || most > 8 {
			t.Errorf("%d are left, %d at the same time", b.mem.len(), most)
		}
		if n := c.count(); n > 900 {
			t.Errorf("%d attempts for 500 messages", n)
		}
	})
}
