package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/dsn"
	"example.edu/gatepost/internal/relay/spool"
)

// attempt makes one attempt for a job and records what came of it.
func (q *Queue) attempt(ctx context.Context, j *job) {
	it := j.item
	e, err := q.entry(it)
	if err != nil {
		q.unreadable(j, err)
		return
	}
	if why := q.o.Held(e); why != "" {
		q.hold(it, why)
		return
	}
	var unread atomic.Bool // the body could not be read: not the destination's fault
	results := q.o.Courier.Deliver(ctx, e, q.body(it.id, &unread), j.rcpts)
	q.record(ctx, j, results, unread.Load())
}

// entry returns an item's entry: from memory if it is there, else from the
// spool. It is not to be changed.
func (q *Queue) entry(it *item) (*spool.Entry, error) {
	q.mu.Lock()
	e := it.entry
	q.mu.Unlock()
	if e != nil {
		return e, nil
	}
	return q.store.Get(it.id)
}

// unreadable deals with an entry that the spool does not give. Deleted or put
// aside: the queue has nothing to do with it any more. Otherwise it is tried
// again later, and the spool says what is wrong.
func (q *Queue) unreadable(j *job, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if errors.Is(err, spool.ErrNotFound) || errors.Is(err, spool.ErrDamaged) {
		q.log.Warn("an entry is gone from the spool", "event", "queue.gone", "id", j.item.id, "err", err)
		q.sched.drop(j.item, now)
		return
	}
	q.log.Error("an entry cannot be read; it is tried again", "event", "queue.read_failed", "id", j.item.id, "err", err)
	j.next = now.Add(q.after(1))
}

// record stores the results of an attempt. What cannot be stored is tried
// again, by this process or the next one.
func (q *Queue) record(ctx context.Context, j *job, results []mail.Result, unread bool) {
	it := j.item
	q.lock(it)
	defer q.unlock(it)
	now := time.Now()
	current, err := q.entry(it)
	if err != nil { // an operator has deleted it meanwhile
		q.unreadable(j, err)
		return
	}
	o := judge(current, j.rcpts, results, now, it.arrival.Add(q.o.Expiry))
	if ctx.Err() != nil && len(o.left) == len(j.rcpts) {
		return // cut short by the end of Run: that was no attempt
	}
	q.report(it, o)
	if q.o.Result != nil {
		for _, r := range results[:min(len(results), len(j.rcpts))] {
			q.o.Result(current, r)
		}
	}
	attempts := j.attempts + 1
	next := now.Add(q.after(attempts))
	o.entry.Attempts = max(o.entry.Attempts, attempts)

	o.entry.Next = q.earliest(it, j, next, len(o.left) > 0)
	told := q.tellRelayed(ctx, o.entry, o.delivered, o.failed, now)
	if len(o.failed) > 0 {
		if err := q.tellFailure(ctx, o.entry, o.failed, now); err != nil {
			q.log.Error("a DSN cannot be stored; the message stays", "event", "queue.notify_failed", "id", it.id, "kind", dsn.Failure.String(), "err", err)
			o.takeBack()
			told = false // the state that is stored is another one now
			o.entry.Next = q.earliest(it, j, next, true)
		}
	}
	done := o.entry.done()
	if len(o.failed) == 0 && !told { // else it is stored already
		if err := q.save(o.entry.Entry, done); err != nil {
			q.log.Error("an attempt cannot be recorded; it may be repeated", "event", "queue.record_failed", "id", it.id, "err", err)
		}
	}

	if done {
		q.o.Trace.Ended(o.entry.Entry, "finished", "", "")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	// What REQUIRETLS finds wanting is no fault of the destination for others.
	j.dest.learn(whatWasSaid(results[:min(len(results), len(j.rcpts))], unread || current.Envelope.RequireTLS), j.round, j.dest.running, now, jitter)
	j.dest.put(!unread && len(o.left) == len(j.rcpts), said(results))
	if done {
		q.sched.drop(it, now)
		return
	}
	j.rcpts, j.attempts, j.next = o.left, attempts, next
	q.remember(it, j, o.entry.Entry)
}

// said is the first of some results that is no delivery, for an operator.
func said(results []mail.Result) string {
	for _, r := range results {
		if r.Outcome == mail.Deferred {
			return cmp.Or(r.Cause, r.Status.String())
		}
	}
	return ""
}

// save stores the state of an entry, or removes it if nothing is owed.
func (q *Queue) save(e *spool.Entry, done bool) error {
	if done {
		return q.store.Remove(e.ID)
	}
	return q.store.Update(e)
}

// remember keeps the new state of an entry in memory as long as others of its
// jobs have not had their first attempt. The caller holds mu.
func (q *Queue) remember(it *item, j *job, e *spool.Entry) {
	if it.entry == nil {
		return
	}
	for _, other := range it.jobs {
		if other != j && other.state != waiting {
			it.entry = e
			return
		}
	}
	q.sched.uncache(it)
}

// earliest is when an entry is next due: the soonest of its jobs that wait,
// and of j's next attempt if it has one.
func (q *Queue) earliest(it *item, j *job, next time.Time, again bool) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	var at time.Time
	if again {
		at = next
	}
	for _, other := range it.jobs {
		if other != j && other.state != running && (at.IsZero() || other.next.Before(at)) {
			at = other.next
		}
	}
	return at.Round(0)
}

