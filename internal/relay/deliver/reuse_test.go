package deliver

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/mail"
)

const oneMore = accepted + "B\nS 250 ok\n"

func TestConnectionIsReused(t *testing.T) {
	for _, c := range []struct {
		name    string
		scripts []string
		reuse   Reuse
		want    []string
		stale   float64
	}{
		{"three over one", []string{pipelined + oneMore + oneMore + oneMore + "W"}, Reuse{}, []string{"delivered", "delivered", "delivered"}, 0},
		{"as many as allowed", []string{pipelined + oneMore + oneMore + "C QUIT", pipelined + oneMore + "W"}, Reuse{Messages: 2}, []string{"delivered", "delivered", "delivered"}, 0},
		{"too old", []string{pipelined + oneMore + "C QUIT", pipelined + oneMore + "C QUIT"}, Reuse{Age: 1}, []string{"delivered", "delivered"}, 0},
		{"peer hung up", []string{pipelined + oneMore + "X", pipelined + oneMore + "W"}, Reuse{}, []string{"delivered", "delivered"}, 1},
		{"peer says 421", []string{pipelined + oneMore + "C MAIL\nS 421 idle\nX", pipelined + oneMore + "W"}, Reuse{}, []string{"delivered", "delivered"}, 1},
		{"peer lost its mind", []string{pipelined + oneMore + "C MAIL\nS 503 EHLO first\nX", pipelined + oneMore + "W"}, Reuse{}, []string{"delivered", "delivered"}, 1},
		{"not after a refusal", []string{pipelined + accepted + "B\nS 550 spam\nC QUIT", pipelined + oneMore + "W"}, Reuse{}, []string{"failed", "delivered"}, 0},
		{"not with a word too much", []string{pipelined + accepted + "B\nR 250 ok\\r\\n250 ok\\r\\n\nC QUIT", pipelined + oneMore + "W"}, Reuse{}, []string{"delivered", "delivered"}, 0},
		{"refused on a kept one is refused", []string{pipelined + oneMore + "C MAIL\nS 550 no\nC RCPT\nS 503 no\nC DATA\nS 503 no\nC QUIT"}, Reuse{}, []string{"delivered", "failed"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink(t, c.scripts...)
			courier := newCourier(t, Options{Smarthosts: []string{s.addr()}, Reuse: c.reuse, Registerer: prometheus.NewRegistry()})
			for i, want := range c.want {
				if got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1)); outcomes(got) != want {
					t.Fatalf("message %d: %+v", i, got)
				}
			}
			if got := testutil.ToFloat64(courier.metrics.connections.WithLabelValues("stale")); got != c.stale {
				t.Errorf("%v stale connections", got)
			}
		})
	}
}

// No more connections are kept than allowed, of one destination and of all; the
// newest is used first, as the peer is least likely to have hung up on it.
func TestPoolIsBounded(t *testing.T) {
	var servers sync.WaitGroup
	defer servers.Wait()
	idle := 0
	p := &pool{reuse: Reuse{PerDestination: 2, Total: 3, Messages: 10, Age: time.Minute, Idle: time.Minute}, now: time.Now, count: func(n int) { idle = n }, idle: map[string][]*session{}}
	defer p.close()
	quits := make(chan string, 10)
	put := func(destination, name string) {
		ours, theirs := net.Pipe()
		servers.Go(func() {
			defer theirs.Close()
			if line, err := bufio.NewReader(theirs).ReadString('\n'); err == nil {
				quits <- name + " " + line
				_, _ = io.WriteString(theirs, "221 bye\r\n")
			}
		})
		p.put(destination, newSession(ours, host{name: name}, name, patient(), time.Now()))
	}
	put("a", "1")
	put("a", "2")
	put("a", "3") // one too many of a
	put("b", "4")
	put("b", "5") // one too many in all
	for _, want := range []string{"3 QUIT\r\n", "5 QUIT\r\n"} {
		if got := <-quits; got != want {
			t.Errorf("%q was ended, not %q", got, want)
		}
	}
	any := func(*session) bool { return true }
	for _, want := range []string{"2", "1", ""} {
		got := ""
		if s := p.get("a", any); s != nil {
			got = s.hop
			s.drop()
		}
		if got != want {
			t.Errorf("got %q, not %q", got, want)
		}
	}
	if idle != 1 || len(quits) > 0 {
		t.Errorf("%d idle, %d more were ended", idle, len(quits))
	}
}

