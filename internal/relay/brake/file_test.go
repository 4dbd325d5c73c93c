package brake

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// open reads a file at a time.
func open(t testing.TB, file string, now time.Time, log *bytes.Buffer) *Brake {
	t.Helper()
	return fresh(t, func(o *Options) {
		o.File, o.Now = file, func() time.Time { return now }
		if log != nil {
			o.Logger = slog.New(slog.NewTextHandler(log, nil))
		}
	})
}

func TestARestartForgetsNoStep(t *testing.T) {
	file := filepath.Join(t.TempDir(), "brake")
	b := open(t, file, noon, nil)
	for n := range 4 {
		for i := range 100 + n {
			b.Accepted(printer, message(uint64(i+1), i, 1), noon.AddDate(0, 0, n-4))
		}
	}
	free := Client{Registration: "registrations/its/free.cue", Addr: printer.Addr, PerHour: 200}
	now := flood(t, b, printer, Held, noon)
	now = flood(t, b, free, Held, now)
	b.now = func() time.Time { return now }
	if _, err := b.Release(free.Registration, time.Hour, "a drill"); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	again := open(t, file, now, nil)
	before, _ := b.Of(printer.Registration)
	after, ok := again.Of(printer.Registration)
	if !ok || after.State.Step != Held || !after.State.Since.Equal(before.State.Since) || len(after.State.Why) == 0 ||
		!slices.Equal(after.Machines, before.Machines) || after.Counts.Usual != before.Counts.Usual || after.Counts.Usual < 100 {
		t.Errorf("%+v was %+v", after, before)
	}
	if again.Holds(printer.Registration, now) == "" {
		t.Error("its mail is not held")
	}
	if !again.owed[printer.Registration] {
		t.Error("nobody may have been told, and nobody will be")
	}
	for i := range 5000 {
		again.Refused(free, message(0, i, 1), now)
	}
	if s := again.step(free); s != Free {
		t.Errorf("an operator's word is forgotten: %s", s)
	}
	if _, err := again.Release(printer.Registration, 0, "it was nothing"); err != nil {
		t.Error(err)
	}
	if last := open(t, file, now, nil); last.step(printer) != Free {
		t.Error("the release is not on the disk")
	}
}

// What was counted today before a restart is not what is usual.
func TestTodayIsNotUsual(t *testing.T) {
	file := filepath.Join(t.TempDir(), "brake")
	b := open(t, file, noon, nil)
	for i := range 400 {
		b.Accepted(printer, message(uint64(i+1), i, 1), noon)
	}
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	b = open(t, file, noon, nil)
	b.Accepted(printer, message(1, 1, 1), noon)
	if r, _ := b.Of(printer.Registration); r.Counts.Usual != 200 || r.Counts.Recipients < 390 {
		t.Errorf("%+v", r.Counts)
	}
	b.Accepted(printer, message(1, 1, 1), noon.AddDate(0, 0, 1))
	b.now = func() time.Time { return noon.AddDate(0, 0, 1) }
	if r, _ := b.Of(printer.Registration); r.Counts.Usual < 390 || r.Counts.Recipients != 1 {
		t.Errorf("a day later %+v", r.Counts)
	}
}

