// Package dsn writes what the sender of a message is told when it fails or is
// late: a delivery status notification. It owns the text, in plain words for a
// person and in fields for a program, and the decision whether anything may be
// said at all.
//
// It is pure: no clock, no I/O. It never answers a null reverse-path, so a
// notification can never cause another, and never tells a recipient that asked
// for NOTIFY=NEVER. Everything that came from outside (replies of other hosts,
// addresses, header fields of the message) is bounded and stripped of control
// characters before it is written, so that none of it can become a header
// field, a boundary or a line of its own. The same arguments give the same
// bytes.
//
// The body of the message is never returned, also where RET=FULL asked for it:
// RFC 3461 §4.3 leaves that to the reporting host, and the printers and
// applications that send through a relay have no use for it.
//
// RFC 3464 (format), RFC 3461 §6 (when, and which fields), RFC 6522
// (multipart/report), RFC 6533 (addresses beyond ASCII), RFC 3834
// (Auto-Submitted), RFC 5321 §6.1 (null reverse-path).
package dsn

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A Kind is what a notification tells.
type Kind uint8

// The kinds. A success is never told here: NOTIFY=SUCCESS is passed on to the
// next hop, and where that knows no DSN nobody tells it.
const (
	Failure Kind = iota // it will never be delivered
	Delay               // it has not been delivered yet
)

// String is the word used in logs, metrics and Message-IDs.
func (k Kind) String() string {
	if k == Delay {
		return "delay"
	}
	return "failure"
}

// Options say who speaks, and when.
type Options struct {
	Hostname   string    // of this relay, ASCII
	Postmaster string    // the address to write to
	Now        time.Time // the date of the notification
	RetryUntil time.Time // for Delay: when the relay gives up; zero leaves it unsaid

	// Stead is who is told where there is no sender; null: nobody. It must not
	// be given for a notification, which would then cause another one.
	Stead mail.Address
}

// Compose writes one notification of a kind about the recipients of e with the
// given indexes, with the state that e records for each. header is the
// message's own header section; a body behind it is ignored. The envelope has
// a null reverse-path and goes to the sender of e.
//
// It reports false when nobody may be told: the sender is the null
// reverse-path (RFC 5321 §6.1) and nobody stands in for it, or none of the
// recipients wants to be told of this kind (RFC 3461 §4.1).
func Compose(o Options, kind Kind, e *spool.Entry, about []int, header []byte) (mail.Envelope, []byte, bool) {
	reader := e.Envelope.From
	if reader.IsNull() {
		reader = o.Stead
	}
	about = wanted(kind, e, about)
	if len(about) == 0 || reader.IsNull() {
		return mail.Envelope{}, nil, false
	}
	r := &report{
		o:      o,
		kind:   kind,
		e:      e,
		about:  about,
		host:   ascii(o.Hostname, maxName),
		reader: reader,
		global: !reader.IsASCII(),
		header: headerLines(header),
	}
	env := mail.Envelope{
		To:      []mail.Recipient{{Address: reader}}, // From stays null: RFC 3464 §2, RFC 5321 §6.1
		Arrival: o.Now,
	}
	if r.global {
		env.UTF8, env.Body = true, mail.Body8Bit
	}
	return env, r.message(), true
}

// wanted drops the recipients that must not be told of, or do not exist.
func wanted(kind Kind, e *spool.Entry, about []int) []int {
	word := "FAILURE"
	if kind == Delay {
		word = "DELAY"
	}
	var out []int
	for _, i := range about {
		if i < 0 || i >= len(e.Envelope.To) {
			continue
		}
		notify := e.Envelope.To[i].Notify
		ok := notify == "" // RFC 3461 §4.1: without NOTIFY a failure is told, and a delay may be
		for w := range strings.SplitSeq(notify, ",") {
			ok = ok || strings.EqualFold(strings.TrimSpace(w), word)
		}
		if ok {
			out = append(out, i)
		}
	}
	return out
}

