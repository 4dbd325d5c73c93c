package portal

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// How long what the forge told is good for. A page that is looked at by many, or
// that looks again by itself, must not use up the forge's limits.
const (
	freshFor   = 2 * time.Second  // of a repository on this machine
	countedFor = 15 * time.Second // of a forge that counts what it is asked
	settledFor = time.Minute      // of a request that is merged or closed
	saidFor    = 2 * time.Minute  // of remarks, where the forge says that nothing is new
	unsettled  = 10 * time.Second // after a change, something older than it may turn up
	maxRecent  = 500              // requests that are remembered
	maxKept    = 64 << 20         // octets of their files
	forgeFor   = 20 * time.Second
)

// A desk is what the portal does at the forge.
type desk interface {
	forge.Opener
	forge.Reader
	forge.Speaker
	forge.Closer
	forge.Follower
}

// A dossier is a request with all that the forge tells of it.
type dossier struct {
	forge.Request
	Changes   []forge.File
	Cut       bool           // there is more than Changes: nothing can be said of the whole
	Approvals []forge.Remark // without their words
}

// dossiers reads requests, and remembers them for a moment. It is safe for
// concurrent use: who asks for the same at a time waits for one answer.
type dossiers struct {
	forge  desk
	now    func() time.Time
	budget *askBudget // nil: the forge does not count what it is asked

	mu     sync.Mutex
	kept   map[int]*kept // guarded by mu
	epoch  int           // guarded by mu: what was read in an earlier one is read anew
	octets int           // guarded by mu: of the files of what is kept
	list   listing
}

// A kept dossier has a lock of its own, so that one slow answer holds up nobody
// who asks for another.
type kept struct {
	turn  chan struct{} // holds one token
	value dossier       // guarded by turn, as is what follows
	at    time.Time
	said  time.Time // the remarks were read
	epoch int
}

// A listing is the list of requests as it was read last.
type listing struct {
	turn  chan struct{} // holds one token
	value []forge.Request
	at    time.Time
	epoch int
}

func newDossiers(f desk, now func() time.Time) *dossiers {
	d := &dossiers{forge: f, now: now, kept: map[int]*kept{}, list: listing{turn: make(chan struct{}, 1)}}
	d.list.turn <- struct{}{}
	if _, counts := f.(*forge.GitHub); counts {
		d.budget = newAskBudget(now)
	}
	return d
}

// forget has all be looked at anew: something happened at the forge.
func (d *dossiers) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch++
}

// fresh is how long what is still going on is good for.
func (d *dossiers) fresh() time.Duration {
	if d.budget != nil {
		return countedFor
	}
	return freshFor
}

// get is the request with a number, for somebody; forge.ErrNotFound if there is
// none. Whoever has asked too much gets what is known, however old, or
// errAskedTooMuch.
func (d *dossiers) get(ctx context.Context, person string, number int) (dossier, error) {
	d.mu.Lock()
	epoch := d.epoch
	k := d.kept[number]
	if k == nil {
		if len(d.kept) >= maxRecent {
			clear(d.kept)
			d.octets = 0
		}
		k = &kept{turn: make(chan struct{}, 1)}
		k.turn <- struct{}{}
		d.kept[number] = k
	}
	d.mu.Unlock()
	select {
	case <-k.turn:
		defer func() { k.turn <- struct{}{} }()
	case <-ctx.Done():
		return dossier{}, ctx.Err()
	}
	age := d.fresh()
	if k.value.State == forge.Merged || k.value.State == forge.Closed {
		age = settledFor
	}
	known := !k.at.IsZero()
	if known && k.epoch >= epoch && d.now().Sub(k.at) < age {
		return k.value, nil
	}
	cost := askAgain
	if !known {
		cost = askWhole
	}
	if !d.budget.take(person, cost) {
		if known {
			return k.value, nil
		}
		return dossier{}, errAskedTooMuch
	}
	at := d.now()
	v, heard, err := d.read(ctx, number, k)
	if err != nil {
		return dossier{}, err
	}
	if heard {
		k.said = at
	}
	before := k.value.octets()
	k.value, k.at, k.epoch = v, at, epoch
	d.weigh(number, k, v.octets()-before)
	return v, nil
}

