// Package activity remembers what each client address did last: when mail was
// accepted from it, how much and how, which leniencies it has needed, and what it
// was refused and why. It answers "is my address in use?", "why is my mail not
// going out?", "who sends most?" and "can this leniency be taken away?".
//
// It owns the counts and their file, and decides nothing. What it keeps of an
// address is of a fixed size, whatever the address does.
//
// The paths of a message only add to memory, under one of many locks; the file
// is written once a minute if something has changed, and at the end. A crash
// therefore loses up to a minute of what is kept here, and nothing else.
//
// Invariants:
//   - addresses that the register has, or had lately, and all others have room
//     of their own: strangers, however many, push out strangers only;
//   - counts are never negative and never count what lies ahead of the clock.
package activity

import (
	"hash/maphash"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// How much is kept, and for how long.
const (
	MaxKnown     = 1 << 18             // addresses that are, or were, in the register
	MaxStrangers = 1 << 11             // others
	MaxReasons   = 8                   // reasons for which one address was refused
	MaxRefusals  = 5                   // runs of like refusals of one address
	KeepKnown    = 30 * 24 * time.Hour // since the last sign of an address that left the register
	KeepStranger = 7 * 24 * time.Hour  // since the last sign of one that was never in it

	maxSaid  = 300 // octets of what a refused client was told
	maxWord  = 32  // octets of a stage or a reason
	saveTime = time.Minute
	shards   = 64
)

// An Activity is what is known of one address at one time.
type Activity struct {
	Sums               // of accepted mail
	Seen     time.Time // the last sign of any kind: mail or a refusal; zero: none
	Needs    Needs
	Reasons  []Reason  // for which it was refused, the most frequent first
	Refusals []Refusal // the newest first
}

// Options of Open.
type Options struct {
	File string // where it is kept
	// Register gives a question to the register in force: whether it has an
	// address, live or not. It gives nil while there is none, and then nothing
	// is forgotten.
	Register func() func(netip.Addr) bool
	Logger   *slog.Logger
	Now      func() time.Time // nil: time.Now
}

// A Book keeps the activity of all addresses. Its methods may be called from
// any goroutine.
type Book struct {
	file     string
	register func() func(netip.Addr) bool
	log      *slog.Logger
	now      func() time.Time

	seed  maphash.Seed
	parts [shards]shard
	dirty atomic.Bool // something is not in the file yet
}

// A shard is one part of the addresses, so that sessions on different machines
// seldom wait for one another.
type shard struct {
	mu        sync.Mutex // guards what follows, and the entries
	known     map[netip.Addr]*entry
	strangers map[netip.Addr]*entry
}

// An entry is one address.
type entry struct {
	touched  int64     // Unix seconds of the last sign of any kind
	mail     *mailed   // nil: no message was accepted
	refusals []Refusal // oldest first
	reasons  []tally
}

func (b *Book) shard(addr netip.Addr) *shard {
	return &b.parts[maphash.Comparable(b.seed, addr)%shards]
}

// Accepted notes one message accepted from addr, which may send and so is in
// the register.
func (b *Book) Accepted(addr netip.Addr, msg Message) {
	at := b.now().Unix()
	s := b.shard(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(addr, true, at)
	if e.mail == nil {
		e.mail = newMailed(at)
	}
	e.mail.add(at, msg)
	b.changed()
}

// Refused notes a refusal; registered tells whether the register has addr. At
// and Count of r are filled in here.
func (b *Book) Refused(addr netip.Addr, registered bool, r Refusal) {
	now := b.now()
	r.At, r.Count = now.UTC().Truncate(time.Second), 1
	r.Stage, r.Reason, r.Said = cut(r.Stage, maxWord), cut(r.Reason, maxWord), cut(r.Said, maxSaid)
	s := b.shard(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(addr, registered, now.Unix())
	e.count(r.Reason, now.Unix())
	if n := len(e.refusals); n > 0 && e.refusals[n-1].Stage == r.Stage && e.refusals[n-1].Reason == r.Reason {
		r.Count += e.refusals[n-1].Count
		e.refusals = e.refusals[:n-1]
	}
	if len(e.refusals) == MaxRefusals {
		copy(e.refusals, e.refusals[1:])
		e.refusals = e.refusals[:MaxRefusals-1]
	}
	e.refusals = append(e.refusals, r)
	b.changed()
}

func (b *Book) changed() {
	if !b.dirty.Load() { // most often it is set, and then nobody writes to it
		b.dirty.Store(true)
	}
}

// cut keeps the first octets of what the relay itself wrote, in ASCII.
func cut(s string, most int) string { return s[:min(len(s), most)] }

// entry is that of addr, made where there is none, with its last sign at now.
// The caller holds mu.
func (s *shard) entry(addr netip.Addr, registered bool, at int64) *entry {
	e := s.known[addr]
	if e == nil {
		if e = s.strangers[addr]; e != nil && registered {
			delete(s.strangers, addr)
			put(s.known, MaxKnown/shards, addr, e)
		}
	}
	if e == nil {
		e = &entry{}
		if registered {
			put(s.known, MaxKnown/shards, addr, e)
		} else {
			put(s.strangers, MaxStrangers/shards, addr, e)
		}
	}
	e.touched = at
	return e
}

// put adds an entry to a map of at most most; the one heard of longest ago
// makes room.
func put(m map[netip.Addr]*entry, most int, addr netip.Addr, e *entry) {
	if len(m) >= most {
		var oldest netip.Addr
		for a, o := range m {
			if !oldest.IsValid() || o.touched < m[oldest].touched {
				oldest = a
			}
		}
		delete(m, oldest)
	}
	m[addr] = e
}

// Of is what is known of addr; the zero Activity where that is nothing.
func (b *Book) Of(addr netip.Addr) Activity {
	addr = addr.Unmap()
	at := b.now().Unix()
	s := b.shard(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.known[addr]
	if e == nil {
		e = s.strangers[addr]
	}
	if e == nil {
		return Activity{}
	}
	a := Activity{Seen: unix(e.touched), Reasons: e.why(at), Refusals: slices.Clone(e.refusals)}
	if m := e.mail; m != nil {
		a.Sums, a.Needs = m.sums(at), m.needs(at)
	}
	slices.Reverse(a.Refusals)
	return a
}

// prune forgets what nobody will ask for any more, and moves addresses that
// were registered since to where they belong.
func (b *Book) prune() {
	registered := b.register()
	if registered == nil {
		return
	}
	now := b.now()
	known, stranger := now.Add(-KeepKnown).Unix(), now.Add(-KeepStranger).Unix()
	for i := range b.parts {
		s := &b.parts[i]
		s.mu.Lock()
		for addr, e := range s.known {
			if e.touched < known && !registered(addr) {
				delete(s.known, addr)
				b.changed()
			}
		}
		for addr, e := range s.strangers {
			switch {
			case e.touched < stranger:
				delete(s.strangers, addr)
				b.changed()
			case registered(addr):
				delete(s.strangers, addr)
				put(s.known, MaxKnown/shards, addr, e)
			}
		}
		s.mu.Unlock()
	}
}
