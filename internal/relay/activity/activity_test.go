package activity

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	mfp     = netip.MustParseAddr("141.211.13.21")
	scanner = netip.MustParseAddr("141.211.13.22")
	began   = time.Date(2026, 11, 23, 12, 30, 0, 0, time.UTC)
)

// A clock is one that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// A world is a book with a clock and a register of its own.
type world struct {
	t        testing.TB
	file     string
	clock    clock
	register map[netip.Addr]bool // nil: there is none yet
	log      strings.Builder
}

func newWorld(t testing.TB, registered ...netip.Addr) *world {
	w := &world{t: t, file: filepath.Join(t.TempDir(), "activity"), clock: clock{at: began}, register: map[netip.Addr]bool{}}
	for _, a := range registered {
		w.register[a] = true
	}
	return w
}

func (w *world) open() *Book {
	w.t.Helper()
	b, err := Open(Options{File: w.file, Now: w.clock.now, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
		Register: func() func(netip.Addr) bool {
			if w.register == nil {
				return nil
			}
			return func(a netip.Addr) bool { return w.register[a] }
		}})
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) save(b *Book) {
	w.t.Helper()
	if err := b.Save(); err != nil {
		w.t.Fatal(err)
	}
}

func counts(t testing.TB, b *Book, addr netip.Addr, day, week, month int) {
	t.Helper()
	if a := b.Of(addr); a.Day != day || a.Week != week || a.Month != month {
		t.Errorf("%s: %d in a day, %d in a week, %d in a month; want %d, %d, %d", addr, a.Day, a.Week, a.Month, day, week, month)
	}
}

func TestMessagesAreCountedAndForgotten(t *testing.T) {
	w := newWorld(t, mfp)
	b := w.open()
	if a := b.Of(mfp); !a.First.IsZero() || a.Refusals != nil {
		t.Errorf("of nothing, %+v is known", a)
	}
	for range 3 {
		b.Accepted(mfp, Message{})
	}
	counts(t, b, mfp, 3, 3, 3)
	counts(t, b, netip.MustParseAddr("::ffff:141.211.13.21"), 3, 3, 3)
	counts(t, b, scanner, 0, 0, 0)
	w.clock.move(23 * time.Hour)
	b.Accepted(mfp, Message{})
	counts(t, b, mfp, 4, 4, 4)
	w.clock.move(time.Hour)
	counts(t, b, mfp, 1, 4, 4)
	w.clock.move(5 * 24 * time.Hour)
	counts(t, b, mfp, 0, 4, 4)
	w.clock.move(24 * time.Hour)
	counts(t, b, mfp, 0, 1, 4)
	w.clock.move(24 * 24 * time.Hour)
	counts(t, b, mfp, 0, 0, 0)
	if a := b.Of(mfp); !a.First.Equal(began) || !a.Last.Equal(began.Add(23*time.Hour)) {
		t.Errorf("first %s, last %s", a.First, a.Last)
	}
}

// TestCountsAgreeWithAList holds the rings against the plain way, for seeded
// random arrivals, over restarts.
func TestCountsAgreeWithAList(t *testing.T) {
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t, mfp)
		b := w.open()
		var arrivals []int64
		for range 400 {
			switch random.IntN(12) {
			case 0:
				w.clock.move(time.Duration(random.IntN(40*24)) * time.Hour)
			case 1, 2, 3:
				w.clock.move(time.Duration(random.IntN(3*24*60)) * time.Minute)
			case 4:
				w.save(b)
				b = w.open()
			default:
				w.clock.move(time.Duration(random.IntN(90)) * time.Second)
				b.Accepted(mfp, Message{})
				arrivals = append(arrivals, w.clock.now().Unix())
			}
			now := w.clock.now().Unix()
			since := func(span, n int64) (total int) {
				for _, at := range arrivals {
					if at/span > now/span-n {
						total++
					}
				}
				return total
			}
			a := b.Of(mfp)
			if a.Day != since(3600, 24) || a.Week != since(86400, 7) || a.Month != since(86400, 30) {
				t.Fatalf("seed %d: %d %d %d, want %d %d %d", seed, a.Day, a.Week, a.Month, since(3600, 24), since(86400, 7), since(86400, 30))
			}
		}
	}
}

func TestAClockThatIsSetBack(t *testing.T) {
	w := newWorld(t, mfp)
	b := w.open()
	b.Accepted(mfp, Message{})
	w.clock.move(-40 * time.Minute) // into the hour before
	b.Accepted(mfp, Message{})
	counts(t, b, mfp, 0, 2, 2) // the hour that is counted lies ahead
	w.clock.move(40 * time.Minute)
	counts(t, b, mfp, 2, 2, 2)
	w.clock.move(100 * 365 * 24 * time.Hour)
	b.Accepted(mfp, Message{})
	counts(t, b, mfp, 1, 1, 1)
	w.clock.move(-100 * 365 * 24 * time.Hour)
	counts(t, b, mfp, 0, 0, 0)
	b.Accepted(mfp, Message{})
	counts(t, b, mfp, 1, 1, 1)
}

func refusal(stage, reason string) Refusal {
	return Refusal{Stage: stage, Reason: reason, Said: "550 5.7.1 " + reason}
}