func TestDamage(t *testing.T) {
	const head = `{"version":1,"what":"gatepost brake"}` + "\n"
	const line = `{"registration":"a","state":{"step":"hold","since":"2026-11-23T12:00:00Z","why":[{"kind":"volume","over":3,"words":"x"}]},"machines":[{"ip":"192.0.2.1","messages":7}],"touched":1,"day":20000,"days":[1,2,3]}` + "\n"
	replace := func(old, new string) string { return head + strings.Replace(line, old, new, 1) }
	tests := map[string]string{
		"empty":                 "",
		"another version":       strings.Replace(head, ":1", ":2", 1),
		"something else":        strings.Replace(head, "brake", "limits", 1),
		"torn":                  head + line[:40],
		"no name":               replace(`"a"`, `""`),
		"a long name":           replace(`"a"`, `"`+strings.Repeat("a", maxPath+1)+`"`),
		"a step that is none":   replace("hold", "maim"),
		"a step without a time": replace(`"since":"2026-11-23T12:00:00Z",`, ""),
		"free since a time":     replace("hold", "free"),
		"long words":            replace(`"x"`, `"`+strings.Repeat("a", maxText+1)+`"`),
		"much evidence":         replace(`"why":[`, `"why":[`+strings.Repeat(`{"words":"x"},`, maxWhy)),
		"no address":            replace("192.0.2.1", "192.0.2"),
		"a zone":                replace("192.0.2.1", "fe80::1%eth0"),
		"no days":               replace("[1,2,3]", "[]"),
		"many days":             replace("[1,2,3]", "[1,2,3,4,5,6,7,8,9]"),
		"a day below zero":      replace("20000", "-1"),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "brake")
			if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			b := open(t, file, noon, &log)
			if len(b.trackers) != 0 || len(b.owed) != 0 {
				t.Error("somebody is braked")
			}
			if !strings.Contains(log.String(), "event=brake.damaged") || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("the log says %q", log.String())
			}
			if kept, err := os.ReadFile(file + ".damaged"); err != nil || string(kept) != data {
				t.Errorf("it is not put aside: %v", err)
			}
		})
	}
	good := filepath.Join(t.TempDir(), "brake")
	if err := os.WriteFile(good, []byte(head+line), 0o600); err != nil {
		t.Fatal(err)
	}
	if b := open(t, good, noon, nil); b.step(Client{Registration: "a"}) != Held {
		t.Error("the table's line is not good as it is")
	}
}

// An actor is a Teller and a Blocker that writes down what it is asked for, and
// fails as long as it is told to.
type actor struct {
	mu   sync.Mutex
	did  []string
	fail error
}

func (a *actor) do(what string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fail != nil {
		return a.fail
	}
	a.did = append(a.did, what)
	return nil
}

func (a *actor) failing(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = err
}

func (a *actor) all() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.did, ", ")
}

func (a *actor) Tell(_ context.Context, n Notice) error { return a.do("tell " + n.State.Step.String()) }
func (a *actor) Block(addr netip.Addr, _ string, _ time.Time) error {
	return a.do("block " + addr.String())
}
func (a *actor) Unblock(addr netip.Addr) error { return a.do("unblock " + addr.String()) }

