// Package deliver decides where a message goes and makes one attempt at it. It
// owns routing, the SMTP client and the connections to next hops. It never
// decides when to try (package queue), never changes an entry, and keeps
// nothing that a restart would miss.
//
// One attempt is one destination, one connection and one transaction for all
// recipients given:
//
//  1. A connection kept from an earlier message, if there is one; if the peer
//     has hung up meanwhile, as if there had been none.
//  2. Else the hosts: the smarthosts, or the domain's MX records, or its
//     addresses. Each address in turn until one greets us and takes the message
//     on: one that puts off MAIL, says 421 or falls silent before it asked for
//     the message is followed by the next, for a few times (round.go).
//  3. What is demanded of the connection (demand.go): the guard says.
//     Greeting, EHLO (or HELO), STARTTLS if offered and EHLO again. If the
//     handshake fails, once more without TLS, unless TLS is demanded.
//  4. MAIL, RCPT…, DATA, the body, the dot (transact.go); or the body by BDAT
//     (chunks.go).
//
// Invariants:
//   - Delivered is said only after a 2xx to the final dot; Failed only after a
//     5xx of the next hop, or for what no retry can mend (no such domain, null
//     MX, loop, a feature the next hop lacks). Everything else, whatever cannot
//     be understood included, is Deferred.
//   - A final dot, or LAST, follows only a body that was sent to its last octet.
//   - Nothing that was learnt before TLS is believed after it.
//   - No mail goes over a connection that is less than was demanded of its
//     host; one that is kept met the demand when it was made, Reuse.Age ago at
//     most. Mail with REQUIRETLS takes only those that are fit for it.
//   - All that a peer says is bounded and made printable before it goes on;
//     every step has a deadline.
//   - Result.RemoteMTA names the next hop if Status is what it said, and is ""
//     if Status is ours; Result.Cause says where and why for the operator.
//
// Where the next hop does not offer 8BITMIME, an 8-bit message is sent as it is,
// unless Options.Strict8Bit has it returned, as RFC 6152 §3 wants: the servers
// that do not offer it nearly all take it. It is never rewritten, which would
// break signatures.
// BINARYMIME is never passed on: the spool holds lines.
//
// RFC 5321 (§4.5.3.2 timeouts, §5 routing), RFC 1870 (SIZE), RFC 2920
// (PIPELINING), RFC 3030 (CHUNKING), RFC 3207 (STARTTLS), RFC 3461 (DSN), RFC 6152 (8BITMIME),
// RFC 6531 (SMTPUTF8), RFC 7505 (null MX), RFC 8689 (REQUIRETLS).
package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// maxCause bounds what is told to the operator of one attempt, in octets.
const maxCause = 2000

// A Courier delivers. It is safe for concurrent use.
type Courier struct {
	o       Options // with its defaults
	smart   []host
	pool    *pool
	health  health
	plain   plain
	self    *self
	metrics *metrics
}