// A draft is a copy of an entry that is being changed.
type draft struct{ *spool.Entry }

func draftOf(e *spool.Entry) draft {
	c := *e
	c.State = slices.Clone(e.State)
	return draft{&c}
}

// done reports whether nothing more is owed to anybody.
func (d draft) done() bool {
	return !slices.ContainsFunc(d.State, func(st spool.RecipientState) bool { return !st.Done })
}

// open are the recipients that are owed something.
func (d draft) open() []int {
	var open []int
	for i, st := range d.State {
		if !st.Done {
			open = append(open, i)
		}
	}
	return open
}

// An outcome is what an attempt came to.
type outcome struct {
	entry     draft
	delivered []int
	failed    []int // to be told; expired ones included
	left      []int // to be tried again
}

// judge applies results to a copy of e. Who has no result is Deferred; who is
// Deferred at the deadline has failed.
func judge(e *spool.Entry, rcpts []int, results []mail.Result, now, deadline time.Time) *outcome {
	o := &outcome{entry: draftOf(e)}
	for k, i := range rcpts {
		var r mail.Result
		if k < len(results) {
			r = results[k]
		}
		if r.Outcome > mail.Failed {
			r.Outcome = mail.Deferred // unknown means temporary
		}
		if r.At.IsZero() {
			r.At = now
		}
		if r.Outcome == mail.Deferred && !now.Before(deadline) {
			r = expired(r, now)
		}
		st := &o.entry.State[i]
		st.Last = r
		switch r.Outcome {
		case mail.Delivered:
			st.Done = true
			o.delivered = append(o.delivered, i)
		case mail.Failed:
			st.Done = true
			o.failed = append(o.failed, i)
		default:
			o.left = append(o.left, i)
		}
	}
	return o
}

// takeBack returns the failed recipients to those that are tried again: their
// DSN could not be stored.
func (o *outcome) takeBack() {
	for _, i := range o.failed {
		o.entry.State[i].Done = false
	}
	o.left = append(o.left, o.failed...)
	slices.Sort(o.left)
	o.failed = nil
}

// expired is the failure of a recipient whose time is over. RFC 3463 §3.5: X.4.7.
func expired(last mail.Result, now time.Time) mail.Result {
	text := "not delivered in time"
	if last.Status.Code != 0 {
		text += "; last answer: " + last.Status.String()
	}
	return mail.Result{
		Outcome: mail.Failed,
		Status:  mail.Status{Code: mail.CodeFailed, Enhanced: mail.Enhanced{5, 4, 7}, Text: text},
		Cause:   cmp.Or(last.Cause, "expired"),
		At:      now,
	}
}

// report logs and counts what became of each recipient.
func (q *Queue) report(it *item, o *outcome) {
	for _, group := range [][]int{o.delivered, o.failed, o.left} {
		for _, i := range group {
			r := o.entry.State[i].Last
			q.metrics.attempts[r.Outcome].Inc()
			q.totals.count(r.Outcome)
			q.logOutcome(o.entry, i)
			if r.Outcome == mail.Delivered {
				q.metrics.latency.Observe(r.At.Sub(it.arrival).Seconds())
			}
		}
	}
}

// logOutcome writes the one line of a recipient: what an operator greps for.
func (q *Queue) logOutcome(e draft, i int) {
	ctx := context.Background()
	if !q.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	r := e.State[i].Last
	event := slog.String("event", "queue.deferred")
	switch r.Outcome {
	case mail.Delivered:
		event = slog.String("event", "queue.delivered")
	case mail.Failed:
		event = slog.String("event", "queue.bounced")
	}
	var client, cause slog.Attr // what is empty is left out
	if e.Envelope.Client.IsValid() {
		client = slog.String("client", e.Envelope.Client.String())
	}
	if r.Cause != "" {
		cause = slog.String("err", r.Cause)
	}
	q.log.LogAttrs(ctx, slog.LevelInfo, r.Outcome.String(), event,
		slog.String("id", string(e.ID)), client, slog.String("registration", e.Envelope.Registration),
		slog.String("from", e.Envelope.From.String()), slog.String("to", e.Envelope.To[i].Address.String()),
		slog.String("next_hop", r.RemoteMTA), slog.String("tls", r.TLS), slog.String("status", r.Status.String()), cause)
}

// after is the time from the nth attempt to the next.
func (q *Queue) after(n int) time.Duration {
	return jitter(q.o.Schedule[min(max(n, 1), len(q.o.Schedule))-1])
}

// jitter spreads d by a tenth to either side, so that what failed together
// does not come back together.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// body opens the body of an entry for a courier, and notes if that fails.
func (q *Queue) body(id spool.ID, unread *atomic.Bool) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		r, err := q.store.Body(id)
		if err != nil {
			unread.Store(true)
			return nil, fmt.Errorf("queue: opening the body of %s: %w", id, err)
		}
		return &watched{r, unread}, nil
	}
}

// watched notes whether reading has failed.
type watched struct {
	io.ReadCloser
	unread *atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		w.unread.Store(true)
	}
	return n, err
}
