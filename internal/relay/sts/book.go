// Package sts knows the MTA-STS policies of the domains that mail goes to: which
// hosts they name, and whether mail may go elsewhere.
//
// A Book keeps them for as long as they say, over restarts too: what protects a
// domain is that a policy which was seen once cannot be made to vanish by who
// sits on the line. It looks nothing up about the hosts themselves, and decides
// nothing; package tlspolicy does.
//
// Finding the policy of a domain:
//
//  1. One that is kept and in force, if the DNS was asked a short while ago.
//  2. Else the TXT record. If it has the id of what is kept, that stays.
//  3. Else the policy is fetched (fetch.go). If that fails, what is kept stays
//     to its end; if there is nothing, the domain counts as one without a
//     policy, and it is tried again a little later. RFC 8461 §3.3.
//
// Invariants:
//   - A policy that is in force is replaced only by one that was fetched over
//     HTTPS with a certificate for its host, never dropped for want of an answer.
//   - Each domain has one look-up at a time; who wants it too waits for that.
//   - Domains, policies and their sizes are bounded; the policies that were used
//     last stay.
//
// RFC 8461.
package sts

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/durable"
)

const (
	maxPolicies = 10_000 // that are kept
	maxAbsent   = 20_000 // domains of which it is remembered that they have none

	lookupFor    = 10 * time.Second    // the TXT record
	askAfter     = 10 * time.Minute    // the DNS again, whether a policy has changed
	absentFor    = 10 * time.Minute    // a domain without one
	failedFor    = 5 * time.Minute     // one that could not be fetched, doubling up to the next. RFC 8461 §3.3
	failedMost   = time.Hour           // where nothing goes out on port 443, nobody shall wait for it all the time
	unknownFor   = time.Minute         // one of which the DNS does not say
	refreshAfter = 24 * time.Hour      // RFC 8461 §10.2: before an attacker waits for its end
	refreshRound = time.Hour           //
	unusedFor    = 30 * 24 * time.Hour // then it is not refreshed any more
)

// Options of a Book. File is required.
type Options struct {
	File       string   // where policies are kept
	Resolver   Resolver // default: net.DefaultResolver
	Dialer     Dialer   // default: a net.Dialer
	Roots      *x509.CertPool
	Now        func() time.Time // default: time.Now
	Logger     *slog.Logger     // default: none
	Registerer prometheus.Registerer
}

// A Book is what is known of domains. It is safe for concurrent use.
type Book struct {
	file     string
	resolver Resolver
	fetcher  *fetcher
	now      func() time.Time
	log      *slog.Logger
	metrics  *metrics
	wake     chan struct{} // something is to be saved

	mu     sync.Mutex
	known  map[string]*entry        // guarded by mu, and so are the entries; by domain
	absent map[string]absence       // guarded by mu
	flying map[string]chan struct{} // guarded by mu; look-ups under way, closed at their end
	dirty  bool                     // guarded by mu
}

// An entry is one policy that is kept.
type entry struct {
	id      string
	policy  *Policy
	fetched time.Time
	used    time.Time
	ask     time.Time // when the DNS is asked again
	fails   int       // fetches in a row
}

// inForce is its policy; nil if that says that there is none any more.
func (e *entry) inForce() *Policy {
	if e.policy.Mode == None {
		return nil
	}
	return e.policy
}

func (e *entry) end() time.Time { return e.fetched.Add(max(e.policy.MaxAge, askAfter)) }

// An absence is that nothing is known of a domain, for a while.
type absence struct {
	until time.Time
	err   error // nil: it has no policy
	fails int   // fetches in a row
}

