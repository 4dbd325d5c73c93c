package smtpd

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/proof"
)

// writeSize is how much of a message is gathered for one Write to the store.
const writeSize = 32 << 10

// buffers are those of messages that are under way: what is read ahead, and what
// is gathered for the store.
type buffers struct{ pool, readers sync.Pool }

// reader is a reader of inSize.
func (b *buffers) reader(from io.Reader) *bufio.Reader {
	if r, ok := b.readers.Get().(*bufio.Reader); ok {
		r.Reset(from)
		return r
	}
	return bufio.NewReaderSize(from, inSize)
}

// putReader takes a reader back that nobody uses any more.
func (b *buffers) putReader(r *bufio.Reader) {
	r.Reset(nil)
	b.readers.Put(r)
}

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, 0, writeSize)
	return &p
}

func (b *buffers) put(p *[]byte) {
	*p = (*p)[:0]
	b.pool.Put(p)
}

// errAbandoned ends a message in chunks that the client gave up (RSET, QUIT, …).
var errAbandoned = errors.New("smtpd: the client abandoned the message")

// receive takes one body off the wire and stores it, and leaves in c.pending
// what go-smtp's reply is replaced by. Plan: trace header first; the body, read
// and checked; then, only if it ended properly, commit. What cannot be read to
// its end ends the connection; what is refused for its content is read to its
// end and refused.
func (c *conn) receive() {
	if c.tx.chunks == nil {
		c.widen()
	}
	c.body = &pace{began: time.Now()}
	size, refusal, err := c.transfer()
	half := c.body.half
	c.body = nil
	switch {
	case err == nil && refusal == nil:
		c.commit(size)
	case err == nil:
		c.sayInsteadOf(*refusal)
	case errors.Is(err, errAbandoned):
		c.srv.metrics.aborted.Inc()
		c.swallow = true // the pushed-back command is what gets an answer
	default:
		c.srv.metrics.aborted.Inc()
		if !c.closing {
			c.log.Info("aborted", "event", "smtp.aborted", "client", c.addr, "registration", pathOf(c.tx.verdict), "octets", size, "err", err)
			c.lastWordsFor(err, half)
		}
	}
	c.dropTransaction()
	if !c.closing {
		c.handout = []byte(".\r\n") // the end that go-smtp's own reader waits for
	}
}

// lastWordsFor ends the session after a body that could not be read on; half
// tells that it stopped at a CR.
func (c *conn) lastWordsFor(err error, half bool) {
	if t, broken := errors.AsType[tooMuch](err); broken {
		c.fail(t.reply)
		return
	}
	switch {
	case errors.Is(err, errBareLF):
		c.fail(c.srv.sayBareLF(c.addr))
	case errors.Is(err, errLFDot):
		c.fail(sayLFDot(c.addr))
	case errors.Is(err, errBareCR), errors.Is(err, os.ErrDeadlineExceeded) && half:
		c.fail(sayBareCR())
	case errors.Is(err, errNUL):
		c.fail(sayNUL())
	case errors.Is(err, errLongLine):
		c.fail(sayLongLine(c.srv.limits.MaxLine))
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.fail(saySlow())
	default:
		c.hangUp()
	}
}

// tooMuch is an error that carries its reply: there is no reading to the end.
type tooMuch struct{ reply reply }

func (tooMuch) Error() string { return "smtpd: more than will be read" }

// transfer reads the body into the store. It returns the octets read, and a
// refusal if the message came whole but is not wanted.
func (c *conn) transfer() (size int64, refusal *reply, err error) {
	most := c.srv.limits.MaxMessage
	if c.tx.proof != nil {
		most = min(most, c.srv.limits.MaxProof)
	}
	gathered := c.srv.buffers.get()
	defer c.srv.buffers.put(gathered)
	g := &gatherer{to: c.tx.msg, buf: *gathered}
	pass := c.newHeaderPass(g)
	body := c.newBodyReader()
	g.add([]byte(received(c.tx.env, c.srv.hostname)))
	no := func(r reply) {
		if refusal == nil {
			refusal = &r
		}
	}
	for {
		piece, eol, err := body.next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return size, nil, err
		}
		size += int64(len(piece))
		if eol {
			size += 2
		}
		switch {
		case size > most+lingerSize: // there is a limit to politeness, too
			return size, nil, tooMuch{sayTooLarge(most)}
		case size > most:
			no(sayTooLarge(most))
		case refusal != nil:
		default:
			switch pass.write(piece, eol) {
			case headerTooLarge:
				no(sayHeaderTooLarge(c.srv.limits.MaxHeader))
			case headerLoop:
				no(sayLoop(c.srv.limits.MaxHops))
			case headerBulk:
				no(c.srv.sayBulk(c.addr, pass.bulk))
			}
			if g.err != nil {
				no(c.storeFailed("write", g.err))
			}
		}
		if refusal != nil && c.tx.chunks != nil { // in chunks the answer comes after this one
			return size, refusal, c.tx.chunks.discard()
		}
	}
	if refusal == nil {
		pass.close()
		c.tx.digest = pass.body.sum()
		c.tx.needed.BareLF, c.tx.needed.Headers = body.fixed, pass.added
		if g.flush(); g.err != nil {
			no(c.storeFailed("write", g.err))
		}
	}
	return size, refusal, nil
}

