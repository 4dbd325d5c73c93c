package smtpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"example.edu/gatepost/internal/register/policy"
)

// A port is what a listener is for.
type port uint8

const (
	relayPort      port = iota // 25: clear text; STARTTLS offered
	submissionPort             // 587: STARTTLS required before MAIL
)

func (p port) String() string { return [...]string{"relay", "submission"}[p] }

// ServeRelay accepts mail on l in clear text, offering STARTTLS where there is
// a certificate. When ctx ends it stops accepting, says 421 to idle sessions
// and to the others at their next command, waits for bodies that are under way
// (Limits.Drain), and returns nil once every session has ended. It closes l.
func (s *Server) ServeRelay(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, relayPort)
}

// ServeSubmission is ServeRelay with STARTTLS required before MAIL.
func (s *Server) ServeSubmission(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, submissionPort)
}

func (s *Server) serve(ctx context.Context, l net.Listener, p port) error {
	g := &gate{srv: s, port: p, conns: map[*conn]struct{}{},
		turned: make(chan struct{}, s.limits.Refusals), heads: make(chan struct{}, s.limits.Sessions),
		hand: handoff{addr: l.Addr(), conns: make(chan net.Conn), stop: make(chan struct{})}}
	looped := make(chan struct{})
	go func() {
		defer close(looped)
		_ = s.loop.Serve(g.hand) // ends with net.ErrClosed when hand.stop is closed
	}()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()

	err := g.accept(ctx, l)
	_ = l.Close()
	g.drain()
	close(g.hand.stop)
	<-looped
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("smtpd: accepting on %s: %w", l.Addr(), err)
}

// A gate stands before one listener: it looks each client up before a word is
// said, and lets it through to go-smtp or turns it away.
type gate struct {
	srv    *Server
	port   port
	hand   handoff
	turned chan struct{} // one token for each greeting being refused
	heads  chan struct{} // one token for each header of a load balancer being read

	mu       sync.Mutex // guards conns and draining
	conns    map[*conn]struct{}
	draining bool
	all      sync.WaitGroup // sessions and refusals
}

// accept runs until the listener ends. Nothing in it waits for a client.
func (g *gate) accept(ctx context.Context, l net.Listener) error {
	wait := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			wait = 5 * time.Millisecond
			g.meet(ctx, nc)
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return err
		default: // out of file descriptors, mostly: it passes
			g.srv.log.Warn("a connection cannot be taken", "event", "smtp.listen_failed", "port", g.port, "err", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
			wait = min(2*wait, time.Second)
		}
	}
}

// meet finds out who is calling.
func (g *gate) meet(ctx context.Context, nc net.Conn) {
	peer := clientAddr(nc)
	if !g.srv.balanced(peer) {
		g.admit(ctx, nc, caller{addr: peer})
		return
	}
	select {
	case g.heads <- struct{}{}:
	default: // a balancer that opens more than can be served, and says nothing
		g.srv.metrics.connections.WithLabelValues(g.port.String(), "proxy").Inc()
		_ = nc.Close()
		return
	}
	g.all.Go(func() {
		defer func() { <-g.heads }()
		g.proxied(ctx, nc, peer)
	})
}

// admit decides on one new connection.
func (g *gate) admit(ctx context.Context, nc net.Conn, who caller) {
	s := g.srv
	v := s.verdict(who)
	if r, no := s.turnAway(v); no {
		g.refuse(nc, who, v, r)
		return
	}
	place, outcome := v, "served"
	if who.check { // no stranger: it must not be shut out by a crowd of them
		place.Standing, outcome = policy.Registered, "check"
	}
	leave, full := s.crowd.enter(place)
	if full != roomForAll {
		g.refuse(nc, who, v, s.sayCrowded(v, full))
		return
	}
	if !who.check {
		if r, no := s.strangerOver(v); no {
			leave()
			g.refuse(nc, who, v, r)
			return
		}
	}
	g.all.Add(1)
	s.metrics.sessions.Inc()
	s.metrics.connections.WithLabelValues(g.port.String(), outcome).Inc()
	var c *conn
	c = newConn(ctx, s, g.port, nc, who, v, func() {
		g.mu.Lock()
		delete(g.conns, c)
		g.mu.Unlock()
		s.metrics.sessions.Dec()
		leave()
		g.all.Done()
	})
	g.mu.Lock()
	g.conns[c] = struct{}{}
	late := g.draining
	g.mu.Unlock()
	if late {
		c.drain()
	}
	g.hand.conns <- c
}