// Open reads what was kept, if anything was. A file that makes no sense is put
// aside as FILE.damaged and logged, and the book begins empty.
func Open(o Options) (*Book, error) {
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Dialer == nil {
		o.Dialer = &net.Dialer{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Book{
		file: o.File, resolver: o.Resolver, fetcher: newFetcher(o.Resolver, o.Dialer, o.Roots), now: o.Now, log: o.Logger,
		wake: make(chan struct{}, 1), known: map[string]*entry{}, absent: map[string]absence{}, flying: map[string]chan struct{}{},
	}
	b.metrics = newMetrics(o.Registerer, b)
	damage, err := durable.Recover(b.file, maxFile, b.decode)
	if damage != nil {
		b.log.Error("the MTA-STS policies that were kept cannot be read and are put aside; they are fetched anew", "event", "sts.damaged", "file", durable.Aside(b.file), "err", damage)
		b.known = map[string]*entry{}
	}
	if err != nil {
		return nil, fmt.Errorf("sts: %w", err)
	}
	return b, nil
}

// Find returns the policy that is in force for a domain, in lower case and
// A-labels; nil if it has none, which is also what a domain counts as of whose
// policy nobody knows. Then err says why nobody does.
func (b *Book) Find(ctx context.Context, domain string) (*Policy, error) {
	for {
		b.mu.Lock()
		p, err, ok := b.recall(domain, b.now())
		if ok {
			b.mu.Unlock()
			return p, err
		}
		flight := b.flying[domain]
		if flight == nil {
			b.flying[domain] = make(chan struct{})
			b.mu.Unlock()
			return b.look(ctx, domain)
		}
		b.mu.Unlock()
		select {
		case <-flight: // and see what came of it
		case <-ctx.Done():
			b.mu.Lock()
			defer b.mu.Unlock()
			if e := b.known[domain]; e != nil && b.now().Before(e.end()) {
				return e.inForce(), nil
			}
			return nil, ctx.Err()
		}
	}
}

// recall is what is known without asking. The caller holds mu.
func (b *Book) recall(domain string, now time.Time) (_ *Policy, err error, ok bool) {
	e := b.known[domain]
	if e != nil && now.Before(e.end()) && now.Before(e.ask) {
		e.used = now
		return e.inForce(), nil, true
	}
	if a, ok := b.absent[domain]; ok && now.Before(a.until) && (e == nil || !now.Before(e.end())) {
		return nil, a.err, true
	}
	return nil, nil, false
}

// look asks about a domain, notes what came of it, and ends the flight.
func (b *Book) look(ctx context.Context, domain string) (*Policy, error) {
	b.mu.Lock()
	e := b.known[domain]
	b.mu.Unlock()
	got := b.ask(ctx, domain, e)
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.flying[domain])
	delete(b.flying, domain)
	now := b.now()
	if ctx.Err() == nil { // else nothing is known: whoever waits asks
		b.note(domain, got, now)
	}
	if p, err, ok := b.recall(domain, now); ok {
		return p, err
	}
	if e := b.known[domain]; e != nil && now.Before(e.end()) {
		return e.inForce(), nil
	}
	return nil, got.err
}

// An asked is what asking about a domain came to.
type asked struct {
	policy *Policy // a new one
	id     string
	same   bool // what is kept is up to date
	none   bool // the DNS says that there is none
	err    error
	failed bool // err is of the fetching, and not of the DNS
}

// ask asks the DNS, and the domain if there is something new. e is what is
// kept, or nil.
func (b *Book) ask(ctx context.Context, domain string, e *entry) asked {
	txts, err := b.lookup(ctx, domain)
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok && dnsErr.IsNotFound {
		return asked{none: true}
	}
	if err != nil {
		return asked{err: fmt.Errorf("sts: looking for the policy of %s: %w", domain, err)}
	}
	id, ok := parseRecord(txts)
	switch {
	case !ok:
		return asked{none: true}
	case e != nil && e.id == id && b.now().Before(e.end()):
		return asked{same: true}
	}
	return b.fetch(ctx, domain, id)
}

func (b *Book) lookup(ctx context.Context, domain string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupFor)
	defer cancel()
	return b.resolver.LookupTXT(ctx, "_mta-sts."+domain+".")
}

func (b *Book) fetch(ctx context.Context, domain, id string) asked {
	p, err := b.fetcher.fetch(ctx, domain)
	if err != nil {
		if ctx.Err() == nil {
			b.metrics.fetches.WithLabelValues("failed").Inc()
			b.log.Info("the MTA-STS policy of a domain cannot be fetched", "event", "sts.fetch_failed", "destination", domain, "err", err)
		}
		return asked{failed: true, err: fmt.Errorf("sts: %s: %w: %w", domain, ErrFetch, err)}
	}
	b.metrics.fetches.WithLabelValues("fetched").Inc()
	return asked{policy: p, id: id}
}

// note keeps what asking came to. The caller holds mu.
func (b *Book) note(domain string, got asked, now time.Time) {
	e := b.known[domain]
	if e != nil && !now.Before(e.end()) {
		delete(b.known, domain)
		e = nil
	}
	wait, fails := askAfter, b.absent[domain].fails
	if e != nil {
		fails = e.fails
	}
	switch {
	case got.policy != nil:
		b.keep(domain, &entry{id: got.id, policy: got.policy, fetched: now, used: now, ask: now.Add(askAfter)})
		return
	case got.failed:
		wait = min(failedFor<<min(fails, 10), failedMost)
		fails++
	case got.err != nil:
		wait = unknownFor
	}
	if e != nil {
		e.ask, e.fails = now.Add(wait), fails
		return
	}
	if got.none {
		wait, fails = absentFor, 0
	}
	if len(b.absent) >= maxAbsent {
		for d, a := range b.absent {
			if !now.Before(a.until) {
				delete(b.absent, d)
			}
		}
		if len(b.absent) >= maxAbsent {
			clear(b.absent) // they are asked again
		}
	}
	b.absent[domain] = absence{now.Add(wait), got.err, fails}
}

// keep puts a policy in, and the one that was used longest ago out if there is
// no room. The caller holds mu.
func (b *Book) keep(domain string, e *entry) {
	delete(b.absent, domain)
	if b.known[domain] == nil && len(b.known) >= maxPolicies {
		oldest := ""
		for d, k := range b.known {
			if oldest == "" || k.used.Before(b.known[oldest].used) {
				oldest = d
			}
		}
		delete(b.known, oldest)
	}
	b.known[domain] = e
	b.changed()
}

// changed has the file written. The caller holds mu.
func (b *Book) changed() {
	b.dirty = true
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
