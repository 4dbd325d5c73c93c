package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/mail"
)

func open(t *testing.T, fs vfs.FS) *Spool {
	t.Helper()
	s, err := Open(Options{Dir: "spool", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *Spool, b []byte, opts ...CommitOption) *Entry {
	t.Helper()
	e, err := s.Store(t.Context(), envelope("someone@example.org"), b, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// read reads a body from the disk.
func read(t *testing.T, s *Spool, id ID) ([]byte, error) {
	t.Helper()
	s.recent.drop(id)
	r, err := s.Body(id)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func ids(t *testing.T, s *Spool) []ID {
	t.Helper()
	var all []ID
	if err := s.Entries(func(e *Entry) error { all = append(all, e.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestBodiesOfEverySizeComeBack(t *testing.T) {
	for _, fs := range []vfs.FS{vfs.NewMem(), vfs.Default} {
		dir := "spool"
		if fs == vfs.Default {
			dir = filepath.Join(t.TempDir(), "spool")
		}
		s, err := Open(Options{Dir: dir, FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		sizes := []int{0, 1, inlineMax - 1, inlineMax, inlineMax + 1, 2 * inlineMax, 300_000}
		var entries []*Entry
		for i, n := range sizes {
			entries = append(entries, put(t, s, body(i, n)))
		}
		for range 2 { // as written, and after a restart
			for i, e := range entries {
				if got, err := read(t, s, e.ID); err != nil || !bytes.Equal(got, body(i, sizes[i])) {
					t.Errorf("%d octets: %v", sizes[i], err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(Options{Dir: dir, FS: fs}); err != nil {
				t.Fatal(err)
			}
		}
		for _, e := range entries {
			if err := s.Remove(e.ID); err != nil {
				t.Error(err)
			}
			if _, err := s.Get(e.ID); !errors.Is(err, ErrNotFound) {
				t.Errorf("after Remove: %v", err)
			}
			if err := s.Remove(e.ID); !errors.Is(err, ErrNotFound) {
				t.Errorf("a second Remove: %v", err)
			}
		}
		s.files.shrink()
		if names, _ := fs.List(s.bodies); len(names) > 0 {
			t.Errorf("bodies are left: %v", names)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestEnvelopeAndStateComeBack(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	env := envelope("a@example.org", `"odd one"@example.org`, "postmaster", "üser@exämple.org")
	env.EnvID, env.Ret, env.UTF8 = "x+y", "HDRS", true
	env.To[1].Notify, env.To[1].ORcpt = "FAILURE,DELAY", "rfc822;odd@example.org"
	e, err := s.Store(t.Context(), env, []byte("Subject: x\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	e.State[1] = RecipientState{Done: true, Last: mail.Result{Outcome: mail.Delivered, Status: mail.Status{Code: 250, Text: "ok"}, At: env.Arrival}}
	e.Attempts, e.Next, e.Hold, e.Delayed = 7, env.Arrival.Add(time.Hour), "why", env.Arrival.Add(4*time.Hour)
	if err := s.Update(e); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, fs)
	got, err := s.Get(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, same := range map[string]bool{
		"envelope": got.Envelope.From == env.From && slices.Equal(got.Envelope.To, env.To) && got.Envelope.EnvID == env.EnvID && got.Envelope.Client == env.Client && got.Envelope.Arrival.Equal(env.Arrival),
		"state":    got.State[1].Done && got.State[1].Last.Status == e.State[1].Last.Status && !got.State[0].Done && len(got.State) == 4,
		"rest":     got.Attempts == 7 && got.Hold == "why" && got.Next.Equal(e.Next) && got.Delayed.Equal(e.Delayed),
	} {
		if !same {
			t.Errorf("%s differs: %+v", name, got)
		}
	}
}

func TestEnvelopesThatCouldNotBeReadBackAreRefused(t *testing.T) {
	s := open(t, vfs.NewMem())
	for name, env := range map[string]mail.Envelope{
		"no recipient":   {},
		"null recipient": {To: []mail.Recipient{{}}},
		"bad recipient":  {To: []mail.Recipient{{Address: mail.Address{Local: "a\r\nb", Domain: "example.org"}}}},
		"bad sender":     {From: mail.Address{Local: "a"}, To: envelope("a@b.example").To},
	} {
		if _, err := s.Create(t.Context(), env); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	env := envelope("a@b.example")
	env.From = mail.Address{} // the null reverse-path is fine
	if _, err := s.Create(t.Context(), env); err != nil {
		t.Error(err)
	}
}

func TestKeys(t *testing.T) {
	s := open(t, vfs.NewMem())
	first := put(t, s, []byte("x"), WithKey("k"))
	if id, found, err := s.KeyMessage("k"); id != first.ID || !found || err != nil {
		t.Errorf("KeyMessage is %q, %v, %v, want %q", id, found, err, first.ID)
	}
	for _, n := range []int{1, inlineMax + 1} {
		if _, err := s.Store(t.Context(), envelope("a@b.example"), body(1, n), WithKey("k")); !errors.Is(err, ErrDuplicate) {
			t.Errorf("a second message with the key: %v", err)
		}
	}
	if n := len(ids(t, s)); n != 1 {
		t.Errorf("%d entries", n)
	}
	s.files.shrink()
	if names, _ := s.fs.List(s.bodies); len(names) > 0 {
		t.Errorf("a duplicate left %v", names)
	}
	if err := s.MarkKeys("m1", "m2", "k"); err != nil {
		t.Fatal(err)
	}
	if err := s.DropKeys("m1"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"k": true, "m1": false, "m2": true, "m": false} {
		if got, err := s.HasKey(key); got != want || err != nil {
			t.Errorf("HasKey(%q) = %v, %v", key, got, err)
		}
	}
	for key, want := range map[string]bool{"m1": false, "m2": true} {
		if id, found, err := s.KeyMessage(key); id != "" || found != want || err != nil {
			t.Errorf("KeyMessage(%q) is %q, %v, %v", key, id, found, err)
		}
	}
	if err := s.MarkKeys("fine", strings.Repeat("x", maxKey+1)); err == nil {
		t.Error("an over-long key is accepted")
	}
	if has, _ := s.HasKey("fine"); has {
		t.Error("half of MarkKeys was done")
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			if _, err := s.Store(context.Background(), envelope("a@b.example"), []byte("x"), WithKey("race")); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d messages with one key", won)
	}
}

func TestSettling(t *testing.T) {
	s := open(t, vfs.NewMem())
	for _, n := range []int{10, inlineMax + 10} {
		env := envelope("a@b.example", "c@d.example")
		e, err := s.Store(t.Context(), env, body(1, n))
		if err != nil {
			t.Fatal(err)
		}
		e.State[0].Done = true
		if _, err := s.Notify(t.Context(), envelope("x@y.example"), []byte("dsn"), e); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get(e.ID); err != nil || !got.State[0].Done || got.State[1].Done {
			t.Errorf("after the first: %+v, %v", got, err)
		}
		e.State[1].Done = true
		if _, err := s.Notify(t.Context(), envelope("x@y.example"), []byte("dsn"), e); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(e.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("all are done and it is there: %v", err)
		}
		if _, err := s.Notify(t.Context(), envelope("x@y.example"), []byte("dsn"), e); err != nil {
			t.Errorf("settling what an operator deleted: %v", err)
		}
	}
	s.files.shrink()
	if names, _ := s.fs.List(s.bodies); len(names) > 0 {
		t.Errorf("bodies are left: %v", names)
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	s := open(t, vfs.NewMem())
	for _, n := range []int{10, 3 * inlineMax} {
		w, err := s.Create(t.Context(), envelope("a@b.example"))
		if err != nil {
			t.Fatal(err)
		}
		w.Write(body(1, n))
		w.Abort()
		w.Abort()
		if _, err := w.Commit(t.Context()); err == nil {
			t.Error("Commit after Abort")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, _ := s.Create(ctx, envelope("a@b.example"))
	w.Write(body(1, 3*inlineMax))
	cancel()
	if _, err := w.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit with a context that has ended: %v", err)
	}
	s.files.shrink()
	if names, _ := s.fs.List(s.bodies); len(names) > 0 || len(ids(t, s)) > 0 {
		t.Errorf("left: %v", names)
	}
}

func TestReserve(t *testing.T) {
	fs := vfs.NewMem()
	var log bytes.Buffer
	s, err := Open(Options{Dir: "spool", FS: fs, Reserve: 1000, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	kept, ended := put(t, s, []byte("before")), put(t, s, []byte("it fails"))
	w, err := s.Create(t.Context(), envelope("a@b.example"))
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("x"))
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 999, TotalBytes: 1 << 30})
	if _, err := w.Commit(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := s.Create(t.Context(), envelope("a@b.example")); !errors.Is(err, ErrFull) {
		t.Errorf("Create: %v", err)
	}
	refusals := testutil.ToFloat64(s.metrics.full)
	if err := s.Accepting(); err == nil || err.Error() != "spool: no space: 999 octets are free in spool, and 1000 octets stay free for what is owed" {
		t.Errorf("Accepting: %v", err)
	}
	if now := testutil.ToFloat64(s.metrics.full); now != refusals {
		t.Errorf("asking whether there is room counts as a refusal: %v, then %v", refusals, now)
	}
	if n := strings.Count(log.String(), "event=spool.full"); n != 1 {
		t.Errorf("a full disk is logged %d times", n)
	}
	if got, err := read(t, s, kept.ID); err != nil || string(got) != "before" {
		t.Errorf("reading when full: %v", err)
	}
	// The end of an entry is told of from the reserve; a delay can wait.
	kept.State[0].Done = false
	if _, err := s.Notify(t.Context(), envelope("x@y.example"), []byte("delayed"), kept); !errors.Is(err, ErrFull) {
		t.Errorf("a DSN that frees nothing: %v", err)
	}
	failed := *ended
	failed.State = []RecipientState{{Done: true}}
	if _, err := s.Notify(t.Context(), envelope("x@y.example"), body(1, 2*inlineMax), &failed); err != nil {
		t.Errorf("a DSN that frees its entry: %v", err)
	}
	kept.Attempts++
	if err := errors.Join(s.Update(kept), s.Remove(kept.ID)); err != nil {
		t.Errorf("going on when full: %v", err)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1000, TotalBytes: 1 << 30})
	put(t, s, []byte("after"))
	if n := strings.Count(log.String(), "event=spool.room"); n != 1 {
		t.Errorf("room again is logged %d times", n)
	}
}

func TestIDs(t *testing.T) {
	fs := vfs.NewMem()
	var all []ID
	for range 3 { // over restarts
		s := open(t, fs)
		for range 50 {
			all = append(all, put(t, s, []byte("x")).ID)
		}
		s.Close()
	}
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Error("not sorted or not unique")
	}
	for _, id := range all {
		if len(id) > 20 || !validID(id) {
			t.Errorf("%q", id)
		}
	}
	// A clock set back does not put new mail before old.
	src := newIDSource(all[len(all)-1])
	if id := src.next(time.Unix(0, 0)); id <= all[len(all)-1] {
		t.Errorf("%s is not after %s", id, all[len(all)-1])
	}
	for _, id := range []ID{"", "../../etc/passwd", "000000000000000/", ID(strings.Repeat("z", idSize))} {
		if _, err := open(t, vfs.NewMem()).Get(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get(%q): %v", id, err)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	if err := s.apply(func(b *pebble.Batch) error { return b.Set(keyFormat, fmt.Append(nil, Format+1), nil) }, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(Options{Dir: "spool", FS: fs}); err == nil || !strings.Contains(err.Error(), "newer gatepostd") {
		t.Errorf("opened: %v", err)
	}
}

func TestForeignFilesStay(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	s.Close()
	for _, name := range []string{"README", "0000000000000zz.tmp"} {
		f, _ := fs.Create("spool/bodies/"+name, vfs.WriteCategoryUnspecified)
		f.Close()
	}
	f, _ := fs.Create("spool/bodies/"+strings.Repeat("0", idSize)+".tmp", vfs.WriteCategoryUnspecified)
	f.Close()
	open(t, fs)
	if names, _ := fs.List("spool/bodies"); len(names) != 2 {
		t.Errorf("left: %v", names)
	}
}

func TestClosedSpoolSaysSo(t *testing.T) {
	s := open(t, vfs.NewMem())
	e := put(t, s, []byte("x"))
	w, _ := s.Create(t.Context(), envelope("a@b.example"))
	s.Close()
	_, commitErr := w.Commit(t.Context())
	_, getErr := s.Get(e.ID)
	for _, err := range []error{commitErr, getErr, s.Update(e), s.Remove(e.ID), s.Entries(func(*Entry) error { return nil })} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}
