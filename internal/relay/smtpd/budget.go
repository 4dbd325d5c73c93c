package smtpd

import (
	"sync/atomic"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
)

// A Limiter holds clients to their budgets. Its methods may be called by many
// sessions at once and must not wait for anything.
type Limiter interface {
	// Check says whether there is room for u, and takes nothing: at RCPT, for
	// the message as it is so far.
	Check(v policy.Verdict, u Use, now time.Time) (Over, bool)
	// Take takes u, all of it or nothing: before a body; and of a client that
	// may not send, a session before the greeting and a recipient at RCPT.
	Take(v policy.Verdict, u Use, now time.Time) (Over, bool)
	// Settle replaces what was taken for a message by what it came to: nothing,
	// if it was not accepted.
	Settle(v policy.Verdict, took, used Use, now time.Time)
}

// A Use is what a client asks of its budgets.
type Use struct {
	Sessions   int // of a client that may not send
	Messages   int
	Recipients int
	Octets     int64
}

// An Over is a budget that has no room.
type Over struct {
	Limit  string        // in plain words: "200 messages per hour"
	Whose  string        // the path of a registration, or an address
	RoomAt time.Time     // when there is room again
	RoomIn time.Duration // how long that is
}

// recipientMemory is what a recipient may hold, in octets: two addresses and its
// parameters.
const recipientMemory = 1 << 10

// bodyMemory is what a body that is under way may hold, in octets: its gathering
// buffer, what the store keeps of it before it goes to the disk, what was read
// ahead, of the connection and of a chunk, and a line of the header section.
func (l Limits) bodyMemory() int64 {
	return writeSize + 64<<10 + 2*inSize + int64(l.MaxHeader)
}

// memory is what all transactions together hold, and the most that they may.
type memory struct {
	most int64
	held atomic.Int64
}

// claim takes n octets, if there are so many.
func (m *memory) claim(n int64) bool {
	if m.held.Add(n) > m.most {
		m.held.Add(-n)
		return false
	}
	return true
}

func (m *memory) release(n int64) { m.held.Add(-n) }

// claim takes memory for the transaction under way, which gives it back at its
// end; the reply says that there is none.
func (c *conn) claim(n int64) *reply {
	if !c.srv.memory.claim(n) {
		r := sayNoMemory()
		return &r
	}
	c.tx.memory += n
	return nil
}

// wish is what the message under way asks of its budgets, with so many more
// recipients.
func (c *conn) wish(more int) Use {
	return Use{Messages: 1, Recipients: len(c.tx.env.To) + more, Octets: c.tx.declared}
}

// checkRecipient says why the budgets have no room for one more recipient; nil
// if they have. Further recipients of a message hear 452, so that what was
// accepted goes out and the client sends the rest by itself (RFC 5321
// §4.5.3.1.10).
func (c *conn) checkRecipient(to mail.Address) *reply {
	if c.srv.limiter == nil {
		return nil
	}
	over, ok := c.srv.limiter.Check(c.tx.verdict, c.wish(1), c.srv.now())
	if ok {
		return nil
	}
	c.tellBrake(mail.Recipient{Address: to})
	r := c.srv.sayOverLimit(c.tx.verdict, over, len(c.tx.env.To) > 0)
	return &r
}

// charge takes the message under way from the budgets, before its body.
func (c *conn) charge() *reply {
	if c.srv.limiter == nil {
		return nil
	}
	use := c.wish(0)
	over, ok := c.srv.limiter.Take(c.tx.verdict, use, c.srv.now())
	if !ok {
		c.tellBrake()
		r := c.srv.sayOverLimit(c.tx.verdict, over, false)
		return &r
	}
	c.tx.took = use
	return nil
}

// settle charges what the message under way came to in the end.
func (c *conn) settle(used Use) {
	if c.tx.took != (Use{}) {
		c.srv.limiter.Settle(c.tx.verdict, c.tx.took, used, c.srv.now())
		c.tx.took = Use{}
	}
}

// spendTry charges a refused recipient to a client that may not send. One that
// has no more of them is sent away.
func (c *conn) spendTry() {
	v := c.standing()
	if c.srv.limiter == nil || v.Standing == policy.Registered {
		return
	}
	if over, ok := c.srv.limiter.Take(v, Use{Recipients: 1}, c.srv.now()); !ok {
		c.fail(c.srv.sayStrangerOver(v, over))
	}
}

// strangerOver says why a client that may not send gets no session now.
func (s *Server) strangerOver(v policy.Verdict) (reply, bool) {
	if s.limiter == nil || v.Standing == policy.Registered {
		return reply{}, false
	}
	over, ok := s.limiter.Take(v, Use{Sessions: 1}, s.now())
	return s.sayStrangerOver(v, over), !ok
}
