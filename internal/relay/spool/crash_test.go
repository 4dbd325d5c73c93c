package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"example.edu/gatepost/internal/mail"
)

var errNoSpace = fmt.Errorf("injected: %w", syscall.ENOSPC)

// The write-like operations of a file system: a crash or a failure at one of
// them must not cost an acknowledged message.
func isWrite(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpFileClose, errorfs.OpLock:
		return false
	}
	return op.Kind.ReadOrWrite() == errorfs.OpIsWrite
}

func envelope(to ...string) mail.Envelope {
	env := mail.Envelope{
		From:         mail.Address{Local: "scanner", Domain: "physics.example.edu"},
		Client:       netip.MustParseAddr("192.0.2.7"),
		Registration: "registrations/physics/mfp.cue",
		Arrival:      time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC),
	}
	for _, t := range to {
		a, err := mail.ParseAddress(t, true)
		if err != nil {
			panic(err)
		}
		env.To = append(env.To, mail.Recipient{Address: a})
	}
	return env
}

// body is n octets that differ from those of any other seed.
func body(seed, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	r.Read(b)
	return b
}

// A disk is pebble's disk in memory. Its own ReuseForWrite (v2.1.7) takes a lock
// for reading twice, and never returns if CrashClone asks for it in between.
type disk struct{ *vfs.MemFS }

func newDisk() disk { return disk{vfs.NewCrashableMem()} }

func (d disk) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return d.OpenReadWrite(newname, c)
}

// empty removes what a disk in memory holds: an engine that has failed is never
// let go, and its disk with it.
func empty(mem disk) {
	mem.RemoveAll("spool")
	if root, err := mem.OpenDir(""); err == nil {
		root.Sync() // what was removed would come back after a crash
		root.Close()
	}
}

// acknowledged is what the outside world knows of a spool.
type acknowledged struct {
	mu      sync.Mutex
	bodies  map[ID][]byte // Commit returned nil, and Remove was not called
	maybe   map[ID][]byte // Remove was called, or Commit gave an unknown outcome
	keys    map[string]bool
	settled map[ID]ID // entry → the DSN in whose batch it is removed, from before the Commit on
}

func newAcknowledged() *acknowledged {
	return &acknowledged{bodies: map[ID][]byte{}, maybe: map[ID][]byte{}, keys: map[string]bool{}, settled: map[ID]ID{}}
}

func (a *acknowledged) clone() *acknowledged {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := newAcknowledged()
	for k, v := range a.bodies {
		c.bodies[k] = v
	}
	for k, v := range a.maybe {
		c.maybe[k] = v
	}
	for k, v := range a.keys {
		c.keys[k] = v
	}
	for k, v := range a.settled {
		c.settled[k] = v
	}
	return c
}

// put commits one message and notes what was promised.
func (a *acknowledged) put(s *Spool, b []byte, opts ...CommitOption) (*Entry, error) {
	return a.putAbout(s, b, "", opts...)
}

// putAbout is put for the DSN that ends another entry.
func (a *acknowledged) putAbout(s *Spool, b []byte, about ID, opts ...CommitOption) (*Entry, error) {
	w, err := s.Create(context.Background(), envelope("someone@example.org"))
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	a.mu.Lock()
	a.maybe[w.ID()] = b
	if about != "" {
		a.settled[about] = w.ID()
		a.maybe[about] = a.bodies[about] // from here on it may be gone, but only for its DSN
		delete(a.bodies, about)
	}
	a.mu.Unlock()
	for p := b; len(p) > 0; {
		n := min(len(p), 20_000)
		if _, err := w.Write(p[:n]); err != nil {
			return nil, err
		}
		p = p[n:]
	}
	e, err := w.Commit(context.Background(), opts...)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.bodies[e.ID] = b
	delete(a.maybe, e.ID)
	a.mu.Unlock()
	return e, nil
}

func (a *acknowledged) gone(id ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.maybe[id] = a.bodies[id]
	delete(a.bodies, id)
}

