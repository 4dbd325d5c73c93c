package portal

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What pages may ask of a forge that counts. GitHub answers 5,000 calls in an
// hour, of which the reporter and the opening of requests need their part. A
// request that is read whole takes about a dozen calls, one that is looked at
// again one to four.
const (
	askWhole = 4
	askAgain = 1

	askedByOne  = 120 // at once, by one person
	askedByAll  = 240
	oneAskAgain = 6 * time.Second // until one more may be asked
	allAskAgain = 3 * time.Second
	maxAskers   = 1000 // who are remembered
)

// errAskedTooMuch: the forge is not asked now, and nothing is known.
var errAskedTooMuch = errors.New("portal: too much has been asked of the forge")

// An askBudget shares what pages may ask of the forge among those who look. It is
// safe for concurrent use; nil has no bounds.
type askBudget struct {
	now func() time.Time

	mu   sync.Mutex
	all  *rate.Limiter            // guarded by mu
	each map[string]*rate.Limiter // guarded by mu; by person
}

func newAskBudget(now func() time.Time) *askBudget {
	return &askBudget{now: now, all: rate.NewLimiter(rate.Every(allAskAgain), askedByAll), each: map[string]*rate.Limiter{}}
}

// take takes n, from the person's and from everybody's, or nothing.
func (b *askBudget) take(person string, n int) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.each[person]
	if one == nil {
		if len(b.each) >= maxAskers {
			clear(b.each)
		}
		one = rate.NewLimiter(rate.Every(oneAskAgain), askedByOne)
		b.each[person] = one
	}
	now := b.now()
	if one.TokensAt(now) < float64(n) || b.all.TokensAt(now) < float64(n) {
		return false
	}
	return one.AllowN(now, n) && b.all.AllowN(now, n)
}
