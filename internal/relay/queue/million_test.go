package queue

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

var million = flag.Int("million", 2_000, "how many deferred messages the queue of TestMillion has")

// What TestMillion asserts, at any length: the rest it prints.
const octetsAnItem = 1024 // of heap

// rounds of sending, in turns through an empty queue and a long one.
const rounds = 5

// counted counts what the queue asks of its store.
type counted struct {
	*spool.Spool
	scans, gets, updates, syncs atomic.Int64
}

func (c *counted) Entries(fn func(*spool.Entry) error) error {
	c.scans.Add(1)
	return c.Spool.Entries(fn)
}

func (c *counted) EntriesAfter(id spool.ID, fn func(*spool.Entry) error) error {
	c.scans.Add(1)
	return c.Spool.EntriesAfter(id, fn)
}

func (c *counted) Get(id spool.ID) (*spool.Entry, error) {
	c.gets.Add(1)
	return c.Spool.Get(id)
}

func (c *counted) Update(e *spool.Entry) error {
	c.updates.Add(1)
	return c.Spool.Update(e)
}

func (c *counted) UpdateAll(entries []*spool.Entry) ([]spool.ID, error) {
	c.updates.Add(1)
	return c.Spool.UpdateAll(entries)
}

func (c *counted) Sync() error {
	c.syncs.Add(1)
	return c.Spool.Sync()
}

// reset forgets the counts.
func (c *counted) reset() {
	for _, n := range []*atomic.Int64{&c.scans, &c.gets, &c.updates, &c.syncs} {
		n.Store(0)
	}
}

// blocked is the client whose mail TestMillion blocks; a tenth of it all.
var blockedClient = netip.MustParseAddr("192.0.2.9") // read-only

// instant takes everything at once.
type instant struct{ delivered atomic.Int64 }

func (*instant) Destination(domain string) string { return domain }

func (c *instant) Deliver(_ context.Context, _ *spool.Entry, _ func() (io.ReadCloser, error), rcpts []int) []mail.Result {
	results := make([]mail.Result, len(rcpts))
	for i := range results {
		results[i] = mail.Result{Outcome: mail.Delivered, RemoteMTA: "mx.example", Status: mail.Status{Code: 250, Text: "ok"}}
	}
	c.delivered.Add(int64(len(rcpts)))
	return results
}

