package archive

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// TestALongMessageIsNotHeld carries 64 MiB from one spool through a folder into
// another. All that is allocated on the way is a fraction of it.
func TestALongMessageIsNotHeld(t *testing.T) {
	const octets = 64 << 20
	from, to := open(t), open(t)
	w, err := from.Create(t.Context(), mail.Envelope{
		To: []mail.Recipient{{Address: mail.Address{Local: "a", Domain: "b.example"}}}, Client: netip.MustParseAddr("192.0.2.7"), Arrival: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 62) + "\r\n")
	for range octets / len(line) {
		if _, err := w.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	e, err := w.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	dir := filepath.Join(t.TempDir(), "export")
	through(t, func(out io.Writer) error {
		x := NewWriter(from, out)
		if err := x.Add(e); err != nil {
			return err
		}
		_, err := x.Close()
		return err
	}, func(in io.Reader) error { _, err := Unpack(t.Context(), in, dir, nil); return err })
	through(t, func(out io.Writer) error {
		return Pack(t.Context(), dir, out, func(r Refusal) { t.Error(r) }, nil)
	}, func(in io.Reader) error { _, err := Read(t.Context(), in, to, false); return err })
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > octets/8 {
		t.Errorf("%d MiB were allocated for a message of %d MiB", used>>20, octets>>20)
	} else {
		t.Logf("%d KiB were allocated", used>>10)
	}
	if got, err := to.Get(e.ID); err != nil || got.Size != octets {
		t.Errorf("%+v, %v", got, err)
	}
}

// through runs both ends of a pipe.
func through(t testing.TB, write func(io.Writer) error, read func(io.Reader) error) {
	t.Helper()
	out, in := io.Pipe()
	var writing sync.WaitGroup
	writing.Go(func() { in.CloseWithError(write(in)) })
	err := read(out)
	_ = out.CloseWithError(err)
	writing.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

// The benchmarks carry messages of 4 KiB: out of a spool into a folder, and in
// again, each as an operator has it done.
func BenchmarkExport(b *testing.B) {
	s, all := filledFor(b)
	dir := filepath.Join(b.TempDir(), "export")
	b.ResetTimer()
	through(b, func(out io.Writer) error {
		x := NewWriter(s, out)
		for _, e := range all {
			if err := x.Add(e); err != nil {
				return err
			}
		}
		_, err := x.Close()
		return err
	}, func(in io.Reader) error { _, err := Unpack(context.Background(), in, dir, nil); return err })
}

func BenchmarkImport(b *testing.B) {
	s, all := filledFor(b)
	var stream bytes.Buffer
	x := NewWriter(s, &stream)
	for _, e := range all {
		if err := x.Add(e); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := x.Close(); err != nil {
		b.Fatal(err)
	}
	to, err := spool.Open(spool.Options{Dir: filepath.Join(b.TempDir(), "to"), Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer to.Close()
	b.ResetTimer()
	if report, err := Read(context.Background(), &stream, to, false); err != nil || report.Imported != b.N {
		b.Fatal(report, err)
	}
}

// filledFor is a spool with b.N messages.
func filledFor(b *testing.B) (*spool.Spool, []*spool.Entry) {
	b.Helper()
	s, err := spool.Open(spool.Options{Dir: filepath.Join(b.TempDir(), "from"), Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	text := []byte(strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64))
	env := mail.Envelope{To: []mail.Recipient{{Address: mail.Address{Local: "a", Domain: "b.example"}}}, Client: netip.MustParseAddr("192.0.2.7"), Arrival: time.Now()}
	all := make([]*spool.Entry, b.N)
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() {
			for i := w; i < b.N; i += 16 {
				e, err := s.Store(context.Background(), env, text)
				if err != nil {
					b.Error(err)
					return
				}
				all[i] = e
			}
		})
	}
	writers.Wait()
	return s, all
}
