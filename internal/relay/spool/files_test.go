package spool

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
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
				if err := s.Remove(e.ID); err != nil {
					t.Error(err)
				}
				readers.Wait()
			}
		})
	}
	all.Wait()
}

// TestFormat1: a spool of the format before is taken over as it is: each of its
// files has the name of its entry and holds the body alone.
func TestFormat1(t *testing.T) {
	fs := newDisk()
	s := open(t, fs)
	want := body(1, 2*inlineMax)
	short := put(t, s, []byte("short\r\n"))
	e := put(t, s, want)
	var r entryRecord
	rec, _, err := s.get(entryKey(e.ID))
	if err == nil {
		_, err = decodeRecord(e.ID, rec, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.File = ""
	old, err := encodeRecord(e.ID, flagFile, r)
	if err != nil {
		t.Fatal(err)
	}
	err = s.apply(func(b *pebble.Batch) error {
		return errors.Join(b.Set(keyFormat, []byte("1"), nil), b.Set(entryKey(e.ID), old, nil))
	}, pebble.Sync)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(fs.PathJoin(s.bodies, string(e.ID)), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	f.Write(slices.Clone(want))
	if err := errors.Join(f.Sync(), f.Close(), s.syncDir(s.bodies), s.Close()); err != nil {
		t.Fatal(err)
	}

	for range 2 { // the second time it is of the format of today
		s = open(t, fs)
		if got := ids(t, s); !slices.Equal(got, []ID{short.ID, e.ID}) {
			t.Errorf("entries: %v", got)
		}
		if got, err := read(t, s, e.ID); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the body: %v", err)
		}
		if format, _, _ := s.get(keyFormat); string(format) != "2" {
			t.Errorf("it is of format %q", format)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, fs)
	if err := s.Remove(e.ID); err != nil {
		t.Fatal(err)
	}
	if names, err := fs.List(s.bodies); len(names) != 0 || err != nil {
		t.Errorf("files: %v, %v", names, err)
	}
}
