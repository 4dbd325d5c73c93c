package queue

import (
	"container/heap"
	"net/netip"
	"sync"
	"time"
	"unique"

	"example.edu/gatepost/internal/relay/spool"
)

// An item is what the queue remembers of one entry.
type item struct {
	id           spool.ID
	registration unique.Handle[string]
	client       unique.Handle[netip.Addr]
	arrival      time.Time
	jobs         []*job // one for each transaction that is owed; guarded by Queue.mu

	entry    *spool.Entry // until the first attempt is over, if there was room; guarded by Queue.mu
	hold     string       // why it is held; "" if it is not; guarded by Queue.mu
	operator bool         // hold is an operator's; guarded by Queue.mu
	gone     bool         // no longer in the schedule; guarded by Queue.mu

	checkAt    time.Time // when the next delay or expiry is due; guarded by Queue.mu
	checkIndex int       // in schedule.checks; -1: not there; guarded by Queue.mu
	checking   bool      // a check is under way; guarded by Queue.mu
	undelayed  bool      // a delay DSN may be due one day; guarded by Queue.mu

	restored      bool  // in schedule.restored, else in schedule.accepted
	before, after *item // there; guarded by Queue.mu

	record  sync.Mutex // held while its state is read, changed and stored, with lock; taken before Queue.mu
	changed uint64     // Queue.changes when it was last given back; guarded by record
}

// A single is what most items are, in one piece of memory: one job, for one
// recipient.
type single struct {
	item  item
	job   job
	jobs  [1]*job
	rcpts [1]int
}

// newItem is what the memory keeps of an entry, without its jobs. The item of
// one with a single recipient is part of a single.
func newItem(e *spool.Entry) (*item, *single) {
	var one *single
	var it *item
	if len(e.Envelope.To) == 1 {
		one = &single{}
		it = &one.item
	} else {
		it = &item{}
	}
	it.id = e.ID
	it.registration, it.client = unique.Make(e.Envelope.Registration), unique.Make(e.Envelope.Client)
	it.arrival = e.Envelope.Arrival
	it.hold, it.operator = e.Hold, e.Hold != ""
	it.undelayed = e.Delayed.IsZero() && !e.Envelope.From.IsNull()
	it.checkIndex = -1
	return it, one
}

// A state is where a job stands. The order is that of stateNames.
type state uint8

const (
	waiting state = iota // for its next attempt
	ready                // due, for a slot of its destination
	running
	held
	numStates
)

var stateNames = [numStates]string{"waiting", "ready", "running", "held"} // read-only

// A job is what one item owes to one destination in one transaction.
type job struct {
	item     *item
	dest     *destination
	rcpts    []int
	next     time.Time
	attempts int
	state    state
	index    int // in dest.waiting; -1: not there
	queued   bool
}

// A destination is a next hop and the jobs that are owed to it.
type destination struct {
	name    string
	waiting jobHeap                         // by next attempt
	turns   fifo[*turn]                     // registrations with ready jobs, the next one first
	byReg   map[unique.Handle[string]]*turn // the same
	ready   int                             // jobs in turns, without those that are gone
	jobs    int                             // in all
	running int
	listed  bool // in schedule.runnable

	failures     int       // attempts in a row that failed as a whole
	blockedUntil time.Time // no attempt before
	deferrals    int       // attempts in a row after which everything was still owed
	lastDeferral string    // what the newest of them was told

	wakeAt time.Time // key in schedule.wakes
	index  int       // in schedule.wakes; -1: not there
}

// A turn is one registration's ready jobs at one destination.
type turn struct {
	registration unique.Handle[string]
	jobs         fifo[*job]
}

// Back-off of a destination that fails as a whole: from base, doubling, to limit.
const (
	backoffBase  = 30 * time.Second
	backoffLimit = 15 * time.Minute
)

// maxChecks bounds the checks (expiry, delay) that run at the same time.
const maxChecks = 4

// A schedule is the whole of the queue's memory. It does no I/O and knows no
// clock. All of it is guarded by Queue.mu.
type schedule struct {
	limit    int // attempts at the same time to one destination
	items    map[spool.ID]*item
	dests    map[string]*destination
	wakes    destHeap           // destinations with something to wait for
	runnable fifo[*destination] // destinations that may have a job to take
	checks   checkHeap          // items by checkAt
	checking int                // checks under way
	restored list               // items that the spool held at the start, in order of arrival
	accepted list               // the others, in order of arrival
	depth    [numStates]int     // jobs by state
	cached   int                // recipients of items with an entry
}

func newSchedule(limit int) schedule {
	return schedule{limit: limit, items: map[spool.ID]*item{}, dests: map[string]*destination{}}
}

