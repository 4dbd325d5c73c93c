package spool

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"example.edu/gatepost/internal/mail"
)

// A reader of JSON as encodeRecord writes it, and of nothing else: the fields of
// these types in their order, without blanks. Whatever else a record says is
// left to encoding/json, which means the same and takes five times as long; a
// million messages are read at each start, and one with each attempt.

// A cursor is the rest of a payload. Once bad, it stays so, and what it returns
// means nothing.
type cursor struct {
	rest []byte
	bad  bool
}

// lit takes s, if it is next.
func (c *cursor) lit(s string) bool {
	if len(c.rest) < len(s) || string(c.rest[:len(s)]) != s {
		return false
	}
	c.rest = c.rest[len(s):]
	return true
}

func (c *cursor) must(s string) {
	if !c.lit(s) {
		c.bad = true
	}
}

// token takes a string with its quotes. plain: it says itself.
func (c *cursor) token() (t []byte, plain bool) {
	if len(c.rest) == 0 || c.rest[0] != '"' {
		c.bad = true
		return nil, false
	}
	plain, ascii := true, true
	for i := 1; i < len(c.rest); i++ {
		switch b := c.rest[i]; {
		case b == '"':
			t, c.rest = c.rest[:i+1], c.rest[i+1:]
			if !ascii && !utf8.Valid(t) {
				c.bad = true
			}
			return t, plain
		case b == '\\':
			plain = false
			i++
		case b < ' ':
			c.bad = true
			return nil, false
		case b >= utf8.RuneSelf:
			ascii = false
		}
	}
	c.bad = true
	return nil, false
}

func (c *cursor) text() (s string) {
	t, plain := c.token()
	switch {
	case c.bad:
		return ""
	case plain:
		return string(t[1 : len(t)-1])
	}
	c.bad = json.Unmarshal(t, &s) != nil
	return s
}

// raw is text for those who keep nothing of it.
func (c *cursor) raw() []byte {
	t, plain := c.token()
	if c.bad || !plain {
		c.bad = true
		return nil
	}
	return t[1 : len(t)-1]
}

