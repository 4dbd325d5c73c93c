package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t testing.TB, path string) *Records {
	t.Helper()
	r, err := OpenRecords(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func add(t testing.TB, r *Records, rec Record, news bool) {
	t.Helper()
	got, err := r.Add(rec)
	if err != nil || got != news {
		t.Fatalf("Add(%+v) is %v, %v, want %v", rec, got, err, news)
	}
}

func record(addr netip.Addr, request int, minute, expires int) Record {
	return Record{Addr: addr, Request: request, At: now.Add(time.Duration(minute) * time.Minute), Port: "relay",
		Expires: now.Add(time.Duration(expires) * 24 * time.Hour)}
}

func TestATokenProvesOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records")
	r := open(t, path)
	add(t, r, record(mfp, 7, 0, 7), true)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	add(t, r, record(mfp, 7, 5, 7), false)             // the same token again
	add(t, r, record(mfp, 7, 6, 3), false)             // an older one, after a newer
	add(t, open(t, path), record(mfp, 7, 5, 7), false) // the same after a restart
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("a second use has changed the file")
	}
	if got := r.Of(mfp); len(got) != 1 || !got[0].At.Equal(now) {
		t.Errorf("a second use has changed the record: %+v", got)
	}
	add(t, r, record(mfp, 7, 10, 9), true) // a new token: proved anew
	add(t, r, record(mfp, 7, 11, 7), false)
	add(t, r, record(mfp, 0, 12, 7), true) // another request
	add(t, r, record(mfp6, 7, 13, 7), true)
	want := []Record{record(mfp6, 7, 13, 7), record(mfp, 0, 12, 7), record(mfp, 7, 10, 9)}
	for name, records := range map[string]*Records{"now": r, "after a restart": open(t, path)} {
		if got := records.Newest(MaxRecords); !slices.Equal(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		if got := records.Of(netip.MustParseAddr("::ffff:141.211.13.21")); !slices.Equal(got, want[1:]) {
			t.Errorf("%s: of one address: %+v", name, got)
		}
		if got := records.Of(netip.MustParseAddr("10.0.0.1")); got != nil {
			t.Errorf("%s: of another: %+v", name, got)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// fill writes a file of n records, the cheap way.
func fill(t testing.TB, path string, n int) {
	t.Helper()
	s := saved{Version: version}
	for i := range n {
		s.Records = append(s.Records, record(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1, i, 7))
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheOldestRecordGoesFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records")
	fill(t, path, MaxRecords)
	r := open(t, path)
	first, second := netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("10.0.0.1")
	add(t, r, record(second, 1, MaxRecords, 8), true) // renewed: not the oldest any more, and no drop
	if r.Len() != MaxRecords || len(r.Of(first)) != 1 {
		t.Fatalf("%d records", r.Len())
	}
	add(t, r, record(mfp, 1, MaxRecords+1, 7), true)
	if r.Len() != MaxRecords || len(r.Of(first)) != 0 || len(r.Of(second)) != 1 {
		t.Errorf("%d records, %v, %v", r.Len(), r.Of(first), r.Of(second))
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxFile {
		t.Errorf("%d octets, of %d that are read again; %v", info.Size(), maxFile, err)
	}
	if got := open(t, path); got.Len() != MaxRecords {
		t.Errorf("%d after a restart", got.Len())
	}
}

func TestDamagedRecordsArePutAside(t *testing.T) {
	for name, content := range map[string]string{
		"empty":             "",
		"no JSON":           "\x00\x00\x00\x00",
		"cut":               `{"version":1,"records":[{"ip":"10.0.0.1"`,
		"another version":   `{"version":2,"records":[]}`,
		"two values":        `{"version":1,"records":[]} {}`,
		"no address":        `{"version":1,"records":[{"at":"2026-11-23T12:00:00Z"}]}`,
		"no time":           `{"version":1,"records":[{"ip":"10.0.0.1"}]}`,
		"no address at all": `{"version":1,"records":[{"ip":"printer","at":"2026-11-23T12:00:00Z"}]}`,
		"too large":         strings.Repeat(" ", maxFile+1),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "records")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			r, err := OpenRecords(path, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil || r.Len() != 0 {
				t.Fatalf("%v", err)
			}
			if aside, err := os.ReadFile(path + ".damaged"); err != nil || string(aside) != content {
				t.Errorf("not put aside: %v", err)
			}
			if !strings.Contains(log.String(), "proof.damaged") {
				t.Errorf("log: %s", log.String())
			}
			add(t, r, record(mfp, 0, 0, 1), true)
			if open(t, path).Len() != 1 {
				t.Error("what came after is lost")
			}
		})
	}
}

func TestWhatCannotBeWrittenIsNotRecorded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "proof")
	r := open(t, filepath.Join(dir, "records")) // there is no such folder
	if news, err := r.Add(record(mfp, 0, 0, 1)); err == nil || news || r.Len() != 0 {
		t.Fatalf("%v, %v, %d", news, err, r.Len())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	add(t, r, record(mfp, 0, 0, 1), true)
	for _, rec := range []Record{{At: now}, {Addr: mfp}} {
		if news, err := r.Add(rec); err == nil || news {
			t.Errorf("%+v was recorded", rec)
		}
	}
	if _, err := OpenRecords(dir, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a folder is a file of records")
	}
}

func TestManyProveAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records")
	r := open(t, path)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 5 {
				if _, err := r.Add(record(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), j, 0, 1)); err != nil {
					t.Error(err)
				}
				_, _ = r.Newest(MaxRecords), r.Of(mfp)
			}
		})
	}
	all.Wait()
	if r.Len() != 40 || open(t, path).Len() != 40 {
		t.Errorf("%d of 40 records, %d after a restart", r.Len(), open(t, path).Len())
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := token(t, key(t, secret), week(mfp, 0))
	for name, content := range map[string]string{"bare": string(secret), "a line": string(secret) + "\n", "a DOS line": string(secret) + "\r\n"} {
		k, err := ReadKey(write("good", content))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Open(good, mfp, now); err != nil {
			t.Errorf("%s: another key: %v", name, err)
		}
	}
	for name, content := range map[string]string{"empty": "", "short": "hunter2-hunter2", "blank": strings.Repeat(" \n", 40), "huge": strings.Repeat("hunter2", 1000)} {
		for _, read := range []func(string) (Key, error){ReadKey, OwnKey} {
			if _, err := read(write("bad", content)); err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := ReadKey(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	own := filepath.Join(dir, "own")
	k, err := OwnKey(own)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(own); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := OwnKey(own)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Open(token(t, k, week(mfp, 0)), mfp, now); err != nil {
		t.Errorf("after a restart the secret is another: %v", err)
	}
	other, err := OwnKey(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Open(token(t, k, week(mfp, 0)), mfp, now); err == nil {
		t.Error("two relays made the same secret")
	}
	if _, err := OwnKey(filepath.Join(dir, "no", "folder")); err == nil {
		t.Error("a secret that cannot be kept is used")
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{10, MaxRecords} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "records")
			fill(b, path, n)
			r := open(b, path)
			i := 0
			for b.Loop() {
				i++
				if _, err := r.Add(record(mfp, i, i, 7)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
