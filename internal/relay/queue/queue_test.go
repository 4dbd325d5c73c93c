package queue

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

const day = 24 * time.Hour

func delivered(mail.Address, int) mail.Result { return mail.Result{Outcome: mail.Delivered} }

func TestDeliveredAtOnceAndGone(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		b.send("r", "a@one.example", "b@one.example", "c@two.example")
		synctest.Wait()
		if b.mem.len() != 0 || b.c.delivered("a@one.example") != 1 || b.c.delivered("b@one.example") != 1 || b.c.delivered("c@two.example") != 1 {
			t.Errorf("left %d, got %v", b.mem.len(), b.c.copyOf(b.c.got))
		}
		if b.c.count() != 2 {
			t.Errorf("%d transactions for two destinations", b.c.count())
		}
		if s := b.Stats(); s.Entries != 0 || len(s.Destinations) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestNoReadOfTheSpoolOnTheFirstAttempt(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		b.send("r", "a@one.example")
		synctest.Wait()
		if b.mem.gets.Load() != 0 {
			t.Errorf("%d reads", b.mem.gets.Load())
		}
	})
}

// TestFiveDays follows a message that nobody takes to its end.
func TestFiveDays(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		start := time.Now()
		e := b.send("r", "late@one.example")
		pass(4*time.Hour + time.Minute)
		if n := len(b.c.dsns()); n != 1 || !strings.Contains(b.c.dsns()[0].body, "delayed") {
			t.Fatalf("%d DSNs after four hours", n)
		}
		row, err := b.Show(e.ID)
		if err != nil || row.Status != "waiting" || row.Attempts < 5 || row.Delayed.IsZero() || !row.Next.After(time.Now()) {
			t.Errorf("%+v, %v", row, err)
		}
		pass(5*day - 4*time.Hour - 2*time.Minute)
		if n := len(b.c.dsns()); n != 1 || b.mem.len() != 1 {
			t.Fatalf("%d DSNs and %d entries just before the expiry", n, b.mem.len())
		}
		pass(2 * time.Minute)
		dsns := b.c.dsns()
		if len(dsns) != 2 || b.mem.len() != 0 {
			t.Fatalf("%d DSNs and %d entries after the expiry", len(dsns), b.mem.len())
		}
		if last := dsns[1]; last.to[0] != sender || !strings.Contains(last.body, "5.4.7") || !strings.Contains(last.body, "X-Mark: original") {
			t.Errorf("the failure: %v\n%s", last.to, last.body)
		}
		var at []time.Duration
		for _, k := range b.c.all() {
			if !k.from.IsNull() {
				at = append(at, k.at.Sub(start))
			}
		}
		// 5, 10, 20, 40, 80, 160 minutes, then every four hours, each ±10 %.
		if len(at) < 33 || len(at) > 41 {
			t.Errorf("%d attempts in five days", len(at))
		}
		for i, want := range []time.Duration{0, 5, 10, 20, 40, 80, 160, 240, 240} {
			if i == 0 {
				continue
			}
			gap := at[i] - at[i-1]
			if want *= time.Minute; gap < want*9/10 || gap > want*11/10 {
				t.Errorf("attempt %d comes %v after the one before, not %v", i, gap, want)
			}
		}
	})
}

func TestEachRecipientHasItsOwnOutcome(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		e := b.send("r", "good@one.example", "bad1@one.example", "late@one.example", "bad2@two.example")
		synctest.Wait()
		row, err := b.Show(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, st := range row.State {
			got = append(got, fmt.Sprint(st.Done, " ", st.Last.Outcome))
		}
		want := []string{"true delivered", "true failed", "false deferred", "true failed"}
		if !slices.Equal(got, want) {
			t.Errorf("states %v, not %v", got, want)
		}
		if dsns := b.c.dsns(); len(dsns) != 2 {
			t.Errorf("%d DSNs for two transactions with a failure", len(dsns))
		}
		b.c.set(func() { b.c.outcomes = delivered })
		pass(6 * time.Minute)
		if b.mem.len() != 0 || b.c.tried("good@one.example") != 1 || b.c.tried("bad1@one.example") != 1 || b.c.tried("late@one.example") != 2 {
			t.Errorf("left %d, tries %v", b.mem.len(), b.c.copyOf(b.c.tries))
		}
	})
}

