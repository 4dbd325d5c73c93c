// Package limits holds each registration, and each machine of one, to the
// volume that its department declared: messages and recipients in a minute, an
// hour and a day, and octets in a day. It gives the addresses on campus that
// may not send a small budget of their own, so that a fleet that was set up
// wrongly cannot eat the relay.
//
// A budget fills up continuously, up to its size: a device that was silent may
// send an hour's worth in one go (a minute's at a time), and never more than
// twice the declared number in any one hour (or day). What is over the budget
// is asked to come later, never refused; what is refused for another reason is
// given back.
//
// What is used is kept in a file, written once a minute and at the end: a
// restart forgets nothing, a crash up to a minute, which is to the clients'
// favour. It never reads the register itself and never talks to a client.
//
// Invariants:
//   - what is used is never less than nothing, nor more than twice a burst;
//   - a message whose size, recipients and number are allowed passes a full
//     budget;
//   - memory follows who sends, not who ever sent: an account that is full again
//     is forgotten; strangers have no more than MaxStrangers accounts.
package limits

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// How many accounts are kept. What is beyond that is not held to its budget,
// but for strangers, who then share one.
const (
	MaxRegistrations = 1 << 18
	MaxMachines      = 1 << 19
	MaxStrangers     = 1 << 13
)

// A Use is what a client asks for, or has used.
type Use struct {
	Sessions   int // of those who may not send; others' are not counted
	Messages   int
	Recipients int
	Octets     int64
}

// of is how much of a unit it is.
func (u Use) of(k unit) float64 {
	return float64([...]int64{messages: int64(u.Messages), recipients: int64(u.Recipients), octets: u.Octets}[k])
}

func (u Use) minus(v Use) Use {
	return Use{u.Sessions - v.Sessions, u.Messages - v.Messages, u.Recipients - v.Recipients, u.Octets - v.Octets}
}

// An Over is a budget without room.
type Over struct {
	Budget string        // its name in the metrics: "messages-hour"
	Limit  string        // in plain words: "200 messages per hour"
	Whose  string        // the path of a registration, or an address
	RoomAt time.Time     // when there is room for what was asked, if nothing else is sent
	RoomIn time.Duration // how long that is
}

// Options of Open. Terms must be set.
type Options struct {
	File       string // where it is kept; "": nowhere
	Terms      Terms
	Logger     *slog.Logger     // nil: none
	Now        func() time.Time // for the file; nil: time.Now
	Registerer prometheus.Registerer
}

// Budgets are the budgets of all clients. Its methods may be called from any
// goroutine.
type Budgets struct {
	file    string
	terms   Terms
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	kinds   [kinds]budget

	mu            sync.Mutex              // guards what follows, and the accounts
	registrations map[string]*account     // by path
	machines      map[netip.Addr]*account // of registrations with several; by address
	strangers     map[netip.Addr]*stranger
	dirty         bool // something is not in the file yet
}

// An account is what one registration, or one machine of one, has used.
type account struct {
	declared registration.Volume
	meters   [kinds]meter
}

// The budgets of a stranger.
const (
	sessionsHour = "sessions-hour"
	triesHour    = "tries-hour"
)

// A stranger is an address that may not send. The zero address stands for those
// for whom there was no place.
type stranger struct{ sessions, tries meter }

func (b *Budgets) clear() {
	b.registrations, b.machines, b.strangers = map[string]*account{}, map[netip.Addr]*account{}, map[netip.Addr]*stranger{}
}

// A holder is one account that a client spends from, with its rates.
type holder struct {
	*account
	whose string
	rates [kinds]rate
}

// holders are the accounts of v: that of its registration and, where that has
// several machines, that of the machine; appended to list. The caller holds mu.
func (b *Budgets) holders(v policy.Verdict, now time.Time, list []holder) []holder {
	g := v.Registration
	a := b.registrations[g.Path]
	if a == nil {
		a = &account{declared: g.Volume}
	}
	list = append(list, b.holder(a, g, 1, g.Path, now))
	if len(g.Hosts) > 1 {
		a := b.machines[v.Addr]
		if a == nil {
			a = &account{declared: g.Volume}
		}
		list = append(list, b.holder(a, g, b.terms.MachinePart, v.Addr.String(), now))
	}
	return list
}

// holder brings an account to the volume that is declared now. What was used
// stays used, so a larger volume gives room at once.
func (b *Budgets) holder(a *account, g *registration.Registration, part float64, whose string, now time.Time) holder {
	h := holder{account: a, whose: whose, rates: b.terms.rates(g.Volume, part)}
	if a.declared != g.Volume {
		before := b.terms.rates(a.declared, part)
		for i := range a.meters {
			a.meters[i] = using(h.rates[i], now, min(a.meters[i].used(before[i], now), h.rates[i].burst))
		}
		a.declared = g.Volume
	}
	return h
}

// keep stores the accounts of v, if there is room. The caller holds mu.
func (b *Budgets) keep(v policy.Verdict, list []holder) {
	if len(b.registrations) < MaxRegistrations {
		b.registrations[v.Registration.Path] = list[0].account
	}
	if len(list) > 1 && len(b.machines) < MaxMachines {
		b.machines[v.Addr] = list[1].account
	}
	b.dirty = true
}

