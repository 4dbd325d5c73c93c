package spool

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
)

// fill sets everything in v to something, so that no field of the types that
// are stored can be forgotten.
func fill(v reflect.Value, n *int) {
	*n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Date(2026, 11, 25, 12, 0, *n%60, 123456789, time.UTC)
		return
	case *netip.Addr:
		*x = netip.MustParseAddr("2001:db8::7")
		return
	case *mail.Address:
		*x = mail.Address{Local: fmt.Sprintf("a b%d", *n), Domain: "xn--bcher-kva.example"}
		return
	case *mail.Outcome:
		*x = mail.Failed
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint32:
		v.SetUint(1<<32 - uint64(*n))
	default:
		panic(v.Kind())
	}
}

// TestEveryFieldIsReadQuickly: a field that is new to the envelope or to a
// result has to be told to quick.go, or each record is read slowly.
func TestEveryFieldIsReadQuickly(t *testing.T) {
	n := 0
	var e, e2 entryRecord
	var st, st2 stateRecord
	fill(reflect.ValueOf(&e).Elem(), &n)
	fill(reflect.ValueOf(&st).Elem(), &n)
	quickly := func(name string, want, slow any, quick func([]byte) (any, bool)) {
		payload, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(payload, slow); err != nil {
			t.Fatal(err)
		}
		got, ok := quick(payload)
		if !ok || !reflect.DeepEqual(got, reflect.ValueOf(slow).Elem().Interface()) || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is not read quickly (%v); has a field come that quick.go does not know, in its place?\n%+v\n%+v", name, ok, got, want)
		}
	}
	quickly("an entry", e, &e2, func(p []byte) (any, bool) { return quickEntry(p) })
	quickly("a state", st, &st2, func(p []byte) (any, bool) { return quickState(p) })
	e2, st2 = entryRecord{}, stateRecord{}
	quickly("a bare entry", entryRecord{Envelope: mail.Envelope{To: []mail.Recipient{}}}, &e2, func(p []byte) (any, bool) { return quickEntry(p) })
	quickly("a bare state", stateRecord{State: []RecipientState{{}}}, &st2, func(p []byte) (any, bool) { return quickState(p) })
	st.State[1].Last.Status.Text, st.Hold = `<a@b> "said" \ & ü`+"\t\u2028", strings.Repeat("é", 300)
	st2 = stateRecord{}
	quickly("escapes", st, &st2, func(p []byte) (any, bool) { return quickState(p) })
}

// FuzzQuick: what is read quickly means what it means to encoding/json, and
// what encoding/json writes of it is read quickly again.
func FuzzQuick(f *testing.F) {
	n := 0
	var e entryRecord
	var st stateRecord
	fill(reflect.ValueOf(&e).Elem(), &n)
	fill(reflect.ValueOf(&st).Elem(), &n)
	for _, v := range []any{e, st, entryRecord{}, stateRecord{}} {
		payload, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	for _, odd := range []string{`{"size":01,"sum":1}`, `{"size":-0}`, `{"sum":-1}`, `{"size":1,"size":2}`, `{ "size":1}`, `{"Size":1}`, `{"size":1}x`, `{"envelope":null}`,
		`{"state":[{"done":true,"last":{"status":{"enhanced":[1,2]}}}]}`, `{"hold":"\ud800"}`, `{"hold":"\u003c"}`, "{\"hold\":\"\xff\"}", `{"next":"2026-02-30T00:00:00Z"}`, `{"next":""}`, `{}`} {
		f.Add([]byte(odd))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if got, ok := quickEntry(payload); ok {
			var want entryRecord
			if err := json.Unmarshal(payload, &want); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%v\n%+v\n%+v", err, got, want)
			}
			again, err := json.Marshal(want)
			if back, ok := quickEntry(again); want.Envelope.To != nil && (err != nil || !ok || !reflect.DeepEqual(back, want)) {
				t.Fatalf("%v %v\n%+v\n%+v", err, ok, back, want)
			}
		}
		if got, ok := quickState(payload); ok {
			var want stateRecord
			if err := json.Unmarshal(payload, &want); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%v\n%+v\n%+v", err, got, want)
			}
		}
	})
}

// BenchmarkReadRecords reads what a message that was deferred has in the
// engine, at a start and before each attempt.
func BenchmarkReadRecords(b *testing.B) {
	env := envelope("late12345@d123.example")
	env.Client, env.Registration, env.Arrival = netip.MustParseAddr("192.0.2.9"), "registrations/dept-1/mfp.cue", time.Now()
	env.HELO, env.Protocol, env.Commit = "mfp1.physics.example.edu", "ESMTP", strings.Repeat("0123abcd", 5)
	st := []RecipientState{{Last: mail.Result{RemoteMTA: "mx1.d.example", Status: mail.Status{Code: 451, Enhanced: mail.Enhanced{4, 7, 1}, Text: "greylisted; come back later"}, At: time.Now()}}}
	first, err1 := encodeRecord("1", 0, entryRecord{Envelope: env, Size: 4711, Sum: 12345})
	second, err2 := encodeRecord("1", 0, stateRecord{State: st, Attempts: 3, Next: time.Now()})
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	b.ReportAllocs()
	for b.Loop() {
		e, err := decodeEntry("1", first)
		if err == nil {
			err = setState(e, second)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
