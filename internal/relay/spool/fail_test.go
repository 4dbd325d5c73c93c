package spool

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A logBuffer keeps log lines of any goroutine.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.buf.String(), s)
}

// A faulty is a spool on a disk whose changes can be made to fail.
type faulty struct {
	*Spool
	disk disk
	log  logBuffer
	know *acknowledged
	hook atomic.Pointer[func(errorfs.Op) error] // asked before each change of the disk
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{disk: newDisk(), know: newAcknowledged()}
	fs := errorfs.Wrap(f.disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if hook := f.hook.Load(); hook != nil && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return (*hook)(op)
		}
		return nil
	}))
	var err error
	o := Options{Dir: "spool", FS: fs, Logger: slog.New(slog.NewTextHandler(&f.log, nil))}
	f.Spool, err = openTuned(o, tuning{memory: 512 << 10, patience: 2 * time.Minute, upgrades: upgrades()})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *faulty) on(hook func(errorfs.Op) error) { f.hook.Store(&hook) }

// ends checks how a spool ends whose engine has failed: it refuses, and Close
// returns and says so, as does the log, once. What was acknowledged is there
// for the next process.
func (f *faulty) ends(t *testing.T) {
	t.Helper()
	if _, err := f.know.put(f.Spool, []byte("too late")); !errors.Is(err, ErrFailed) {
		t.Errorf("a message after the failure: %v", err)
	}
	for id := range f.know.bodies {
		_, getErr := f.Get(id)
		_, bodyErr := f.Body(id)
		for _, err := range []error{getErr, bodyErr, f.Remove(id), f.Entries(func(*Entry) error { return nil })} {
			if !errors.Is(err, ErrFailed) || errors.Is(err, ErrDamaged) {
				t.Errorf("reading after the failure: %v", err)
			}
		}
		break
	}
	if err := f.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("Close: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if n := f.log.count("event=spool.failed"); n != 1 {
		t.Errorf("the failure is logged %d times", n)
	}
	if err := f.know.verify(f.disk.CrashClone(vfs.CrashCloneCfg{})); err != nil {
		t.Error(err)
	}
	empty(f.disk)
}

// fill stores messages from several writers at once until each has met an
// error, and returns one of them. None may wait for ever.
func (f *faulty) fill(t *testing.T) (err error) {
	t.Helper()
	var mu sync.Mutex
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			b := body(w, inlineMax)
			for range 1000 {
				if _, failed := f.know.put(f.Spool, b); failed != nil {
					mu.Lock()
					defer mu.Unlock()
					err = failed
					return
				}
			}
			t.Errorf("writer %d met no error", w)
		})
	}
	writers.Wait()
	return err
}

// TestTheEngineFailsWhileTheSpoolCloses has the manifest fail in a flush that
// Close waits for. Pebble's own Close then waits for ever.
func TestTheEngineFailsWhileTheSpoolCloses(t *testing.T) {
	f := newFaulty(t)
	if _, err := f.know.put(f.Spool, body(1, 100)); err != nil {
		t.Fatal(err)
	}
	flushing, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.on(func(op errorfs.Op) error {
		if !strings.Contains(op.Path, "MANIFEST") {
			return nil
		}
		once.Do(func() { close(flushing) })
		<-release
		return errorfs.ErrInjected
	})
	if _, err := await(f.Spool, f.db.AsyncFlush); err != nil {
		t.Fatal(err)
	}
	<-flushing
	closed := make(chan error)
	go func() { closed <- f.Close() }()
	for !engineClosed(f.Spool) {
		runtime.Gosched()
	}
	close(release)
	if err := <-closed; !errors.Is(err, ErrFailed) {
		t.Errorf("Close: %v", err)
	}
	if n := f.log.count("event=spool.failed"); n != 1 {
		t.Errorf("the failure is logged %d times", n)
	}
	if err := f.know.verify(f.disk.CrashClone(vfs.CrashCloneCfg{})); err != nil {
		t.Error(err)
	}
}

