package deliver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// A session is one SMTP connection to a next hop, from the greeting on. One
// goroutine uses it at a time. After any error of read or flush it is in an
// unknown state and must be dropped.
type session struct {
	raw   net.Conn // the TCP connection; deadlines are set here
	conn  net.Conn // raw, or TLS over it
	r     *bufio.Reader
	w     *bufio.Writer
	body  *bufio.Reader // of reading
	t     Timeouts
	hop   string // name of the next hop, for RemoteMTA
	peer  string // name and address, for the operator
	host  host
	where string // address and port

	chunk   *bufio.Writer // collects a chunk; nil before the first
	plain   bool          // BDAT is not to be used
	strict8 bool          // 8-bit messages want 8BITMIME

	ext    map[string]string // of the last EHLO, by upper-case keyword
	tls    string            // TLS version; "" for clear text
	as     Protection        // what protects it
	secure bool              // fit for REQUIRETLS
	lax    bool              // not fit for mail that may want more
	ctx    context.Context   // of the attempt in progress
	disarm func() bool       // ends the watch over ctx

	born  time.Time
	used  int         // transactions that ended in 2xx
	timer *time.Timer // while idle in the pool
}

func newSession(raw net.Conn, h host, addr string, t Timeouts, now time.Time) *session {
	s := &session{raw: raw, t: t, hop: h.name, peer: h.name + " (" + addr + ")", host: h, where: addr, ctx: context.Background(), born: now}
	s.use(raw)
	return s
}

// use makes conn what is read and written from now on, with fresh buffers:
// nothing read before counts any more.
func (s *session) use(conn net.Conn) {
	s.conn = conn
	s.r = bufio.NewReaderSize(conn, maxReplyLine)
	s.w = bufio.NewWriterSize(blockWriter{s}, 32<<10)
}

// reading reads a body through a buffer that is the session's, since one made
// for each message would be most of what a relay leaves to the collector.
func (s *session) reading(body io.Reader) *bufio.Reader {
	if s.body == nil {
		s.body = bufio.NewReaderSize(body, 32<<10)
	}
	s.body.Reset(body)
	return s.body
}

// A blockWriter gives each write of the buffered writer its own deadline: the
// progress deadline of the body. RFC 5321 §4.5.3.2.5.
type blockWriter struct{ s *session }

func (b blockWriter) Write(p []byte) (int, error) {
	b.s.within(b.s.t.Block)
	return b.s.conn.Write(p)
}

// arm ties the session to ctx until release: once ctx is done every read and
// write fails.
func (s *session) arm(ctx context.Context) {
	s.ctx = ctx
	s.watch(ctx, func() time.Time { return time.Unix(1, 0) })
}

// watch moves the deadline when ctx is done. disarm ends that, waits for it if
// it is under way, and reports whether it never struck.
func (s *session) watch(ctx context.Context, to func() time.Time) {
	struck := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(struck)
		_ = s.raw.SetDeadline(to())
	})
	s.disarm = func() bool {
		if stop() {
			return true
		}
		<-struck
		return false
	}
}

// release unties it. It reports false if ctx struck, and s is to be dropped.
func (s *session) release() bool {
	ok := s.disarm()
	s.ctx = context.Background()
	return ok
}

// linger is for the wait after the final dot: the peer has the whole message,
// and to leave now would mean to send it twice. A cancelled context only
// shortens the wait.
func (s *session) linger() {
	s.disarm()
	ctx := s.ctx
	s.ctx = context.Background()
	s.within(s.t.End)
	s.watch(ctx, func() time.Time { return time.Now().Add(s.t.Drain) })
}

// within sets the deadline of the next step.
func (s *session) within(d time.Duration) {
	_ = s.raw.SetDeadline(time.Now().Add(d))
	if s.ctx.Err() != nil { // it may have struck between the two
		_ = s.raw.SetDeadline(time.Unix(1, 0))
	}
}

// read reads one reply within d; step names what it answers.
func (s *session) read(step string, d time.Duration) (reply, error) {
	if ahead, _ := s.r.Peek(s.r.Buffered()); bytes.IndexByte(ahead, '\n') < 4 || ahead[3] == '-' { // else all of it is here
		s.within(d)
	}
	r, err := readReply(s.r)
	if err != nil {
		return reply{}, s.fault("waiting for the reply to "+step, err)
	}
	return r, nil
}

