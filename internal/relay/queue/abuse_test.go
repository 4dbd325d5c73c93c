package queue

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// TestOneThatStaysKeepsNoOthersInMemory: what is done is forgotten, whatever
// is still owed from before it.
func TestOneThatStaysKeepsNoOthersInMemory(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		first := b.send("r", "late@one.example")
		for i := range 1000 {
			b.send("r", fmt.Sprintf("x%d@two.example", i))
			synctest.Wait()
		}
		b.mu.Lock()
		kept := 0
		for it := b.sched.accepted.first; it != nil; it = it.after {
			kept++
		}
		b.mu.Unlock()
		if kept > 100 {
			t.Errorf("%d of 1001 items are in memory, and one is owed something", kept)
		}
		if s := b.Stats(); s.Entries != 1 || !s.Oldest.Equal(first.Envelope.Arrival) {
			t.Errorf("%+v", s)
		}
	})
}

// TestCachedEntriesAreBoundedByRecipients: a thousand recipients weigh a
// thousand times as much.
func TestCachedEntriesAreBoundedByRecipients(t *testing.T) {
	bubble(t, Options{Held: func(*spool.Entry) string { return "blocked" }}, func(b *bench) {
		var to []string
		for i := range 1000 {
			to = append(to, fmt.Sprintf("x%d@one.example", i))
		}
		for range 10 {
			b.send("r", to...)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		kept := 0
		for _, it := range b.sched.items {
			if it.entry != nil {
				kept += len(it.entry.Envelope.To)
			}
		}
		if kept == 0 || kept > maxCached {
			t.Errorf("%d recipients are kept in memory", kept)
		}
	})
}

// TestRequireTLSHoldsNobodyElseUp: a next hop without the TLS that one message
// asks for is not down.
func TestRequireTLSHoldsNobodyElseUp(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		b.c.set(func() {
			b.c.outcomes = func(to mail.Address, _ int) mail.Result {
				if to.Local == "secret" {
					return mail.Result{Cause: "no encrypted connection"}
				}
				return mail.Result{Outcome: mail.Delivered}
			}
		})
		env := message("r1", "secret@one.example")
		env.RequireTLS = true
		for range 20 {
			b.Accept(b.mem.put(env, []byte(text)))
		}
		synctest.Wait()
		b.send("r2", "a@one.example")
		synctest.Wait()
		if b.c.delivered("a@one.example") != 1 {
			t.Error("waits for a destination that is up")
		}
	})
}

// TestAnOperatorsHoldOutlastsABlock, also where both come at once.
func TestAnOperatorsHoldOutlastsABlock(t *testing.T) {
	var blocked atomic.Bool
	blocked.Store(true)
	var b *bench
	var once sync.Once
	o := Options{Held: func(e *spool.Entry) string {
		if !blocked.Load() {
			return ""
		}
		once.Do(func() { // between the attempt's question and its answer
			if err := b.order(Hold, e.ID, "evidence"); err != nil {
				t.Error(err)
			}
		})
		return "blocked"
	}}
	synctest.Test(t, func(t *testing.T) {
		b = run(t, o, newMemory(), newCourier())
		defer b.stop()
		e := b.send("r", "a@one.example")
		pass(time.Minute)
		blocked.Store(false)
		b.Recheck()
		pass(time.Hour)
		if row, err := b.Show(e.ID); err != nil || row.Status != "held" || row.Reason != "evidence" || b.c.count() != 0 {
			t.Errorf("%+v, %v, %d attempts", row, err, b.c.count())
		}
		b.check()
	})
}

// TestMailWithoutASenderIsHandedToThePostmaster, and ends there: RFC 5321 §6.1.
func TestMailWithoutASenderIsHandedToThePostmaster(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		b.c.set(func() {
			b.c.outcomes = func(mail.Address, int) mail.Result {
				return mail.Result{Outcome: mail.Failed, RemoteMTA: "mx", Status: mail.Status{Code: 550}}
			}
		})
		env := message("r", "bad@one.example")
		env.From, env.Client = mail.Address{}, netip.MustParseAddr("192.0.2.7")
		e := b.mem.put(env, []byte(text))
		b.Accept(e)
		pass(time.Hour)
		var told []call
		for _, k := range b.c.all() {
			if k.id != e.ID {
				told = append(told, k)
			}
		}
		if len(told) != 1 || told[0].to[0] != "postmaster@relay.example" || !strings.Contains(told[0].body, "X-Mark: original") || b.mem.len() != 0 {
			t.Errorf("%d are left, told: %+v", b.mem.len(), told)
		}
	})
}

// TestMailThatExpiredWhileTheRelayWasDownIsTriedFirst: nobody is given up
// without an attempt, and nobody waits for ever.
func TestMailThatExpiredWhileTheRelayWasDownIsTriedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, c := newMemory(), newCourier()
		for _, to := range []string{"a@one.example", "a@one.example", "a@one.example", "late@two.example", "b@dead.example", "c@dead.example"} {
			env := message("r", to)
			env.Arrival = time.Now().Add(-6 * day)
			mem.put(env, []byte(text))
		}
		c.takes, c.down["dead.example"] = time.Second, true
		b := run(t, Options{PerDestination: 1}, mem, c)
		defer b.stop()
		pass(lastChance + time.Minute)
		if c.delivered("a@one.example") != 3 || c.tried("late@two.example") != 1 || len(c.dsns()) != 3 || mem.len() != 0 {
			t.Errorf("delivered %v, %d DSNs, %d are left", c.copyOf(c.got), len(c.dsns()), mem.len())
		}
		b.check()
	})
}
