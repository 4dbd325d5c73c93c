package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// filled is a disk with a spool on it that was closed in order, or not, and
// what is known of it: messages in tables and in the log, short and long, one
// with a state, one put aside as damaged.
func filled(t *testing.T, crashed bool) (disk, *acknowledged) {
	t.Helper()
	mem := newDisk()
	s, err := Open(Options{Dir: "spool", FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	a := newAcknowledged()
	a.work(s, true) // the first half is in tables
	if e, err := a.put(s, body(20, 500)); err == nil {
		e.Attempts = 2
		err = s.Update(e)
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if _, err := a.put(s, body(30+i, 1000+i*inlineMax)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if crashed {
		return disk{mem.CrashClone(vfs.CrashCloneCfg{})}, a
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return mem, a
}

// readAll reads a spool by every call that reads. What it is told without an
// error must be true; errors are expected.
func (a *acknowledged) readAll(s *Spool) error {
	found := map[ID]bool{}
	one := func(e *Entry) error {
		found[e.ID] = true
		want, ok := a.bodies[e.ID]
		if !ok {
			want, ok = a.maybe[e.ID]
		}
		if !ok || e.Size != int64(len(want)) {
			return fmt.Errorf("%s with %d octets, and nobody knows it", e.ID, e.Size)
		}
		r, err := s.Body(e.ID)
		if err != nil {
			return nil
		}
		defer r.Close()
		if got, err := io.ReadAll(r); err == nil && !bytes.Equal(got, want) {
			return fmt.Errorf("%s: another body without an error", e.ID)
		}
		return nil
	}
	var wrong error
	err := s.Entries(func(e *Entry) error { wrong = one(e); return wrong })
	if wrong != nil {
		return wrong
	}
	for id := range a.bodies {
		if !found[id] && err == nil {
			return fmt.Errorf("%s is passed over without an error", id)
		}
		e, err := s.Get(id)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%s is not found", id)
		}
		if err == nil {
			if err := one(e); err != nil {
				return err
			}
		}
	}
	for key := range a.keys {
		if has, err := s.HasKey(key); err == nil && !has {
			return fmt.Errorf("key %q is not found", key)
		}
	}
	return nil
}

// TestReadErrors has the kth read of the disk fail, once or from then on, while
// a spool is opened and read. What is read in spite of it is right; nothing is
// put aside, removed or forgotten for it; and the next process has everything.
func TestReadErrors(t *testing.T) {
	for name, crashed := range map[string]bool{"closed": false, "crashed": true} {
		for mode, always := range map[string]bool{"once": false, "from then on": true} {
			t.Run(name+", "+mode, func(t *testing.T) {
				mem, a := filled(t, crashed)
				opened := 0
				for k := int64(1); ; k++ {
					clone := mem.CrashClone(vfs.CrashCloneCfg{})
					var n atomic.Int64
					fs := errorfs.Wrap(clone, errorfs.InjectorFunc(func(op errorfs.Op) error {
						if op.Kind.ReadOrWrite() != errorfs.OpIsRead {
							return nil
						}
						if i := n.Add(1); i == k || always && i > k {
							return errorfs.ErrInjected
						}
						return nil
					}))
					s, err := openTuned(Options{Dir: "spool", FS: fs}, tuning{memory: 512 << 10, patience: 10 * time.Second, upgrades: upgrades()})
					if err == nil {
						opened++
						if err := a.readAll(s); err != nil {
							t.Errorf("read %d failing: %v", k, err)
						}
						s.Close()
					}
					if err := a.verify(clone); err != nil {
						t.Errorf("after read %d failed: %v", k, err)
					}
					if n.Load() < k {
						t.Logf("%d reads; the spool opened %d times", k-1, opened)
						break
					}
					if k > 2000 {
						t.Fatal("it does not end")
					}
				}
				if opened < 2 {
					t.Error("no read failed but at the start")
				}
			})
		}
	}
}

// TestABodyThatCannotBeOpenedNow is not damaged: the message is tried again.
func TestABodyThatCannotBeOpenedNow(t *testing.T) {
	mem, a := filled(t, false)
	broken := false
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken && op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return syscall.EMFILE
		}
		return nil
	}))
	s := open(t, fs)
	for _, broken = range []bool{true, false} {
		for id, want := range a.bodies {
			got, err := read(t, s, id)
			switch {
			case errors.Is(err, ErrDamaged), errors.Is(err, ErrNotFound):
				t.Errorf("%s: %v", id, err)
			case err == nil && !bytes.Equal(got, want), err != nil && !broken:
				t.Errorf("%s: %d octets, %v", id, len(got), err)
			}
		}
	}
}