// deferredAt makes a spool with n messages that were tried once and wait.
func deferredAt(t *testing.T, dir string, n int) {
	s, err := spool.Open(spool.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	const writers = 512
	var all sync.WaitGroup
	now := time.Now()
	for w := range writers {
		all.Go(func() {
			for i := w; i < n; i += writers {
				env := message(fmt.Sprintf("registrations/dept-%d/mfp.cue", i%100), fmt.Sprintf("late%d@d%d.example", i, i%1000))
				env.Client = netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 10)})
				e, err := s.Store(t.Context(), env, []byte(text))
				if err == nil {
					e.Attempts, e.Next = 1, now.Add(2*time.Hour+time.Duration(i)*time.Millisecond)
					e.State[0].Last = mail.Result{RemoteMTA: "mx1.d.example", Status: mail.Status{Code: 451, Enhanced: mail.Enhanced{4, 7, 1}, Text: "greylisted; come back later"}, At: now}
					err = s.Update(e)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A rig is a queue over a spool on a disk, at work.
type rig struct {
	*Queue
	t       *testing.T
	store   *counted
	courier *instant
	metrics *prometheus.Registry
	blocked atomic.Bool
	opened  time.Duration // spool.Open
	loaded  time.Duration // from New until the queue knows everything
	used    time.Duration // of processor, for that
	stop    func()
}

func newRig(t *testing.T, dir string) *rig {
	r := &rig{t: t, courier: &instant{}, metrics: prometheus.NewRegistry()}
	began := time.Now()
	s, err := spool.Open(spool.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	r.opened = time.Since(began)
	r.store = &counted{Spool: s}
	began, r.used = time.Now(), processor()
	r.Queue, err = New(Options{Spool: r.store, Courier: r.courier, Hostname: "relay.example", Postmaster: "postmaster@relay.example", Registerer: r.metrics,
		Held: func(e *spool.Entry) string {
			if r.blocked.Load() && e.Envelope.Client == blockedClient {
				return "blocked"
			}
			return ""
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	r.until(func() bool { return r.Queue.loaded() == nil })
	r.loaded, r.used = time.Since(began), processor()-r.used
	return r
}

// processor is the time of processors that this process has used, which is the
// better measure where others use them as well.
func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// until waits for what is about to happen.
func (r *rig) until(ok func() bool) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-r.t.Context().Done():
			r.t.Fatal("it never came")
		}
	}
}

// through sends n messages through the queue, from store to delivery, and
// returns how many a second, and how many µs of processor each took.
func (r *rig) through(n int) (rate, used float64) {
	const senders = 64
	before, began, busy := r.courier.delivered.Load(), time.Now(), processor()
	var all sync.WaitGroup
	for w := range senders {
		all.Go(func() {
			for i := w; i < n; i += senders {
				e, err := r.store.Store(context.Background(), message("registrations/new/app.cue", fmt.Sprintf("x%d@d%d.example", i, i%1000)), []byte(text))
				if err != nil {
					r.t.Error(err)
					return
				}
				r.Accept(e)
			}
		})
	}
	all.Wait()
	r.until(func() bool { return r.courier.delivered.Load()-before >= int64(n) })
	return float64(n) / time.Since(began).Seconds(), float64((processor() - busy).Microseconds()) / float64(n)
}

// timed runs something and tells how long it took, and how long others had to
// wait for the queue at most meanwhile.
func (r *rig) timed(what string, do func()) {
	var longest time.Duration
	stop := long{r.Queue}.waits(&longest)
	began, used := time.Now(), processor()
	do()
	took := time.Since(began)
	used = processor() - used
	stop()
	r.t.Logf("%-16s %10v, %10v of processor; %6.2f µs a message; the longest wait of others %v",
		what, took.Round(time.Millisecond/10), used.Round(time.Millisecond/10), float64(took.Microseconds())/float64(*million), longest)
}

// TestMillion is the queue at scale: `go test -v -run TestMillion
// ./internal/relay/queue -million=1000000` prints what a million deferred
// messages on a disk cost. With few of them it holds the queue to its shape: so
// much memory an item, and no look through the spool for what is done to one
// message.
func TestMillion(t *testing.T) {
	n, dir := *million, filepath.Join(t.TempDir(), "spool")
	empty := newRig(t, filepath.Join(t.TempDir(), "empty"))
	some := min(max(n/50, 200), 20_000)

	began := time.Now()
	deferredAt(t, dir, n)
	t.Logf("%d messages stored in %v", n, time.Since(began).Round(time.Millisecond))

	octets := octetsOf(t, dir, n)
	r := newRig(t, dir)
	t.Logf("open %v, loaded %v (%v of processor); %d octets of heap an item",
		r.opened.Round(time.Millisecond), r.loaded.Round(time.Millisecond), r.used.Round(time.Millisecond), octets)
	if octets > octetsAnItem {
		t.Errorf("%d octets of heap an item, and not under %d", octets, octetsAnItem)
	}
	if s := r.Stats(); s.Entries != n || s.Jobs["waiting"] != n {
		t.Fatalf("%+v", s)
	}

	r.store.reset()
	var rates, used [2][rounds]float64
	for i := range rounds {
		rates[0][i], used[0][i] = empty.through(some)
		rates[1][i], used[1][i] = r.through(some)
	}
	for k := range 2 {
		slices.Sort(rates[k][:])
		slices.Sort(used[k][:])
	}
	const median = rounds / 2
	t.Logf("%.0f messages a second through an empty queue, %.0f beside %d: %.2f; %.1f and %.1f µs of processor for each: %.2f (medians of %d)",
		rates[0][median], rates[1][median], n, rates[1][median]/rates[0][median], used[0][median], used[1][median], used[1][median]/used[0][median], rounds)
	if scans, gets := r.store.scans.Load(), r.store.gets.Load(); scans != 0 || gets > rounds*int64(some) {
		t.Errorf("%d looks through the spool and %d reads for %d messages", scans, gets, rounds*some)
	}
	empty.stop()

	r.store.reset()
	r.timed("metrics", func() {
		if _, err := r.metrics.Gather(); err != nil {
			t.Error(err)
		}
	})
	r.timed("stats", func() { r.Stats() })
	if r.store.scans.Load()+r.store.gets.Load() != 0 {
		t.Error("the metrics read the spool")
	}

	seen := 0
	r.timed("list", func() {
		if err := r.List(Filter{}, func(*Row) error { seen++; return nil }); err != nil {
			t.Error(err)
		}
	})
	if seen != n {
		t.Errorf("%d rows", seen)
	}

	r.store.reset()
	r.timed("block", func() {
		r.blocked.Store(true)
		r.Recheck()
		r.until(func() bool { return r.depth(held) == n/10 })
	})
	if gets := r.store.gets.Load(); gets != 0 {
		t.Errorf("a block reads %d entries", gets)
	}
	r.timed("the block ends", func() {
		r.blocked.Store(false)
		r.Recheck()
		r.until(func() bool { return r.depth(held) == 0 })
	})

	r.timed("choose", func() {
		if c, err := r.Choose(t.Context(), Filter{}); err != nil || c.Messages != n {
			t.Error(c, err)
		}
	})
	for _, verb := range []Verb{Hold, Release} {
		r.store.reset()
		r.timed(string(verb), func() { r.order(Order{Verb: verb, Filter: Filter{Sender: sender}, Reason: "a storm"}) })
		t.Logf("%-22s %d looks, %d reads, %d batches, %d syncs", "", r.store.scans.Load(), r.store.gets.Load(), r.store.updates.Load(), r.store.syncs.Load())
		if pieces := int64(n/pieceDone + 2); r.store.gets.Load() != 0 || r.store.syncs.Load() > pieces || r.store.updates.Load() > pieces {
			t.Errorf("%s is more than one look, one batch and one sync for each piece", verb)
		}
	}
	r.timed("oldest", func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.sched.oldest().IsZero() {
			t.Error("there is none")
		}
	})
	r.timed("end", r.stop)
}

// order must be done to all.
func (r *rig) order(o Order) {
	r.t.Helper()
	n := 0
	err := r.Do(r.t.Context(), o, func(d Did) error {
		if d.Fate == Done {
			n++
		}
		return nil
	})
	if err != nil || n != *million {
		r.t.Errorf("%s: %d of %d, %v", o.Verb, n, *million, err)
	}
}

func (r *rig) depth(st state) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sched.depth[st]
}

// octetsOf is how much of the heap a queue of n messages has for each: what is
// free when it is forgotten, and the engine is as it was.
func octetsOf(t *testing.T, dir string, n int) int64 {
	s, err := spool.Open(spool.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	q, err := New(Options{Spool: s, Courier: &instant{}, Hostname: "relay.example", Postmaster: "postmaster@relay.example"})
	if err == nil {
		err = q.load(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	with := inUse()
	runtime.KeepAlive(q)
	return (with - inUse()) / int64(n)
}

// inUse is what is in use after a collection.
func inUse() int64 {
	var m runtime.MemStats
	for range 2 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
