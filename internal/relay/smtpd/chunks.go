package smtpd

import (
	"io"
	"time"
)

// chunks is the body of a message that comes by BDAT (RFC 3030), as one stream:
// behind the last octet of a chunk it answers, and reads commands until the
// next one.
type chunks struct {
	c     *conn
	size  int64 // octets of the present chunk
	rest  int64 // of them, still to come
	total int64 // octets of all chunks so far
	last  bool  // this is the last chunk
}

// Read reads on in the present chunk, or goes on to the next. io.EOF means the
// end of the last chunk; an end of the connection is never that.
func (k *chunks) Read(p []byte) (int, error) {
	for k.rest == 0 {
		if k.last {
			return 0, io.EOF
		}
		if err := k.following(); err != nil {
			return 0, err
		}
	}
	n, err := k.c.in.Read(p[:min(int64(len(p)), k.rest)])
	k.rest -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// following answers the chunk that is done, and obeys commands up to the next.
func (k *chunks) following() error {
	c := k.c
	pace := c.body
	c.body = nil // a command has a deadline of its own; the minimum rate goes on counting
	defer func() { c.body = pace }()
	c.say(sayChunk(k.size))
	for !c.closing {
		line, ok := c.readCommand()
		if !ok {
			continue
		}
		name, arg := cutCommand(line)
		c.verb = verbOf(name)
		if !c.stillWelcome() {
			break
		}
		switch c.verb {
		case "BDAT":
			return k.begin(arg)
		case "RSET", "QUIT", "EHLO", "HELO", "STARTTLS":
			c.pushed = line
			return errAbandoned
		case "MAIL", "RCPT", "DATA":
			c.say(sayInChunks())
		default:
			c.aside(name)
		}
	}
	return io.ErrUnexpectedEOF
}

// begin opens the next chunk.
func (k *chunks) begin(arg string) error {
	size, last, ok := parseBDAT(arg)
	if !ok {
		return tooMuch{sayBadChunk()}
	}
	if k.total+size > k.c.srv.limits.MaxMessage+lingerSize {
		return tooMuch{sayTooLarge(k.c.srv.limits.MaxMessage)}
	}
	if size == 0 && !last && !k.c.spendIdle() {
		return io.ErrUnexpectedEOF
	}
	k.size, k.rest, k.last = size, size, last
	k.total += size
	return nil
}

// discard takes the rest of the present chunk and forgets it.
func (k *chunks) discard() error {
	n, err := io.CopyN(io.Discard, k.c.in, k.rest)
	k.rest -= n
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// skip takes a chunk that no message wants. It ends the session where that
// fails, or where the chunk is larger than will be read.
func (c *conn) skip(size int64) bool {
	if size > c.srv.limits.MaxMessage+lingerSize {
		c.fail(sayTooLarge(c.srv.limits.MaxMessage))
		return false
	}
	c.body = &pace{began: time.Now()}
	defer func() { c.body = nil }()
	k := chunks{c: c, rest: size}
	if err := k.discard(); err != nil {
		c.lastWordsFor(err, false)
		return false
	}
	return true
}
