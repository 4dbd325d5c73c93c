package activity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"example.edu/gatepost/internal/durable"
)

// The file is a line that says what it is, and then one line for each address,
// all in JSON.
const (
	version = 1
	maxFile = 1 << 30 // octets: over what MaxKnown addresses can come to
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
	Days     []uint32   `json:"days,omitempty"`
	Refusals []Refusal  `json:"refusals,omitempty"`
}

// Open reads what was kept, if anything was. A file that makes no sense is put
// aside as FILE.damaged and logged, and the book begins empty.
func Open(o Options) (*Book, error) {
	b := &Book{file: o.File, register: o.Register, log: o.Logger, now: o.Now, seed: maphash.MakeSeed()}
	if b.now == nil {
		b.now = time.Now
	}
	b.clear()
	data, err := durable.ReadFile(b.file, maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return b, nil
	case err == nil:
		err = b.decode(data)
	case !errors.Is(err, durable.ErrTooLarge):
		return nil, fmt.Errorf("activity: %w", err)
	}
	if err != nil {
		b.log.Error("what was known of the clients cannot be read and is put aside", "event", "activity.damaged", "file", b.file+".damaged", "err", err)
		b.clear()
		if err := os.Rename(b.file, b.file+".damaged"); err != nil {
			return nil, fmt.Errorf("activity: %w", err)
		}
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
	if err := dec.Decode(&first); err != nil || first != head {
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
	if !l.Addr.IsValid() || l.Touched < 0 || l.Hour < 0 || l.Day < 0 || len(l.Refusals) > MaxRefusals {
		return fmt.Errorf("activity: the line of %s makes no sense", l.Addr)
	}
	e := &entry{touched: l.Touched, refusals: l.Refusals}
	for i := range e.refusals {
		r := &e.refusals[i]
		if r.Count < 1 || r.Count > maxRuns {
			return fmt.Errorf("activity: the refusals of %s make no sense", l.Addr)
		}
		r.Stage, r.Reason, r.Said = cut(r.Stage, maxWord), cut(r.Reason, maxWord), cut(r.Said, maxSaid)
	}
	if l.Last > 0 {
		e.mail = newMailed(l.First)
		e.mail.last = l.Last
		e.mail.hours.set(l.Hour, l.Hours)
		e.mail.days.set(l.Day, l.Days)
	}
	s := b.shard(l.Addr)
	if l.Known {
		put(s.known, MaxKnown/shards, l.Addr, e)
	} else {
		put(s.strangers, MaxStrangers/shards, l.Addr, e)
	}
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
			l := line{Addr: addr, Known: known, Touched: e.touched, Refusals: append([]Refusal(nil), e.refusals...)}
			if m := e.mail; m != nil {
				l.First, l.Last = m.first, m.last
				l.Hour, l.Hours, l.Day, l.Days = m.hours.newest, m.hours.list(), m.days.newest, m.days.list()
			}
			out = append(out, l)
		}
	}
	return out
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
