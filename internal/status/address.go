package status

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// An Address is what a relay knows of one client address: how the register has
// it, and what this relay has seen of it. Another relay of a fleet may have
// seen more.
type Address struct {
	Host string    `json:"host"` // the relay
	At   time.Time `json:"at"`

	IP           netip.Addr    `json:"ip"`
	Standing     string        `json:"standing"`               // MaySend, or why it may not: expired, blocked, unregistered, off-campus, no-register
	Registration *Registration `json:"registration,omitempty"` // nil: none
	Blocks       []Blocked     `json:"blocks"`                 // those in force over it, the one that it is told of first
	Confirmation *Confirmation `json:"confirmation,omitempty"` // nil: there was none, or it is not known
	Proofs       []Proof       `json:"proofs"`                 // of control, the newest first
	Seen         time.Time     `json:"seen,omitzero"`          // the last sign of any kind; zero: none
	Mail         Mail          `json:"mail"`
	Brake        *Braked       `json:"brake,omitempty"`    // its registration, if the abuse brake knows it
	Budgets      []Budget      `json:"budgets"`            // what it may still send, or try, now
	Together     *Sender       `json:"together,omitempty"` // the registration's addresses that have sent, this one among them; nil: none has
	Leniencies   []Leniency    `json:"leniencies"`         // that its device profile allows
	Reasons      []Reason      `json:"reasons"`            // for which it was refused of late, the most frequent first
	Refusals     []Refusal     `json:"refusals"`           // the last ones, the newest first
}

// MaySend is the Standing of an address that may send now.
const MaySend = "registered"

// Stopped reports whether the address may send by the register and its blocks,
// and the abuse brake takes no mail from it all the same.
func (a Address) Stopped() bool {
	return a.Standing == MaySend && a.Brake != nil && (a.Brake.Step == BrakeHold || a.Brake.Step == BrakeBlock)
}

// A Registration is the file of the register that has an address.
type Registration struct {
	File       string `json:"file"`
	Department string `json:"department"`
	Contact    string `json:"contact"` // a mailbox
	Name       string `json:"name"`    // of the machine
	LastDay    string `json:"lastDay"` // "2027-11-30"
	Commit     string `json:"commit"`  // of the register in force
}

// A Confirmation is the one message by which the contact of a registered address
// was told that it may send.
type Confirmation struct {
	SentAt  time.Time `json:"sentAt,omitzero"`   // zero: none was sent by this relay, as another one confirms, or the address was there before the first of all
	Message string    `json:"message,omitempty"` // its id
	Queued  bool      `json:"queued,omitempty"`  // it has not left yet
}

// A Mail is what was accepted from an address.
type Mail struct {
	First time.Time `json:"first,omitzero"` // the first message, ever; zero: none
	Last  time.Time `json:"last,omitzero"`
	Day   int       `json:"day"`   // messages in the last 24 hours, to the hour
	Week  int       `json:"week"`  // in the last 7 days, to the day (UTC)
	Month int       `json:"month"` // in the last 30 days, to the day

	Recipients int    `json:"recipients"`    // of the messages of the last 30 days
	Octets     int64  `json:"octets"`        // likewise
	TLS        string `json:"tls,omitempty"` // version that the newest came over; "": clear text
}

// A LastMail is when an address sent first and last, ever.
type LastMail struct {
	IP    netip.Addr `json:"ip"`
	First time.Time  `json:"first"`
	Last  time.Time  `json:"last"`
}

// A Budget is what is left of one limit on an address, or on its registration.
type Budget struct {
	Name   string    `json:"name"`   // what is counted and in which time: "messages-hour", "octets-day"
	Whose  string    `json:"whose"`  // the file of the registration, for all its machines together; or the address
	Limit  int64     `json:"limit"`  // in that time
	AtOnce int64     `json:"atOnce"` // what it holds when it is full
	Left   int64     `json:"left"`   // of AtOnce, now; below zero: more was used than allowed
	FullAt time.Time `json:"fullAt"` // when it is full again, if nothing more is used
}

