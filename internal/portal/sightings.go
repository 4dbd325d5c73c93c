package portal

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"example.edu/gatepost/internal/portal/fleet"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/status"
)

// A history tells how two commits of the register are related; a gitsync.Repo
// does.
type history interface {
	Relation(ctx context.Context, old, new gitsync.Hash) (gitsync.Relation, error)
}

// fleetRelays are the relays of the configuration, and the history that tells
// what of it they have in force.
type fleetRelays struct {
	fleet   *fleet.Fleet
	history history
	now     func() time.Time

	mu    sync.Mutex
	known map[[2]string]bool // a commit, and one that has it in its history, or not; guarded by mu
}

var _ relays = (*fleetRelays)(nil)

// maxPairs bounds how many answers of the history are remembered.
const maxPairs = 10_000

// silentFor is from when on a relay counts as one that does not answer.
const silentFor = 2 * time.Minute

func (f *fleetRelays) Address(ctx context.Context, ip netip.Addr) []sighting {
	var list []sighting
	for _, a := range f.fleet.Address(ctx, ip) {
		s := sighting{Relay: a.Relay}
		if a.Address != nil {
			s.Address = *a.Address
		} else {
			s.Err = errors.New(a.Error)
		}
		list = append(list, s)
	}
	return list
}

func (f *fleetRelays) LastMail(ctx context.Context) (map[netip.Addr]time.Time, bool) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	last, all, err := f.fleet.LastMail(ctx)
	return last, err == nil && all
}

// Seen asks about a few addresses at a time.
func (f *fleetRelays) Seen(ctx context.Context, ips []netip.Addr) (proved, told map[netip.Addr]time.Time) {
	const atOnce = 8
	proved, told = map[netip.Addr]time.Time{}, map[netip.Addr]time.Time{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, ip := range ips {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			for _, a := range f.fleet.Address(ctx, ip) {
				if a.Address != nil {
					mu.Lock()
					note(ip, a.Address, proved, told)
					mu.Unlock()
				}
			}
		})
	}
	asking.Wait()
	return proved, told
}

// note keeps the first proof and the first confirmation of an address.
func note(ip netip.Addr, a *status.Address, proved, told map[netip.Addr]time.Time) {
	for _, p := range a.Proofs {
		if at, ok := proved[ip]; !ok || p.At.Before(at) {
			proved[ip] = p.At
		}
	}
	if c := a.Confirmation; c != nil && !c.SentAt.IsZero() {
		if at, ok := told[ip]; !ok || c.SentAt.Before(at) {
			told[ip] = c.SentAt
		}
	}
}

// Live is which relays have a commit in force, the one that they are at or one
// that came before it, and the files that it changed as well.
func (f *fleetRelays) Live(ctx context.Context, commit string, files []string) []liveness {
	var list []liveness
	for _, r := range f.fleet.Relays() {
		l := liveness{Relay: r.Name, Known: r.Report != nil && f.now().Sub(r.At) < silentFor}
		if r.Report != nil {
			if l.Live = f.has(ctx, commit, r.Report.Register.Commit); r.Report.Register.Commit == commit {
				l.Since = r.Report.Register.AcceptedAt
			}
			if l.Why = keptOut(r.Report.Register, files); l.Why != "" {
				l.Live = false
			}
		}
		list = append(list, l)
	}
	return list
}

// keptOut is why a relay has not all of some files in force as they are at its
// commit; "" if it has.
func keptOut(reg status.Register, files []string) string {
	for _, w := range reg.Withheld {
		if slices.Contains(files, w.File) {
			return "it withholds " + w.File + ", as nobody it trusts has vouched for the change"
		}
	}
	for _, k := range reg.Substituted {
		if slices.Contains(files, k.File) {
			return k.File + " is faulty by its rules, so the version before stays in force"
		}
	}
	return ""
}

// has reports whether commit is in the history of at.
func (f *fleetRelays) has(ctx context.Context, commit, at string) bool {
	if commit == at {
		return commit != ""
	}
	pair := [2]string{commit, at}
	f.mu.Lock()
	has, known := f.known[pair]
	f.mu.Unlock()
	if known {
		return has
	}
	old, err := gitsync.ParseHash(commit)
	if err != nil {
		return false
	}
	now, err := gitsync.ParseHash(at)
	if err != nil {
		return false
	}
	relation, err := f.history.Relation(ctx, old, now)
	if err != nil {
		return false // one of them is not here yet
	}
	has = relation == gitsync.Same || relation == gitsync.Descends
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil || len(f.known) >= maxPairs {
		f.known = map[[2]string]bool{}
	}
	f.known[pair] = has
	return has
}
