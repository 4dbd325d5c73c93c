// Package confirm owns the promise that each newly registered address is
// confirmed to its contact once: what is due, and what the message says.
//
// An address is known by (address, department), its key: a file that is moved
// or a contact that changes is no new registration, another department is. The
// ledger holds the keys that were confirmed. A message and its key reach the
// spool in one atomic step, so that no crash can send twice or lose one, and
// everything here may be repeated at any time.
//
// What is due: an address that is live and whose key is not in the ledger. A
// blocked or expired one waits until it is live. The first ever sync puts all
// keys into the ledger and mails nobody. A key is forgotten when an ordinary
// commit takes the address out, so that it is confirmed anew if it comes back;
// a rewind forgets nothing.
//
// It never decides who may send, and knows nothing of the spool.
// RFC 5322 (message format), RFC 2047 (names), RFC 3834 §5 (Auto-Submitted).
package confirm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
)

// A Ledger remembers, for ever, which keys were confirmed.
type Ledger interface {
	// Confirmed reports whether key is in the ledger.
	Confirmed(key string) (bool, error)
	// Mark adds keys, all or none; those it holds already are no error.
	Mark(keys ...string) error
	// Forget takes keys out, all or none; those it does not hold are no error.
	Forget(keys ...string) error
}

// An Outbox takes messages over.
type Outbox interface {
	// Send makes the message durable and marks key in the ledger, both or
	// neither. If key is marked already it does nothing and returns nil.
	Send(ctx context.Context, key string, env mail.Envelope, body []byte) error
}

// A Provenance says how a file came into the register. What is not known is
// zero.
type Provenance struct {
	Commit   string    // the commit that brought it in
	Request  int       // number of the pull request
	URL      string    // of the pull request
	Branch   string    // that was merged
	MergedBy string    // who merged it
	At       time.Time // when
}

// An Item is one confirmation that is due.
type Item struct {
	Key   string
	IP    netip.Addr
	Entry policy.Entry
}

// marker is in the ledger once there was a first sync. Without it a crash
// between taking over the first commit and marking its addresses would mail the
// whole university.
const marker = "confirm/started"

// Key names an address of a department in the ledger.
func Key(ip netip.Addr, department string) string {
	if len(department) > 200 { // keys are bounded; such a name cannot be a folder anyway
		sum := sha256.Sum256([]byte(department))
		department = "sha256:" + hex.EncodeToString(sum[:])
	}
	return "confirm/" + ip.String() + "/" + department
}

// Due lists what is due in s at now, in order of address: each address that is
// live and that confirmed does not know. It reads nothing else.
func Due(s *policy.Snapshot, now time.Time, confirmed func(key string) (bool, error)) ([]Item, error) {
	var due []Item
	for ip, entry := range s.All() {
		key := Key(ip, entry.Registration.Department)
		if done, err := confirmed(key); err != nil {
			return nil, err
		} else if done || s.Lookup(ip, now).Standing != policy.Registered {
			continue
		}
		due = append(due, Item{Key: key, IP: ip, Entry: entry})
	}
	return due, nil
}

// Options of New. Ledger, Outbox, Letter.Host and Letter.Postmaster are needed.
type Options struct {
	Letter Letterhead
	Ledger Ledger
	Outbox Outbox

	// Provenance says how the file at a path came into the register; it may be
	// nil or fail, and then the message names the commit only.
	Provenance func(ctx context.Context, path string) (Provenance, error)

	// Standby records what would be due, and mails nobody: another relay of the
	// fleet confirms. So this one can take over at any time without repeating.
	Standby bool

	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: none
}

// A Confirmer carries out what Due finds. Its methods may be called by any
// goroutine; they take turns.
type Confirmer struct {
	o Options

	mu        sync.Mutex
	confirmed map[string]bool         // guarded by mu; keys that the ledger was seen to hold, so that it is asked once for each
	owed      map[policy.Removal]bool // guarded by mu; whose keys to forget, kept while the ledger fails
}

// New makes a Confirmer.
func New(o Options) *Confirmer {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Confirmer{o: o, confirmed: map[string]bool{}, owed: map[policy.Removal]bool{}}
}

// An Event is a snapshot that was put in force.
type Event struct {
	Snapshot *policy.Snapshot // what is in force now, break-glass blocks included
	Removed  []policy.Removal // what ordinary commits took out since the last event; nothing that a rewind did
}

