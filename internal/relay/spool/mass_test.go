package spool

import (
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestManyUpdatesAreOneStep: all that are there, in one batch; what is gone
// gets no state, which would belong to nobody.
func TestManyUpdatesAreOneStep(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	var all []*Entry
	for i := range 300 {
		e := put(t, s, body(i, 10))
		e.Attempts, e.Hold = i, "a storm"
		all = append(all, e)
	}
	gone := []ID{all[0].ID, all[7].ID, all[299].ID}
	for _, id := range gone {
		if err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	some := slices.DeleteFunc(slices.Clone(all), func(e *Entry) bool { return e.Attempts%5 == 1 })
	missing, err := s.UpdateAll(some)
	if err != nil || !slices.Equal(missing, gone) {
		t.Errorf("missing %v, %v", missing, err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, fs)
	for i, e := range all {
		got, err := s.Get(e.ID)
		switch changed := i%5 != 1; {
		case slices.Contains(gone, e.ID):
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%d is gone: %v", i, err)
			}
			if _, state, _ := s.get(stateKey(e.ID)); state {
				t.Errorf("%d is gone and has a state", i)
			}
		case err != nil || changed != (got.Hold == "a storm") || changed && got.Attempts != i:
			t.Errorf("%d: %+v, %v", i, got, err)
		}
	}
	if missing, err := s.UpdateAll(nil); missing != nil || err != nil {
		t.Error(missing, err)
	}
	broken := *all[1]
	broken.State = nil
	if _, err := s.UpdateAll([]*Entry{all[2], &broken}); err == nil {
		t.Error("a state that fits no envelope is stored")
	}
	s.Close()
	if _, err := s.UpdateAll(some); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
