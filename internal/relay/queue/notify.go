package queue

import (
	"bytes"
	"context"
	"io"
	"slices"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/dsn"
	"example.edu/gatepost/internal/relay/spool"
)

// maxHeader is how much of a message is read to return its header in a DSN.
const maxHeader = 64 << 10

// tellFailure stores the DSN for failed recipients and, in the same batch, the
// entry's new state. Where there is no sender, or a DSN does not reach one, the
// contact is told that the envelope names; else a client's message without a
// sender is the postmaster's. Where nobody may be told (mail of the relay's own,
// such as a DSN, or NOTIFY=NEVER) the failure ends here, with a log line.
func (q *Queue) tellFailure(ctx context.Context, e draft, failed []int, now time.Time) error {
	return q.tell(ctx, dsn.Failure, e, failed, now)
}

func (q *Queue) tell(ctx context.Context, kind dsn.Kind, e draft, about []int, now time.Time) error {
	o := dsn.Options{Hostname: q.o.Hostname, Postmaster: q.o.Postmaster, Now: now}
	if kind == dsn.Delay {
		o.RetryUntil = e.Envelope.Arrival.Add(q.o.Expiry)
	}
	if kind == dsn.Failure && e.Envelope.Client.IsValid() { // so that it cannot be a notification
		o.Stead = q.postmaster
	}
	var message []byte
	if !e.Envelope.From.IsNull() || !e.Envelope.Contact.IsNull() || !o.Stead.IsNull() {
		message, o.Whole = q.original(e.Entry)
	}
	env, body, ok := dsn.Compose(o, kind, e.Entry, about, message)
	if !ok {
		q.metrics.notifications[kind].suppressed.Inc()
		if kind == dsn.Failure {
			q.log.Warn("recipients are dropped, as nobody may be told", "event", "queue.dropped", "id", e.ID,
				"from", e.Envelope.From.String(), "recipients", len(about))
		}
		return q.save(e.Entry, e.done())
	}
	// What ends here must be recorded even if Run is about to end.
	stored, err := q.store.Notify(context.WithoutCancel(ctx), env, body, e.Entry)
	if err != nil {
		return err
	}
	q.metrics.notifications[kind].sent.Inc()
	q.log.Info("a DSN is stored", "event", "queue.notified", "id", e.ID, "kind", kind.String(), "dsn", stored.ID,
		"to", env.To[0].Address.String(), "recipients", len(about))
	q.o.Trace.Told(e.ID, stored.ID, kind.String())
	q.Accept(stored)
	return nil
}

// tellRelayed tells the sender of those among some delivered recipients for
// whom NOTIFY=SUCCESS asked for it, and whose next hop will not (RFC 3461
// §5.2.2). Those of failed are still owed their DSN then, so the state that is
// stored with it has them open. It reports whether the state was stored. That
// it cannot be told is no reason to keep a message that has arrived.
func (q *Queue) tellRelayed(ctx context.Context, e draft, delivered, failed []int, now time.Time) (stored bool) {
	about := slices.DeleteFunc(dsn.Wanted(dsn.Relayed, e.Entry, delivered), func(i int) bool { return e.State[i].Last.DSN })
	if len(about) == 0 || e.Envelope.From.IsNull() {
		return false
	}
	before := draftOf(e.Entry)
	for _, i := range failed {
		before.State[i].Done = false
	}
	if err := q.tell(ctx, dsn.Relayed, before, about, now); err != nil {
		q.log.Error("a DSN cannot be stored, and is not sent", "event", "queue.notify_failed", "id", e.ID, "kind", dsn.Relayed.String(), "err", err)
		return false
	}
	return true
}

// original reads a message that may be returned in a DSN in full: all of it, or
// if it is too long its header section, or as much of that as there is without
// damage. A DSN without it is better than none.
func (q *Queue) original(e *spool.Entry) (message []byte, whole bool) {
	r, err := q.store.Body(e.ID)
	if err != nil {
		return nil, false
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, max(maxHeader, dsn.MaxReturned)+1))
	if err == nil && len(data) <= dsn.MaxReturned {
		return data, true
	}
	data = data[:min(len(data), maxHeader)]
	if end := bytes.Index(data, []byte("\r\n\r\n")); end >= 0 {
		return data[:end+2], false
	}
	if end := bytes.LastIndex(data, []byte("\r\n")); end >= 0 {
		return data[:end+2], false
	}
	return nil, false
}

