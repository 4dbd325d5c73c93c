package activity

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestARestartKeepsAll(t *testing.T) {
	w := newWorld(t, mfp)
	b := w.open()
	b.Accepted(mfp, Message{Recipients: 3, Octets: 5000, Needed: Needed{BareLF: true, NoHELO: true}})
	w.clock.move(50 * time.Hour)
	b.Accepted(mfp, Message{Recipients: 1, Octets: 70, TLS: "TLS 1.0", Needed: Needed{OldTLS: true}})
	b.Refused(mfp, true, refusal("MAIL", "sender"))
	b.Refused(scanner, false, refusal("RCPT", "unregistered"))
	w.save(b)
	info, err := os.Stat(w.file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	after := w.open()
	for _, a := range []netip.Addr{mfp, scanner} {
		if x, y := b.Of(a), after.Of(a); fmt.Sprint(x) != fmt.Sprint(y) {
			t.Errorf("%s was %+v, and is %+v", a, x, y)
		}
	}
	if w.log.Len() > 0 {
		t.Errorf("%s", w.log.String())
	}
}

// TestTheFileOfTheVersionBefore: an upgrade keeps what was counted; what was
// not counted then counts from the first message on.
func TestTheFileOfTheVersionBefore(t *testing.T) {
	w := newWorld(t, mfp)
	old := `{"version":1,"what":"gatepost activity"}
{"ip":"141.211.13.21","known":true,"touched":1795436000,"first":1795000000,"last":1795436000,"hour":498732,"hours":[3],"day":20780,"days":[3,1],"refusals":[{"at":"2026-11-23T12:00:00Z","count":2,"stage":"MAIL","reason":"sender","said":"550"}]}
{"ip":"141.211.13.22","touched":1795436000,"refusals":[{"at":"2026-11-23T12:00:00Z","count":40,"stage":"RCPT","reason":"unregistered","said":"550"}]}
`
	if err := os.WriteFile(w.file, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	b := w.open()
	counts(t, b, mfp, 3, 4, 4)
	if a := b.Of(mfp); !a.Needs.Since.IsZero() || a.Recipients != 0 || len(a.Refusals) != 1 {
		t.Errorf("%+v", a)
	}
	if list := b.Strangers(); len(list) != 1 || list[0].Addr != scanner || list[0].Count != 40 {
		t.Errorf("%+v", list)
	}
	b.Accepted(mfp, Message{Recipients: 2, Octets: 9})
	w.save(b)
	b = w.open()
	counts(t, b, mfp, 4, 5, 5)
	if a := b.Of(mfp); !a.Needs.Since.Equal(began) || a.Recipients != 2 || a.Octets != 9 || w.log.Len() > 0 {
		t.Errorf("%+v; log: %s", a, w.log.String())
	}
}

func TestADamagedFileIsPutAside(t *testing.T) {
	good := `{"version":2,"what":"gatepost activity"}` + "\n"
	for name, content := range map[string]string{
		"empty":             "",
		"zeros":             "\x00\x00",
		"another version":   `{"version":3,"what":"gatepost activity"}`,
		"cut":               good + `{"ip":"141.211.13.21","touch`,
		"no address":        good + `{"touched":1}`,
		"negative":          good + `{"ip":"141.211.13.21","touched":-1}`,
		"negative hour":     good + `{"ip":"141.211.13.21","touched":1,"hour":-1}`,
		"too many runs":     good + `{"ip":"141.211.13.21","touched":1,"refusals":[` + strings.Repeat(`{"count":1},`, MaxRefusals) + `{"count":1}]}`,
		"negative since":    good + `{"ip":"141.211.13.21","touched":1,"last":1,"since":-1}`,
		"negative need":     good + `{"ip":"141.211.13.21","touched":1,"last":1,"needs":[{"last":1,"day":-1}]}`,
		"too many needs":    good + `{"ip":"141.211.13.21","touched":1,"last":1,"needs":[{},{},{},{},{},{}]}`,
		"too many reasons":  good + `{"ip":"141.211.13.21","touched":1,"reasons":[{},{},{},{},{},{},{},{},{}]}`,
		"an impossible run": good + `{"ip":"141.211.13.21","touched":1,"refusals":[{"count":0}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mfp)
			if err := os.WriteFile(w.file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			b := w.open()
			if known, strangers := b.size(); known+strangers != 0 || !strings.Contains(w.log.String(), "activity.damaged") {
				t.Errorf("%d addresses; log: %s", known+strangers, w.log.String())
			}
			if aside, err := os.ReadFile(w.file + ".damaged"); err != nil || string(aside) != content {
				t.Errorf("not put aside: %v", err)
			}
			b.Accepted(mfp, Message{})
			w.save(b)
			counts(t, w.open(), mfp, 1, 1, 1)
		})
	}
}

// FuzzFile: no file breaks the start, and what is taken from one can be
// written and read again.
func FuzzFile(f *testing.F) {
	good := `{"version":1,"what":"gatepost activity"}` + "\n"
	f.Add([]byte(good + `{"ip":"141.211.13.21","known":true,"touched":1795436400,"first":1795436400,"last":1795436400,"hour":498732,"hours":[1,0,3],"day":20780,"days":[4],"refusals":[{"at":"2026-11-23T12:00:00Z","count":2,"stage":"MAIL","reason":"sender","said":"550"}]}`))
	f.Add([]byte(strings.Replace(good, "1", "2", 1) + `{"ip":"141.211.13.21","known":true,"touched":1795436400,"first":1795436400,"last":1795436400,"hour":498732,"hours":[1,0,3],"day":20780,"days":[4],"recipients":[7],"octets":[1000],"tls":"TLS 1.0","since":1795436400,"needs":[{"last":1795436400,"day":20780,"days":[2]},{}],"reasons":[{"reason":"sender","count":3,"first":1,"last":1795436400}]}`))
	f.Add([]byte(good + `{"ip":"::1","touched":1,"last":9,"hour":9223372036854775807,"hours":[4294967295],"day":1,"days":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := (&world{t: t, clock: clock{at: began}, file: filepath.Join(t.TempDir(), "none")}).open()
		if b.decode(data) != nil {
			return
		}
		b.Accepted(mfp, Message{})
		written, err := b.encode()
		if err != nil {
			t.Fatal(err)
		}
		again := (&world{t: t, clock: clock{at: began}, file: b.file}).open()
		if err := again.decode(written); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		for i := range b.parts {
			for _, m := range []map[netip.Addr]*entry{b.parts[i].known, b.parts[i].strangers} {
				for a := range m {
					if x, y := b.Of(a), again.Of(a); fmt.Sprint(x) != fmt.Sprint(y) || x.Day < 0 || x.Week < 0 || x.Month < x.Week {
						t.Errorf("%s was %+v, and is %+v", a, x, y)
					}
				}
			}
		}
	})
}

func TestItIsSavedOnceAMinuteAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, mfp)
		b, err := Open(Options{File: w.file, Logger: slog.New(slog.NewTextHandler(&w.log, nil)), Register: func() func(netip.Addr) bool { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()
		wait := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		written := func() bool { _, err := os.Stat(w.file); return err == nil }
		wait(5 * time.Minute)
		if written() {
			t.Error("nothing was seen, and a file was written")
		}
		b.Accepted(mfp, Message{})
		wait(30 * time.Second)
		if written() {
			t.Error("it is written before the minute is over")
		}
		wait(31 * time.Second)
		if !written() {
			t.Error("it is not written after a minute")
		}
		// A disk that fails is told of once, and what is not saved is saved later.
		if err := os.Remove(w.file); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(w.file)
		if err := os.Rename(dir, dir+".gone"); err != nil {
			t.Fatal(err)
		}
		b.Accepted(mfp, Message{})
		wait(5 * time.Minute)
		if n := strings.Count(w.log.String(), "activity.failed"); n != 1 {
			t.Errorf("told %d times:\n%s", n, w.log.String())
		}
		if err := os.Rename(dir+".gone", dir); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		if !written() {
			t.Error("what could not be saved is not saved later")
		}
		b.Accepted(mfp, Message{})
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if again, err := Open(Options{File: w.file, Logger: slog.New(slog.DiscardHandler)}); err != nil || again.Of(mfp).Day != 3 {
			t.Errorf("the last message is lost: %+v, %v", again.Of(mfp), err)
		}
	})
}

// BenchmarkSave writes 100,000 addresses that each sent today and before.
func BenchmarkSave(b *testing.B) {
	w := newWorld(b)
	book := w.open()
	for range 3 {
		for i := range 100_000 {
			book.Accepted(netip.AddrFrom4([4]byte{141, byte(i >> 16), byte(i >> 8), byte(i)}), Message{})
		}
		w.clock.move(26 * time.Hour)
	}
	for b.Loop() {
		book.dirty.Store(true)
		w.save(book)
	}
	if info, err := os.Stat(w.file); err == nil {
		b.ReportMetric(float64(info.Size()), "octets")
	}
}

// TestADiskThatFailsAtTheEndIsToldOf: a relay that cannot save at its end ends
// well all the same.
func TestADiskThatFailsAtTheEndIsToldOf(t *testing.T) {
	w := newWorld(t, mfp)
	b := w.open()
	b.Accepted(mfp, Message{})
	if err := os.Remove(filepath.Dir(w.file)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); err != nil || !strings.Contains(w.log.String(), "activity.failed") {
		t.Errorf("%v; log: %s", err, w.log.String())
	}
}
