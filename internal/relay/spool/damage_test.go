package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestDamage flips one bit in each octet of a record, then of a body.
func TestDamage(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	good := put(t, s, []byte("good"))
	rec, _, _ := s.get(entryKey(good.ID))
	for i := range rec {
		bad := slices.Clone(rec)
		bad[i] ^= 1 << (i % 8)
		if _, err := decodeEntry(good.ID, bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("octet %d: %v", i, err)
		}
		if _, err := decodeEntry(good.ID, rec[:i]); !errors.Is(err, ErrDamaged) {
			t.Errorf("torn at %d: %v", i, err)
		}
	}

	bad := put(t, s, body(1, inlineMax+1))
	set := func(key, value []byte) {
		t.Helper()
		if err := s.apply(func(b *pebble.Batch) error { return b.Set(key, value, nil) }, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(key []byte) {
		t.Helper()
		v, _, _ := s.get(key)
		v[len(v)-1] ^= 4
		set(key, v)
	}
	flip(entryKey(bad.ID))
	if got := ids(t, s); !slices.Equal(got, []ID{good.ID}) {
		t.Errorf("entries: %v", got)
	}
	if _, err := s.Get(bad.ID); !errors.Is(err, ErrDamaged) {
		t.Errorf("Get: %v", err)
	}
	s.Close()
	s = open(t, fs)
	if aside, err := s.Damaged(); !slices.Equal(aside, []ID{bad.ID}) || err != nil {
		t.Errorf("aside: %v, %v", aside, err)
	}
	if files, err := fs.List(s.bodies); len(files) != 1 || err != nil {
		t.Errorf("the body of a damaged entry was collected: %v, %v", files, err)
	}

	// A damaged state costs the state: deliver again.
	good.Attempts, good.State[0].Done = 3, true
	if err := s.Update(good); err != nil {
		t.Fatal(err)
	}
	flip(stateKey(good.ID))
	if e, err := s.Get(good.ID); err != nil || e.Attempts != 0 || e.State[0].Done {
		t.Errorf("with a damaged state: %+v, %v", e, err)
	}

	flip(bodyKey(good.ID))
	if _, err := read(t, s, good.ID); !errors.Is(err, ErrDamaged) {
		t.Errorf("a flipped bit in a body: %v", err)
	}
	set(bodyKey(good.ID), []byte("goo"))
	if _, err := read(t, s, good.ID); !errors.Is(err, ErrDamaged) {
		t.Errorf("a truncated body: %v", err)
	}
}

func TestDamagedBodyFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := body(1, inlineMax+100)
	e := put(t, s, want)
	file := filepath.Join(dir, "bodies", fileName(1))
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped, another := slices.Clone(whole), slices.Clone(whole)
	flipped[777] ^= 1
	another[3]++ // is the owner's name
	for name, data := range map[string][]byte{"flipped": flipped, "torn": whole[:inlineMax], "of another": another, "without a head": whole[:10]} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := read(t, s, e.ID); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(file, append(slices.Clone(whole), "the rest of a longer one"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, s, e.ID); err != nil || !slices.Equal(got, want) {
		t.Errorf("in a longer file: %v", err)
	}
	os.Remove(file)
	if _, err := read(t, s, e.ID); !errors.Is(err, ErrDamaged) {
		t.Errorf("missing: %v", err)
	}
}

// TestTornLog cuts the engine's log at every length: what is before the cut
// is there, the rest is not, and the spool opens.
func TestTornLog(t *testing.T) {
	mem := newDisk()
	s := open(t, mem)
	var all []ID
	for i := range 3 {
		all = append(all, put(t, s, body(i, 40)).ID)
	}
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	log := newestLog(t, crashed)
	data, err := crashed.UnsafeGetFileDataBuffer(log)
	if err != nil {
		t.Fatal(err)
	}
	whole := slices.Clone(data)
	most := 0
	for n := len(whole); n >= 0; n -= max(1, len(whole)/60) {
		fs := mem.CrashClone(vfs.CrashCloneCfg{})
		f, err := fs.Create(log, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(slices.Clone(whole[:n]))
		f.Close()
		torn, err := Open(Options{Dir: "spool", FS: fs})
		if err != nil {
			t.Fatalf("cut at %d of %d: %v", n, len(whole), err)
		}
		got := ids(t, torn)
		if !slices.Equal(got, all[:len(got)]) {
			t.Errorf("cut at %d: %v", n, got)
		}
		most = max(most, len(got))
		torn.Close()
	}
	if most != 3 {
		t.Errorf("the whole log holds %d messages", most)
	}
}

// TestDamagedBlocks flips a bit in the middle of a table. What is in that block
// is lost, and told; what lies behind it is read, by this process and the next,
// and new messages come and go.
func TestDamagedBlocks(t *testing.T) {
	mem := newDisk()
	s := open(t, mem)
	var all []ID
	for i := range 600 {
		all = append(all, put(t, s, body(i, 300)).ID)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	names, err := mem.List("spool/engine")
	if err != nil {
		t.Fatal(err)
	}
	for _, places := range [][]float64{{0.1}, {0.45}, {0.8}, {0.3, 0.5, 0.7}} {
		fs := mem.CrashClone(vfs.CrashCloneCfg{})
		flipped := 0
		for _, name := range names {
			if !strings.HasSuffix(name, ".sst") {
				continue
			}
			data, err := fs.UnsafeGetFileDataBuffer("spool/engine/" + name)
			if err != nil {
				t.Fatal(err)
			}
			// Entries come behind bodies; the end of a table is its index. What the
			// names of a block share is written once, so no more can be looked for:
			// how much that is depends on when the test runs.
			entries := bytes.Index(data, []byte("e"+shared(all[0], all[len(all)-1])))
			for _, place := range places {
				if at := entries + int(place*float64(len(data)-entries)*0.9); entries > 0 {
					data[at] ^= 1
					flipped++
				}
			}
		}
		if flipped == 0 {
			t.Fatal("there is no table with entries")
		}
		for range 2 {
			damaged := open(t, fs)
			var got []ID
			err := damaged.Entries(func(e *Entry) error { got = append(got, e.ID); return nil })
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%v: %v", places, err)
			}
			lost := len(all) - len(got)
			if lost == 0 || lost > 130*len(places) || !slices.IsSorted(got) || len(slices.Compact(got)) != len(got) {
				t.Errorf("%v: %d of %d are lost", places, lost, len(all))
			}
			if got[len(got)-1] != all[len(all)-1] {
				t.Errorf("%v: the newest is lost", places)
			}
			for _, id := range got[:3] {
				if _, err := damaged.Get(id); err != nil {
					t.Errorf("%v: %v", places, err)
				}
			}
			newer := put(t, damaged, []byte("x"))
			if err := damaged.Remove(newer.ID); err != nil {
				t.Error(err)
			}
			damaged.Close()
		}
	}
}

// shared is what two names begin with alike.
func shared(a, b ID) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return string(a[:n])
}

func newestLog(t *testing.T, fs vfs.FS) string {
	t.Helper()
	names, err := fs.List("spool/engine")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	newest := ""
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			newest = name
		}
	}
	return "spool/engine/" + newest
}

// TestBodyFilesOutliveTheirRecords cuts the power at the moment a body's file
// is opened for another body: a record that came back would be a damaged entry.
func TestBodyFilesOutliveTheirRecords(t *testing.T) {
	for name, end := range map[string]func(*Spool, *Entry) error{
		"Remove": func(s *Spool, e *Entry) error { return s.Remove(e.ID) },
		"Notify": func(s *Spool, e *Entry) error {
			e.State[0].Done = true
			_, err := s.Notify(t.Context(), envelope("a@b.example"), []byte("dsn"), e)
			return err
		},
	} {
		mem := newDisk()
		var after *vfs.MemFS // what the disk holds when the file goes
		s := open(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpOpen && strings.Contains(op.Path, "bodies") {
				after = mem.CrashClone(vfs.CrashCloneCfg{})
			}
			return nil
		})))
		e := put(t, s, body(1, 2*inlineMax))
		if err := end(s, e); err != nil {
			t.Fatal(err)
		}
		put(t, s, body(2, 2*inlineMax))
		if after == nil {
			t.Fatalf("%s: the file is not used again", name)
		}
		if _, err := open(t, after).Get(e.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: the record would outlive its body: %v", name, err)
		}
	}
}