// lastChance is how long an entry that expired while nobody could try it (the
// relay was down, it was held) is left to an attempt, which gives it up
// if it fails.
const lastChance = time.Hour

// nextCheck is when an entry must next be looked at: for the delay DSN, once,
// then for its expiry. What is held does neither: nobody is told of mail that a
// block stopped, for its sender may be forged, and it is all there when the
// block ends.
func (q *Queue) nextCheck(it *item, now time.Time) time.Time {
	if it.hold != "" {
		return time.Time{}
	}
	expiry, delay := it.arrival.Add(q.o.Expiry), it.arrival.Add(q.o.DelayAfter)
	at := expiry
	if q.o.DelayAfter >= 0 && it.undelayed && delay.Before(expiry) && now.Before(expiry) {
		at = delay
	}
	if !at.After(now) {
		return now.Add(lastChance)
	}
	return at
}

// check sends the delay DSN of an entry or gives its open recipients up,
// whether or not their destination's turn has come.
func (q *Queue) check(ctx context.Context, it *item) {
	q.lock(it)
	defer q.unlock(it)
	now := time.Now()
	q.mu.Lock()
	over := it.gone || it.hold != "" // since the check became due
	q.mu.Unlock()
	if over {
		return
	}
	current, err := q.entry(it)
	if err == nil {
		if why := q.o.Held(current); why != "" {
			q.hold(it, why)
			return
		}
	}
	if err != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		if !it.gone {
			q.sched.setCheck(it, now.Add(q.after(1)))
		}
		return
	}
	if now.Before(it.arrival.Add(q.o.Expiry)) {
		q.delay(ctx, it, draftOf(current), now)
		return
	}
	e := draftOf(current)
	if q.giveUp(ctx, it, e, now, func(last mail.Result) mail.Result { return expired(last, now) }) == nil && e.done() {
		q.o.Trace.Ended(e.Entry, "expired", "", "")
	}
}

// delay tells a sender, once, that the message is late. RFC 5321 §4.5.4.1.
func (q *Queue) delay(ctx context.Context, it *item, e draft, now time.Time) {
	err := error(nil)
	if open := e.open(); e.Delayed.IsZero() && len(open) > 0 {
		e.Delayed = now.Round(0)
		err = q.tell(ctx, dsn.Delay, e, open, now)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case it.gone || it.hold != "":
	case err != nil:
		q.log.Error("a DSN cannot be stored; it is tried again", "event", "queue.notify_failed", "id", it.id, "kind", dsn.Delay.String(), "err", err)
		q.sched.setCheck(it, now.Add(q.after(1)))
	default:
		if it.entry != nil {
			it.entry = e.Entry
		}
		it.undelayed = false
		q.sched.setCheck(it, q.nextCheck(it, now))
	}
}

// giveUp fails the open recipients of an entry, but for those whose attempt is
// under way: record judges these. The caller holds it.record.
func (q *Queue) giveUp(ctx context.Context, it *item, e draft, now time.Time, verdict func(last mail.Result) mail.Result) error {
	claimed, rcpts := q.claim(it)
	if len(claimed) == 0 {
		return nil
	}
	return q.fail(ctx, it, e, claimed, rcpts, now, verdict)
}