func (s *schedule) destination(name string) *destination {
	d := s.dests[name]
	if d == nil {
		d = &destination{name: name, byReg: map[unique.Handle[string]]*turn{}, index: -1}
		s.dests[name] = d
	}
	return d
}

// insert adds a new item with its jobs.
func (s *schedule) insert(it *item, now, checkAt time.Time) {
	s.items[it.id] = it
	s.arrivals(it).push(it)
	for _, j := range it.jobs {
		j.dest.jobs++
		j.state = waiting
		s.depth[waiting]++
		s.place(j, now)
	}
	s.setCheck(it, checkAt)
}

// place puts a job that is nowhere into the structure that its item's hold and
// its next attempt call for.
func (s *schedule) place(j *job, now time.Time) {
	switch {
	case j.item.hold != "":
		s.setState(j, held)
	case j.next.After(now):
		s.setState(j, waiting)
		heap.Push(&j.dest.waiting, j)
	default:
		s.enqueue(j)
	}
	s.refresh(j.dest, now)
}

// enqueue makes a job ready, behind its registration's others.
func (s *schedule) enqueue(j *job) {
	s.setState(j, ready)
	d := j.dest
	t := d.byReg[j.item.registration]
	if t == nil {
		t = &turn{registration: j.item.registration}
		d.byReg[j.item.registration] = t
		d.turns.push(t)
	}
	d.ready++
	if !j.queued { // else it lies there still, from before a hold
		j.queued = true
		t.jobs.push(j)
	}
}

// displace takes a job that is not running out of its structure. In a turn it
// is left to be passed over.
func (s *schedule) displace(j *job) {
	switch {
	case j.index >= 0:
		heap.Remove(&j.dest.waiting, j.index)
	case j.state == ready:
		j.dest.ready--
	}
}

func (s *schedule) setState(j *job, st state) {
	s.depth[j.state]--
	s.depth[st]++
	j.state = st
}

// refresh brings a destination's place in wakes and runnable up to date.
func (s *schedule) refresh(d *destination, now time.Time) {
	for len(d.waiting) > 0 && !d.waiting[0].next.After(now) {
		s.enqueue(heap.Pop(&d.waiting).(*job))
	}
	var wakeAt time.Time
	switch {
	case d.ready > 0 && now.Before(d.blockedUntil):
		wakeAt = d.blockedUntil
	case d.ready > 0 && d.running < s.slots(d):
		if !d.listed {
			d.listed = true
			s.runnable.push(d)
		}
		fallthrough
	default:
		if len(d.waiting) > 0 {
			wakeAt = d.waiting[0].next
			if wakeAt.Before(d.blockedUntil) {
				wakeAt = d.blockedUntil
			}
		}
	}
	s.setWake(d, wakeAt)
	if d.jobs == 0 && !d.listed {
		delete(s.dests, d.name)
	}
}

// slots is how many attempts a destination may have under way: one, as long
// as it has not recovered from failing as a whole.
func (s *schedule) slots(d *destination) int {
	if d.failures > 0 {
		return 1
	}
	return s.limit
}

func (s *schedule) setWake(d *destination, at time.Time) {
	d.wakeAt = at
	switch {
	case at.IsZero() && d.index >= 0:
		heap.Remove(&s.wakes, d.index)
	case at.IsZero():
	case d.index >= 0:
		heap.Fix(&s.wakes, d.index)
	default:
		heap.Push(&s.wakes, d)
	}
}

// setCheck sets when an item's expiry or delay is to be looked at; zero: never.
func (s *schedule) setCheck(it *item, at time.Time) {
	it.checkAt = at
	switch {
	case at.IsZero() && it.checkIndex >= 0:
		heap.Remove(&s.checks, it.checkIndex)
	case at.IsZero():
	case it.checkIndex >= 0:
		heap.Fix(&s.checks, it.checkIndex)
	default:
		heap.Push(&s.checks, it)
	}
}

// advance makes ready what is due at now.
func (s *schedule) advance(now time.Time) {
	for len(s.wakes) > 0 && !s.wakes[0].wakeAt.After(now) {
		s.refresh(s.wakes[0], now)
	}
}

// nextWake is when there will be something new to advance or to check; zero:
// never. A check that is due already waits for a worker, not for the clock.
func (s *schedule) nextWake(now time.Time) time.Time {
	var at time.Time
	if len(s.wakes) > 0 {
		at = s.wakes[0].wakeAt
	}
	if len(s.checks) > 0 && s.checks[0].checkAt.After(now) && (at.IsZero() || s.checks[0].checkAt.Before(at)) {
		at = s.checks[0].checkAt
	}
	return at
}

// A task is one thing for a worker: a job to attempt, or an item to check.
type task struct {
	job   *job
	check *item
}

