package book

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string) (*Book, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	b, err := Open(Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return b, &log
}

func full() Request {
	ip := netip.MustParseAddr("2001:db8::1")
	return Request{
		Number: 12, Kind: KindForm, Title: "Register mfp3", URL: "https://github.com/o/r/pull/12", Department: "lsa-physics",
		By: Person{"u1", "Ann", "ann@example.edu"}, Speaks: true, Contacts: []Contact{{"Bob", "bob@Example.edu"}, {"", "bob@example.edu"}},
		IPs: []netip.Addr{ip, netip.MustParseAddr("192.0.2.1")}, Paths: []string{"registrations/x.cue"}, Said: "s", OpenedAt: noon, State: "merged", Head: "h", MergedAs: "m", MergedBy: "cy", MergedAt: noon,
		Checked: Check{"h", "b", "success", "no problems", "**fine**", noon}, Adds: []netip.Addr{ip}, Proved: map[netip.Addr]time.Time{ip: noon}, Approved: []Approval{{"cy", noon}},
		Live: map[string]time.Time{"relay1": noon}, Confirmed: map[netip.Addr]time.Time{ip: noon},
		Asked:       []Ask{{ID: "comment-1", By: "cy", At: noon, Text: "Why?", MailedAt: noon, Answer: "So.", AnsweredBy: Person{Name: "Ann"}, Answered: noon, Posted: noon}},
		ClosedWords: "no", ClosedTold: noon, Comment: "d", Status: map[string]string{"m": "s"},
	}
}

// TestWhatIsRememberedOutlivesTheProgram: every field, and nothing else.
func TestWhatIsRememberedOutlivesTheProgram(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state", "book")
	b, _ := open(t, dir)
	want := full()
	for v, i := reflect.ValueOf(want), 0; i < v.NumField(); i++ {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "ClosedAt" {
			t.Errorf("the test leaves out %s", name)
		}
	}
	if err := b.Put(want); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Update(3, func(r *Request) { r.Title = "three" }); err != nil {
		t.Fatal(err)
	}
	// A file that a crash left half-way is nobody's.
	left := filepath.Join(dir, "requests", ".12.json.4711")
	if err := os.WriteFile(left, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, log := open(t, dir)
	got, ok := again.Get(12)
	if !ok || !reflect.DeepEqual(got, want) || log.Len() > 0 {
		t.Errorf("%+v\nwant %+v\n%s", got, want, log)
	}
	if all := again.All(); len(all) != 2 || all[0].Number != 12 || all[1].Title != "three" || all[1].Kind != KindOther {
		t.Errorf("all: %+v", all)
	}
	if told := got.Told(); len(told) != 1 || told[0] != "bob@example.edu" {
		t.Errorf("told: %v", told)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left over: %v", err)
	}
	three := func(r *Request) bool { return r.Title == "three" }
	if !again.Any(three) || again.Any(func(r *Request) bool { return r.Number == 4 }) {
		t.Error("Any")
	}
	if _, ok := again.Get(4); ok {
		t.Error("a request that nobody told of")
	}
}

// TestWhatIsGivenOutIsACopy: pages read while the reporter writes.
func TestWhatIsGivenOutIsACopy(t *testing.T) {
	t.Parallel()
	b, _ := open(t, t.TempDir())
	mine := full()
	if err := b.Put(mine); err != nil {
		t.Fatal(err)
	}
	mine.Live["relay2"] = noon
	mine.Asked[0].Answer = "forged"
	got, _ := b.Get(12)
	got.Contacts[0].Email, got.Confirmed[netip.MustParseAddr("192.0.2.9")] = "forged", noon
	if now, _ := b.Get(12); !reflect.DeepEqual(now, full()) {
		t.Errorf("%+v", now)
	}
}

// TestManyAtATime: no change is lost.
func TestManyAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, _ := open(t, dir)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 5 {
				if _, err := b.Update(1, func(r *Request) { r.Title += "x" }); err != nil {
					t.Error(err)
				}
				if err := b.Owe(Mail{Key: fmt.Sprint("mail ", i), To: []string{"a@example.edu"}}); err != nil {
					t.Error(err)
				}
				b.All()
				b.Owed(noon)
			}
		})
	}
	all.Wait()
	again, _ := open(t, dir)
	if r, _ := again.Get(1); r.Title != strings.Repeat("x", 40) || len(again.Owed(noon)) != 8 {
		t.Errorf("%q, %d", r.Title, len(again.Owed(noon)))
	}
}

