package spool

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// foreign is an entry of another spool.
func foreign(t *testing.T, size int) (*Entry, []byte) {
	t.Helper()
	b := body(7, size)
	e := put(t, open(t, vfs.NewMem()), b)
	e.Attempts, e.Hold = 4, "a reason"
	return e, b
}

// TestImportLasts: after Sync an import survives the loss of power, short or
// long; before it, it is there whole or not at all.
func TestImportLasts(t *testing.T) {
	for _, size := range []int{100, 3 * inlineMax} {
		mem := newDisk()
		s := open(t, mem)
		e, b := foreign(t, size)
		if err := s.Import(t.Context(), e, bytes.NewReader(b), false); err != nil {
			t.Fatal(err)
		}
		early := open(t, mem.CrashClone(vfs.CrashCloneCfg{}))
		if got := ids(t, early); len(got) == 1 {
			if text, err := read(t, early, e.ID); err != nil || !bytes.Equal(text, b) {
				t.Errorf("%d octets, before the sync: %v", size, err)
			}
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		again := open(t, mem.CrashClone(vfs.CrashCloneCfg{}))
		text, err := read(t, again, e.ID)
		got, getErr := again.Get(e.ID)
		if err != nil || getErr != nil || !bytes.Equal(text, b) || got.Attempts != 4 || got.Hold != "a reason" {
			t.Errorf("%d octets, after the sync: %v, %v, %+v", size, err, getErr, got)
		}
		if err := again.Import(t.Context(), e, bytes.NewReader(b), true); !errors.Is(err, ErrPresent) {
			t.Errorf("twice: %v", err)
		}
	}
}

// TestImportRefuses what does not fit, and keeps nothing of it.
func TestImportRefuses(t *testing.T) {
	e, b := foreign(t, 2*inlineMax)
	ahead := newIDSource("").next(time.Now().Add(48 * time.Hour))
	for name, change := range map[string]func(e *Entry){
		"no ID":          func(e *Entry) { e.ID = "../../etc/x" },
		"an ID ahead":    func(e *Entry) { e.ID = ahead },
		"another size":   func(e *Entry) { e.Size++ },
		"fewer states":   func(e *Entry) { e.State = nil },
		"no recipients":  func(e *Entry) { e.Envelope.To, e.State = nil, nil },
		"a bad domain":   func(e *Entry) { e.Envelope.From.Domain = "a b" },
		"a long address": func(e *Entry) { e.Envelope.From.Local = strings.Repeat("x", 500) },
	} {
		mem := vfs.NewMem()
		s := open(t, mem)
		bad := *e
		change(&bad)
		if err := s.Import(t.Context(), &bad, bytes.NewReader(b), false); err == nil {
			t.Errorf("%s: it was imported", name)
		}
		if names, err := mem.List("spool/bodies"); len(names) > 0 || err != nil {
			t.Errorf("%s: it left %v, %v", name, names, err)
		}
	}
}

// TestImportAfterRemoval has the same long message come and go at once, again
// and again: its file is there whenever its record is.
func TestImportAfterRemoval(t *testing.T) {
	s := open(t, vfs.NewMem())
	e, b := foreign(t, 2*inlineMax)
	var others sync.WaitGroup
	stop := make(chan struct{})
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := s.Remove(e.ID); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		}
	})
	for range 200 {
		if err := s.Import(t.Context(), e, bytes.NewReader(b), true); err != nil && !errors.Is(err, ErrPresent) {
			t.Fatal(err)
		}
	}
	close(stop)
	others.Wait()
	if err := s.Import(t.Context(), e, bytes.NewReader(b), true); err != nil && !errors.Is(err, ErrPresent) {
		t.Fatal(err)
	}
	if got, err := read(t, s, e.ID); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%v", err)
	}
	if got := ids(t, s); !slices.Equal(got, []ID{e.ID}) {
		t.Errorf("%v", got)
	}
}
