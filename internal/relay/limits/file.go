package limits

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"time"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/registration"
)

// The file is a line that says what it is and when it was written, and then one
// line for each account that is not full, all in JSON.
const (
	version   = 1
	maxFile   = 512 << 20 // octets: over what all accounts together can come to
	maxPath   = 1 << 10   // octets of a registration's path
	maxVolume = 1_000_000 // what schema/register.cue allows
	saveTime  = time.Minute

	lineOctets = 128 // of an account, on average
)

type headLine struct {
	Version int    `json:"version"`
	What    string `json:"what"`
	At      int64  `json:"at"` // Unix milliseconds
}

const what = "gatepost limits"

// A line is one account: of a registration, of a machine of one (IP and a
// volume), or of a stranger (IP and no volume). Used is what was used of each
// budget and not filled up again when the file was written, to a thousandth; of a
// stranger, sessions and tries. So a file can be read under other terms.
type line struct {
	Registration string     `json:"registration,omitempty"`
	IP           netip.Addr `json:"ip,omitzero"`
	PerHour      int        `json:"perHour,omitempty"`
	PerDay       int        `json:"perDay,omitempty"`
	Used         []float64  `json:"used"`
}

// Open reads what was used, if anything was kept. A file that makes no sense is
// put aside as FILE.damaged and logged, and every budget is full.
func Open(o Options) (*Budgets, error) {
	b := &Budgets{file: o.File, terms: o.Terms, log: o.Logger, now: o.Now, kinds: budgets()}
	if b.now == nil {
		b.now = time.Now
	}
	m, err := newMetrics(o.Registerer, b)
	if err != nil {
		return nil, err
	}
	b.metrics = m
	b.clear()
	if b.file == "" {
		return b, nil
	}
	damage, err := durable.Recover(b.file, maxFile, func(data []byte) error { return b.decode(data, b.now()) })
	if damage != nil {
		b.log.Error("what the clients have used cannot be read and is put aside; every budget is full", "event", "limits.damaged", "file", durable.Aside(b.file), "err", damage)
		b.clear()
	}
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	return b, nil
}

// decode fills empty budgets with what was written, as it is at now. What was
// written in the future, by a clock that was wrong, counts as written now.
func (b *Budgets) decode(data []byte, now time.Time) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	var head headLine
	if err := dec.Decode(&head); err != nil || head.Version != version || head.What != what || head.At < 0 || head.At > 1<<43 {
		return errors.Join(errors.New("limits: not a file of this version"), err)
	}
	at := time.UnixMilli(head.At)
	if at.After(now) {
		at = now
	}
	for {
		var l line
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("limits: reading an account: %w", err)
		}
		if !b.take(l, at) {
			return fmt.Errorf("limits: the account of %.100q %s makes no sense", l.Registration, l.IP)
		}
	}
}

// take adds one line of the file.
func (b *Budgets) take(l line, at time.Time) bool {
	for _, n := range l.Used {
		if n < 0 {
			return false
		}
	}
	v := registration.Volume{PerHour: l.PerHour, PerDay: l.PerDay}
	switch {
	case l.PerHour < 0 || l.PerDay < 0 || l.PerHour > maxVolume || l.PerDay > maxVolume || len(l.Registration) > maxPath || l.IP.Zone() != "":
		return false
	case l.Registration != "" && !l.IP.IsValid() && len(l.Used) == int(kinds) && len(b.registrations) < MaxRegistrations:
		b.registrations[l.Registration] = b.account(v, 1, l.Used, at)
	case l.Registration == "" && l.IP.IsValid() && l.PerHour > 0 && len(l.Used) == int(kinds) && len(b.machines) < MaxMachines:
		b.machines[l.IP] = b.account(v, b.terms.MachinePart, l.Used, at)
	case l.Registration == "" && l.PerHour == 0 && len(l.Used) == 2 && len(b.strangers) <= MaxStrangers:
		sessions, tries := b.terms.strangers()
		b.strangers[l.IP] = &stranger{using(sessions, at, l.Used[0]), using(tries, at, l.Used[1])}
	default:
		return false
	}
	return true
}

