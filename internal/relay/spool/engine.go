package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Errors of a spool that cannot go on.
var (
	// ErrFailed means that the engine could not write its log or its tables.
	// Nothing is acknowledged from then on; the process has to be started
	// again, and recovers what is on stable storage.
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

// fail records the first unrecoverable error. A full disk stays recognisable
// as ErrFull, so that clients hear 452.
func (s *Spool) fail(cause error) {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if vfs.IsNoSpaceError(cause) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	if s.failure.CompareAndSwap(nil, &failure{err}) {
		s.metrics.failed.Set(1)
		s.log.Error("the storage engine has failed; nothing is accepted until the relay is started again", "event", "spool.failed", "err", cause)
		close(s.failed)
	}
}

// openEngine opens pebble as the prototype's measurements recommend: a small
// memtable and cache, since entries live for moments; the log synced by every
// commit, in groups.
func (s *Spool) openEngine(dir string) (*pebble.DB, error) {
	logger := engineLogger{s}
	o := &pebble.Options{
		FS:                          s.fs,
		Logger:                      logger,
		FormatMajorVersion:          pebble.FormatValueSeparation,
		MemTableSize:                8 << 20,
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
				s.log.Warn("the disk is slow", "event", "spool.slow", "file", info.Path, "duration", info.Duration)
			},
		},
	}
	// A fatal error ends the goroutine that meets it, so pebble gets one of
	// its own to open on.
	var db *pebble.DB
	err := errors.New("the engine gave up while opening")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("the engine panicked: %v", r)
			}
		}()
		db, err = pebble.Open(dir, o)
	}()
	<-done
	if failed := s.Err(); failed != nil {
		return nil, failed
	}
	return db, err
}

// engineLogger hands pebble's log lines to slog and its fatal errors to fail.
//
// Pebble expects Fatalf not to return. There are two kinds of callers:
//   - DB.Apply, on the goroutine of whoever commits, when the log could not be
//     written or synced. Apply returns nil (!) if Fatalf does, so apply below
//     asks Err afterwards.
//   - Everything else (the manifest, broken invariants), nearly always on a
//     goroutine of the engine's own. Going on there could delete a log whose
//     messages are in no table, so that goroutine ends here, its locks
//     released by its defers. The process stays up, refuses, and says so.
type engineLogger struct{ s *Spool }

const commitFailed = "pebble: fatal commit error" // in DB.applyInternal of pebble v2.1.7

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
	if !strings.HasPrefix(format, commitFailed) {
		runtime.Goexit()
	}
}

// apply commits one batch. With pebble.Sync it returns nil only when the batch
// is on stable storage. After an error the batch may or may not be there. fill
// runs with mu read-held, so it must not call what takes it again.
func (s *Spool) apply(fill func(*pebble.Batch) error, o *pebble.WriteOptions) (err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.Err(); err != nil {
		return err
	}
	defer func() {
		// Pebble panics on a log it cannot write to. (One it cannot begin ends
		// the process: the panic unlocks what is not locked.)
		if r := recover(); r != nil {
			if cause, ok := r.(error); ok {
				s.fail(cause)
			} else {
				s.fail(fmt.Errorf("panic: %v", r))
			}
			err = s.Err()
		}
	}()
	b := s.db.NewBatch()
	if err := fill(b); err != nil {
		b.Close()
		return err
	}
	if o.GetSync() { // what was committed before is synced with it
		s.lagging.Store(false)
	}
	if err := b.Commit(o); err != nil {
		return fmt.Errorf("spool: committing: %w", err)
	}
	if !o.GetSync() {
		s.lags()
	}
	if err := s.Err(); err != nil { // see engineLogger; the batch is not reused
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
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	value = append([]byte(nil), v...)
	return value, true, closer.Close()
}

// scan calls fn with each key of a prefix and its value, in order, as they
// were when it began. Both are only valid during the call.
func (s *Spool) scan(prefix byte, fn func(key, value []byte) error) error {
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return ErrClosed
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err == nil {
		s.scans.Add(1)
		defer s.scans.Done()
	}
	s.mu.RUnlock() // fn may call the spool again
	if err != nil {
		return fmt.Errorf("spool: reading: %w", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			err = fn(it.Key(), value)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
