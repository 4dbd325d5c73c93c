package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.edu/gatepost/internal/relay/spool"
)

// MaxIDs is how many messages an Order may name.
const MaxIDs = 1000

// An Order is what an operator wants done, and with which messages: those of
// IDs, or else those that Filter selects.
type Order struct {
	Verb     Verb       `json:"verb"`
	IDs      []spool.ID `json:"ids,omitempty"` // at most MaxIDs
	Filter   Filter     `json:"filter,omitzero"`
	UpTo     spool.ID   `json:"upTo,omitempty"`     // of a Filter, nothing that came after this one; "": nothing that comes after the order
	Reason   string     `json:"reason,omitempty"`   // for the log; of a Bounce also for the sender
	Operator string     `json:"operator,omitempty"` // who says so, for the log
}

// A Fate is what an Order did to one message. Its words are JSON's.
type Fate string

// The fates.
const (
	Done      Fate = "done"
	Unchanged Fate = "unchanged" // there was nothing to do
	Busy      Fate = "busy"      // an attempt is under way, so nothing was done
	Kept      Fate = "held"      // by a block, or to be released first: nothing was done
	Gone      Fate = "gone"      // it is not in the queue, or no longer
	Unread    Fate = "damaged"   // its record cannot be read
)

// A Did tells what became of one message of an Order.
type Did struct {
	ID   spool.ID `json:"id"`
	Fate Fate     `json:"fate"`
	Note string   `json:"note,omitempty"` // for operators
}

// An End is the last line of an answer to an Order.
type End struct {
	End   bool   `json:"end"`
	Error string `json:"error,omitempty"` // why not all of it was done; for operators
	Hint  string `json:"hint,omitempty"`
}

// How much of the queue Do takes at once: what is done to a piece is on the
// disk before anybody is told, with one sync.
const (
	pieceDone       = 512
	pieceSeen       = 16 << 10
	pieceRecipients = 16 << 10 // of what is done; the entries are in memory meanwhile
)

var errPiece = errors.New("queue: the piece is full")

// Do does what an operator orders, message by message, oldest first, and calls
// tell for each after it is on stable storage. It ends early, between two
// messages, with the error of ctx or tell, or when the store fails; what was
// told is done all the same. The lock of the queue is never held longer than one
// message takes, and the records of a piece as long as its batch takes.
// While the spool is still being read it is ErrLoading, and nothing is done.
func (q *Queue) Do(ctx context.Context, o Order, tell func(Did) error) error {
	if !slices.Contains(Verbs(), o.Verb) {
		return fmt.Errorf("queue: %q is no verb", o.Verb)
	}
	if err := q.loaded(); err != nil {
		return err
	}
	if len(o.IDs) > 0 {
		for ids := range slices.Chunk(o.IDs, pieceDone) {
			piece := make([]picked, len(ids))
			for i, id := range ids {
				piece[i].id = id
			}
			if err := q.doPiece(ctx, o, piece, tell); err != nil {
				return err
			}
		}
		return nil
	}
	began, match := time.Now(), o.Filter.matcher()
	for after, more := spool.ID(""), true; more; {
		var piece []picked
		seen, recipients := 0, 0
		since := q.changes.Load() // before the store is asked
		err := q.store.EntriesAfter(after, func(e *spool.Entry) error {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case o.UpTo != "" && e.ID > o.UpTo:
				return errEnough
			case len(piece) == pieceDone || seen == pieceSeen || recipients >= pieceRecipients:
				return errPiece
			}
			seen++
			after = e.ID
			if !e.Envelope.Arrival.After(began) && match(q.row(e)) {
				piece = append(piece, picked{e.ID, e, since})
				recipients += len(e.State)
			}
			return nil
		})
		more = errors.Is(err, errPiece)
		if err != nil && !more && err != errEnough && !errors.Is(err, spool.ErrDamaged) { // the spool says what is damaged; the rest is done
			return err
		}
		if err := q.doPiece(ctx, o, piece, tell); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) loaded() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.loading {
		return ErrLoading
	}
	return nil
}

// doPiece does one piece of an order, brings it to the disk, and tells.
func (q *Queue) doPiece(ctx context.Context, o Order, piece []picked, tell func(Did) error) error {
	by := word{o.Reason, o.Operator}
	stopped := ctx.Err()
	var all []acted
	switch {
	case stopped != nil || len(piece) == 0:
		return stopped
	case o.Verb.changes():
		all = q.change(o.Verb, piece, by)
	default:
		all, stopped = q.each(ctx, o.Verb, piece, by)
	}
	did := make([]Did, 0, len(all))
	for _, a := range all {
		d := Did{ID: a.id, Fate: fate(a.err), Note: a.note}
		switch {
		case d.Fate == "": // the store's, and so of all
			stopped = cmp.Or(stopped, fmt.Errorf("queue: %s of %s: %w", o.Verb, a.id, a.err))
			continue
		case a.err != nil && d.Fate != Gone:
			d.Note = a.err.Error()
		}
		did = append(did, d)
	}
	if len(did) == 0 {
		return stopped
	}
	if err := q.store.Sync(); err != nil {
		return cmp.Or(stopped, err)
	}
	for _, d := range did {
		if err := tell(d); err != nil {
			return cmp.Or(stopped, err)
		}
	}
	return stopped
}

