package spool

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// HasKey reports whether an idempotency key is stored.
func (s *Spool) HasKey(key string) (bool, error) {
	_, found, err := s.get(usedKey(key))
	if err != nil {
		return false, fmt.Errorf("spool: reading a key: %w", err)
	}
	return found, nil
}

// KeyMessage reports whether an idempotency key is stored, and with which
// message; id is "" for one that MarkKeys stored, first or last. The message may
// have left since.
func (s *Spool) KeyMessage(key string) (id ID, found bool, err error) {
	value, found, err := s.get(usedKey(key))
	if err != nil {
		return "", false, fmt.Errorf("spool: reading a key: %w", err)
	}
	if id = ID(value); !validID(id) {
		id = ""
	}
	return id, found, nil
}

// MarkKeys stores keys without a message, all or none. Keys that are there
// already are left as they are in effect. When it returns nil they will last.
func (s *Spool) MarkKeys(keys ...string) error {
	for _, key := range keys {
		if key == "" || len(key) > maxKey {
			return fmt.Errorf("spool: a key of %d octets", len(key))
		}
	}
	return s.changeKeys(keys, func(b *pebble.Batch, key []byte) error { return b.Set(key, nil, nil) })
}

// DropKeys forgets keys, all or none. When it returns nil that will last.
func (s *Spool) DropKeys(keys ...string) error {
	return s.changeKeys(keys, func(b *pebble.Batch, key []byte) error { return b.Delete(key, nil) })
}

func (s *Spool) changeKeys(keys []string, change func(*pebble.Batch, []byte) error) error {
	if len(keys) == 0 {
		return nil
	}
	s.keyed.Lock()
	defer s.keyed.Unlock()
	return s.apply(func(b *pebble.Batch) error {
		var errs []error
		for _, key := range keys {
			errs = append(errs, change(b, usedKey(key)))
		}
		return errors.Join(errs...)
	}, pebble.Sync)
}
