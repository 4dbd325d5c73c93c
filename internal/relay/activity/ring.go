package activity

import "math"

// A ring counts by equal spans of time, the newest of them and the ones before
// it, as many as counts has places. A span's number is its start in Unix
// seconds divided by its length; it is counted at that number modulo the places.
type ring struct {
	span   int64 // seconds
	newest int64 // number of the newest span that was counted; 0: none
	counts []uint32
}

func newRing(span int64, places int) ring {
	return ring{span: span, counts: make([]uint32, places)}
}

// add counts one at a time. A time before the newest span, as after a clock
// that was set back, is counted there if it is close, and otherwise begins anew:
// what was counted lies in a future that may never come.
func (r *ring) add(at int64) {
	number, places := at/r.span, int64(len(r.counts))
	if number < r.newest && r.newest-number <= 1 {
		number = r.newest
	}
	if number < r.newest || number-r.newest >= places {
		clear(r.counts)
	} else {
		for n := r.newest + 1; n <= number; n++ {
			r.counts[n%places] = 0
		}
	}
	r.newest = number
	if c := &r.counts[number%places]; *c < math.MaxUint32 {
		*c++
	}
}

// sum is what was counted in the last n spans, that of the time at among them.
func (r *ring) sum(at int64, n int) (total int) {
	number, places := at/r.span, int64(len(r.counts))
	for i := range int64(n) {
		if k := number - i; k <= r.newest && k > r.newest-places && k >= 0 {
			total += int(r.counts[k%places])
		}
	}
	return total
}

// list is the counts, the newest span first, without what is zero at its end.
func (r *ring) list() []uint32 {
	places := int64(len(r.counts))
	out := make([]uint32, 0, places)
	used := 0
	for i := range places {
		if r.newest-i < 0 {
			break
		}
		c := r.counts[(r.newest-i)%places]
		out = append(out, c)
		if c > 0 {
			used = len(out)
		}
	}
	return out[:used]
}

// set is the reverse of list.
func (r *ring) set(newest int64, list []uint32) {
	places := int64(len(r.counts))
	r.newest = newest
	for i, c := range list[:min(len(list), len(r.counts))] {
		if n := newest - int64(i); n >= 0 {
			r.counts[n%places] = c
		}
	}
}