// line buffers one command; flush sends what is buffered.
func (s *session) line(cmd string) {
	// An error sticks to the writer; flush returns it.
	_, _ = s.w.WriteString(cmd)
	_, _ = s.w.WriteString("\r\n")
}

func (s *session) flush(step string) error {
	if err := s.w.Flush(); err != nil {
		return s.fault("sending "+step, err)
	}
	return nil
}

// command sends one command and reads its reply.
func (s *session) command(cmd string, d time.Duration) (reply, error) {
	step, _, _ := strings.Cut(cmd, " ")
	s.line(cmd)
	if err := s.flush(step); err != nil {
		return reply{}, err
	}
	return s.read(step, d)
}

// fault is an error with its place, for the operator.
func (s *session) fault(doing string, err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return fmt.Errorf("deliver: %s: %s: %w", s.peer, doing, err)
}

// hello says EHLO, or HELO to a server that knows no other, and notes what is
// offered. RFC 5321 §3.2, §4.1.1.1. The reply is that of the last command; a
// refusal is no error.
func (s *session) hello(hostname string) (reply, error) {
	s.ext = nil
	r, err := s.command("EHLO "+hostname, s.t.Command)
	if err != nil {
		return reply{}, err
	}
	if r.code.Permanent() {
		return s.command("HELO "+hostname, s.t.Command)
	}
	if r.ok() {
		s.ext = make(map[string]string, len(r.lines))
		for _, l := range r.lines[1:] {
			word, rest, _ := strings.Cut(strings.TrimSpace(l), " ")
			s.ext[strings.ToUpper(word)] = strings.TrimSpace(rest)
		}
	}
	return r, nil
}

// has reports whether the peer offers an extension.
func (s *session) has(keyword string) bool {
	_, ok := s.ext[keyword]
	return ok
}

// maxSize is the largest message that the peer takes; 0 if it does not say.
// RFC 1870 §3, §4.
func (s *session) maxSize() int64 {
	n, err := strconv.ParseInt(s.ext["SIZE"], 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// startTLS upgrades the connection. RFC 3207. It reports false, without an
// error, if the peer declines: the session goes on as it was. After an error
// it must be dropped.
func (s *session) startTLS(config *tls.Config) (bool, error) {
	r, err := s.command("STARTTLS", s.t.Command)
	if err != nil || !r.ok() {
		return false, err
	}
	// What stands behind the 220 came in clear text, and would be taken for
	// part of the protected session: an injection. RFC 3207 §4.2.
	if n := s.r.Buffered(); n > 0 {
		return false, s.fault("STARTTLS", fmt.Errorf("%w: %d octets sent ahead of the handshake", errInjected, n))
	}
	t := tls.Client(s.raw, config)
	s.within(s.t.Command)
	if err := t.HandshakeContext(s.ctx); err != nil {
		return false, s.fault("STARTTLS", fmt.Errorf("%w: %w", errHandshake, err))
	}
	s.use(t)
	s.ext = nil // RFC 3207 §4.2: discard what was learnt before
	s.tls = tls.VersionName(t.ConnectionState().Version)
	return true, nil
}

// protect notes what a session is that came about under d.
func (s *session) protect(d *Demand) {
	s.as = d.protection(s.tls)
	s.secure = d.Secure && s.as >= Verified
	s.lax = d.lax
}

// secured is how it is protected, for people: "TLS 1.3, dane"; "" for clear text.
func (s *session) secured() string {
	if s.as <= Unverified {
		return s.tls
	}
	return s.tls + ", " + s.as.String()
}

// quit leaves politely, without waiting long. RFC 5321 §4.1.1.10.
func (s *session) quit() {
	s.within(s.t.Quit)
	if _, err := io.WriteString(s.conn, "QUIT\r\n"); err == nil {
		_, _ = readReply(s.r)
	}
	s.drop()
}

// drop closes the connection at once.
func (s *session) drop() { _ = s.raw.Close() }
