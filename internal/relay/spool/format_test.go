package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// newer is what a relay says of the spool of the next one.
var newer = fmt.Sprintf("newer gatepostd (format %d, this one knows %d)", Format+1, Format) // read-only

func TestFormatIsWhatUpgradesLeadTo(t *testing.T) {
	if n := (tuning{upgrades: upgrades()}).format(); n != Format {
		t.Errorf("the upgrades lead to format %d, and Format is %d", n, Format)
	}
}

// upgraded is what the next format of these tests has before each registration.
const upgraded = "upgraded/"

// toNext is an upgrade of every entry.
func toNext() []upgrade {
	return append(upgrades(), upgrade{"registrations have another name", func(s *Spool) error {
		return s.rewrite(prefixEntry, func(key, value []byte) ([]byte, error) {
			id, state := splitEntryKey(key)
			if state {
				return nil, nil
			}
			var r entryRecord
			flags, err := decodeRecord(id, value, &r)
			if err != nil || strings.HasPrefix(r.Envelope.Registration, upgraded) {
				return nil, nil // what is damaged stays as it is
			}
			r.Envelope.Registration = upgraded + r.Envelope.Registration
			return encodeRecord(id, flags, r)
		})
	}})
}

func openNext(fs vfs.FS, log io.Writer) (*Spool, error) {
	return openTuned(Options{Dir: "spool", FS: fs, Logger: slog.New(slog.NewTextHandler(log, nil))},
		tuning{memory: 512 << 10, patience: time.Minute, upgrades: toNext()})
}

// TestUpgradeAtEveryWrite cuts the power before each write of an upgrade. The
// next start goes on with it, and all is as if it had not been cut; a relay of
// before does not touch what has begun.
func TestUpgradeAtEveryWrite(t *testing.T) {
	mem := newDisk()
	s := open(t, mem)
	want := map[ID][]byte{}
	for i := range 300 { // several pieces
		b := body(i, 100)
		if i%100 == 0 {
			b = body(i, 2*inlineMax)
		}
		e := put(t, s, b)
		want[e.ID] = b
		if i%3 == 0 {
			e.Attempts = i
			if err := s.Update(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var moments []*vfs.MemFS
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isWrite(op) {
			mu.Lock()
			defer mu.Unlock()
			moments = append(moments, mem.CrashClone(vfs.CrashCloneCfg{}))
		}
		return nil
	}))
	var log logBuffer
	next, err := openNext(fs, &log)
	if err != nil {
		t.Fatal(err)
	}
	if n := log.count("event=spool.upgrade"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for k, m := range append(moments, mem.CrashClone(vfs.CrashCloneCfg{})) {
		if k%2 == 0 { // what the relay of before says, on a copy of its own
			old, err := Open(Options{Dir: "spool", FS: m.CrashClone(vfs.CrashCloneCfg{})})
			switch {
			case err == nil:
				if refused > 0 {
					t.Errorf("write %d: the relay of before opens what it has refused", k)
				}
				old.Close()
			case strings.Contains(err.Error(), newer):
				refused++
			default:
				t.Errorf("write %d: %v", k, err)
			}
		}
		again, err := openNext(m, io.Discard)
		if err != nil {
			t.Errorf("write %d: %v", k, err)
			continue
		}
		n := 0
		err = again.Entries(func(e *Entry) error {
			n++
			got, err := read(t, again, e.ID)
			if err != nil || !bytes.Equal(got, want[e.ID]) || strings.Count(e.Envelope.Registration, upgraded) != 1 {
				t.Errorf("write %d: %+v, %v", k, e, err)
			}
			return nil
		})
		if err != nil || n != len(want) {
			t.Errorf("write %d: %d entries, %v", k, n, err)
		}
		if damaged, err := again.Damaged(); len(damaged) > 0 || err != nil {
			t.Errorf("write %d: damaged: %v, %v", k, damaged, err)
		}
		if k == len(moments) { // a key that was rewritten goes for good
			for id := range want {
				if err := again.Remove(id); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(again.db.Flush(), again.db.Compact(context.Background(), []byte("a"), []byte("z"), false)); err != nil {
				t.Fatal(err)
			}
			if left := ids(t, again); len(left) > 0 {
				t.Errorf("%d entries came back", len(left))
			}
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(moments) < 15 || refused < 5 {
		t.Errorf("%d writes, %d refusals: too few to tell", len(moments), refused)
	}
	t.Logf("%d writes", len(moments))
}

// TestAnUpgradeThatFails leaves the spool to the next start.
func TestAnUpgradeThatFails(t *testing.T) {
	mem := newDisk()
	s := open(t, mem)
	e := put(t, s, []byte("x"))
	s.Close()
	broken := append(upgrades(), upgrade{"what cannot be done", func(*Spool) error { return errNoSpace }})
	_, err := openTuned(Options{Dir: "spool", FS: mem}, tuning{memory: 512 << 10, patience: time.Minute, upgrades: broken})
	if !errors.Is(err, errNoSpace) || !strings.Contains(err.Error(), fmt.Sprintf("up to format %d (what cannot be done); the next start goes on with it", Format+1)) {
		t.Errorf("%v", err)
	}
	next, err := openNext(mem, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if got := ids(t, next); !slices.Equal(got, []ID{e.ID}) {
		t.Errorf("%v", got)
	}
}

// TestTheFileCreated: what it says is believed before the engine is opened.
func TestTheFileCreated(t *testing.T) {
	for text, want := range map[string]string{
		"":             "",
		"format 1\n":   "",
		"format 2\n":   "",
		"format 3\n":   "was written by a " + newer,
		"format 0\n":   "holds no spool",
		"format -1\n":  "holds no spool",
		"something\n":  "holds no spool",
		"format 1e9\n": "",
	} {
		mem := vfs.NewMem()
		s := open(t, mem)
		put(t, s, []byte("x"))
		s.Close()
		f, err := mem.Create("spool/created", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, text)
		f.Close()
		if want != "" { // the engine is not even looked at
			if err := mem.RemoveAll("spool/engine"); err != nil {
				t.Fatal(err)
			}
		}
		s, err = Open(Options{Dir: "spool", FS: mem})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil {
			s.Close()
		}
	}
}
