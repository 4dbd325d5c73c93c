package activity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"net/netip"
	"slices"
	"time"

	"example.edu/gatepost/internal/durable"
)

// The file is a line that says what it is, and then one line for each address,
// all in JSON.
const (
	version = 2       // one of version 1 is read as well: it has no recipients, octets, needs and reasons
	maxFile = 2 << 30 // octets: over what MaxKnown addresses can come to
	maxRuns = 1 << 40 // refusals in one run
)

type headLine struct {
	Version int    `json:"version"`
	What    string `json:"what"`
}

var head = headLine{version, "gatepost activity"}

// A line is one address in the file. Hours and Days are counts, the newest
// first; Hour and Day number the newest since 1970.
type line struct {
	Addr     netip.Addr `json:"ip"`
	Known    bool       `json:"known,omitempty"`
	Touched  int64      `json:"touched"`
	First    int64      `json:"first,omitempty"`
	Last     int64      `json:"last,omitempty"`
	Hour     int64      `json:"hour,omitempty"`
	Hours    []uint32   `json:"hours,omitempty"`
	Day      int64      `json:"day,omitempty"`
	Days     []uint32   `json:"days,omitempty"` // messages; the same days are in the next two
	Rcpts    []uint32   `json:"recipients,omitempty"`
	Octets   []uint64   `json:"octets,omitempty"`
	TLS      string     `json:"tls,omitempty"`
	Since    int64      `json:"since,omitempty"` // Needs are counted from here on
	Needs    []needLine `json:"needs,omitempty"` // in the order of Needed
	Reasons  []tally    `json:"reasons,omitempty"`
	Refusals []Refusal  `json:"refusals,omitempty"`
}

// A needLine is a need; all zero: there was none.
type needLine struct {
	Last int64    `json:"last,omitempty"`
	Day  int64    `json:"day,omitempty"`
	Days []uint32 `json:"days,omitempty"`
}

// Open reads what was kept, if anything was. A file that makes no sense is put
// aside as FILE.damaged and logged, and the book begins empty.
func Open(o Options) (*Book, error) {
	b := &Book{file: o.File, register: o.Register, log: o.Logger, now: o.Now, seed: maphash.MakeSeed()}
	if b.now == nil {
		b.now = time.Now
	}
	b.clear()
	damage, err := durable.Recover(b.file, maxFile, b.decode)
	if damage != nil {
		b.log.Error("what was known of the clients cannot be read and is put aside", "event", "activity.damaged", "file", durable.Aside(b.file), "err", damage)
		b.clear()
	}
	if err != nil {
		return nil, fmt.Errorf("activity: %w", err)
	}
	return b, nil
}

func (b *Book) clear() {
	for i := range b.parts {
		b.parts[i].known, b.parts[i].strangers = map[netip.Addr]*entry{}, map[netip.Addr]*entry{}
	}
}

// decode fills an empty book.
func (b *Book) decode(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	var first headLine
	if err := dec.Decode(&first); err != nil || first.What != head.What || first.Version < 1 || first.Version > version {
		return errors.Join(errors.New("activity: not a file of this version"), err)
	}
	for {
		var l line
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("activity: reading an address: %w", err)
		}
		if err := b.take(l); err != nil {
			return err
		}
	}
}

// take adds one line of the file.
func (b *Book) take(l line) error {
	if !l.Addr.IsValid() || l.Touched < 0 || l.Hour < 0 || l.Day < 0 || l.Since < 0 ||
		len(l.Refusals) > MaxRefusals || len(l.Reasons) > MaxReasons || len(l.Needs) > leniencies {
		return fmt.Errorf("activity: the line of %s makes no sense", l.Addr)
	}
	e := &entry{touched: l.Touched, refusals: l.Refusals, reasons: l.Reasons}
	for i := range e.refusals {
		r := &e.refusals[i]
		if r.Count < 1 || r.Count > maxRuns {
			return fmt.Errorf("activity: the refusals of %s make no sense", l.Addr)
		}
		r.Stage, r.Reason, r.Said = cut(r.Stage, maxWord), cut(r.Reason, maxWord), cut(r.Said, maxSaid)
	}
	for i := range e.reasons {
		e.reasons[i].Reason = cut(e.reasons[i].Reason, maxWord)
	}
	if l.Last > 0 {
		if err := l.mail(e); err != nil {
			return err
		}
	}
	s := b.shard(l.Addr)
	if l.Known {
		put(s.known, MaxKnown/shards, l.Addr, e)
	} else {
		put(s.strangers, MaxStrangers/shards, l.Addr, e)
	}
	return nil
}

