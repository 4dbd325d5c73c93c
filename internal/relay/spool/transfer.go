package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// importedKey is the idempotency key of an entry that came from elsewhere: it
// stays when the entry has gone, so that the same one does not come twice.
func importedKey(id ID) string { return "import/" + string(id) }

// ErrPresent means that an entry that was to be imported is here already, or
// was put aside here as damaged.
var ErrPresent = errors.New("spool: the entry is here already")

// maxAhead is how far ahead of the clock the ID of an imported entry may be:
// new IDs begin behind the newest.
const maxAhead = 24 * time.Hour

// Import stores an entry of another spool, or of an export, with its ID, its
// envelope and its state. ErrPresent if it is here; ErrDuplicate if it was
// imported before and is gone by now, unless again says that it may come again.
// After any other error nothing was stored, but for a disk that fails.
//
// It does not wait for the disk where the body is short: all of them last once
// Sync has returned nil. The body must be what the package comment says of
// bodies, and have e.Size octets.
func (s *Spool) Import(ctx context.Context, e *Entry, body io.Reader, again bool) error {
	at, ok := e.ID.Time()
	switch {
	case !ok:
		return fmt.Errorf("spool: importing: %q is no ID", e.ID)
	case at.After(time.Now().Add(maxAhead)):
		return fmt.Errorf("spool: importing %s: its ID is of %v, ahead of the clock", e.ID, at.Format(time.RFC3339))
	case len(e.State) != len(e.Envelope.To):
		return fmt.Errorf("spool: importing %s: %d recipients and %d states", e.ID, len(e.Envelope.To), len(e.State))
	}
	s.importing.Lock()
	defer s.importing.Unlock()
	if present, err := s.names(e.ID); present || err != nil {
		return errors.Join(err, presence(present))
	}
	w, err := s.Create(ctx, e.Envelope)
	if err != nil {
		return err
	}
	defer w.Abort()
	w.id = e.ID
	if _, err := io.Copy(w, body); err != nil {
		return err
	}
	if w.size != e.Size {
		return fmt.Errorf("spool: importing %s: the body has %d octets, and not %d", e.ID, w.size, e.Size)
	}
	defer s.own(e.ID)()
	return w.commitImported(ctx, e, again)
}

// commitImported is Commit for an entry that has a state already.
func (w *Writer) commitImported(ctx context.Context, e *Entry, again bool) error {
	s := w.s
	o := commitOptions{}
	if !again {
		o.keys = []string{importedKey(e.ID)}
	}
	if err := w.prepare(ctx, o); err != nil {
		return err
	}
	var flags byte
	how := pebble.NoSync
	if w.name != "" {
		flags, how = flagFile, pebble.Sync
	}
	rec, err := encodeRecord(w.id, flags, entryRecord{w.env, w.size, w.sum, w.name})
	if err != nil {
		return fmt.Errorf("spool: encoding: %w", err)
	}
	state, err := encodeState(e)
	if err != nil {
		return err
	}
	err = s.apply(func(b *pebble.Batch) error {
		err := errors.Join(
			b.Set(entryKey(w.id), rec, nil),
			b.Set(stateKey(w.id), state, nil),
			b.Set(usedKey(importedKey(w.id)), []byte(w.id), nil))
		if err == nil && flags&flagFile == 0 {
			err = b.Set(bodyKey(w.id), *w.buf, nil)
		}
		if err == nil {
			w.handOver() // as in store
		}
		return err
	}, how)
	if err != nil {
		return err
	}
	s.metrics.committed.Inc()
	s.metrics.bytes.Add(float64(w.size))
	s.metrics.entries.Inc()
	return nil
}

func presence(present bool) error {
	if present {
		return ErrPresent
	}
	return nil
}

// DamagedRecord is the record of an entry that was put aside, as it was found.
func (s *Spool) DamagedRecord(id ID) ([]byte, error) {
	if !id.stored() {
		return nil, ErrNotFound
	}
	rec, found, err := s.get(damagedKey(id))
	switch {
	case err != nil:
		return nil, fmt.Errorf("spool: reading %s: %w", id, err)
	case !found:
		return nil, ErrNotFound
	}
	return rec, nil
}

// RawBody is what is there of a body, whole or not, and its size; nothing of it
// is checked, and behind it may be the rest of a longer body that its file had
// before. ErrNotFound if there is nothing.
func (s *Spool) RawBody(id ID) (io.ReadCloser, int64, error) {
	if !id.stored() {
		return nil, 0, ErrNotFound
	}
	inline, found, err := s.get(bodyKey(id))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("spool: reading the body of %s: %w", id, err)
	case found:
		return io.NopCloser(bytes.NewReader(inline)), int64(len(inline)), nil
	}
	body, size, err := s.files.find(id)
	if err != nil {
		return nil, 0, fmt.Errorf("spool: looking for the body of %s: %w", id, err)
	}
	if body == nil {
		return nil, 0, ErrNotFound
	}
	return body, size, nil
}