// TestNoSpaceByKind has each kind of file find no space, or a disk that became
// read-only, from the kth write on, and then room again. Clients hear ErrFull,
// what was acknowledged is there, and if the engine lives, messages are taken
// again by themselves.
func TestNoSpaceByKind(t *testing.T) {
	kinds := map[string]func(name string) bool{
		"bodies":   func(name string) bool { return strings.Contains(name, "bodies") },
		"tables":   func(name string) bool { return strings.HasSuffix(name, ".sst") },
		"manifest": func(name string) bool { return strings.Contains(path.Base(name), "MANIFEST") },
		"log":      isLog,
	}
	for kind, of := range kinds {
		for _, cause := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EDQUOT} {
			t.Run(fmt.Sprintf("%s/%v", kind, cause), func(t *testing.T) {
				t.Parallel() // it waits more than it works
				lived := 0
				for k := int64(1); ; k++ {
					f := newFaulty(t)
					var n atomic.Int64
					f.on(func(op errorfs.Op) error {
						if of(op.Path) && op.Kind != errorfs.OpRemove && op.Kind != errorfs.OpFileClose && n.Add(1) >= k {
							return cause
						}
						return nil
					})
					f.patience = 100 * time.Millisecond
					var refusals []error
					for i := range 12 {
						if _, err := f.know.put(f.Spool, body(i, 40_000+i%2*inlineMax)); err != nil {
							refusals = append(refusals, err)
						}
					}
					await(f.Spool, f.db.AsyncFlush)
					if _, err := f.know.put(f.Spool, body(50, 100)); err != nil {
						refusals = append(refusals, err)
					}
					for _, err := range refusals {
						if !errors.Is(err, ErrFull) {
							t.Errorf("write %d: a client hears %v", k, err)
						}
					}
					met := n.Load() >= k
					f.on(func(errorfs.Op) error { return nil })
					for f.Err() == nil && f.Accepting() != nil {
						runtime.Gosched() // until the log is tried again
					}
					if f.Err() == nil {
						lived++
						if _, err := f.know.put(f.Spool, body(60, 2*inlineMax)); err != nil {
							t.Errorf("write %d: with room again: %v", k, err)
						}
					}
					if err := f.know.verify(f.disk.CrashClone(vfs.CrashCloneCfg{})); err != nil {
						t.Errorf("write %d: %v", k, err)
					}
					f.Close()
					empty(f.disk)
					if !met || k >= 12 {
						break
					}
				}
				if lived == 0 {
					t.Error("the engine never lived")
				}
			})
		}
	}
}

