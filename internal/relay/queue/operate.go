package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// Errors of operators' commands, besides those of the spool.
var (
	ErrBusy = errors.New("queue: an attempt is under way; try again when it has ended")
	ErrHeld = errors.New("queue: it is held; release it first")
)

// A Row is one entry as operators see it.
type Row struct {
	*spool.Entry
	Status       string   `json:"status"` // waiting, ready, running or held
	Reason       string   `json:"reason,omitempty"`
	Destinations []string `json:"destinations,omitempty"` // that something is owed to
}

// A Filter selects rows. The zero value selects all.
type Filter struct {
	Registration string `json:"registration,omitempty"`
	Status       string `json:"status,omitempty"`
	Destination  string `json:"destination,omitempty"`
	Sender       string `json:"sender,omitempty"`
	Recipient    string `json:"recipient,omitempty"` // or "@domain"
	Client       string `json:"client,omitempty"`    // an address
	Limit        int    `json:"limit,omitempty"`     // 0: no limit
}

func (f Filter) match(r *Row) bool {
	return (f.Registration == "" || f.Registration == r.Envelope.Registration) &&
		(f.Status == "" || f.Status == r.Status) &&
		(f.Destination == "" || slices.Contains(r.Destinations, f.Destination)) &&
		(f.Sender == "" || f.Sender == r.Envelope.From.String()) &&
		(f.Client == "" || f.Client == r.Envelope.Client.String()) &&
		(f.Recipient == "" || slices.ContainsFunc(r.Envelope.To, func(to mail.Recipient) bool {
			return to.Address.String() == f.Recipient || "@"+to.Address.Domain == f.Recipient
		}))
}

var errEnough = errors.New("queue: enough rows")

// List calls fn with each entry that f selects, oldest first. It reads the
// spool as it goes, and keeps one row in memory.
func (q *Queue) List(f Filter, fn func(*Row) error) error {
	n := 0
	err := q.store.Entries(func(e *spool.Entry) error {
		row := q.row(e)
		if !f.match(row) {
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
	if r.Status == stateNames[waiting] || r.Status == stateNames[ready] {
		if why := q.o.Held(e); why != "" {
			r.Status, r.Reason = stateNames[held], why
		}
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
}

// A Destination is what is owed to one next hop.
type Destination struct {
	Name         string    `json:"name"`
	Jobs         int       `json:"jobs"`
	Running      int       `json:"running"`
	Failures     int       `json:"failures,omitempty"` // in a row, as a whole
	BlockedUntil time.Time `json:"blockedUntil,omitzero"`
	Deferrals    int       `json:"deferrals,omitempty"` // attempts in a row that delivered nothing
	Said         string    `json:"said,omitempty"`      // what the newest of them was told
}

// Stats returns the queue in numbers.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{Entries: len(q.sched.items), Jobs: map[string]int{}, Oldest: q.sched.oldest(), Loading: q.loading}
	for st, n := range q.sched.depth {
		s.Jobs[stateNames[st]] = n
	}
	for _, d := range q.sched.dests {
		if d.jobs > 0 {
			s.Destinations = append(s.Destinations, Destination{d.name, d.jobs, d.running, d.failures, d.blockedUntil.Round(0), d.deferrals, d.lastDeferral})
		}
	}
	slices.SortFunc(s.Destinations, func(a, b Destination) int {
		return cmp.Or(cmp.Compare(b.Jobs, a.Jobs), cmp.Compare(a.Name, b.Name))
	})
	s.Destinations = s.Destinations[:min(len(s.Destinations), 20)]
	return s
}

// Hold stops attempts for an entry until Release; it does not expire
// meanwhile. An attempt under way goes on.
func (q *Queue) Hold(id spool.ID, reason string) error {
	return q.change(id, func(it *item, e draft, now time.Time) error {
		e.Hold = cmp.Or(reason, "held by an operator")
		if err := q.store.Update(e.Entry); err != nil {
			return err
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		if it.gone {
			return spool.ErrNotFound
		}
		q.sched.setHold(it, e.Hold, true, now)
		q.sched.setCheck(it, time.Time{})
		q.replace(it, e)
		q.log.Info("an operator stops attempts", "event", "queue.held", "id", id, "reason", e.Hold)
		return nil
	})
}

// Release ends a Hold. A hold of another reason, such as a block, comes back
// with the next attempt as long as the reason stands.
func (q *Queue) Release(id spool.ID) error {
	return q.change(id, func(it *item, e draft, now time.Time) error {
		e.Hold = ""
		if err := q.store.Update(e.Entry); err != nil {
			return err
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		if it.gone {
			return spool.ErrNotFound
		}
		q.sched.setHold(it, "", false, now)
		q.sched.setCheck(it, q.nextCheck(it, e.Entry, now))
		q.replace(it, e)
		q.log.Info("an operator lets attempts go on", "event", "queue.released", "id", id)
		q.changed()
		return nil
	})
}

// Retry makes an entry due at once, and lifts the back-off of its destinations.
func (q *Queue) Retry(id spool.ID) error {
	return q.change(id, func(it *item, _ draft, now time.Time) error {
		q.mu.Lock()
		defer q.mu.Unlock()
		if it.hold != "" {
			return ErrHeld
		}
		for _, j := range it.jobs {
			if j.state == running {
				continue
			}
			q.sched.displace(j)
			j.next, j.dest.blockedUntil = now, time.Time{}
			q.sched.place(j, now)
		}
		q.changed()
		return nil
	})
}

// Bounce gives an entry up now: its sender gets a failure DSN.
func (q *Queue) Bounce(ctx context.Context, id spool.ID, reason string) error {
	return q.change(id, func(it *item, e draft, now time.Time) error {
		if q.busy(it) {
			return ErrBusy
		}
		return q.giveUp(ctx, it, e, now, func(mail.Result) mail.Result {
			return mail.Result{
				Outcome: mail.Failed,
				Status:  mail.Status{Code: mail.CodeFailed, Enhanced: mail.Enhanced{5, 0, 0}, Text: cmp.Or(reason, "returned by the postmaster")},
				At:      now,
			}
		})
	})
}

// Delete removes an entry; nobody is told.
func (q *Queue) Delete(id spool.ID) error {
	return q.change(id, func(it *item, e draft, now time.Time) error {
		if q.busy(it) {
			return ErrBusy
		}
		claimed, _ := q.claim(it)
		err := q.store.Remove(id)
		q.mu.Lock()
		defer q.mu.Unlock()
		if err != nil && !errors.Is(err, spool.ErrNotFound) {
			for _, j := range claimed {
				q.sched.place(j, now)
			}
			return err
		}
		q.sched.drop(it, now)
		q.log.Warn("an operator deleted a message", "event", "queue.deleted", "id", id,
			"from", e.Envelope.From.String(), "recipients", len(e.open()))
		return nil
	})
}

// change runs fn for an entry with the right to change its state.
func (q *Queue) change(id spool.ID, fn func(*item, draft, time.Time) error) error {
	q.mu.Lock()
	it := q.sched.items[id]
	q.mu.Unlock()
	if it == nil {
		return fmt.Errorf("%w: %s", spool.ErrNotFound, id)
	}
	it.record.Lock()
	defer it.record.Unlock()
	e, err := q.entry(it)
	if err != nil {
		return err
	}
	return fn(it, draftOf(e), time.Now())
}

// replace keeps a changed entry in memory if it was there. The caller holds mu.
func (q *Queue) replace(it *item, e draft) {
	if it.entry != nil {
		it.entry = e.Entry
	}
}

func (q *Queue) busy(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(it.jobs, func(j *job) bool { return j.state == running })
}
