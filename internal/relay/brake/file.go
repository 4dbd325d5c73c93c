package brake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"time"

	"example.edu/gatepost/internal/durable"
)

// The file is a line that says what it is, and then one line for each
// registration that is braked or of which it is known what is usual, all in
// JSON.
const (
	version = 1
	what    = "gatepost brake"
	maxFile = 512 << 20 // octets: over what MaxRegistrations can come to
	maxPath = 1 << 10   // octets of a registration's path, and of a contact
	maxText = 300       // octets of an evidence's words
	maxWhy  = 8
)

type headLine struct {
	Version int    `json:"version"`
	What    string `json:"what"`
}

// A line is one registration. Days are the recipients of the day numbered Day
// (since 1970, UTC) so far, and of those before.
type line struct {
	Registration string    `json:"registration"`
	State        *State    `json:"state,omitempty"` // nil: free
	Machines     []Machine `json:"machines,omitempty"`
	Contact      string    `json:"contact,omitempty"`
	PerHour      int       `json:"perHour,omitempty"`
	Touched      int64     `json:"touched"`
	Day          int64     `json:"day"`
	Days         []uint32  `json:"days"`
}

// Open reads what was kept, if anything was; the steps that there were are in
// force when it returns. A file that makes no sense is put aside as FILE.damaged
// and logged, and nobody is braked.
func Open(o Options) (*Brake, error) {
	b := &Brake{o: o, log: o.Logger, now: o.Now, seed: maphash.MakeSeed(), wake: make(chan struct{}, 1)}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.now == nil {
		b.now = time.Now
	}
	m, err := newMetrics(o.Registerer, b)
	if err != nil {
		return nil, err
	}
	b.metrics = m
	b.clear()
	if o.File == "" {
		return b, nil
	}
	damage, err := durable.Recover(o.File, maxFile, b.decode)
	if damage != nil {
		b.log.Error("what the brake knew cannot be read and is put aside; nobody is braked", "event", "brake.damaged", "file", durable.Aside(o.File), "err", damage)
		b.clear()
	}
	if err != nil {
		return nil, fmt.Errorf("brake: %w", err)
	}
	return b, nil
}

func (b *Brake) clear() {
	b.trackers, b.changes, b.owed = map[string]*tracker{}, map[string]Step{}, map[string]bool{}
}

// decode fills an empty brake.
func (b *Brake) decode(data []byte) error {
	return durable.DecodeLines(data, headLine{version, what}, func(l line) error {
		if !b.take(l) {
			return fmt.Errorf("brake: the line of %.100q makes no sense", l.Registration)
		}
		return nil
	})
}

// take adds one line of the file. People are told again of what they may not
// have been told, which a Teller does once.
func (b *Brake) take(l line) bool {
	if l.Registration == "" || len(l.Registration) > maxPath || len(l.Contact) > maxPath || len(l.Machines) > clients ||
		len(l.Days) < 1 || len(l.Days) > history+1 || l.Day < 0 || l.Touched < 0 || l.PerHour < 0 || len(b.trackers) >= MaxRegistrations {
		return false
	}
	t := &tracker{touched: l.Touched, day: l.Day, machines: l.Machines, client: Client{Registration: l.Registration, PerHour: l.PerHour, Contact: l.Contact}}
	for _, m := range l.Machines {
		if !m.Addr.IsValid() || m.Addr.Zone() != "" || m.Messages < 0 {
			return false
		}
	}
	if l.State != nil {
		t.state = *l.State
		if len(t.state.Why) > maxWhy || (t.state.Step == Free) != t.state.Since.IsZero() {
			return false
		}
		for i := range t.state.Why {
			if len(t.state.Why[i].Words) > maxText {
				return false
			}
		}
	}
	t.base, t.known = l.Days[0], len(l.Days) > 1
	copy(t.days[:], l.Days[1:])
	b.trackers[l.Registration] = t
	if t.state.Step >= Held {
		b.owed[l.Registration] = true
	}
	return true
}

// lines copies what is to be kept.
func (b *Brake) lines() []line {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]line, 0, len(b.trackers))
	done := 0
	for path, t := range b.trackers {
		if done++; done%512 == 0 { // sessions wait for some, not for all
			b.mu.Unlock()
			b.mu.Lock()
		}
		l := line{Registration: path, PerHour: t.client.PerHour, Touched: t.touched, Day: t.day, Days: []uint32{uint32(t.recipients())}}
		if t.known {
			l.Days = append(l.Days, t.days[:]...)
		}
		if t.state.Step > Free || !t.state.FreeUntil.IsZero() {
			state := t.state
			l.State, l.Contact = &state, t.client.Contact
			l.Machines = append(l.Machines, t.machines...)
		}
		out = append(out, l)
	}
	return out
}

// Save writes the file if something has changed since it was written.
func (b *Brake) Save() error {
	b.saving.Lock()
	defer b.saving.Unlock()
	b.mu.Lock()
	dirty := b.dirty
	b.dirty = false // before it is read: what changes meanwhile is for the next time
	b.mu.Unlock()
	if !dirty || b.o.File == "" {
		return nil
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	err := enc.Encode(headLine{version, what})
	for _, l := range b.lines() {
		err = errors.Join(err, enc.Encode(l))
	}
	if err == nil {
		err = durable.WriteFile(b.o.File, out.Bytes(), 0o600)
	}
	if err != nil {
		b.mu.Lock()
		b.dirty = true
		b.mu.Unlock()
		return fmt.Errorf("brake: saving: %w", err)
	}
	return nil
}