// take hands out the next task: a check that is due, or a job: destinations
// in turn, within one its registrations in turn. nil: there is nothing to do.
func (s *schedule) take(now time.Time) *task {
	if len(s.checks) > 0 && s.checking < maxChecks && !s.checks[0].checkAt.After(now) {
		it := s.checks[0]
		s.setCheck(it, time.Time{})
		it.checking = true
		s.checking++
		return &task{check: it}
	}
	for {
		d, ok := s.runnable.pop()
		if !ok {
			return nil
		}
		d.listed = false
		if d.ready == 0 || d.running >= s.slots(d) || now.Before(d.blockedUntil) {
			s.refresh(d, now)
			continue
		}
		j := d.takeJob()
		d.ready--
		d.running++
		s.setState(j, running)
		s.refresh(d, now)
		return &task{job: j}
	}
}

// takeJob hands out the oldest ready job of the registration whose turn it is.
// There is one: ready is not 0.
func (d *destination) takeJob() *job {
	for {
		t, _ := d.turns.pop()
		j, ok := t.jobs.pop()
		for ok && (j.state != ready || j.item.gone) { // displaced since
			j.queued = false
			j, ok = t.jobs.pop()
		}
		if t.jobs.len() > 0 {
			d.turns.push(t)
		} else {
			delete(d.byReg, t.registration)
		}
		if ok {
			j.queued = false
			return j
		}
	}
}

// finish takes a task back: its job goes where it belongs now, unless
// everything it was for is done.
func (s *schedule) finish(t *task, now time.Time) {
	if t.check != nil {
		s.checking--
		t.check.checking = false
		return
	}
	j := t.job
	j.dest.running--
	switch {
	case j.item.gone: // drop has forgotten it
		s.refresh(j.dest, now)
	case len(j.rcpts) == 0:
		s.forget(j, now)
	default:
		s.place(j, now)
	}
}

// outcome notes for a destination whether it fails as a whole.
func (s *schedule) outcome(d *destination, whole bool, now time.Time, jitter func(time.Duration) time.Duration) {
	if !whole {
		d.failures, d.blockedUntil = 0, time.Time{}
		return
	}
	if now.Before(d.blockedUntil) {
		return // others of the same round found out before
	}
	d.failures++
	d.blockedUntil = now.Add(jitter(min(backoffBase<<min(d.failures-1, 10), backoffLimit)))
}

// pardon lets a destination be tried at once, whatever it did before.
func (s *schedule) pardon(d *destination) { d.blockedUntil = time.Time{} }

// put notes what became of an attempt as a whole: whether everything is still
// owed, and what was said.
func (d *destination) put(off bool, said string) {
	if !off {
		d.deferrals, d.lastDeferral = 0, ""
		return
	}
	d.deferrals++
	d.lastDeferral = said
}

// forget drops one job that is in no structure.
func (s *schedule) forget(j *job, now time.Time) {
	s.depth[j.state]--
	j.dest.jobs--
	for i, other := range j.item.jobs {
		if other == j {
			j.item.jobs = append(j.item.jobs[:i], j.item.jobs[i+1:]...)
			break
		}
	}
	s.refresh(j.dest, now)
}

// drop forgets an item: nothing more is owed.
func (s *schedule) drop(it *item, now time.Time) {
	if it.gone {
		return
	}
	it.gone = true
	s.uncache(it)
	s.setCheck(it, time.Time{})
	delete(s.items, it.id)
	for _, j := range it.jobs {
		s.displace(j)
		s.depth[j.state]--
		j.dest.jobs--
		s.refresh(j.dest, now)
	}
	it.jobs = nil
	s.arrivals(it).remove(it)
}

// arrivals is the list that an item is in.
func (s *schedule) arrivals(it *item) *list {
	if it.restored {
		return &s.restored
	}
	return &s.accepted
}

func (s *schedule) uncache(it *item) {
	if it.entry != nil {
		s.cached -= len(it.entry.Envelope.To)
		it.entry = nil
	}
}

// setHold holds an item, or with "" releases it. Attempts under way go on.
func (s *schedule) setHold(it *item, why string, operator bool, now time.Time) {
	it.hold, it.operator = why, operator && why != ""
	for _, j := range it.jobs {
		if j.state == running {
			continue
		}
		s.displace(j)
		s.place(j, now)
	}
}

// oldest is the arrival of the oldest item; zero if there is none.
func (s *schedule) oldest() (at time.Time) {
	for _, it := range []*item{s.restored.first, s.accepted.first} {
		if it != nil && (at.IsZero() || it.arrival.Before(at)) {
			at = it.arrival
		}
	}
	return at
}
