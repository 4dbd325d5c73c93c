package queue

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// TestWhatWasPickedMayBeOld: a state that was stored after the look is not
// overwritten with the one of before.
func TestWhatWasPickedMayBeOld(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		e := b.send("r", "late1@one.example", "late2@two.example")
		pass(time.Minute)
		old, err := b.mem.Get(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		seen := b.changes.Load()
		b.c.set(func() {
			b.c.outcomes = func(to mail.Address, _ int) mail.Result {
				if to.Local == "late1" {
					return mail.Result{Outcome: mail.Delivered}
				}
				return mail.Result{RemoteMTA: "mx", Status: mail.Status{Code: 450}}
			}
		})
		pass(6 * time.Minute)
		a := b.change(Hold, []picked{{e.ID, old, seen}}, word{reason: "evidence"})
		if row, err := b.Show(e.ID); a[0].err != nil || err != nil || !row.State[0].Done || row.Hold != "evidence" {
			t.Errorf("%+v, %v, %v", row, a[0].err, err)
		}
		// What nobody has touched since is not read again.
		now, err := b.mem.Get(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		gets := b.mem.gets.Load()
		if a := b.change(Release, []picked{{e.ID, now, b.changes.Load()}}, word{}); a[0].err != nil || b.mem.gets.Load() != gets {
			t.Errorf("%v, and %d reads", a[0].err, b.mem.gets.Load()-gets)
		}
	})
}

// TestAMessageIsDoneOnce, however often and in which order an order names it.
func TestAMessageIsDoneOnce(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		one, two := b.send("r", "late@one.example"), b.send("r", "late@two.example")
		pass(time.Minute)
		did, err := b.do(Order{Verb: Hold, IDs: []spool.ID{two.ID, one.ID, two.ID, "nobody", one.ID}})
		if err != nil || len(did) != 3 || fates(did)[Done] != 2 || fates(did)[Gone] != 1 {
			t.Errorf("%v, %v", did, err)
		}
	})
}

// TestAWalkGoesByPieces: past what is dropped under its feet, and to the end.
func TestAWalkGoesByPieces(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		synctest.Wait() // the spool is read by then
		var all []*spool.Entry
		for i := range 3*walkStep + 10 {
			all = append(all, b.send("r", fmt.Sprintf("late%d@one.example", i)))
		}
		synctest.Wait()
		var seen []spool.ID
		b.walk(context.Background(), func(*item) bool { return true }, func(piece []*item) {
			if len(piece) > walkStep {
				t.Errorf("%d at once", len(piece))
			}
			for _, it := range piece {
				seen = append(seen, it.id)
			}
			if len(seen) == walkStep { // where the walk stands, and all around
				for _, e := range all[walkStep-10 : 2*walkStep+10] {
					if err := b.order(Delete, e.ID, ""); err != nil {
						t.Error(err)
					}
				}
			}
		})
		var want []spool.ID
		for i, e := range all {
			if i < walkStep || i >= 2*walkStep+10 {
				want = append(want, e.ID)
			}
		}
		if !slices.Equal(seen, want) {
			t.Errorf("%d seen, and not %d", len(seen), len(want))
		}
	})
}

// TestWhatIsDueDoesNotWaitForARecheck of a long queue.
func TestWhatIsDueDoesNotWaitForARecheck(t *testing.T) {
	var slow atomic.Bool
	o := Options{Schedule: []time.Duration{time.Hour}, Held: func(e *spool.Entry) string {
		if slow.Load() {
			<-time.After(time.Second)
		}
		return ""
	}}
	bubble(t, o, func(b *bench) {
		b.c.set(func() { // the others wait for an hour and more
			b.c.outcomes = func(to mail.Address, nth int) mail.Result {
				if to.Local == "due" && nth > 1 {
					return mail.Result{Outcome: mail.Delivered}
				}
				return mail.Result{RemoteMTA: "mx", Status: mail.Status{Code: 450}}
			}
		})
		b.send("r", "due@two.example")
		pass(30 * time.Minute)
		for i := range 20 * walkStep {
			b.send("r", fmt.Sprintf("late%d@one.example", i))
		}
		pass(20 * time.Minute)
		slow.Store(true)
		b.Recheck()
		pass(30 * time.Minute)
		if b.c.delivered("due@two.example") != 1 {
			t.Error("it waits for all that is looked at")
		}
		slow.Store(false)
		pass(time.Hour)
	})
}

// TestWhatIsDueTogetherIsMadeReadyByPieces: no lock is held for all of it.
func TestWhatIsDueTogetherIsMadeReadyByPieces(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		synctest.Wait()
		b.mu.Lock()
		at := time.Now().Add(time.Hour)
		for i := range 5000 {
			e := b.mem.put(message("r", fmt.Sprintf("x%d@one.example", i)), nil)
			e.Attempts, e.Next = 1, at
			b.add(e, false)
		}
		b.sched.advance(at)
		if n := b.sched.depth[ready]; n != advanceDests*refreshJobs {
			t.Errorf("%d are made ready at once", n)
		}
		if wake := b.sched.nextWake(at); wake.IsZero() || wake.After(at) {
			t.Errorf("the rest waits until %v", wake)
		}
		b.mu.Unlock()
		pass(2 * time.Hour)
		if b.mem.len() != 0 {
			t.Errorf("%d are left", b.mem.len())
		}
	})
}

// TestFifo: what goes in comes out, in order, over the ends of blocks.
func TestFifo(t *testing.T) {
	var f fifo[int]
	in, out := 0, 0
	for round := range 200 {
		for range round {
			f.push(in)
			in++
		}
		for range round * 2 / 3 {
			if v, ok := f.pop(); !ok || v != out {
				t.Fatalf("%d, %v, and not %d", v, ok, out)
			}
			out++
		}
		if f.len() != in-out {
			t.Fatalf("%d, and not %d", f.len(), in-out)
		}
	}
	for ; out < in; out++ {
		if v, ok := f.pop(); !ok || v != out {
			t.Fatalf("%d, %v, and not %d", v, ok, out)
		}
	}
	if _, ok := f.pop(); ok || f.len() != 0 {
		t.Error("it is not empty")
	}
}