func TestNobodyIsToldOfAFailedDSN(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		env := message("", "bad@one.example")
		env.From = mail.Address{}
		b.Accept(b.mem.put(env, []byte(text)))
		never := message("r", "bad@one.example")
		never.To[0].Notify = "NEVER"
		b.Accept(b.mem.put(never, []byte(text)))
		synctest.Wait()
		if b.mem.len() != 0 || b.c.count() != 2 {
			t.Errorf("left %d, %d attempts", b.mem.len(), b.c.count())
		}
		// The sender of a real one cannot be reached either: it ends there.
		b.c.set(func() {
			b.c.outcomes = func(mail.Address, int) mail.Result {
				return mail.Result{Outcome: mail.Failed, RemoteMTA: "mx", Status: mail.Status{Code: 550}}
			}
		})
		b.send("r", "bad@one.example")
		synctest.Wait()
		if b.mem.len() != 0 || b.c.count() != 4 {
			t.Errorf("left %d, %d attempts", b.mem.len(), b.c.count())
		}
	})
}

func TestFailureStaysWhileTheDSNCannotBeStored(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		b.mem.mu.Lock()
		b.mem.full = true
		b.mem.mu.Unlock()
		e := b.send("r", "bad@one.example", "good@one.example")
		pass(time.Minute)
		if row, err := b.Show(e.ID); err != nil || row.State[0].Done || !row.State[1].Done {
			t.Fatalf("%+v, %v", row, err)
		}
		b.mem.mu.Lock()
		b.mem.full = false
		b.mem.mu.Unlock()
		pass(10 * time.Minute)
		if len(b.c.dsns()) != 1 || b.mem.len() != 0 || b.c.delivered("good@one.example") != 1 {
			t.Errorf("%d DSNs, left %d, got %v", len(b.c.dsns()), b.mem.len(), b.c.copyOf(b.c.got))
		}
	})
}

// TestFairBetweenRegistrations: one's 40,000 do not delay another's one beyond
// a round.
func TestFairBetweenRegistrations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier()
		c.takes = time.Second
		b := run(t, Options{PerDestination: 4, Workers: 8}, newMemory(), c)
		defer b.stop()
		for i := range 40_000 {
			b.send("flood", fmt.Sprintf("x%d@one.example", i))
		}
		pass(10*time.Second + time.Millisecond)
		before := c.count()
		b.send("small", "lucky@one.example")
		pass(2 * time.Second)
		if c.delivered("lucky@one.example") != 1 {
			t.Error("the other registration's message waits")
		}
		if n := c.count() - before; n > 12 {
			t.Errorf("%d attempts meanwhile", n)
		}
		if c.atOnce("one.example") != 4 {
			t.Errorf("%d attempts at the same time", c.atOnce("one.example"))
		}
		// Another destination has slots of its own.
		b.send("flood", "y@two.example")
		pass(time.Second)
		if c.delivered("y@two.example") != 1 {
			t.Error("another destination waits")
		}
		b.check()
	})
}

func TestThreeRegistrationsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, c := newMemory(), newCourier()
		c.takes = time.Second
		for i := range 90 {
			mem.put(message(fmt.Sprintf("r%d", i/30), fmt.Sprintf("x%d@one.example", i)), nil)
		}
		b := run(t, Options{PerDestination: 1}, mem, c)
		defer b.stop()
		synctest.Wait()
		pass(61*time.Second + time.Millisecond)
		seen := map[string]int{}
		for _, k := range c.all()[1:] { // the first goes before the others are loaded
			seen[k.registration]++
		}
		if seen["r0"] != 20 || seen["r1"] != 20 || seen["r2"] != 20 {
			t.Errorf("%v", seen)
		}
	})
}

// TestADeadDestinationIsProbed: one attempt at a time, further and further
// apart, while others go on; and all goes out when it is back.
func TestADeadDestinationIsProbed(t *testing.T) {
	bubble(t, Options{PerDestination: 4, Workers: 8}, func(b *bench) {
		b.c.set(func() { b.c.down["dead.example"] = true })
		for i := range 500 {
			b.send("r", fmt.Sprintf("x%d@dead.example", i))
		}
		pass(2 * time.Hour)
		probes := b.c.count()
		if probes < 8 || probes > 30 {
			t.Errorf("%d attempts in two hours for 500 messages", probes)
		}
		b.send("r", "a@live.example")
		synctest.Wait()
		if b.c.delivered("a@live.example") != 1 {
			t.Error("a live destination waits for a dead one")
		}
		if s := b.Stats(); len(s.Destinations) != 1 || s.Destinations[0].Failures < 5 || s.Destinations[0].Jobs != 500 {
			t.Errorf("%+v", s)
		}
		b.c.set(func() { b.c.down = nil })
		pass(5 * time.Hour)
		if b.mem.len() != 0 {
			t.Errorf("%d are left", b.mem.len())
		}
	})
}

