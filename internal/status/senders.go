package status

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// How much of a list is in a Report.
const (
	MaxSenders   = 10
	MaxStrangers = 20
)

// Senders are the registrations that have sent in the last 30 days.
type Senders struct {
	Count int      `json:"count"`
	Top   []Sender `json:"top"` // at most MaxSenders, those with most messages in 24 hours first
}

// A Sender is one registration, with all its addresses together.
type Sender struct {
	Registration string `json:"registration"` // the file; "": the address is in the register no more
	Department   string `json:"department,omitempty"`
	Addresses    int    `json:"addresses"` // that have sent in the last 30 days
	Mail
	Refused int `json:"refused"` // refusals of these addresses, of late
}

// Strangers are the campus addresses that are not registered and tried to send
// in the last 7 days.
type Strangers struct {
	Count  int        `json:"count"`
	Newest []Stranger `json:"newest"` // at most MaxStrangers, the newest first
}

// A Stranger is one of them.
type Stranger struct {
	IP     netip.Addr `json:"ip"`
	First  time.Time  `json:"first"` // refusal of those counted
	Last   time.Time  `json:"last"`
	Count  int        `json:"count"` // refusals
	Stage  string     `json:"stage"` // of the newest: "greeting", or the command
	Reason string     `json:"reason"`
	Said   string     `json:"said"` // what it was told
}

// A Reason is how often an address was refused for one reason.
type Reason struct {
	Reason string    `json:"reason"`
	Count  int       `json:"count"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
}

// A Leniency is one thing that the device profile of an address allows, and
// whether the machine has needed it.
type Leniency struct {
	Key   string    `json:"key"`           // of device: bareLF, tls, commands, addHeaders
	Value string    `json:"value"`         // as in the file
	What  string    `json:"what"`          // is put up with, in words
	Count int       `json:"count"`         // messages that needed it in the last 30 days
	Last  time.Time `json:"last,omitzero"` // the newest that did; zero: none
	Since time.Time `json:"since,omitzero"`
	// Hidden: whether it is needed cannot be seen, only tried.
	Hidden bool `json:"hidden,omitempty"`
}

// An Allowance is one leniency of one address, for the list of all that the
// register allows beyond what everybody gets.
type Allowance struct {
	IP           netip.Addr `json:"ip"`
	Registration string     `json:"registration"`
	Messages     int        `json:"messages"` // accepted from it in the last 30 days
	Leniency
}

const allowanceRow = "%-39s  %-*s  %-20s  %s\n"

// AllowancesText lists allowances as a table, as they come.
func AllowancesText(list []Allowance) string {
	var b strings.Builder
	w := widest(list, func(a Allowance) string { return a.Registration })
	fmt.Fprintf(&b, allowanceRow, "ADDRESS", w, "REGISTRATION", "DEVICE", "WHAT IT IS FOR, AND WHETHER IT IS NEEDED")
	for _, a := range list {
		fmt.Fprintf(&b, allowanceRow, a.IP, w, visible(a.Registration), visible(a.Key+": "+a.Value), visible(a.What)+": "+a.says(Mail{Month: a.Messages}))
	}
	return b.String()
}

// says tells what a postmaster wants to know: can it be taken away?
func (l Leniency) says(m Mail) string {
	switch {
	case l.Hidden:
		return "allowed; whether it is needed can only be tried"
	case l.Count > 0:
		return fmt.Sprintf("needed by %s in 30 days, the last %s", count(l.Count, "message", "messages"), stamp(l.Last))
	case m.Month == 0 && !l.Last.IsZero():
		return "allowed; no mail in 30 days, last needed " + stamp(l.Last)
	case m.Month == 0:
		return "allowed; no mail in 30 days, so nothing is known"
	case !l.Last.IsZero():
		return "allowed, not needed since " + stamp(l.Last)
	case !l.Since.IsZero():
		return "allowed, never needed since " + stamp(l.Since)
	}
	return "allowed; no message since it is counted"
}

// volume says how much mail it was, to whom and how.
func (m Mail) volume() string {
	text := fmt.Sprintf("%s in 24 hours, %s in 7 days, %s in 30 days", thousands(int64(m.Day)), thousands(int64(m.Week)), thousands(int64(m.Month)))
	if m.Recipients > 0 {
		text += fmt.Sprintf(", to %s, %s", count(m.Recipients, "recipient", "recipients"), octets(m.Octets))
	}
	return text
}

// over says how the newest message came; nothing, where that was not kept yet.
func (m Mail) over() string {
	switch {
	case m.TLS != "":
		return ", over " + visible(m.TLS)
	case m.Recipients > 0:
		return ", in clear text"
	}
	return ""
}

// widest is the width of a column of files: 40, or what the longest takes, but
// no more than 100.
func widest[T any](list []T, file func(T) string) int {
	w := 40
	for _, e := range list {
		w = max(w, utf8.RuneCountInString(visible(file(e))))
	}
	return min(w, 100)
}

const senderRow = "%-*s  %9s  %8s  %8s  %9s  %10s  %11s  %8s  %-20s  %s\n"

// SendersText lists senders as a table, as they come.
func SendersText(list []Sender) string {
	var b strings.Builder
	w := widest(list, func(s Sender) string { return s.Registration })
	fmt.Fprintf(&b, senderRow, w, "REGISTRATION", "ADDRESSES", "24 HOURS", "7 DAYS", "30 DAYS", "RECIPIENTS", "OCTETS", "REFUSED", "LAST", "TLS")
	for _, s := range list {
		fmt.Fprintf(&b, senderRow, w, visible(orElse(s.Registration, "(registered no more)")), thousands(int64(s.Addresses)),
			thousands(int64(s.Day)), thousands(int64(s.Week)), thousands(int64(s.Month)), thousands(int64(s.Recipients)), octets(s.Octets),
			thousands(int64(s.Refused)), stamp(s.Last), visible(orElse(s.TLS, "none")))
	}
	return b.String()
}

const strangerRow = "%-39s  %-20s  %-20s  %7s  %s\n"

// StrangersText lists strangers as a table, as they come.
func StrangersText(list []Stranger) string {
	var b strings.Builder
	fmt.Fprintf(&b, strangerRow, "ADDRESS", "FIRST", "LAST", "REFUSED", "WHAT IT WAS TOLD LAST")
	for _, s := range list {
		fmt.Fprintf(&b, strangerRow, s.IP, stamp(s.First), stamp(s.Last), thousands(int64(s.Count)), visible(s.Stage+": "+s.Said))
	}
	return b.String()
}
