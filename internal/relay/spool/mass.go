package spool

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// UpdateAll is Update for many entries in one batch: the states of all that
// are still there, or none. It is quickest if they are in the order of their IDs.
// missing are the IDs of those that were gone.
func (s *Spool) UpdateAll(entries []*Entry) (missing []ID, err error) {
	if len(entries) == 0 {
		return nil, nil
	}
	err = s.apply(func(b *pebble.Batch) error {
		there, err := s.there(entries)
		if err != nil {
			return err
		}
		for i, e := range entries {
			if !there[i] {
				missing = append(missing, e.ID)
				continue
			}
			rec, err := encodeState(e)
			if err == nil {
				err = b.Set(stateKey(e.ID), rec, nil)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, pebble.NoSync)
	return missing, err
}

// there tells for each of some entries whether it has a record, in one go over
// the keys. The caller holds mu.
func (s *Spool) there(entries []*Entry) ([]bool, error) {
	there, err := await(s, func() (there []bool, err error) {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixEntry}, UpperBound: []byte{prefixEntry + 1}})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, it.Close()) }()
		there = make([]bool, len(entries))
		for i, e := range entries {
			key := entryKey(e.ID)
			there[i] = e.ID.stored() && it.SeekGE(key) && bytes.Equal(it.Key(), key)
		}
		return there, it.Error()
	})
	if err != nil {
		return nil, fmt.Errorf("spool: looking for %d entries: %w", len(entries), err)
	}
	return there, nil
}
