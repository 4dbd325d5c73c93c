package dsn

import (
	"bytes"
	"strings"

	"example.edu/gatepost/internal/mail"
)

// status is the second part: one group of fields for the message, one for each
// recipient, separated by empty lines. RFC 3464 §2.1.
func (r *report) status() []byte {
	var b bytes.Buffer
	if id := ascii(r.e.Envelope.EnvID, maxText); id != "" { // RFC 3461 §6.3 (a): as it was before xtext
		field(&b, "Original-Envelope-Id", id)
	}
	field(&b, "Reporting-MTA", "dns; "+r.host)
	if at := r.e.Envelope.Arrival; !at.IsZero() {
		field(&b, "Arrival-Date", date(at))
	}
	for _, i := range r.about {
		b.WriteString("\r\n")
		r.recipient(&b, i)
	}
	return b.Bytes()
}

// recipient writes the fields of one recipient. RFC 3464 §2.3.
func (r *report) recipient(b *bytes.Buffer, i int) {
	to, last := r.e.Envelope.To[i], r.last(i)
	if to.ORcpt != "" { // RFC 3461 §6.3 (d): only if ORCPT was given
		kind, addr, ok := strings.Cut(to.ORcpt, ";")
		if !ok {
			kind, addr = "rfc822", to.ORcpt
		}
		field(b, "Original-Recipient", r.typed(token(kind), strings.TrimSpace(addr)))
	}
	field(b, "Final-Recipient", r.typed("rfc822", to.Address.String()))
	field(b, "Action", [...]string{Failure: "failed", Delay: "delayed", Relayed: "relayed"}[r.kind])
	field(b, "Status", enhanced(r.kind, last).String())
	if remote := ascii(last.RemoteMTA, maxName); remote != "" {
		field(b, "Remote-MTA", "dns; "+remote)
	}
	if d := diagnostic(last); d != "" {
		field(b, "Diagnostic-Code", d)
	}
	if !last.At.IsZero() {
		field(b, "Last-Attempt-Date", date(last.At))
	}
	if r.kind == Delay && !r.o.RetryUntil.IsZero() {
		field(b, "Will-Retry-Until", date(r.o.RetryUntil))
	}
}

// last is the newest result for recipient i.
func (r *report) last(i int) mail.Result {
	if i < len(r.e.State) {
		return r.e.State[i].Last
	}
	return mail.Result{}
}

// typed writes an address with its type. An address beyond ASCII is of type
// utf-8; where the rest of the notification is ASCII it is written in the
// ASCII form of that type. RFC 6533 §3.
func (r *report) typed(kind, addr string) string {
	addr = mail.Printable(addr, maxAddress)
	switch {
	case strings.EqualFold(kind, "utf-8"), !is7Bit([]byte(addr)):
		if r.global {
			return "utf-8; " + addr
		}
		return "utf-8; " + utf8Xtext(addr)
	case kind == "":
		kind = "rfc822"
	}
	return kind + "; " + addr
}

// enhanced is the status code of a result, as RFC 3463 wants it: its class
// says what the notification says. A failure that was never refused for good
// is one of time: 4.4.7, which also tells list software that the address may
// be alive.
func enhanced(kind Kind, last mail.Result) mail.Enhanced {
	class := 4
	switch {
	case kind == Relayed:
		class = 2
	case kind == Failure && last.Outcome != mail.Failed:
		return mail.Enhanced{4, 4, 7}
	case kind == Failure:
		class = 5
	}
	s := last.Status.Enhanced
	if s == (mail.Enhanced{}) || s[1] < 0 || s[1] > 999 || s[2] < 0 || s[2] > 999 {
		return mail.Enhanced{class, 0, 0}
	}
	s[0] = class
	return s
}

// diagnostic is what the next hop said, or, under a type of our own, what this
// relay found where no next hop spoke. RFC 3464 §2.3.6.
func diagnostic(last mail.Result) string {
	if last.Status.Code == 0 && last.Status.Text == "" {
		return ""
	}
	if last.RemoteMTA != "" && last.Status.Code != 0 {
		return "smtp; " + ascii(last.Status.String(), maxText)
	}
	return "X-Gatepost; " + ascii(last.Status.String(), maxText)
}
