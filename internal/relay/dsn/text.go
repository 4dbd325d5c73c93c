package dsn

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
)

// text is the first part, for a person who may never have heard of SMTP: what
// happened to which address, what the other side said, what to do, and which
// machine sent it.
func (r *report) text() (body []byte, encoding string) {
	var b bytes.Buffer
	wrap(&b, "", "This is the mail relay "+r.host+".")
	b.WriteString("\r\n")
	them := "the addresses"
	if len(r.about) == 1 {
		them = "the address"
	}
	asked := "So you are told, as the contact of the machine that sent it: its registration asks for that (bounces: \"contact\")."
	switch {
	case r.kind == Delay:
		wrap(&b, "", "Your message could not be delivered yet to "+them+" below. You need not send it again: the relay keeps trying"+r.until()+".")
	case r.kind == Relayed:
		wrap(&b, "", "Your message was passed on for "+them+" below, to a mail server that does not tell what becomes of it. You asked to be told of that.")
	case r.aboutNotice():
		wrap(&b, "", "Mail of a machine failed, and the report of it could not be delivered either, to "+them+" below, which the machine had given as its sender. "+asked)
	case r.role == contactPerson:
		wrap(&b, "", "A message could not be delivered to "+them+" below, and the relay has given up. It came without a sender's address (MAIL FROM:<>). "+asked)
	case r.role == stead:
		wrap(&b, "", "A message could not be delivered to "+them+" below, and the relay has given up. It came without a sender's address (MAIL FROM:<>), so you are told instead.")
	default:
		wrap(&b, "", "Your message could not be delivered to "+them+" below, and the relay has given up.")
	}
	for _, i := range r.about {
		r.textAbout(&b, i)
	}
	r.textOrigin(&b)
	return encodeText(b.Bytes())
}

// subject is that of the notification.
func (r *report) subject() string {
	switch {
	case r.kind == Delay:
		return "Your mail is delayed"
	case r.kind == Relayed:
		return "Your mail was passed on"
	case r.aboutNotice():
		return "A report of failed mail could not be delivered"
	case r.role != sender:
		return "Mail without a sender could not be delivered"
	}
	return "Your mail could not be delivered"
}

func (r *report) until() string {
	if r.o.RetryUntil.IsZero() {
		return ""
	}
	return " until " + words(r.o.RetryUntil)
}

// textAbout tells of one recipient.
func (r *report) textAbout(b *bytes.Buffer, i int) {
	last := r.last(i)
	b.WriteString("\r\n")
	wrap(b, "", "<"+mail.Printable(r.e.Envelope.To[i].Address.String(), maxAddress)+">")
	said := mail.Printable(last.Status.Text, maxText)
	if last.Status.Code != 0 {
		said = mail.Printable(last.Status.String(), maxText)
	}
	switch remote := ascii(last.RemoteMTA, maxName); {
	case said == "":
	case remote != "" && last.Status.Code != 0:
		wrap(b, "  ", "The mail server "+remote+" answered:")
		wrap(b, "    ", said)
	default:
		wrap(b, "  ", "The relay found:")
		wrap(b, "    ", said)
	}
	wrap(b, "  ", "What to do: "+r.advice(enhanced(r.kind, last)))
}

// advice is what to do about a status code. RFC 3463 §3.
func (r *report) advice(s mail.Enhanced) string {
	if r.kind == Delay {
		return "nothing now. If it still fails when the relay gives up, you are told."
	}
	if r.kind == Relayed {
		return "nothing. Should it fail further on, you may be told by others."
	}
	if r.aboutNotice() {
		return "see in the attached report which mail failed, and give the machine a sender's address that takes mail and is read."
	}
	if r.e.Envelope.RequireTLS && s[1] == 7 && (s[2] == 10 || s[2] == 30) { // RFC 8689 §5
		return "the message may go over encrypted connections only (REQUIRETLS), and the recipient's system does not offer what that takes. Send it without that wish, or reach the recipient in another way."
	}
	postmaster := mail.Printable(r.o.Postmaster, maxAddress)
	switch [2]int{s[1], s[2]} {
	case [2]int{1, 1}, [2]int{1, 3}, [2]int{1, 6}, [2]int{2, 1}:
		return "check the address for spelling, and whether the person or list still has it."
	case [2]int{1, 2}, [2]int{1, 10}, [2]int{4, 4}:
		return "check the part after the @ for spelling: no mail can be delivered to that domain."
	case [2]int{2, 2}:
		return "the mailbox is full. Try again later, or reach the recipient in another way."
	case [2]int{2, 3}, [2]int{3, 4}:
		return "the message is too large for the recipient's system. Send less, for instance at a lower resolution, or send a link."
	case [2]int{4, 7}:
		return "the recipient's system could not be reached, or kept asking to wait, until time ran out. Check the part after the @ for spelling; if it is right, send the message again later."
	case [2]int{4, 6}:
		return "mail for this address goes round in a circle. Write to " + postmaster + "."
	case [2]int{6, 7}, [2]int{6, 3}, [2]int{6, 1}:
		return "the recipient's system does not understand this form of message. Use addresses and file names of plain letters, or another address."
	}
	switch s[1] {
	case 1, 2:
		return "check the address for spelling, and whether the person or list still has it."
	case 7:
		return "the recipient's system refused the message by its own rules, which this relay cannot change. If its answer does not say why, write to " + postmaster + "."
	}
	return "if the answer above does not tell, write to " + postmaster + "."
}

// textOrigin says which message it is, and who sent it.
func (r *report) textOrigin(b *bytes.Buffer) {
	env := r.e.Envelope
	b.WriteString("\r\n")
	wrap(b, "", "About the message:")
	if s := mail.Printable(headerField(r.header, "Subject"), 200); s != "" && is7Bit([]byte(s)) {
		wrap(b, "  ", "Subject: "+s)
	}
	if !env.Arrival.IsZero() {
		wrap(b, "  ", "Received by the relay: "+words(env.Arrival))
	}
	if env.Client.IsValid() {
		wrap(b, "  ", "Sent by the machine: "+env.Client.String())
	}
	if path := mail.Printable(env.Registration, maxAddress); path != "" {
		rest := strings.TrimPrefix(path, "registrations/")
		if department, _, ok := strings.Cut(rest, "/"); ok {
			wrap(b, "  ", "Department: "+department)
		}
		wrap(b, "  ", "Allowed by the registration: "+path)
	}
	wrap(b, "  ", "Reference: "+token(string(r.e.ID)))
	b.WriteString("\r\n")
	note := "Its header is attached; its body is not."
	switch {
	case r.full != nil:
		note = "The message is attached."
	case r.asksForAll():
		note = fmt.Sprintf("Its header is attached; its body is not, although it was asked for (RET=FULL): a message of more than %d KiB, or that is not all ASCII in short lines, is not returned.", MaxReturned>>10)
	}
	wrap(b, "", note)
	if p := mail.Printable(r.o.Postmaster, maxAddress); p != "" {
		wrap(b, "", "Questions: "+p+". Please quote the reference.")
	}
}

// words is a time for a person.
func words(t time.Time) string {
	return fmt.Sprintf("%s (UTC%s)", t.Format("Monday, 2 January 2006, 15:04"), t.Format("-07:00"))
}

// encodeText leaves ASCII as it is and encodes the rest, so that the
// notification needs no more of its path than the message did.
func encodeText(body []byte) ([]byte, string) {
	if is7Bit(body) {
		return body, ""
	}
	return quotedPrintable(body), "quoted-printable"
}