// A Refusal is a run of like refusals of an address.
type Refusal struct {
	At     time.Time `json:"at"`    // the newest
	Count  int       `json:"count"` // in a row
	Stage  string    `json:"stage"` // "greeting", or the command
	Reason string    `json:"reason"`
	Said   string    `json:"said"` // what the machine was told: what is wrong, and what to do
}

// finish fills in what is the relay's, and makes lists lists.
func (a Address) finish(host string, now time.Time) Address {
	a.Host, a.At = host, now
	a.Blocks = append([]Blocked{}, a.Blocks...)
	a.Proofs = append([]Proof{}, a.Proofs...)
	a.Budgets = append([]Budget{}, a.Budgets...)
	a.Refusals = append([]Refusal{}, a.Refusals...)
	a.Leniencies = append([]Leniency{}, a.Leniencies...)
	a.Reasons = append([]Reason{}, a.Reasons...)
	return a
}

// what says for a person what was proved and how.
func (p Proof) what() string {
	return p.IP.String() + ", " + p.how()
}

func (p Proof) how() string {
	text := "for no request"
	if p.Request > 0 {
		text = fmt.Sprintf("for request %d", p.Request)
	}
	if p.TLS == "" {
		return text + ", in clear text"
	}
	return text + ", over " + visible(p.TLS)
}

// standings are the words for people.
var standings = map[string]string{
	MaySend:        "registered; it may send",
	"expired":      "registered, and the registration has expired: it may not send",
	"blocked":      "blocked: it may not send",
	"unregistered": "on campus and not registered: it may not send",
	"off-campus":   "not an address of this university",
	"no-register":  "not known: the relay has no register yet",
}

// Text is the address as one screen. Text of strangers in it cannot steer a
// terminal.
func (a Address) Text() string {
	var b strings.Builder
	p := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s "+format+"\n", append([]any{label}, args...)...)
	}
	fmt.Fprintf(&b, "%s  as %s knows it at %s\n\n", a.IP, visible(a.Host), stamp(a.At))
	standing, known := standings[a.Standing]
	if !known {
		standing = visible(a.Standing)
	}
	if a.Stopped() {
		standing = "registered; the abuse brake takes no mail from it"
	}
	p("standing", "%s", standing)
	if g := a.Registration; g != nil {
		p("register", "%s, %s", visible(g.File), visible(g.Department))
		p("", "%s, contact %s, until the end of %s", visible(g.Name), visible(g.Contact), visible(g.LastDay))
	}
	if c := a.Confirmation; c != nil && !c.SentAt.IsZero() {
		left := ""
		if c.Queued {
			left = ", and has not left yet"
		}
		p("", "its confirmation, message %s, was made %s%s", visible(c.Message), stamp(c.SentAt), left)
	}
	for i, k := range a.Blocks {
		if i == shown {
			p("", "and %s", count(len(a.Blocks)-shown, "more block", "more blocks"))
			break
		}
		as := ""
		if k.Prefix != a.IP.String() {
			as = "as part of " + visible(k.Prefix) + ", "
		}
		p(first(i, "block"), "%s%s, %s", as, k.Place(), k.End())
		p("", "%s", visible(k.Reason))
		if k.Agreed != "" {
			p("", "agreed by %s, so gatepost unblock %s changes nothing for it", visible(k.Agreed), visible(k.Prefix))
		}
	}
	if m := a.Mail; m.Last.IsZero() {
		p("mail", "none was accepted by this relay")
	} else {
		p("mail", "last %s%s; the first %s", stamp(m.Last), m.over(), stamp(m.First))
		p("", "%s", m.volume())
	}
	if t := a.Together; t != nil && t.Addresses > 1 {
		p("", "the registration, from %s: %s", count(t.Addresses, "address", "addresses"), t.volume())
	}
	for i, l := range a.Leniencies {
		p(first(i, "leniency"), "%s: %s (%s): %s", visible(l.Key), visible(l.Value), visible(l.What), l.says(a.Mail))
	}
	if k := a.Brake; k != nil {
		switch {
		case k.Step != "free":
			p("brake", "%s, since %s", k.what(), stamp(k.Since))
			for _, why := range k.Why {
				p("", "  %s", visible(why))
			}
			p("", "  gatepost brake release %s --reason '…' ends it", a.IP)
		case k.FreeUntil.After(a.At):
			p("brake", "released; it is not looked at until %s", stamp(k.FreeUntil))
		}
		c := k.Counts
		p(map[bool]string{true: "brake"}[k.Step == "free" && !k.FreeUntil.After(a.At)], "%s tried in an hour, of %s declared; %s today, where at most %s is usual",
			count(c.Tried, "message was", "messages were"), thousands(int64(c.Declared)), count(c.Recipients, "recipient", "recipients"), thousands(int64(c.Usual)))
		p("", "one text went to %s today; next hops took %s in 24 hours and refused %s, %s as spam",
			count(c.SameBody, "recipient", "recipients"), thousands(int64(c.Delivered)), thousands(int64(c.Bounced)), thousands(int64(c.Spam)))
	}
	for i, line := range a.budgetLines() {
		p(first(i, "left"), "%s", line)
	}
	if len(a.Proofs) == 0 {
		p("proofs", "none: control of it was never proved to this relay")
	}
	for i, f := range a.Proofs {
		if i == shown {
			p("", "and %d more", len(a.Proofs)-shown)
			break
		}
		p(first(i, "proofs"), "%s, %s", stamp(f.At), f.how())
	}
	var why []string
	for _, g := range a.Reasons {
		why = append(why, fmt.Sprintf("%s for %s since %s", thousands(int64(g.Count)), visible(g.Reason), stamp(g.First)))
	}
	if len(why) > 0 {
		p("refusals", "%s", strings.Join(why, ", "))
	}
	for i, f := range a.Refusals {
		times := ""
		if f.Count > 1 {
			times = fmt.Sprintf(", %s times in a row", thousands(int64(f.Count)))
		}
		p(first(i, "refused"), "%s, %s%s", stamp(f.At), visible(f.Stage), times)
		p("", "  %s", visible(f.Said))
	}
	return b.String()
}

