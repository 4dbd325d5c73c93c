package queue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A world is what is known outside the relay: what it promised, what arrived.
type world struct {
	mu       sync.Mutex
	promised map[string]bool // subjects whose Commit returned nil
	arrived  map[string]bool // subjects that a destination took, or that a DSN tells of
}

func newWorld() *world { return &world{promised: map[string]bool{}, arrived: map[string]bool{}} }

func (w *world) clone() *world {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := newWorld()
	for k := range w.promised {
		c.promised[k] = true
	}
	for k := range w.arrived {
		c.arrived[k] = true
	}
	return c
}

func (w *world) add(m map[string]bool, subject string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m[subject] = true
}

func (w *world) Destination(domain string) string { return domain }

// Deliver takes what goes to good.example and to the sender (the DSNs), fails
// what goes to bad.example.
func (w *world) Deliver(_ context.Context, e *spool.Entry, body func() (io.ReadCloser, error), rcpts []int) []mail.Result {
	results := make([]mail.Result, len(rcpts))
	r, err := body()
	if err != nil {
		return results
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return results
	}
	for k, i := range rcpts {
		results[k] = mail.Result{Outcome: mail.Delivered, RemoteMTA: "mx", Status: mail.Status{Code: 250}}
		if e.Envelope.To[i].Address.Domain == "bad.example" {
			results[k] = mail.Result{Outcome: mail.Failed, RemoteMTA: "mx", Status: mail.Status{Code: 550}}
			continue
		}
		for _, line := range bytes.Split(data, []byte("\r\n")) {
			if subject, ok := bytes.CutPrefix(line, []byte("Subject: n")); ok {
				w.add(w.arrived, string(subject))
			}
		}
	}
	return results
}

// relay runs a spool and a queue on fs until all is settled, or until ctx ends.
func relay(ctx context.Context, fs vfs.FS, w *world, traffic func(*spool.Spool, *Queue)) error {
	s, err := spool.Open(spool.Options{Dir: "spool", FS: fs})
	if err != nil {
		return err
	}
	defer s.Close()
	q, err := New(Options{Spool: s, Courier: w, Hostname: "relay.example", Postmaster: "postmaster@relay.example", Grace: time.Millisecond})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	traffic(s, q)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		if st := q.Stats(); st.Entries == 0 && !st.Loading {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	cancel()
	return <-done
}

// TestCrash cuts the power before each write of a relay at work, starts
// another one on what is left, and asks that whatever was promised has
// arrived, at its recipient or in a DSN.
func TestCrash(t *testing.T) {
	mem, w := vfs.NewCrashableMem(), newWorld()
	type moment struct {
		fs   *vfs.MemFS
		know *world
		op   errorfs.Op
	}
	var mu sync.Mutex
	var moments []moment
	working := false
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if working && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose {
			know := w.clone()
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(len(moments)), 7))}
			if len(moments)%2 == 0 {
				cfg = vfs.CrashCloneCfg{}
			}
			moments = append(moments, moment{mem.CrashClone(cfg), know, op})
		}
		return nil
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := relay(ctx, fs, w, func(s *spool.Spool, q *Queue) {
		mu.Lock()
		working = true
		mu.Unlock()
		for i := range 24 {
			to := []string{"a@good.example", "a@bad.example", "late@good.example"}[i%3]
			body := fmt.Appendf(nil, "Subject: n%d\r\n\r\nbody\r\n", i)
			if i%8 == 7 { // a file of its own
				body = append(body, bytes.Repeat([]byte("0123456789abcdef0123456789abcdef\r\n"), 3000)...)
			}
			e, err := s.Store(ctx, message("r", to), body)
			if err != nil {
				t.Error(err)
				return
			}
			w.add(w.promised, fmt.Sprint(i))
			q.Accept(e)
		}
	})
	if err != nil || len(w.arrived) != 24 {
		t.Fatalf("without a crash: %v, %d arrived", err, len(w.arrived))
	}
	for k, m := range moments {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := relay(ctx, m.fs, m.know, func(*spool.Spool, *Queue) {}); err != nil {
			t.Errorf("crash %d: %v", k, err)
		}
		if ctx.Err() != nil {
			t.Errorf("crash %d: the queue does not end", k)
		}
		cancel()
		for subject := range m.know.promised {
			if !m.know.arrived[subject] {
				t.Errorf("crash %d (%v %s): message %s is lost", k, m.op.Kind, m.op.Path, subject)
			}
		}
	}
	t.Logf("%d crashes", len(moments))
}