// Accepted brings the ledger and the outbox into step with an event. On an
// error some of it may be done, and the rest is done by the next call, with
// this event or with a later one. It is to be called after each change of the
// snapshot, at start, and now and then between (an hour will do), because
// blocks end by themselves; an Event that holds a Snapshot only is right for
// that.
func (c *Confirmer) Accepted(ctx context.Context, e Event) error {
	if e.Snapshot == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	started, err := c.o.Ledger.Confirmed(marker)
	if err != nil {
		return fmt.Errorf("confirm: reading the ledger: %w", err)
	}
	if !started {
		return c.begin(e.Snapshot)
	}
	if err := c.forget(e); err != nil {
		return err
	}
	due, err := Due(e.Snapshot, c.o.Now(), c.has)
	if err != nil {
		return fmt.Errorf("confirm: reading the ledger: %w", err)
	}
	if c.o.Standby {
		return c.record(due)
	}
	return c.send(ctx, e.Snapshot, due)
}

// begin is the first ever sync: all keys and the marker in one batch.
func (c *Confirmer) begin(s *policy.Snapshot) error {
	keys := []string{marker}
	for ip, entry := range s.All() {
		keys = append(keys, Key(ip, entry.Registration.Department))
	}
	if err := c.o.Ledger.Mark(keys...); err != nil {
		return fmt.Errorf("confirm: recording the first sync: %w", err)
	}
	c.note(keys)
	c.o.Logger.Info("the first sync: nobody is mailed", "event", "confirm.first", "addresses", len(keys)-1, "commit", s.Commit())
	return nil
}

// forget takes out of the ledger what an ordinary commit took out of the
// register. What fails is owed, and tried again whatever the next event is; what
// has come back by then was never gone, as package reconcile has it.
func (c *Confirmer) forget(e Event) error {
	for _, r := range e.Removed {
		c.owed[r] = true
	}
	keys := make([]string, 0, len(c.owed))
	for _, r := range e.Snapshot.StillRemoved(slices.Collect(maps.Keys(c.owed))) {
		key := Key(r.IP, r.Department)
		keys = append(keys, key)
		delete(c.confirmed, key) // before asking: after an error nobody knows
	}
	if len(keys) == 0 {
		clear(c.owed)
		return nil
	}
	if err := c.o.Ledger.Forget(keys...); err != nil {
		return fmt.Errorf("confirm: forgetting removed addresses: %w", err)
	}
	clear(c.owed)
	return nil
}

func (c *Confirmer) record(due []Item) error {
	if len(due) == 0 {
		return nil
	}
	keys := make([]string, len(due))
	for i, item := range due {
		keys[i] = item.Key
	}
	if err := c.o.Ledger.Mark(keys...); err != nil {
		return fmt.Errorf("confirm: recording for another relay: %w", err)
	}
	c.note(keys)
	return nil
}

func (c *Confirmer) send(ctx context.Context, s *policy.Snapshot, due []Item) error {
	known := map[string]Provenance{} // by path: a file has up to 64 addresses
	for _, item := range due {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("confirm: %w", err)
		}
		path := item.Entry.Registration.Path
		from, ok := known[path]
		if !ok {
			from = c.provenance(ctx, path, s.Commit())
			known[path] = from
		}
		m, err := c.o.Letter.Compose(item, from, c.o.Now())
		if err != nil { // its contact is no mailbox; a better one in the register mends it
			c.o.Logger.Warn("a confirmation cannot be addressed", "event", "confirm.unaddressed", "client", item.IP, "registration", path, "err", err)
			continue
		}
		m.Envelope.Commit = s.Commit()
		if err := c.o.Outbox.Send(ctx, m.Key, m.Envelope, m.Body); err != nil {
			return fmt.Errorf("confirm: handing over the confirmation of %s: %w", item.IP, err)
		}
		c.note([]string{m.Key})
		c.o.Logger.Info("a confirmation is on its way", "event", "confirm.sent", "client", item.IP, "registration", path,
			"commit", s.Commit(), "to", m.To.String())
	}
	return nil
}

// provenance never fails: a message that says less is better than none.
func (c *Confirmer) provenance(ctx context.Context, path, commit string) Provenance {
	if c.o.Provenance == nil {
		return Provenance{Commit: commit}
	}
	p, err := c.o.Provenance(ctx, path)
	if err != nil {
		c.o.Logger.Warn("a confirmation goes without its pull request", "event", "confirm.origin_unknown", "registration", path, "err", err)
		return Provenance{Commit: commit}
	}
	return p
}

// has asks the ledger, once for each key that it holds.
func (c *Confirmer) has(key string) (bool, error) {
	if c.confirmed[key] {
		return true, nil
	}
	done, err := c.o.Ledger.Confirmed(key)
	if done && err == nil {
		c.confirmed[key] = true
	}
	return done, err
}

func (c *Confirmer) note(keys []string) {
	for _, key := range keys {
		c.confirmed[key] = true
	}
}
