package limits

import (
	"math"
	"time"
)

// A rate is what a budget allows: n units in each span of time, and burst units
// at once.
type rate struct {
	n, burst float64 // both above zero
	span     time.Duration
}

// each is how long one unit takes to fill up again, in nanoseconds.
func (r rate) each() float64 { return float64(r.span) / r.n }

// A meter is how much of one budget is used: the time, in Unix nanoseconds, at
// which the budget will be full again (GCRA, the token bucket written as a
// time). The zero meter is a full budget.
//
// It does what golang.org/x/time/rate.Limiter does, as TestMeterIsATokenBucket
// holds, in 8 octets where that takes 80 and a lock, and can be written to a
// file and read again.
type meter int64

// used is how many units have not been filled up again at now. It may be more
// than the burst, after settle, but never more than twice the burst: so a clock
// that is set back holds nobody up for longer than that.
func (m meter) used(r rate, now time.Time) float64 {
	ahead := int64(m) - now.UnixNano()
	if ahead <= 0 {
		return 0
	}
	return min(float64(ahead)/r.each(), 2*r.burst)
}

// left is how many units there are at now; less than zero for a budget that is
// overdrawn.
func (m meter) left(r rate, now time.Time) float64 { return r.burst - m.used(r, now) }

// has reports whether there are n units at now, but for a rounding error.
func (m meter) has(r rate, now time.Time, n float64) bool {
	return m.left(r, now)+1e-6 >= n
}

// spend uses n units at now, or gives them back if n is less than zero.
func (m meter) spend(r rate, now time.Time, n float64) meter {
	return using(r, now, m.used(r, now)+n)
}

// using is the meter of a budget with so many units used at now.
func using(r rate, now time.Time, used float64) meter {
	used = min(used, 2*r.burst)
	if !(used > 0) { // not a number, too
		return 0
	}
	return meter(now.UnixNano() + int64(math.Round(used*r.each())))
}

// wait is how long after now there are n units, at most burst.
func (m meter) wait(r rate, now time.Time, n float64) time.Duration {
	lacking := min(n, r.burst) - m.left(r, now)
	if lacking <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(lacking * r.each()))
}