// fail fails the recipients of jobs that were claimed. The caller holds
// it.record.
func (q *Queue) fail(ctx context.Context, it *item, e draft, claimed []*job, rcpts []int, now time.Time, verdict func(last mail.Result) mail.Result) error {
	for _, i := range rcpts {
		st := &e.State[i]
		st.Last, st.Done = verdict(st.Last), true
	}
	err := q.tellFailure(ctx, e, rcpts, now)
	if err == nil {
		for _, i := range rcpts {
			q.metrics.expired.Inc()
			q.totals.count(mail.Failed)
			q.logOutcome(e, i)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case it.gone:
	case err != nil:
		q.log.Error("a DSN cannot be stored; the message stays", "event", "queue.notify_failed", "id", it.id, "kind", dsn.Failure.String(), "err", err)
		for _, j := range claimed {
			q.sched.place(j, now)
		}
		q.sched.setCheck(it, now.Add(q.after(1)))
	case e.done():
		q.sched.drop(it, now)
	default:
		for _, j := range claimed {
			j.rcpts = nil
			q.sched.forget(j, now)
		}
		if it.entry != nil {
			it.entry = e.Entry
		}
	}
	return err
}

// claim takes all jobs of an item that are not running out of the schedule,
// so that no worker can begin one. The caller holds it.record, and places or
// forgets them.
func (q *Queue) claim(it *item) (jobs []*job, rcpts []int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.claimLocked(it)
}

// claimAll is claim for somebody who wants all of an item or nothing.
func (q *Queue) claimAll(it *item) (jobs []*job, rcpts []int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case it.gone:
		return nil, nil, spool.ErrNotFound
	case it.runs():
		return nil, nil, ErrBusy
	}
	jobs, rcpts = q.claimLocked(it)
	return jobs, rcpts, nil
}

// claimLocked is claim for callers that hold mu.
func (q *Queue) claimLocked(it *item) (jobs []*job, rcpts []int) {
	for _, j := range it.jobs {
		if j.state == running {
			continue
		}
		q.sched.displace(j)
		q.sched.setState(j, held)
		jobs = append(jobs, j)
		rcpts = append(rcpts, j.rcpts...)
	}
	return jobs, rcpts
}

// walkStep is how many items walk looks at without a pause for others.
const walkStep = 256

// walk calls fn with pieces of what is in the schedule, from the oldest item
// on. For each piece it calls look, with mu held, to choose, and fn without it.
func (q *Queue) walk(ctx context.Context, look func(*item) bool, fn func([]*item)) {
	chosen := make([]*item, 0, walkStep)
	for _, l := range []*list{&q.sched.restored, &q.sched.accepted} {
		q.mu.Lock()
		at := l.first
		q.mu.Unlock()
		for at != nil && ctx.Err() == nil {
			q.mu.Lock()
			for n := 0; at != nil && n < walkStep; n++ {
				if !at.gone && look(at) {
					chosen = append(chosen, at)
				}
				at = at.after
			}
			q.mu.Unlock()
			if len(chosen) > 0 {
				fn(chosen)
			}
			clear(chosen)
			chosen = chosen[:0]
		}
	}
}

// reconsider asks Held again about what it holds, and about what it might hold
// by now, so that an operator who has blocked a client sees its mail held at
// once, and not when each attempt is due. It reads nothing of the spool: who
// sent it is in memory, and an attempt asks again about all of the entry.
func (q *Queue) reconsider(ctx context.Context) {
	var e spool.Entry // what the memory has of each in turn
	q.walk(ctx, func(it *item) bool { return !it.operator }, func(piece []*item) {
		for _, it := range piece {
			e.ID, e.Envelope.Client, e.Envelope.Registration, e.Envelope.Arrival = it.id, it.client.Value(), it.registration.Value(), it.arrival
			q.hold(it, q.o.Held(&e))
		}
		q.mu.Lock()
		q.sched.advance(time.Now()) // Run is here, and what is due does not wait for the walk
		q.staff()
		q.mu.Unlock()
	})
}

// hold stops attempts for an item until Held says that they may go on, or with
// "" lets them go on.
func (q *Queue) hold(it *item, why string) {
	q.mu.Lock()
	was, now := it.hold, time.Now()
	if it.gone || it.operator || was == why { // an operator's is not ours to lift
		q.mu.Unlock()
		return
	}
	if was == "" || why == "" {
		q.sched.setHold(it, why, false, now)
	}
	it.hold = why
	q.sched.setCheck(it, q.nextCheck(it, now))
	if why == "" {
		q.changed()
	}
	q.mu.Unlock()
	switch {
	case why == "":
		q.log.Info("attempts go on", "event", "queue.released", "id", it.id)
	case was == "":
		q.log.Info("attempts stop", "event", "queue.held", "id", it.id, "reason", why)
	}
}
