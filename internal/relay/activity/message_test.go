package activity

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestWhoSendsWhat(t *testing.T) {
	w := newWorld(t, mfp)
	b := w.open()
	b.Accepted(mfp, Message{Recipients: 2, Octets: 1000, TLS: "TLS 1.3"})
	w.clock.move(10 * 24 * time.Hour)
	b.Accepted(mfp, Message{Recipients: 100, Octets: 50 << 20})
	b.Accepted(scanner, Message{Recipients: 1, Octets: 1, TLS: "TLS 1.0"})
	b.Refused(scanner, true, refusal("MAIL", "sender"))
	a := b.Of(mfp)
	if a.Day != 1 || a.Week != 1 || a.Month != 2 || a.Recipients != 102 || a.Octets != 1000+50<<20 || a.TLS != "" || !a.Seen.Equal(a.Last) {
		t.Errorf("%+v", a)
	}
	senders := func() (list []string) {
		b.Senders(func(addr netip.Addr, s Sums, refused int) {
			list = append(list, fmt.Sprint(addr, " ", s.Day, s.Week, s.Month, " ", s.Recipients, " ", s.Octets, " ", s.TLS, " ", refused))
		})
		slices.Sort(list)
		return list
	}
	want := []string{"141.211.13.21 1 1 2 102 52429800  0", "141.211.13.22 1 1 1 1 1 TLS 1.0 1"}
	if got := senders(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	w.clock.move(25 * 24 * time.Hour)
	if a := b.Of(mfp); a.Month != 1 || a.Recipients != 100 {
		t.Errorf("a month later: %+v", a)
	}
	w.clock.move(10 * 24 * time.Hour)
	if got := senders(); got != nil {
		t.Errorf("who has not sent for 30 days is listed: %q", got)
	}
}

// TestHugeCountsStayCounts: whatever a client sends, no number turns over.
func TestHugeCountsStayCounts(t *testing.T) {
	w := newWorld(t, mfp)
	b := w.open()
	for range 40 {
		b.Accepted(mfp, Message{Recipients: math.MaxInt, Octets: math.MaxInt64})
		b.Accepted(mfp, Message{Recipients: -1, Octets: -1})
		w.clock.move(24 * time.Hour)
	}
	w.save(b)
	for _, b := range []*Book{b, w.open()} {
		if a := b.Of(mfp); a.Recipients < 1 || a.Octets < 1 {
			t.Errorf("%+v", a)
		}
	}
}

func TestWhichLeniencyIsNeeded(t *testing.T) {
	w := newWorld(t, mfp)
	b := w.open()
	if n := b.Of(mfp).Needs; n != (Needs{}) {
		t.Errorf("of nothing, %+v is known", n)
	}
	b.Accepted(mfp, Message{Needed: Needed{BareLF: true, Headers: true}})
	w.clock.move(time.Hour)
	b.Accepted(mfp, Message{Needed: Needed{BareLF: true, OldTLS: true}})
	at := began.Add(time.Hour)
	want := Needs{Since: began, BareLF: Need{at, 2}, OldTLS: Need{at, 1}, Headers: Need{began, 1}}
	w.save(b)
	for _, b := range []*Book{b, w.open()} {
		if got := b.Of(mfp).Needs; got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
	// Each has its own place.
	for i, n := range []Needed{{BareLF: true}, {OldTLS: true}, {Commands: true}, {NoHELO: true}, {Headers: true}} {
		one := w.open()
		one.Accepted(scanner, Message{Needed: n})
		got := one.Of(scanner).Needs
		for j, month := range []int{got.BareLF.Month, got.OldTLS.Month, got.Commands.Month, got.NoHELO.Month, got.Headers.Month} {
			if month != map[bool]int{true: 1}[i == j] {
				t.Errorf("%+v is counted as %+v", n, got)
			}
		}
	}
	// Mail goes on, and the leniencies are needed no more.
	for range 31 {
		w.clock.move(24 * time.Hour)
		b.Accepted(mfp, Message{})
	}
	if got := b.Of(mfp).Needs; got.BareLF != (Need{at, 0}) || got.Commands != (Need{}) || !got.Since.Equal(began) {
		t.Errorf("%+v", got)
	}
}

func TestRefusalsByReason(t *testing.T) {
	w := newWorld(t, mfp)
	b := w.open()
	for range 3 {
		b.Refused(mfp, true, refusal("MAIL", "sender"))
		b.Refused(mfp, true, refusal("RCPT", "address"))
		w.clock.move(time.Minute)
	}
	b.Refused(mfp, true, refusal("DATA", "sender"))
	last := began.Add(3 * time.Minute)
	want := []Reason{{"sender", 4, began, last}, {"address", 3, began, began.Add(2 * time.Minute)}}
	w.save(b)
	b = w.open()
	if got := b.Of(mfp).Reasons; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	for i := range 3 * MaxReasons {
		w.clock.move(time.Second)
		b.Refused(mfp, true, refusal("MAIL", fmt.Sprint("reason ", i)))
		b.Refused(mfp, true, refusal("MAIL", "sender")) // heard of again and again
	}
	got := b.Of(mfp).Reasons
	if len(got) != MaxReasons || got[0].Reason != "sender" || got[0].Count != 4+3*MaxReasons {
		t.Errorf("%d reasons are kept: %v", len(got), got)
	}
	w.clock.move(KeepKnown + time.Second)
	if got := b.Of(mfp).Reasons; got != nil {
		t.Errorf("after a month: %v", got)
	}
	b.Refused(mfp, true, refusal("MAIL", "sender"))
	if got := b.Of(mfp).Reasons; len(got) != 1 || got[0].Count != 1 {
		t.Errorf("one that comes back begins anew: %v", got)
	}
}

func TestStrangersAreListed(t *testing.T) {
	w := newWorld(t, mfp)
	b := w.open()
	later := netip.MustParseAddr("141.211.13.24")
	b.Accepted(mfp, Message{})
	b.Refused(mfp, true, refusal("MAIL", "sender"))
	for range 5 {
		b.Refused(scanner, false, refusal("RCPT", "unregistered"))
		w.clock.move(24 * time.Hour)
		b.Refused(scanner, false, refusal("MAIL", "sloppy"))
	}
	b.Refused(later, false, refusal("RCPT", "unregistered"))
	check := func(when string, want ...string) {
		t.Helper()
		w.save(b)
		b = w.open()
		var got []string
		for _, s := range b.Strangers() {
			got = append(got, fmt.Sprint(s.Addr, " ", s.Count, " ", s.First.Format("02"), "-", s.Last.Format("02"), " ", s.Told.Reason))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", when, got)
		}
	}
	check("at first", "141.211.13.22 10 23-28 sloppy", "141.211.13.24 1 28-28 unregistered")
	w.clock.move(24 * time.Hour)
	b.Refused(later, false, refusal("RCPT", "unregistered"))
	check("a day later", "141.211.13.24 2 28-29 unregistered", "141.211.13.22 10 23-28 sloppy")
	w.register[later] = true
	check("one is registered now", "141.211.13.22 10 23-28 sloppy")
	w.register = nil
	check("there is no register", "141.211.13.24 2 28-29 unregistered", "141.211.13.22 10 23-28 sloppy")
	w.clock.move(KeepStranger)
	check("a week later")
}
