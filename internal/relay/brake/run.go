package brake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	tickTime = time.Minute      // from one look at the clock to the next
	saveTime = 10 * time.Minute // from one writing of the counts to the next
)

// Errors of Release.
var (
	// ErrFree is for a registration that is not braked.
	ErrFree = errors.New("brake: the registration is not braked")
	// ErrUnsaved is matched when it is released, but a crash would take that back.
	ErrUnsaved = errors.New("brake: released, but not on the disk")
)

// Run acts on steps until ctx ends: it writes them down, blocks, and tells
// people. It ends steps whose time is over, and forgets who has not sent for
// long. That something fails is logged, tried again each minute, and no reason
// to end.
func (b *Brake) Run(ctx context.Context) error {
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	saved := b.now()
	failing := false
	for {
		b.act(ctx, &failing)
		select {
		case <-ctx.Done():
			b.keep(&failing)
			return nil
		case <-b.wake:
		case <-tick.C:
			b.clock(b.now())
			if now := b.now(); now.Sub(saved) >= saveTime {
				b.keep(&failing)
				saved = now
			}
		}
	}
}

// keep saves, and logs the first of some failures.
func (b *Brake) keep(failing *bool) bool {
	err := b.Save()
	if err != nil && !*failing {
		b.log.Error("what the brake knows is not saved", "event", "brake.failed", "err", err)
	}
	*failing = err != nil
	return err == nil
}

// clock ends what is over, and forgets.
func (b *Brake) clock(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for path, t := range b.trackers {
		if t.state.Step > Free {
			b.judge(path, t, Counts{}, now)
		} else if now.Sub(time.Unix(t.touched, 0)) > keepFor && !now.Before(t.state.FreeUntil) {
			delete(b.trackers, path)
			b.dirty = true
		}
	}
}

// A change is a step that was taken, and the registration as it is by now.
type change struct {
	notice Notice
	before Step
}

// act brings the world to the steps that were taken: first the disk.
func (b *Brake) act(ctx context.Context, failing *bool) {
	b.mu.Lock()
	var changes []change
	now := b.now()
	for _, path := range slices.Sorted(maps.Keys(b.changes)) {
		if t := b.trackers[path]; t != nil {
			changes = append(changes, change{t.notice(path, now, &b.all), b.changes[path]})
		}
	}
	var owed []Notice
	for _, path := range slices.Sorted(maps.Keys(b.owed)) {
		if t := b.trackers[path]; t != nil && t.state.Step >= Held {
			owed = append(owed, t.notice(path, now, &b.all))
		} else {
			delete(b.owed, path)
		}
	}
	clear(b.changes)
	b.mu.Unlock()
	for _, c := range changes {
		b.logStep(c)
	}
	if len(changes) > 0 && b.o.Changed != nil {
		b.o.Changed()
	}
	if (len(changes) > 0 || *failing) && !b.keep(failing) {
		return // what is owed waits for the disk
	}
	for _, n := range owed {
		if ctx.Err() != nil {
			return // the next start goes on
		}
		if b.carryOut(ctx, n) {
			b.mu.Lock()
			if t := b.trackers[n.Registration]; t == nil || t.state.Since.Equal(n.State.Since) {
				delete(b.owed, n.Registration)
			}
			b.mu.Unlock()
		}
	}
}

func (t *tracker) notice(path string, now time.Time, all *results) Notice {
	r := t.registration(path, now, all)
	return Notice{Registration: path, Contact: t.client.Contact, Machines: r.Machines, State: r.State, Counts: r.Counts}
}

func (b *Brake) logStep(c change) {
	n := c.notice
	if n.State.Step == Free {
		b.log.Info("a registration is not braked any more", "event", "brake.ended", "registration", n.Registration, "before", c.before.String())
		return
	}
	var end slog.Attr // left out where there is none
	if !n.State.Until.IsZero() {
		end = slog.Time("not_after", n.State.Until)
	}
	b.log.Warn("a registration is braked", "event", "brake.step", "registration", n.Registration, "step", n.State.Step.String(),
		"before", c.before.String(), "reason", reasons(n.State.Why), end)
}

func reasons(why []Evidence) string {
	var words []string
	for _, e := range why {
		words = append(words, e.Words)
	}
	return strings.Join(words, "; ")
}

// carryOut blocks and tells, and reports whether all of it is done.
func (b *Brake) carryOut(ctx context.Context, n Notice) bool {
	done := true
	if b.o.Blocker != nil && n.State.Step == Blocked {
		for _, m := range busy(n.Machines) {
			if err := b.o.Blocker.Block(m.Addr, blockReason(n), n.State.Until); err != nil {
				b.log.Error("a machine is not blocked; its mail is held", "event", "brake.block_failed", "client", m.Addr, "registration", n.Registration, "err", err)
				done = false
			}
		}
	}
	if b.o.Teller != nil {
		if err := b.o.Teller.Tell(ctx, n); err != nil {
			if ctx.Err() == nil {
				b.log.Error("nobody is told of a registration that is braked; it is tried again", "event", "brake.tell_failed", "registration", n.Registration, "err", err)
			}
			done = false
		}
	}
	return done
}

// busy are the machines that it is about: those that tried at least a tenth of
// what the busiest did. list has the busiest first.
func busy(list []Machine) []Machine {
	i := slices.IndexFunc(list, func(m Machine) bool { return m.Messages*10 < list[0].Messages })
	if i < 0 {
		return list
	}
	return list[:i]
}

// BlockReason begins the reason that a Blocker is given.
const BlockReason = "the brake: "

func blockReason(n Notice) string { return BlockReason + n.State.words() }

// Release ends what is done to a registration, and lets it send unwatched for a
// time; its counts begin anew. It returns how it stood. lasts of 0 lets the brake
// look at it again at once.
func (b *Brake) Release(registration string, lasts time.Duration, reason string) (State, error) {
	b.mu.Lock()
	t := b.trackers[registration]
	if t == nil || t.state.Step == Free {
		b.mu.Unlock()
		return State{}, ErrFree
	}
	now := b.now()
	before, machines := t.state, slices.Clone(t.machines)
	t.state = State{}
	if lasts > 0 {
		t.state.FreeUntil = now.Add(lasts)
	}
	b.all.take(t.results, now) // else they would count as others'
	t.forget()
	delete(b.changes, registration)
	delete(b.owed, registration)
	b.dirty = true
	b.mu.Unlock()
	b.log.Warn("an operator releases a registration", "event", "brake.released", "registration", registration, "before", before.Step.String(), "reason", reason)
	err := b.Save()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnsaved, err)
	}
	err = errors.Join(err, b.unblock(machines))
	if b.o.Changed != nil {
		b.o.Changed()
	}
	return before, err
}

func (b *Brake) unblock(machines []Machine) (err error) {
	if b.o.Blocker == nil {
		return nil
	}
	for _, m := range machines {
		err = errors.Join(err, b.o.Blocker.Unblock(m.Addr))
	}
	return err
}
