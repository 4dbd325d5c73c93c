package spool

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"example.edu/gatepost/internal/mail"
)

// inlineMax is the largest body that goes into the batch with its envelope.
// What is longer streams to a file, in pieces of this size.
const inlineMax = 64 << 10

// roomEvery is how many octets of one body are written between two looks at
// the free space.
const roomEvery = 4 << 20

// maxKey bounds an idempotency key, in octets.
const maxKey = 512

// A Writer takes one message in. It is used by one goroutine, and ends with
// Commit or Abort; Abort after Commit does nothing, so it can be deferred.
type Writer struct {
	s      *Spool
	id     ID
	env    mail.Envelope
	buf    *[]byte  // at most inlineMax octets that are in no file yet
	file   vfs.File // nil as long as the body fits into buf, and again when it is on stable storage
	name   string   // of the file; "": there is none, or it is not the writer's any more
	made   bool     // the name of the file is new, and does not last yet
	size   int64
	looked int64  // size at the last look at the free space
	sum    uint32 // CRC-32C of the body so far
	err    error  // the first error of a Write
	kept   bool   // there is room in recent for buf
	ended  bool   // by Commit or Abort
}

// Create begins a message. ErrFull when the disk's reserve is reached.
func (s *Spool) Create(ctx context.Context, env mail.Envelope) (*Writer, error) {
	if err := s.room(); err != nil {
		return nil, err
	}
	return s.create(ctx, env)
}

// create is Create without a look at the reserve.
func (s *Spool) create(ctx context.Context, env mail.Envelope) (*Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("spool: creating: %w", err)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if err := checkEnvelope(env); err != nil {
		return nil, err
	}
	buf := s.buffers.Get().(*[]byte)
	*buf = (*buf)[:0]
	return &Writer{s: s, id: s.ids.next(time.Now()), env: env, buf: buf}, nil
}

// ID is the name the entry will have.
func (w *Writer) ID() ID { return w.id }

// Write adds to the body. After an error the message can only be aborted.
func (w *Writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, errors.New("spool: write to a message that has ended")
	}
	n := 0
	for len(p) > 0 && w.err == nil {
		if len(*w.buf) == inlineMax {
			w.err = w.spill()
			continue
		}
		k := min(len(p), inlineMax-len(*w.buf))
		*w.buf = append(*w.buf, p[:k]...)
		w.s.roomy.Add(-int64(k))
		w.sum = crc32.Update(w.sum, castagnoli, p[:k])
		w.size += int64(k)
		n += k
		p = p[k:]
	}
	return n, w.err
}

// spill moves the buffer to the body's file.
func (w *Writer) spill() (err error) {
	if w.file == nil {
		if w.name, w.file, w.made, err = w.s.files.take(w.id); err != nil {
			return w.s.noSpace("beginning a body", err)
		}
	}
	if w.size-w.looked >= roomEvery {
		w.looked = w.size
		if err := w.s.room(); err != nil {
			return err
		}
	}
	if _, err := w.file.Write(*w.buf); err != nil {
		return w.s.noSpace("writing a body", err)
	}
	*w.buf = (*w.buf)[:0]
	return nil
}

// A CommitOption puts more into the batch of a message.
type CommitOption func(*commitOptions)

type commitOptions struct {
	keys   []string
	settle []*Entry
}

// frees reports whether the batch removes an entry: what makes room may use
// the reserve.
func (o commitOptions) frees() bool { return slices.ContainsFunc(o.settle, (*Entry).done) }

// WithKey stores an idempotency key with the message. If the key is there
// already, Commit stores nothing and returns ErrDuplicate.
func WithKey(key string) CommitOption {
	return func(o *commitOptions) { o.keys = append(o.keys, key) }
}

// Settling stores the new state of another entry in the same batch, or removes
// it if all of its recipients are done: a DSN and the failure it tells of are
// one step.
func Settling(e *Entry) CommitOption {
	return func(o *commitOptions) { o.settle = append(o.settle, e) }
}

// Commit ends the message. When it returns nil the message is on stable
// storage and the spool's to deliver. After ErrDuplicate or the end of ctx
// nothing was stored. After any other error the message may come back with the
// next Open, whole; it was not acknowledged.
func (w *Writer) Commit(ctx context.Context, opts ...CommitOption) (*Entry, error) {
	if w.ended {
		return nil, errors.New("spool: commit of a message that has ended")
	}
	defer w.Abort()
	start := time.Now()
	var o commitOptions
	for _, opt := range opts {
		opt(&o)
	}
	if err := w.prepare(ctx, o); err != nil {
		return nil, err
	}
	e := &Entry{ID: w.id, Envelope: w.env, Size: w.size, State: make([]RecipientState, len(w.env.To))}
	w.kept = w.name == "" && w.s.recent.reserve(ctx, w.buf)
	if err := w.store(e, o); err != nil {
		return nil, err
	}
	w.s.metrics.committed.Inc()
	w.s.metrics.bytes.Add(float64(w.size))
	w.s.metrics.entries.Inc()
	w.s.metrics.commitSeconds.Observe(time.Since(start).Seconds())
	return e, nil
}