func TestIdleConnectionIsClosedPolitely(t *testing.T) {
	s := newSink(t, pipelined+oneMore+"C QUIT")
	courier := newCourier(t, Options{Smarthosts: []string{s.addr()}, Reuse: Reuse{Idle: time.Millisecond}})
	if got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1)); outcomes(got) != "delivered" {
		t.Fatalf("%+v", got)
	}
	s.l.(interface{ Close() error }).Close()
	s.done.Wait() // the script ends with QUIT
	if got := testutil.ToFloat64(courier.metrics.idle); got != 0 {
		t.Errorf("%v idle connections", got)
	}
}

func TestNothingIsKeptAfterClose(t *testing.T) {
	s := newSink(t, pipelined+oneMore+"W", pipelined+oneMore+"C QUIT")
	courier := newCourier(t, Options{Smarthosts: []string{s.addr()}})
	for range 2 {
		if got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1)); outcomes(got) != "delivered" {
			t.Fatalf("%+v", got)
		}
		if err := courier.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(courier.pool.idle) != 0 || testutil.ToFloat64(courier.metrics.idle) != 0 {
		t.Error("a connection was kept")
	}
}

// cancelling is a body that cancels a context when it is read to its end.
type cancelling struct {
	io.Reader
	cancel context.CancelFunc
}

func (c cancelling) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF {
		c.cancel()
	}
	return n, err
}
func (cancelling) Close() error { return nil }

func TestCancelledContext(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		got := newCourier(t, Options{Smarthosts: []string{"127.0.0.1:9"}}).Deliver(ctx, entry(2), bodyOf(content), indexes(2))
		if outcomes(got) != "deferred deferred" || got[0].Status.Enhanced.String() != "4.3.0" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("while the peer is silent", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newSink(t, pipelined+"C MAIL\nW")
		s.onLine(func() {
			if len(s.got) == 2 { // EHLO and MAIL
				cancel()
			}
		})
		got := newCourier(t, Options{Smarthosts: []string{s.addr()}}).Deliver(ctx, entry(1), bodyOf(content), indexes(1))
		if outcomes(got) != "deferred" || !strings.Contains(got[0].Cause, "context canceled") {
			t.Errorf("%+v", got)
		}
	})
	// The dot is out: to give up now would send the message twice.
	t.Run("as the body ends, the reply comes", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := newSink(t, pipelined+accepted+"B\nS 250 ok\nW")
		body := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
		c := newCourier(t, Options{Smarthosts: []string{s.addr()}})
		session, refused := c.connect(ctx, c.smart[0], c.smart[0].addr, &Demand{})
		if refused != nil {
			t.Fatal(refused)
		}
		session.arm(ctx)
		tr := &transaction{s: session, m: message{e: entry(1), body: body, rcpts: indexes(1)}, res: make([]mail.Result, 1), done: make([]bool, 1)}
		if commands := tr.plan(); !tr.envelope(commands) {
			t.Fatalf("%+v", tr.res)
		}
		// The context ends between the last octet and the reply.
		if err := writeBody(session.w, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		session.line(".")
		if err := session.flush("."); err != nil {
			t.Fatal(err)
		}
		cancel()
		session.linger()
		if r, err := readReply(session.r); err != nil || r.code != 250 {
			t.Errorf("%v %v", r, err)
		}
		if session.release() {
			t.Error("the session counts as usable")
		}
		session.drop()
	})
	t.Run("as the body ends, no reply comes", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newSink(t, pipelined+accepted+"B\nW")
		o := Options{Smarthosts: []string{s.addr()}, Timeouts: patient()}
		o.Timeouts.Drain = time.Millisecond
		body := func() (io.ReadCloser, error) { return cancelling{strings.NewReader(content), cancel}, nil }
		got := newCourier(t, o).Deliver(ctx, entry(1), body, indexes(1))
		if outcomes(got) != "deferred" {
			t.Errorf("%+v", got)
		}
	})
}
