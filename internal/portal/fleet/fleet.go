// Package fleet knows what the relays say: each is asked over HTTPS with a token
// every few seconds, what it says is kept for a day in numbers, and a
// postmaster's blocks and releases are handed to it.
//
// It believes a relay no more than it has to: an answer is bounded in time and
// size, its lists are cut to what is shown, a redirect is an error, and a token
// goes to the address that the configuration names and to no other. What a
// relay says is text of a stranger to a page.
//
// Invariants:
//   - Relays never waits: it is what was known a moment ago, with its age.
//   - What was asked of a relay and not answered is told as unknown, never as
//     done or as not done.
//   - It decides nothing, and remembers nothing beyond the process.
//
// RFC 6750 (bearer tokens).
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/status"
)

// Bounds and paces.
const (
	everyDefault = 5 * time.Second  // from one report of a relay to the next
	everyMost    = time.Minute      // of a relay that does not answer
	reportWait   = 10 * time.Second // for one report
	addressWait  = 4 * time.Second  // for what all relays know of one address
	orderWait    = 15 * time.Second // for an order
	silentMany   = 3                // questions in a row without an answer, after which it is not asked about addresses
	atOnce       = 8                // questions about addresses and orders to one relay
)

// A Source is a relay as the configuration has it.
type Source struct {
	Name              string
	URL               string // https, or http on this machine; without a final slash
	TokenFile         string // read at each question
	OperatorTokenFile string // likewise; "": it can only be read
	CAFile            string // certificates in PEM that vouch for it, read when they change; "": the system's
}

// Options of New.
type Options struct {
	Sources    []Source
	Every      time.Duration                // from one report to the next; 0: 5 s
	Logger     *slog.Logger                 // nil: none
	Registerer prometheus.Registerer        // nil: kept and not shown
	Dial       func(Source) (Client, error) // nil: HTTPS; for tests
}

// A Relay is what is known of one.
type Relay struct {
	Name     string
	URL      string
	Operates bool           // there is a token to block and release with
	Report   *status.Report // the newest, not to be changed; nil: none yet
	At       time.Time      // when it came
	Asked    time.Time      // when it was asked last; zero: not yet
	Error    string         // why the last question had no answer, for postmasters; "": it had one
	Since    time.Time      // of Error: the first question without an answer; of none: the first with one
}

// Up reports whether it answered when it was asked last.
func (r Relay) Up() bool { return r.Report != nil && r.Error == "" }

// A Fleet is all relays. Its methods are safe for concurrent use.
type Fleet struct {
	o       Options
	log     *slog.Logger
	relays  []*relay
	metrics *metrics

	mails mails

	mu   sync.Mutex
	news chan struct{} // guarded by mu; closed when something is new
}

// A relay is one of them.
type relay struct {
	source Source
	client Client
	slots  chan struct{} // questions about addresses, and orders, under way
	poke   chan struct{} // ask soon

	mu       sync.Mutex
	now      Relay // guarded by mu, as what follows
	failures int   // in a row
	history  ring
}

// New makes a Fleet. An error is a source that cannot be asked at all, as a
// file of certificates cannot be read.
func New(o Options) (*Fleet, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Every = cmp.Or(o.Every, everyDefault)
	if o.Dial == nil {
		o.Dial = dial
	}
	f := &Fleet{o: o, log: o.Logger, mails: newMails(), news: make(chan struct{})}
	for _, s := range o.Sources {
		client, err := o.Dial(s)
		if err != nil {
			return nil, fmt.Errorf("fleet: relay %s: %w", s.Name, err)
		}
		f.relays = append(f.relays, &relay{
			source: s, client: client, slots: make(chan struct{}, atOnce), poke: make(chan struct{}, 1),
			now: Relay{Name: s.Name, URL: s.URL, Operates: s.OperatorTokenFile != ""},
		})
	}
	f.metrics = newMetrics(o.Registerer, f)
	return f, nil
}