func TestADeadDestinationExpiresAll(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		b.c.set(func() { b.c.down["dead.example"] = true })
		for i := range 300 {
			b.send("r", fmt.Sprintf("x%d@dead.example", i))
		}
		pass(5*day + time.Minute)
		if b.mem.len() != 0 || len(b.c.dsns()) != 600 { // a delay and a failure each
			t.Errorf("%d are left, %d DSNs", b.mem.len(), len(b.c.dsns()))
		}
	})
}

func TestHeldMailWaitsForRecheck(t *testing.T) {
	var blocked atomic.Bool
	blocked.Store(true)
	o := Options{Held: func(e *spool.Entry) string {
		if blocked.Load() && e.Envelope.Registration == "r1" {
			return "blocked"
		}
		return ""
	}}
	bubble(t, o, func(b *bench) {
		e := b.send("r1", "a@one.example", "b@two.example")
		b.send("r2", "c@one.example")
		pass(time.Hour)
		row, err := b.Show(e.ID)
		if err != nil || row.Status != "held" || row.Reason != "blocked" || b.c.count() != 1 {
			t.Fatalf("%+v, %v, %d attempts", row, err, b.c.count())
		}
		b.Recheck()
		synctest.Wait()
		if b.c.count() != 1 {
			t.Error("released while the block stands")
		}
		blocked.Store(false)
		b.Recheck()
		synctest.Wait()
		if b.mem.len() != 0 || b.c.count() != 3 {
			t.Errorf("left %d, %d attempts", b.mem.len(), b.c.count())
		}
	})
}

// TestABlockHoldsWhatIsNotDue at once, and gives it back as it was.
func TestABlockHoldsWhatIsNotDue(t *testing.T) {
	var blocked atomic.Bool
	bad := netip.MustParseAddr("192.0.2.7")
	o := Options{Schedule: []time.Duration{time.Hour}, Held: func(e *spool.Entry) string {
		if blocked.Load() && e.Envelope.Client == bad && e.Envelope.Registration == "r" && !e.Envelope.Arrival.IsZero() && e.ID != "" {
			return "blocked"
		}
		return ""
	}}
	bubble(t, o, func(b *bench) {
		b.c.set(func() {
			b.c.outcomes = func(mail.Address, int) mail.Result {
				return mail.Result{RemoteMTA: "mx", Status: mail.Status{Code: 450}}
			}
		})
		for _, client := range []netip.Addr{bad, netip.MustParseAddr("192.0.2.8")} {
			env := message("r", "a@one.example")
			env.Client = client
			b.Accept(b.mem.put(env, []byte("Subject: x\r\n\r\n")))
		}
		pass(time.Minute)
		blocked.Store(true)
		b.Recheck()
		synctest.Wait()
		if s := b.Stats(); s.Jobs["held"] != 1 || s.Jobs["waiting"] != 1 {
			t.Fatalf("%v", s.Jobs)
		}
		before := b.c.count()
		pass(2 * time.Hour)
		if n := b.c.count() - before; n != 1 && n != 2 { // of the other one
			t.Errorf("%d attempts", n)
		}
		blocked.Store(false)
		b.Recheck()
		synctest.Wait()
		if s := b.Stats(); s.Jobs["held"] != 0 {
			t.Errorf("%v", s.Jobs)
		}
		b.c.set(func() { b.c.outcomes = nil })
		pass(2 * time.Hour)
		if b.mem.len() != 0 {
			t.Errorf("%d are left", b.mem.len())
		}
	})
}

// TestBlockedMailIsNobodysNews: no delay is told and nothing expires as long as
// a block stands, over a restart too; what is over then has one more attempt.
func TestBlockedMailIsNobodysNews(t *testing.T) {
	var blocked atomic.Bool
	blocked.Store(true)
	o := Options{DelayAfter: 4 * time.Hour, Expiry: 5 * day, Held: func(*spool.Entry) string {
		if blocked.Load() {
			return "blocked"
		}
		return ""
	}}
	synctest.Test(t, func(t *testing.T) {
		mem, c := newMemory(), newCourier()
		b := run(t, o, mem, c)
		b.send("r", "a@one.example")
		b.send("r", "late@one.example")
		pass(3 * day)
		b.stop()
		b = run(t, o, mem, c)
		pass(7 * day)
		if mem.len() != 2 || c.count() != 0 || len(c.dsns()) != 0 {
			t.Fatalf("%d are left after %d attempts, %d DSNs", mem.len(), c.count(), len(c.dsns()))
		}
		c.set(func() {
			c.outcomes = func(to mail.Address, _ int) mail.Result {
				if to.Local == "late" {
					return mail.Result{RemoteMTA: "mx", Status: mail.Status{Code: 450}}
				}
				return mail.Result{Outcome: mail.Delivered}
			}
		})
		blocked.Store(false)
		b.Recheck()
		pass(2 * time.Hour)
		if mem.len() != 0 || c.delivered("a@one.example") != 1 || len(c.dsns()) != 1 {
			t.Errorf("%d are left, %d DSNs", mem.len(), len(c.dsns()))
		}
		// What was held for an hour only is late after four, as any other.
		blocked.Store(true)
		b.send("r", "late@one.example")
		pass(time.Hour)
		blocked.Store(false)
		b.Recheck()
		pass(2 * time.Hour)
		if len(c.dsns()) != 1 {
			t.Errorf("%d DSNs after three hours", len(c.dsns()))
		}
		pass(time.Hour + time.Minute)
		if len(c.dsns()) != 2 {
			t.Errorf("%d DSNs after four hours", len(c.dsns()))
		}
		b.stop()
	})
}