// A report is one notification in the making.
type report struct {
	o      Options
	kind   Kind
	e      *spool.Entry
	about  []int
	host   string
	reader mail.Address // the sender, or who stands in
	global bool         // the reader's address is not ASCII: RFC 6533 types throughout
	header []string     // of the message, sanitised
}

// message is the whole of it: a header and three parts. RFC 3464 §2, RFC 6522 §3.
func (r *report) message() []byte {
	text, textEncoding := r.text()
	status := r.status()
	original, originalEncoding := r.original()

	subject := "Your mail could not be delivered"
	switch {
	case r.kind == Delay:
		subject = "Your mail is delayed"
	case r.e.Envelope.From.IsNull():
		subject = "Mail without a sender could not be delivered"
	}
	statusType, originalType := "message/delivery-status", "text/rfc822-headers"
	if r.global { // RFC 6533 §4, §5
		statusType, originalType = "message/global-delivery-status", "message/global-headers"
	}
	boundary := r.boundary(text, status, original)

	var b bytes.Buffer
	field(&b, "From", "Mail Delivery System <MAILER-DAEMON@"+r.host+">")
	field(&b, "To", r.to())
	field(&b, "Subject", subject)
	field(&b, "Date", date(r.o.Now))
	field(&b, "Message-ID", fmt.Sprintf("<%s.%s.%d@%s>", token(string(r.e.ID)), r.kind, r.o.Now.Unix(), r.host))
	if id := messageID(r.header); id != "" {
		field(&b, "In-Reply-To", id)
		field(&b, "References", id)
	}
	field(&b, "Auto-Submitted", "auto-replied") // RFC 3834 §5; RFC 3464 §2 keeps it a reply
	field(&b, "MIME-Version", "1.0")
	field(&b, "Content-Type", `multipart/report; report-type=delivery-status; boundary="`+boundary+`"`)
	b.WriteString("\r\nThis is a delivery status notification in MIME format.\r\n")

	part(&b, boundary, "text/plain; charset=utf-8", textEncoding, text)
	part(&b, boundary, statusType, r.plainEncoding(status), status)
	part(&b, boundary, originalType, originalEncoding, original)
	b.WriteString("\r\n--" + boundary + "--\r\n")
	return b.Bytes()
}

// to is the reader's address as a header field shows it.
func (r *report) to() string { return "<" + mail.Printable(r.reader.String(), maxAddress) + ">" }

// part writes one body part; body ends in CRLF.
func part(b *bytes.Buffer, boundary, kind, encoding string, body []byte) {
	b.WriteString("\r\n--" + boundary + "\r\n")
	field(b, "Content-Type", kind)
	if encoding != "" {
		field(b, "Content-Transfer-Encoding", encoding)
	}
	b.WriteString("\r\n")
	b.Write(body)
}

// plainEncoding names the encoding of a part that is written as it is.
func (r *report) plainEncoding(body []byte) string {
	if is7Bit(body) {
		return "" // 7bit is the default, RFC 2045 §6.1
	}
	return "8bit"
}

// boundary is made of the entry's id, and lengthened in the unlikely, or
// contrived, case that a part contains it. RFC 2046 §5.1.1.
func (r *report) boundary(parts ...[]byte) string {
	base := "=_" + token(string(r.e.ID)) + "_" + r.kind.String()
	b := base
	for n := 1; ; n++ {
		inside := false
		for _, p := range parts {
			inside = inside || bytes.Contains(p, []byte("--"+b))
		}
		if !inside {
			return b
		}
		b = base + "_" + strconv.Itoa(n)
	}
}

// original is the third part: the header of the message.
func (r *report) original() (body []byte, encoding string) {
	body = []byte(strings.Join(r.header, "\r\n"))
	if len(body) > 0 {
		body = append(body, "\r\n"...)
	}
	switch {
	case is7Bit(body):
		return body, ""
	case r.global && isUTF8(body): // RFC 6533 §4.2: 8bit where the path allows it
		return body, "8bit"
	}
	return quotedPrintable(body), "quoted-printable"
}
