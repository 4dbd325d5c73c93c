package spool

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// await makes one call of the engine, on a goroutine of its own, and returns
// what the call returns. It does not wait for the call once the spool has
// failed, be it before or meanwhile, and what takes longer than the spool's
// patience is a failure. So nobody waits for ever for an engine that is dead:
// for a flush that has ended, for a lock that is held by what has ended, for a
// disk that does not answer.
//
// A call that is not waited for may still run, even to a good end. What it uses
// must not be used again: nothing of it, if the spool has failed by then.
func await[T any](s *Spool, call func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	var none T
	if err := s.Err(); err != nil {
		return none, err
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil { // pebble panics on what it does not expect
				cause, ok := r.(error)
				if !ok {
					cause = fmt.Errorf("panic: %v", r)
				}
				s.fail(cause)
			}
		}()
		value, err := call()
		done <- outcome{value, err}
	}()
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	select {
	case o := <-done:
		return o.value, o.err
	case <-s.failed:
	case <-timer.C:
		select {
		case o := <-done: // it was the process that got no time
			return o.value, o.err
		default:
		}
		if err := s.stalled(); err != nil { // it may go on by itself
			return none, err
		}
		s.fail(fmt.Errorf("no answer in %v", s.patience))
	}
	return none, s.Err()
}

// A guard is the disk as the engine sees it. It adds what the engine does not
// do by itself:
//
//   - Where its log finds no room, or a disk that became read-only, the write is
//     tried again until there is room, however long: what waits for it waits, or
//     is told that the disk is full, and reading goes on.
//   - Any other error of its log, or of the folder that names its files, is the
//     end of the engine. Pebble would report some of these, panic on others with its
//     locks held, and on a log that cannot be begun end the process without a
//     word.
//   - Once the spool has failed, the engine changes nothing on the disk any
//     more: a compaction under way must not delete what a manifest that was
//     never synced does not need.
//   - Work on tables that fails is tried again by pebble at once and for ever,
//     so the error comes late, and the disk is spared.
//
// What must not go on stays where it is, in park.
type guard struct {
	vfs.FS
	s     *Spool
	armed atomic.Bool // the engine is open; before, errors are those of Open

	brake  sync.Mutex
	failed time.Time // when an error was let through last; guarded by brake
}

var _ vfs.FS = (*guard)(nil)

// brakeFor is the time between two errors that the engine meets.
const brakeFor = 100 * time.Millisecond

// park ends a goroutine of the engine without ending it: no code of the engine
// runs on it again, deferred code included, and its locks stay locked. Nobody
// waits for them in vain, since await stops waiting when the spool has failed.
func park() { select {} }

// noRoom reports whether a change of the disk failed for want of room, which
// can come back.
func noRoom(err error) bool {
	return vfs.IsNoSpaceError(err) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// stallEvery is how often a write is tried again that found no room.
const stallEvery = 50 * time.Millisecond

// insist makes a change of the log again and again that finds no room. It must
// not be a sync: what a failed one has lost, the next one does not find.
func (g *guard) insist(op func() error) error {
	err := op()
	if !noRoom(err) || !g.armed.Load() {
		return err
	}
	tick := time.NewTicker(stallEvery)
	defer tick.Stop()
	for noRoom(err) {
		g.s.stall.Store(&failure{fmt.Errorf("%w: the engine's log waits: %w", ErrFull, err)})
		select {
		case <-tick.C:
			err = op()
		case <-g.s.failed:
			return err
		}
	}
	g.s.stall.Store(nil)
	return err
}

// change makes one change of the disk, for the engine. An error of a vital one
// is the end of the engine.
func (g *guard) change(vital bool, op func() error) error {
	if g.s.Err() != nil {
		park()
	}
	err := op()
	switch {
	case err == nil || !g.armed.Load() || !vital && isNotExist(err):
	case vital:
		g.s.fail(err)
		park()
	default:
		g.delay()
	}
	return err
}

// delay lets the errors of the engine through one by one.
func (g *guard) delay() {
	g.brake.Lock()
	defer g.brake.Unlock()
	if wait := brakeFor - time.Since(g.failed); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-g.s.failed:
		}
	}
	g.failed = time.Now()
}

// isLog reports whether a file is one of the engine's logs, where what was
// acknowledged is until it is in a table.
func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// file makes or opens a file for writing.
func (g *guard) file(name string, open func() (vfs.File, error)) (f vfs.File, err error) {
	vital := isLog(name)
	op := func() (err error) { f, err = open(); return err }
	if vital {
		once := op
		op = func() error { return g.insist(once) }
	}
	err = g.change(vital, op)
	if err != nil {
		return nil, err
	}
	return &guardedFile{f, g, vital}, nil
}

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(name, func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *guard) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(newname, func() (vfs.File, error) { return g.FS.ReuseForWrite(oldname, newname, c) })
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.file(name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, o...) })
}

// OpenDir opens a folder, which is done to sync it.
func (g *guard) OpenDir(name string) (vfs.File, error) {
	d, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardedFile{d, g, true}, nil
}

func (g *guard) Link(oldname, newname string) error {
	return g.change(false, func() error { return g.FS.Link(oldname, newname) })
}

func (g *guard) Rename(oldname, newname string) error {
	return g.change(false, func() error { return g.FS.Rename(oldname, newname) })
}

func (g *guard) Remove(name string) error {
	return g.change(false, func() error { return g.FS.Remove(name) })
}

func (g *guard) RemoveAll(name string) error {
	return g.change(false, func() error { return g.FS.RemoveAll(name) })
}

// Unwrap is the disk itself.
func (g *guard) Unwrap() vfs.FS { return g.FS }

// A guardedFile is a file that the engine writes, or a folder that it syncs.
type guardedFile struct {
	vfs.File
	g     *guard
	vital bool
}

func (f *guardedFile) Write(p []byte) (n int, err error) {
	if !f.vital {
		err = f.g.change(false, func() (err error) { n, err = f.File.Write(p); return err })
		return n, err
	}
	err = f.g.change(true, func() error {
		return f.g.insist(func() error {
			m, err := f.File.Write(p[n:])
			n += m
			return err
		})
	})
	return n, err
}

func (f *guardedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.g.change(f.vital, func() (err error) { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

func (f *guardedFile) Sync() error { return f.g.change(f.vital, f.File.Sync) }

func (f *guardedFile) SyncData() error { return f.g.change(f.vital, f.File.SyncData) }

func (f *guardedFile) SyncTo(off int64) (full bool, err error) {
	err = f.g.change(f.vital, func() (err error) { full, err = f.File.SyncTo(off); return err })
	return full, err
}

func (f *guardedFile) Close() error { return f.g.change(f.vital, f.File.Close) }