// budgetLines say what is left, a line for each kind of thing that is counted.
func (a Address) budgetLines() (lines []string) {
	whose, what := "", ""
	for _, g := range a.Budgets {
		kind, span, _ := strings.Cut(g.Name, "-")
		if kind == "tries" {
			kind = "refusals"
		}
		if g.Whose != whose {
			whose, what = g.Whose, ""
			if whose == a.IP.String() {
				lines = append(lines, "of this machine:")
			} else {
				lines = append(lines, "of "+visible(whose)+":")
			}
		}
		number := thousands
		if kind == "octets" {
			number = octets
		}
		text := fmt.Sprintf("%s of %s a %s", number(max(0, g.Left)), number(g.AtOnce), visible(span))
		if g.AtOnce > g.Limit {
			text = fmt.Sprintf("%s of %s, and %s more a %s", number(max(0, g.Left)), number(g.AtOnce), number(g.Limit), visible(span))
		}
		if what == kind {
			lines[len(lines)-1] += ", " + text
			continue
		}
		what = kind
		lines = append(lines, fmt.Sprintf("  %-10s %s", visible(kind), text))
	}
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], " a hour", " an hour")
	}
	return lines
}

// octets writes a size for people.
func octets(n int64) string {
	units, v, i := []string{"octets", "KiB", "MiB", "GiB", "TiB"}, float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + units[i]
}

// first is the label of the first line of a list.
func first(i int, label string) string {
	if i == 0 {
		return label
	}
	return ""
}

// ProofsText lists proofs as a table, as they come.
func ProofsText(list []Proof) string {
	var b strings.Builder
	fmt.Fprintf(&b, proofRow, "ADDRESS", "PROVED", "REQUEST", "PORT", "TLS")
	for _, p := range list {
		request := "-"
		if p.Request > 0 {
			request = fmt.Sprint(p.Request)
		}
		fmt.Fprintf(&b, proofRow, p.IP, stamp(p.At), request, visible(p.Port), visible(orElse(p.TLS, "none")))
	}
	return b.String()
}

const proofRow = "%-39s  %-20s  %7s  %-10s  %s\n"
