package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"example.edu/gatepost/internal/mail"
)

// What follows writes a spool of format 1, with nothing of the code that reads
// and writes spools today. Every later version must read it, so it never
// changes: what another format writes gets a function of its own beside it.

// The messages of the golden spool.
const (
	goldenShort   = "1j13jji6la16mk9"
	goldenLong    = "1j13jji6q3p6mk9"
	goldenDamaged = "1j13jji6r966mk9"

	goldenShortBody = "Subject: short\r\n\r\nx\r\n\r\n"
)

var goldenLongBody = strings.Repeat("a long line of the message\r\n", 3000) // read-only

// goldenRecord is a record of format 1: a version, flags, the CRC-32C of ID,
// flags and JSON in little-endian order, and JSON.
func goldenRecord(id string, flags byte, json string) string {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Checksum([]byte(id+string(flags)+json), table)
	return string(binary.LittleEndian.AppendUint32([]byte{1, flags}, sum)) + json
}

// goldenSpool writes format 1 or 2.
func goldenSpool(t *testing.T, fs vfs.FS, format int) {
	t.Helper()
	write := func(name, text string) {
		t.Helper()
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Write([]byte(text))
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"spool/bodies", "spool/engine"} {
		if err := fs.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	long := `{"envelope":{"from":"","to":[{"address":"postmaster@example.edu"}],"arrival":"2026-11-23T09:00:00Z"},"size":84000,"sum":479670893}`
	if format == 1 {
		write("spool/created", "")
		write("spool/bodies/"+goldenLong, goldenLongBody)
	} else {
		write("spool/created", "format 2\n")
		write("spool/bodies/body-00000007", goldenLong+"               \r\n"+goldenLongBody+"the rest of a longer one\r\n")
		long = strings.TrimSuffix(long, "}") + `,"file":"body-00000007"}`
	}
	db, err := pebble.Open("spool/engine", &pebble.Options{FS: fs, FormatMajorVersion: 24, Logger: engineLogger{&Spool{log: slog.New(slog.DiscardHandler)}}})
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{
		"mformat": strconv.Itoa(format),

		"e" + goldenShort: goldenRecord(goldenShort, 0, `{"envelope":{"from":"scanner@physics.example.edu","to":[{"address":"a@b.example","notify":"SUCCESS,DELAY","orcpt":"rfc822;a@b.example"},{"address":"c@d.example"}],`+
			`"body":"8BITMIME","utf8":true,"requireTLS":true,"ret":"HDRS","envID":"x1","client":"192.0.2.7","helo":"mfp1","protocol":"ESMTPS","tls":"TLS 1.3","registration":"registrations/physics/mfp.cue","commit":"c0ffee","arrival":"2026-11-23T08:00:00Z"},"size":23,"sum":1032980953}`),
		"b" + goldenShort: goldenShortBody,
		"e" + goldenShort + "/s": goldenRecord(goldenShort, 0, `{"state":[{"done":true,"last":{"outcome":"delivered","status":{"code":250,"enhanced":[2,0,0],"text":"taken"},"remoteMTA":"mx.b.example","tls":"TLS 1.3","at":"2026-11-23T08:00:01Z"}},`+
			`{"done":false,"last":{"outcome":"deferred","status":{"code":451,"enhanced":[4,7,1],"text":"later"},"cause":"greylisted","at":"2026-11-23T08:00:02Z"}}],"attempts":3,"next":"2026-11-24T08:00:00Z","hold":"by alice","delayed":"2026-11-23T12:00:00Z"}`),

		"e" + goldenLong: goldenRecord(goldenLong, 1, long),

		"d" + goldenDamaged: "what was found",
		"kconfirm/1":        goldenShort,
		"kmarked":           "",
	} {
		if err := db.Set([]byte(key), []byte(value), pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestGoldenSpool reads what relays of each format wrote, and goes on with it.
func TestGoldenSpool(t *testing.T) {
	for _, format := range []int{1, 2} {
		t.Run(fmt.Sprint(format), func(t *testing.T) { testGoldenSpool(t, format) })
	}
}

func testGoldenSpool(t *testing.T, format int) {
	mem := vfs.NewMem()
	goldenSpool(t, mem, format)
	s := open(t, mem)
	at := func(day, hour, second int) time.Time { return time.Date(2026, 11, day, hour, 0, second, 0, time.UTC) }
	address := func(text string) mail.Address {
		a, err := mail.ParseAddress(text, true)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	env := envelope()
	env.To = []mail.Recipient{{Address: address("a@b.example"), Notify: "SUCCESS,DELAY", ORcpt: "rfc822;a@b.example"}, {Address: address("c@d.example")}}
	env.Body, env.UTF8, env.RequireTLS, env.Ret, env.EnvID = mail.Body8Bit, true, true, "HDRS", "x1"
	env.HELO, env.Protocol, env.TLS, env.Commit = "mfp1", "ESMTPS", "TLS 1.3", "c0ffee"
	want := []*Entry{
		{ID: goldenShort, Envelope: env, Size: 23, Attempts: 3, Next: at(24, 8, 0), Hold: "by alice", Delayed: at(23, 12, 0), State: []RecipientState{
			{Done: true, Last: mail.Result{Outcome: mail.Delivered, Status: mail.Status{Code: 250, Enhanced: mail.Enhanced{2, 0, 0}, Text: "taken"}, RemoteMTA: "mx.b.example", TLS: "TLS 1.3", At: at(23, 8, 1)}},
			{Last: mail.Result{Outcome: mail.Deferred, Status: mail.Status{Code: 451, Enhanced: mail.Enhanced{4, 7, 1}, Text: "later"}, Cause: "greylisted", At: at(23, 8, 2)}},
		}},
		{ID: goldenLong, Envelope: mail.Envelope{To: []mail.Recipient{{Address: address("postmaster@example.edu")}}, Arrival: at(23, 9, 0)}, Size: 84000, State: make([]RecipientState, 1)},
	}
	var got []*Entry
	if err := s.Entries(func(e *Entry) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for id, text := range map[ID]string{goldenShort: goldenShortBody, goldenLong: goldenLongBody} {
		if b, err := read(t, s, id); err != nil || string(b) != text {
			t.Errorf("the body of %s: %d octets, %v", id, len(b), err)
		}
	}
	for _, key := range []string{"confirm/1", "marked"} {
		if has, err := s.HasKey(key); !has || err != nil {
			t.Errorf("key %s: %v, %v", key, has, err)
		}
	}
	if damaged, err := s.Damaged(); err != nil || !slices.Equal(damaged, []ID{goldenDamaged}) {
		t.Errorf("damaged: %v, %v", damaged, err)
	}
	// It goes on: a new state, a removal, a new message.
	if err := s.Update(got[0]); err != nil {
		t.Error(err)
	}
	if err := s.Remove(goldenLong); err != nil {
		t.Error(err)
	}
	newer := put(t, s, []byte("x"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left := ids(t, open(t, mem)); !slices.Equal(left, []ID{goldenShort, newer.ID}) {
		t.Errorf("left: %v", left)
	}
	if files, err := mem.List("spool/bodies"); len(files) > 0 || err != nil {
		t.Errorf("files: %v, %v", files, err)
	}
}
