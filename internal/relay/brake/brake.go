// Package brake notices a registration that sends as no such machine does, and
// slows it down, then holds its mail and tells people, then blocks its machines
// for a time.
//
// It sees what the relay sees anyway: messages that were tried and accepted, how
// many different recipients they go to, how many of those get the same body, and
// what next hops answer. What is too much is configuration; Decide is the pure
// function that says what follows.
//
// It keeps counts and steps, and their file. It stops nobody by itself: the
// front door asks Ask, the queue asks Holds, a Blocker blocks, and a Teller
// writes to people. It knows nothing of single messages, and keeps no address of
// a recipient, only hashes with a seed of this process.
//
// Invariants:
//   - a step is in force at once, and on the disk before anybody is told of it;
//   - one step at a time, and each is logged, told by List, and ended by Release;
//   - what is kept of a registration is bounded, whatever it sends;
//   - what is forgotten by a crash are counts, never a step that was told.
package brake

import (
	"cmp"
	"context"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/mail"
)

// MaxRegistrations is how many registrations are watched. Those beyond it are
// not braked.
const MaxRegistrations = 1 << 17

// keepFor is how long what is usual of a registration is known after it sent
// last.
const keepFor = (history + 1) * 24 * time.Hour

// A Client is one machine of a registration.
type Client struct {
	Registration string // path
	Addr         netip.Addr
	PerHour      int    // declared messages
	Contact      string // the registration's mailbox
}

// A Machine is an address of a registration, and how many messages it tried,
// accepted or not, today (UTC) or since it was braked.
type Machine struct {
	Addr     netip.Addr `json:"ip"`
	Messages int        `json:"messages"`
}

// A Message is what the brake looks at of one.
type Message struct {
	From   mail.Address
	To     []mail.Recipient // of one that was not accepted, the first is enough
	Octets int64            // of one that was not accepted, what it declared
	Body   uint64           // digest; 0: of no body
}

// A Notice is what people are told: that a registration's mail is held, or that
// its machines are blocked.
type Notice struct {
	Registration string
	Contact      string
	Machines     []Machine // the busiest first
	State        State
	Counts       Counts
}

// A Teller tells the contact and the postmaster. Tell is called again after an
// error or a restart; the same notice must reach people once.
type Teller interface {
	Tell(ctx context.Context, n Notice) error
}

// A Blocker keeps addresses from being served, whatever the register says. Its
// blocks survive a restart. Both methods may be called again for what is done.
type Blocker interface {
	// Block blocks addr until a time, unless it is blocked already.
	Block(addr netip.Addr, reason string, until time.Time) error
	// Unblock ends the block that Block made, and no other.
	Unblock(addr netip.Addr) error
}

// Options of Open. Thresholds must be set.
type Options struct {
	File       string // where it is kept; "": nowhere
	Thresholds Thresholds
	Teller     Teller  // nil: nobody is told
	Blocker    Blocker // nil: blocked machines are told so by Ask only
	// Changed is told that Holds may say something else now; nil: nobody is.
	Changed    func()
	Logger     *slog.Logger     // nil: none
	Now        func() time.Time // for Run and Release; nil: time.Now
	Registerer prometheus.Registerer
}

// A Brake watches all registrations. Its methods may be called from any
// goroutine.
type Brake struct {
	o       Options
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	seed    maphash.Seed
	wake    chan struct{} // capacity 1: something for Run to act on

	saving sync.Mutex // held while the file is written; taken before mu

	mu       sync.Mutex // guards what follows, and the trackers
	trackers map[string]*tracker
	all      results         // of all registrations together
	changes  map[string]Step // registrations whose new step was not acted upon, and the step before
	owed     map[string]bool // registrations of which people are to be told, or whose machines to be blocked
	dirty    bool
}

// A Braked is why a message may not come now.
type Braked struct {
	Step  Step
	Why   string // in plain words
	Until time.Time
	Every time.Duration // when slowed: from one message to the next
}

// tracker is that of c; made, if there is none and make is set. It may be nil.
// The caller holds mu.
func (b *Brake) tracker(registration string, create bool, now time.Time) *tracker {
	t := b.trackers[registration]
	if t == nil {
		if !create || registration == "" || len(b.trackers) >= MaxRegistrations {
			return nil
		}
		t = &tracker{}
		b.trackers[registration] = t
	}
	t.turn(now)
	return t
}

