package daemon_test

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.edu/gatepost/internal/status"
)

var kills = flag.Int("torture", 8, "how many times TestTorture kills the daemon")

// How TestTorture loads the relay.
const (
	senders     = 8
	lastMoments = time.Second      // before a kill; what was delivered in them may come again
	neverComes  = 20 * time.Second // on a slow machine
)

// TestTorture kills the daemon again and again, while mail comes in and goes
// out and the register changes: at any moment, and at each step of the durable
// order. Whatever got a 250 arrives, whole, or its sender is told. A message
// comes twice only if it was on its way out in the last moments before a kill,
// and each new registration is confirmed.
func TestTorture(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = `queue: retry: ["1s"]
limits: sessionsPerAddress: 100
`
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	l := newLoad(w)
	began := time.Now()
	l.first() // before anybody is to be confirmed
	plan := deaths(*kills, random)
	var killed []kill
	for round, d := range plan {
		if d.newcomer {
			l.newcomer()
		}
		k := kill{step: d.step}
		w.env = []string{fmt.Sprintf("GATEPOST_TEST_KILL=%s:%d", d.step, d.pass)}
		// A file is made for a long body only where none is free, so these rounds leave all of them waiting.
		l.later.Store(d.step == "body-made" || d.step == "body-folder-synced")
		w.launch()
		stop := l.run(round)
		if d.step == "" {
			life := time.NewTimer(d.after)
			<-life.C
			k.at, k.reached = time.Now(), true
			w.kill()
		} else {
			k.reached = w.dies(neverComes)
			k.at = time.Now()
		}
		stop()
		killed = append(killed, k)
	}
	defer func() { // also if something is lost
		l.judge(killed)
		t.Logf("%d kills in %v", len(killed), time.Since(began).Round(time.Second))
	}()
	w.env = nil
	l.later.Store(false)
	w.launch()
	w.waitReady()
	w.waitCommit()
	l.waitAll()
	w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 && !r.Queue.Loading && !r.Register.Unconfirmed })
}

// TestKilledAtRest kills a daemon that has delivered everything and has nothing
// to do: no message comes again.
func TestKilledAtRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	for range 20 {
		w.accepted("127.0.0.1", "once")
	}
	w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
	rest := time.NewTimer(lastMoments / 2)
	defer rest.Stop()
	<-rest.C
	w.kill()
	w.start()
	w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 && !r.Queue.Loading })
	w.accepted("127.0.0.1", "later") // behind whatever came back
	w.arrives("later")
	if n := len(w.hop.holding("Subject: once")); n != 20 {
		t.Errorf("20 messages were delivered %d times", n)
	}
}

// A load is what TestTorture sends and what arrives of it.
type load struct {
	w         *world
	newcomers []string    // addresses that were registered on the way
	later     atomic.Bool // the next hop takes nothing for now

	mu       sync.Mutex
	accepted map[string]bool        // got a 250; guarded by mu
	arrived  map[string][]time.Time // whenever the next hop had one; guarded by mu
	strange  []string               // arrivals that are not whole; guarded by mu
	refused  []error                // connections that were not taken; guarded by mu
}

func newLoad(w *world) *load {
	l := &load{w: w, accepted: map[string]bool{}, arrived: map[string][]time.Time{}}
	w.hop.keep = l.keep
	w.hop.say(func(command string) string {
		if strings.HasPrefix(command, "RCPT") && l.later.Load() {
			return "451 4.3.0 not now"
		}
		if strings.HasPrefix(command, "RCPT") && strings.Contains(command, gone) {
			return "550 5.1.1 there is no such mailbox"
		}
		return ""
	})
	return l
}

// first brings in the first sync, which confirms nobody.
func (l *load) first() {
	w := l.w
	w.start()
	w.eventually("the first sync is over", func() bool {
		_, err := os.Stat(filepath.Join(w.state, "register", "register.announced"))
		return err == nil
	})
	w.kill()
}

// newcomer registers one more address.
func (l *load) newcomer() {
	n := len(l.newcomers)
	ip := fmt.Sprintf("127.0.%d.%d", 2+n/250, 1+n%250)
	l.mu.Lock()
	l.newcomers = append(l.newcomers, ip)
	l.mu.Unlock()
	l.w.registered(fmt.Sprintf("newcomer%d", n+1), ip)
	l.w.commit("A newcomer")
	l.w.push()
}

// gone is who the next hop does not know; the sender is told.
const gone = "gone@example.org"

