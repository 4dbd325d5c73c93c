package spool

import (
	"bytes"
	"io"
	"sync"
)

// recentMax bounds the bodies that are kept in memory, in octets.
const recentMax = 16 << 20

// recent keeps the bodies of messages that were just committed, so that their
// first attempt reads nothing from the disk. A body is dropped when its entry is
// removed, or changes: then the attempt is over, and the next one may be hours
// away. What finds no room is read from the disk, like everything after a
// restart.
type recent struct {
	mu     sync.Mutex
	bodies map[ID]*recentBody // guarded by mu
	octets int                // guarded by mu; of memory, which is more than the bodies
	free   *sync.Pool         // where buffers go back to
}

// A recentBody is a body of the engine, whole.
type recentBody struct {
	buf  *[]byte
	uses int // readers, and one for its place in recent; guarded by recent.mu
}

// keep takes over the buffer of a body, and reports whether it did.
func (r *recent) keep(id ID, buf *[]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.octets+cap(*buf) > recentMax {
		return false
	}
	r.octets += cap(*buf)
	r.bodies[id] = &recentBody{buf, 1}
	return true
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
		r.octets -= cap(*b.buf)
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
