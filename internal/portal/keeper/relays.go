package keeper

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/fleet"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/report"
	"example.edu/gatepost/internal/status"
)

// Relays is what the reporter asks about relays. A *fleet.Fleet is one.
type Relays interface {
	// Relays is what each said last.
	Relays() []fleet.Relay
	// Address asks all of them about one address.
	Address(context.Context, netip.Addr) []fleet.Answer
	// Watch is closed when there is something new.
	Watch() <-chan struct{}
}

var _ Relays = (*fleet.Fleet)(nil)

func (k *Keeper) relays() []fleet.Relay {
	if k.o.Relays == nil {
		return nil
	}
	return k.o.Relays.Relays()
}

// live notes on which relays a merged request is in force by now, and is what is
// to be told of each.
func (k *Keeper) live(ctx context.Context, r book.Request) (map[string]time.Time, []report.Live) {
	found := map[string]time.Time{}
	var told []report.Live
	for _, relay := range k.relays() {
		l := report.Live{Relay: relay.Name, At: r.Live[relay.Name]}
		if l.At.IsZero() {
			l.At, l.Note = k.liveAt(ctx, r, relay)
			if !l.At.IsZero() {
				found[relay.Name] = l.At
			}
		}
		told = append(told, l)
	}
	return found, told
}

// liveAt is since when a relay has what a request brought, or why it does not.
func (k *Keeper) liveAt(ctx context.Context, r book.Request, relay fleet.Relay) (time.Time, string) {
	if relay.Report == nil {
		return time.Time{}, "it has not answered yet"
	}
	reg := relay.Report.Register
	merged, err := gitsync.ParseHash(r.MergedAs)
	if err != nil {
		return time.Time{}, ""
	}
	at, err := gitsync.ParseHash(reg.Commit)
	if err != nil {
		return time.Time{}, "it has no register yet"
	}
	relation, err := k.o.Repo.Relation(ctx, merged, at)
	if err != nil || relation != gitsync.Same && relation != gitsync.Descends {
		switch {
		case reg.Condition == status.Held, reg.Condition == status.Frozen:
			return time.Time{}, "it waits for an operator: " + reg.Reason
		case relay.Error != "":
			return time.Time{}, "it does not answer"
		}
		return time.Time{}, ""
	}
	for _, w := range reg.Withheld {
		if slices.Contains(r.Paths, w.File) {
			return time.Time{}, "it withholds " + w.File + ": " + w.Why
		}
	}
	for _, s := range reg.Substituted {
		if slices.Contains(r.Paths, s.File) {
			return time.Time{}, "it keeps the version of " + s.File + " before this one"
		}
	}
	now := k.now()
	if at := reg.AcceptedAt; !at.IsZero() && at.Before(now) {
		if at.Before(r.MergedAt) { // by another clock
			return r.MergedAt.UTC(), ""
		}
		return at.UTC(), ""
	}
	return now.UTC(), ""
}

// everywhere reports whether a merged request is live on every relay, and its
// confirmations are known to be sent, as far as that will ever be known.
func (k *Keeper) everywhere(r book.Request) bool {
	for _, relay := range k.relays() {
		if r.Live[relay.Name].IsZero() {
			return false
		}
	}
	return len(r.Confirmed) >= len(r.IPs) || k.now().Sub(r.MergedAt) > 24*time.Hour
}

// proved reports whether a relay saw a proof for a request that is not noted yet,
// and notes it in r.
func (k *Keeper) proved(r *book.Request) bool {
	found := false
	note := func(p status.Proof) {
		if (p.Request == 0 || p.Request == r.Number) && slices.Contains(r.IPs, p.IP) && r.Proved[p.IP].IsZero() && !p.At.IsZero() {
			if r.Proved == nil {
				r.Proved = map[netip.Addr]time.Time{}
			}
			r.Proved[p.IP], found = p.At.UTC(), true
		}
	}
	for _, relay := range k.relays() {
		if relay.Report != nil {
			for _, p := range relay.Report.Proofs.Newest {
				note(p)
			}
		}
	}
	return found
}

// ask asks the relays about addresses of a request of which something is not known
// yet: proofs while it is open, confirmations once it is merged. A few in a round,
// and each again after a while.
func (k *Keeper) ask(ctx context.Context, t *tended, r *book.Request) (changed bool) {
	if k.o.Relays == nil {
		return false
	}
	again := 10 * time.Minute
	if t.request.State == forge.Merged {
		if again = 20 * time.Second; k.now().Sub(r.MergedAt) > time.Hour {
			again = time.Hour
		}
	}
	for _, ip := range r.IPs {
		known := r.Proved
		if t.request.State == forge.Merged {
			known = r.Confirmed
		}
		key := itoa(r.Number) + " " + string(t.request.State) + " " + ip.String()
		if !known[ip].IsZero() || k.now().Sub(k.asked[key]) < again {
			continue
		}
		if k.questions--; k.questions < 0 {
			return changed
		}
		k.asked[key] = k.now()
		for _, a := range k.o.Relays.Address(ctx, ip) {
			if a.Address == nil {
				continue
			}
			for _, p := range a.Address.Proofs {
				if p.Request == r.Number && !p.At.IsZero() && r.Proved[ip].IsZero() {
					set(&r.Proved, ip, p.At)
					changed = true
				}
			}
			if c := a.Address.Confirmation; t.request.State == forge.Merged && c != nil && !c.SentAt.IsZero() && r.Confirmed[ip].IsZero() {
				set(&r.Confirmed, ip, c.SentAt)
				changed = true
			}
		}
	}
	return changed
}

func set(m *map[netip.Addr]time.Time, ip netip.Addr, at time.Time) {
	if *m == nil {
		*m = map[netip.Addr]time.Time{}
	}
	(*m)[ip] = at.UTC()
}

// proofs is what is told of the addresses that an open request adds.
func (k *Keeper) proofs(r book.Request) []report.Proof {
	if r.Kind != book.KindForm {
		return nil // nobody was told how
	}
	var out []report.Proof
	for _, ip := range r.IPs {
		out = append(out, report.Proof{IP: ip, At: r.Proved[ip], Relay: strings.Join(k.names(), ", ")})
	}
	return out
}

func (k *Keeper) names() (out []string) {
	for _, r := range k.relays() {
		out = append(out, r.Name)
	}
	return out
}
