package trace

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A bench is a book on a clock of its own.
type bench struct {
	*Book
	t   *testing.T
	dir string
	at  time.Time
	log bytes.Buffer
}

func open(t *testing.T) *bench {
	b := &bench{t: t, dir: filepath.Join(t.TempDir(), "trace"), at: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	b.again()
	return b
}

// again opens the book as after a crash.
func (b *bench) again() {
	b.t.Helper()
	book, err := Open(Options{Dir: b.dir, Logger: slog.New(slog.NewTextHandler(&b.log, nil)), Now: func() time.Time { return b.at }})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Book = book
}

func (b *bench) find(id spool.ID) []Record {
	b.t.Helper()
	found, _, err := b.Find(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

func (b *bench) files() (names []string, total int64) {
	b.t.Helper()
	names, err := b.names()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(b.dir, name))
		if err != nil {
			b.t.Fatal(err)
		}
		total += info.Size()
	}
	return names, total
}

func entry(id spool.ID, recipients int) *spool.Entry {
	e := &spool.Entry{ID: id, Size: 1234, Attempts: 1, Envelope: mail.Envelope{
		From: mail.Address{Local: "scanner", Domain: "lab.example"}, Client: netip.MustParseAddr("192.0.2.7"), HELO: "mfp1",
		Protocol: "ESMTPS", TLS: "TLS 1.3", Registration: "registrations/lab/mfp.cue", Commit: "3f2a9c1d0b5e4f6a7b8c9d0e1f2a3b4c5d6e7f80",
		Arrival: time.Date(2026, 11, 23, 11, 59, 0, 0, time.UTC),
	}}
	for i := range recipients {
		e.Envelope.To = append(e.Envelope.To, mail.Recipient{Address: mail.Address{Local: fmt.Sprintf("r%d", i), Domain: "example.org"}})
		e.State = append(e.State, spool.RecipientState{Done: true, Last: mail.Result{
			Outcome: mail.Delivered, Status: mail.Status{Code: 250, Enhanced: mail.Enhanced{2, 0, 0}, Text: "ok: queued as 4bXyz"},
			RemoteMTA: "mx1.example.org", TLS: "TLS 1.3", At: e.Envelope.Arrival.Add(time.Second),
		}})
	}
	return e
}

func TestWhatIsRememberedOutlivesACrash(t *testing.T) {
	b := open(t)
	b.Told("0000000000a0000", "0000000000n0000", "delay")
	b.Ended(entry("0000000000a0000", 2), Finished, "", "")
	b.Ended(entry("0000000000b0000", 1), Deleted, "a worm", "alice")
	for _, state := range []string{"in memory", "on the disk", "after a crash"} {
		got := b.find("0000000000a0000")
		if len(got) != 2 || got[0].DSN != "0000000000n0000" || got[1].How != Finished || got[1].Entry.Envelope.Client.String() != "192.0.2.7" ||
			got[1].Entry.State[1].Last.Status.String() != "250 2.0.0 ok: queued as 4bXyz" || !got[1].At.Equal(b.at) {
			t.Errorf("%s: %+v", state, got)
		}
		if got := b.find("0000000000n0000"); len(got) != 1 || got[0].ID != "0000000000a0000" {
			t.Errorf("%s: of the DSN: %+v", state, got)
		}
		if got := b.find("0000000000b0000"); len(got) != 1 || got[0].Reason != "a worm" || got[0].Operator != "alice" {
			t.Errorf("%s: %+v", state, got)
		}
		if got := b.find("0000000000c0000"); len(got) != 0 {
			t.Errorf("%s: of nobody: %+v", state, got)
		}
		if state == "in memory" {
			b.write()
		} else {
			b.again()
		}
	}
}

// TestALineThatACrashHasCut costs itself and no other.
func TestALineThatACrashHasCut(t *testing.T) {
	b := open(t)
	b.Ended(entry("0000000000a0000", 1), Finished, "", "")
	b.Ended(entry("0000000000b0000", 1), Finished, "", "")
	b.write()
	names, total := b.files()
	if err := os.Truncate(filepath.Join(b.dir, names[0]), total-40); err != nil {
		t.Fatal(err)
	}
	b.again()
	b.Ended(entry("0000000000c0000", 1), Finished, "", "")
	b.write()
	for id, want := range map[spool.ID]int{"0000000000a0000": 1, "0000000000b0000": 0, "0000000000c0000": 1} {
		if got := b.find(id); len(got) != want {
			t.Errorf("%s: %d records", id, len(got))
		}
	}
	if names, _ := b.files(); len(names) != 1 {
		t.Errorf("each start begins a file: %v", names)
	}
}

// TestItIsBounded in octets on the disk, and the newest are kept.
func TestItIsBounded(t *testing.T) {
	b := open(t)
	filler := bytes.Repeat([]byte("{\"id\":\"x\"}\n"), 100_000)
	for i := range 200 {
		b.at = b.at.Add(time.Second)
		b.filing.Lock()
		if err := b.append(filler); err != nil {
			t.Fatal(err)
		}
		b.filing.Unlock()
		b.Ended(entry(spool.ID(fmt.Sprintf("%015d", i)), 1), Finished, "", "")
		b.write()
	}
	names, total := b.files()
	if total > MaxBytes || total < MaxBytes/2 {
		t.Errorf("%d files of %d octets in all", len(names), total)
	}
	if len(b.find(spool.ID(fmt.Sprintf("%015d", 199)))) != 1 || len(b.find(spool.ID(fmt.Sprintf("%015d", 0)))) != 0 {
		t.Error("the oldest must go, and nothing else")
	}
	found, since, err := b.Find(t.Context(), "0")
	if err != nil || len(found) != 0 || !since.Equal(beginOf(names[0])) {
		t.Errorf("since %v: %v", since, err)
	}
}

func TestNothingIsKeptForTooLong(t *testing.T) {
	b := open(t)
	b.Ended(entry("0000000000a0000", 1), Finished, "", "")
	b.write()
	names, _ := b.files()
	if err := os.Chtimes(filepath.Join(b.dir, names[0]), b.at, b.at); err != nil {
		t.Fatal(err)
	}
	b.at = b.at.Add(KeepFor - time.Hour)
	if len(b.find("0000000000a0000")) != 1 {
		t.Error("it is forgotten too soon")
	}
	b.at = b.at.Add(2 * time.Hour)
	if len(b.find("0000000000a0000")) != 0 {
		t.Error("it is told after its time")
	}
	b.Ended(entry("0000000000b0000", 1), Finished, "", "")
	b.write()
	if now, _ := b.files(); len(now) != 1 || now[0] == names[0] {
		t.Errorf("it is there after its time: %v", now)
	}
}

// TestManyRecipients and long words make no long record.
func TestManyRecipients(t *testing.T) {
	b := open(t)
	b.Ended(entry("0000000000a0000", 10_000), Finished, "", "")
	long := entry("0000000000b0000", 100)
	for i := range long.State {
		long.State[i].Last.Status.Text = strings.Repeat("x", 5000)
	}
	b.Ended(long, Finished, "", "")
	if len(b.pending) > 2*maxLine {
		t.Errorf("%d octets", len(b.pending))
	}
	if got := b.find("0000000000a0000"); len(got) != 1 || got[0].More != 9900 || len(got[0].Entry.Envelope.To) != 100 || len(got[0].Entry.State) != 100 {
		t.Errorf("%+v", got)
	}
	if got := b.find("0000000000b0000"); len(got) != 1 || got[0].More < 80 || len(got[0].Entry.State)+got[0].More != 100 {
		t.Errorf("%d records", len(got))
	}
	if len(long.State) != 100 {
		t.Error("the entry itself is changed")
	}
}

// TestADiskThatDoesNotTakeIt costs memory of a bound, and is told once.
func TestADiskThatDoesNotTakeIt(t *testing.T) {
	b := open(t)
	e := entry("0000000000a0000", 100)
	for range 2 * maxPending / maxLine * 3 {
		b.Ended(e, Finished, "", "")
	}
	if len(b.pending) > maxPending || b.lost == 0 {
		t.Errorf("%d octets wait, %d are lost", len(b.pending), b.lost)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.dir, nil, 0o600); err != nil { // in the way, for root too
		t.Fatal(err)
	}
	for range 3 {
		b.write()
		b.Ended(e, Finished, "", "")
	}
	if n := strings.Count(b.log.String(), "event=trace.failed"); n != 1 {
		t.Errorf("told %d times:\n%s", n, b.log.String())
	}
	if err := os.Remove(b.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.write()
	if len(b.find("0000000000a0000")) != 1 {
		t.Error("it does not go on by itself")
	}
}

// TestRunWritesSoonAndAtTheEnd, whoever notes and asks meanwhile.
func TestRunWritesSoonAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t)
		stop := b.run()
		b.Ended(entry("0000000000a0000", 1), Finished, "", "")
		<-time.After(2 * writeAfter)
		synctest.Wait()
		if _, total := b.files(); total == 0 {
			t.Error("nothing is written")
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for k := range 50 {
					b.Ended(entry(spool.ID(fmt.Sprintf("%010d%05d", i, k)), 1), Finished, "", "")
					b.find("0000000000a0000")
				}
			})
		}
		all.Wait()
		stop()
		b.again()
		for i := range 8 {
			if len(b.find(spool.ID(fmt.Sprintf("%010d%05d", i, 49)))) != 1 {
				t.Error("what was noted last is lost")
			}
		}
	})
}

func BenchmarkEnded(b *testing.B) {
	book, err := Open(Options{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	e := entry("0000000000a0000", 1)
	b.ReportAllocs()
	for b.Loop() {
		book.Ended(e, Finished, "", "")
		if len(book.pending) > maxPending/2 {
			b.ReportMetric(float64(bytes.Index(book.pending, []byte("\n"))), "octets")
			book.pending = book.pending[:0]
		}
	}
}

func BenchmarkFind(b *testing.B) {
	book, err := Open(Options{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	e := entry("0000000000a0000", 1)
	for size := 0; size < MaxBytes-maxFile; {
		for len(book.pending) < maxPending/2 {
			book.Ended(e, Finished, "", "")
		}
		size += len(book.pending)
		book.write()
	}
	for b.Loop() {
		if found, _, err := book.Find(b.Context(), "0000000000b0000"); err != nil || len(found) > 0 {
			b.Fatal(err)
		}
	}
}

// run runs the book until stop is called.
func (b *bench) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
}
