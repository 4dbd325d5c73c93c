package sts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"example.edu/gatepost/internal/durable"
)

// The file is a line that says what it is, and then one line for each policy,
// all in JSON.
const (
	version   = 1
	what      = "gatepost mta-sts"
	maxFile   = 64 << 20    // octets
	saveAfter = time.Second // after a change; what a crash forgets is fetched again
)

type headLine struct {
	Version int    `json:"version"`
	What    string `json:"what"`
}

type line struct {
	Domain  string    `json:"domain"`
	ID      string    `json:"id"`
	Policy  *Policy   `json:"policy"`
	Fetched time.Time `json:"fetched"`
	Used    time.Time `json:"used"`
}

// decode fills an empty book.
func (b *Book) decode(data []byte) error {
	return durable.DecodeLines(data, headLine{version, what}, func(l line) error {
		p := l.Policy
		switch {
		case l.Domain == "" || p == nil || p.MaxAge < 0 || p.MaxAge > maxAge*time.Second || p.Mode != Enforce && p.Mode != Testing && p.Mode != None,
			len(p.MX) > maxPatterns, p.Mode != None && len(p.MX) == 0, len(b.known) >= maxPolicies:
			return fmt.Errorf("sts: the policy of %.80q makes no sense", l.Domain)
		}
		if now := b.now(); l.Fetched.After(now) { // the clock was wrong, then or now
			l.Fetched = now
		}
		b.known[l.Domain] = &entry{id: l.ID, policy: p, fetched: l.Fetched, used: l.Used}
		return nil
	})
}

// save writes the file if something has changed since it was written.
func (b *Book) save() error {
	b.mu.Lock()
	if !b.dirty {
		b.mu.Unlock()
		return nil
	}
	b.dirty = false
	lines := make([]line, 0, len(b.known))
	for domain, e := range b.known {
		lines = append(lines, line{domain, e.id, e.policy, e.fetched.UTC(), e.used.UTC()})
	}
	b.mu.Unlock()
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.Domain, b.Domain) })
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	err := enc.Encode(headLine{version, what})
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
		return fmt.Errorf("sts: saving: %w", err)
	}
	return nil
}

// Run saves what changes, refreshes once an hour what is a day old and in use,
// and saves when ctx ends. That it cannot save is logged, once until it can.
func (b *Book) Run(ctx context.Context) error {
	var refreshing sync.WaitGroup
	defer refreshing.Wait()
	refreshing.Go(func() { b.keepFresh(ctx) })
	write := time.NewTimer(saveAfter)
	defer write.Stop()
	failing := false
	keep := func() {
		err := b.save()
		if err != nil && !failing {
			b.log.Warn("MTA-STS policies are not saved", "event", "sts.failed", "err", err)
		}
		failing = err != nil
	}
	for {
		select {
		case <-ctx.Done():
			refreshing.Wait()
			b.mu.Lock()
			b.dirty = b.dirty || len(b.known) > 0 // when they were used
			b.mu.Unlock()
			keep()
			return nil
		case <-b.wake:
			write.Reset(saveAfter)
		case <-write.C:
			keep()
		}
	}
}

// keepFresh refreshes once an hour, until ctx ends.
func (b *Book) keepFresh(ctx context.Context) {
	round := time.NewTicker(refreshRound)
	defer round.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-round.C:
			b.refresh(ctx)
		}
	}
}

// refresh fetches what is in use and a day old, one after the other, and drops
// what has ended. RFC 8461 §10.2: so that nobody need wait for the end of a
// policy to keep the next one away.
func (b *Book) refresh(ctx context.Context) {
	now := b.now()
	b.mu.Lock()
	due := map[string]string{} // domain → id
	for domain, e := range b.known {
		switch {
		case !now.Before(e.end()):
			delete(b.known, domain)
			b.changed()
		case now.Sub(e.fetched) > refreshAfter && now.Sub(e.used) < unusedFor:
			due[domain] = e.id
		}
	}
	b.mu.Unlock()
	for domain, id := range due {
		if ctx.Err() != nil {
			return
		}
		if txts, err := b.lookup(ctx, domain); err == nil {
			if newer, ok := parseRecord(txts); ok {
				id = newer
			}
		}
		got := b.fetch(ctx, domain, id)
		if got.policy == nil {
			continue
		}
		b.mu.Lock()
		if e := b.known[domain]; e != nil {
			b.keep(domain, &entry{id: id, policy: got.policy, fetched: b.now(), used: e.used, ask: b.now().Add(askAfter)})
		}
		b.mu.Unlock()
	}
}
