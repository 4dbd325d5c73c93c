package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/relay/spool"
)

// changes tells whether a verb changes the states of entries and nothing else:
// many are one batch then.
func (v Verb) changes() bool { return v == Hold || v == Release || v == Retry }

// A picked message is one that a verb is for. entry is what the store said of
// it when Queue.changes was at seen; nil: it was not asked yet.
type picked struct {
	id    spool.ID
	entry *spool.Entry
	seen  uint64
}

// An acted message is one that a verb was for, and what came of it. err is one
// of this message, or of the store and so of all.
type acted struct {
	id   spool.ID
	it   *item
	e    draft
	why  string // what holds it besides an operator
	note string // what else there is to know of it
	err  error
}

// change does a verb to some messages, of which each is done once. Their
// states are one batch in the store, which has not brought it to the disk by
// then. The records of all of them are held meanwhile, in the order of their
// IDs, so that no two orders wait for each other.
func (q *Queue) change(verb Verb, piece []picked, by word) []acted {
	slices.SortStableFunc(piece, func(a, b picked) int { return strings.Compare(string(a.id), string(b.id)) })
	piece = slices.CompactFunc(piece, func(a, b picked) bool { return a.id == b.id })
	all := make([]acted, len(piece))
	now := time.Now()
	var stored []*spool.Entry
	for i, p := range piece {
		a := &all[i]
		a.id = p.id
		q.mu.Lock()
		a.it = q.sched.items[p.id]
		q.mu.Unlock()
		if a.it == nil {
			a.err = spool.ErrNotFound
			continue
		}
		q.lock(a.it)
		defer q.unlock(a.it)
		current, err := q.current(a.it, p)
		if err == nil {
			a.e = draftOf(current)
			if verb != Hold { // an operator's lies over any other
				a.why = q.o.Held(current)
			}
			err = a.e.change(verb, a.why, by, now)
		}
		if a.err = err; err == nil {
			stored = append(stored, a.e.Entry)
		}
	}
	missing, err := q.store.UpdateAll(stored)
	for i := range all {
		a := &all[i]
		switch {
		case a.err != nil:
		case err != nil:
			a.err = err
		case slices.Contains(missing, a.id):
			a.err = spool.ErrNotFound
		default:
			q.changedOne(verb, a, now)
			q.logChange(verb, a, by)
		}
	}
	return all
}

// current is the entry of an item whose record is held: what was picked, unless
// somebody has held the record since.
func (q *Queue) current(it *item, p picked) (*spool.Entry, error) {
	q.mu.Lock()
	cached := it.entry != nil
	q.mu.Unlock()
	if !cached && p.entry != nil && it.changed <= p.seen {
		return p.entry, nil
	}
	return q.entry(it)
}

// change changes the state of one entry as a verb wants it. why is what holds
// it besides an operator.
func (d draft) change(verb Verb, why string, by word, now time.Time) error {
	switch verb {
	case Hold:
		d.Hold = by.reason
		if d.Hold == "" {
			d.Hold = "held by an operator"
		}
	case Release:
		switch {
		case d.Hold == "" && why != "":
			return fmt.Errorf("%w, but not by an operator: %s", ErrHeld, why)
		case d.Hold == "":
			return fmt.Errorf("%w: it is not held", ErrUnchanged)
		}
		d.Hold = ""
	case Retry:
		if d.Hold != "" {
			why = d.Hold
		}
		if why != "" {
			return fmt.Errorf("%w: %s", ErrHeld, why)
		}
		d.Next = now.Round(0) // of all that waits, also after a restart
	default:
		return errors.New("queue: that is no change")
	}
	return nil
}

// changedOne brings the schedule up to what the store has of one message.
// Attempts under way go on.
func (q *Queue) changedOne(verb Verb, a *acted, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := a.it
	if it.gone {
		a.err = spool.ErrNotFound
		return
	}
	switch verb {
	case Hold:
		q.sched.setHold(it, a.e.Hold, true, now)
		if it.runs() {
			a.note = "an attempt is under way and goes on; what it does not deliver is held"
		}
	case Release:
		q.sched.setHold(it, a.why, false, now)
		if a.why != "" {
			a.note = "it stays held: " + a.why
		}
	case Retry: // at once, and whatever its destinations did before
		if it.hold != "" { // a block that has ended, which nobody has noticed yet
			q.sched.setHold(it, "", false, now)
		}
		for _, j := range it.jobs {
			if j.state == running {
				a.note = "an attempt is under way"
				continue
			}
			q.sched.displace(j)
			j.next = now
			j.dest.pardon()
			q.sched.place(j, now)
		}
	}
	q.sched.setCheck(it, q.nextCheck(it, now))
	if it.entry != nil {
		it.entry = a.e.Entry
	}
	q.changed()
}

// logChange writes the line of a message that an operator held or released.
func (q *Queue) logChange(verb Verb, a *acted, by word) {
	switch {
	case a.err != nil:
	case verb == Hold:
		q.log.Info("an operator stops attempts", "event", "queue.held", "id", a.id, "reason", a.e.Hold, "operator", by.operator)
	case verb == Release && a.why != "":
		q.log.Info("an operator's hold ends, and another one is in force", "event", "queue.held", "id", a.id, "reason", a.why, "operator", by.operator)
	case verb == Release:
		q.log.Info("an operator lets attempts go on", "event", "queue.released", "id", a.id, "operator", by.operator)
	}
}