// weigh counts what has been read of a request, and lets all others go where that
// is too much.
func (d *dossiers) weigh(number int, k *kept, more int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept[number] != k {
		return // it was let go meanwhile
	}
	if d.octets += more; d.octets <= maxKept {
		return
	}
	clear(d.kept)
	d.kept[number], d.octets = k, k.value.octets()
}

// octets is how large the files of a request are.
func (d dossier) octets() (n int) {
	for _, f := range d.Changes {
		n += len(f.Data)
	}
	return n
}

// read asks for a request, and for what may be new of it besides. heard reports
// whether the remarks were read.
func (d *dossiers) read(ctx context.Context, number int, k *kept) (v dossier, heard bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, forgeFor)
	defer cancel()
	if v.Request, err = d.forge.Get(ctx, number); err != nil {
		return v, false, err
	}
	was := k.value
	if !k.at.IsZero() && was.Head == v.Head && was.Base == v.Base && was.State == v.State {
		v.Changes, v.Cut = was.Changes, was.Cut
	} else if v.Changes, err = d.forge.Files(ctx, v.Request); err != nil {
		if v.Cut = errors.Is(err, forge.ErrTooMuch); !v.Cut {
			return v, false, err
		}
	}
	changed := v.UpdatedAt
	if !k.said.IsZero() && !changed.IsZero() && changed.Equal(was.UpdatedAt) && k.said.Sub(changed) > unsettled && d.now().Sub(k.said) < saidFor {
		v.Approvals = was.Approvals
		return v, false, nil
	}
	said, err := d.forge.Remarks(ctx, number)
	if err != nil && !errors.Is(err, forge.ErrTooMuch) {
		return v, false, err
	}
	for _, r := range said {
		if r.Kind == forge.Approved {
			r.Body = ""
			v.Approvals = append(v.Approvals, r)
		}
	}
	return v, true, nil
}

// recent is the list of requests, for somebody. It is remembered only where it
// is counted.
func (d *dossiers) recent(ctx context.Context, person string) ([]forge.Request, error) {
	if d.budget == nil { // it is on this machine
		ctx, cancel := context.WithTimeout(ctx, forgeFor)
		defer cancel()
		return d.forge.Recent(ctx, d.now().Add(-listedFor))
	}
	d.mu.Lock()
	epoch := d.epoch
	d.mu.Unlock()
	l := &d.list
	select {
	case <-l.turn:
		defer func() { l.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	known := !l.at.IsZero()
	if known && l.epoch >= epoch && d.now().Sub(l.at) < d.fresh() {
		return l.value, nil
	}
	if !d.budget.take(person, askWhole) {
		if known {
			return l.value, nil
		}
		return nil, errAskedTooMuch
	}
	ctx, cancel := context.WithTimeout(ctx, forgeFor)
	defer cancel()
	at := d.now()
	list, err := d.forge.Recent(ctx, at.Add(-listedFor))
	if err != nil {
		return nil, err
	}
	l.value, l.at, l.epoch = list, at, epoch
	return list, nil
}

// edits are what a request changes of the register. ok is false if only a merge
// could tell: a file is no regular one.
func (d dossier) edits() (list []review.Edit, ok bool) {
	for _, f := range d.Changes {
		switch {
		case registration.Kind(f.Path) == registration.KindIgnored:
		case f.Removed:
			list = append(list, review.Edit{Path: f.Path, Remove: true})
		case f.Mode != registration.Regular || int64(len(f.Data)) != f.Size:
			return nil, false
		default:
			list = append(list, review.Edit{Path: f.Path, Data: f.Data})
		}
	}
	return list, true
}

// paths are the files that a request changes.
func (d dossier) paths() []string {
	list := make([]string, len(d.Changes))
	for i, f := range d.Changes {
		list[i] = f.Path
	}
	return list
}

// others counts the files that a request changes besides the register.
func (d dossier) others() (n int) {
	for _, f := range d.Changes {
		if registration.Kind(f.Path) == registration.KindIgnored {
			n++
		}
	}
	return n
}