// eachAtOnce is how many messages of a piece each does at a time: what waits
// for the disk for each message shares its syncs.
const eachAtOnce = 32

// each does a verb to the messages of a piece one by one, and ends early with
// the error of ctx or of the store.
func (q *Queue) each(ctx context.Context, verb Verb, piece []picked, by word) ([]acted, error) {
	all := make([]acted, len(piece)) // without an ID: nothing was done
	var next atomic.Int64
	var stop atomic.Bool
	var working sync.WaitGroup
	for range min(eachAtOnce, len(piece)) {
		working.Go(func() {
			for !stop.Load() && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(piece) {
					return
				}
				a := &all[i]
				a.id = piece[i].id
				if a.note, a.err = q.act(ctx, verb, piece[i], by); a.err != nil && fate(a.err) == "" {
					stop.Store(true)
				}
			}
		})
	}
	working.Wait()
	return slices.DeleteFunc(all, func(a acted) bool { return a.id == "" }), ctx.Err()
}

// fate is what an error of act means for one message; "" if it is the store's
// and so that of all messages.
func fate(err error) Fate {
	switch {
	case err == nil:
		return Done
	case errors.Is(err, ErrUnchanged):
		return Unchanged
	case errors.Is(err, ErrBusy):
		return Busy
	case errors.Is(err, ErrHeld):
		return Kept
	case errors.Is(err, spool.ErrNotFound):
		return Gone
	case errors.Is(err, spool.ErrDamaged):
		return Unread
	}
	return ""
}

// A Choice is what a Filter selects, for somebody who is about to act on it.
type Choice struct {
	Messages      int            `json:"messages"`
	Recipients    int            `json:"recipients"` // that something is owed to
	Octets        int64          `json:"octets"`
	Oldest        time.Time      `json:"oldest,omitzero"` // arrival
	Newest        time.Time      `json:"newest,omitzero"`
	Statuses      map[string]int `json:"statuses,omitempty"`
	Blocked       int            `json:"blocked,omitempty"` // would be held without an operator, as by a block
	Registrations []Part         `json:"registrations,omitempty"`
	Senders       []Part         `json:"senders,omitempty"`
	UpTo          spool.ID       `json:"upTo,omitempty"` // the newest of them: for an Order of just these
}

// A Part is how much of a Choice is of one name, of those with the most.
type Part struct {
	Name     string `json:"name"`
	Messages int    `json:"messages"`
}

// How much Choose remembers.
const (
	maxNames = 1000 // different names that are counted
	maxParts = 5    // that are told
)

// Choose looks at what f selects and changes nothing. It keeps one row in
// memory. While the spool is still being read it is ErrLoading.
func (q *Queue) Choose(ctx context.Context, f Filter) (Choice, error) {
	c := Choice{Statuses: map[string]int{}}
	if err := q.loaded(); err != nil {
		return c, err
	}
	began := time.Now()
	registrations, senders := map[string]int{}, map[string]int{}
	err := q.List(f, func(r *Row) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := r.Envelope.Arrival
		if at.After(began) {
			return nil
		}
		if c.Messages == 0 || at.Before(c.Oldest) {
			c.Oldest = at
		}
		if at.After(c.Newest) {
			c.Newest = at
		}
		c.Messages++
		c.Recipients += len(draft{r.Entry}.open())
		c.Octets += r.Size
		c.Statuses[r.Status]++
		if r.Blocked != "" {
			c.Blocked++
		}
		c.UpTo = max(c.UpTo, r.ID)
		tally(registrations, r.Envelope.Registration)
		tally(senders, r.Envelope.From.String())
		return nil
	})
	if errors.Is(err, spool.ErrDamaged) {
		err = nil
	}
	c.Registrations, c.Senders = most(registrations), most(senders)
	return c, err
}

func tally(names map[string]int, name string) {
	if _, known := names[name]; known || len(names) < maxNames {
		names[name]++
	}
}

func most(names map[string]int) (parts []Part) {
	for name, n := range maps.All(names) {
		parts = append(parts, Part{name, n})
	}
	slices.SortFunc(parts, func(a, b Part) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	})
	return parts[:min(len(parts), maxParts)]
}
