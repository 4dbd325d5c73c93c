// Package dsn writes what the sender of a message is told when it fails or is
// late: a delivery status notification. It owns the text, in plain words for a
// person and in fields for a program, and the decision whether anything may be
// said at all.
//
// It is pure: no clock, no I/O. It never answers a null reverse-path, and never
// tells of a recipient that asked for NOTIFY=NEVER. Where there is no sender, or
// the sender does not take its notification, a third party may be told, once:
// the envelope's contact, or whoever stands in. What they get has neither a
// sender nor a contact, so there is no loop. Everything that came from outside (replies of other hosts,
// addresses, header fields of the message) is bounded and stripped of control
// characters before it is written, so that none of it can become a header
// field, a boundary or a line of its own. The same arguments give the same
// bytes.
//
// A message is returned in full where RET=FULL asked for it (RFC 3461 §4.3) and
// it can be attached as it is: up to MaxReturned octets, of ASCII in lines of
// mail. Otherwise its header is.
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

// The kinds. That a message was delivered is never told here: NOTIFY=SUCCESS is
// passed on to the next hop, and only where that knows no DSN is it told that
// the message was relayed. RFC 3461 §5.2.2.
const (
	Failure Kind = iota // it will never be delivered
	Delay               // it has not been delivered yet
	Relayed             // a next hop has it that will not tell what becomes of it
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Failure, Delay, Relayed} }

// String is the word used in logs, metrics and Message-IDs.
func (k Kind) String() string { return [...]string{"failure", "delay", "relayed"}[k] }

// asked is the word of NOTIFY that asks for a kind, and whether it is told also
// where there is no NOTIFY. RFC 3461 §4.1.
func (k Kind) asked() (word string, unasked bool) {
	switch k {
	case Delay:
		return "DELAY", true
	case Relayed:
		return "SUCCESS", false
	}
	return "FAILURE", true
}

// MaxReturned is the longest message that is returned in full, in octets.
const MaxReturned = 64 << 10

// Options say who speaks, and when.
type Options struct {
	Hostname   string    // of this relay, ASCII
	Postmaster string    // the address to write to
	Now        time.Time // the date of the notification
	RetryUntil time.Time // for Delay: when the relay gives up; zero leaves it unsaid

	// Whole tells that the whole message is given to Compose, so that it can be
	// returned where that was asked for.
	Whole bool

	// Stead is who is told of a failure where there is neither a sender nor a
	// contact; null: nobody. It must not be given for a notification, which would
	// then cause another one.
	Stead mail.Address
}

// Compose writes one notification of a kind about the recipients of e with the
// given indexes, with the state that e records for each. message is the
// message, or its beginning, of which the header section is used. The envelope
// has a null reverse-path and goes to the sender of e; of a failure, where there
// is no sender, to the contact that the envelope of e names.
//
// It reports false when nobody may be told: the sender is the null reverse-path
// (RFC 5321 §6.1) and nobody stands in for it, or none of the recipients wants
// to be told of this kind (RFC 3461 §4.1).
func Compose(o Options, kind Kind, e *spool.Entry, about []int, message []byte) (mail.Envelope, []byte, bool) {
	reader, contact := e.Envelope.From, e.Envelope.Contact
	if kind != Failure {
		o.Stead, contact = mail.Address{}, mail.Address{}
	}
	r := &report{role: sender}
	switch {
	case !reader.IsNull():
	case !contact.IsNull():
		reader, r.role = contact, contactPerson
	default:
		reader, r.role = o.Stead, stead
	}
	about = Wanted(kind, e, about)
	if len(about) == 0 || reader.IsNull() {
		return mail.Envelope{}, nil, false
	}
	r.o, r.kind, r.e, r.about = o, kind, e, about
	r.host = ascii(o.Hostname, maxName)
	r.reader, r.global = reader, !reader.IsASCII()
	r.header = headerLines(message)
	if r.asksForAll() && o.Whole && r.returnable(message) {
		r.full = message
	}
	env := mail.Envelope{
		To:      []mail.Recipient{{Address: reader}}, // From stays null: RFC 3464 §2, RFC 5321 §6.1
		Arrival: o.Now,
	}
	if r.role == sender && contact != reader {
		env.Contact = contact // should the sender not take it; whoever gets that notice has none
	}
	if r.global {
		env.UTF8, env.Body = true, mail.Body8Bit
	}
	return env, r.message(), true
}

// Wanted drops the recipients that must not be told of, or do not exist.
func Wanted(kind Kind, e *spool.Entry, about []int) []int {
	word, unasked := kind.asked()
	var out []int
	for _, i := range about {
		if i < 0 || i >= len(e.Envelope.To) {
			continue
		}
		notify := e.Envelope.To[i].Notify
		ok := notify == "" && unasked
		for w := range strings.SplitSeq(notify, ",") {
			ok = ok || strings.EqualFold(strings.TrimSpace(w), word)
		}
		if ok {
			out = append(out, i)
		}
	}
	return out
}

// A role is why its reader gets a notification.
type role uint8

const (
	sender        role = iota // sent the message
	contactPerson             // is named in the envelope for what the sender cannot be told of
	stead                     // is for what nobody else can be told of
)

// A report is one notification in the making.
type report struct {
	o      Options
	kind   Kind
	e      *spool.Entry
	about  []int
	host   string
	reader mail.Address
	role   role
	global bool     // the reader's address is not ASCII: RFC 6533 types throughout
	header []string // of the message, sanitised
	full   []byte   // the message, if it is returned in full
}

// message is the whole of it: a header and three parts. RFC 3464 §2, RFC 6522 §3.
func (r *report) message() []byte {
	text, textEncoding := r.text()
	status := r.status()
	original, originalEncoding := r.original()

	statusType, originalType := "message/delivery-status", "text/rfc822-headers"
	if r.global { // RFC 6533 §4, §5
		statusType, originalType = "message/global-delivery-status", "message/global-headers"
	}
	if r.full != nil { // RFC 6522 §3
		originalType = "message/rfc822"
	}
	boundary := r.boundary(text, status, original)

	var b bytes.Buffer
	field(&b, "From", "Mail Delivery System <MAILER-DAEMON@"+r.host+">")
	field(&b, "To", r.to())
	field(&b, "Subject", r.subject())
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

// asksForAll tells whether the message is to be returned in full: RET=FULL,
// which is about failures only (RFC 3461 §4.3), or it is a notification that its
// reader did not take, which tells the contact what it is all about.
func (r *report) asksForAll() bool {
	return r.kind == Failure && (strings.EqualFold(r.e.Envelope.Ret, "FULL") || r.aboutNotice())
}

// aboutNotice tells whether it is a notification that failed.
func (r *report) aboutNotice() bool {
	return r.role == contactPerson && !r.e.Envelope.Client.IsValid()
}

// returnable tells whether a message can be attached as it is: a part of this
// type has no encoding of its own (RFC 2046 §5.2.1), so what the path of a
// notification may not take is left out.
func (r *report) returnable(message []byte) bool {
	if len(message) == 0 || len(message) > MaxReturned || !bytes.HasSuffix(message, []byte("\r\n")) || !is7Bit(message) {
		return false
	}
	for line := range bytes.SplitSeq(message, []byte("\r\n")) {
		if len(line) > maxWhole || bytes.ContainsFunc(line, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return false
		}
	}
	return true
}

// original is the third part: the message, or its header.
func (r *report) original() (body []byte, encoding string) {
	if r.full != nil {
		return r.full, ""
	}
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
