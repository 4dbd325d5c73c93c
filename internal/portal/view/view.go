// Package view keeps the register as its branch has it, built, for the portal's
// pages to ask. It follows the branch wherever it goes: what a relay would take
// over is the relay's to say, and what a page shows of relays comes from them.
//
// Invariants:
//   - A Register never changes; any number of goroutines may read it.
//   - What cannot be read leaves the one before in place, with the reason beside
//     it, and is tried again.
package view

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/review"
)

// A Source is where the register is; a gitsync.Mirror is one.
type Source interface {
	review.Commits
	// Fetch looks at the branch, and is its newest commit.
	Fetch(context.Context) (gitsync.Hash, error)
}

// Options of New. Source and Now must be set.
type Options struct {
	Source Source
	Poll   time.Duration // between two looks; default 30 s
	Now    func() time.Time
	Logger *slog.Logger // default: discard
}

// A Register is the register at one commit.
type Register struct {
	Commit string    // its full hash
	At     time.Time // when the portal had it
	Base   *review.Base

	once        sync.Once
	departments map[string][]policy.Entry // each in order of address; made once
	ends        map[string][]time.Time    // of each of these, in order of time
}

// Of is the addresses of a department, live, blocked or expired, in order. It
// must not be changed.
func (r *Register) Of(department string) []policy.Entry {
	r.once.Do(r.sort)
	return r.departments[department]
}

// Ending is how many addresses of a department have a registration that ends
// before a time, or has ended.
func (r *Register) Ending(department string, before time.Time) int {
	r.once.Do(r.sort)
	n, _ := slices.BinarySearchFunc(r.ends[department], before, time.Time.Compare)
	return n
}

func (r *Register) sort() {
	r.departments, r.ends = map[string][]policy.Entry{}, map[string][]time.Time{}
	for _, e := range r.Base.Snapshot().All() {
		d := e.Registration.Department
		r.departments[d] = append(r.departments[d], e)
		r.ends[d] = append(r.ends[d], e.Registration.Expires)
	}
	for _, times := range r.ends {
		slices.SortFunc(times, time.Time.Compare)
	}
}

// A View is the register of this moment. It is safe for concurrent use.
type View struct {
	o    Options
	wake chan struct{}
	now  atomic.Pointer[Register]

	mu      sync.Mutex
	err     error         // of the last look; guarded by mu
	looked  time.Time     // guarded by mu: the last look that succeeded
	changed chan struct{} // closed at the next change; guarded by mu
}

// New makes a View of nothing yet.
func New(o Options) *View {
	if o.Poll <= 0 {
		o.Poll = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &View{o: o, wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Now is the newest register; nil as long as there is none.
func (v *View) Now() *Register { return v.now.Load() }

// State is when the branch was last seen, and why the last look failed, nil if
// it did not.
func (v *View) State() (looked time.Time, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.looked, v.err
}

// Changed is closed when there is a newer register than at the call.
func (v *View) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// Wake asks for a look now.
func (v *View) Wake() {
	select {
	case v.wake <- struct{}{}:
	default: // one is due already
	}
}

// Run looks at the branch until ctx ends, with every poll and every Wake.
func (v *View) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-v.wake:
		}
		v.note(ctx, v.look(ctx))
		timer.Reset(v.o.Poll)
	}
}

// look brings the register up to date.
func (v *View) look(ctx context.Context) error {
	head, err := v.o.Source.Fetch(ctx)
	if err != nil {
		return err
	}
	before := v.now.Load()
	if before != nil && before.Commit == head.String() {
		return nil
	}
	next := &Register{Commit: head.String()}
	if before == nil {
		tree, err := review.At(ctx, v.o.Source, head, nil)
		if err != nil {
			return err
		}
		next.Base, err = review.NewBase(ctx, tree, v.o.Now(), nil, nil)
		if err != nil {
			return err
		}
	} else {
		tree, err := before.Base.At(ctx, v.o.Source, head)
		if err != nil {
			return err
		}
		next.Base, err = before.Base.Next(ctx, tree)
		if err != nil {
			return err
		}
	}
	next.At = v.o.Now()
	next.Of("") // no visitor has to wait for it
	v.now.Store(next)
	v.mu.Lock()
	close(v.changed)
	v.changed = make(chan struct{})
	v.mu.Unlock()
	v.o.Logger.Info("a newer register", "event", "portal.register", "commit", next.Commit, "addresses", next.Base.Snapshot().Len())
	return nil
}

// note keeps how a look went, and tells changes of it once.
func (v *View) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		err = fmt.Errorf("view: reading the register: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err == nil && v.err != nil:
		v.o.Logger.Info("the register can be read again", "event", "portal.register_recovered")
	case err != nil && (v.err == nil || v.err.Error() != err.Error()):
		v.o.Logger.Warn("the register cannot be read; the one before stays", "event", "portal.register_failed", "err", err)
	}
	if v.err = err; err == nil {
		v.looked = v.o.Now()
	}
}
