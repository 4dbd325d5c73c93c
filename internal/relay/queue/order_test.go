package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// do gives an order and returns what became of each message.
func (b *bench) do(o Order) (map[spool.ID]Did, error) {
	all := map[spool.ID]Did{}
	err := b.Do(b.t.Context(), o, func(d Did) error {
		if _, twice := all[d.ID]; twice {
			b.t.Errorf("%s is told twice", d.ID)
		}
		all[d.ID] = d
		return nil
	})
	synctest.Wait()
	return all, err
}

func fates(did map[spool.ID]Did) map[Fate]int {
	n := map[Fate]int{}
	for _, d := range did {
		n[d.Fate]++
	}
	return n
}

func TestWhatAFilterSelects(t *testing.T) {
	env := message("registrations/a.cue", "Ann@Good.example", "done@other.example")
	env.Client = netip.MustParseAddr("192.0.2.7")
	row := &Row{Entry: &spool.Entry{Envelope: env, State: []spool.RecipientState{{}, {Done: true}}}, Status: "waiting", Destinations: []string{"good.example"}}
	null := &Row{Entry: &spool.Entry{Envelope: message("", "x@y.example"), State: make([]spool.RecipientState, 1)}}
	null.Envelope.From = mail.Address{}
	for _, test := range []struct {
		f    Filter
		row  *Row
		want bool
	}{
		{Filter{}, row, true},
		{Filter{Registration: "registrations/a.cue"}, row, true},
		{Filter{Registration: "registrations/a"}, row, false},
		{Filter{Status: "held"}, row, false},
		{Filter{Destination: "GOOD.example"}, row, true},
		{Filter{Destination: "other.example"}, row, false},
		{Filter{Client: netip.MustParsePrefix("192.0.2.0/24")}, row, true},
		{Filter{Client: netip.MustParsePrefix("192.0.2.8/32")}, row, false},
		{Filter{Client: netip.MustParsePrefix("0.0.0.0/0")}, null, false},
		{Filter{Sender: sender}, row, true},
		{Filter{Sender: strings.ToUpper(sender)}, row, false},
		{Filter{Sender: "scanner@SENDER.example"}, row, true},
		{Filter{Sender: "@sender.example"}, row, true},
		{Filter{Sender: "@example"}, row, false},
		{Filter{Sender: "<>"}, row, false},
		{Filter{Sender: "<>"}, null, true},
		{Filter{Sender: "@"}, null, false},
		{Filter{Recipient: "Ann@good.example"}, row, true},
		{Filter{Recipient: "ann@good.example"}, row, false},
		{Filter{Recipient: "@good.EXAMPLE"}, row, true},
		{Filter{Recipient: "@other.example"}, row, false}, // has it already
		{Filter{Recipient: "good.example"}, row, false},
	} {
		if got := test.f.matcher()(test.row); got != test.want {
			t.Errorf("%+v: %v", test.f, got)
		}
	}
}

// TestAnOrderGoesByPieces: one sync for many, each told once, and what comes
// after what the operator has seen is left alone.
func TestAnOrderGoesByPieces(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		for i := range 2*pieceDone + 10 {
			b.send("r", fmt.Sprintf("late%d@one.example", i))
		}
		other := b.send("other", "late@two.example")
		pass(time.Minute)
		c, err := b.Choose(b.t.Context(), Filter{Registration: "r"})
		if err != nil || c.Messages != 2*pieceDone+10 || c.Recipients != c.Messages || len(c.Registrations) != 1 || c.Senders[0] != (Part{sender, c.Messages}) || c.Statuses["waiting"] != c.Messages {
			t.Fatalf("%+v, %v", c, err)
		}
		pass(time.Second)
		newer := b.send("r", "late@one.example")
		synctest.Wait()
		did, err := b.do(Order{Verb: Delete, Filter: Filter{Registration: "r"}, UpTo: c.UpTo, Reason: "a storm"})
		if err != nil || len(did) != c.Messages || fates(did)[Done] != c.Messages || b.mem.syncs != 3 {
			t.Errorf("%d messages, %v, %d syncs, %v", len(did), fates(did), b.mem.syncs, err)
		}
		for _, e := range []*spool.Entry{other, newer} {
			if _, err := b.Show(e.ID); err != nil {
				t.Errorf("%s: %v", e.ID, err)
			}
		}
		if b.mem.len() != 2 || len(b.c.dsns()) != 0 {
			t.Errorf("%d are left, and %d DSNs", b.mem.len(), len(b.c.dsns()))
		}
	})
}

