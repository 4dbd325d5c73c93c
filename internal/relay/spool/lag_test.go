package spool

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What does not wait for the disk reaches it soon, also when nothing else
// happens: a crash does not bring back what was over long before.
func TestChangesReachTheDiskSoon(t *testing.T) {
	for name, change := range map[string]struct {
		do   func(*Spool, *Entry) error
		done func(*Spool, ID) bool
	}{
		"remove": {
			func(s *Spool, e *Entry) error { return s.Remove(e.ID) },
			func(s *Spool, id ID) bool { _, err := s.Get(id); return errors.Is(err, ErrNotFound) },
		},
		"update": {
			func(s *Spool, e *Entry) error { e.Attempts = 7; return s.Update(e) },
			func(s *Spool, id ID) bool { e, err := s.Get(id); return err == nil && e.Attempts == 7 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := newDisk()
				s := open(t, mem)
				e := put(t, s, body(1, 100))
				if err := change.do(s, e); err != nil {
					t.Fatal(err)
				}
				lasts := func() bool {
					after := open(t, mem.CrashClone(vfs.CrashCloneCfg{}))
					return change.done(after, e.ID)
				}
				if lasts() {
					t.Error("it waited for the disk")
				}
				<-time.After(maxLag)
				synctest.Wait()
				if !lasts() {
					t.Error("a crash still takes it back")
				}
			})
		})
	}
}

// TestSyncCoversWhatDidNotWait: a crash right after it takes nothing back.
func TestSyncCoversWhatDidNotWait(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := open(t, mem)
	held, gone := put(t, s, []byte("a\r\n")), put(t, s, []byte("b\r\n"))
	held.Hold = "evidence"
	if err := errors.Join(s.Update(held), s.Remove(gone.ID), s.Sync()); err != nil {
		t.Fatal(err)
	}
	after := open(t, mem.CrashClone(vfs.CrashCloneCfg{}))
	if e, err := after.Get(held.ID); err != nil || e.Hold != "evidence" {
		t.Errorf("the hold: %+v, %v", e, err)
	}
	if _, err := after.Get(gone.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("what was removed: %v", err)
	}
}

// TestEntriesByPieces: each entry once and with its state, whatever goes
// between two pieces.
func TestEntriesByPieces(t *testing.T) {
	s := open(t, vfs.NewMem())
	var all []ID
	for i := range 10 {
		e := put(t, s, []byte("a\r\n"))
		e.Attempts = i + 1
		if err := s.Update(e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e.ID)
	}
	enough := errors.New("enough")
	var got []ID
	last := ID("")
	for more := true; more; {
		more = false
		err := s.EntriesAfter(last, func(e *Entry) error {
			if more {
				return enough
			}
			if e.Attempts != len(got)+1 {
				t.Errorf("%s has %d attempts", e.ID, e.Attempts)
			}
			got, last, more = append(got, e.ID), e.ID, true
			return nil
		})
		if err != nil && err != enough {
			t.Fatal(err)
		}
		if more && s.Remove(last) != nil {
			t.Error("it cannot be removed")
		}
	}
	if !slices.Equal(got, all) {
		t.Errorf("%v, not %v", got, all)
	}
}