// doomed reports whether a message goes to somebody who is gone.
func doomed(id string) bool {
	h := fnv.New32a()
	h.Write([]byte(id))
	return h.Sum32()%8 == 0
}

// body is the text of a message, long for one in fifty: those are files of
// their own in the spool.
func body(id string) string {
	h := fnv.New64a()
	h.Write([]byte(id))
	lines := 1 + int(h.Sum64()%40)
	if h.Sum64()%50 == 0 {
		lines += 2000
	}
	return strings.Repeat(fmt.Sprintf("%s, %x: a line of the message\r\n", id, h.Sum64()), lines)
}

// keep notes what the next hop has. The hop holds its lock.
func (l *load) keep(envelope, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	header, got, _ := strings.Cut(message, "\r\n\r\n")
	_, id, _ := strings.Cut(header, "Subject: ")
	id, _, _ = strings.Cut(id, "\r\n")
	switch {
	case id == posted:
	case strings.HasPrefix(id, "torture-"):
		if got != body(id) {
			l.strange = append(l.strange, id+" is not whole")
		}
	case strings.Contains(envelope, "RCPT TO:<device@lab.example>"): // a DSN
		_, id, _ = strings.Cut(got, "Subject: ")
		id, _, _ = strings.Cut(id, "\r\n")
		if !strings.HasPrefix(id, "torture-") || !doomed(id) {
			l.strange = append(l.strange, "a DSN that nobody asked for:\n"+got)
		}
	case strings.Contains(envelope, "RCPT TO:<it@lab.example>"):
		for _, ip := range l.newcomers {
			if strings.Contains(message, " "+ip+"\r\n") || strings.Contains(header, " "+ip+" ") {
				id = ip
			}
		}
	default:
		l.strange = append(l.strange, "nobody sent this:\n"+envelope+header)
	}
	l.arrived[id] = append(l.arrived[id], time.Now())
}

// run sends until it is told to stop, half of the senders with a connection
// for each message.
func (l *load) run(round int) (stop func()) {
	var all sync.WaitGroup
	end := make(chan struct{})
	for sender := range senders {
		all.Go(func() {
			for i := 0; ; {
				n, err := l.session(fmt.Sprintf("torture-%d-%d", round, sender), i, sender%2 == 0, end)
				i += n
				pause := time.NewTimer(0)
				if err != nil { // it is not up yet, or was just killed
					pause.Reset(10 * time.Millisecond)
				}
				select {
				case <-end:
					return
				case <-pause.C:
				}
			}
		})
	}
	return func() { close(end); all.Wait() }
}

// session sends one message, or many until something fails; it returns how
// many were begun.
func (l *load) session(name string, first int, many bool, end <-chan struct{}) (begun int, err error) {
	conn, err := net.DialTimeout("tcp", l.w.relay, 5*time.Second)
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.refused = append(l.refused, err)
		return 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	c, err := smtp.NewClient(conn, "relay")
	if err != nil {
		return 0, err
	}
	for {
		id := fmt.Sprintf("%s-%d", name, first+begun)
		begun++
		if err := send(c, id); err != nil {
			return begun, err
		}
		l.mu.Lock()
		l.accepted[id] = true
		l.mu.Unlock()
		select {
		case <-end:
			return begun, nil
		default:
		}
		if !many {
			return begun, c.Quit()
		}
	}
}

// send sends one message; nil means that its end got a 250.
func send(c *smtp.Client, id string) error {
	if err := c.Mail("device@lab.example"); err != nil {
		return err
	}
	to := "someone@example.org"
	if doomed(id) {
		to = gone
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	data, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(data, "From: device@lab.example\r\nSubject: %s\r\n\r\n%s", id, body(id)); err != nil {
		return err
	}
	return data.Close()
}

// missing lists what was promised and has not arrived.
func (l *load) missing() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.accepted {
		if len(l.arrived[id]) == 0 {
			ids = append(ids, id)
		}
	}
	for _, ip := range l.newcomers {
		if len(l.arrived[ip]) == 0 {
			ids = append(ids, "confirmation of "+ip)
		}
	}
	return ids
}

func (l *load) waitAll() {
	l.w.t.Helper()
	defer func() {
		if ids := l.missing(); len(ids) > 0 {
			l.w.t.Errorf("%d messages are lost: %v", len(ids), ids[:min(20, len(ids))])
		}
	}()
	l.w.eventually("everything has arrived", func() bool { return len(l.missing()) == 0 })
}
