package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Errors of a spool that cannot go on.
var (
	// ErrFailed means that the engine could not write its log or its manifest,
	// or does not answer. Nothing is acknowledged from then on, and every call
	// returns; the process has to be started again, and recovers what is on
	// stable storage.
	ErrFailed = errors.New("spool: the storage engine has failed")
	ErrClosed = errors.New("spool: closed")
)

// A failure is the first unrecoverable error.
type failure struct{ err error }

// Err is nil as long as the spool can store; else an error that is ErrFailed.
func (s *Spool) Err() error {
	if f := s.failure.Load(); f != nil {
		return f.err
	}
	return nil
}

// Failed is closed when the engine has failed for good. Whoever runs the
// process must end it then, loudly.
func (s *Spool) Failed() <-chan struct{} { return s.failed }

// stalled is ErrFull while the engine's log waits for room; else nil.
func (s *Spool) stalled() error {
	if f := s.stall.Load(); f != nil {
		return f.err
	}
	return nil
}

// fail records the first unrecoverable error. A full disk stays recognisable
// as ErrFull, so that clients hear 452.
func (s *Spool) fail(cause error) {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if noRoom(cause) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	if s.failure.CompareAndSwap(nil, &failure{err}) {
		s.metrics.failed.Set(1)
		s.log.Error("the storage engine has failed; nothing is accepted until the relay is started again", "event", "spool.failed", "err", cause)
		close(s.failed)
	}
}

// A tuning is what the engine is given. It is the same for all relays; tests
// give less.
type tuning struct {
	// Octets of one memtable. Entries live for moments, so a small one holds
	// most of them for all their life. When four are full that cannot be
	// written to tables, writers wait.
	memory uint64
	// How long the engine may take over one call. A disk that will ever answer
	// needs far less, and a client waits for its 250 for 10 minutes at most
	// (RFC 5321 §4.5.3.2.6).
	patience time.Duration
	// How long a look at a disk with plenty of room is good for, in time; in
	// octets it is half of what is above the reserve.
	glance time.Duration
	// What brings an older spool up, in order; see upgrades.
	upgrades []upgrade
}

// openEngine opens pebble as the prototype's measurements recommend: a small
// memtable and cache, since entries live for moments; the log synced by every
// commit, in groups.
func (s *Spool) openEngine(dir string) (*pebble.DB, error) {
	disk := &guard{FS: s.fs, s: s}
	o := &pebble.Options{
		FS:                          disk,
		Logger:                      engineLogger{s},
		FormatMajorVersion:          pebble.FormatValueSeparation,
		MemTableSize:                s.memory,
		MemTableStopWritesThreshold: 4,
		CacheSize:                   8 << 20,
		MaxOpenFiles:                256,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				s.metrics.background.Inc()
				if now, last := time.Now().Unix(), s.complained.Load(); now-last >= 10 && s.complained.CompareAndSwap(last, now) {
					s.log.Error("background work of the engine failed; it is tried again", "event", "spool.background_failed", "err", err)
				}
			},
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				s.metrics.damaged.Inc()
				s.log.Error("a table of the engine is damaged", "event", "spool.damaged", "file", info.Path, "err", info.Details)
			},
			DiskSlow: func(info pebble.DiskSlowInfo) {
				if s.Err() != nil {
					return // what is slow then is parked
				}
				s.log.Warn("the disk is slow", "event", "spool.slow", "file", info.Path, "duration", info.Duration)
			},
		},
	}
	o.WithFSDefaults() // tells of a slow disk
	// Reading the logs of a long day may take longer than one call of an open
	// engine; a fatal error parks the goroutine that meets it.
	type opened struct {
		db  *pebble.DB
		err error
	}
	done := make(chan opened, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- opened{err: fmt.Errorf("the engine panicked: %v", r)}
			}
		}()
		db, err := pebble.Open(dir, o)
		done <- opened{db, err}
	}()
	select {
	case <-s.failed:
		return nil, s.Err()
	case d := <-done:
		if failed := s.Err(); failed != nil {
			return nil, failed
		}
		disk.armed.Store(d.err == nil)
		return d.db, d.err
	}
}

// engineLogger hands pebble's log lines to slog and its fatal errors to fail.
//
// Pebble expects Fatalf not to return, and does not survive if it does: going
// on after a manifest that was not synced could delete a log whose messages are
// in no table, and a commit that failed would be reported as done. So the
// goroutine stays here. The process stays up, refuses, and says so.
type engineLogger struct{ s *Spool }

func (l engineLogger) Infof(format string, args ...any) {
	if l.s.log.Enabled(context.Background(), slog.LevelDebug) { // do not format for nobody
		l.s.log.Debug("engine", "event", "spool.engine", "text", fmt.Sprintf(format, args...))
	}
}

func (l engineLogger) Errorf(format string, args ...any) {
	l.s.log.Error("engine", "event", "spool.engine", "text", fmt.Sprintf(format, args...))
}

func (l engineLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(strings.ReplaceAll(format, "%s", "%v"), args...)
	for _, arg := range args { // keep the cause recognisable
		if cause, ok := arg.(error); ok {
			err = fmt.Errorf("%s: %w", strings.TrimSuffix(format, ": %v"), cause)
		}
	}
	l.s.fail(err)
	park()
}