// New makes a Courier. It fails only for what the configuration got wrong.
func New(o Options) (*Courier, error) {
	if o.Hostname == "" {
		return nil, errors.New("deliver: no hostname")
	}
	c := &Courier{health: health{down: make(map[string]time.Time)}}
	if o.Preferences != nil && len(o.Preferences) != len(o.Smarthosts) {
		return nil, errors.New("deliver: not one preference for each smarthost")
	}
	for i, s := range o.Smarthosts {
		h, err := parseSmarthost(s)
		if err != nil {
			return nil, err
		}
		if h.pref = i; o.Preferences != nil {
			h.pref = o.Preferences[i]
		}
		c.smart = append(c.smart, h)
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Dialer == nil {
		o.Dialer = &net.Dialer{}
	}
	if o.TLS == nil {
		// Opportunistic: the weakest TLS is better than none, and nobody knows
		// whose certificate to expect.
		o.TLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}
	}
	if !o.Family.valid() {
		return nil, fmt.Errorf("deliver: %q is no family of addresses", o.Family)
	}
	if o.Interfaces == nil {
		o.Interfaces = net.InterfaceAddrs
	}
	c.self = newSelf(o.Listeners, o.Interfaces)
	if o.Guard == nil {
		o.Guard = opportunistic{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Timeouts, o.Reuse = o.Timeouts.orDefaults(), o.Reuse.orDefaults()
	c.o = o
	c.metrics = newMetrics(o.Registerer)
	c.pool = &pool{reuse: o.Reuse, now: o.Now, count: c.metrics.setIdle, idle: make(map[string][]*session)}
	return c, nil
}

// Close ends the idle connections. Attempts in progress go on, and keep no
// connection after it.
func (c *Courier) Close() error {
	c.pool.close()
	return nil
}

// An attempt is what became of one call of Deliver.
type attempt struct {
	results []mail.Result
	hop     string   // "" if no next hop was reached
	s       *session // nil likewise; it may have ended
	reused  bool
}

// Deliver makes one attempt for the recipients of e with the given indexes,
// all of one destination, in one transaction. It returns one result for each,
// in the same order. body may be called more than once.
//
// When ctx is done it stops as soon as it can: at once before the final dot,
// and after it when the reply has come or Timeouts.Drain has passed.
func (c *Courier) Deliver(ctx context.Context, e *spool.Entry, body func() (io.ReadCloser, error), rcpts []int) []mail.Result {
	if len(rcpts) == 0 {
		return nil
	}
	start := time.Now()
	destination := c.Destination(e.Envelope.To[rcpts[0]].Address.Domain)
	m := message{e: e, body: body, rcpts: rcpts}
	if c.o.Signer != nil {
		m.seal = &seal{signer: c.o.Signer}
		defer func() { c.sealed(ctx, e, m.seal) }()
	}
	a := c.attempt(ctx, destination, m)
	now := c.o.Now()
	for i := range a.results {
		a.results[i].At = now
		a.results[i].Cause = mail.Printable(a.results[i].Cause, maxCause)
	}
	took := time.Since(start)
	c.metrics.attempt(a.results, a.s, took)
	c.log(ctx, e, destination, a, took)
	return a.results
}

// kept is an idle connection, if there is one fit for the message.
func (c *Courier) kept(destination string, requireTLS bool) *session {
	return c.pool.get(destination, func(s *session) bool { return !requireTLS || s.secure && s.has("REQUIRETLS") })
}

// finish keeps the connection of a transaction, or ends it.
func (c *Courier) finish(destination string, t *transaction) {
	switch {
	case t.clean && !t.s.lax:
		c.pool.put(destination, t.s)
	case !t.broken:
		t.s.quit()
	default:
		t.s.drop()
	}
}

// connect makes a session that is ready for MAIL, or says why there is none.
func (c *Courier) connect(ctx context.Context, h host, addr netip.Addr, d *Demand) (*session, *mail.Result) {
	s, refused, err := c.open(ctx, h, addr, d)
	if errors.Is(err, errHandshake) && d.Use == Opportunistic && ctx.Err() == nil { // RFC 7435 §3: better clear than not at all
		s, refused, err = c.open(ctx, h, addr, &Demand{Use: Never, lax: d.lax})
	}
	switch {
	case err != nil:
		if d.Use == Always && unmet(err) {
			c.metrics.unmet(d)
		}
		return nil, &mail.Result{Status: statusUnreached(h, err), Cause: d.because(err).Error()}
	case refused != nil:
		if h.smart || d.Use == Always && refused.TLS == "" {
			// Our misconfiguration, or the word of anybody on the way, as it was
			// said in clear text: no sender shall lose mail by it.
			refused.Outcome = mail.Deferred
		}
		return nil, refused
	}
	return s, nil
}

// open makes one TCP connection and brings it up to the last EHLO. It gives a
// session, or the refusal that the peer spoke, or an error.
func (c *Courier) open(ctx context.Context, h host, addr netip.Addr, d *Demand) (_ *session, refused *mail.Result, err error) {
	where := where(h, addr)
	dial, cancel := context.WithTimeout(ctx, c.o.Timeouts.Connect)
	defer cancel()
	raw, err := c.o.Dialer.DialContext(dial, "tcp", where)
	if err != nil {
		return nil, nil, fmt.Errorf("deliver: %s: connecting: %w", h.name, err)
	}
	s := newSession(raw, h, where, c.o.Timeouts, c.o.Now())
	s.plain, s.strict8 = c.o.NoChunking || c.plain.has(h, c.o.Now()), c.o.Strict8Bit
	s.arm(ctx)
	polite := false
	defer func() {
		if ok := s.release(); err == nil && refused == nil && ok {
			return
		}
		if polite {
			s.quit()
		} else {
			s.drop()
		}
	}()
	refuse := func(r reply) *mail.Result {
		polite = r.code != mail.CodeShutdown
		return ptr((&transaction{s: s}).result(r))
	}
	r, err := s.read("the connection", s.t.Greeting)
	if err != nil {
		return nil, nil, err
	}
	if r.code != mail.CodeReady {
		return nil, refuse(r), nil
	}
	if r, err = s.hello(c.o.Hostname); err != nil {
		return nil, nil, err
	}
	if !r.ok() {
		return nil, refuse(r), nil
	}
	if c.self.names(c.o.Hostname, h, r) {
		polite = true
		return nil, ptr(loops(h, "by the name in its greeting")), nil
	}
	if d.Use != Never && s.has("STARTTLS") {
		upgraded, err := s.startTLS(d.config(c.o.TLS, h))
		if err != nil {
			if unmet(err) && ctx.Err() == nil {
				d.saw(s, err)
			}
			return nil, nil, err
		}
		if upgraded {
			d.saw(s, d.watched)
			if r, err = s.hello(c.o.Hostname); err != nil {
				return nil, nil, err
			}
			if !r.ok() {
				return nil, refuse(r), nil
			}
		}
	}
	if s.tls == "" && d.Use != Never {
		d.saw(s, ErrNoTLS)
	}
	if d.Use == Always && s.tls == "" {
		polite = true
		return nil, nil, s.fault("STARTTLS", ErrNoTLS)
	}
	s.protect(d)
	if err := ctx.Err(); err != nil {
		return nil, nil, s.fault("connecting", err)
	}
	return s, nil, nil
}

// log writes the one line of an attempt. Queue says what became of each
// recipient, so one that went well is of interest only to who debugs.
func (c *Courier) log(ctx context.Context, e *spool.Entry, destination string, a attempt, took time.Duration) {
	var count [3]int
	worst := a.results[0]
	for _, r := range a.results {
		count[r.Outcome]++
		if worst.Outcome == mail.Delivered {
			worst = r
		}
	}
	level := slog.LevelInfo
	if worst.Outcome == mail.Delivered {
		level = slog.LevelDebug
	}
	if !c.o.Logger.Enabled(ctx, level) {
		return
	}
	secured := ""
	if a.s != nil {
		secured = a.s.secured()
	}
	var cause slog.Attr // what is empty is left out
	if worst.Cause != "" {
		cause = slog.String("err", worst.Cause)
	}
	c.o.Logger.LogAttrs(ctx, level, "attempt",
		slog.String("event", "deliver.attempt"),
		slog.String("id", string(e.ID)),
		slog.String("destination", destination),
		slog.String("next_hop", a.hop),
		slog.Int("delivered", count[mail.Delivered]),
		slog.Int("deferred", count[mail.Deferred]),
		slog.Int("failed", count[mail.Failed]),
		slog.String("tls", secured),
		slog.Bool("reused", a.reused),
		slog.Duration("duration", took),
		slog.String("status", worst.Status.String()),
		cause,
	)
}
