package blocks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/durable"
)

// A disk does what durable.WriteFile does, step by step, and stops at one:
// with an error, or as in a crash.
type disk struct {
	step  atomic.Int32 // that fails, from 1; 0: none does
	crash bool
	lost  bool // what a crash finds renamed and not synced is not there
}

var (
	errDisk  = errors.New("the disk is broken")
	errCrash = errors.New("crash")
)

const steps = 5 // make, write, sync, rename, sync the folder

func failing(step int32, crash, lost bool) *disk {
	d := &disk{crash: crash, lost: lost}
	d.step.Store(step)
	return d
}

func (d *disk) write(path string, data []byte, perm os.FileMode) (err error) {
	old, _ := os.ReadFile(path)
	at := int32(0)
	next := func() error {
		if at++; at != d.step.Load() {
			return nil
		}
		if d.crash {
			return errCrash
		}
		return errDisk
	}
	temp := path + ".tmp"
	defer func() {
		if errors.Is(err, errCrash) {
			if d.lost && at == steps {
				os.WriteFile(path, old, perm)
			}
			panic(errCrash)
		}
		if err != nil {
			os.Remove(temp)
		}
	}()
	for _, do := range []func() error{
		func() error { return os.WriteFile(temp, nil, perm) },
		func() error { return os.WriteFile(temp, data[:len(data)/2], perm) },
		func() error { return os.WriteFile(temp, data, perm) },
		func() error { return os.Rename(temp, path) },
		func() error { return durable.SyncDir(filepath.Dir(path)) },
	} {
		if err := errors.Join(next(), do()); err != nil {
			if at == 4 && !d.crash { // a rename that fails has not happened
				os.WriteFile(path, old, perm)
			}
			return err
		}
	}
	return nil
}

// crashes runs f and reports whether it crashed.
func crashes(f func()) (crashed bool) {
	defer func() {
		if r := recover(); r != nil {
			if r != errCrash {
				panic(r)
			}
			crashed = true
		}
	}()
	f()
	return false
}

// TestEachStepOfTheDiskFails: whichever it is, a new block is in force and the
// caller knows that it is not safe; one that is taken back stays; and the blocks
// of others are never touched.
func TestEachStepOfTheDiskFails(t *testing.T) {
	for step := int32(1); step <= steps; step++ {
		t.Run(fmt.Sprint("step ", step), func(t *testing.T) {
			dir := t.TempDir()
			d := &disk{}
			l := open(t, Options{Dir: dir, Write: d.write})
			add(t, l, floor, "others", 0)
			d.step.Store(step)
			if b, _, err := l.Add(mfp, "spam", 0); !errors.Is(err, ErrUnsaved) || !errors.Is(err, errDisk) || b.Prefix != mfp {
				t.Errorf("%v", err)
			}
			if got := names(l.Set().All()); got != "192.0.2.0/24 192.0.2.21" {
				t.Errorf("in force: %s", got)
			}
			if s := l.State(); !strings.Contains(s.Unsaved, "broken") {
				t.Errorf("%+v", s)
			}
			if got := names(open(t, Options{Dir: dir}).Set().All()); !strings.HasPrefix(got, "192.0.2.0/24") {
				t.Errorf("after a restart: %s", got)
			}
			if _, err := l.Remove(floor); !errors.Is(err, errDisk) {
				t.Errorf("%v", err)
			}
			if got := names(l.Set().All()); got != "192.0.2.0/24 192.0.2.21" {
				t.Errorf("after it was not taken back: %s", got)
			}
			d.step.Store(0)
			l.retry()
			if got := names(open(t, Options{Dir: dir}).Set().All()); got != "192.0.2.0/24 192.0.2.21" || l.State().Unsaved != "" {
				t.Errorf("after it could be saved: %s, %+v", got, l.State())
			}
		})
	}
}

// TestTheDiskIsBroughtBack where it has gone ahead of a removal that failed.
func TestTheDiskIsBroughtBack(t *testing.T) {
	dir := t.TempDir()
	d := failing(0, false, false)
	l := open(t, Options{Dir: dir, Write: d.write})
	add(t, l, mfp, "spam", 0)
	d.step.Store(steps)
	if _, err := l.Remove(mfp); !errors.Is(err, errDisk) || l.State().Unsaved == "" {
		t.Fatalf("%v, %+v", err, l.State())
	}
	d.step.Store(0)
	l.retry()
	if got := names(open(t, Options{Dir: dir}).Set().All()); got != "192.0.2.21" || l.State().Unsaved != "" {
		t.Errorf("after a restart: %q, %+v", got, l.State())
	}
}

