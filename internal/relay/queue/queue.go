// Package queue decides which spooled messages are due, and how often they are
// tried. It owns the schedule, the fairness between registrations, the pace
// towards each destination, and the decision to give up.
//
// It never speaks SMTP (a Courier does), never keeps a message (the spool
// does), and holds no envelope of a message that waits: an item in memory is an
// ID, a registration and, for each destination, the next attempt.
//
// The recipe of an attempt: take the next job of a destination that has a free
// slot, the registrations of that destination in turn; ask whether its mail is
// held; let the courier deliver; record each recipient's result; then remove
// the entry, or store a DSN and the new state in one batch, or store the state
// and the time of the next attempt.
//
// Invariants:
//   - Nothing that is in the spool is forgotten but by Remove, and Remove comes
//     only after delivery, after the DSN was stored in the same batch, where no
//     DSN may be sent, or at an operator's word.
//   - Whatever a crash takes back means "deliver again".
//   - A notification never causes another one.
//   - The cost of an attempt does not grow with the length of the queue (but
//     for the depth of a heap).
//
// RFC 5321 §4.5.4.1 (retries), §4.5.5 (null reverse-path), RFC 3461 §6 (DSN).
package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A Courier knows where mail goes and makes one attempt. Its methods are
// called from many goroutines.
type Courier interface {
	// Destination names the next hop for a domain: what is equal shares
	// connections, transactions and back-off. It does no I/O.
	Destination(domain string) string
	// Deliver makes one attempt for some recipients (indexes into
	// e.Envelope.To) that share a destination, in one transaction, and returns
	// one result for each, in their order. It must not change e, and ends soon
	// after ctx does. A result that is missing counts as Deferred.
	Deliver(ctx context.Context, e *spool.Entry, body func() (io.ReadCloser, error), rcpts []int) []mail.Result
}

// A Reader is the part of the spool that the queue reads.
type Reader interface {
	Entries(func(*spool.Entry) error) error
	Get(spool.ID) (*spool.Entry, error)
	Body(spool.ID) (io.ReadCloser, error)
}

// A Recorder is the part of the spool that the queue writes.
type Recorder interface {
	Update(*spool.Entry) error
	Remove(spool.ID) error
	// Notify stores a DSN and, in the same batch, the state of the entry that
	// it tells of, or its removal if all of its recipients are done.
	Notify(ctx context.Context, dsn mail.Envelope, body []byte, about *spool.Entry) (*spool.Entry, error)
}

// A Mass is the part of the spool for what is done to many entries.
type Mass interface {
	// EntriesAfter is Entries without those up to an ID.
	EntriesAfter(spool.ID, func(*spool.Entry) error) error
	// UpdateAll is Update for many, in the order of their IDs, as one step. It
	// returns the IDs of those that were gone.
	UpdateAll([]*spool.Entry) (missing []spool.ID, err error)
	// Sync returns when all that was changed before it is on stable storage.
	Sync() error
}

// A Store is a spool.
type Store interface {
	Reader
	Recorder
	Mass
}

var _ Store = (*spool.Spool)(nil)

// A Tracer is told what becomes of messages. Its methods must not wait for
// anything, and read what they are given before they return.
type Tracer interface {
	// Ended: a message has left the spool. how is finished, expired, returned or
	// deleted; the last two are an operator's.
	Ended(e *spool.Entry, how, reason, operator string)
	// Told: a DSN about a message was stored; kind is failure, delay or relayed.
	Told(about, dsn spool.ID, kind string)
}

// Options say how a queue works. Spool, Courier, Hostname and Postmaster are
// needed; the rest has defaults.
type Options struct {
	Spool      Store
	Courier    Courier
	Hostname   string // of this relay, for DSNs
	Postmaster string // an address for people, for DSNs; told of failures that no sender can be told of

	// Held says why an entry must not be delivered now; "" if it may. It is
	// asked before each attempt, and on Recheck for every entry, of which it may
	// then see no more than ID, client, registration and arrival. Nil: nothing
	// is held.
	Held func(*spool.Entry) string

	// Result is told of each result of an attempt, just before it is recorded.
	// It must not wait for anything. Nil: nobody is told.
	Result func(*spool.Entry, mail.Result)

	Trace Tracer // nil: nobody is told

	Schedule       []time.Duration // from one attempt to the next, the last repeated; default 5 min doubling to 4 h
	Expiry         time.Duration   // from arrival to giving up; default 5 days (RFC 5321 §4.5.4.1)
	DelayAfter     time.Duration   // from arrival to the one delay DSN; default 4 h; negative: none
	Workers        int             // attempts at the same time; default 64
	PerDestination int             // of these, to one destination, at most; default 16
	MaxRecipients  int             // in one transaction; default 100 (RFC 5321 §4.5.3.1.8)
	Grace          time.Duration   // for attempts under way when Run ends; default 20 s

	Logger     *slog.Logger          // nil: silent
	Registerer prometheus.Registerer // nil: metrics are kept and not shown
}