// work is the scenario: small and large messages, a state, removals, a key, a
// DSN that settles another entry. Errors are expected; what is acknowledged
// in spite of them counts.
func (a *acknowledged) work(s *Spool, flush bool) {
	small, _ := a.put(s, body(1, 3000))
	large, _ := a.put(s, body(2, inlineMax+70_000))
	keyed, _ := a.put(s, body(3, 200), WithKey("confirm/1"))
	if keyed != nil {
		a.mu.Lock()
		a.keys["confirm/1"] = true
		a.mu.Unlock()
	}
	if small != nil {
		small.Attempts = 3
		small.Hold = "for a test"
		s.Update(small)
	}
	if large != nil {
		settled := *large
		settled.State = []RecipientState{{Done: true}}
		a.putAbout(s, body(4, 900), large.ID, Settling(&settled))
	}
	if keyed != nil {
		a.gone(keyed.ID)
		s.Remove(keyed.ID)
	}
	other, _ := a.put(s, body(5, inlineMax+1))
	if other != nil {
		a.gone(other.ID)
		s.Remove(other.ID)
	}
	a.put(s, body(6, 0))
	if flush { // a full memtable becomes a table: a new log, a table, the manifest
		await(s, s.db.AsyncFlush)
	}
	if s.MarkKeys("a", "b") == nil {
		a.mu.Lock()
		a.keys["a"], a.keys["b"] = true, true
		a.mu.Unlock()
	}
	a.put(s, body(7, inlineMax))
	if flush { // two tables become one, and go
		await(s, func() (struct{}, error) { return struct{}{}, s.db.Flush() })
		a.put(s, body(8, 100))
		await(s, func() (struct{}, error) {
			return struct{}{}, s.db.Compact(context.Background(), []byte("a"), []byte("z"), false)
		})
	}
}