// TestFatesOfNamedMessages: each verb at each kind of message.
func TestFatesOfNamedMessages(t *testing.T) {
	blocked := func(e *spool.Entry) string {
		if e.Envelope.Registration == "blocked" {
			return "192.0.2.7 is blocked: spam"
		}
		return ""
	}
	kinds := []string{"waits", "held", "blocked", "runs", "nobody"}
	for verb, want := range map[Verb][]Fate{
		Hold:    {Done, Done, Done, Done, Gone},
		Release: {Unchanged, Done, Kept, Unchanged, Gone},
		Retry:   {Done, Kept, Kept, Done, Gone},
		Bounce:  {Done, Done, Done, Busy, Gone},
		Delete:  {Done, Done, Done, Busy, Gone},
	} {
		bubble(t, Options{Held: blocked}, func(b *bench) {
			ids := map[string]spool.ID{
				"waits":   b.send("r", "late@one.example").ID,
				"held":    b.send("r", "late@one.example").ID,
				"blocked": b.send("blocked", "late@one.example").ID,
				"runs":    b.send("r", "stall@two.example").ID,
				"nobody":  "nobody",
			}
			pass(time.Minute)
			if err := b.order(Hold, ids["held"], "evidence"); err != nil {
				t.Fatal(err)
			}
			o := Order{Verb: verb, Reason: "ticket 4711"}
			for _, kind := range kinds {
				o.IDs = append(o.IDs, ids[kind])
			}
			did, err := b.do(o)
			if err != nil {
				t.Fatal(err)
			}
			for i, kind := range kinds {
				d := did[ids[kind]]
				if d.Fate != want[i] {
					t.Errorf("%s of one that %s: %s (%s), not %s", verb, kind, d.Fate, d.Note, want[i])
				}
				if kind == "runs" && verb != Release && !strings.Contains(d.Note, "attempt is under way") {
					t.Errorf("%s of one that runs says %q", verb, d.Note)
				}
				if kind == "blocked" && d.Fate == Kept && !strings.Contains(d.Note, "blocked: spam") {
					t.Errorf("%s of one that is blocked says %q", verb, d.Note)
				}
			}
		})
	}
}

// TestReleasingLiftsNoBlock: an operator's hold over a block ends, and the
// block goes on; no attempt is made in between.
func TestReleasingLiftsNoBlock(t *testing.T) {
	var blocked atomic.Bool
	bubble(t, Options{Held: func(*spool.Entry) string {
		if blocked.Load() {
			return "blocked"
		}
		return ""
	}}, func(b *bench) {
		e := b.send("r", "late@one.example")
		synctest.Wait()
		blocked.Store(true)
		b.Recheck()
		synctest.Wait()
		if err := b.order(Hold, e.ID, "evidence"); err != nil {
			t.Fatal(err)
		}
		if row, err := b.Show(e.ID); err != nil || row.Reason != "evidence" || row.Blocked != "blocked" {
			t.Errorf("held twice: %+v, %v", row, err)
		}
		did, err := b.do(Order{Verb: Release, IDs: []spool.ID{e.ID}})
		if d := did[e.ID]; err != nil || d.Fate != Done || d.Note != "it stays held: blocked" {
			t.Errorf("%+v, %v", d, err)
		}
		pass(time.Hour)
		if n := b.c.tried("late@one.example"); n != 1 {
			t.Errorf("%d attempts", n)
		}
		b.c.set(func() { b.c.outcomes = delivered })
		blocked.Store(false)
		b.Recheck()
		pass(time.Minute)
		if b.mem.len() != 0 {
			t.Error("it is not delivered when the block ends")
		}
	})
}

// TestARetryIsKeptOverARestart, as it is on the disk before it is told.
func TestARetryIsKeptOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, c := newMemory(), newCourier()
		c.down["one.example"] = true
		b := run(t, Options{}, mem, c)
		e := b.send("r", "a@one.example")
		pass(time.Second)
		c.set(func() { c.down["one.example"], c.takes = false, time.Hour })
		if did, err := b.do(Order{Verb: Retry, IDs: []spool.ID{e.ID}}); err != nil || did[e.ID].Fate != Done {
			t.Errorf("%v, %v", did, err)
		}
		if c.tried("a@one.example") != 2 {
			t.Error("it is not tried at once")
		}
		c.set(func() { // what is under way comes to nothing
			c.takes = 0
			c.outcomes = func(mail.Address, int) mail.Result { return mail.Result{} }
		})
		mem.mu.Lock()
		kept := clone(new(mem.entries[e.ID]))
		mem.mu.Unlock()
		b.stop()
		mem.mu.Lock()
		mem.entries[e.ID] = *kept // as a kill leaves it
		mem.mu.Unlock()
		c.set(func() { c.outcomes = delivered })
		b = run(t, Options{}, mem, c)
		defer b.stop()
		pass(time.Second)
		if c.delivered("a@one.example") == 0 || mem.len() != 0 {
			t.Error("after a restart it waits for its time again")
		}
	})
}

