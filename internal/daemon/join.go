package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/confirm"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/smtpd"
	"example.edu/gatepost/internal/relay/spool"
)

// lookup is the register's answer for one client.
func (r *relay) lookup(addr netip.Addr, now time.Time) policy.Verdict {
	return r.live.Load().Lookup(addr, now)
}

// held says why queued mail must wait: its client is blocked now.
func (r *relay) held(e *spool.Entry) string {
	if !e.Envelope.Client.IsValid() {
		return "" // the relay's own
	}
	now := time.Now()
	if why := r.brake.Holds(e.Envelope.Registration, now); why != "" {
		return why
	}
	v := r.lookup(e.Envelope.Client, now)
	switch v.Standing {
	case policy.Blocked:
		return fmt.Sprintf("%s is blocked: %s", e.Envelope.Client, v.Block.Reason)
	case policy.NoRegister: // nothing to lie over, and a break-glass block counts all the same
		if b, ok := r.blocks.Set().Over(e.Envelope.Client, now); ok {
			return fmt.Sprintf("%s is blocked: %s", e.Envelope.Client, b.Reason)
		}
	}
	return ""
}

// recheckHolds has the queue ask held again when the register or the
// break-glass blocks change, and when a block begins or ends by the clock; each
// minute at least, as the clock may be set.
func (r *relay) recheckHolds(ctx context.Context) error {
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	for {
		changed := r.live.Changed() // before Recheck: what changes during it is not missed
		r.queue.Recheck()
		wait := time.Minute
		now := time.Now()
		if next := r.live.Load().NextTurn(now); !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer.C:
		}
	}
}

// A store is where smtpd's messages go: into the spool, and from there to the
// queue without a detour.
type store struct {
	spool *spool.Spool
	queue *queue.Queue
	step  stepper
}

var _ smtpd.Store = store{}

func (s store) Create(ctx context.Context, env mail.Envelope) (smtpd.Message, error) {
	w, err := s.spool.Create(ctx, env)
	if err != nil {
		return nil, full(err)
	}
	return message{w, s}, nil
}

type message struct {
	w     *spool.Writer
	store store
}

func (m message) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	return n, full(err)
}

func (m message) Commit(ctx context.Context) (string, error) {
	e, err := m.w.Commit(ctx)
	if err != nil {
		return "", full(err)
	}
	m.store.step.pass(stepStored)
	m.store.queue.Accept(e)
	m.store.step.pass(stepQueued)
	return string(e.ID), nil
}

func (m message) Abort() { m.w.Abort() }

// full translates the spool's word for a full disk into smtpd's.
func full(err error) error {
	if errors.Is(err, spool.ErrFull) {
		return fmt.Errorf("%w: %w", smtpd.ErrFull, err)
	}
	return err
}

// A ledger remembers which confirmations were sent: keys of the spool, so that
// a key and its message are one step.
type ledger struct{ spool *spool.Spool }

var _ confirm.Ledger = ledger{}

func (l ledger) Confirmed(key string) (bool, error) { return l.spool.HasKey(key) }
func (l ledger) Mark(keys ...string) error          { return l.spool.MarkKeys(keys...) }
func (l ledger) Forget(keys ...string) error        { return l.spool.DropKeys(keys...) }

// An outbox sends the relay's own mail.
type outbox struct {
	spool *spool.Spool
	queue *queue.Queue
}

var _ confirm.Outbox = outbox{}

// Send stores a message under a key; it does nothing if the key was used.
func (o outbox) Send(ctx context.Context, key string, env mail.Envelope, body []byte) error {
	e, err := o.spool.Store(ctx, env, body, spool.WithKey(key))
	switch {
	case errors.Is(err, spool.ErrDuplicate):
		return nil
	case err != nil:
		return err
	}
	o.queue.Accept(e)
	return nil
}

// accepted is called after a commit is in force. What counts is what is in
// force by now: the same commit, with the break-glass blocks over it.
func (r *relay) accepted(ctx context.Context, a reconcile.Accepted) error {
	return r.confirm.Accepted(ctx, confirm.Event{Snapshot: r.live.Load(), Removed: a.Removed})
}

// recheckConfirmations looks at the start and each hour for confirmations that
// have become due by the clock: a block that ended.
func (r *relay) recheckConfirmations(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		err := r.confirm.Accepted(ctx, confirm.Event{Snapshot: r.live.Load()})
		if err != nil && ctx.Err() == nil {
			r.log.Error("confirmations are late", "event", "confirm.failed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// provenance tells how a registration came into the register.
func (r *relay) provenance(ctx context.Context, path string) (confirm.Provenance, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	head, err := gitsync.ParseHash(r.live.Load().Commit())
	if err != nil {
		return confirm.Provenance{}, err
	}
	revisions, err := r.source.History(ctx, head, path)
	if err != nil || len(revisions) == 0 {
		return confirm.Provenance{}, err
	}
	v := revisions[0]
	return confirm.Provenance{Commit: v.Commit.String(), Request: v.Request, Branch: v.Branch, MergedBy: v.MergedBy, At: v.Time}, nil
}
