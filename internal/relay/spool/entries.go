package spool

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Update stores the state of an entry: all of it but the envelope, which never
// changes. It does not wait for the disk: what a crash takes back means
// "deliver again".
func (s *Spool) Update(e *Entry) error {
	if !e.ID.stored() {
		return ErrNotFound
	}
	s.recent.drop(e.ID)
	return s.apply(func(b *pebble.Batch) error { return s.putState(b, e) }, pebble.NoSync)
}

// putState adds the state of e to a batch.
func (s *Spool) putState(b *pebble.Batch, e *Entry) error {
	if _, err := s.locateLocked(e.ID); err != nil {
		return err
	}
	rec, err := encodeState(e)
	if err != nil {
		return err
	}
	return b.Set(stateKey(e.ID), rec, nil)
}

// Remove forgets an entry and its body: nothing more is owed. For a body in
// the engine it does not wait for the disk, as Update. A body that is a file
// goes only after its record has gone for good.
func (s *Spool) Remove(id ID) error {
	defer s.own(id)()
	var file string
	if !s.recent.drop(id) { // what is recent is there, and in no file
		var err error
		if file, err = s.locate(id); err != nil {
			return err
		}
	}
	o := pebble.NoSync
	if file != "" {
		o = pebble.Sync
	}
	if err := s.apply(func(b *pebble.Batch) error { return dropEntry(b, id, file != "") }, o); err != nil {
		return err
	}
	s.metrics.entries.Dec()
	if file != "" {
		s.files.give(file, true)
	}
	return nil
}

// own waits until nobody else removes any of some entries, or puts one in their
// place, and returns what ends that. Where a body is in a file, two that removed
// the same entry would give the file back twice, and it would be used for two.
func (s *Spool) own(ids ...ID) (end func()) {
	stripes := make([]int, 0, 1) // of most calls
	for _, id := range ids {
		stripes = append(stripes, int(crc32.ChecksumIEEE([]byte(id))%uint32(len(s.owners))))
	}
	slices.Sort(stripes) // so that two who wait for each other cannot be
	stripes = slices.Compact(stripes)
	for _, i := range stripes {
		s.owners[i].Lock()
	}
	return func() {
		for _, i := range stripes {
			s.owners[i].Unlock()
		}
	}
}

// settle adds the new state, or the removal, of an entry to a batch. An entry
// that is gone already is no error.
func (s *Spool) settle(b *pebble.Batch, e *Entry) (file string, gone bool, err error) {
	if !e.done() {
		if err := s.putState(b, e); !errors.Is(err, ErrNotFound) {
			return "", false, err
		}
		return "", false, nil // an operator was quicker
	}
	file, err = s.locateLocked(e.ID)
	if errors.Is(err, ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return file, true, dropEntry(b, e.ID, file != "")
}

// locate tells in which file the body of an entry is; "": it is in the engine.
// Of a damaged record that cannot be known: its file, if it has one, is
// collected by the next Open.
func (s *Spool) locate(id ID) (file string, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return "", ErrClosed
	}
	return s.locateLocked(id)
}

// locateLocked is locate for callers that hold mu, as all do inside apply.
func (s *Spool) locateLocked(id ID) (file string, err error) {
	if !id.stored() {
		return "", ErrNotFound
	}
	rec, found, err := s.getLocked(entryKey(id))
	if err != nil {
		return "", fmt.Errorf("spool: reading %s: %w", id, err)
	}
	if !found {
		return "", ErrNotFound
	}
	return fileOf(id, rec), nil
}

// fileOf is the file that a record names; "" if it names none or is damaged.
func fileOf(id ID, rec []byte) string {
	flags, _, err := checkRecord(id, rec)
	if err != nil || flags&flagFile == 0 {
		return ""
	}
	var r entryRecord
	if _, err := decodeRecord(id, rec, &r); err != nil {
		return ""
	}
	return r.file(id, flags)
}

func dropEntry(b *pebble.Batch, id ID, file bool) error {
	err := errors.Join(b.SingleDelete(entryKey(id), nil), b.Delete(stateKey(id), nil))
	if !file {
		err = errors.Join(err, b.SingleDelete(bodyKey(id), nil))
	}
	return err
}

// Get returns one entry: ErrNotFound, or ErrDamaged if its record cannot be
// read; the record is put aside then.
func (s *Spool) Get(id ID) (*Entry, error) {
	if !id.stored() {
		return nil, ErrNotFound
	}
	rec, found, err := s.get(entryKey(id))
	if err != nil {
		return nil, fmt.Errorf("spool: reading %s: %w", id, err)
	}
	if !found {
		if _, aside, _ := s.get(damagedKey(id)); aside {
			return nil, fmt.Errorf("%w: %s was put aside", ErrDamaged, id)
		}
		return nil, ErrNotFound
	}
	e, err := decodeEntry(id, rec)
	if err != nil {
		s.putAside(id, rec, err)
		return nil, err
	}
	state, found, err := s.get(stateKey(id))
	if err != nil {
		return nil, fmt.Errorf("spool: reading %s: %w", id, err)
	}
	if found {
		s.restore(e, state)
	}
	return e, nil
}

// Entries calls fn with every entry, in the order of their IDs, as the spool
// was when it began. A damaged record is put aside, reported, and passed over.
// An error of fn ends it and is returned. Only one entry is in memory at a time.
func (s *Spool) Entries(fn func(*Entry) error) error { return s.EntriesAfter("", fn) }

