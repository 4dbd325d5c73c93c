package spool

import (
	"errors"
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
