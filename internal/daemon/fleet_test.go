package daemon_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/fleet"
)

// TestThePortalsFleet: what the portal knows of a relay at work, and what it has
// it do, over the relay's own door; and a relay that is gone.
func TestThePortalsFleet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.portal()
	w.start()
	f, err := fleet.New(fleet.Options{Every: 50 * time.Millisecond, Sources: []fleet.Source{{
		Name: "relay1", URL: "https://" + p.addr, CAFile: filepath.Join(w.dir, "cert.pem"),
		TokenFile: filepath.Join(w.dir, "portal"), OperatorTokenFile: filepath.Join(w.dir, "operator"),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	defer running.Wait()
	defer cancel()
	until := func(what string, cond func(fleet.Relay) bool) fleet.Relay {
		t.Helper()
		late := time.NewTimer(30 * time.Second)
		defer late.Stop()
		for {
			news := f.Watch()
			if r := f.Relays()[0]; cond(r) {
				return r
			}
			select {
			case <-news:
			case <-late.C:
				t.Fatalf("not within 30 s: %s: %+v", what, f.Relays()[0])
			}
		}
	}
	head := w.git(w.checkout, "rev-parse", "main")
	until("the relay is known", func(r fleet.Relay) bool {
		return r.Up() && r.Operates && r.Report.Ready && r.Report.Register.Commit == head
	})

	w.accepted("127.0.0.1", "counted")
	until("the message is counted", func(r fleet.Relay) bool {
		return r.Report.Relay.Accepted == 1 && r.Report.Queue.Delivered == 1
	})
	if list := f.Address(t.Context(), netip.MustParseAddr("127.0.0.1")); list[0].Address == nil || list[0].Address.Mail.Day != 1 {
		t.Errorf("an address: %+v", list[0])
	}

	one := func(list []fleet.Outcome, state string, says ...string) {
		t.Helper()
		if len(list) != 1 || list[0].State != state {
			t.Fatalf("got %+v, not %s", list, state)
		}
		w.says(list[0].Text+"\n"+list[0].Hint, says...)
	}
	const who = "pm@lab.example"
	one(f.BlockAt(t.Context(), "", who, fleet.Block{Prefix: "127.0.0.1", Reason: "sends too much", For: 90 * time.Minute}), fleet.Done, "blocked until ")
	w.refused("127.0.0.1", "554 5.7.1 127.0.0.1 is blocked")
	until("the block is told", func(r fleet.Relay) bool {
		return len(r.Report.Drift) == 1 && r.Report.Drift[0].Reason == "sends too much"
	})
	one(f.BlockAt(t.Context(), "relay1", who, fleet.Block{Prefix: "127.0.0.0/8", Reason: "all"}), fleet.NotDone, "is wide", "--wide")
	one(f.UnblockAt(t.Context(), "relay1", who, "127.0.0.1", "cleaned"), fleet.Done, "blocked no more")
	one(f.UnblockAt(t.Context(), "relay1", who, "127.0.0.1", "again"), fleet.NotDone, "is not blocked")
	one(f.ReleaseAt(t.Context(), "relay1", who, fleet.Release{Registration: "127.0.0.1", Reason: "fine", For: time.Hour}), fleet.NotDone, "is not braked")
	w.accepted("127.0.0.1", "again")
	if log := w.log.tail(1000); strings.Count(log, "event=control.order") != 4 || !strings.Contains(log, "order=unblock about=127.0.0.1 operator="+who) {
		t.Errorf("the relay's log does not tell who asked:\n%s", log)
	}

	w.file("operator", readToken) // no more a token of its own: the relay keeps the one before
	one(f.UnblockAt(t.Context(), "", who, "127.0.0.1", "x"), fleet.NotDone, "can only read")
	w.stop()
	until("the relay is lost", func(r fleet.Relay) bool { return r.Error != "" && r.Report != nil })
	one(f.UnblockAt(t.Context(), "", who, "127.0.0.1", "x"), fleet.Failed, "refused")
}
