package queue

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/mail"
)

// TestTheOtherIsNext: whoever has sent 40,000 messages to a destination has
// nothing before another one's first there.
func TestTheOtherIsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier()
		c.takes = time.Second
		b := run(t, Options{PerDestination: 1}, newMemory(), c)
		defer b.stop()
		for i := range 40_000 {
			b.send("flood", fmt.Sprintf("x%d@one.example", i))
		}
		pass(10*time.Second + time.Millisecond)
		before := c.count()
		b.send("small", "lucky@one.example")
		pass(4 * time.Second)
		at := -1
		for i, k := range c.all()[before:] {
			if k.registration == "small" {
				at = i
			}
		}
		if at < 0 || at > 2 { // one is under way, and one may be next
			t.Errorf("it is taken as number %d", at)
		}
		b.check()
	})
}

// TestTarpitsHoldNoOtherUp: a registration that sends to any number of next
// hops that hang leaves workers to others, and they leave some to a third.
func TestTarpitsHoldNoOtherUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier()
		b := run(t, Options{Workers: 64}, newMemory(), c)
		defer b.stop()
		tarpits := func(registration string) {
			for i := range 2000 {
				b.send(registration, fmt.Sprintf("stall@%s%d.example", registration, i%500))
			}
			pass(time.Minute)
		}
		tarpits("a")
		if n := b.Stats().Jobs["running"]; n != 48 {
			t.Errorf("one alone has %d of 64 workers", n)
		}
		for i, name := range []string{"b", "c", "nobody"} {
			b.send("other", fmt.Sprintf("x%d@good.example", i))
			synctest.Wait()
			if c.delivered(fmt.Sprintf("x%d@good.example", i)) != 1 {
				t.Errorf("beside %d: another waits", i+1)
			}
			if name == "nobody" {
				break
			}
			tarpits(name)
			if n := b.Stats().Jobs["running"]; n >= 64 {
				t.Errorf("nothing is left beside %d", i+2)
			}
		}
		b.check()
	})
}

// TestOldMailHoldsNoNewMailUp: not at its destination, and not by hanging at
// others; nor is it forgotten for the new.
func TestOldMailHoldsNoNewMailUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, c := newMemory(), newCourier()
		old := func(to string) {
			e := mem.put(message("r", to), nil)
			e.Attempts, e.Next = 1, time.Now()
			if err := mem.Update(e); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 1000 {
			old(fmt.Sprintf("stall@tar%d.example", i))
		}
		for i := range 1000 {
			old(fmt.Sprintf("old%d@one.example", i))
		}
		b := run(t, Options{PerDestination: 1, Workers: 16}, mem, c)
		defer b.stop()
		pass(time.Second)
		if n := b.Stats().Jobs["running"]; n != 8 {
			t.Errorf("retries have %d of 16 workers", n)
		}
		c.set(func() { c.takes = time.Second })
		b.send("r", "new@two.example")
		pass(2 * time.Second)
		if c.delivered("new@two.example") != 1 {
			t.Error("new mail waits for retries that hang")
		}
		b.check()
	})
	synctest.Test(t, func(t *testing.T) {
		mem, c := newMemory(), newCourier()
		c.takes = time.Second
		for i := range 1000 {
			e := mem.put(message("r", fmt.Sprintf("old%d@one.example", i)), nil)
			e.Attempts, e.Next = 1, time.Now()
			if err := mem.Update(e); err != nil {
				t.Fatal(err)
			}
		}
		b := run(t, Options{PerDestination: 1}, mem, c)
		defer b.stop()
		pass(time.Second)
		for i := range 100 {
			b.send("r", fmt.Sprintf("new%d@one.example", i))
		}
		pass(41 * time.Second)
		var fresh, tried int
		for _, k := range c.all() {
			if k.to[0][0] == 'n' {
				fresh++
			} else {
				tried++
			}
		}
		if fresh < 28 || tried < 9 {
			t.Errorf("%d new and %d old messages in 40 turns", fresh, tried)
		}
		b.check()
	})
}

// TestNothingIsLeftOfAShare once nothing is owed, and nothing waits for ever
// that was parked.
func TestNothingIsLeftOfAShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier()
		c.takes = time.Second
		c.outcomes = func(to mail.Address, nth int) mail.Result {
			if to.Local[0] == 'l' && nth < 3 {
				return mail.Result{RemoteMTA: "mx", Status: mail.Status{Code: 450}}
			}
			return mail.Result{Outcome: mail.Delivered, RemoteMTA: "mx"}
		}
		b := run(t, Options{Workers: 8, PerDestination: 4}, newMemory(), c)
		defer b.stop()
		var last string
		for i := range 3000 {
			to := fmt.Sprintf("%c%d@d%d.example", "xl"[i%2], i, i%37)
			e := b.send(fmt.Sprintf("r%d", i%5), to)
			if i%50 == 7 {
				if err := b.order(Hold, e.ID, ""); err != nil {
					t.Fatal(err)
				}
				last = to
			}
		}
		pass(3 * time.Hour)
		b.check()
		if n := b.mem.len(); n != 60 {
			t.Errorf("%d are left", n)
		}
		if _, err := b.do(Order{Verb: Release}); err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Hour)
		if n := b.mem.len(); n != 0 || c.delivered(last) != 1 {
			t.Errorf("%d are left", n)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if s := &b.sched; len(s.shares) != 0 || len(s.dests) != 0 || s.running != 0 || s.parked.len() != 0 {
			t.Errorf("%d shares, %d destinations, %d running, %d parked", len(s.shares), len(s.dests), s.running, s.parked.len())
		}
	})
}
