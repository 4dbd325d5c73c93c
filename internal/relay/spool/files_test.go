package spool

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestFilesAreUsedAgain: the body of one message after the other goes into the
// same file, shorter ones too, and each comes back as it was.
func TestFilesAreUsedAgain(t *testing.T) {
	fs := newDisk()
	s := open(t, fs)
	for i, n := range []int{3 * inlineMax, inlineMax + 1, 2 * inlineMax} {
		want := body(i, n)
		e := put(t, s, want)
		if got, err := read(t, s, e.ID); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d octets: %v", n, err)
		}
		if after, err := read(t, open(t, fs.CrashClone(vfs.CrashCloneCfg{})), e.ID); err != nil || !bytes.Equal(after, want) {
			t.Errorf("%d octets, after a crash: %v", n, err)
		}
		if err := s.Remove(e.ID); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := fs.List(s.bodies); !slices.Equal(names, []string{fileName(1)}) || err != nil {
		t.Errorf("files: %v, %v", names, err)
	}
	large := put(t, s, body(1, spareLarge+1))
	if err := s.Remove(large.ID); err != nil {
		t.Fatal(err)
	}
	if names, err := fs.List(s.bodies); len(names) != 0 || err != nil {
		t.Errorf("files after a large body: %v, %v", names, err)
	}
}

// TestAFileIsNotUsedWhileItIsRead: who reads a body that is removed meanwhile
// reads it to its end, and nothing of another message.
func TestAFileIsNotUsedWhileItIsRead(t *testing.T) {
	s := open(t, vfs.NewMem())
	want := body(1, 4*inlineMax)
	e := put(t, s, want)
	r, err := s.Body(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	half := make([]byte, len(want)/2)
	if _, err := io.ReadFull(r, half); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(e.ID); err != nil {
		t.Fatal(err)
	}
	put(t, s, body(2, 4*inlineMax))
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(half, rest...), want) {
		t.Errorf("the rest: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if n := len(s.files.spare); n != 1 {
		t.Errorf("%d files are free after the last reader", n)
	}
}

// TestFilesAmongMany reads, removes and writes at the same time: a body is the
// one stored or is gone, and never another's.
func TestFilesAmongMany(t *testing.T) {
	s := open(t, vfs.NewMem())
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 100 {
				want := body(g*1000+i, inlineMax+1+i)
				e := put(t, s, want)
				var readers sync.WaitGroup
				for range 3 {
					readers.Go(func() {
						got, err := read(t, s, e.ID)
						if !errors.Is(err, ErrNotFound) && (err != nil || !bytes.Equal(got, want)) {
							t.Errorf("another body, %v", err)
						}
					})
				}
				for range 2 { // an operator, as the message is delivered
					readers.Go(func() {
						if err := s.Remove(e.ID); err != nil && !errors.Is(err, ErrNotFound) {
							t.Error(err)
						}
					})
				}
				readers.Wait()
			}
		})
	}
	all.Wait()
	slices.Sort(s.files.spare)
	if n := len(s.files.spare); n == 0 || n != len(slices.Compact(s.files.spare)) {
		t.Errorf("%d files are free: %v", n, s.files.spare)
	}
}
