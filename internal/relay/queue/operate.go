package queue

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A Row is one entry as operators see it.
type Row struct {
	*spool.Entry
	Status       string   `json:"status"`                 // waiting, ready, running or held
	Reason       string   `json:"reason,omitempty"`       // why it is held; an operator's reason goes before a block's
	Blocked      string   `json:"blocked,omitempty"`      // what would hold it without an operator, such as a block
	Destinations []string `json:"destinations,omitempty"` // that something is owed to
}

var errEnough = errors.New("queue: enough rows")

// List calls fn with each entry that f selects, oldest first. It reads the
// spool as it goes, and keeps one row in memory.
func (q *Queue) List(f Filter, fn func(*Row) error) error { return q.ListAfter("", f, fn) }

// ListAfter is List without what lies before an ID and with it, which need not
// be there any more: so whoever is slow goes through a long queue by pieces.
func (q *Queue) ListAfter(after spool.ID, f Filter, fn func(*Row) error) error {
	n := 0
	match := f.matcher()
	err := q.store.EntriesAfter(after, func(e *spool.Entry) error {
		row := q.row(e)
		if !match(row) {
			return nil
		}
		if err := fn(row); err != nil {
			return err
		}
		if n++; n == f.Limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// Show returns one entry.
func (q *Queue) Show(id spool.ID) (*Row, error) {
	e, err := q.store.Get(id)
	if err != nil {
		return nil, err
	}
	return q.row(e), nil
}

// row is an entry as an operator sees it. What waits for an attempt that would
// not be made is held, before Recheck has found out as well.
func (q *Queue) row(e *spool.Entry) *Row {
	r := q.scheduled(e)
	if r.Status == stateNames[running] {
		return r
	}
	if r.Blocked = q.o.Held(e); r.Blocked != "" {
		r.Status, r.Reason = stateNames[held], cmp.Or(e.Hold, r.Blocked)
	}
	return r
}

func (q *Queue) scheduled(e *spool.Entry) *Row {
	r := &Row{Entry: e, Status: stateNames[waiting], Reason: e.Hold}
	if e.Hold != "" {
		r.Status = stateNames[held]
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.sched.items[e.ID]
	if it == nil {
		return r
	}
	st := waiting
	for k, j := range it.jobs {
		st = max(st, j.state)
		if !slices.Contains(r.Destinations, j.dest.name) {
			r.Destinations = append(r.Destinations, j.dest.name)
		}
		if k == 0 || j.next.Before(e.Next) {
			e.Next = j.next
		}
	}
	r.Status, r.Reason = stateNames[st], it.hold
	return r
}

// Stats are the queue in numbers.
type Stats struct {
	Entries      int            `json:"entries"`
	Jobs         map[string]int `json:"jobs"`              // by status: waiting, ready, running, held
	Oldest       time.Time      `json:"oldest,omitzero"`   // arrival
	Destinations []Destination  `json:"destinations"`      // the longest first, at most 20
	Loading      bool           `json:"loading,omitempty"` // the spool is still being read

	// Since the start, by recipients: handed to a next hop, put off by one
	// (each attempt counts), given back to their senders.
	Delivered int64 `json:"delivered"`
	Deferred  int64 `json:"deferred"`
	Bounced   int64 `json:"bounced"`
}

// totals are what became of recipients since the start, for people; metrics.go has
// the rest.
type totals struct{ delivered, deferred, bounced atomic.Int64 }

func (t *totals) count(o mail.Outcome) {
	switch o {
	case mail.Delivered:
		t.delivered.Add(1)
	case mail.Deferred:
		t.deferred.Add(1)
	case mail.Failed:
		t.bounced.Add(1)
	}
}

// A Destination is what is owed to one next hop.
type Destination struct {
	Name         string    `json:"name"`
	Jobs         int       `json:"jobs"`
	Running      int       `json:"running"`
	Window       int       `json:"window"`                // attempts that may be under way by what is known of it now
	Failures     int       `json:"failures,omitempty"`    // in a row, as a whole
	BlockedUntil time.Time `json:"blockedUntil,omitzero"` // after failures, or as it said that it is busy
	Deferrals    int       `json:"deferrals,omitempty"`   // attempts in a row that delivered nothing
	Said         string    `json:"said,omitempty"`        // what the newest of them was told
}

// maxDestinations is how many destinations Stats tells of.
const maxDestinations = 20

// before tells whether d is to be told of rather than another.
func (d *destination) before(other *Destination) bool {
	return cmp.Or(cmp.Compare(other.Jobs, d.jobs), cmp.Compare(d.name, other.Name)) < 0
}

func (d *destination) view() Destination {
	return Destination{d.name, d.jobs, d.running, d.slots(), d.failures, d.blockedUntil.Round(0), d.deferrals, d.lastDeferral}
}

// Stats returns the queue in numbers.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{Entries: len(q.sched.items), Jobs: map[string]int{}, Oldest: q.sched.oldest(), Loading: q.loading,
		Delivered: q.totals.delivered.Load(), Deferred: q.totals.deferred.Load(), Bounced: q.totals.bounced.Load()}
	for st, n := range q.sched.depth {
		s.Jobs[stateNames[st]] = n
	}
	for _, d := range q.sched.dests {
		if n := len(s.Destinations); d.jobs == 0 || n == maxDestinations && !d.before(&s.Destinations[n-1]) {
			continue
		}
		at, _ := slices.BinarySearchFunc(s.Destinations, d, func(other Destination, d *destination) int {
			if d.before(&other) {
				return 1
			}
			return -1
		})
		s.Destinations = slices.Insert(s.Destinations, at, d.view())
		s.Destinations = s.Destinations[:min(len(s.Destinations), maxDestinations)]
	}
	return s
}
