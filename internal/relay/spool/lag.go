package spool

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// maxLag is how long the changes that do not wait for the disk may lag behind
// it. The engine by itself would keep the newest of them in memory until the
// next message comes, be that tomorrow: a crash would then repeat deliveries
// that were long over.
const maxLag = 100 * time.Millisecond

// A lag is what must still be brought to the disk. Changes that wait for the
// disk bring along all that were made before them, so under load there is
// rarely anything left to do.
type lag struct {
	wake chan struct{} // capacity 1: something lags
	stop chan struct{}
	done chan struct{} // closed when bound has ended
}

func newLag() lag {
	return lag{wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
}

// lags notes a change that does not wait for the disk.
func (s *Spool) lags() {
	s.lagging.Store(true)
	select {
	case s.lag.wake <- struct{}{}:
	default:
	}
}

// boundLag syncs what lags, until lag.stop is closed.
func (s *Spool) boundLag() {
	defer close(s.lag.done)
	timer := time.NewTimer(maxLag)
	defer timer.Stop()
	for {
		select {
		case <-s.lag.stop:
			return
		case <-s.lag.wake:
		}
		timer.Reset(maxLag)
		select {
		case <-s.lag.stop:
			return
		case <-timer.C:
		}
		if !s.lagging.Load() {
			continue
		}
		_ = s.Sync() // that the spool is closed or has failed is known where it matters
	}
}

// Sync returns nil when all changes that were made before it are on stable
// storage, those that do not wait for the disk included. What changes many
// entries calls it once for all. It writes a record without a meaning: what
// counts is the sync.
func (s *Spool) Sync() error {
	return s.apply(func(b *pebble.Batch) error { return b.LogData(nil, nil) }, pebble.Sync)
}