func (b *Budgets) account(v registration.Volume, part float64, used []float64, at time.Time) *account {
	a := &account{declared: v}
	for i, r := range b.terms.rates(v, part) {
		a.meters[i] = using(r, at, used[i])
	}
	return a
}

// lines copies every account, and forgets those that are full again. Clients
// wait for some hundreds of accounts at a time, not for all.
func (b *Budgets) lines(now time.Time) []line {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]line, 0, len(b.registrations)+len(b.machines)+len(b.strangers))
	done := 0
	breathe := func() {
		if done++; done%512 == 0 {
			b.mu.Unlock()
			b.mu.Lock()
		}
	}
	used := make([]float64, 0, int(kinds)*cap(out))
	of := func(a *account, part float64) []float64 {
		if a.idle(now) {
			return nil
		}
		from := len(used)
		for i, r := range b.terms.rates(a.declared, part) {
			used = append(used, thousandth(a.meters[i].used(r, now)))
		}
		return used[from:len(used):len(used)]
	}
	for path, a := range b.registrations {
		breathe()
		if n := of(a, 1); n != nil {
			out = append(out, line{Registration: path, PerHour: a.declared.PerHour, PerDay: a.declared.PerDay, Used: n})
		} else {
			delete(b.registrations, path)
		}
	}
	for ip, a := range b.machines {
		breathe()
		if n := of(a, b.terms.MachinePart); n != nil {
			out = append(out, line{IP: ip, PerHour: a.declared.PerHour, PerDay: a.declared.PerDay, Used: n})
		} else {
			delete(b.machines, ip)
		}
	}
	sessions, tries := b.terms.strangers()
	for ip, s := range b.strangers {
		breathe()
		if max(int64(s.sessions), int64(s.tries)) <= now.UnixNano() {
			delete(b.strangers, ip)
			continue
		}
		out = append(out, line{IP: ip, Used: []float64{thousandth(s.sessions.used(sessions, now)), thousandth(s.tries.used(tries, now))}})
	}
	return out
}

func thousandth(n float64) float64 { return math.Floor(n*1000) / 1000 }

// idle reports whether all of an account's budgets are full.
func (a *account) idle(now time.Time) bool {
	for _, m := range a.meters {
		if int64(m) > now.UnixNano() {
			return false
		}
	}
	return true
}

// Save writes the file if something was used since it was written.
func (b *Budgets) Save() error {
	now := b.now()
	b.mu.Lock()
	dirty := b.dirty
	b.dirty = false // before it is read: what changes meanwhile is for the next time
	b.mu.Unlock()
	if !dirty || b.file == "" {
		return nil
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	lines := b.lines(now)
	out.Grow(lineOctets * len(lines))
	err := enc.Encode(headLine{version, what, now.UnixMilli()})
	for _, l := range lines {
		err = errors.Join(err, enc.Encode(l))
	}
	if err == nil {
		err = durable.WriteFile(b.file, out.Bytes(), 0o600)
	}
	if err != nil {
		b.mu.Lock()
		b.dirty = true
		b.mu.Unlock()
		return fmt.Errorf("limits: saving: %w", err)
	}
	return nil
}

// Run saves once a minute, and when ctx ends. That it cannot save is logged,
// once until it can, and is no reason to end or to end badly.
func (b *Budgets) Run(ctx context.Context) error {
	tick := time.NewTicker(saveTime)
	defer tick.Stop()
	failing := false
	keep := func() {
		err := b.Save()
		if err != nil && !failing {
			b.log.Warn("what the clients have used is not saved", "event", "limits.failed", "err", err)
		}
		failing = err != nil
	}
	for {
		select {
		case <-ctx.Done():
			keep()
			return nil
		case <-tick.C:
			keep()
		}
	}
}
