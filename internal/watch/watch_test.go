package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

const debounce = 20 * time.Millisecond

// never is a poll that no test lives to see, so that events alone must do.
const never = time.Hour

// watching runs a watch of paths and gives the notices; the test's end waits
// for it.
func watching(t *testing.T, poll time.Duration, paths ...string) <-chan struct{} {
	t.Helper()
	w, err := New(paths)
	if err != nil {
		t.Fatal(err)
	}
	if w.notify == nil {
		t.Skip("no inotify here")
	}
	ctx, cancel := context.WithCancel(t.Context())
	notices, done := make(chan struct{}, 100), make(chan error, 1)
	go func() { done <- w.Run(ctx, debounce, poll, func() { notices <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return notices
}

func expect(t *testing.T, notices <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-notices:
	case <-time.After(10 * time.Second):
		t.Fatalf("no notice of: %s", what)
	}
}

func expectNone(t *testing.T, notices <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-notices:
		t.Fatalf("a notice of: %s", what)
	case <-time.After(8 * debounce):
	}
}

// write replaces a file in one step, so that a change is one change.
func write(t *testing.T, path, text string) {
	t.Helper()
	writeInPlace(t, path+".new", text)
	do(t, os.Rename(path+".new", path))
}

func writeInPlace(t *testing.T, path, text string) {
	t.Helper()
	do(t, os.WriteFile(path, []byte(text), 0o600))
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSaveIsNoticed(t *testing.T) {
	for name, save := range map[string]func(t *testing.T, path string){
		"written in place": func(t *testing.T, path string) { writeInPlace(t, path, "new") },
		"renamed over":     func(t *testing.T, path string) { write(t, path, "new") },
		"backup, then a new file (vim)": func(t *testing.T, path string) {
			do(t, os.Rename(path, path+"~"))
			writeInPlace(t, path, "new")
			do(t, os.Remove(path+"~"))
		},
		"swap file, removed, written (emacs, sed)": func(t *testing.T, path string) {
			write(t, filepath.Join(filepath.Dir(path), ".#x"), "")
			do(t, os.Remove(path))
			writeInPlace(t, path, "new")
		},
		"truncated, then appended": func(t *testing.T, path string) {
			do(t, os.Truncate(path, 0))
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			do(t, err)
			_, err = f.WriteString("new")
			do(t, errors.Join(err, f.Close()))
		},
		"removed": func(t *testing.T, path string) { do(t, os.Remove(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "relay.cue")
			write(t, path, "old")
			notices := watching(t, never, path)
			save(t, path)
			expect(t, notices, "the save")
		})
	}
}

func TestWhatChangesNothingIsSilent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "relay.cue")
	write(t, path, "same")
	notices := watching(t, debounce, path)
	write(t, filepath.Join(dir, "neighbour"), "x")
	write(t, path, "same")
	do(t, os.Chtimes(path, time.Now(), time.Now()))
	expectNone(t, notices, "nothing")
}

// TestSymlinkSwap is how Kubernetes updates a mounted ConfigMap.
func TestSymlinkSwap(t *testing.T) {
	dir := t.TempDir()
	version := func(n int) string { return fmt.Sprintf("..v%d", n) }
	swap := func(n int) {
		do(t, os.Mkdir(filepath.Join(dir, version(n)), 0o700))
		write(t, filepath.Join(dir, version(n), "relay.cue"), version(n))
		do(t, os.Symlink(version(n), filepath.Join(dir, "..data_tmp")))
		do(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if n > 1 {
			do(t, os.RemoveAll(filepath.Join(dir, version(n-1))))
		}
	}
	swap(1)
	path := filepath.Join(dir, "relay.cue")
	do(t, os.Symlink("..data/relay.cue", path))
	notices := watching(t, never, path)
	for n := 2; n < 6; n++ {
		swap(n)
		expect(t, notices, version(n))
	}
}

// TestSwapElsewhere is how certbot and nix do it: the link that changes lies
// outside of the file's folder.
func TestSwapElsewhere(t *testing.T) {
	root := t.TempDir()
	for _, v := range []string{"1", "2"} {
		do(t, os.MkdirAll(filepath.Join(root, "archive", v), 0o700))
		write(t, filepath.Join(root, "archive", v, "cert.pem"), v)
	}
	do(t, os.MkdirAll(filepath.Join(root, "etc"), 0o700))
	do(t, os.Symlink(filepath.Join(root, "archive", "1"), filepath.Join(root, "current")))
	do(t, os.Symlink("../current/cert.pem", filepath.Join(root, "etc", "cert.pem")))
	notices := watching(t, never, filepath.Join(root, "etc", "cert.pem"))
	do(t, os.Symlink(filepath.Join(root, "archive", "2"), filepath.Join(root, "next")))
	do(t, os.Rename(filepath.Join(root, "next"), filepath.Join(root, "current")))
	expect(t, notices, "the swap")
	write(t, filepath.Join(root, "archive", "2", "cert.pem"), "3")
	expect(t, notices, "a write behind the new link")
}

func TestFolderReplaced(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "conf")
	path := filepath.Join(dir, "relay.cue")
	do(t, os.Mkdir(dir, 0o700))
	write(t, path, "1")
	notices := watching(t, never, path)

	do(t, os.Rename(dir, dir+".old"))
	expect(t, notices, "the folder's going")
	do(t, os.Mkdir(dir, 0o700))
	write(t, path, "2")
	expect(t, notices, "the new folder")
	write(t, path, "3")
	expect(t, notices, "a write in the new folder")
	write(t, filepath.Join(dir+".old", "relay.cue"), "4")
	expectNone(t, notices, "a write in the old folder")
}

