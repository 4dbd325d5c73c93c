package spool

import (
	"bytes"
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	recentMax  = 4 << 20                // octets of the bodies that are kept in memory
	recentWait = 50 * time.Millisecond  // how long a message waits for room among them
	recentRest = 500 * time.Millisecond // for how long none waits after one that did so in vain
)

// recent keeps the bodies of messages that were just committed, so that their
// first attempt reads nothing from the disk. A body is dropped when its entry is
// removed, or changes: then the attempt is over, and the next one may be hours
// away. What finds no room is read from the disk, like everything after a
// restart.
//
// Where messages come in a little faster than they go out, a message waits for
// room before it is committed: to let a backlog grow, and to read it back from
// the disk, would slow down both. Where they go out much slower, or not at all,
// that would only keep clients waiting, so then none waits.
type recent struct {
	room    *semaphore.Weighted // recentMax octets of memory, which are more than the bodies
	resting atomic.Int64        // until when none waits, as Unix time in nanoseconds
	free    *sync.Pool          // where buffers go back to

	mu     sync.Mutex
	bodies map[ID]*recentBody // guarded by mu
}

func newRecent(free *sync.Pool) *recent {
	return &recent{room: semaphore.NewWeighted(recentMax), free: free, bodies: make(map[ID]*recentBody)}
}

// A recentBody is a body of the engine, whole.
type recentBody struct {
	buf  *[]byte
	uses int // readers, and one for its place in recent; guarded by recent.mu
}

// reserve makes room for a buffer, and reports whether there is some.
func (r *recent) reserve(ctx context.Context, buf *[]byte) bool {
	n := int64(cap(*buf))
	if r.room.TryAcquire(n) {
		return true
	}
	now := time.Now()
	if now.UnixNano() < r.resting.Load() {
		return false
	}
	wait, cancel := context.WithTimeout(ctx, recentWait)
	defer cancel()
	if r.room.Acquire(wait, n) == nil {
		return true
	}
	r.resting.Store(now.Add(recentWait + recentRest).UnixNano())
	return false
}

// release gives up what reserve has made.
func (r *recent) release(buf *[]byte) { r.room.Release(int64(cap(*buf))) }

// keep takes over the buffer of a body, for which there is room.
func (r *recent) keep(id ID, buf *[]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies[id] = &recentBody{buf, 1}
}

// drop forgets the body of an entry, and reports whether it was there. Readers
// go on.
func (r *recent) drop(id ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.bodies[id]
	if b == nil {
		return false
	}
	delete(r.bodies, id)
	r.done(b)
	return true
}

// open is the body of an entry, if it is there; else nil.
func (r *recent) open(id ID) io.ReadCloser {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.bodies[id]
	if b == nil {
		return nil
	}
	b.uses++
	return &recentReader{bytes.NewReader(*b.buf), r, b}
}

// clear forgets everything.
func (r *recent) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.bodies {
		r.done(b)
	}
	clear(r.bodies)
}

// done ends one use. The caller holds mu.
func (r *recent) done(b *recentBody) {
	if b.uses--; b.uses == 0 {
		r.release(b.buf)
		r.free.Put(b.buf)
		b.buf = nil
	}
}

// A recentReader reads a body from memory, or writes it out at once.
type recentReader struct {
	*bytes.Reader
	from *recent
	body *recentBody // nil after Close
}

func (r *recentReader) Close() error {
	if r.body == nil {
		return nil
	}
	r.Reset(nil)
	r.from.mu.Lock()
	defer r.from.mu.Unlock()
	r.from.done(r.body)
	r.body = nil
	return nil
}
