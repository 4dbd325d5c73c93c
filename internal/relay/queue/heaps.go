package queue

// The orders that the schedule keeps, for container/heap, and a first-in,
// first-out list whose memory follows its length.

type jobHeap []*job

func (h jobHeap) Len() int           { return len(h) }
func (h jobHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }
func (h jobHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *jobHeap) Push(x any) {
	j := x.(*job)
	j.index = len(*h)
	*h = append(*h, j)
}
func (h *jobHeap) Pop() any {
	last := len(*h) - 1
	j := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	j.index = -1
	return j
}

type destHeap []*destination

func (h destHeap) Len() int           { return len(h) }
func (h destHeap) Less(i, j int) bool { return h[i].wakeAt.Before(h[j].wakeAt) }
func (h destHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *destHeap) Push(x any) {
	d := x.(*destination)
	d.index = len(*h)
	*h = append(*h, d)
}
func (h *destHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	d.index = -1
	return d
}

type checkHeap []*item

func (h checkHeap) Len() int           { return len(h) }
func (h checkHeap) Less(i, j int) bool { return h[i].checkAt.Before(h[j].checkAt) }
func (h checkHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].checkIndex, h[j].checkIndex = i, j
}
func (h *checkHeap) Push(x any) {
	it := x.(*item)
	it.checkIndex = len(*h)
	*h = append(*h, it)
}
func (h *checkHeap) Pop() any {
	last := len(*h) - 1
	it := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	it.checkIndex = -1
	return it
}

// A fifo is a queue of values; the zero value is empty.
type fifo[T any] struct {
	values []T
	head   int
}

func (f *fifo[T]) len() int { return len(f.values) - f.head }

func (f *fifo[T]) push(v T) { f.values = append(f.values, v) }

func (f *fifo[T]) peek() (v T, ok bool) {
	if f.len() == 0 {
		return v, false
	}
	return f.values[f.head], true
}

func (f *fifo[T]) pop() (v T, ok bool) {
	if f.len() == 0 {
		return v, false
	}
	var zero T
	v, f.values[f.head] = f.values[f.head], zero
	f.head++
	if f.head > 32 && f.head*2 > len(f.values) { // amortised: each value moves once
		n := copy(f.values, f.values[f.head:])
		clear(f.values[n:])
		f.values, f.head = f.values[:n], 0
	}
	return v, true
}

// keep drops the values that ok does not want.
func (f *fifo[T]) keep(ok func(T) bool) {
	kept := make([]T, 0, f.len()/2)
	for _, v := range f.values[f.head:] {
		if ok(v) {
			kept = append(kept, v)
		}
	}
	f.values, f.head = kept, 0
}