// TestRun plays a whole story by the clock: each step is on the disk before
// people are told, what fails is tried again, and what ends ends.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var logging sync.Mutex
		who := &actor{}
		b := fresh(t, func(o *Options) {
			o.File, o.Teller, o.Blocker = filepath.Join(dir, "brake"), who, who
			o.Logger = slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
				logging.Lock()
				defer logging.Unlock()
				return log.Write(p)
			}), nil))
		})
		events := func(name string) int {
			logging.Lock()
			defer logging.Unlock()
			return strings.Count(log.String(), "event="+name+" ")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- b.Run(ctx) }()
		send := func(step Step) {
			t.Helper()
			for i := range 20_000 {
				if i%20 == 0 {
					if list := b.List(); len(list) > 0 && list[0].State.Step >= step {
						synctest.Wait()
						return
					}
				}
				if i%100 == 0 {
					<-time.After(time.Minute)
				}
				b.Refused(printer, message(0, i, 1), time.Now())
			}
			t.Fatalf("it is never %s", step)
		}
		send(Slowed)
		if who.all() != "" || events("brake.step") != 1 {
			t.Errorf("slowed: %s", who.all())
		}
		who.failing(errors.New("the spool"))
		send(Held)
		if events("brake.tell_failed") < 1 || b.Holds(printer.Registration, time.Now()) == "" {
			t.Error("a failure to tell is not told, or keeps the mail from being held")
		}
		who.failing(nil)
		<-time.After(tickTime)
		synctest.Wait()
		if who.all() != "tell hold" {
			t.Errorf("held: %s", who.all())
		}
		if again := open(t, b.o.File, time.Now(), nil); again.step(printer) != Held {
			t.Error("the step is not on the disk")
		}
		send(Blocked)
		if who.all() != "tell hold, block 192.0.2.1, tell block" {
			t.Errorf("blocked: %s", who.all())
		}
		<-time.After(24*time.Hour + tickTime)
		synctest.Wait()
		if s := b.List()[0].State.Step; s != Held || who.all() != "tell hold, block 192.0.2.1, tell block, tell hold" {
			t.Errorf("after the block it is %s: %s", s, who.all())
		}
		if _, err := b.Release(printer.Registration, 0, "a drill"); err != nil || !strings.HasSuffix(who.all(), ", unblock 192.0.2.1") {
			t.Errorf("released: %v, %s", err, who.all())
		}
		send(Slowed)
		<-time.After(time.Hour + tickTime)
		synctest.Wait()
		if len(b.List()) != 0 || events("brake.ended") != 1 {
			t.Error("slowing down does not end")
		}
		<-time.After(keepFor + time.Hour)
		synctest.Wait()
		if _, known := b.Of(printer.Registration); known {
			t.Error("it is remembered for ever")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// A machine that sends a little beside one that runs wild is held, and not
// blocked.
func TestOnlyBusyMachinesAreBlocked(t *testing.T) {
	who := &actor{}
	b := fresh(t, func(o *Options) { o.Blocker = who })
	quiet := printer
	quiet.Addr = netip.MustParseAddr("192.0.2.2")
	for i := range 5 {
		b.Accepted(quiet, message(uint64(i+1), i, 1), noon)
	}
	flood(t, b, printer, Blocked, noon)
	failing := false
	b.act(t.Context(), &failing)
	if who.all() != "block 192.0.2.1" {
		t.Errorf("it did %s", who.all())
	}
	if r := b.List()[0]; len(r.Machines) != 2 || r.Machines[0].Addr != printer.Addr || r.Machines[1].Messages != 5 {
		t.Errorf("%+v", r.Machines)
	}
}

// Nobody is told of a step that a crash would take back.
func TestNobodyIsToldBeforeTheDisk(t *testing.T) {
	who := &actor{}
	b := fresh(t, func(o *Options) {
		o.File, o.Teller = filepath.Join(t.TempDir(), "nowhere", "brake"), who
	})
	flood(t, b, printer, Held, noon)
	failing := false
	for range 3 {
		b.act(t.Context(), &failing)
	}
	if !failing || who.all() != "" {
		t.Errorf("told: %s", who.all())
	}
	b.o.File = filepath.Join(t.TempDir(), "brake")
	b.act(t.Context(), &failing)
	if failing || who.all() != "tell hold" {
		t.Errorf("told: %s", who.all())
	}
}

// FuzzFile: whatever is in the file, reading it ends, and what is read holds
// what the package promises, and is written so that it can be read again.
func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"what":"gatepost brake"}
{"registration":"a","state":{"step":"hold","since":"2026-11-23T12:00:00Z","why":[{"kind":"volume","over":3,"words":"x"}]},"machines":[{"ip":"192.0.2.1","messages":7}],"touched":1,"day":20000,"days":[1,2,3]}
{"registration":"b","state":{"step":"free","freeUntil":"2026-11-23T12:00:00Z"},"touched":1,"day":20415,"days":[4294967295]}
{"registration":"c","state":{"step":"block","since":"2026-11-23T12:00:00Z","until":"2026-11-24T12:00:00Z"},"perHour":9223372036854775807,"touched":9,"day":0,"days":[1,2,3,4,5,6,7,8]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := fresh(t, func(o *Options) { o.Now = func() time.Time { return noon } })
		if b.decode(data) != nil {
			return
		}
		again := fresh(t)
		for _, l := range b.lines() {
			if !again.take(l) {
				t.Fatalf("%+v is written and not read", l)
			}
		}
		for path := range b.trackers {
			c := Client{Registration: path, Addr: printer.Addr, PerHour: 10}
			b.Ask(c, message(0, 1, 1), noon)
			b.Accepted(c, message(1, 1, 2), noon.Add(time.Hour))
			b.Result(path, failed, noon.AddDate(0, 0, 3))
			b.Holds(path, noon)
		}
		b.clock(noon.AddDate(0, 0, 1))
		b.List()
	})
}