// engineClosed reports whether the engine's Close has begun to wait.
func engineClosed(s *Spool) (closed bool) {
	defer func() { closed = recover() != nil }()
	_, closer, err := s.db.Get(keyFormat)
	if err == nil {
		closer.Close()
	}
	return false
}

// TestLogFailures lets each operation on the engine's log fail while several
// clients store messages. All of them hear of it, and the process goes on.
func TestLogFailures(t *testing.T) {
	isLogOp := func(kinds ...errorfs.OpKind) func(errorfs.Op) bool {
		return func(op errorfs.Op) bool { return isLog(op.Path) && slices.Contains(kinds, op.Kind) }
	}
	for name, hits := range map[string]func(errorfs.Op) bool{
		"begin":  isLogOp(errorfs.OpCreate, errorfs.OpReuseForWrite),
		"write":  isLogOp(errorfs.OpFileWrite),
		"sync":   isLogOp(errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo),
		"folder": func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileSync && path.Base(op.Path) == "engine" },
	} {
		for _, cause := range []error{errorfs.ErrInjected, errNoSpace} {
			if (name == "begin" || name == "write") && errors.Is(cause, errNoSpace) {
				continue // TestALogWithoutRoomWaits
			}
			t.Run(fmt.Sprintf("%s/%v", name, cause), func(t *testing.T) {
				f := newFaulty(t)
				var spare atomic.Int64
				f.on(func(op errorfs.Op) error {
					if hits(op) && spare.Add(1) > 3 {
						return cause
					}
					return nil
				})
				err := f.fill(t)
				if !errors.Is(err, ErrFailed) || errors.Is(err, ErrFull) != errors.Is(cause, errNoSpace) {
					t.Errorf("a client hears %v", err)
				}
				f.ends(t)
			})
		}
	}
}

// TestTablesThatCannotBeWritten has every flush fail. Messages are taken until
// the engine's memory is full; then the engine would wait for ever. It tries a
// flush again and again, but not as fast as it can.
func TestTablesThatCannotBeWritten(t *testing.T) {
	f := newFaulty(t)
	f.on(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".sst") {
			return errorfs.ErrInjected
		}
		return nil
	})
	f.patience = time.Second
	start := time.Now()
	if err := f.fill(t); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "no answer in 1s") {
		t.Errorf("a client hears %v", err)
	}
	f.ends(t)
	if tries, most := testutil.ToFloat64(f.metrics.background), 2+float64(time.Since(start)/brakeFor); tries > most {
		t.Errorf("a flush was tried %v times; %v is the most", tries, most)
	}
}

// TestADiskThatHangs has the disk not answer.
func TestADiskThatHangs(t *testing.T) {
	f := newFaulty(t)
	release := make(chan struct{})
	defer close(release)
	f.on(func(op errorfs.Op) error {
		if isLog(op.Path) && op.Kind == errorfs.OpFileSyncData {
			<-release
		}
		return nil
	})
	f.patience = 50 * time.Millisecond
	if err := f.fill(t); !errors.Is(err, ErrFailed) {
		t.Errorf("a client hears %v", err)
	}
	f.ends(t)
}

