package smtpd

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener hands the server the far ends of net.Pipe, so that a test can
// run on synctest's clock.
type pipeListener struct {
	conns chan net.Conn
	stop  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.stop:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	return nil
}
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }

// pipeEnd is the server's end: it has the client's address, and counts writes.
type pipeEnd struct {
	net.Conn
	from   string
	writes atomic.Int64
}

func (e *pipeEnd) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(e.from), Port: 999} }
func (e *pipeEnd) Write(p []byte) (int, error) {
	e.writes.Add(1)
	return e.Conn.Write(p)
}

// inBubble runs a test on a fake clock with a server that is drained at its end.
func inBubble(t *testing.T, limits Limits, test func(t *testing.T, f *fixture, dial func(from string) (*client, *pipeEnd)), change ...func(*Options)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, limits, change...)
		ctx, cancel := context.WithCancel(context.Background())
		f.cancel = cancel
		l := &pipeListener{conns: make(chan net.Conn), stop: make(chan struct{})}
		f.served.Go(func() {
			if err := f.srv.ServeRelay(ctx, l); err != nil {
				t.Errorf("serve: %v", err)
			}
		})
		defer f.served.Wait()
		defer cancel()
		test(t, f, func(from string) (*client, *pipeEnd) {
			ours, theirs := net.Pipe()
			end := &pipeEnd{Conn: theirs, from: from}
			l.conns <- end
			return newClient(t, ours), end
		})
	})
}

// pass lets d go by on the fake clock.
func pass(d time.Duration) { <-time.After(d) }

func TestFactTheDataDeadlineMovesWithProgress(t *testing.T) {
	inBubble(t, Limits{}, func(t *testing.T, f *fixture, dial func(string) (*client, *pipeEnd)) {
		c, _ := dial(strictClient)
		c.begin()
		c.send("Subject: slow scan\r\n\r\n")
		line := make([]byte, 30_000)
		for i := range line {
			line[i] = 'x'
		}
		for range 30 { // an hour, at 250 octets a second
			pass(2 * time.Minute)
			c.send(string(line) + "\r\n")
		}
		c.send(".\r\n")
		c.want("250 2.0.0")
	})
}

func TestABodyBelowTheMinimumRateIsCutOff(t *testing.T) {
	inBubble(t, Limits{}, func(t *testing.T, f *fixture, dial func(string) (*client, *pipeEnd)) {
		c, _ := dial(strictClient)
		c.begin()
		began := time.Now()
		var drip sync.WaitGroup
		drip.Go(func() {
			for c.trySend("a\r\n") == nil {
				pass(5 * time.Second)
			}
		})
		c.want("421 4.4.2")
		if took := time.Since(began); took > 125*time.Second {
			t.Errorf("it was served for %s", took)
		}
		c.wantClosed()
		drip.Wait()
	})
}

func TestAClientThatTakesNoRepliesIsHungUpOn(t *testing.T) {
	inBubble(t, Limits{}, func(t *testing.T, f *fixture, dial func(string) (*client, *pipeEnd)) {
		c, end := dial(strictClient)
		c.want("220")
		c.send("EHLO x\r\n")
		pass(2 * time.Minute)
		if err := c.trySend("NOOP\r\n"); err == nil {
			t.Error("it is still served")
		}
		if n := end.writes.Load(); n != 2 { // the greeting, and one in vain
			t.Errorf("%d writes", n)
		}
	})
}

func TestFactAPartialCommandLineIsNeverExecuted(t *testing.T) {
	inBubble(t, Limits{}, func(t *testing.T, f *fixture, dial func(string) (*client, *pipeEnd)) {
		c, _ := dial(strictClient)
		c.want("220")
		c.send("QU")
		pass(3 * time.Minute)
		c.send("IT") // progress within a command buys no time
		began := time.Now()
		c.want("421 4.4.2")
		if took := time.Since(began); took != 2*time.Minute {
			t.Errorf("it took another %s", took)
		}
		c.wantClosed()
	})
}

func TestAHalfEndHangsNobody(t *testing.T) {
	inBubble(t, Limits{}, func(t *testing.T, f *fixture, dial func(string) (*client, *pipeEnd)) {
		c, _ := dial(strictClient)
		c.begin()
		c.send("a\r\n.\r")
		began := time.Now()
		c.want("550 5.6.0 the message holds a bare CR")
		c.wantClosed()
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %s", took)
		}
		c, _ = dial(strictClient)
		c.begin()
		c.send("a\r\n.\r") // a slow link, and the rest comes
		pass(10 * time.Second)
		c.send("\n")
		c.want("250 2.0.0")
	})
}

func TestFactRepliesToAPipelineAreOneWrite(t *testing.T) {
	inBubble(t, Limits{}, func(t *testing.T, f *fixture, dial func(string) (*client, *pipeEnd)) {
		c, end := dial(strictClient)
		c.want("220")
		c.do("EHLO x", "250")
		before := end.writes.Load()
		c.send("MAIL FROM:<a@example.edu>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n")
		for _, want := range []string{"250", "250", "250", "354"} {
			c.want(want)
		}
		if n := end.writes.Load() - before; n != 1 {
			t.Errorf("%d writes for four replies", n)
		}
		c.send(".\r\n")
		c.want("250")
	})
}

func TestFactADrainSays421ToIdleSessionsAndLetsBodiesFinish(t *testing.T) {
	inBubble(t, Limits{}, func(t *testing.T, f *fixture, dial func(string) (*client, *pipeEnd)) {
		idle, _ := dial(strictClient)
		idle.want("220")
		busy, _ := dial(strictClient)
		busy.begin()
		busy.send("Subject: x\r\n")
		synctest.Wait()
		f.cancel()
		idle.want("421 4.3.2")
		idle.wantClosed()
		pass(20 * time.Second)
		busy.send("\r\nbody\r\n.\r\n")
		busy.want("250 2.0.0 accepted as Q1")
		busy.want("421 4.3.2")
		busy.wantClosed()
		f.served.Wait()
	})
}

func TestDrainCutsABodyAtItsDeadline(t *testing.T) {
	inBubble(t, Limits{Drain: 30 * time.Second}, func(t *testing.T, f *fixture, dial func(string) (*client, *pipeEnd)) {
		c, _ := dial(strictClient)
		c.begin()
		began := time.Now()
		f.cancel()
		f.served.Wait()
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("the drain took %s", took)
		}
		c.wantClosed()
		if len(f.store.all()) != 0 || f.store.aborted != 1 {
			t.Error("a body that was cut was kept")
		}
	})
}