// TestACrashAtEachStep: what was told is so, and what was not is one or the
// other; nothing else is lost.
func TestACrashAtEachStep(t *testing.T) {
	for step := int32(1); step <= steps; step++ {
		for _, lost := range []bool{false, true} {
			dir := t.TempDir()
			l := open(t, Options{Dir: dir})
			add(t, l, floor, "others", 0)
			l.o.Write = failing(step, true, lost).write
			if !crashes(func() { _, _, _ = l.Add(mfp, "spam", 0) }) {
				t.Fatal("no crash")
			}
			l = open(t, Options{Dir: dir})
			if got := names(l.Set().All()); got != "192.0.2.0/24" && got != "192.0.2.0/24 192.0.2.21" || l.State().Damaged != "" {
				t.Errorf("step %d, adding: %s, %+v", step, got, l.State())
			}
			l.o.Write = failing(step, true, lost).write
			if !crashes(func() { _, _ = l.Remove(floor) }) {
				t.Fatal("no crash")
			}
			if got := names(l.Set().All()); !strings.HasPrefix(got, "192.0.2.0/24") {
				t.Errorf("step %d: lifted before it was on the disk", step)
			}
			if l = open(t, Options{Dir: dir}); l.State().Damaged != "" {
				t.Errorf("step %d, removing: %+v", step, l.State())
			}
		}
	}
}

// TestASlowDiskGivesNobodyTime: a block is in force while the disk still works
// on it, and on the one before.
func TestASlowDiskGivesNobodyTime(t *testing.T) {
	hang := make(chan struct{})
	l := open(t, Options{Dir: t.TempDir(), Write: func(path string, data []byte, perm os.FileMode) error {
		<-hang
		return durable.WriteFile(path, data, perm)
	}})
	inForce := make(chan string, 2)
	l.o.Changed = func(s *Set) { inForce <- names(s.All()) }
	var all sync.WaitGroup
	all.Go(func() { add(t, l, mfp, "spam", 0) })
	if got := <-inForce; got != "192.0.2.21" {
		t.Errorf("%s", got)
	}
	all.Go(func() { add(t, l, floor, "spam", 0) })
	if got := <-inForce; got != "192.0.2.0/24 192.0.2.21" {
		t.Errorf("%s", got)
	}
	close(hang)
	all.Wait()
	if got := names(open(t, Options{Dir: l.o.Dir}).Set().All()); got != "192.0.2.0/24 192.0.2.21" {
		t.Errorf("after a restart: %s", got)
	}
}

// TestABlockThatComesWhileOneIsTakenBack is not taken back with it.
func TestABlockThatComesWhileOneIsTakenBack(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	add(t, l, mfp, "old", 0)
	var again sync.WaitGroup
	first := true
	l.o.Write = func(path string, data []byte, perm os.FileMode) error {
		if first {
			first = false
			began := make(chan struct{})
			l.o.Changed = func(*Set) { l.o.Changed = func(*Set) {}; close(began) }
			again.Go(func() { add(t, l, mfp, "new", 0) })
			<-began // in force; its own save waits for ours
		}
		return durable.WriteFile(path, data, perm)
	}
	if _, err := l.Remove(mfp); err != nil {
		t.Fatal(err)
	}
	again.Wait()
	for _, l := range []*List{l, open(t, Options{Dir: dir})} {
		if b, ok := l.Set().Command(mfp); !ok || b.Reason != "new" {
			t.Errorf("%+v, %v", b, ok)
		}
	}
}

// TestWhatIsNotSavedIsTriedAgain each minute, and told once.
func TestWhatIsNotSavedIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		d := failing(3, false, false)
		l := open(t, Options{Dir: dir, Now: time.Now, Write: d.write, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = l.Run(ctx) })
		if _, _, err := l.Add(mfp, "spam", 0); !errors.Is(err, ErrUnsaved) {
			t.Fatal(err)
		}
		<-time.After(10 * retryFor)
		synctest.Wait()
		d.step.Store(0)
		<-time.After(2 * retryFor)
		synctest.Wait()
		if got := names(open(t, Options{Dir: dir, Now: time.Now}).Set().All()); got != "192.0.2.21" || l.State().Unsaved != "" {
			t.Errorf("%s, %+v", got, l.State())
		}
		if strings.Count(log.String(), "block.unsaved") != 1 || strings.Count(log.String(), "block.saved") != 1 {
			t.Errorf("%s", log.String())
		}
		cancel()
		running.Wait()
	})
}
