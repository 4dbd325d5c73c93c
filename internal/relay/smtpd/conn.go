package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
)

const (
	maxCommand = 4000     // octets of a command line; RFC 5321 §4.5.3.1.4 asks for 512 plus the extensions' share
	lineSize   = 4 << 10  // octets read ahead of a session's commands; more than maxCommand, and most sessions have no more for most of their time
	inSize     = 16 << 10 // octets read ahead of a session's body
	outSize    = 8 << 10  // octets of replies gathered before a write
	lingerSize = 32 << 20 // octets taken from a client that is still talking after our last words
)

// A conn is the net.Conn that go-smtp reads and writes. It hands go-smtp one
// checked command line at a time (command.go), takes bodies off the wire by
// itself (receive.go), gathers replies until the client has nothing more in
// the pipeline, and puts TLS between itself and the wire, where go-smtp does
// not see it.
//
// Plan of a failure: fail() leaves last words, after which every Read ends and
// every Write is swallowed, so whatever go-smtp would make of the failure, no
// further octet is parsed and no second reply is sent.
//
// All but drain and abort is called by the goroutine that go-smtp runs for it.
type conn struct {
	srv  *Server
	ctx  context.Context // not cancelled by a drain: what began is finished
	port port
	who  caller
	addr netip.Addr   // who's
	log  *slog.Logger // names the load balancer, if there is one
	done func()       // gives the place in the crowd back

	raw net.Conn      // the connection as it was accepted; has the deadlines
	nc  net.Conn      // raw, or TLS over it
	in  *bufio.Reader // over wire: lines, or one of inSize from a body on until all of it is read
	out bytes.Buffer

	lines *bufio.Reader // of lineSize
	carry []byte        // read from the client already, and not by in

	handout []byte // what go-smtp is to read next
	pushed  string // a command line to be looked at again
	pending *reply // what is sent in place of go-smtp's next reply
	swallow bool   // go-smtp's next reply is not sent
	closing bool   // nothing more is read
	ended   bool   // nothing more is written
	linger  bool   // the client may still be talking when we close
	closed  bool

	// Of the session.
	verdict  policy.Verdict // newest
	greeted  bool           // EHLO or HELO was said, in this layer
	esmtp    bool
	noHELO   bool // MAIL came without either, and the device may do so
	helo     string
	tlsState string   // version and suite; "" in clear text
	tlsName  string   // version alone
	oldTLS   bool     // the handshake was possible for a legacy device only
	sawCRLF  bool     // a command line ended in CRLF
	verb     string   // of the command being obeyed; from a closed set
	path     mailPath // of the MAIL or RCPT being obeyed
	tx       *transaction
	errs     int // refused commands since the last accepted message
	idle     int // commands since the last accepted message that got nothing done

	// Of the read that is under way; see deadline.
	lineBy time.Time // the command line must be whole
	body   *pace     // nil while commands are read

	mu       sync.Mutex // guards what follows, and raw's read deadline
	waiting  bool       // for a command: a drain may interrupt it
	draining bool
	aborted  bool
}

var _ net.Conn = (*conn)(nil)

// A pace is the progress of a body: how much came since when.
type pace struct {
	began time.Time
	n     int64
	half  bool // a CR was seen, and what belongs behind it is overdue soon
}

// halfLine is how long a client may leave a CR without what follows it: to
// some devices CR.CR is an end, and they must not hang until the stall limit.
const halfLine = 20 * time.Second

func newConn(ctx context.Context, s *Server, p port, nc net.Conn, who caller, v policy.Verdict, done func()) *conn {
	hello := s.sayHello()
	c := &conn{srv: s, ctx: context.WithoutCancel(ctx), port: p, who: who, addr: who.addr, log: s.logger(who), verdict: v, done: done,
		raw: nc, nc: nc, pending: &hello, verb: "greeting"}
	c.lines = bufio.NewReaderSize(wire{c}, lineSize)
	c.in = c.lines
	return c
}

// widen makes room for a body to be read ahead.
func (c *conn) widen() {
	if c.in != c.lines {
		return
	}
	ahead, _ := c.lines.Peek(c.lines.Buffered())
	c.carry = append(c.carry, ahead...)
	c.lines.Reset(wire{c})
	c.in = c.srv.buffers.reader(wire{c})
}

// narrow gives that room back once nothing is in it.
func (c *conn) narrow() {
	if c.in == c.lines || c.in.Buffered() > 0 || len(c.carry) > 0 {
		return
	}
	c.srv.buffers.putReader(c.in)
	c.in = c.lines
}