// off reports whether there is nothing to watch for.
func (b *Brake) off() bool { return b.o.Thresholds.Furthest == Free }

// Ask says whether a message of c may come now, before its first recipient is
// accepted. One that may not is counted as tried.
func (b *Brake) Ask(c Client, m Message, now time.Time) (Braked, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tracker(c.Registration, false, now)
	if t == nil || b.off() {
		return Braked{}, true
	}
	b.judge(c.Registration, t, Counts{}, now)
	s := t.state
	if s.Step == Free {
		return Braked{}, true
	}
	every := b.o.Thresholds.SlowEvery
	if s.Step == Slowed && (now.Sub(t.let) >= every || now.Before(t.let)) {
		t.let = now
		return Braked{}, true
	}
	t.met(c)
	t.refuse(b.seed, m)
	b.judge(c.Registration, t, t.counts(now, &b.all), now)
	return Braked{Step: s.Step, Why: s.words(), Until: s.Until, Every: every}, false
}

// words are the worst of what it is for.
func (s State) words() string {
	if len(s.Why) == 0 {
		return "it sent too much"
	}
	return s.Why[0].Words
}

// Refused notes a message of c for which its budgets had no room.
func (b *Brake) Refused(c Client, m Message, now time.Time) {
	b.note(c.Registration, now, func(t *tracker) {
		t.met(c)
		t.refuse(b.seed, m)
	})
}

// Accepted notes a message of c that was accepted.
func (b *Brake) Accepted(c Client, m Message, now time.Time) {
	b.note(c.Registration, now, func(t *tracker) {
		t.met(c)
		t.took(b.seed, m, now)
	})
}

// Result notes what a next hop said of one recipient of a registration's mail.
func (b *Brake) Result(registration string, r mail.Result, now time.Time) {
	if r.Outcome == mail.Deferred {
		return
	}
	b.note(registration, now, func(t *tracker) {
		t.got(r, now)
		b.all.got(r, now)
	})
}

func (b *Brake) note(registration string, now time.Time, what func(*tracker)) {
	if b.off() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tracker(registration, true, now)
	if t == nil {
		return
	}
	what(t)
	b.dirty = true
	b.judge(registration, t, t.counts(now, &b.all), now)
}

// judge takes the step that follows. The caller holds mu.
func (b *Brake) judge(registration string, t *tracker, c Counts, now time.Time) {
	next := Decide(t.state, c, b.o.Thresholds, now)
	before := t.state.Step
	t.state = next
	if next.Step == before {
		return
	}
	b.dirty = true
	b.metrics.took(next.Step)
	if _, waits := b.changes[registration]; !waits {
		b.changes[registration] = before
	}
	if next.Step >= Held {
		b.owed[registration] = true
	}
	b.poke()
}

func (b *Brake) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Holds says why queued mail of a registration must wait; "" if it need not.
func (b *Brake) Holds(registration string, now time.Time) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.trackers[registration]
	if t == nil || t.state.Step < Held || b.off() || now.Before(t.state.FreeUntil) {
		return ""
	}
	return "the brake holds the mail of " + registration + ": " + t.state.words()
}

// A Registration is one that is braked, or known.
type Registration struct {
	Path     string
	Machines []Machine // the busiest first
	State    State
	Counts   Counts
}

// List tells of the registrations that are braked now, the hardest first.
func (b *Brake) List() (out []Registration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for path, t := range b.trackers {
		if t.state.Step > Free {
			out = append(out, t.registration(path, now, &b.all))
		}
	}
	slices.SortFunc(out, func(a, c Registration) int {
		return cmp.Or(cmp.Compare(c.State.Step, a.State.Step), cmp.Compare(a.Path, c.Path))
	})
	return out
}

// Of tells of one registration; ok is false if nothing is known of it.
func (b *Brake) Of(registration string) (r Registration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.trackers[registration]
	if t == nil {
		return r, false
	}
	return t.registration(registration, b.now(), &b.all), true
}

// registration tells of t as it is at now, and leaves it as it is.
func (t *tracker) registration(path string, now time.Time, all *results) Registration {
	v := *t
	v.turn(now)
	machines := slices.Clone(t.machines)
	slices.SortStableFunc(machines, func(a, b Machine) int { return cmp.Compare(b.Messages, a.Messages) })
	return Registration{path, machines, t.state, v.counts(now, all)}
}