// EntriesAfter is Entries without those up to an ID, which need not be there
// any more: so a long queue is gone through by pieces, and the engine need not
// keep what it was at the beginning.
func (s *Spool) EntriesAfter(after ID, fn func(*Entry) error) error {
	first := []byte{prefixEntry}
	if after != "" {
		first = append(stateKey(after), 0) // the first key behind its last
	}
	var pending *Entry // its state, if any, is the next key
	flush := func() error {
		e := pending
		pending = nil
		if e == nil {
			return nil
		}
		return fn(e)
	}
	err := s.scanFrom(first, func(key, value []byte) error {
		id, state := splitEntryKey(key)
		if state {
			if pending != nil && pending.ID == id {
				s.restore(pending, value)
			}
			return flush()
		}
		if err := flush(); err != nil {
			return err
		}
		e, err := decodeEntry(id, value)
		if err != nil {
			s.putAside(id, value, err)
			return nil
		}
		pending = e
		return nil
	})
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	return errors.Join(flush(), err)
}

func decodeEntry(id ID, rec []byte) (*Entry, error) {
	var r entryRecord
	if _, err := decodeRecord(id, rec, &r); err != nil {
		return nil, fmt.Errorf("spool: entry %s: %w", id, err)
	}
	return &Entry{ID: id, Envelope: r.Envelope, Size: r.Size, State: make([]RecipientState, len(r.Envelope.To))}, nil
}

// restore gives an entry its stored state. If that is damaged the entry stays
// fresh: some recipients may get the message again, none goes without.
func (s *Spool) restore(e *Entry, rec []byte) {
	if err := setState(e, rec); err != nil {
		s.metrics.damaged.Inc()
		s.log.Error("the state of an entry is damaged; it is delivered again", "event", "spool.damaged", "id", e.ID, "err", err)
	}
}

// putAside moves a damaged record out of the way, where a postmaster finds it.
// Its body stays where it is.
func (s *Spool) putAside(id ID, rec []byte, cause error) {
	s.metrics.damaged.Inc()
	s.log.Error("a damaged entry is put aside", "event", "spool.damaged", "id", id, "err", cause)
	err := s.apply(func(b *pebble.Batch) error {
		return errors.Join(
			b.Set(damagedKey(id), rec, nil),
			b.SingleDelete(entryKey(id), nil),
			b.Delete(stateKey(id), nil))
	}, pebble.Sync)
	if err != nil {
		s.log.Error("a damaged entry cannot be put aside", "event", "spool.aside_failed", "id", id, "err", err)
		return
	}
	s.metrics.entries.Dec()
}

// Damaged lists the entries that were put aside. Their records and bodies stay
// in the spool.
func (s *Spool) Damaged() ([]ID, error) {
	var ids []ID
	err := s.scan(prefixDamaged, func(key, _ []byte) error {
		ids = append(ids, ID(key[1:]))
		return nil
	})
	return ids, err
}

// Body opens the body of an entry for reading. Where the last octet would be
// followed by io.EOF, a body that differs from the one stored ends in
// ErrDamaged, so that no truncated message passes for a whole one.
func (s *Spool) Body(id ID) (io.ReadCloser, error) {
	if !id.stored() {
		return nil, ErrNotFound
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if body := s.recent.open(id); body != nil {
		return body, nil
	}
	rec, found, err := s.get(entryKey(id))
	if err != nil {
		return nil, fmt.Errorf("spool: reading %s: %w", id, err)
	}
	if !found {
		return nil, ErrNotFound
	}
	var r entryRecord
	flags, err := decodeRecord(id, rec, &r)
	if err != nil {
		return nil, err
	}
	body := &bodyReader{s: s, id: id, left: r.Size, want: r.Sum}
	if name := r.file(id, flags); name != "" {
		f, err := s.files.open(name, id, r.Size)
		if err != nil {
			if _, found, again := s.get(entryKey(id)); !found && again == nil {
				return nil, ErrNotFound // it was removed just now, and its file may be another's
			}
			return nil, unreadable(id, err)
		}
		body.r, body.c = f, f
		return body, nil
	}
	inline, found, err := s.get(bodyKey(id))
	if err == nil && !found {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, unreadable(id, err)
	}
	body.r = bytes.NewReader(inline)
	return body, nil
}

// unreadable is why a body cannot be opened. Only what is not there, or is not
// what was written, is damaged: a disk that fails, or too many open files, is
// no reason to give a message up.
func unreadable(id ID, err error) error {
	if isNotExist(err) || errors.Is(err, errNotItsFile) || pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: the body of %s: %w", ErrDamaged, id, err)
	}
	return fmt.Errorf("spool: reading the body of %s: %w", id, err)
}

// A bodyReader checks length and sum of what it hands out.
type bodyReader struct {
	s    *Spool
	id   ID
	r    io.Reader
	c    io.Closer // nil if there is nothing to close
	left int64     // octets that must still come
	sum  uint32
	want uint32
	err  error // the end, once reached
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.sum = crc32.Update(b.sum, castagnoli, p[:n])
	b.left -= int64(n)
	switch {
	case b.left < 0, err == io.EOF && (b.left != 0 || b.sum != b.want):
		b.s.metrics.damaged.Inc()
		err = fmt.Errorf("%w: the body of %s is not the one stored", ErrDamaged, b.id)
		b.s.log.Error("a body is damaged", "event", "spool.damaged", "id", b.id, "err", err)
	}
	b.err = err
	return n, err
}

func (b *bodyReader) Close() error {
	if b.c == nil {
		return nil
	}
	return b.c.Close()
}

// stored reports whether id can be the ID of an entry.
func (id ID) stored() bool { return validID(id) }