// turnAway says what a client that gets no session is told. Whoever is on
// campus gets a session, if only to learn at RCPT what to do next.
func (s *Server) turnAway(v policy.Verdict) (reply, bool) {
	switch v.Standing {
	case policy.Registered, policy.Expired, policy.Unregistered:
		return reply{}, false
	case policy.Blocked:
		return s.sayBlocked(v), true
	case policy.OffCampus:
		return s.sayOffCampus(v.Addr), true
	}
	return s.sayNoRegister(), true // never a 5xx for our own lack
}

// refuse says r in place of a greeting.
func (g *gate) refuse(nc net.Conn, who caller, v policy.Verdict, r reply) {
	s := g.srv
	s.metrics.connections.WithLabelValues(g.port.String(), r.word).Inc()
	s.tally.refused.Add(1)
	logged := s.mayLog()
	if logged {
		s.logRefusal(who, "greeting", r, nil)
	}
	if !who.check {
		s.observe(v, "greeting", r)
	}
	g.turn(nc, r, !logged)
}

// turn says r and closes. As a rule that is done in a goroutine of its own with a
// deadline, which waits until the client has read it; with too many of those,
// the client is told nothing. In a storm the text is given to the kernel, which
// has room for it, and the connection is closed at once: whoever connects
// thousands of times a minute must not take the others' time.
func (g *gate) turn(nc net.Conn, r reply, storm bool) {
	s := g.srv
	say := func(within time.Duration) error {
		if err := nc.SetDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		var b bytes.Buffer
		r.appendTo(&b)
		_, err := nc.Write(b.Bytes())
		return err
	}
	if storm {
		_ = say(refusalMoment) // whether it is heard or not
		_ = nc.Close()
		return
	}
	select {
	case g.turned <- struct{}{}:
	default:
		_ = nc.Close()
		return
	}
	g.all.Go(func() {
		defer func() { <-g.turned }()
		defer func() { _ = nc.Close() }()
		if say(s.limits.Refusal) == nil {
			lastWords(nc, nc, s.limits.Refusal)
		}
	})
}

// drain ends all sessions: gently, then at the deadline by force.
func (g *gate) drain() {
	g.mu.Lock()
	g.draining = true
	g.mu.Unlock()
	g.each((*conn).drain)
	done := make(chan struct{})
	go func() {
		g.all.Wait()
		close(done)
	}()
	timer := time.NewTimer(g.srv.limits.Drain)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
		g.srv.log.Warn("sessions are cut at the end of the drain", "event", "smtp.cut", "port", g.port)
	}
	g.each((*conn).abort)
	<-done
}

func (g *gate) each(f func(*conn)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		f(c)
	}
}

// clientAddr is the other end's address, unmapped; a zone, which only a
// link-local address has, is dropped, and the register does not know those.
func clientAddr(nc net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(nc.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// A handoff is the listener that go-smtp accepts from: what the gate lets through.
type handoff struct {
	addr  net.Addr
	conns chan net.Conn
	stop  chan struct{}
}

var _ net.Listener = handoff{}

func (h handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.stop:
		return nil, net.ErrClosed
	}
}

// Close does nothing: the gate ends the hand-off, after its sessions.
func (h handoff) Close() error   { return nil }
func (h handoff) Addr() net.Addr { return h.addr }
