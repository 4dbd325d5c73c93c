package daemon_test

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.edu/gatepost/internal/status"
)

var (
	siege = flag.Float64("siege", 0.01, "the size of TestSiege's crowds; 1 is 10,000 idle connections, 200 slow clients and 5,000 refused ones a second")
	soak  = flag.Int("soak", 2000, "how many messages TestSoak sends")
)

// TestSiege prints what crowds cost the registered clients beside them: their
// rate with the crowd over their rate without, phase by phase in turn. Nothing
// is asserted but that all of them are served; speed is never a timed test.
// "make siege" runs it.
func TestSiege(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.extra = "limits: {sessions: 20000, sessionsPerAddress: 1000, sessionsPerRegistration: 1000, minutePart: 1}\n"
	w.hop.keep = func(string, string) {}
	w.start()
	phase := time.Duration(float64(5*time.Second) * max(0.1, min(1, *siege)))
	deaf := newDeaf(t)
	for _, crowd := range []struct {
		name  string
		n     int
		begin func(n int) (end func())
		peer  func(n int) (end func()) // what a crowd costs that another program takes; nil: nothing
	}{
		{"connections that say nothing", crowdSize(10_000), w.idle, nil},
		{"clients that send an octet a second", crowdSize(200), w.slow, nil},
		{"connections a second, refused", crowdSize(5000), func(n int) func() { return w.storm(n, w.relay, "554") }, func(n int) func() { return w.storm(n, deaf, "") }},
	} {
		before, _ := w.memory()
		var ratios, beside []float64
		var size int64
		sessions := 0
		for range 3 {
			without := w.rate(phase)
			end := crowd.begin(crowd.n)
			with := w.rate(phase)
			now, _ := w.memory()
			size, sessions = max(size, now), max(sessions, w.report().Relay.Sessions)
			end()
			ratios = append(ratios, with/without)
			if crowd.peer != nil {
				end := crowd.peer(crowd.n)
				beside = append(beside, with/w.rate(phase))
				end()
			}
		}
		fmt.Printf("%6d %-36s the registered send at %3.0f %% of their rate without (median of 3); RSS %3d MiB, before %3d; %d sessions\n",
			crowd.n, crowd.name, 100*median(ratios), size>>20, before>>20, sessions)
		if crowd.peer != nil {
			fmt.Printf("%43s and at %3.0f %% of their rate while another program closes as many\n", "", 100*median(beside))
		}
	}
	w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// crowdSize is n at the size of this run, 5 at least.
func crowdSize(n int) int { return max(5, int(float64(n)**siege)) }

// fleetSize is how many machines share what is sent, since each may send 100,000
// messages an hour at most.
const fleetSize = 40

// fleet registers the machines.
func (w *world) fleet() {
	w.t.Helper()
	for i := range fleetSize {
		w.registered(fmt.Sprintf("machine%d", i), machine(i))
	}
	w.commit("Many machines")
	w.push()
}

func machine(i int) string { return fmt.Sprintf("127.0.1.%d", i%fleetSize+1) }

// rate is how many messages of 4 KiB get through in a second, by eight
// connections that are kept.
func (w *world) rate(phase time.Duration) float64 {
	began := time.Now()
	n := w.pour(func(int64) bool { return time.Since(began) < phase })
	return float64(n) / time.Since(began).Seconds()
}

// pour sends as long as more, which is given the number of the message, likes.
func (w *world) pour(more func(n int64) bool) (sent int64) {
	w.t.Helper()
	text := strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64)
	var begun atomic.Int64
	var all sync.WaitGroup
	for i := range senders {
		all.Go(func() {
			c, err := w.client(machine(i + int(fleetTurn.Add(senders))))
			if err != nil {
				w.t.Error(err)
				return
			}
			defer c.Close()
			for more(begun.Add(1)) {
				if err := sendText(c, text); err != nil {
					w.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return begun.Load() - senders
}

// fleetTurn goes round the fleet.
var fleetTurn atomic.Int64

// client says hello to the relay from an address.
func (w *world) client(from string) (*smtp.Client, error) {
	conn, err := w.connect(from)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(10 * time.Minute))
	return smtp.NewClient(conn, "relay")
}

func (w *world) connect(from string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 30 * time.Second}
	return d.Dial("tcp", w.relay)
}

func sendText(c *smtp.Client, text string) error {
	if err := c.Mail("device@lab.example"); err != nil {
		return err
	}
	if err := c.Rcpt("someone@example.org"); err != nil {
		return err
	}
	data, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(data, "Subject: a page\r\n\r\n"+text); err != nil {
		return err
	}
	return data.Close()
}

// idle opens connections that are greeted and stay silent.
func (w *world) idle(n int) (end func()) {
	w.t.Helper()
	conns := make([]net.Conn, n)
	var all sync.WaitGroup
	for part := range fleetSize {
		all.Go(func() {
			for i := part; i < n; i += fleetSize {
				conn, err := w.connect(machine(part))
				if err != nil {
					w.t.Error(err)
					return
				}
				conns[i] = conn
				var greeting [3]byte
				if _, err := io.ReadFull(conn, greeting[:]); err != nil || string(greeting[:]) != "220" {
					w.t.Errorf("connection %d: greeted with %q, %v", i, greeting, err)
					return
				}
			}
		})
	}
	all.Wait()
	return func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		w.waitReport("the crowd is gone", func(r status.Report) bool { return r.Relay.Sessions == 0 })
	}
}

// slow begins messages and goes on with an octet a second.
func (w *world) slow(n int) (end func()) {
	w.t.Helper()
	stop := make(chan struct{})
	var begun, all sync.WaitGroup
	begun.Add(n)
	for i := range n {
		all.Go(func() {
			c, err := w.client(machine(i))
			if err == nil {
				defer c.Close()
				err = c.Mail("device@lab.example")
			}
			if err == nil {
				err = c.Rcpt("someone@example.org")
			}
			if err == nil {
				_, err = c.Data()
			}
			begun.Done()
			if err != nil {
				w.t.Error(err)
				return
			}
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				if _, err := c.Text.W.WriteString("x"); err != nil || c.Text.W.Flush() != nil {
					w.t.Error("a slow client was cut off before its time")
					return
				}
			}
		})
	}
	begun.Wait()
	return func() { close(stop); all.Wait() }
}

// newDeaf listens, and closes whatever comes.
func newDeaf(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return ln.Addr().String()
}

// storm makes connections that are refused, perSecond of them or as many as this
// machine can make. They come from addresses that are none of the campus's. What
// this costs the others without any relay is what a storm on a deaf listener
// does: those who make it run on the same processors.
func (w *world) storm(perSecond int, addr, said string) (end func()) {
	const dialers = 50
	stop := make(chan struct{})
	var all sync.WaitGroup
	var refused atomic.Int64
	began := time.Now()
	for d := range dialers {
		all.Go(func() {
			for i := d; ; i += dialers {
				due := time.NewTimer(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
				select {
				case <-stop:
					due.Stop()
					return
				case <-due.C:
				}
				from := net.TCPAddr{IP: net.IPv4(127, 1, byte(i/250%250), byte(i%250+1))}
				dialer := net.Dialer{LocalAddr: &from, Timeout: 30 * time.Second}
				conn, err := dialer.Dial("tcp", addr)
				if err != nil {
					w.t.Error(err)
					return
				}
				var word [3]byte
				if _, err := io.ReadFull(conn, word[:]); err == nil && string(word[:]) != said {
					w.t.Errorf("a stranger heard %q", word)
				}
				conn.Close()
				refused.Add(1)
			}
		})
	}
	return func() {
		close(stop)
		all.Wait()
		fmt.Printf("       (it was %.0f connections a second)\n", float64(refused.Load())/time.Since(began).Seconds())
	}
}

// memory is the daemon's resident set, and its peak, in octets.
func (w *world) memory() (now, peak int64) {
	w.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.proc.Process.Pid))
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		for name, to := range map[string]*int64{"VmRSS:": &now, "VmHWM:": &peak} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					w.t.Fatal(err)
				}
				*to = kib << 10
			}
		}
	}
	return now, peak
}

// TestSoak sends very many messages through the relay into Postfix's smtp-sink
// and prints the relay's memory on the way. "make soak" runs it.
func TestSoak(t *testing.T) {
	t.Parallel()
	needs(t, "smtp-sink")
	w := newWorld(t)
	w.fleet()
	w.extra = "limits: minutePart: 1\n"
	w.hop.addr = freeAddr(t)
	args := []string{w.hop.addr, "100"}
	if os.Getuid() == 0 {
		args = append([]string{"-u", "root"}, args...)
	}
	sink := exec.Command("smtp-sink", args...)
	if err := sink.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Process.Kill(); sink.Wait() })
	w.start()
	const parts = 10
	for i := range parts {
		began, all := time.Now(), int64(*soak/parts)
		w.pour(func(n int64) bool { return n <= all })
		w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
		now, peak := w.memory()
		fmt.Printf("%9d messages: RSS %3d MiB, %3d at most; %.0f a second, delivered\n", (i+1)**soak/parts, now>>20, peak>>20, float64(all)/time.Since(began).Seconds())
	}
	if r := w.report(); r.Relay.Accepted != int64(*soak/parts*parts) {
		t.Errorf("%d messages were accepted", r.Relay.Accepted)
	}
}