// TestASlowDiskIsLogged has one sync take longer than pebble finds right.
func TestASlowDiskIsLogged(t *testing.T) {
	t.Parallel() // it takes seconds, and no work
	f := newFaulty(t)
	f.on(func(op errorfs.Op) error {
		if !isLog(op.Path) || op.Kind != errorfs.OpFileSyncData {
			return nil
		}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for f.log.count("event=spool.slow") == 0 {
			<-tick.C
		}
		return nil
	})
	if _, err := f.know.put(f.Spool, body(1, 100)); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestAFailedEngineChangesNothing asks for each change of the disk after a
// failure: the goroutine that does waits, and the disk is as it was.
func TestAFailedEngineChangesNothing(t *testing.T) {
	mem := vfs.NewMem()
	g := &guard{FS: mem, s: newFaulty(t).Spool}
	var files [2]vfs.File
	for i, name := range []string{"a", "b.log"} {
		f, err := g.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	g.s.fail(errorfs.ErrInjected)
	ops := map[string]func(){
		"Create":        func() { g.Create("c", vfs.WriteCategoryUnspecified) },
		"OpenReadWrite": func() { g.OpenReadWrite("c", vfs.WriteCategoryUnspecified) },
		"ReuseForWrite": func() { g.ReuseForWrite("b.log", "c", vfs.WriteCategoryUnspecified) },
		"Link":          func() { g.Link("a", "c") },
		"Rename":        func() { g.Rename("a", "c") },
		"Remove":        func() { g.Remove("a") },
		"RemoveAll":     func() { g.RemoveAll("a") },
		"Write":         func() { files[0].Write([]byte("x")) },
		"WriteAt":       func() { files[1].WriteAt([]byte("x"), 0) },
		"Sync":          func() { files[0].Sync() },
		"SyncData":      func() { files[1].SyncData() },
		"SyncTo":        func() { files[1].SyncTo(0) },
		"Close":         func() { files[1].Close() },
	}
	for name, op := range ops {
		go func() {
			op()
			t.Errorf("%s returned", name)
		}()
	}
	for parked(t.Name()) < len(ops) && !t.Failed() {
		runtime.Gosched()
	}
	if _, err := mem.Stat("c"); !isNotExist(err) {
		t.Errorf("a file was made: %v", err)
	}
	for _, name := range []string{"a", "b.log"} {
		if info, err := mem.Stat(name); err != nil || info.Size() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// parked counts the goroutines made by one test that will never go on.
func parked(test string) (n int) {
	stacks := make([]byte, 1<<20)
	for {
		size := runtime.Stack(stacks, true)
		if size < len(stacks) {
			stacks = stacks[:size]
			break
		}
		stacks = make([]byte, 2*len(stacks))
	}
	for one := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(one, "[select (no cases)") && strings.Contains(one, "spool."+test+" in goroutine") {
			n++
		}
	}
	return n
}

// A brokenFile cannot be closed.
type brokenFile struct{ vfs.File }

func (brokenFile) Close() error { return errorfs.ErrInjected }

// TestALogThatCannotBeClosed: on some disks that is when a write fails.
func TestALogThatCannotBeClosed(t *testing.T) {
	f := newFaulty(t)
	g := &guard{s: f.Spool}
	g.armed.Store(true)
	table := &guardedFile{brokenFile{}, g, false}
	if err := table.Close(); !errors.Is(err, errorfs.ErrInjected) || f.Err() != nil {
		t.Errorf("a table: %v, %v", err, f.Err())
	}
	log := &guardedFile{brokenFile{}, g, true}
	if _, err := await(f.Spool, func() (int, error) { return 0, log.Close() }); !errors.Is(err, ErrFailed) {
		t.Errorf("a log: %v", err)
	}
	f.ends(t)
}

// TestReadersEndWithTheEngine has the engine fail while an operator's list is
// read: the manifest cannot be written, and the lock is held that a reader
// takes when it ends.
func TestReadersEndWithTheEngine(t *testing.T) {
	f := newFaulty(t)
	for i := range 3 {
		if _, err := f.know.put(f.Spool, body(i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	f.on(func(op errorfs.Op) error {
		if strings.Contains(op.Path, "MANIFEST") {
			return errorfs.ErrInjected
		}
		return nil
	})
	var once sync.Once
	err := f.Entries(func(e *Entry) error {
		once.Do(func() {
			if _, err := await(f.Spool, f.db.AsyncFlush); err != nil && !errors.Is(err, ErrFailed) {
				t.Error(err)
			}
			<-f.Failed()
		})
		return nil
	})
	if !errors.Is(err, ErrFailed) {
		t.Errorf("Entries: %v", err)
	}
	f.ends(t)
}

// TestAnEngineThatPanics: the first failure counts.
func TestAnEngineThatPanics(t *testing.T) {
	f := newFaulty(t)
	for _, cause := range []any{errorfs.ErrInjected, "a string"} {
		_, err := await(f.Spool, func() (int, error) { panic(cause) })
		if !errors.Is(err, ErrFailed) || !errors.Is(err, errorfs.ErrInjected) {
			t.Errorf("after a panic: %v", err)
		}
	}
	f.ends(t)
}