// TestALogWithoutRoomWaits has the engine's log find no room, when it is written
// or when a new one begins, as others fill the disk. Clients are told so, at
// once after the first; what was accepted is read and its end is noted. With
// room again messages are taken by themselves.
func TestALogWithoutRoomWaits(t *testing.T) {
	for name, kinds := range map[string][]errorfs.OpKind{
		"begin": {errorfs.OpCreate, errorfs.OpReuseForWrite},
		"write": {errorfs.OpFileWrite},
	} {
		for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
			t.Run(fmt.Sprintf("%s/%v", name, cause), func(t *testing.T) {
				f := newFaulty(t)
				large, err := f.know.put(f.Spool, body(1, 2*inlineMax))
				if err != nil {
					t.Fatal(err)
				}
				small, err := f.know.put(f.Spool, body(2, 100))
				if err != nil {
					t.Fatal(err)
				}
				f.patience = 300 * time.Millisecond
				f.on(func(op errorfs.Op) error {
					if isLog(op.Path) && slices.Contains(kinds, op.Kind) {
						return cause
					}
					return nil
				})
				if name == "write" {
					_, err = f.know.put(f.Spool, body(4, 100))
				} else {
					err = f.fill(t) // until a log is full
				}
				if !errors.Is(err, ErrFull) || errors.Is(err, ErrFailed) {
					t.Errorf("a client hears %v", err)
				}
				if err := f.Accepting(); !errors.Is(err, ErrFull) || !errors.Is(err, cause) {
					t.Errorf("Accepting: %v", err)
				}
				if n := f.log.count("event=spool.full"); n != 1 {
					t.Errorf("it is logged %d times", n)
				}
				for _, e := range []*Entry{large, small} {
					if got, err := read(t, f.Spool, e.ID); err != nil || !bytes.Equal(got, f.know.bodies[e.ID]) {
						t.Errorf("reading meanwhile: %v", err)
					}
				}
				if name == "write" { // what does not wait for the disk goes on
					small.Attempts = 1
					if err := f.Update(small); err != nil {
						t.Errorf("Update: %v", err)
					}
				}
				f.on(func(errorfs.Op) error { return nil })
				for f.Accepting() != nil {
					runtime.Gosched()
				}
				if _, err := f.know.put(f.Spool, body(3, 100)); err != nil {
					t.Errorf("with room again: %v", err)
				}
				if e, err := f.Get(small.ID); err != nil || name == "write" && e.Attempts != 1 {
					t.Errorf("%+v, %v", e, err)
				}
				if err := f.know.verify(f.disk.CrashClone(vfs.CrashCloneCfg{})); err != nil {
					t.Error(err)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A tearing disk calls torn in the middle of each write, when only a part of it
// has reached the file.
type tearing struct {
	disk
	torn func(name string)
}

type tornFile struct {
	vfs.File
	name string
	d    *tearing
}

func (d *tearing) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &tornFile{f, name, d}, nil
}

func (d *tearing) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.disk.Create(name, c)
	return d.wrap(name, f, err)
}

func (d *tearing) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.disk.ReuseForWrite(oldname, newname, c)
	return d.wrap(newname, f, err)
}

func (d *tearing) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.disk.OpenReadWrite(name, c, o...)
	return d.wrap(name, f, err)
}

func (f *tornFile) Write(p []byte) (int, error) {
	if len(p) < 2 {
		return f.File.Write(p)
	}
	half := len(p)/3 + 1
	n, err := f.File.Write(p[:half])
	if err != nil {
		return n, err
	}
	f.d.torn(f.name)
	m, err := f.File.Write(p[half:])
	return n + m, err
}

// TestTornWrites cuts the power in the middle of each write: a part of it and
// all or some of what was not synced before survive, in pages of any order.
func TestTornWrites(t *testing.T) {
	type moment struct {
		fs   *vfs.MemFS
		know *acknowledged
		name string
	}
	for _, percent := range []int{100, 70, 30} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			a := newAcknowledged()
			var moments []moment
			lock := make(chan struct{}, 1)
			rng := rand.New(rand.NewPCG(uint64(percent), 2))
			d := &tearing{disk: newDisk()}
			d.torn = func(name string) {
				lock <- struct{}{}
				defer func() { <-lock }()
				know := a.clone()
				moments = append(moments, moment{d.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}), know, name})
			}
			s, err := Open(Options{Dir: "spool", FS: d})
			if err != nil {
				t.Fatal(err)
			}
			a.work(s, true)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			final := a.clone()
			kinds := map[string]int{}
			for k, m := range moments {
				kind := path.Ext(m.name)
				if strings.Contains(m.name, "bodies") {
					kind = "body"
				}
				kinds[kind]++
				for id, b := range final.bodies {
					if _, ok := m.know.bodies[id]; !ok {
						m.know.maybe[id] = b
					}
				}
				for id, b := range final.maybe {
					if _, ok := m.know.bodies[id]; !ok {
						m.know.maybe[id] = b
					}
				}
				if err := m.know.verify(m.fs); err != nil {
					t.Errorf("torn write %d, of %s: %v", k, m.name, err)
				}
			}
			t.Logf("%d torn writes: %v", len(moments), kinds)
			for _, ext := range []string{".log", ".sst", "body"} {
				if kinds[ext] == 0 {
					t.Errorf("no write of a %s was torn", ext)
				}
			}
		})
	}
}
