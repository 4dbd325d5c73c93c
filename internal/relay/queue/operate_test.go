package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

func TestOperatorsHoldSurvivesARestartAndTheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, c := newMemory(), newCourier()
		b := run(t, Options{}, mem, c)
		e := b.send("r", "late@one.example")
		synctest.Wait()
		if err := b.order(Hold, e.ID, "looks odd"); err != nil {
			t.Fatal(err)
		}
		if err := b.order(Retry, e.ID, ""); !errors.Is(err, ErrHeld) {
			t.Errorf("Retry of a held entry: %v", err)
		}
		b.Recheck()
		pass(day)
		b.stop()
		b = run(t, Options{}, mem, c)
		defer b.stop()
		pass(10 * day)
		if row, err := b.Show(e.ID); err != nil || row.Status != "held" || row.Reason != "looks odd" || c.tried("late@one.example") != 1 {
			t.Fatalf("%+v, %v", row, err)
		}
		c.set(func() { c.outcomes = delivered })
		if err := b.order(Release, e.ID, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// Its expiry is over as well, but it is tried before it is given up.
		if mem.len() != 0 || c.delivered("late@one.example") != 1 || len(c.dsns()) != 0 {
			t.Errorf("left %d, delivered %v, %d DSNs", mem.len(), c.copyOf(c.got), len(c.dsns()))
		}
		b.check()
	})
}

func TestOperatorsCommands(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		late := b.send("r", "late@one.example", "good@one.example")
		stalled := b.send("r", "stall@two.example")
		synctest.Wait()

		if err := b.order(Retry, late.ID, ""); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := b.c.tried("late@one.example"); n != 2 {
			t.Errorf("%d attempts after Retry", n)
		}
		for name, err := range map[string]error{"Bounce": b.order(Bounce, stalled.ID, ""), "Delete": b.order(Delete, stalled.ID, "")} {
			if !errors.Is(err, ErrBusy) {
				t.Errorf("%s during an attempt: %v", name, err)
			}
		}
		if err := b.order(Bounce, late.ID, "wrong place"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		dsns := b.c.dsns()
		if len(dsns) != 1 || !strings.Contains(dsns[0].body, "wrong place") || strings.Contains(dsns[0].body, "good@") {
			t.Errorf("%d DSNs: %+v", len(dsns), dsns)
		}
		gone := b.send("r", "late@one.example")
		synctest.Wait()
		if err := b.order(Delete, gone.ID, ""); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(b.c.dsns()) != 1 || b.mem.len() != 1 {
			t.Errorf("Delete told somebody: %d DSNs, %d entries", len(b.c.dsns()), b.mem.len())
		}
		for _, verb := range Verbs() {
			if err := b.order(verb, "nobody", ""); !errors.Is(err, spool.ErrNotFound) {
				t.Errorf("%s of an unknown entry: %v", verb, err)
			}
		}
	})
}

func TestListAndStats(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		for i := range 10 {
			b.send(fmt.Sprintf("r%d", i%2), fmt.Sprintf("late%d@one.example", i))
		}
		b.send("r0", "late@two.example")
		synctest.Wait()
		tests := []struct {
			filter Filter
			want   int
		}{
			{Filter{}, 11},
			{Filter{Registration: "r0"}, 6},
			{Filter{Destination: "two.example"}, 1},
			{Filter{Recipient: "late3@one.example"}, 1},
			{Filter{Sender: sender, Limit: 4}, 4},
			{Filter{Status: "waiting"}, 11},
			{Filter{Status: "held"}, 0},
		}
		for _, test := range tests {
			n := 0
			err := b.List(test.filter, func(r *Row) error {
				n++
				data, err := json.Marshal(r)
				if err == nil && !strings.Contains(string(data), `"status":"waiting"`) {
					t.Errorf("a row: %s", data)
				}
				return err
			})
			if n != test.want || err != nil {
				t.Errorf("%+v: %d rows, %v", test.filter, n, err)
			}
		}
		s := b.Stats()
		if s.Entries != 11 || s.Jobs["waiting"] != 11 || len(s.Destinations) != 2 || s.Destinations[0].Name != "one.example" || s.Oldest.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Spool: newMemory(), Courier: newCourier(), Hostname: "h", Postmaster: "p@h"}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Options){
		"no spool":      func(o *Options) { o.Spool = nil },
		"no courier":    func(o *Options) { o.Courier = nil },
		"no host name":  func(o *Options) { o.Hostname = "" },
		"no mailbox":    func(o *Options) { o.Postmaster = "p at h" },
		"workers below": func(o *Options) { o.Workers = -1 },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestStatsTellOfANextHopThatPutsAllOff: it answers, so it is not down, and yet
// nothing gets through.
func TestStatsTellOfANextHopThatPutsAllOff(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		b.c.set(func() {
			b.c.outcomes = func(mail.Address, int) mail.Result {
				return mail.Result{RemoteMTA: "mx.full.example", Status: mail.Status{Code: 450, Enhanced: mail.Enhanced{4, 2, 2}, Text: "mailbox full"}}
			}
		})
		for i := range 12 {
			b.send("r", fmt.Sprintf("x%d@full.example", i))
		}
		pass(time.Minute)
		s := b.Stats()
		if len(s.Destinations) != 1 || s.Destinations[0].Deferrals != 12 || s.Destinations[0].Said != "450 4.2.2 mailbox full" || s.Destinations[0].Failures != 0 {
			t.Errorf("%+v", s.Destinations)
		}
		b.c.set(func() { b.c.outcomes = nil })
		b.send("r", "fine@full.example")
		pass(time.Minute)
		if s := b.Stats(); len(s.Destinations) != 1 || s.Destinations[0].Deferrals != 0 || s.Destinations[0].Said != "" {
			t.Errorf("after a delivery: %+v", s.Destinations)
		}
	})
}
