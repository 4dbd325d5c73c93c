package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/status"
)

// A spoken is a relay that says what it is told to.
type spoken struct {
	mu     sync.Mutex
	fails  error
	asked  []time.Time
	about  int // questions about addresses
	under  int // of these, under way
	most   int // at one time
	orders []string
	hangs  bool // when it is asked about an address
}

func (s *spoken) say(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = err
}

func (s *spoken) Report(ctx context.Context) (*status.Report, error) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	n, err := len(s.asked), s.fails
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return &status.Report{Host: "relay.example.edu", Relay: status.Relay{Accepted: int64(n)}}, nil
}

func (s *spoken) Address(ctx context.Context, ip netip.Addr) (*status.Address, error) {
	s.mu.Lock()
	s.about++
	s.under++
	s.most = max(s.most, s.under)
	err, hangs := s.fails, s.hangs
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.under--
	}()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &status.Address{IP: ip}, err
}

func (s *spoken) Order(_ context.Context, path string, order, answer any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := json.Marshal(order)
	s.orders = append(s.orders, path+" "+string(text))
	return errors.Join(err, s.fails)
}

func (s *spoken) Close() {}

func (s *spoken) times() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// spokenFleet is a fleet of relays a, b, …, running until the test's end.
func spokenFleet(t *testing.T, relays ...*spoken) *Fleet {
	t.Helper()
	var sources []Source
	for i := range relays {
		sources = append(sources, Source{Name: string(rune('a' + i)), OperatorTokenFile: "/t"})
	}
	registry := prometheus.NewPedanticRegistry()
	t.Cleanup(func() {
		if _, err := registry.Gather(); err != nil {
			t.Error(err)
		}
	})
	f, err := New(Options{Sources: sources, Registerer: registry, Dial: func(s Source) (Client, error) { return relays[s.Name[0]-'a'], nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return f
}

// TestAFleetIsFollowed: reports come at their pace, one relay's silence is no
// other's, it is asked less and less often, and found again.
func TestAFleetIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &spoken{}, &spoken{fails: errors.New("connection refused")}
		f := spokenFleet(t, a, b)
		news := f.Watch()
		<-news
		<-time.After(10 * time.Minute)
		if n := len(a.times()); n < 100 || n > 150 {
			t.Errorf("asked %d times in ten minutes", n)
		}
		asked := b.times()
		if n := len(asked); n < 10 || n > 20 {
			t.Errorf("a relay that does not answer is asked %d times in ten minutes", n)
		}
		for i := range asked[1:] {
			if d := asked[i+1].Sub(asked[i]); d < 4*time.Second || d > everyMost*5/4 {
				t.Errorf("asked after %v", d)
			}
		}
		relays := f.Relays()
		if r := relays[0]; !r.Up() || time.Since(r.At) > 6*time.Second || r.Report.Relay.Accepted < 100 {
			t.Errorf("a is %+v", r)
		}
		if r := relays[1]; r.Up() || r.Error != "connection refused" || time.Since(r.Since) < 9*time.Minute {
			t.Errorf("b is %+v", r)
		}
		b.say(nil)
		<-time.After(everyMost * 5 / 4)
		if r := f.Relays()[1]; !r.Up() || r.Error != "" {
			t.Errorf("b is %+v", r)
		}
		if list := f.History("a", time.Now().Add(-5*time.Minute)); len(list) < 19 || len(list) > 21 {
			t.Errorf("%d points in five minutes", len(list))
		}
		b.say(errors.New("gone"))
		<-time.After(time.Minute)
		if r := f.Relays()[1]; r.Up() || r.Report == nil || r.Error != "gone" {
			t.Errorf("what a relay said last is forgotten: %+v", r)
		}
	})
}

// TestAnAddress is asked of all at once, for four seconds at most.
func TestAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ip := netip.MustParseAddr("::ffff:192.0.2.1")
		a, hanging, gone := &spoken{}, &spoken{hangs: true}, &spoken{fails: errors.New("gone")}
		f := spokenFleet(t, a, hanging, gone)
		<-time.After(time.Minute)
		began := time.Now()
		list := f.Address(t.Context(), ip)
		if took := time.Since(began); took > addressWait {
			t.Errorf("it took %v", took)
		}
		if list[0].Address == nil || list[0].Address.IP != ip.Unmap() || list[1].Error == "" || list[2].Error != "gone" {
			t.Errorf("got %+v", list)
		}
		if gone.about != 0 {
			t.Error("a relay that has long been silent is asked")
		}
		for range 2 * atOnce { // more than one relay is asked at once, with nobody waiting for them
			go f.Address(t.Context(), ip)
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		hanging.mu.Lock()
		defer hanging.mu.Unlock()
		if hanging.most != atOnce {
			t.Errorf("a slow relay is asked %d times at once", hanging.most)
		}
	})
}

// TestOrdersAreToldTruly: what each relay did, refused, never heard, or may have
// done.
func TestOrdersAreToldTruly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []*spoken{{}, {}, {}, {}}
		f := spokenFleet(t, all...)
		<-time.After(time.Second)
		all[1].say(&Refusal{"it is wide", "say so"})
		all[2].say(errors.New("connection refused"))
		all[3].say(ErrUnknown)
		got := f.BlockAt(t.Context(), "", "pat@example.edu", Block{Prefix: "192.0.2.1", Reason: "spam", For: 90 * time.Minute})
		for i, want := range []Outcome{{"a", Done, "blocked until it is taken back", ""}, {"b", NotDone, "it is wide", "say so"}, {"c", Failed, "connection refused", ""}, {"d", Unknown, ErrUnknown.Error(), ""}} {
			if got[i] != want {
				t.Errorf("got %+v, want %+v", got[i], want)
			}
		}
		for i, result := range []string{Done, NotDone, Failed, Unknown} {
			if n := testutil.ToFloat64(f.metrics.orders.WithLabelValues("block", result)); n != 1 {
				t.Errorf("%v orders are counted as %s (relay %d)", n, result, i)
			}
		}
		if got := all[0].orders; len(got) != 1 || got[0] != `blocks {"prefix":"192.0.2.1","reason":"spam","for":"1h30m0s","operator":"pat@example.edu"}` {
			t.Errorf("told %v", got)
		}
		if got := f.UnblockAt(t.Context(), "a", "pat@example.edu", "192.0.2.1", "cleaned"); len(got) != 1 || got[0].State != Done {
			t.Errorf("got %+v", got)
		}
		if got := f.ReleaseAt(t.Context(), "nobody", "pat@example.edu", Release{Registration: "x"}); len(got) != 0 {
			t.Errorf("got %+v", got)
		}
		synctest.Wait()
		n := len(all[0].times())
		f.ReleaseAt(t.Context(), "a", "pat@example.edu", Release{Registration: "registrations/x.cue", Reason: "ok", For: time.Hour})
		synctest.Wait()
		if len(all[0].times()) != n+1 {
			t.Error("a relay is not asked anew behind an order")
		}
		if got := all[0].orders[2]; !strings.HasPrefix(got, `brake/release {"registration":"registrations/x.cue","reason":"ok","for":"1h0m0s","operator"`) {
			t.Errorf("told %v", got)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if got := f.UnblockAt(gone, "a", "pat@example.edu", "192.0.2.1", "x"); got[0].State != Done {
			t.Errorf("an order is cut off as the visitor goes away: %+v", got)
		}
	})
}
