package guard

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"example.edu/gatepost/internal/config"
)

// maxKnown bounds how many addresses or persons are known at one time, in each
// of two generations. Beyond it, those who were not seen for longest start anew.
const maxKnown = 20_000

// rates are the budgets of visitors. All last a minute but one.
type rates struct {
	now       func() time.Time
	requests  *budgets // by address
	addresses *budgets // forms, by address
	persons   *budgets // forms, by person
	opened    *budgets // requests to the register, by person, a day
}

func newRates(l config.PortalLimits, now func() time.Time) rates {
	return rates{
		now:       now,
		requests:  newBudgets(l.RequestsPerMinute, time.Minute),
		addresses: newBudgets(l.FormsPerMinute*heavyForm, time.Minute),
		persons:   newBudgets(l.FormsPerPerson*heavyForm, time.Minute),
		opened:    newBudgets(l.OpenedPerDay, 24*time.Hour),
	}
}

// request takes a request of a visitor; how long to wait if there is no room.
func (r *rates) request(address string) time.Duration { return r.requests.take(address, 1, r.now()) }

// form takes a form, and says whose budget has no room if one has not. What the
// person's budget refuses has still come from the address.
func (r *rates) form(address, person string, n int) (wait time.Duration, whose string) {
	if wait := r.addresses.take(address, n, r.now()); wait > 0 {
		return wait, "address"
	}
	if person == "" {
		return 0, ""
	}
	return r.persons.take(person, n, r.now()), "person"
}

// budgets are token buckets by name, each of as many tokens as come again in
// one span. A bucket that nobody touched for a span is full, and so need not be
// known; two generations that change once a span at least lose no other.
type budgets struct {
	most int
	span time.Duration

	mu            sync.Mutex
	young, old    map[string]*rate.Limiter // guarded by mu
	youngSince    time.Time                // guarded by mu
	maxGeneration int
}

func newBudgets(most int, span time.Duration) *budgets {
	return &budgets{most: most, span: span, young: map[string]*rate.Limiter{}, maxGeneration: maxKnown}
}

// take takes n tokens, or none and says when there are so many.
func (b *budgets) take(name string, n int, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.youngSince) >= b.span || len(b.young) >= b.maxGeneration {
		b.old, b.young, b.youngSince = b.young, map[string]*rate.Limiter{}, now
	}
	l := b.young[name]
	if l == nil {
		if l = b.old[name]; l == nil {
			l = rate.NewLimiter(rate.Limit(float64(b.most)/b.span.Seconds()), b.most)
		}
		b.young[name] = l
	}
	if l.AllowN(now, n) {
		return 0
	}
	missing := float64(min(n, b.most)) - l.TokensAt(now)
	return max(time.Millisecond, time.Duration(missing/float64(l.Limit())*float64(time.Second)))
}

// Opening takes one request to the register of a person's budget of a day; if
// there is none left, it says when there is one again.
func (g *Guard) Opening(person string) (wait time.Duration, ok bool) {
	wait = g.rates.opened.take(person, 1, g.o.Now())
	if wait > 0 {
		g.metrics.refused.WithLabelValues("opened").Inc()
	}
	return wait, wait == 0
}