func (c *cursor) number(bits int) int64 {
	n := 0
	for n < len(c.rest) && (c.rest[n] == '-' || '0' <= c.rest[n] && c.rest[n] <= '9') {
		n++
	}
	digits := bytes.TrimPrefix(c.rest[:n], []byte("-"))
	v, err := strconv.ParseInt(string(c.rest[:n]), 10, bits)
	if err != nil || len(digits) > 1 && digits[0] == '0' {
		c.bad = true
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cursor) flag() bool {
	if c.lit("true") {
		return true
	}
	c.must("false")
	return false
}

func (c *cursor) time() (at time.Time) {
	t, _ := c.token()
	if !c.bad {
		c.bad = at.UnmarshalJSON(t) != nil
	}
	return at
}

func (c *cursor) address() (a mail.Address) {
	s := c.text()
	if c.bad || s == "" {
		return a
	}
	a, err := mail.ParseAddress(s, true)
	c.bad = err != nil
	return a
}

func (c *cursor) client() (addr netip.Addr) {
	s := c.raw()
	if !c.bad {
		c.bad = addr.UnmarshalText(s) != nil
	}
	return addr
}

// object calls field with each key. It returns the place of the key among the
// fields, from 1, after taking the value; 0: it is none of them.
func (c *cursor) object(field func(key []byte) int) {
	c.must("{")
	if c.bad || c.lit("}") {
		return
	}
	for last := 0; ; {
		key := c.raw()
		c.must(":")
		if c.bad {
			return
		}
		at := field(key)
		if c.bad = c.bad || at <= last; c.bad {
			return
		}
		last = at
		if !c.lit(",") {
			c.must("}")
			return
		}
	}
}

// array calls item at each of its values.
func (c *cursor) array(item func()) {
	c.must("[")
	if c.bad || c.lit("]") {
		return
	}
	for {
		item()
		if c.bad {
			return
		}
		if !c.lit(",") {
			c.must("]")
			return
		}
	}
}

func quickEntry(payload []byte) (r entryRecord, ok bool) {
	c := cursor{rest: payload}
	c.object(func(key []byte) int {
		switch string(key) {
		case "envelope":
			c.envelope(&r.Envelope)
			return 1
		case "size":
			r.Size = c.number(64)
			return 2
		case "sum":
			n := c.number(64)
			c.bad = c.bad || n < 0 || n > 1<<32-1
			r.Sum = uint32(n)
			return 3
		case "file":
			r.File = c.text()
			return 4
		}
		return 0
	})
	return r, !c.bad && len(c.rest) == 0
}

func quickState(payload []byte) (r stateRecord, ok bool) {
	c := cursor{rest: payload}
	c.object(func(key []byte) int {
		switch string(key) {
		case "state":
			r.State = []RecipientState{}
			c.array(func() {
				var st RecipientState
				c.recipientState(&st)
				r.State = append(r.State, st)
			})
			return 1
		case "attempts":
			r.Attempts = int(c.number(strconv.IntSize))
			return 2
		case "next":
			r.Next = c.time()
			return 3
		case "hold":
			r.Hold = c.text()
			return 4
		case "delayed":
			r.Delayed = c.time()
			return 5
		}
		return 0
	})
	return r, !c.bad && len(c.rest) == 0
}

func (c *cursor) envelope(e *mail.Envelope) {
	c.object(func(key []byte) int {
		switch string(key) {
		case "from":
			e.From = c.address()
			return 1
		case "to":
			e.To = []mail.Recipient{}
			c.array(func() {
				var to mail.Recipient
				c.recipient(&to)
				e.To = append(e.To, to)
			})
			return 2
		case "body":
			e.Body = mail.BodyType(c.text())
			return 3
		case "utf8":
			e.UTF8 = c.flag()
			return 4
		case "requireTLS":
			e.RequireTLS = c.flag()
			return 5
		case "anyTLS":
			e.AnyTLS = c.flag()
			return 6
		case "ret":
			e.Ret = c.text()
			return 7
		case "envID":
			e.EnvID = c.text()
			return 8
		case "client":
			e.Client = c.client()
			return 9
		case "helo":
			e.HELO = c.text()
			return 10
		case "protocol":
			e.Protocol = c.text()
			return 11
		case "tls":
			e.TLS = c.text()
			return 12
		case "registration":
			e.Registration = c.text()
			return 13
		case "contact":
			e.Contact = c.address()
			return 14
		case "commit":
			e.Commit = c.text()
			return 15
		case "arrival":
			e.Arrival = c.time()
			return 16
		}
		return 0
	})
}

func (c *cursor) recipient(to *mail.Recipient) {
	c.object(func(key []byte) int {
		switch string(key) {
		case "address":
			to.Address = c.address()
			return 1
		case "notify":
			to.Notify = c.text()
			return 2
		case "orcpt":
			to.ORcpt = c.text()
			return 3
		}
		return 0
	})
}

func (c *cursor) recipientState(st *RecipientState) {
	c.object(func(key []byte) int {
		switch string(key) {
		case "done":
			st.Done = c.flag()
			return 1
		case "last":
			c.result(&st.Last)
			return 2
		}
		return 0
	})
}

func (c *cursor) result(r *mail.Result) {
	c.object(func(key []byte) int {
		switch string(key) {
		case "outcome":
			c.bad = r.Outcome.UnmarshalText(c.raw()) != nil || c.bad
			return 1
		case "status":
			c.status(&r.Status)
			return 2
		case "remoteMTA":
			r.RemoteMTA = c.text()
			return 3
		case "cause":
			r.Cause = c.text()
			return 4
		case "tls":
			r.TLS = c.text()
			return 5
		case "dsn":
			r.DSN = c.flag()
			return 6
		case "at":
			r.At = c.time()
			return 7
		}
		return 0
	})
}

func (c *cursor) status(s *mail.Status) {
	c.object(func(key []byte) int {
		switch string(key) {
		case "code":
			s.Code = mail.Code(c.number(strconv.IntSize))
			return 1
		case "enhanced":
			n := 0
			c.array(func() {
				v := int(c.number(strconv.IntSize))
				if n < len(s.Enhanced) {
					s.Enhanced[n] = v
				}
				n++
			})
			c.bad = c.bad || n != len(s.Enhanced)
			return 2
		case "text":
			s.Text = c.text()
			return 3
		}
		return 0
	})
}