// mail fills in what was accepted.
func (l *line) mail(e *entry) error {
	m := newMailed(l.First)
	m.last, m.tls, m.since = l.Last, cut(l.TLS, maxWord), l.Since
	set(&m.hours, l.Hour, l.Hours, func(h *hour, n uint32) { *h = hour(n) })
	set(&m.days, l.Day, l.Days, func(d *day, n uint32) { d.messages = n })
	set(&m.days, l.Day, l.Rcpts, func(d *day, n uint32) { d.recipients = n })
	set(&m.days, l.Day, l.Octets, func(d *day, n uint64) { d.octets = min(n, math.MaxInt64/64) })
	for i, n := range l.Needs {
		if n.Last < 0 || n.Day < 0 {
			return fmt.Errorf("activity: the leniencies of %s make no sense", l.Addr)
		}
		if n.Last > 0 {
			m.needed[i] = &need{last: n.Last, days: newDays[hour]()}
			set(&m.needed[i].days, n.Day, n.Days, func(h *hour, c uint32) { *h = hour(c) })
		}
	}
	e.mail = m
	return nil
}

// encode writes all there is. Each shard is held for as long as it takes to
// copy it.
func (b *Book) encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	if err := enc.Encode(head); err != nil {
		return nil, err
	}
	for i := range b.parts {
		for _, l := range b.parts[i].lines() {
			if err := enc.Encode(l); err != nil {
				return nil, err
			}
		}
	}
	return out.Bytes(), nil
}

func (s *shard) lines() []line {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]line, 0, len(s.known)+len(s.strangers))
	for known, m := range map[bool]map[netip.Addr]*entry{true: s.known, false: s.strangers} {
		for addr, e := range m {
			l := line{Addr: addr, Known: known, Touched: e.touched, Refusals: slices.Clone(e.refusals), Reasons: slices.Clone(e.reasons)}
			if m := e.mail; m != nil {
				l.set(m)
			}
			out = append(out, l)
		}
	}
	return out
}

// set is the reverse of mail.
func (l *line) set(m *mailed) {
	count := func(h hour) uint32 { return uint32(h) }
	l.First, l.Last, l.TLS, l.Since = m.first, m.last, m.tls, m.since
	l.Hour, l.Hours = m.hours.newest, list(&m.hours, count)
	l.Day = m.days.newest
	l.Days = list(&m.days, func(d day) uint32 { return d.messages })
	l.Rcpts = list(&m.days, func(d day) uint32 { return d.recipients })
	l.Octets = list(&m.days, func(d day) uint64 { return d.octets })
	if m.needed == ([leniencies]*need{}) {
		return
	}
	l.Needs = make([]needLine, leniencies)
	for i, n := range m.needed {
		if n != nil {
			l.Needs[i] = needLine{n.last, n.days.newest, list(&n.days, count)}
		}
	}
}

// Save writes the file if something has changed since it was written.
func (b *Book) Save() error {
	if !b.dirty.Swap(false) { // before it is read: what changes meanwhile is for the next time
		return nil
	}
	data, err := b.encode()
	if err == nil {
		err = durable.WriteFile(b.file, data, 0o600)
	}
	if err != nil {
		b.dirty.Store(true)
		return fmt.Errorf("activity: saving: %w", err)
	}
	return nil
}

// Run saves once a minute, forgets once an hour what is out of date, and saves
// when ctx ends. That it cannot save is logged, once until it can, and is no
// reason to end or to end badly.
func (b *Book) Run(ctx context.Context) error {
	save := time.NewTicker(saveTime)
	defer save.Stop()
	prune := time.NewTicker(time.Hour)
	defer prune.Stop()
	failing := false
	keep := func() {
		err := b.Save()
		if err != nil && !failing {
			b.log.Warn("what is known of the clients is not saved", "event", "activity.failed", "err", err)
		}
		failing = err != nil
	}
	for {
		select {
		case <-ctx.Done():
			keep()
			return nil
		case <-prune.C:
			b.prune()
		case <-save.C:
			keep()
		}
	}
}
