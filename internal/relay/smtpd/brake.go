package smtpd

import (
	"bytes"
	"hash/maphash"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
)

// A Brake holds back registrations that send as no such machine does. Its
// methods may be called by many sessions at once and must not wait for anything.
type Brake interface {
	// Ask says whether a message may come now, at its first recipient.
	Ask(v policy.Verdict, m Sent, now time.Time) (Braked, bool)
	// Refused is told of a message for which a Limiter had no room, and Accepted
	// of one that was accepted.
	Refused(v policy.Verdict, m Sent, now time.Time)
	Accepted(v policy.Verdict, m Sent, now time.Time)
}

// A Sent is what a Brake sees of a message.
type Sent struct {
	From   mail.Address
	To     []mail.Recipient // of a message that was not accepted, at least one
	Octets int64            // of a message that was not accepted, what MAIL declared
	Body   uint64           // digest of the body without its header section, by a seed of this Server; 0: it is empty
}

// A Braked is why a message may not come now.
type Braked struct {
	Blocked bool          // for good, until a time; else it may come later
	Every   time.Duration // one message may come in so much time; 0: none
	Why     string        // in plain words
	Until   time.Time     // zero: until an operator says so
}

// sent is the message under way, with one more recipient if there is one.
func (c *conn) sent(more ...mail.Recipient) Sent {
	return Sent{From: c.tx.env.From, To: append(more, c.tx.env.To...), Octets: c.tx.declared}
}

// askBrake says why the message whose first recipient is to may not come.
func (c *conn) askBrake(to mail.Address) *reply {
	if c.srv.brake == nil || len(c.tx.env.To) > 0 {
		return nil
	}
	braked, ok := c.srv.brake.Ask(c.tx.verdict, c.sent(mail.Recipient{Address: to}), c.srv.now())
	if ok {
		return nil
	}
	r := c.srv.sayBraked(c.tx.verdict, braked)
	return &r
}

// tellBrake tells of a message that a budget had no room for.
func (c *conn) tellBrake(more ...mail.Recipient) {
	if c.srv.brake != nil {
		c.srv.brake.Refused(c.tx.verdict, c.sent(more...), c.srv.now())
	}
}

// A bodyHash tells bodies apart that are not the same, apart from the lines that
// part a MIME message, which differ each time.
type bodyHash struct {
	h    maphash.Hash
	n    int
	mid  bool // within a line
	skip bool // that does not count
}

func (b *bodyHash) add(piece []byte, eol bool) {
	if !b.mid {
		b.skip = bytes.HasPrefix(piece, []byte("--"))
	}
	b.mid = !eol
	if b.skip {
		return
	}
	_, _ = b.h.Write(piece) // never fails
	b.n += len(piece)
	if eol {
		_ = b.h.WriteByte('\n')
	}
}

// sum is the digest; 0 for a body in which nothing counts.
func (b *bodyHash) sum() uint64 {
	if b.n == 0 {
		return 0
	}
	return max(1, b.h.Sum64())
}