func (o *Options) defaults() {
	if len(o.Schedule) == 0 {
		o.Schedule = []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 80 * time.Minute, 160 * time.Minute, 4 * time.Hour}
	}
	orDefault(&o.Expiry, 5*24*time.Hour)
	orDefault(&o.DelayAfter, 4*time.Hour)
	orDefault(&o.Workers, 64)
	orDefault(&o.PerDestination, 16)
	orDefault(&o.MaxRecipients, 100)
	orDefault(&o.Grace, 20*time.Second)
	if o.Held == nil {
		o.Held = func(*spool.Entry) string { return "" }
	}
	if o.Trace == nil {
		o.Trace = untraced{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

type untraced struct{}

func (untraced) Ended(*spool.Entry, string, string, string) {}
func (untraced) Told(spool.ID, spool.ID, string)            {}

func orDefault[T ~int | ~int64](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

// A Queue is the schedule of one spool. Its methods may be called from any
// goroutine, before, during and after Run.
type Queue struct {
	o          Options
	store      Store
	postmaster mail.Address
	log        *slog.Logger
	metrics    *metrics
	totals     totals
	wake       chan struct{}  // capacity 1: something for Run to do
	wg         sync.WaitGroup // workers

	mu      sync.Mutex
	sched   schedule        // guarded by mu
	ctx     context.Context // of the attempts; nil unless Run runs; guarded by mu
	workers int             // goroutines in work; guarded by mu
	loading bool            // Run has not yet seen all of the spool; guarded by mu
	recheck bool            // Recheck was called; guarded by mu
	timed   time.Time       // what Run's timer is set to; guarded by mu

	// seen are the entries that were accepted while loading: what the spool
	// tells of them later may be out of date. Guarded by mu.
	seen map[spool.ID]struct{}

	changes atomic.Uint64 // how often an item was given back
}

// lock takes the state of an item: nobody else reads it in order to change it
// until unlock.
func (q *Queue) lock(it *item) { it.record.Lock() }

// unlock gives the state of an item back. What was read of it from the store
// before is out of date from now on.
func (q *Queue) unlock(it *item) {
	it.changed = q.changes.Add(1)
	it.record.Unlock()
}

// New makes a queue. Nothing is delivered before Run.
func New(o Options) (*Queue, error) {
	switch {
	case o.Spool == nil || o.Courier == nil:
		return nil, errors.New("queue: a spool and a courier are needed")
	case o.Hostname == "" || o.Postmaster == "":
		return nil, errors.New("queue: a host name and a postmaster are needed")
	case o.Workers < 0 || o.PerDestination < 0 || o.MaxRecipients < 0 || o.Expiry < 0 || o.Grace < 0:
		return nil, errors.New("queue: a bound is negative")
	}
	postmaster, err := mail.ParseAddress(o.Postmaster, true)
	if err != nil {
		return nil, fmt.Errorf("queue: the postmaster: %w", err)
	}
	o.defaults()
	q := &Queue{
		postmaster: postmaster,

		o:       o,
		store:   o.Spool,
		log:     o.Logger,
		wake:    make(chan struct{}, 1),
		loading: true,
		seen:    map[spool.ID]struct{}{},
		sched:   newSchedule(o.PerDestination, o.Workers),
	}
	q.metrics = newMetrics(o.Registerer, q)
	return q, nil
}

// Run delivers until ctx ends. It begins with what the spool holds, and
// returns once every attempt under way has been recorded: those get Grace to
// end by themselves and are cancelled then. It runs once.
func (q *Queue) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	q.mu.Lock()
	if q.ctx != nil || !q.loading {
		q.mu.Unlock()
		return errors.New("queue: Run runs once")
	}
	q.ctx = work
	q.staff()
	q.mu.Unlock()

	err := q.load(ctx)
	if err == nil {
		q.tick(ctx)
	}

	q.mu.Lock()
	q.ctx = nil // no new attempts
	q.mu.Unlock()
	grace := time.AfterFunc(q.o.Grace, cancel)
	defer grace.Stop()
	q.wg.Wait()
	return err
}

// load takes over what the spool holds. Damaged entries are the spool's to
// report; the rest goes out.
func (q *Queue) load(ctx context.Context) error {
	err := q.store.Entries(func(e *spool.Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if draftOf(e).done() { // its removal was never recorded
			return q.store.Remove(e.ID)
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		if _, seen := q.seen[e.ID]; !seen {
			q.add(e, false)
		}
		return nil
	})
	q.mu.Lock()
	q.loading, q.seen = false, nil
	q.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, spool.ErrDamaged):
		q.log.Error("the spool cannot be read in full; the rest is tried", "event", "queue.incomplete", "err", err)
	case err != nil:
		return fmt.Errorf("queue: loading: %w", err)
	}
	return nil
}

// tick makes due what has become due, until ctx ends.
func (q *Queue) tick(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-q.wake:
		}
		q.mu.Lock()
		recheck := q.recheck
		q.recheck = false
		now := time.Now()
		q.sched.advance(now)
		q.staff()
		q.timed = q.sched.nextWake(now)
		timer.Stop()
		if !q.timed.IsZero() {
			timer.Reset(q.timed.Sub(now))
		}
		q.mu.Unlock()
		if recheck {
			q.reconsider(ctx)
		}
	}
}

