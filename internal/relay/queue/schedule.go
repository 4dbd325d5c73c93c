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
	index    int    // in dest.waiting; -1: not there
	queued   bool   // in its turn
	round    uint32 // of dest.pace when it was taken
	retry    bool   // it was tried before it was taken
}

// A destination is a next hop and the jobs that are owed to it.
type destination struct {
	name    string
	waiting jobHeap                         // by next attempt
	turns   fifo[*turn]                     // registrations with ready jobs, the next one first, without those that are parked
	byReg   map[unique.Handle[string]]*turn // the same, with them
	ready   int                             // jobs in turns, without those that are gone
	jobs    int                             // in all
	running int
	listed  bool // in schedule.runnable

	pace
	deferrals    int    // attempts in a row after which everything was still owed
	lastDeferral string // what the newest of them was told

	wakeAt time.Time // key in schedule.wakes
	index  int       // in schedule.wakes; -1: not there
}

// maxChecks bounds the checks (expiry, delay) that run at the same time.
const maxChecks = 4

// A schedule is the whole of the queue's memory. It does no I/O and knows no
// clock. All of it is guarded by Queue.mu.
type schedule struct {
	limit    int // attempts at the same time to one destination, at most
	workers  int // attempts at the same time
	running  int // jobs under way
	shares   map[unique.Handle[string]]*share
	parked   fifo[*share] // with turns that are parked
	items    map[spool.ID]*item
	dests    map[string]*destination
	rested   rested             // windows of destinations that are owed nothing
	wakes    destHeap           // destinations with something to wait for
	runnable fifo[*destination] // destinations that may have a job to take
	checks   checkHeap          // items by checkAt
	checking int                // checks under way
	restored list               // items that the spool held at the start, in order of arrival
	accepted list               // the others, in order of arrival
	depth    [numStates]int     // jobs by state
	cached   int                // recipients of items with an entry
}

func newSchedule(limit, workers int) schedule {
	return schedule{limit: limit, workers: workers, items: map[spool.ID]*item{}, rested: rested{}, dests: map[string]*destination{}, shares: map[unique.Handle[string]]*share{}}
}

func (s *schedule) destination(name string, now time.Time) *destination {
	d := s.dests[name]
	if d == nil {
		d = &destination{name: name, byReg: map[unique.Handle[string]]*turn{}, index: -1, pace: s.rested.pace(name, s.limit, now)}
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
	j.dest.ready++
	if j.queued { // it lies there still, from before a hold
		return
	}
	j.queued = true
	s.turn(j).push(s, j)
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
	for n := 0; n < refreshJobs && len(d.waiting) > 0 && !d.waiting[0].next.After(now); n++ {
		s.enqueue(heap.Pop(&d.waiting).(*job)) // what is left has d woken at once
	}
	var wakeAt time.Time
	switch {
	case d.ready > 0 && now.Before(d.blockedUntil):
		wakeAt = d.blockedUntil
	case d.ready > 0 && d.running < d.slots():
		if !d.listed && d.turns.len() > 0 {
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
		s.rested.keep(d.name, d.pace, now)
		for _, t := range d.byReg { // of what was displaced
			s.endTurn(t)
		}
	}
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

// How much of what is due together is made ready at a time, so that nobody
// waits for a million.
const (
	refreshJobs  = 64 // of one destination
	advanceDests = 16
)

// advance makes ready some of what is due at now. If there is more, nextWake is
// not after now.
func (s *schedule) advance(now time.Time) {
	for n := 0; n < advanceDests && len(s.wakes) > 0 && !s.wakes[0].wakeAt.After(now); n++ {
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
	s.unpark(now)
	for {
		d, ok := s.runnable.pop()
		if !ok {
			return nil
		}
		d.listed = false
		var j *job
		if d.ready > 0 && d.running < d.slots() && !now.Before(d.blockedUntil) {
			j = s.takeJob(d)
		}
		if j == nil {
			s.refresh(d, now)
			continue
		}
		d.ready--
		d.running++
		j.round = d.round
		s.setState(j, running)
		s.shareOf(j).begin(s, j)
		s.refresh(d, now)
		return &task{job: j}
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
	s.shareOf(j).end(s, j)
	switch {
	case j.item.gone: // drop has forgotten it
		s.refresh(j.dest, now)
	case len(j.rcpts) == 0:
		s.forget(j, now)
	default:
		s.place(j, now)
	}
}

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