// prepare brings the body to stable storage if it is a file. The order is what
// makes it durable: data, then the folder if the name is new; the record follows
// in store.
func (w *Writer) prepare(ctx context.Context, o commitOptions) error {
	if w.err != nil {
		return w.err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("spool: committing: %w", err)
	}
	if !o.frees() {
		if err := w.s.room(); err != nil {
			return err
		}
	}
	for _, key := range o.keys {
		if key == "" || len(key) > maxKey {
			return fmt.Errorf("spool: a key of %d octets", len(key))
		}
		if used, err := w.s.HasKey(key); used || err != nil {
			return errors.Join(err, duplicate(used)) // again under the lock, in store
		}
	}
	if w.file == nil {
		return nil
	}
	if err := w.spill(); err != nil {
		return err
	}
	if err := w.file.SyncData(); err != nil {
		return w.s.noSpace("syncing a body", err)
	}
	err := w.file.Close()
	w.file = nil
	if err != nil {
		return w.s.noSpace("closing a body", err)
	}
	if w.made {
		if err := w.s.syncDir(w.s.bodies); err != nil {
			return w.s.noSpace("syncing the folder of bodies", err)
		}
		w.made = false
	}
	return nil
}

// store writes the one batch that makes the message exist.
func (w *Writer) store(e *Entry, o commitOptions) error {
	var flags byte
	if w.name != "" {
		flags = flagFile
	}
	rec, err := encodeRecord(w.id, flags, entryRecord{w.env, w.size, w.sum, w.name})
	if err != nil {
		return fmt.Errorf("spool: encoding: %w", err)
	}
	if len(o.keys) > 0 {
		w.s.keyed.Lock()
		defer w.s.keyed.Unlock()
		for _, key := range o.keys {
			if used, err := w.s.HasKey(key); used || err != nil {
				return errors.Join(err, duplicate(used))
			}
		}
	}
	var files []string // of settled entries, to be given back once the batch lasts
	var removed int
	settled := make([]ID, 0, len(o.settle))
	for _, other := range o.settle {
		settled = append(settled, other.ID)
	}
	defer w.s.own(settled...)()
	err = w.s.apply(func(b *pebble.Batch) error {
		if err := b.Set(entryKey(w.id), rec, nil); err != nil {
			return err
		}
		if flags&flagFile == 0 {
			if err := b.Set(bodyKey(w.id), *w.buf, nil); err != nil {
				return err
			}
		}
		for _, key := range o.keys {
			if err := b.Set(usedKey(key), []byte(w.id), nil); err != nil {
				return err
			}
		}
		for _, other := range o.settle {
			file, gone, err := w.s.settle(b, other)
			if err != nil {
				return err
			}
			if file != "" {
				files = append(files, file)
			}
			if gone {
				removed++
			}
		}
		w.handOver()
		return nil
	}, pebble.Sync)
	if err != nil {
		w.s.recent.drop(w.id)
		return err
	}
	for _, other := range o.settle {
		w.s.recent.drop(other.ID)
	}
	w.s.metrics.entries.Sub(float64(removed))
	for _, name := range files {
		w.s.files.give(name, true)
	}
	return nil
}

// handOver leaves the body to its record, just before that is committed. From
// there on the record may be on the disk, whatever is told of the batch, and may
// be seen: whoever removes the entry gives the file back, or the memory.
func (w *Writer) handOver() {
	if w.name != "" {
		w.s.files.keep(w.name)
		w.name = ""
	}
	if w.kept {
		w.s.recent.keep(w.id, w.buf)
		w.kept, w.buf = false, nil
	}
}

// Abort drops the message, unless it was committed.
func (w *Writer) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
	if w.name != "" {
		w.s.files.give(w.name, !w.made)
		w.name = ""
	}
	if w.kept {
		w.s.recent.release(w.buf)
		w.kept = false
	}
	if w.buf != nil {
		w.s.buffers.Put(w.buf)
		w.buf = nil
	}
}

// noSpace is err as callers see it: ErrFull if the disk is full.
func (s *Spool) noSpace(doing string, err error) error {
	if noRoom(err) {
		s.metrics.full.Inc()
		return fmt.Errorf("%w: %s: %w", ErrFull, doing, err)
	}
	return fmt.Errorf("spool: %s: %w", doing, err)
}

func duplicate(used bool) error {
	if used {
		return ErrDuplicate
	}
	return nil
}

// Store puts a message into the spool whose body is in memory already: one of
// the relay's own.
func (s *Spool) Store(ctx context.Context, env mail.Envelope, body []byte, opts ...CommitOption) (*Entry, error) {
	w, err := s.Create(ctx, env)
	if err != nil {
		return nil, err
	}
	return w.whole(ctx, body, opts...)
}

// Notify stores a DSN together with the state of the entry that it tells of:
// either both last or neither. One that ends the entry is stored from the
// reserve if need be: without it a full spool could not be rid of failures.
func (s *Spool) Notify(ctx context.Context, env mail.Envelope, body []byte, about *Entry) (*Entry, error) {
	begin := s.Create
	if about.done() {
		begin = s.create
	}
	w, err := begin(ctx, env)
	if err != nil {
		return nil, err
	}
	return w.whole(ctx, body, Settling(about))
}

// whole is a message from its first to its last octet.
func (w *Writer) whole(ctx context.Context, body []byte, opts ...CommitOption) (*Entry, error) {
	defer w.Abort()
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	return w.Commit(ctx, opts...)
}
