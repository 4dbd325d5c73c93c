package queue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A memory is a spool without a disk, for tests on a clock of their own.
type memory struct {
	mu      sync.Mutex
	entries map[spool.ID]spool.Entry
	bodies  map[spool.ID][]byte
	n       int
	full    bool // Notify fails
	syncs   int
	failing error // of Sync
	gets    atomic.Int64
}

func newMemory() *memory {
	return &memory{entries: map[spool.ID]spool.Entry{}, bodies: map[spool.ID][]byte{}}
}

func clone(e *spool.Entry) *spool.Entry {
	c := *e
	c.State = slices.Clone(e.State)
	return &c
}

func (m *memory) put(env mail.Envelope, body []byte) *spool.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	e := spool.Entry{ID: spool.ID(fmt.Sprintf("%08d", m.n)), Envelope: env, Size: int64(len(body)), State: make([]spool.RecipientState, len(env.To))}
	m.entries[e.ID], m.bodies[e.ID] = e, body
	return clone(&e)
}

func (m *memory) Entries(fn func(*spool.Entry) error) error { return m.EntriesAfter("", fn) }

func (m *memory) EntriesAfter(after spool.ID, fn func(*spool.Entry) error) error {
	m.mu.Lock()
	ids := slices.Sorted(maps.Keys(m.entries))
	m.mu.Unlock()
	for _, id := range ids {
		if id <= after {
			continue
		}
		if e, err := m.get(id); err == nil {
			if err := fn(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) Get(id spool.ID) (*spool.Entry, error) {
	m.gets.Add(1)
	return m.get(id)
}

func (m *memory) get(id spool.ID) (*spool.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[id]
	if !ok {
		return nil, spool.ErrNotFound
	}
	return clone(&e), nil
}

func (m *memory) Body(id spool.ID) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.bodies[id]
	if !ok {
		return nil, spool.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m *memory) Update(e *spool.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.entries[e.ID]; !ok {
		return spool.ErrNotFound
	}
	m.entries[e.ID] = *clone(e)
	return nil
}

func (m *memory) UpdateAll(entries []*spool.Entry) (missing []spool.ID, err error) {
	for _, e := range entries {
		if m.Update(e) != nil {
			missing = append(missing, e.ID)
		}
	}
	return missing, nil
}

func (m *memory) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.syncs++
	return m.failing
}

func (m *memory) Remove(id spool.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.entries[id]; !ok {
		return spool.ErrNotFound
	}
	delete(m.entries, id)
	return nil
}

func (m *memory) Notify(_ context.Context, env mail.Envelope, body []byte, about *spool.Entry) (*spool.Entry, error) {
	m.mu.Lock()
	full := m.full
	m.mu.Unlock()
	if full {
		return nil, spool.ErrFull
	}
	if slices.ContainsFunc(about.State, func(st spool.RecipientState) bool { return !st.Done }) {
		m.Update(about)
	} else {
		m.Remove(about.ID)
	}
	return m.put(env, body), nil
}

func (m *memory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}

// A courier answers by script: a local part says what becomes of a recipient.
// "stall" waits for the end of ctx.
type courier struct {
	mu       sync.Mutex
	calls    []call
	takes    time.Duration // an attempt
	running  map[string]int
	most     map[string]int                             // attempts at the same time, by destination
	outcomes func(to mail.Address, nth int) mail.Result // nil: by local part
	tries    map[string]int                             // by recipient
	down     map[string]bool                            // destinations that nobody reaches
	got      map[string]int                             // deliveries by recipient
	route    func(domain string) string                 // nil: the domain itself
	hook     func(e *spool.Entry, rcpts []int)          // called in each attempt
	after    func(dest string)                          // called when one ends; nil: nobody is told
}

type call struct {
	at           time.Time
	id           spool.ID
	registration string
	from         mail.Address
	to           []string
	body         string
}

func newCourier() *courier {
	return &courier{running: map[string]int{}, most: map[string]int{}, tries: map[string]int{}, down: map[string]bool{}, got: map[string]int{}}
}

func (c *courier) Destination(domain string) string {
	if c.route != nil {
		return c.route(domain)
	}
	return strings.ToLower(domain)
}

func (c *courier) Deliver(ctx context.Context, e *spool.Entry, body func() (io.ReadCloser, error), rcpts []int) []mail.Result {
	dest := c.Destination(e.Envelope.To[rcpts[0]].Address.Domain)
	c.mu.Lock()
	k := call{at: time.Now(), id: e.ID, registration: e.Envelope.Registration, from: e.Envelope.From}
	for _, i := range rcpts {
		to := e.Envelope.To[i].Address.String()
		if c.Destination(e.Envelope.To[i].Address.Domain) != dest {
			panic("two destinations in one transaction")
		}
		k.to = append(k.to, to)
		c.tries[to]++
	}
	c.running[dest]++
	c.most[dest] = max(c.most[dest], c.running[dest])
	down, hook, takes, outcomes := c.down[dest], c.hook, c.takes, c.outcomes
	c.mu.Unlock()
	if r, err := body(); err == nil {
		b, _ := io.ReadAll(r)
		r.Close()
		k.body = string(b)
	}
	if hook != nil {
		hook(e, rcpts)
	}
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
		}
	}
	var results []mail.Result
	for _, i := range rcpts {
		to := e.Envelope.To[i].Address
		c.mu.Lock()
		nth := c.tries[to.String()]
		c.mu.Unlock()
		r := mail.Result{RemoteMTA: "mx.example", Status: mail.Status{Code: 450, Text: "later"}}
		switch {
		case down:
			r = mail.Result{Cause: "connection refused"}
		case outcomes != nil:
			r = outcomes(to, nth)
		case to.Local == "stall":
			<-ctx.Done()
			r = mail.Result{Cause: ctx.Err().Error()}
		case strings.HasPrefix(to.Local, "bad"):
			r.Outcome, r.Status = mail.Failed, mail.Status{Code: 550, Enhanced: mail.Enhanced{5, 1, 1}, Text: "no such user"}
		case !strings.HasPrefix(to.Local, "late"):
			r.Outcome, r.Status = mail.Delivered, mail.Status{Code: 250, Text: "ok"}
		}
		if r.Outcome == mail.Delivered {
			c.mu.Lock()
			c.got[to.String()]++
			c.mu.Unlock()
		}
		results = append(results, r)
	}
	c.mu.Lock()
	c.running[dest]--
	c.calls = append(c.calls, k)
	after := c.after
	c.mu.Unlock()
	if after != nil {
		after(dest)
	}
	return results
}