func (c *conn) newBodyReader() *bodyReader {
	fix := c.device().BareLF == "fix" || c.tx.proof != nil // an old device that is not registered yet must be able to prove, too
	b := &bodyReader{in: c.in, dots: true, fix: fix, lfEnd: fix && !c.sawCRLF, maxLine: c.srv.limits.MaxLine}
	b.half = func(wait bool) { c.body.half = wait }
	if c.tx.chunks != nil {
		b.in, b.dots = bufio.NewReaderSize(c.tx.chunks, inSize), false
	}
	return b
}

func (c *conn) newHeaderPass(g *gatherer) *headerPass {
	h := &headerPass{out: g.add, maxBytes: c.srv.limits.MaxHeader, maxHops: c.srv.limits.MaxHops,
		noBulk: !c.srv.allowBulk && c.tx.proof == nil}
	h.body.h.SetSeed(c.srv.seed)
	if c.device().AddHeaders {
		h.date = dateValue(c.tx.env.Arrival)
		h.messageID = "<" + strings.ToLower(rand.Text()) + "@" + c.srv.hostname + ">"
	}
	return h
}

// commit makes the message durable and only then promises it.
func (c *conn) commit(size int64) {
	tx := c.tx
	if tx.proof != nil {
		c.recordProof()
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.limits.Commit)
	defer cancel()
	began := time.Now()
	id, err := tx.msg.Commit(ctx)
	tx.msg = nil // Commit or Abort, never both
	if err != nil {
		c.sayInsteadOf(c.storeFailed("commit", err))
		return
	}
	c.settle(Use{Messages: 1, Recipients: len(tx.env.To), Octets: size})
	if b := c.srv.brake; b != nil {
		b.Accepted(tx.verdict, Sent{From: tx.env.From, To: tx.env.To, Octets: size, Body: tx.digest}, c.srv.now())
	}
	took := time.Since(began)
	told := Accepted{Recipients: len(tx.env.To), Octets: size, TLS: c.tlsName, Needed: tx.needed}
	c.srv.metrics.took(told)
	c.srv.tally.accepted.Add(1)
	if o := c.srv.observer; o != nil {
		o.Accepted(c.addr, told)
	}
	c.srv.metrics.commitSeconds.Observe(took.Seconds())
	c.idle, c.errs = 0, 0
	c.log.LogAttrs(ctx, slog.LevelInfo, "accepted", slog.String("event", "smtp.accepted"),
		slog.String("id", id), slog.Any("client", c.addr),
		slog.String("registration", tx.env.Registration), slog.String("commit", tx.env.Commit),
		slog.String("from", tx.env.From.String()), slog.Int("recipients", len(tx.env.To)), slog.Int64("octets", size),
		slog.String("protocol", tx.env.Protocol), slog.String("tls", tx.env.TLS), slog.String("helo", tx.env.HELO),
		slog.Duration("duration", took))
	c.sayInsteadOf(sayAccepted(id))
}

// recordProof keeps the proof and forgets the message. A token that comes again
// changes nothing and gets the same answer.
func (c *conn) recordProof() {
	claim := *c.tx.proof
	news, err := c.srv.prover.Add(proof.Record{
		Addr: c.addr, Request: claim.Request, At: c.srv.now(), Expires: claim.Expires, Port: c.port.String(), TLS: c.tlsState,
	})
	if err != nil {
		c.sayInsteadOf(c.storeFailed("record proof", err))
		return
	}
	c.srv.metrics.proved(news)
	c.log.Info("control is proved", "event", "smtp.proved", "client", c.addr, "request", claim.Request,
		"port", c.port.String(), "tls", c.tlsState, "first", news)
	c.idle, c.errs = 0, 0
	c.sayInsteadOf(sayProved(claim))
}

// note counts and logs a refusal, one line each.
func (c *conn) note(r reply) {
	c.srv.metrics.refusals.WithLabelValues(c.verb, r.word).Inc()
	c.srv.tally.refused.Add(1)
	var from *mail.Address
	if c.tx != nil {
		from = &c.tx.env.From
	}
	c.srv.logRefusal(c.who, c.verb, r, from)
	if !c.who.check && r.word != "drain" && (r.word != "timeout" || c.tx != nil) { // how sessions end that nothing is wrong with
		c.srv.observe(c.verdict, c.verb, r)
	}
}

// observe tells the observer of a refusal, unless it is of somebody from
// elsewhere.
func (s *Server) observe(v policy.Verdict, stage string, r reply) {
	if s.observer == nil || v.Standing == policy.OffCampus || v.Standing == policy.NoRegister {
		return
	}
	s.observer.Refused(v.Addr, v.Registration != nil, stage, r.word, r.String())
}

// A gatherer writes to the store in large pieces, and keeps its first error.
type gatherer struct {
	to  io.Writer
	buf []byte
	err error
}

func (g *gatherer) add(p []byte) {
	for len(p) > 0 {
		n := min(len(p), writeSize-len(g.buf))
		g.buf = append(g.buf, p[:n]...)
		p = p[n:]
		if len(g.buf) == writeSize {
			g.flush()
		}
	}
}

func (g *gatherer) flush() {
	if g.err == nil && len(g.buf) > 0 {
		_, g.err = g.to.Write(g.buf)
	}
	g.buf = g.buf[:0]
}
