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

// A fifo is a queue of values in blocks, so that no push and no pop moves what
// others have put in; the zero value is empty.
type fifo[T any] struct {
	first, last *block[T]
	n           int
}

type block[T any] struct {
	values     [64]T
	head, tail int // of values: taken, and filled, so far
	next       *block[T]
}

func (f *fifo[T]) len() int { return f.n }

func (f *fifo[T]) push(v T) {
	switch {
	case f.last == nil:
		f.first = &block[T]{}
		f.last = f.first
	case f.last.tail == len(f.last.values):
		f.last.next = &block[T]{}
		f.last = f.last.next
	}
	f.last.values[f.last.tail] = v
	f.last.tail++
	f.n++
}

func (f *fifo[T]) pop() (v T, ok bool) {
	if f.n == 0 {
		return v, false
	}
	b := f.first
	var zero T
	v, b.values[b.head] = b.values[b.head], zero
	b.head++
	f.n--
	switch {
	case f.n == 0: // the block is used again
		b.head, b.tail = 0, 0
	case b.head == len(b.values):
		f.first = b.next
	}
	return v, true
}

// A list is of items in the order in which they were added. Each is in one list
// at most.
type list struct{ first, last *item }

func (l *list) push(it *item) {
	it.before = l.last
	if l.last == nil {
		l.first = it
	} else {
		l.last.after = it
	}
	l.last = it
}

// remove takes an item out. It still knows what comes after it, so that whoever
// stands there can go on: what is gone leads to what is not, or to the end.
func (l *list) remove(it *item) {
	if it.before == nil {
		l.first = it.after
	} else {
		it.before.after = it.after
	}
	if it.after == nil {
		l.last = it.before
	} else {
		it.after.before = it.before
	}
	it.before = nil // what is gone keeps nothing older
}