// Accept takes over an entry that was just committed. It never blocks on I/O.
func (q *Queue) Accept(e *spool.Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.loading {
		q.seen[e.ID] = struct{}{}
	}
	q.add(e, true)
}

// Recheck asks Held again about all entries. Call it when blocks have changed.
// It returns at once.
func (q *Queue) Recheck() {
	q.mu.Lock()
	q.recheck = true
	q.mu.Unlock()
	q.poke()
}

func (q *Queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// maxCached is how many recipients the entries have that stay in memory from
// Accept to their first attempt, so that it needs no read.
const maxCached = 4096

// add puts an entry into the schedule. The caller holds mu.
func (q *Queue) add(e *spool.Entry, fresh bool) {
	if q.sched.items[e.ID] != nil {
		return
	}
	now := time.Now()
	it, one := newItem(e)
	it.restored = !fresh
	if one != nil {
		j := &one.job
		one.jobs[0] = j
		*j = job{item: it, dest: q.sched.destination(q.o.Courier.Destination(e.Envelope.To[0].Address.Domain), now), rcpts: one.rcpts[:], next: e.Next, attempts: e.Attempts, index: -1}
		it.jobs = one.jobs[:]
	} else {
		for destination, rcpts := range q.split(e) {
			it.jobs = append(it.jobs, &job{item: it, dest: q.sched.destination(destination, now), rcpts: rcpts, next: e.Next, attempts: e.Attempts, index: -1})
		}
	}
	if n := len(e.Envelope.To); fresh && q.sched.cached+n <= maxCached {
		it.entry = e
		q.sched.cached += n
	}
	if it.arrival.IsZero() {
		it.arrival = now
	}
	q.sched.insert(it, now, q.nextCheck(it, now))
	q.changed()
}

// changed starts workers for what is due, and lets Run set its timer anew if
// something is due before it. The caller holds mu.
func (q *Queue) changed() {
	q.staff()
	if wake := q.sched.nextWake(time.Now()); q.ctx != nil && !wake.IsZero() && (q.timed.IsZero() || wake.Before(q.timed)) {
		q.timed = wake
		q.poke()
	}
}

// split yields the recipients that are owed something by destination, at most
// MaxRecipients together, in a stable order.
func (q *Queue) split(e *spool.Entry) func(yield func(string, []int) bool) {
	return func(yield func(string, []int) bool) {
		var order []string
		groups := map[string][]int{}
		for i, to := range e.Envelope.To {
			if e.State[i].Done {
				continue
			}
			d := q.o.Courier.Destination(to.Address.Domain)
			if len(groups[d]) == 0 {
				order = append(order, d)
			}
			groups[d] = append(groups[d], i)
		}
		for _, d := range order {
			for rest := groups[d]; len(rest) > 0; {
				n := min(len(rest), q.o.MaxRecipients)
				if !yield(d, rest[:n:n]) {
					return
				}
				rest = rest[n:]
			}
		}
	}
}

// staff starts workers while there is work and room for them. The caller
// holds mu.
func (q *Queue) staff() {
	for q.ctx != nil && q.workers < q.o.Workers {
		task := q.sched.take(time.Now())
		if task == nil {
			return
		}
		q.workers++
		ctx := q.ctx
		q.wg.Go(func() { q.work(ctx, task) })
	}
}

// work does one task after the other until none is due.
func (q *Queue) work(ctx context.Context, task *task) {
	for task != nil {
		if task.job != nil {
			q.attempt(ctx, task.job)
		} else {
			q.check(ctx, task.check)
		}
		q.mu.Lock()
		q.sched.finish(task, time.Now())
		task = nil
		if q.ctx != nil {
			task = q.sched.take(time.Now())
		}
		if task == nil {
			q.workers--
		}
		q.changed()
		q.mu.Unlock()
	}
}
