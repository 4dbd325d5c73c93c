package dane

import (
	"context"
	"time"

	"github.com/miekg/dns"
)

// watchEvery is how often it is looked at whether the resolver validates.
const watchEvery = 5 * time.Minute

// Validates reports whether the resolver validates: the root is signed, so one
// that does says so of it. An error is that it does not answer.
func (r *Resolver) Validates(ctx context.Context) (bool, error) {
	a, err := r.ask(ctx, ".", dns.TypeSOA)
	if err != nil {
		return false, err
	}
	return a.secure, nil
}

// Run looks at the resolver now and then, until ctx ends: one that does not
// validate makes all of DANE a show, and nothing else would tell. It logs what
// changes, and nothing as long as all is well.
func (r *Resolver) Run(ctx context.Context) error {
	again := time.NewTicker(watchEvery)
	defer again.Stop()
	for before := stateWell; ; {
		now := r.look(ctx, before)
		if ctx.Err() != nil {
			return nil
		}
		before = now
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

// Health is what Run found last.
type Health struct {
	Server    string
	Validates bool
	Err       error // why it does not answer
}

// Health is what Run found last; false before it has looked.
func (r *Resolver) Health() (Health, bool) {
	if h := r.health.Load(); h != nil {
		return *h, true
	}
	return Health{}, false
}

// A state is how the resolver stands.
type state uint8

const (
	stateWell state = iota
	stateBlind
	stateDown
)

func (r *Resolver) look(ctx context.Context, before state) state {
	yes, err := r.Validates(ctx)
	if ctx.Err() != nil {
		return before
	}
	r.validates(yes)
	r.health.Store(&Health{Server: r.server, Validates: yes, Err: err})
	switch {
	case err != nil && before != stateDown:
		r.log.Error("the resolver for delivery does not answer, and mail waits", "event", "dane.resolver_failed", "address", r.server, "err", err)
	case err == nil && !yes && before != stateBlind:
		r.log.Error("the resolver for delivery does not validate (DNSSEC), so there is no DANE", "event", "dane.unvalidated", "address", r.server, "hint", "give it the trust anchor of the root: with unbound, auto-trust-anchor-file; dig +ad . SOA @"+r.server+" must show the flag ad")
	case yes && before != stateWell:
		r.log.Info("the resolver for delivery answers and validates again", "event", "dane.validated", "address", r.server)
	}
	switch {
	case err != nil:
		return stateDown
	case !yes:
		return stateBlind
	}
	return stateWell
}
