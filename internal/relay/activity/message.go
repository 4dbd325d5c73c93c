package activity

import (
	"math"
	"net/netip"
	"time"
)

// A Message is what is counted of one message that was accepted.
type Message struct {
	Recipients int
	Octets     int64
	TLS        string // version that it came over, such as "TLS 1.3"; "": clear text
	Needed     Needed
}

// Needed tells which leniencies of its device profile a machine needed for a
// message.
type Needed struct {
	BareLF   bool // a bare LF was repaired
	OldTLS   bool // TLS older than 1.2, or a suite that is no longer offered to others
	Commands bool // a blank before an address, or no brackets around it
	NoHELO   bool // neither HELO nor EHLO, or one without a name
	Headers  bool // Date or Message-ID was added
}

// leniencies is how many there are.
const leniencies = 5

// all is the leniencies in the order in which they are kept.
func (n Needed) all() [leniencies]bool {
	return [leniencies]bool{n.BareLF, n.OldTLS, n.Commands, n.NoHELO, n.Headers}
}

// A Need is how often an address has needed one leniency.
type Need struct {
	Last  time.Time // the newest message that needed it; zero: none did
	Month int       // messages in the last 30 days, to the day
}

// Needs are those of one address.
type Needs struct {
	Since time.Time // they are counted from here on; zero: no message yet

	BareLF, OldTLS, Commands, NoHELO, Headers Need
}

// A mailed counts accepted messages of one address.
type mailed struct {
	first, last int64 // Unix seconds
	hours       ring[hour]
	days        ring[day]
	tls         string // of the newest

	since  int64             // Unix seconds; needed counts from here on
	needed [leniencies]*need // nil: never
}

// A need counts the messages that needed one leniency.
type need struct {
	last int64 // Unix seconds
	days ring[hour]
}

func newMailed(at int64) *mailed {
	return &mailed{first: at, last: at, hours: newHours(), days: newDays[day]()}
}

func (m *mailed) add(at int64, msg Message) {
	m.last, m.tls = at, cut(msg.TLS, maxWord)
	plus(m.hours.now(at), 1)
	d := m.days.now(at)
	plus(&d.messages, 1)
	plus(&d.recipients, msg.Recipients)
	d.octets += min(uint64(max(0, msg.Octets)), math.MaxInt64/64-min(math.MaxInt64/64, d.octets)) // a month of it is an int64
	if m.since == 0 {
		m.since = at
	}
	for i, needed := range msg.Needed.all() {
		if !needed {
			continue
		}
		if m.needed[i] == nil {
			m.needed[i] = &need{days: newDays[hour]()}
		}
		m.needed[i].last = at
		plus(m.needed[i].days.now(at), 1)
	}
}

// Sums are what was accepted from one address.
type Sums struct {
	First time.Time // the first message, ever; zero: none
	Last  time.Time // the newest
	TLS   string    // version that the newest came over; "": clear text

	Day   int // messages in the last 24 hours, to the hour
	Week  int // in the last 7 days, to the day (UTC)
	Month int // in the last 30 days, to the day

	Recipients int   // of the messages of the last 30 days
	Octets     int64 // likewise
}

func (m *mailed) sums(at int64) Sums {
	s := Sums{First: unix(m.first), Last: unix(m.last), TLS: m.tls, Day: sum(&m.hours, at, 24)}
	m.days.last(at, 30, func(ago int64, d *day) {
		if ago < 7 {
			s.Week += int(d.messages)
		}
		s.Month += int(d.messages)
		s.Recipients += int(d.recipients)
		s.Octets += int64(d.octets)
	})
	return s
}

func (m *mailed) needs(at int64) Needs {
	n := Needs{Since: unix(m.since)}
	for i, to := range []*Need{&n.BareLF, &n.OldTLS, &n.Commands, &n.NoHELO, &n.Headers} {
		if k := m.needed[i]; k != nil {
			*to = Need{Last: unix(k.last), Month: sum(&k.days, at, 30)}
		}
	}
	return n
}

func unix(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(at, 0).UTC()
}

// Senders calls f for each address that has sent in the last 30 days, in no
// order. It may call back into nothing of the Book.
func (b *Book) Senders(f func(addr netip.Addr, s Sums, refused int)) {
	at := b.now().Unix()
	for i := range b.parts {
		s := &b.parts[i]
		s.mu.Lock()
		for addr, e := range s.known {
			if e.mail == nil {
				continue
			}
			if sums := e.mail.sums(at); sums.Month > 0 {
				f(addr, sums, int(e.refused(at)))
			}
		}
		s.mu.Unlock()
	}
}

// Mails calls f for each known address that has ever sent, with the times of its
// first and its last message, in no order. It may call back into nothing of the
// Book.
func (b *Book) Mails(f func(addr netip.Addr, first, last time.Time)) {
	for i := range b.parts {
		s := &b.parts[i]
		s.mu.Lock()
		for addr, e := range s.known {
			if e.mail != nil {
				f(addr, unix(e.mail.first), unix(e.mail.last))
			}
		}
		s.mu.Unlock()
	}
}
