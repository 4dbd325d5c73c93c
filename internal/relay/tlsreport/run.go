package tlsreport

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"slices"
	"time"
)

const (
	saveEvery  = time.Minute
	spread     = 4 * time.Hour    // after a day's end, so that not all relays report at once. RFC 8460 §4.1
	lookupFor  = 10 * time.Second // who wants a report
	retryAfter = time.Hour        // where the DNS did not say, or the disk is full
	roundFor   = 5 * time.Minute  // then what was counted is saved, before it goes on
)

// Run saves the counts once a minute, sends the reports of a day some time after
// its end, and saves when ctx ends. What cannot be saved is logged, once until
// it can.
func (b *Book) Run(ctx context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	failing := false
	keep := func() {
		err := b.save()
		if err != nil && !failing {
			b.log.Warn("what was counted for TLS reports is not saved", "event", "tlsreport.failed", "err", err)
		}
		failing = err != nil
	}
	b.round(ctx)
	for {
		select {
		case <-ctx.Done():
			keep()
			return nil
		case <-tick.C:
			b.round(ctx)
			keep()
		}
	}
}

// round sends the reports that are due.
func (b *Book) round(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, roundFor)
	defer cancel()
	now := b.now()
	b.mu.Lock()
	b.forget()
	days := slices.Sorted(maps.Keys(b.days))
	b.mu.Unlock()
	for _, day := range days {
		start, err := time.Parse(time.DateOnly, day)
		if err != nil || now.Before(start.Add(24*time.Hour+b.delay(day))) {
			continue
		}
		for _, domain := range b.due(day, now) {
			if ctx.Err() != nil {
				return
			}
			b.send(ctx, day, start, domain)
		}
	}
}

// delay is how long after a day's end its reports begin: the same for a relay
// and day, so that nothing need be kept.
func (b *Book) delay(day string) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(b.o.Hostname + "\n" + day))
	return time.Duration(h.Sum64() % uint64(spread))
}

// due are the domains of a day whose report may be tried now.
func (b *Book) due(day string, now time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for domain, t := range b.days[day] {
		if !now.Before(t.after) {
			out = append(out, domain)
		}
	}
	slices.Sort(out)
	return out
}

// send sends one report, if it is wanted, and forgets what was counted for it.
func (b *Book) send(ctx context.Context, day string, start time.Time, domain string) {
	result, err := b.deliver(ctx, day, start, domain)
	if ctx.Err() != nil && err != nil {
		return // it was not tried
	}
	b.metrics.reports.WithLabelValues(result).Inc()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		if t := b.days[day][domain]; t != nil {
			t.after = b.now().Add(retryAfter)
		}
		return
	}
	b.drop(day, domain)
	if len(b.days[day]) == 0 {
		delete(b.days, day)
	}
}

// deliver finds out who wants a report and hands it on. An error is that it is
// to be tried again.
func (b *Book) deliver(ctx context.Context, day string, start time.Time, domain string) (result string, err error) {
	if !plain(domain) {
		return "unwanted", nil
	}
	lookup, cancel := context.WithTimeout(ctx, lookupFor)
	defer cancel()
	txts, err := b.o.Resolver.LookupTXT(lookup, "_smtp._tls."+domain+".")
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok && dnsErr.IsNotFound {
		return "unwanted", nil
	}
	if err != nil {
		return "failed", fmt.Errorf("tlsreport: looking for who wants the report about %s: %w", domain, err)
	}
	to, err := parseRecord(txts)
	if err != nil {
		return "unwanted", nil
	}
	b.mu.Lock()
	t := b.days[day][domain]
	if t == nil {
		b.mu.Unlock()
		return "unwanted", nil
	}
	env, body, err := letterhead{b.o.Hostname, b.o.Contact}.compose(domain, start, t, to, b.now())
	b.mu.Unlock()
	if err == nil {
		err = b.o.Outbox.Send(ctx, env, body)
	}
	if err != nil {
		b.log.Warn("a TLS report could not be stored", "event", "tlsreport.send_failed", "destination", domain, "err", err)
		return "failed", err
	}
	b.log.Info("a TLS report is in the spool", "event", "tlsreport.sent", "destination", domain, "to", to[0].String())
	return "sent", nil
}
