package activity

import "math"

// A span of time is counted in one of these.
type (
	// An hour has the messages of one hour.
	hour uint32
	// A day is one day, in UTC.
	day struct {
		messages, recipients uint32
		octets               uint64
	}
)

// A ring counts by equal spans of time, the newest of them and the ones before
// it, as many as it has places. A span's number is its start in Unix seconds
// divided by its length; it is counted at that number modulo the places.
type ring[T any] struct {
	span   int64 // seconds
	newest int64 // number of the newest span that was counted; 0: none
	counts []T
}

func newHours() ring[hour]           { return ring[hour]{span: 3600, counts: make([]hour, 24)} }
func newDays[T hour | day]() ring[T] { return ring[T]{span: 86400, counts: make([]T, 30)} }

// now is the count of the span that a time is in. A time before the newest span,
// as after a clock that was set back, is counted there if it is close, and
// otherwise begins anew: what was counted lies in a future that may never come.
func (r *ring[T]) now(at int64) *T {
	number, places := at/r.span, int64(len(r.counts))
	if number < r.newest && r.newest-number <= 1 {
		number = r.newest
	}
	if number < r.newest || number-r.newest >= places {
		clear(r.counts)
	} else {
		var none T
		for n := r.newest + 1; n <= number; n++ {
			r.counts[n%places] = none
		}
	}
	r.newest = number
	return &r.counts[number%places]
}

// last calls f with each of the last n spans that were counted, and how many
// spans ago that was: 0 for that of the time at.
func (r *ring[T]) last(at int64, n int, f func(ago int64, c *T)) {
	number, places := at/r.span, int64(len(r.counts))
	newest := min(number, r.newest)
	oldest := max(number-int64(n)+1, r.newest-places+1, 0)
	for k := newest; k >= oldest; k-- {
		f(number-k, &r.counts[k%places])
	}
}

// sum is what was counted in the last n spans.
func sum(r *ring[hour], at int64, n int) (total int) {
	r.last(at, n, func(_ int64, c *hour) { total += int(*c) })
	return total
}

// list is the counts, the newest span first, without what is empty at its end.
func list[T comparable, N any](r *ring[T], of func(T) N) []N {
	places := int64(len(r.counts))
	out := make([]N, 0, places)
	used := 0
	var none T
	for i := range places {
		if r.newest-i < 0 {
			break
		}
		c := r.counts[(r.newest-i)%places]
		out = append(out, of(c))
		if c != none {
			used = len(out)
		}
	}
	return out[:used]
}

// set is the reverse of list.
func set[T, N any](r *ring[T], newest int64, list []N, put func(*T, N)) {
	places := int64(len(r.counts))
	r.newest = newest
	for i, c := range list[:min(len(list), len(r.counts))] {
		if n := newest - int64(i); n >= 0 {
			put(&r.counts[n%places], c)
		}
	}
}

// plus adds to a count that stays at its most.
func plus[T ~uint32](c *T, n int) {
	*c += T(min(uint64(max(0, n)), math.MaxUint32-uint64(*c)))
}