func TestFileThatAppearsLater(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a", "b", "token")
	notices := watching(t, never, path)
	do(t, os.MkdirAll(filepath.Dir(path), 0o700))
	write(t, path, "t")
	expect(t, notices, "the file")
}

func TestNothingIsLostBetweenNewAndRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.cue")
	write(t, path, "1")
	w, err := New([]string{path})
	do(t, err)
	if w.notify == nil {
		t.Skip("no inotify here")
	}
	write(t, path, "2") // after New, before Run
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.Run(ctx, debounce, never, cancel); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want a notice", err)
	}
}

func TestChangeDuringTheCallLeadsToAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.cue")
	write(t, path, "0")
	w, err := New([]string{path})
	do(t, err)
	if w.notify == nil {
		t.Skip("no inotify here")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	calls := 0
	write(t, path, "1")
	err = w.Run(ctx, debounce, never, func() {
		if calls++; calls == 3 {
			cancel()
			return
		}
		write(t, path, fmt.Sprint("again ", calls))
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%d calls: %v", calls, err)
	}
}

func TestStormOfEventsDoesNotDelayForEver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "relay.cue")
	write(t, path, "1")
	notices := watching(t, never, path)
	write(t, path, "2")
	deadline := time.After(10 * time.Second)
	for {
		write(t, filepath.Join(dir, "noise"), time.Now().String())
		select {
		case <-notices:
			return
		case <-deadline:
			t.Fatal("no notice in the storm")
		case <-time.After(debounce / 4):
		}
	}
}

// TestPollAloneSuffices runs on fake time and without the system's events.
func TestPollAloneSuffices(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.cue")
	synctest.Test(t, func(t *testing.T) {
		write(t, path, "1")
		w := &Watcher{paths: []string{path}}
		w.settle()
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int32
		done := make(chan error)
		go func() { done <- w.Run(ctx, time.Second, time.Minute, func() { calls.Add(1) }) }()

		for i, step := range []struct {
			act  func()
			want int32
		}{
			{func() {}, 0},
			{func() { write(t, path, "2") }, 1},
			{func() { write(t, path, "2") }, 1},
			{func() { do(t, os.Remove(path)) }, 2},
			{func() { write(t, path, "2") }, 3},
		} {
			step.act()
			<-time.After(time.Minute + time.Second)
			synctest.Wait()
			if got := calls.Load(); got != step.want {
				t.Errorf("step %d: %d calls, want %d", i, got, step.want)
			}
		}
		cancel()
		<-done
	})
}

func TestOddFilesAreNotRead(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	do(t, unix.Mkfifo(pipe, 0o600))
	loop := filepath.Join(dir, "loop")
	do(t, os.Symlink("loop", loop))
	for _, path := range []string{pipe, loop, dir, filepath.Join(dir, "absent"), filepath.Join(pipe, "below")} {
		if got := look(path); got != (print{}) {
			t.Errorf("look(%s) = %v", path, got)
		}
		if len(way(path)) > 3*maxLinks {
			t.Errorf("way(%s) has no end", path)
		}
	}
}

func TestLongFileIsReadInPart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "long")
	write(t, path, "x")
	do(t, os.Truncate(path, maxFile+1))
	before := look(path)
	do(t, os.Truncate(path, maxFile+2))
	if after := look(path); !before.present || before == after {
		t.Errorf("%v, then %v", before, after)
	}
}

func TestWay(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	do(t, err)
	do(t, os.MkdirAll(filepath.Join(root, "d", "e"), 0o700))
	do(t, os.Symlink("d/e", filepath.Join(root, "l")))
	write(t, filepath.Join(root, "d", "e", "f"), "")
	got := way(filepath.Join(root, "l", "f"))
	slices.Sort(got)
	want := []string{root, filepath.Join(root, "d"), filepath.Join(root, "d", "e")}
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRefusesNonsense(t *testing.T) {
	if err := Files(t.Context(), nil, 0, time.Second, func() {}); err == nil {
		t.Error("no debounce was accepted")
	}
	if err := Files(t.Context(), nil, time.Second, 0, func() {}); err == nil {
		t.Error("no poll was accepted")
	}
}