// TestAnOrderThatCannotBeKeptIsNotToldDone: what is not on the disk is nobody's
// to rely on.
func TestAnOrderThatCannotBeKeptIsNotToldDone(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		a := b.send("r", "late@one.example")
		synctest.Wait()
		b.mem.failing = errors.New("the disk is gone")
		if did, err := b.do(Order{Verb: Hold, IDs: []spool.ID{a.ID}}); !errors.Is(err, b.mem.failing) || len(did) != 0 {
			t.Errorf("%v, %v", did, err)
		}
		b.mem.failing, b.mem.full = nil, true
		if err := b.order(Release, a.ID, ""); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if did, err := b.do(Order{Verb: Bounce, IDs: []spool.ID{a.ID}}); !errors.Is(err, spool.ErrFull) || len(did) != 0 {
			t.Errorf("a DSN on a full disk: %v, %v", did, err)
		}
		if _, err := b.Show(a.ID); err != nil {
			t.Errorf("it is lost: %v", err)
		}
		pass(10 * time.Minute)
		if n := b.c.tried("late@one.example"); n != 2 {
			t.Errorf("it is not tried any more: %d attempts", n)
		}
		b.mem.full = false
		if did, err := b.do(Order{Verb: Bounce, IDs: []spool.ID{a.ID}}); err != nil || did[a.ID].Fate != Done || len(b.c.dsns()) != 1 {
			t.Errorf("%v, %v, %d DSNs", did, err, len(b.c.dsns()))
		}
	})
}

// TestAnOrderEndsBetweenTwoMessages, when the operator goes away or nothing is
// known yet.
func TestAnOrderEndsBetweenTwoMessages(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		for range 10 {
			b.send("r", "late@one.example")
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(b.t.Context())
		cancel()
		if err := b.Do(ctx, Order{Verb: Delete}, func(Did) error { return nil }); !errors.Is(err, context.Canceled) || b.mem.len() != 10 {
			t.Errorf("%v, %d are left", err, b.mem.len())
		}
		if err := b.Do(b.t.Context(), Order{Verb: "shred"}, nil); err == nil {
			t.Error("a verb that is none")
		}
		b.mu.Lock()
		b.loading, b.seen = true, map[spool.ID]struct{}{}
		b.mu.Unlock()
		_, err := b.Choose(b.t.Context(), Filter{})
		if _, also := b.do(Order{Verb: Delete}); !errors.Is(err, ErrLoading) || !errors.Is(also, ErrLoading) {
			t.Errorf("while the spool is read: %v, %v", err, also)
		}
	})
}

// TestAllOfAHugeQueueByOneOrder holds an order to going on where it was.
func TestAllOfAHugeQueueByOneOrder(t *testing.T) {
	bubble(t, Options{Held: func(*spool.Entry) string { return "blocked" }}, func(b *bench) {
		for i := range 3*pieceSeen + 1 {
			reg := "r"
			if i == 2*pieceSeen {
				reg = "the one"
			}
			b.send(reg, "late@one.example")
		}
		synctest.Wait()
		did, err := b.do(Order{Verb: Hold, Filter: Filter{Registration: "the one"}})
		if err != nil || !maps.Equal(fates(did), map[Fate]int{Done: 1}) {
			t.Errorf("%v, %v", fates(did), err)
		}
	})
}

// A tracer notes what it is told.
type tracer struct {
	mu  sync.Mutex
	got map[spool.ID][]string
}

func (t *tracer) add(id spool.ID, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.got[id] = append(t.got[id], what)
}

func (t *tracer) Ended(e *spool.Entry, how, reason, operator string) {
	what := how + " " + e.State[0].Last.Outcome.String()
	if reason != "" {
		what += " by " + operator + ": " + reason
	}
	t.add(e.ID, what)
}

func (t *tracer) Told(about, _ spool.ID, kind string) { t.add(about, kind) }

func TestTheEndOfEachMessageIsTold(t *testing.T) {
	trace := &tracer{got: map[spool.ID][]string{}}
	bubble(t, Options{Trace: trace}, func(b *bench) {
		want := map[spool.ID]string{
			b.send("r", "fine@one.example").ID:                     "finished delivered",
			b.send("r", "bad@one.example").ID:                      "failure, finished failed",
			b.send("r", "late@one.example").ID:                     "delay, failure, expired failed",
			b.send("r", "late@one.example", "fine@one.example").ID: "delay, failure, expired failed",
		}
		returned, deleted := b.send("r", "late@one.example").ID, b.send("r", "late@one.example").ID
		synctest.Wait()
		for verb, id := range map[Verb]spool.ID{Bounce: returned, Delete: deleted} {
			if did, err := b.do(Order{Verb: verb, IDs: []spool.ID{id}, Reason: "a storm", Operator: "alice"}); err != nil || did[id].Fate != Done {
				t.Errorf("%v, %v", did, err)
			}
		}
		want[returned], want[deleted] = "failure, returned failed by alice: a storm", "deleted deferred by alice: a storm"
		pass(6 * day)
		trace.mu.Lock()
		defer trace.mu.Unlock()
		for id, what := range want {
			if got := strings.Join(trace.got[id], ", "); got != what && got != strings.Replace(what, "expired", "finished", 1) { // at the deadline an attempt may be first
				t.Errorf("%s: %q, not %q", id, got, what)
			}
		}
	})
}