// TestDamagedFilesCostThemselves, and are put aside with a line in the log.
func TestDamagedFilesCostThemselves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, _ := open(t, dir)
	for n := range 5 {
		if err := b.Put(Request{Number: n + 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(b.Owe(Mail{Key: "k", To: []string{"a@example.edu"}}), b.SetAutomatic(Opened{4, noon}, "renewal x")); err != nil {
		t.Fatal(err)
	}
	mails, err := filepath.Glob(filepath.Join(dir, "mails", "*.json"))
	if err != nil || len(mails) != 1 {
		t.Fatal(mails, err)
	}
	for path, text := range map[string]string{
		filepath.Join(dir, "requests", "1.json"): "", filepath.Join(dir, "requests", "2.json"): `{"version":1,"is":{"number":7}}`,
		filepath.Join(dir, "requests", "3.json"): strings.Repeat(" ", maxFile+1), filepath.Join(dir, "requests", "4.json"): `{"version":1,"is":{"number":4,"openedAt":"yesterday"}}`,
		mails[0]: `{"version":1,"is":{"key":"other","to":["a@example.edu"]}}`, filepath.Join(dir, "opened.json"): "[]",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, log := open(t, dir)
	if all := again.All(); len(all) != 1 || all[0].Number != 5 || len(again.Owed(noon)) != 0 {
		t.Errorf("%+v", all)
	}
	if n := strings.Count(log.String(), "event=book.damaged"); n != 6 {
		t.Errorf("%d lines:\n%s", n, log)
	}
	if err := errors.Join(again.Put(Request{Number: 1, Title: "anew"}), again.SetAutomatic(Opened{5, noon}, "renewal y")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "requests", "1.json.damaged")); err != nil {
		t.Error(err)
	}
}

// TestNewerFilesStopIt: they are not damaged.
func TestNewerFilesStopIt(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"requests/1.json", "mails/x.json", "opened.json"} {
		dir := t.TempDir()
		open(t, dir)
		file := filepath.Join(dir, path)
		if err := os.WriteFile(file, []byte(`{"version":2,"is":{}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: dir}); !errors.Is(err, errNewer) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}

// TestAMailIsOwedOnce: over crashes, failures and the year after.
func TestAMailIsOwedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, _ := open(t, dir)
	m := Mail{Key: "ask 12 comment-1", To: []string{"ann@example.edu"}, Subject: "A question", Body: "Why?\n"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.Owe(m))
	must(b.Owe(m))
	b, _ = open(t, dir)
	must(b.Owe(Mail{Key: m.Key, To: []string{"eve@example.edu"}}))
	owed := b.Owed(noon)
	if len(owed) != 1 || owed[0].Subject != "A question" || owed[0].To[0] != "ann@example.edu" || !owed[0].Created.Equal(noon) {
		t.Fatalf("owed: %+v", owed)
	}
	must(b.Failed(m.Key, "451 later", noon.Add(time.Minute)))
	if len(b.Owed(noon)) != 0 || len(b.Owed(noon.Add(time.Minute))) != 1 {
		t.Error("a try that failed is not put off")
	}
	if n, since := b.Waiting(); n != 1 || !since.Equal(noon) {
		t.Errorf("waiting: %d since %s", n, since)
	}
	must(b.Sent(m.Key, noon))
	must(b.Owe(m))
	b, _ = open(t, dir)
	must(b.Owe(m))
	if len(b.Owed(noon.Add(time.Hour))) != 0 || !b.Knows(m.Key) || b.Knows("other") {
		t.Error("a mail that was sent is owed again")
	}
	if data, err := os.ReadFile(filepath.Join(dir, "mails", mailName(m.Key)+suffix)); err != nil || bytes.Contains(data, []byte("Why?")) {
		t.Errorf("its text is still here: %s, %v", data, err)
	}
	must(b.Owe(Mail{Key: "dead", To: []string{"x@example.edu"}}))
	must(b.GiveUp("dead", "550 no", noon))
	if n, _ := b.Waiting(); n != 0 {
		t.Errorf("%d waiting", n)
	}
	for _, bad := range []error{b.Sent("none", noon), b.Owe(Mail{Key: "k"}), b.Owe(Mail{To: []string{"a@example.edu"}})} {
		if bad == nil {
			t.Error("no error")
		}
	}
}

// TestNothingGrowsForEver.
func TestNothingGrowsForEver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, _ := open(t, dir)
	b.most = bounds{requests: 3, mails: 4, owed: 2, opened: 3}
	for n := 1; n <= 5; n++ {
		if err := errors.Join(b.Put(Request{Number: n}), b.SetAutomatic(Opened{n, noon.Add(time.Duration(n))}, fmt.Sprint("key ", n))); err != nil {
			t.Fatal(err)
		}
	}
	if all := b.All(); len(all) != 3 || all[2].Number != 3 {
		t.Errorf("%+v", all)
	}
	if _, old := b.Automatic("key 2"); old {
		t.Error("the oldest is still noted")
	}
	if o, ok := b.Automatic("key 5"); !ok || o.Number != 5 {
		t.Error("the newest is not noted")
	}
	if o := b.NewestAutomatic("key "); o.Number != 5 || b.NewestAutomatic("other ").Number != 0 {
		t.Errorf("the newest: %+v", o)
	}
	if at, err := b.First("relay relay1"); err != nil || !at.Equal(noon) {
		t.Errorf("first: %s, %v", at, err)
	}
	b.now = func() time.Time { return noon.AddDate(5, 0, 0) }
	if err := b.SetAutomatic(Opened{9, b.now()}, "key 9"); err != nil {
		t.Fatal(err)
	}
	if at, err := b.First("relay relay1"); err != nil || !at.Equal(noon) || len(b.opened) != 2 {
		t.Errorf("first, five years later: %s, %v, of %d", at, err, len(b.opened))
	}
	b.now = func() time.Time { return noon }
	to := []string{"a@example.edu"}
	for n := range 8 {
		key := fmt.Sprint("mail ", n)
		if err := errors.Join(b.Owe(Mail{Key: key, To: to, Created: noon.Add(time.Duration(n))}), b.Sent(key, noon)); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.mails) != 4 || b.Knows("mail 3") || !b.Knows("mail 7") {
		t.Errorf("%d mails", len(b.mails))
	}
	if err := errors.Join(b.Owe(Mail{Key: "a", To: to}), b.Owe(Mail{Key: "b", To: to})); err != nil {
		t.Fatal(err)
	}
	if err := b.Owe(Mail{Key: "c", To: to}); !errors.Is(err, ErrFull) {
		t.Errorf("a third: %v", err)
	}
	if err := b.Put(Request{Number: 5, Title: strings.Repeat("x", maxFile)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large one: %v", err)
	}
	if r, _ := b.Get(5); r.Title != "" {
		t.Error("what was refused is remembered")
	}
	again, _ := open(t, dir)
	if len(again.All()) != 3 {
		t.Errorf("%+v", again.All())
	}
}

// TestADiskThatFails: what is not on it is not remembered either.
func TestADiskThatFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, _ := open(t, dir)
	if err := b.Put(Request{Number: 1, Title: "kept"}); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"requests", "mails"} {
		if err := os.RemoveAll(filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, folder), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Update(1, func(r *Request) { r.Title = "lost" }); err == nil {
		t.Error("no error")
	}
	if err := b.Owe(Mail{Key: "k", To: []string{"a@example.edu"}}); err == nil || b.Knows("k") {
		t.Errorf("a mail: %v", err)
	}
	if r, _ := b.Get(1); r.Title != "kept" {
		t.Errorf("%+v", r)
	}
	if err := b.Put(Request{}); err == nil {
		t.Error("a request without a number")
	}
}