// set changes the script.
func (c *courier) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

// dsns are the notifications that went to the sender.
func (c *courier) dsns() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []call
	for _, k := range c.calls {
		if k.from.IsNull() {
			out = append(out, k)
		}
	}
	return out
}

func (c *courier) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

func (c *courier) all() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

func (c *courier) of(m map[string]int, key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return m[key]
}

func (c *courier) delivered(to string) int { return c.of(c.got, to) }
func (c *courier) tried(to string) int     { return c.of(c.tries, to) }
func (c *courier) atOnce(dest string) int  { return c.of(c.most, dest) }

func (c *courier) copyOf(m map[string]int) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(m)
}

const sender = "scanner@sender.example"

func message(registration string, to ...string) mail.Envelope {
	env := mail.Envelope{Registration: registration, Arrival: time.Now()}
	env.From, _ = mail.ParseAddress(sender, false)
	for _, t := range to {
		a, err := mail.ParseAddress(t, false)
		if err != nil {
			panic(err)
		}
		env.To = append(env.To, mail.Recipient{Address: a})
	}
	return env
}

const text = "Subject: scan\r\nX-Mark: original\r\n\r\nbody\r\n"

// pass lets time pass in a bubble, and all that is due then happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// A bench is a queue at work in a bubble.
type bench struct {
	*Queue
	t    *testing.T
	mem  *memory
	c    *courier
	stop func()
}

// run starts a queue and ends it with the test, or with stop.
func run(t *testing.T, o Options, mem *memory, c *courier) *bench {
	t.Helper()
	o.Spool, o.Courier, o.Hostname, o.Postmaster = mem, c, "relay.example", "postmaster@relay.example"
	q, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	b := &bench{Queue: q, t: t, mem: mem, c: c}
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// order does one thing to one message, as an operator.
func (b *bench) order(verb Verb, id spool.ID, reason string) error {
	_, err := b.act(b.t.Context(), verb, picked{id: id}, word{reason: reason})
	return err
}

func (b *bench) send(registration string, to ...string) *spool.Entry {
	e := b.mem.put(message(registration, to...), []byte(text))
	b.Accept(e)
	return e
}

// bubble runs a test in a bubble, with a queue that is stopped at its end.
func bubble(t *testing.T, o Options, fn func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := run(t, o, newMemory(), newCourier())
		defer b.stop()
		fn(b)
		b.check()
	})
}

// check compares the schedule's counters with what is in it.
func (b *bench) check() {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	var depth [numStates]int
	jobs := map[*destination]int{}
	cached := 0
	for _, it := range b.sched.items {
		for _, j := range it.jobs {
			depth[j.state]++
			jobs[j.dest]++
		}
		if it.entry != nil {
			cached += len(it.entry.Envelope.To)
		}
	}
	if depth != b.sched.depth || cached != b.sched.cached {
		b.t.Errorf("the counters say %v and %d cached, the items %v and %d", b.sched.depth, b.sched.cached, depth, cached)
	}
	for d, n := range jobs {
		if d.jobs != n {
			b.t.Errorf("%s: %d jobs counted, %d there", d.name, d.jobs, n)
		}
	}
	for _, d := range b.sched.dests {
		if d.jobs == 0 && d.running == 0 && !d.listed {
			b.t.Errorf("%s is empty and kept", d.name)
		}
	}
}