func TestCourierThatStalls(t *testing.T) {
	bubble(t, Options{PerDestination: 2, Workers: 4, Grace: time.Minute}, func(b *bench) {
		for range 10 {
			b.send("r", "stall@slow.example")
		}
		b.send("r", "a@one.example")
		pass(time.Hour)
		if b.c.delivered("a@one.example") != 1 {
			t.Error("a stalled destination holds up another")
		}
		start := time.Now()
		b.stop() // cuts the two under way after Grace
		if took := time.Since(start); took != time.Minute {
			t.Errorf("Run ended after %v", took)
		}
		if b.mem.len() != 10 {
			t.Errorf("%d entries are left", b.mem.len())
		}
		for _, e := range b.mem.entries {
			if e.Attempts != 0 {
				t.Errorf("an attempt that was cut short counted: %+v", e)
			}
		}
	})
}

func TestRestartMidWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, c := newMemory(), newCourier()
		b := run(t, Options{}, mem, c)
		e := b.send("r", "good@one.example", "late@one.example", "late@two.example")
		pass(5 * time.Hour)
		tries := c.tried("late@one.example")
		if len(c.dsns()) != 1 {
			t.Fatalf("%d DSNs", len(c.dsns()))
		}
		b.stop()

		b = run(t, Options{}, mem, c)
		defer b.stop()
		synctest.Wait()
		if c.tried("late@one.example") != tries {
			t.Error("a restart does not wait for the next attempt")
		}
		pass(5 * time.Hour)
		if c.tried("late@one.example") == tries || c.tried("good@one.example") != 1 || len(c.dsns()) != 1 {
			t.Errorf("tries %v, %d DSNs", c.copyOf(c.tries), len(c.dsns()))
		}
		if row, _ := b.Show(e.ID); row.Attempts < 8 {
			t.Errorf("%d attempts", row.Attempts)
		}
		c.set(func() { c.outcomes = delivered })
		pass(5 * time.Hour)
		if mem.len() != 0 {
			t.Errorf("%d entries are left", mem.len())
		}
		b.check()
	})
}

func TestManyRecipientsAreSplit(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		var to []string
		for i := range 250 {
			to = append(to, fmt.Sprintf("x%d@one.example", i))
		}
		b.send("r", to...)
		synctest.Wait()
		var sizes []int
		for _, k := range b.c.all() {
			sizes = append(sizes, len(k.to))
		}
		slices.Sort(sizes)
		if !slices.Equal(sizes, []int{50, 100, 100}) || b.mem.len() != 0 {
			t.Errorf("transactions of %v, left %d", sizes, b.mem.len())
		}
	})
}

func TestResultsThatAreMissingAreDeferred(t *testing.T) {
	now := time.Now()
	e := &spool.Entry{Envelope: message("r", "a@x.example", "b@x.example", "c@x.example"), State: make([]spool.RecipientState, 3)}
	o := judge(e, []int{0, 2}, []mail.Result{{Outcome: mail.Delivered}}, now, now.Add(1))
	if !slices.Equal(o.delivered, []int{0}) || !slices.Equal(o.left, []int{2}) || e.State[0].Done {
		t.Errorf("%+v", o)
	}
	o = judge(e, []int{0}, []mail.Result{{Outcome: 17, RemoteMTA: "mx"}}, now, now.Add(1))
	if !slices.Equal(o.left, []int{0}) {
		t.Errorf("an unknown outcome: %+v", o)
	}
	if o := judge(e, []int{1}, nil, now, now); !slices.Equal(o.failed, []int{1}) || o.entry.State[1].Last.Status.Enhanced != (mail.Enhanced{5, 4, 7}) {
		t.Errorf("at the deadline: %+v", o)
	}
}
