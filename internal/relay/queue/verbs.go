package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A Verb is what an operator wants done with messages.
type Verb string

// The verbs. Each is about whole messages: all recipients that something is
// owed to.
const (
	Hold    Verb = "hold"    // no attempts until Release, over restarts; it does not expire meanwhile
	Release Verb = "release" // ends a Hold, and no block
	Retry   Verb = "retry"   // due at once, its next hops too; what is held stays so
	Bounce  Verb = "bounce"  // given up: whoever a failure is told to gets a DSN
	Delete  Verb = "delete"  // removed; nobody is told
)

// Verbs are all of them.
func Verbs() []Verb { return []Verb{Hold, Release, Retry, Bounce, Delete} }

// Errors of one message, besides those of the spool. They are for operators.
var (
	ErrBusy      = errors.New("an attempt is under way, so nothing was done; hold it and try again: no further attempt begins then")
	ErrHeld      = errors.New("it is held")
	ErrUnchanged = errors.New("there is nothing to do")
	ErrLoading   = errors.New("queue: the spool is still being read after the start") // of a whole Order
)

// A word is an operator's: why, and who says to be one.
type word struct{ reason, operator string }

// act does one thing to one entry: in memory, and in the store, which has not
// brought it to the disk by then. note is what else there is to know of it.
func (q *Queue) act(ctx context.Context, verb Verb, p picked, by word) (note string, err error) {
	if verb.changes() {
		a := q.change(verb, []picked{p}, by)[0]
		return a.note, a.err
	}
	q.mu.Lock()
	it := q.sched.items[p.id]
	q.mu.Unlock()
	if it == nil {
		return "", spool.ErrNotFound
	}
	q.lock(it)
	defer q.unlock(it)
	current, err := q.current(it, p)
	if err != nil {
		return "", err
	}
	e, now := draftOf(current), time.Now()
	switch verb {
	case Bounce:
		return "", q.bounce(ctx, it, e, by, now)
	case Delete:
		return "", q.remove(it, e, by, now)
	}
	return "", fmt.Errorf("queue: %q is no verb", verb)
}

// bounce gives an entry up now.
func (q *Queue) bounce(ctx context.Context, it *item, e draft, by word, now time.Time) error {
	jobs, rcpts, err := q.claimAll(it)
	if err != nil {
		return err
	}
	text := by.reason
	if text == "" {
		text = "returned by the postmaster"
	}
	err = q.fail(ctx, it, e, jobs, rcpts, now, func(mail.Result) mail.Result {
		return mail.Result{
			Outcome: mail.Failed,
			Status:  mail.Status{Code: mail.CodeFailed, Enhanced: mail.Enhanced{5, 0, 0}, Text: text},
			Cause:   "an operator",
			At:      now,
		}
	})
	if err == nil {
		q.o.Trace.Ended(e.Entry, "returned", by.reason, by.operator)
		q.log.Warn("an operator returned a message", "event", "queue.returned", "id", it.id,
			"from", e.Envelope.From.String(), "recipients", len(rcpts), "reason", by.reason, "operator", by.operator)
	}
	return err
}

// remove deletes an entry.
func (q *Queue) remove(it *item, e draft, by word, now time.Time) error {
	jobs, rcpts, err := q.claimAll(it)
	if err != nil {
		return err
	}
	err = q.store.Remove(it.id)
	if errors.Is(err, spool.ErrNotFound) {
		err = nil
	}
	q.unclaim(it, jobs, err, now)
	if err != nil {
		return err
	}
	q.o.Trace.Ended(e.Entry, "deleted", by.reason, by.operator)
	q.log.Warn("an operator deleted a message", "event", "queue.deleted", "id", it.id, "client", clientOf(e.Entry),
		"registration", e.Envelope.Registration, "from", e.Envelope.From.String(), "to", someOf(e, rcpts), "recipients", len(rcpts),
		"reason", by.reason, "operator", by.operator)
	return nil
}

// unclaim drops an item whose jobs were claimed, or after an error places them
// again.
func (q *Queue) unclaim(it *item, jobs []*job, err error, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		q.sched.drop(it, now)
		return
	}
	for _, j := range jobs {
		q.sched.place(j, now)
	}
}

func clientOf(e *spool.Entry) string {
	if !e.Envelope.Client.IsValid() {
		return ""
	}
	return e.Envelope.Client.String()
}

// maxNamed is how many recipients of a message that is deleted are logged.
const maxNamed = 20

func someOf(e draft, rcpts []int) string {
	var names []string
	for _, i := range rcpts[:min(len(rcpts), maxNamed)] {
		names = append(names, e.Envelope.To[i].Address.String())
	}
	return strings.Join(names, ",")
}

// runs tells whether an attempt is under way. The caller holds mu.
func (it *item) runs() bool {
	return slices.ContainsFunc(it.jobs, func(j *job) bool { return j.state == running })
}