// Read gives go-smtp its next command line, or the end.
func (c *conn) Read(p []byte) (n int, err error) {
	defer func() { // go-smtp recovers only in its handlers, and this is not one
		if r := recover(); r != nil {
			c.log.Error("a session failed", "event", "smtp.failed", "client", c.addr, "err", r, "stack", string(debug.Stack()))
			c.fail(sayInternal())
			n, err = 0, io.EOF
		}
	}()
	for len(c.handout) == 0 {
		if c.closing {
			return 0, io.EOF
		}
		if line, ok := c.readCommand(); ok {
			c.command(line)
		}
	}
	n = copy(p, c.handout)
	c.handout = c.handout[n:]
	return n, nil
}

// Write takes one reply line of go-smtp's; pending goes out in its place.
func (c *conn) Write(p []byte) (int, error) {
	more := len(p) > 3 && p[3] == '-'
	switch {
	case c.ended, more && (c.swallow || c.pending != nil):
	case c.swallow:
		c.swallow = false
	case c.pending != nil:
		r := *c.pending
		c.pending = nil
		c.say(r)
	default: // go-smtp's own: a parameter it could not parse, a recovered panic
		c.out.Write(p)
		if !more && len(p) > 0 && p[0] >= '4' {
			c.note(reply{code: mail.CodeParamSyntax, word: "parameter"})
			c.refused()
		}
	}
	return len(p), nil
}

// say queues r. A refusal is counted, and one too many is the last.
func (c *conn) say(r reply) {
	if c.ended {
		return
	}
	r.appendTo(&c.out)
	if r.refusal() {
		c.note(r)
		c.refused()
	}
	if c.out.Len() > outSize {
		_ = c.flush() // it hangs up on an error
	}
}

// refused charges the error budget.
func (c *conn) refused() {
	c.errs++
	if c.errs >= c.srv.limits.Errors {
		c.fail(c.srv.sayTooManyErrors())
	}
}

// fail leaves r as the last words: nothing is read or said after it.
func (c *conn) fail(r reply) {
	if c.ended {
		return
	}
	r.appendTo(&c.out)
	c.note(r)
	c.hangUp()
	c.linger = true
}

// hangUp ends the session without a word.
func (c *conn) hangUp() {
	c.closing, c.ended = true, true
	c.handout, c.pushed, c.pending = nil, "", nil
}

// tlsHandshake begins what a client says that is set to TLS from the start, and
// no command: the type of its first record.
const tlsHandshake = 22

// readCommand reads one whole command line and checks its octets. It says and
// does itself what is to be said and done where there is none.
func (c *conn) readCommand() (string, bool) {
	if c.pushed != "" {
		line := c.pushed
		c.pushed = ""
		return line, true
	}
	if c.isDraining() {
		c.fail(sayDrain())
		return "", false
	}
	c.narrow()
	c.lineBy = time.Now().Add(c.srv.limits.Command)
	line, err := c.in.Peek(1)
	if err == nil && line[0] == tlsHandshake && c.tlsState == "" { // it would send no line, and wait
		c.fail(sayTLSAtOnce())
		return "", false
	}
	if err == nil {
		line, err = c.in.ReadSlice('\n')
	}
	switch {
	case errors.Is(err, bufio.ErrBufferFull), err == nil && len(line) > maxCommand+2:
		c.fail(sayLongCommand())
		return "", false
	case errors.Is(err, os.ErrDeadlineExceeded): // a line that is not whole is never obeyed
		if c.isDraining() {
			c.fail(sayDrain())
		} else {
			c.fail(sayTimeout())
		}
		return "", false
	case err != nil:
		c.hangUp()
		return "", false
	}
	line = line[:len(line)-1]
	if cut, ok := bytes.CutSuffix(line, []byte{'\r'}); ok {
		line, c.sawCRLF = cut, true
	}
	if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		c.verb = "other"
		c.say(sayControl())
		return "", false
	}
	return string(line), true
}

// wire reads from the client, after sending it what it is owed.
type wire struct{ c *conn }

