package queue

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/relay/spool"
)

var queued = flag.Int("queued", 20_000, "how many messages the queue of BenchmarkOrders has")

// BenchmarkOrders gives each order to a whole long queue on a disk, after
// looking it through: -queued says how long. It tells what one message costs,
// and the longest that anybody waited for the queue meanwhile.
func BenchmarkOrders(b *testing.B) {
	for _, verb := range Verbs() {
		b.Run(string(verb), func(b *testing.B) {
			var looked, took, longest time.Duration
			n := 0
			for b.Loop() {
				q := longQueue(b)
				began := time.Now()
				choice, err := q.Choose(b.Context(), Filter{Sender: sender})
				if err != nil || choice.Messages != *queued {
					b.Fatal(choice, err)
				}
				looked += time.Since(began)
				if verb == Release {
					q.order(b, Order{Verb: Hold, UpTo: choice.UpTo})
				}
				stop := q.waits(&longest)
				began = time.Now()
				q.order(b, Order{Verb: verb, Filter: Filter{Sender: sender}, UpTo: choice.UpTo, Reason: "a storm"})
				took += time.Since(began)
				stop()
				n += *queued
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took.Microseconds())/float64(n), "µs/message")
			b.ReportMetric(float64(looked.Microseconds())/float64(n), "µs/look")
			b.ReportMetric(float64(longest.Microseconds()), "µs-longest-wait")
		})
	}
}

// A long is a queue over a spool on a disk that attempts nothing.
type long struct{ *Queue }

func longQueue(b *testing.B) long {
	s, err := spool.Open(spool.Options{Dir: filepath.Join(b.TempDir(), "spool")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	const writers = 64
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := w; i < *queued; i += writers {
				if _, err := s.Store(b.Context(), message(fmt.Sprintf("r%d", i%100), fmt.Sprintf("late%d@one.example", i)), []byte(text)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	q, err := New(Options{Spool: s, Courier: newCourier(), Hostname: "relay.example", Postmaster: "postmaster@relay.example"})
	if err == nil {
		err = q.load(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	return long{q}
}

// order must be done to the whole queue.
func (q long) order(b *testing.B, o Order) {
	b.Helper()
	n := 0
	err := q.Do(b.Context(), o, func(d Did) error {
		if d.Fate == Done {
			n++
		}
		return nil
	})
	if err != nil || n != *queued {
		b.Fatalf("%s: %d of %d, %v", o.Verb, n, *queued, err)
	}
}

// waits measures, until stop is called, how long somebody waits for the queue
// at most.
func (q long) waits(longest *time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			at := time.Now()
			q.mu.Lock()
			_ = q.sched.checking
			q.mu.Unlock()
			*longest = max(*longest, time.Since(at))
		}
	})
	return func() { cancel(); watching.Wait() }
}