// Check tells whether there is room for u at now, and takes nothing.
func (b *Budgets) Check(v policy.Verdict, u Use, now time.Time) (Over, bool) {
	return b.ask(v, u, now, false)
}

// Take takes u from every budget of v at now. If one of them has no room it
// takes nothing, and tells of the one that has room last.
func (b *Budgets) Take(v policy.Verdict, u Use, now time.Time) (Over, bool) {
	return b.ask(v, u, now, true)
}

func (b *Budgets) ask(v policy.Verdict, u Use, now time.Time, take bool) (Over, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v.Standing != policy.Registered || v.Registration == nil {
		return b.askStranger(v, u, now, take)
	}
	if u == (Use{Sessions: u.Sessions}) {
		return Over{}, true
	}
	var room [2]holder
	list := b.holders(v, now, room[:0])
	var over Over
	for _, h := range list {
		for i, k := range b.kinds {
			n := u.of(k.unit)
			if n <= 0 || h.meters[i].has(h.rates[i], now, n) {
				continue
			}
			if wait := h.meters[i].wait(h.rates[i], now, n); over.Budget == "" || wait > over.RoomIn {
				over = Over{Budget: k.name, Limit: k.words(h.rates[i]), Whose: h.whose, RoomIn: wait}
			}
		}
	}
	if over.Budget != "" {
		b.metrics.over(over.Budget)
		over.RoomAt = now.Add(over.RoomIn)
		return over, false
	}
	if take {
		b.spend(list, u, now)
		b.keep(v, list)
	}
	return Over{}, true
}

func (b *Budgets) spend(list []holder, u Use, now time.Time) {
	for _, h := range list {
		for i, k := range b.kinds {
			if n := u.of(k.unit); n != 0 {
				h.meters[i] = h.meters[i].spend(h.rates[i], now, n)
			}
		}
	}
}

// askStranger is ask for an address that may not send: sessions, and recipients
// that it names although they will be refused. The caller holds mu.
func (b *Budgets) askStranger(v policy.Verdict, u Use, now time.Time, take bool) (Over, bool) {
	sessions, tries := b.terms.strangers()
	key := v.Addr
	s := b.strangers[key]
	if s == nil && len(b.strangers) >= MaxStrangers {
		key = netip.Addr{}
		s = b.strangers[key]
	}
	if s == nil {
		s = &stranger{}
	}
	for _, ask := range []struct {
		name, limit string
		n           int
		m           *meter
		r           rate
	}{
		{sessionsHour, plural(sessions.n, "session") + " per hour", u.Sessions, &s.sessions, sessions},
		{triesHour, plural(tries.n, "refused recipient") + " per hour", u.Recipients, &s.tries, tries},
	} {
		switch n := float64(ask.n); {
		case n <= 0:
		case !ask.m.has(ask.r, now, n):
			b.metrics.over(ask.name)
			wait := ask.m.wait(ask.r, now, n)
			return Over{Budget: ask.name, Limit: ask.limit, Whose: v.Addr.String(), RoomAt: now.Add(wait), RoomIn: wait}, false
		case take:
			*ask.m = ask.m.spend(ask.r, now, n)
			b.strangers[key] = s
			b.dirty = true
		}
	}
	return Over{}, true
}

// Settle replaces what Take took by what was used in the end: nothing, for a
// message that was not accepted, or its real size. It may overdraw a budget,
// which then has no room for longer.
func (b *Budgets) Settle(v policy.Verdict, took, used Use, now time.Time) {
	change := used.minus(took)
	if v.Standing != policy.Registered || v.Registration == nil || change == (Use{}) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var room [2]holder
	list := b.holders(v, now, room[:0])
	b.spend(list, change, now)
	b.keep(v, list)
}

// A Left is what is left of one budget.
type Left struct {
	Budget string // its name: "messages-hour"
	Whose  string // the path of the registration, or the address
	Limit  int64  // in the span that the name says
	AtOnce int64  // what a full budget holds; not less than Limit
	Left   int64  // of AtOnce, now; less than zero where more was used than allowed
	FullAt time.Time
}

// Left tells what is left of each budget of v, in a fixed order; nothing for a
// client that has none.
func (b *Budgets) Left(v policy.Verdict, now time.Time) (out []Left) {
	b.mu.Lock()
	defer b.mu.Unlock()
	add := func(name, whose string, m meter, r rate) {
		l := Left{Budget: name, Whose: whose, Limit: int64(r.n), AtOnce: int64(r.burst), Left: int64(m.left(r, now) + 1e-6), FullAt: now}
		if m.used(r, now) > 0 {
			l.FullAt = now.Add(m.wait(r, now, r.burst))
		}
		out = append(out, l)
	}
	switch {
	case v.Standing == policy.Registered && v.Registration != nil:
		for _, h := range b.holders(v, now, nil) {
			for i, k := range b.kinds {
				add(k.name, h.whose, h.meters[i], h.rates[i])
			}
		}
	case v.Standing == policy.Expired || v.Standing == policy.Unregistered:
		s := b.strangers[v.Addr]
		if s == nil {
			s = &stranger{}
		}
		sessions, tries := b.terms.strangers()
		add(sessionsHour, v.Addr.String(), s.sessions, sessions)
		add(triesHour, v.Addr.String(), s.tries, tries)
	}
	return out
}