func (w wire) Read(p []byte) (int, error) {
	c := w.c
	if c.closing {
		return 0, net.ErrClosed
	}
	if len(c.carry) > 0 {
		n := copy(p, c.carry)
		if c.carry = c.carry[n:]; len(c.carry) == 0 {
			c.carry = nil
		}
		return n, nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	if err := c.arm(); err != nil {
		return 0, err
	}
	n, err := c.nc.Read(p)
	c.mu.Lock()
	c.waiting = false
	c.mu.Unlock()
	if c.body != nil {
		c.body.n += int64(n)
	}
	return n, err
}

// arm sets the deadline of one read. In a body it moves with progress, but
// never beyond what the minimum rate allows.
func (c *conn) arm() error {
	by := c.lineBy
	if c.body != nil {
		by = c.body.deadline(time.Now(), c.srv.limits)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = c.body == nil
	if c.aborted || c.waiting && c.draining {
		return os.ErrDeadlineExceeded
	}
	return c.raw.SetReadDeadline(by)
}

func (p *pace) deadline(now time.Time, l Limits) time.Time {
	stall := l.Stall
	if p.half {
		stall = min(stall, halfLine)
	}
	by := now.Add(stall)
	paid := p.began.Add(l.Grace + time.Duration(float64(p.n)/float64(l.MinRate)*float64(time.Second)))
	if paid.Before(by) {
		return paid
	}
	return by
}

// flush sends the replies gathered so far. A client that does not take them
// gets nothing more.
func (c *conn) flush() error {
	if c.out.Len() == 0 {
		return nil
	}
	defer c.out.Reset()
	_ = c.raw.SetWriteDeadline(time.Now().Add(c.srv.limits.Write)) // fails only where Write does
	if _, err := c.nc.Write(c.out.Bytes()); err != nil {
		c.hangUp()
		return net.ErrClosed
	}
	return nil
}

// Close sends what is left to say and closes the connection. go-smtp calls it
// at the end of each session.
func (c *conn) Close() error {
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	defer c.done()
	c.dropTransaction()
	err := c.flush()
	c.hangUp()
	if (c.linger || c.in.Buffered() > 0) && err == nil {
		lastWords(c.nc, c.raw, c.srv.limits.Refusal)
	}
	return c.nc.Close()
}

// lastWords ends our direction and takes what the client is still sending for
// a while: closing on unread input would reset the connection, and the client
// would never read the reason.
func lastWords(nc, raw net.Conn, most time.Duration) {
	if err := raw.SetDeadline(time.Now().Add(most)); err != nil {
		return
	}
	if t, ok := nc.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	half, ok := raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(raw, lingerSize))
}

// startTLS answers the command and puts TLS on the wire. What was pipelined
// behind STARTTLS is dropped (RFC 3207 §6), and so is the connection if the
// handshake fails: no word follows in clear text.
func (c *conn) startTLS(cfg *tls.Config) {
	c.in.Reset(wire{c})
	c.carry = nil
	c.say(sayReadyTLS())
	if c.flush() != nil {
		c.hangUp()
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.limits.Handshake)
	defer cancel()
	t := tls.Server(c.raw, cfg)
	if err := c.raw.SetDeadline(time.Now().Add(c.srv.limits.Handshake)); err != nil {
		c.hangUp()
		return
	}
	if err := t.HandshakeContext(ctx); err != nil {
		c.srv.metrics.handshakeFailures.Inc()
		c.log.Info("the handshake failed", "event", "smtp.tls_failed", "client", c.addr, "err", err)
		if !c.who.check && !errors.Is(err, io.EOF) {
			c.srv.observe(c.verdict, "STARTTLS", c.srv.sayFailedTLS(c.addr, err.Error(), c.device().TLS == "legacy"))
		}
		c.hangUp()
		return
	}
	c.nc = t
	state := t.ConnectionState()
	c.tlsState, c.tlsName, c.oldTLS = tlsName(state), tls.VersionName(state.Version), needsLegacy(state)
	c.greeted, c.noHELO, c.helo = false, false, "" // RFC 3207 §4.2: back to the initial state
	c.handOut("RSET")
	c.swallow = true
}

// handOut gives go-smtp a command line.
func (c *conn) handOut(line string) { c.handout = []byte(line + "\r\n") }

// drain asks the session to end: at once if it waits for a command, else at
// the next one. Safe to call from another goroutine.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.waiting {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// abort cuts the connection. Safe to call from another goroutine.
func (c *conn) abort() {
	c.mu.Lock()
	c.aborted = true
	c.mu.Unlock()
	_ = c.raw.Close()
}

func (c *conn) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// The rest of net.Conn. go-smtp's deadlines are off; ours are in arm and flush.

func (c *conn) LocalAddr() net.Addr              { return c.raw.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr             { return c.raw.RemoteAddr() }
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
