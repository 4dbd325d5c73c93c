package deliver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"example.edu/gatepost/internal/mail"
)

const (
	chunk = 64 << 10 // octets of one BDAT; a message up to this is one chunk
	// ahead is how many chunks are sent ahead of their replies, where the peer
	// offers PIPELINING. It bounds what is sent in vain after a refusal.
	ahead = 8
)

// The body in chunks: RFC 3030. No chunk is sent before a recipient was
// accepted, although PIPELINING would allow it and save a round trip: a server
// that refuses BDAT for want of a recipient, and does not skip what follows,
// takes the body for commands, and whoever wrote the message speaks in our
// name. The most used SMTP library for Go was such a server for years.
//
// A body that cannot be read to its end gets no LAST, and so is no message.

// A chunker sends a body by BDAT and takes the replies. Its plan: writeLines fills
// a buffer of one chunk; each time it is full it goes out; what is left at the
// end goes out as the last.
type chunker struct {
	t       *transaction
	last    bool
	waiting int // chunks whose reply is not read
}

// What ends the sending of chunks besides trouble with reading or writing.
var (
	errRefused = errors.New("a chunk was refused") // the outcome is known
	errReply   = errors.New("deliver: no reply to a chunk")
)

// chunked sends the body by BDAT and takes the final reply.
func (t *transaction) chunked(body io.Reader) {
	s := t.s
	c := &chunker{t: t}
	if s.chunk == nil {
		s.chunk = bufio.NewWriterSize(nil, chunk)
	}
	s.chunk.Reset(c)
	defer s.chunk.Reset(nil)
	switch err := c.send(body); {
	case err == nil:
	case errors.Is(err, errRefused):
		return
	case errors.Is(err, errBody):
		t.broken = true
		t.rest(mail.Result{Status: statusLocal(), Cause: s.fault("sending the body", err).Error()})
		return
	case errors.Is(err, errReply):
		t.lost(err)
		return
	default:
		t.lost(t.lastWords(s.fault("sending the body", err)))
		return
	}
	s.linger()
	for c.waiting > 1 {
		switch err := c.reply(); {
		case errors.Is(err, errRefused):
			return
		case err != nil:
			t.lost(err)
			return
		}
	}
	r, err := readReply(s.r)
	if err != nil {
		t.lost(s.fault("waiting for the reply to the message", err))
		return
	}
	t.data = true
	t.end(r)
}

// send sends the whole body, the last chunk included.
func (c *chunker) send(body io.Reader) error {
	w := c.t.s.chunk
	_, _ = w.WriteString(c.t.m.seal.fields()) // an error sticks to the writer
	defer c.t.s.reading(nil)
	if err := writeLines(w, c.t.s.reading(body), false); err != nil {
		return err
	}
	if c.last = true; w.Buffered() > 0 {
		return w.Flush()
	}
	_, err := c.Write(nil)
	return err
}

// Write sends one chunk.
func (c *chunker) Write(p []byte) (int, error) {
	s := c.t.s
	command := "BDAT " + strconv.Itoa(len(p))
	if c.last {
		command += " LAST"
	}
	c.t.asked = true
	s.line(command)
	if _, err := s.w.Write(p); err != nil {
		return 0, err
	}
	if err := s.w.Flush(); err != nil {
		return 0, err
	}
	c.waiting++
	if c.last {
		return len(p), nil
	}
	room := ahead
	if !s.has("PIPELINING") {
		room = 1
	}
	for c.waiting >= room {
		s.within(s.t.Data)
		if err := c.reply(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// reply takes the reply to a chunk that is not the last. The deadline is set.
func (c *chunker) reply() error {
	s := c.t.s
	r, err := readReply(s.r)
	c.waiting--
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errReply, s.fault("waiting for the reply to a chunk", err))
	case r.ok():
		return nil
	}
	c.t.end(r)
	return errRefused
}

// unable reports whether a reply to BDAT says that the peer does not know it,
// whatever it offered.
func unable(code mail.Code) bool {
	return code >= mail.CodeSyntax && code <= mail.CodeParamUnsupported
}

// plainFor is how long a next hop that offered CHUNKING and does not know BDAT
// gets DATA; maxPlain how many are remembered.
const (
	plainFor = 24 * time.Hour
	maxPlain = 1000
)

// plain remembers next hops that do not know BDAT although they offer it.
type plain struct {
	mu    sync.Mutex
	hosts map[string]time.Time // guarded by mu; name and port → until
}

// note remembers one. Of too many, all are forgotten: each costs one attempt.
func (p *plain) note(h host, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hosts == nil || len(p.hosts) >= maxPlain {
		p.hosts = make(map[string]time.Time)
	}
	p.hosts[h.name+":"+h.port] = now.Add(plainFor)
}

func (p *plain) has(h host, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.hosts[h.name+":"+h.port])
}