func TestTheLastRefusalsAreKept(t *testing.T) {
	w := newWorld(t, mfp)
	b := w.open()
	for range 1000 {
		b.Refused(scanner, false, refusal("RCPT", "unregistered"))
		w.clock.move(time.Second)
	}
	want := []Refusal{{At: began.Add(999 * time.Second), Count: 1000, Stage: "RCPT", Reason: "unregistered", Said: "550 5.7.1 unregistered"}}
	if got := b.Of(scanner).Refusals; !slices.Equal(got, want) {
		t.Errorf("a run of like refusals: %+v", got)
	}
	for i := range 2 * MaxRefusals {
		b.Refused(scanner, false, refusal("RCPT", fmt.Sprint("reason ", i)))
	}
	got := b.Of(scanner).Refusals
	if len(got) != MaxRefusals || got[0].Reason != "reason 9" || got[MaxRefusals-1].Reason != "reason 5" {
		t.Errorf("%+v", got)
	}
	b.Refused(scanner, false, Refusal{Stage: strings.Repeat("x", 1000), Reason: strings.Repeat("y", 1000), Said: strings.Repeat("z", 1000)})
	if r := b.Of(scanner).Refusals[0]; len(r.Stage) != maxWord || len(r.Reason) != maxWord || len(r.Said) != maxSaid {
		t.Errorf("%d %d %d octets are kept", len(r.Stage), len(r.Reason), len(r.Said))
	}
	got[0].Reason = "changed by the caller"
	if r := b.Of(scanner).Refusals[1]; r.Reason != "reason 9" {
		t.Errorf("the caller has changed the book: %+v", r)
	}
}

// size counts the addresses that are kept.
func (b *Book) size() (known, strangers int) {
	for i := range b.parts {
		known += len(b.parts[i].known)
		strangers += len(b.parts[i].strangers)
	}
	return known, strangers
}

func TestStrangersPushOutStrangersOnly(t *testing.T) {
	w := newWorld(t, mfp, scanner)
	b := w.open()
	b.Accepted(mfp, Message{})
	b.Refused(scanner, true, refusal("MAIL", "sender"))
	v6 := netip.MustParseAddr("2607:f018::").As16()
	for i := range 50_000 {
		w.clock.move(time.Second)
		v6[14], v6[15], v6[13] = byte(i>>8), byte(i), byte(i>>16)
		b.Refused(netip.AddrFrom16(v6), false, refusal("RCPT", "unregistered"))
	}
	known, strangers := b.size()
	if known != 2 || strangers > MaxStrangers || strangers < MaxStrangers/2 {
		t.Errorf("%d known, %d strangers are kept", known, strangers)
	}
	if newest := b.Of(netip.AddrFrom16(v6)); len(newest.Refusals) != 1 {
		t.Error("the newest stranger is not kept")
	}
	counts(t, b, mfp, 1, 1, 1)
	if got := b.Of(scanner).Refusals; len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestWhatIsForgotten(t *testing.T) {
	gone := netip.MustParseAddr("141.211.13.23")
	joins := netip.MustParseAddr("141.211.13.24")
	w := newWorld(t, mfp)
	b := w.open()
	b.Accepted(mfp, Message{})
	b.Accepted(gone, Message{})
	b.Refused(scanner, false, refusal("RCPT", "unregistered"))
	b.Refused(joins, false, refusal("RCPT", "unregistered"))
	w.register[joins] = true
	kept := func(when string, want ...netip.Addr) {
		t.Helper()
		b.prune()
		w.save(b)
		b = w.open()
		var got []netip.Addr
		for _, a := range []netip.Addr{mfp, scanner, gone, joins} {
			if x := b.Of(a); !x.First.IsZero() || x.Refusals != nil {
				got = append(got, a)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s, %v are kept, want %v", when, got, want)
		}
	}
	kept("at once", mfp, scanner, gone, joins)
	w.clock.move(KeepStranger + time.Second)
	w.register, b = nil, w.open() // a start without a register says nothing of anybody
	kept("without a register", mfp, scanner, gone, joins)
	w.register = map[netip.Addr]bool{mfp: true, joins: true}
	kept("after a week", mfp, gone, joins)
	w.clock.move(KeepKnown)
	kept("after a month", mfp, joins)
	w.clock.move(10 * 365 * 24 * time.Hour)
	kept("after ten years", mfp, joins)
	delete(w.register, mfp)
	kept("removed", joins)
}

// TestAStrangerThatRegistersKeepsItsPast: the department that asks why its
// first message was refused finds it.
func TestAStrangerThatRegistersKeepsItsPast(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	b.Refused(mfp, false, refusal("RCPT", "unregistered"))
	b.Accepted(mfp, Message{})
	if known, strangers := b.size(); known != 1 || strangers != 0 {
		t.Errorf("%d known, %d strangers", known, strangers)
	}
	if a := b.Of(mfp); a.Day != 1 || len(a.Refusals) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 1000 {
				a := netip.AddrFrom4([4]byte{141, 211, byte(i), byte(j)})
				b.Accepted(a, Message{})
				b.Refused(a, true, refusal("MAIL", "sender"))
				b.Of(a)
				if j%200 == 0 {
					if err := b.Save(); err != nil {
						t.Error(err)
					}
					b.prune()
				}
			}
		})
	}
	all.Wait()
	total := 0
	for i := range 8 {
		for j := range 256 {
			total += b.Of(netip.AddrFrom4([4]byte{141, 211, byte(i), byte(j)})).Month
		}
	}
	if total != 8000 {
		t.Errorf("%d of 8000 messages are counted", total)
	}
}

func BenchmarkAccepted(b *testing.B) {
	w := newWorld(b)
	book := w.open()
	book.now = time.Now
	b.RunParallel(func(p *testing.PB) {
		random := rand.New(rand.NewPCG(1, 2))
		for p.Next() {
			i := random.Uint32()
			book.Accepted(netip.AddrFrom4([4]byte{141, 211, byte(i >> 8), byte(i)}), Message{})
		}
	})
}

// BenchmarkStrangers is what a flood of refusals of new addresses costs.
func BenchmarkStrangers(b *testing.B) {
	book := newWorld(b).open()
	r := refusal("RCPT", "unregistered")
	var i uint32
	for b.Loop() {
		i++
		book.Refused(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), false, r)
	}
}