// verify opens the file system as the next process would and compares.
func (a *acknowledged) verify(fs vfs.FS) error {
	s, err := Open(Options{Dir: "spool", FS: fs})
	if err != nil {
		return fmt.Errorf("opening again: %w", err)
	}
	defer s.Close()
	found := map[ID]bool{}
	err = s.Entries(func(e *Entry) error {
		found[e.ID] = true
		want, ok := a.bodies[e.ID]
		if !ok {
			if want, ok = a.maybe[e.ID]; !ok {
				return fmt.Errorf("%s is there and nobody knows it", e.ID)
			}
		}
		r, err := s.Body(e.ID)
		if err != nil {
			return fmt.Errorf("half there: %w", err)
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) || e.Size != int64(len(want)) {
			return fmt.Errorf("%s: %d octets for %d, %v", e.ID, len(got), len(want), err)
		}
		if e.Envelope.To[0].Address.String() != "someone@example.org" || len(e.State) != 1 {
			return fmt.Errorf("%s: another envelope: %+v", e.ID, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id := range a.bodies {
		if !found[id] {
			return fmt.Errorf("%s was acknowledged and is lost", id)
		}
	}
	for about, d := range a.settled {
		switch {
		case found[d] && found[about]:
			return fmt.Errorf("%s is there beside its DSN %s", about, d)
		case !found[d] && !found[about]:
			return fmt.Errorf("%s is lost: neither it nor its DSN %s is there", about, d)
		}
	}
	for key := range a.keys {
		if has, err := s.HasKey(key); !has || err != nil {
			return fmt.Errorf("key %q is lost, %v", key, err)
		}
	}
	names, err := s.fs.List(s.bodies)
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for id := range found {
		rec, _, err := s.get(entryKey(id))
		if err != nil {
			return err
		}
		named[fileOf(id, rec)] = true
	}
	for _, name := range names {
		if !named[name] {
			return fmt.Errorf("%s is an orphan and still there", name)
		}
	}
	if damaged, err := s.Damaged(); len(damaged) > 0 || err != nil {
		return fmt.Errorf("damaged: %v, %v", damaged, err)
	}
	return nil
}

// TestCrashAtEveryWrite cuts the power before each write operation of the
// scenario, with nothing or half of the unsynced data surviving.
func TestCrashAtEveryWrite(t *testing.T) {
	crashes := 0
	for _, percent := range []int{0, 50} {
		var seed uint64
		mem := newDisk()
		a := newAcknowledged()
		var mu sync.Mutex
		type moment struct {
			fs   *vfs.MemFS
			know *acknowledged
			op   errorfs.Op
		}
		var moments []moment
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if !isWrite(op) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if seed++; percent > 0 && seed%2 == 0 {
				return nil
			}
			know := a.clone() // before the clone: what is acknowledged after may be there
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: percent}
			if percent > 0 {
				cfg.RNG = rand.New(rand.NewPCG(seed, 1))
			}
			moments = append(moments, moment{mem.CrashClone(cfg), know, op})
			return nil
		}))
		s, err := Open(Options{Dir: "spool", FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		a.work(s, true)
		s.Close()
		if len(moments) < 40 || len(a.bodies) < 4 {
			t.Fatalf("the scenario is too short: %d operations, %d messages", len(moments), len(a.bodies))
		}
		final := a.clone()
		for k, m := range moments {
			crashes++
			// What was under way when the power went may be there as well.
			for id, b := range final.bodies {
				if _, ok := m.know.bodies[id]; !ok {
					m.know.maybe[id] = b
				}
			}
			for id, b := range final.maybe {
				// A removal that had not begun is no excuse.
				if _, ok := m.know.bodies[id]; !ok {
					m.know.maybe[id] = b
				}
			}
			if err := m.know.verify(m.fs); err != nil {
				t.Errorf("%d%%: crash before operation %d (%v %s): %v", percent, k, m.op.Kind, m.op.Path, err)
			}
		}
	}
	t.Logf("%d crashes", crashes)
}

// TestFailureAtEveryWrite makes the kth write operation fail, once and from
// then on, and then cuts the power.
func TestFailureAtEveryWrite(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		always bool
		flush  bool // with work on tables in the scenario

		patience time.Duration
	}{
		{"once", errorfs.ErrInjected, false, false, 2 * time.Minute},
		{"disk full from then on", errNoSpace, true, false, 80 * time.Millisecond},
		{"once, with tables", errorfs.ErrInjected, false, true, 2 * time.Minute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			for k := int64(1); ; k++ {
				mem := newDisk()
				var n atomic.Int64
				fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
					if !isWrite(op) {
						return nil
					}
					if i := n.Add(1); i == k || test.always && i > k {
						return test.err
					}
					return nil
				}))
				a := newAcknowledged()
				s, err := openTuned(Options{Dir: "spool", FS: fs}, tuning{memory: 8 << 20, patience: test.patience, upgrades: upgrades()})
				if err == nil {
					a.work(s, test.flush)
					if full := s.Err(); full != nil && errors.Is(test.err, errNoSpace) && !errors.Is(full, ErrFull) && !strings.Contains(full.Error(), "no answer") { // the machine was slow

						t.Errorf("operation %d: a full disk became %v", k, full)
					}
				}
				if err := a.verify(mem.CrashClone(vfs.CrashCloneCfg{})); err != nil {
					t.Errorf("operation %d failing: %v", k, err)
				}
				if err == nil {
					s.Close()
				}
				empty(mem)
				if n.Load() < k {
					t.Logf("%d operations", k-1)
					return
				}
				if k > 500 {
					t.Fatal("the scenario does not end")
				}
			}
		})
	}
}

// TestManyWritersCrash lets writers race, each commit grouped with others, and
// cuts the power at moments of their own choosing.
func TestManyWritersCrash(t *testing.T) {
	mem := newDisk()
	s, err := Open(Options{Dir: "spool", FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := newAcknowledged()
	type moment struct {
		fs   *vfs.MemFS
		know *acknowledged
	}
	var mu sync.Mutex
	var moments []moment
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 12 {
				n := 500
				if i%6 == 5 {
					n = inlineMax + 500
				}
				if _, err := a.put(s, body(100*w+i, n)); err != nil {
					t.Error(err)
				}
				if i%6 == w%6 { // while the other writers are at it
					know := a.clone()
					m := moment{mem.CrashClone(vfs.CrashCloneCfg{}), know}
					mu.Lock()
					moments = append(moments, m)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	final := a.clone()
	for k, m := range moments {
		for id, b := range final.bodies {
			if _, ok := m.know.bodies[id]; !ok {
				m.know.maybe[id] = b
			}
		}
		if err := m.know.verify(m.fs); err != nil {
			t.Errorf("crash %d: %v", k, err)
		}
	}
}