// apply commits one batch. With pebble.Sync it returns nil only when the batch
// is on stable storage. After an error the batch may or may not be there. fill
// runs with mu read-held, so it must not call what takes it again.
func (s *Spool) apply(fill func(*pebble.Batch) error, o *pebble.WriteOptions) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.Err(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	if err := fill(b); err != nil {
		b.Close()
		return err
	}
	if o.GetSync() { // what was committed before is synced with it
		s.lagging.Store(false)
	}
	if _, err := await(s, func() (struct{}, error) { return struct{}{}, b.Commit(o) }); err != nil {
		return fmt.Errorf("spool: committing: %w", err)
	}
	if !o.GetSync() {
		s.lags()
	}
	if err := s.Err(); err != nil { // it came too late to be relied on; the batch is not reused
		return err
	}
	return b.Close()
}

// get reads one value; it is the caller's to keep.
func (s *Spool) get(key []byte) (value []byte, found bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, false, ErrClosed
	}
	return s.getLocked(key)
}

// getLocked is get for callers that hold mu.
func (s *Spool) getLocked(key []byte) (value []byte, found bool, err error) {
	value, err = await(s, func() ([]byte, error) {
		v, closer, err := s.db.Get(key)
		if err != nil {
			return nil, err
		}
		return append([]byte{}, v...), closer.Close() // not nil, also if it is empty
	})
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	return value, err == nil, err
}

// What scan reads with one call of the engine: at least one record, and no
// more than so many, or than those with which it has so many octets.
const (
	scanRecords = 128
	scanOctets  = 64 << 10
)

// A pair is one key of the engine and its value.
type pair struct{ key, value []byte }

// scan calls fn with each key of a prefix and its value, in order, as they
// were when it began. Both are only valid during the call.
func (s *Spool) scan(prefix byte, fn func(key, value []byte) error) error {
	return s.scanFrom([]byte{prefix}, fn)
}

// scanFrom is scan without what lies before a key of the prefix.
func (s *Spool) scanFrom(first []byte, fn func(key, value []byte) error) error {
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return ErrClosed
	}
	it, err := await(s, func() (*pebble.Iterator, error) {
		return s.db.NewIter(&pebble.IterOptions{LowerBound: first, UpperBound: []byte{first[0] + 1}})
	})
	if err == nil {
		s.scans.Add(1)
		defer s.scans.Done()
	}
	s.mu.RUnlock() // fn may call the spool again
	if err != nil {
		return fmt.Errorf("spool: reading: %w", err)
	}
	err = s.each(it, fn)
	if failed := s.Err(); failed != nil { // the iterator may be in use
		return failed
	}
	_, closeErr := await(s, func() (struct{}, error) { return struct{}{}, it.Close() })
	switch {
	case err != nil:
		return err // it counts more; Close repeats those of reading
	case closeErr != nil:
		return fmt.Errorf("%w: %w", ErrDamaged, closeErr)
	}
	return nil
}

// each calls fn for what an iterator finds from its beginning to its end. What
// cannot be read is passed over, and is an error at the end: a damaged block
// must not hide what lies behind it.
func (s *Spool) each(it *pebble.Iterator, fn func(key, value []byte) error) (damage error) {
	step := it.First
	var last []byte // the key of the newest pair; nil: none yet
	for {
		type some struct {
			pairs []pair
			more  bool
			err   error // what comes after pairs cannot be read
		}
		read, err := await(s, func() (r some, err error) {
			r.pairs, r.more, r.err = readSome(it, step)
			return r, nil
		})
		if err != nil {
			return err
		}
		for _, p := range read.pairs {
			if err := fn(p.key, p.value); err != nil {
				return err
			}
			last = p.key
		}
		step = it.Next
		switch {
		case read.err != nil:
			next, lost, err := s.behind(it, last)
			if err != nil {
				return err
			}
			if lost && damage == nil {
				damage = fmt.Errorf("%w: %w", ErrDamaged, read.err)
			}
			if next == nil {
				return damage
			}
			step = func() bool { return it.SeekGE(next) }
		case !read.more:
			return damage
		}
	}
}

// behind looks for where an iterator can go on that met an error behind a key:
// just there, if it was a disk that failed once, or else behind what is
// damaged, as near as keys are apart. Nil: nowhere. lost says whether anything
// may have been passed over. Only keys of entries can be counted up; of others
// what lies behind is given up.
func (s *Spool) behind(it *pebble.Iterator, last []byte) (next []byte, lost bool, err error) {
	readable := func(key []byte) (bool, error) {
		return await(s, func() (bool, error) {
			it.SeekGE(key)
			return it.Error() == nil, nil
		})
	}
	from := uint64(0)
	if last != nil {
		next = append(bytes.Clone(last), 0)
		if ok, err := readable(next); ok || err != nil {
			return next, false, err
		}
		if last[0] != prefixEntry {
			return nil, true, nil
		}
		id, _ := splitEntryKey(last)
		from = id.count()
	}
	to := from // readable from here on; from itself is not
	for step := uint64(1); ; step *= 2 {
		if to += step; to > maxCount {
			return nil, true, nil
		}
		ok, err := readable(countKey(to))
		if err != nil {
			return nil, true, err
		}
		if ok {
			break
		}
		from = to
	}
	for to-from > 1 {
		middle := from + (to-from)/2
		ok, err := readable(countKey(middle))
		switch {
		case err != nil:
			return nil, true, err
		case ok:
			to = middle
		default:
			from = middle
		}
	}
	return countKey(to), true, nil
}

// readSome copies the next few pairs. There are no more at the end, and after
// an error.
func readSome(it *pebble.Iterator, step func() bool) (pairs []pair, more bool, err error) {
	for octets := 0; len(pairs) < scanRecords && octets < scanOctets; step = it.Next {
		if !step() {
			return pairs, false, it.Error()
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return pairs, false, err
		}
		pairs = append(pairs, pair{bytes.Clone(it.Key()), bytes.Clone(value)})
		octets += len(it.Key()) + len(value)
	}
	return pairs, true, nil
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
