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
	freshFor   = 2 * time.Second
	settledFor = time.Minute // of a request that is merged or closed
	maxRecent  = 500         // requests that are remembered
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
	Changes []forge.File
	Cut     bool // there is more than Changes: nothing can be said of the whole
	Remarks []forge.Remark
}

// dossiers reads requests, and remembers them for a moment. It is safe for
// concurrent use: who asks for the same at a time waits for one answer.
type dossiers struct {
	forge desk
	now   func() time.Time

	mu   sync.Mutex
	kept map[int]*kept // guarded by mu
}

// A kept dossier has a lock of its own, so that one slow answer holds up nobody
// who asks for another.
type kept struct {
	turn  chan struct{} // holds one token
	value dossier       // guarded by turn, as is what follows
	at    time.Time
}

func newDossiers(f desk, now func() time.Time) *dossiers {
	return &dossiers{forge: f, now: now, kept: map[int]*kept{}}
}

// forget has all be read anew: something happened at the forge.
func (d *dossiers) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.kept)
}

// get is the request with a number; forge.ErrNotFound if there is none.
func (d *dossiers) get(ctx context.Context, number int) (dossier, error) {
	d.mu.Lock()
	k := d.kept[number]
	if k == nil {
		if len(d.kept) >= maxRecent {
			clear(d.kept)
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
	age := freshFor
	if k.value.State == forge.Merged || k.value.State == forge.Closed {
		age = settledFor
	}
	if !k.at.IsZero() && d.now().Sub(k.at) < age {
		return k.value, nil
	}
	v, err := d.read(ctx, number)
	if err != nil {
		return dossier{}, err
	}
	k.value, k.at = v, d.now()
	return v, nil
}

func (d *dossiers) read(ctx context.Context, number int) (v dossier, err error) {
	ctx, cancel := context.WithTimeout(ctx, forgeFor)
	defer cancel()
	if v.Request, err = d.forge.Get(ctx, number); err != nil {
		return v, err
	}
	if v.Changes, err = d.forge.Files(ctx, v.Request); err != nil {
		if v.Cut = errors.Is(err, forge.ErrTooMuch); !v.Cut {
			return v, err
		}
	}
	if v.Remarks, err = d.forge.Remarks(ctx, number); err != nil && !errors.Is(err, forge.ErrTooMuch) {
		return v, err
	}
	return v, nil
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

// others counts the files that a request changes besides the register.
func (d dossier) others() (n int) {
	for _, f := range d.Changes {
		if registration.Kind(f.Path) == registration.KindIgnored {
			n++
		}
	}
	return n
}
