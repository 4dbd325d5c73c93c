package spool

import (
	"errors"
	"testing"
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
			mem := vfs.NewCrashableMem()
			s, err := Open(Options{Dir: "spool", FS: mem, Reserve: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			e, err := s.Store(t.Context(), envelope("someone@example.org"), body(1, 100))
			if err != nil {
				t.Fatal(err)
			}
			if err := change.do(s, e); err != nil {
				t.Fatal(err)
			}
			lasts := func() bool {
				after, err := Open(Options{Dir: "spool", FS: mem.CrashClone(vfs.CrashCloneCfg{}), Reserve: -1})
				if err != nil {
					t.Fatal(err)
				}
				defer after.Close()
				return change.done(after, e.ID)
			}
			deadline := time.NewTimer(10 * time.Second)
			defer deadline.Stop()
			tick := time.NewTicker(maxLag / 2)
			defer tick.Stop()
			for !lasts() {
				select {
				case <-tick.C:
				case <-deadline.C:
					t.Fatal("10 s later a crash still takes it back")
				}
			}
		})
	}
}