// Run asks the relays until ctx ends, and returns nil when nothing is under way
// any more.
func (f *Fleet) Run(ctx context.Context) error {
	var asking sync.WaitGroup
	for _, r := range f.relays {
		asking.Go(func() { f.follow(ctx, r) })
	}
	asking.Wait()
	for _, r := range f.relays {
		r.client.Close()
	}
	return nil
}

// follow asks one relay, at its pace.
func (f *Fleet) follow(ctx context.Context, r *relay) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.poke:
		}
		wait := f.look(ctx, r)
		timer.Reset(wait)
	}
}

// look asks a relay once, and says when to ask again: sooner or later by a
// fifth, so that a fleet is not asked in step.
func (f *Fleet) look(ctx context.Context, r *relay) (wait time.Duration) {
	asking, cancel := context.WithTimeout(ctx, reportWait)
	report, err := r.client.Report(asking)
	cancel()
	if ctx.Err() != nil {
		return f.o.Every // it was cut off by us
	}
	failures := f.keep(r, report, err, time.Now())
	wait = f.o.Every
	for range min(failures, 10) {
		wait *= 2
	}
	if failures > 0 {
		wait = max(f.o.Every, min(wait, everyMost))
	}
	return time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))
}

// keep takes an answer over, or what it failed on, and tells whoever watches.
func (f *Fleet) keep(r *relay, report *status.Report, err error, now time.Time) (failures int) {
	r.mu.Lock()
	was := r.now
	r.now.Asked = now
	if err == nil {
		r.failures = 0
		r.now.Report, r.now.At, r.now.Error = report, now, ""
		if !was.Up() {
			r.now.Since = now
		}
		r.history.add(pointOf(report, now))
	} else {
		r.failures++
		r.now.Error = err.Error()
		if was.Error == "" {
			r.now.Since = now
		}
		r.history.add(Point{At: now})
	}
	failures = r.failures
	r.mu.Unlock()
	switch {
	case err != nil && was.Error == "":
		f.log.Warn("a relay does not answer", "event", "fleet.lost", "relay", r.source.Name, "err", err)
	case err == nil && !was.Up():
		f.log.Info("a relay answers", "event", "fleet.found", "relay", r.source.Name, "host", report.Host, "version", report.Version)
	}
	f.tell()
	return failures
}

// tell wakes whoever watches.
func (f *Fleet) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.news)
	f.news = make(chan struct{})
}

// Watch is closed when something of a relay is new; ask for it before Relays,
// so that nothing between is missed.
func (f *Fleet) Watch() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.news
}

// Relays is what is known of each, in the order of the configuration.
func (f *Fleet) Relays() []Relay {
	out := make([]Relay, 0, len(f.relays))
	for _, r := range f.relays {
		r.mu.Lock()
		out = append(out, r.now)
		r.mu.Unlock()
	}
	return out
}

// History is what is remembered of a relay since a time, the oldest first.
func (f *Fleet) History(name string, since time.Time) []Point {
	for _, r := range f.relays {
		if r.source.Name == name {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.history.since(since)
		}
	}
	return nil
}

// errBusy is why a relay was not asked: enough is under way.
var errBusy = errors.New("the portal has asked it as much as it may at once; try again")

// claimIfUp is claim of a relay that has answered of late; of another, the error
// says why it does not.
func (r *relay) claimIfUp(ctx context.Context) (release func(), err error) {
	r.mu.Lock()
	silent, why := r.failures >= silentMany, r.now.Error
	r.mu.Unlock()
	if silent {
		return nil, errors.New(why)
	}
	return r.claim(ctx)
}

// claim takes one of the places for questions to a relay; release gives it back.
func (r *relay) claim(ctx context.Context) (release func(), err error) {
	select {
	case r.slots <- struct{}{}:
		if ctx.Err() != nil { // both were ready
			<-r.slots
			return nil, errBusy
		}
		return func() { <-r.slots }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

// soon has a relay asked now, since something has changed.
func (r *relay) soon() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}
