package confirm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/registration"
)

// columns is the width of the text and of headers. RFC 5322 §2.1.1. Only what
// cannot be broken, a URL or a very long host name, is wider.
const columns = 78

// A Letterhead is what every confirmation of a relay says of the relay.
type Letterhead struct {
	Host       string       // the relay's host name
	Relay      int          // port without encryption; 0: none
	Submission int          // port with STARTTLS; 0: none
	Postmaster mail.Address // sender, and whom to write to
	Portal     string       // URL without a final slash; "": none
}

// A Message is one confirmation, ready to be sent.
type Message struct {
	Key          string
	To           mail.Address
	IP           netip.Addr
	Registration string // path
	Envelope     mail.Envelope
	Body         []byte // header and text, with CRLF
}

// Compose writes the confirmation of an item. It is a pure function: the same
// item, provenance and time give the same bytes, and the Message-ID does not
// depend on the time. It fails if the contact is no mailbox.
func (l Letterhead) Compose(item Item, from Provenance, now time.Time) (Message, error) {
	r := item.Entry.Registration
	to, err := mail.ParseAddress(r.Contact.Email, true)
	if err != nil || to.Domain == "" {
		return Message{}, fmt.Errorf("confirm: contact of %s: %q is no mailbox", r.Path, r.Contact.Email)
	}
	text := l.text(item, from)
	var b bytes.Buffer
	header := func(name string, parts ...string) { writeHeader(&b, name, parts) }
	header("Date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	header("From", "Mail relay postmaster", l.Postmaster.Path())
	header("To", append(phrase(r.Contact.Name), to.Path())...)
	header("Reply-To", l.Postmaster.Path())
	header("Subject", "Your address "+item.IP.String(), "is registered with", l.Host)
	header("Message-ID", l.messageID(item.Key, from.Commit))
	header("Auto-Submitted", "auto-generated") // RFC 3834 §5
	header("MIME-Version", "1.0")
	if isASCII(text) {
		header("Content-Type", "text/plain; charset=us-ascii")
		header("Content-Transfer-Encoding", "7bit")
		b.WriteString("\r\n" + text)
	} else {
		header("Content-Type", "text/plain; charset=utf-8")
		header("Content-Transfer-Encoding", "quoted-printable")
		b.WriteString("\r\n")
		w := quotedprintable.NewWriter(&b)
		// Writing to a buffer does not fail.
		_, _ = w.Write([]byte(text))
		_ = w.Close()
	}
	return Message{
		Key: item.Key, To: to, IP: item.IP, Registration: r.Path,
		Envelope: mail.Envelope{
			From:    l.Postmaster, // a wrong contact bounces to where somebody cares
			To:      []mail.Recipient{{Address: to}},
			UTF8:    !to.IsASCII(),
			Arrival: now,
		},
		Body: b.Bytes(),
	}, nil
}

// messageID is made of the key, so that a repetition can be seen as one, and of
// the commit, so that a later registration of the same address is another.
func (l Letterhead) messageID(key, commit string) string {
	sum := sha256.Sum256([]byte(key + "\n" + commit))
	return "<confirm." + hex.EncodeToString(sum[:12]) + "@" + l.Host + ">"
}

// text is the message itself, with CRLF.
func (l Letterhead) text(item Item, from Provenance) string {
	r, h := item.Entry.Registration, item.Entry.Host
	t := &page{}
	t.para(strings.TrimSpace("Hello "+clean(r.Contact.Name, 100)) + ",")
	t.para("this address may now send mail through the university's mail relay:")
	t.row("Address", item.IP.String())
	t.row("Name", clean(h.Name, 253))
	t.row("Kind", clean(h.Kind, 40))
	t.row("Department", clean(r.Department, 100))
	t.row("Registration", clean(r.Path, 300))
	t.row("Valid until", r.Expires.UTC().Add(-time.Nanosecond).Format(time.DateOnly)+", the end of the day (UTC)")
	if v := r.Volume; v.PerHour > 0 && v.PerDay > 0 {
		t.row("Volume", fmt.Sprintf("%d messages an hour, %d a day", v.PerHour, v.PerDay))
	}
	if len(r.Senders) > 0 {
		t.row("Senders", clean(strings.Join(r.Senders, ", "), 1000))
	}
	t.blank()
	t.para(provenance(from))
	if from.URL != "" {
		t.line("  " + clean(from.URL, 500))
		t.blank()
	}

	t.para("Settings for the device or application; there is no user name and no password:")
	t.row("Server", l.Host)
	if l.Relay > 0 {
		t.row(fmt.Sprint("Port ", l.Relay), "unencrypted")
	}
	if l.Submission > 0 {
		t.row(fmt.Sprint("Port ", l.Submission), "with STARTTLS")
	}
	t.blank()
	t.para("To test it, run this on " + item.IP.String() + " itself:")
	port, more := l.Relay, ""
	if port == 0 {
		port, more = l.Submission, " --tls"
	}
	t.line(fmt.Sprintf("  swaks --server %s --port %d%s \\", l.Host, port, more))
	t.line("    --from " + shell(testSender(r)) + " \\")
	t.line("    --to " + shell(clean(r.Contact.Email, 254)))
	t.blank()
	t.para("The relay is for messages of this machine only. It is not for bulk mail: newsletters and mailings have a service of their own.")
	if l.Portal != "" {
		t.para("To look this registration up, to change or to renew it:")
		t.line("  " + l.Portal)
		t.blank()
	}
	t.para("If you did not expect this message, or something does not work, write to " + l.Postmaster.String() + ".")
	return t.String()
}

// provenance is the sentence on how the registration came about.
func provenance(p Provenance) string {
	var b strings.Builder
	switch {
	case p.Request > 0:
		fmt.Fprintf(&b, "It was registered by pull request #%d", p.Request)
	case p.Branch != "":
		b.WriteString("It was registered by the branch " + clean(p.Branch, 200))
	case p.Commit == "":
		return "It was registered by a change of the register's repository."
	default:
		b.WriteString("It was registered by commit " + clean(p.Commit[:min(12, len(p.Commit))], 12))
	}
	switch by := clean(p.MergedBy, 200); {
	case by != "" && (p.Request > 0 || p.Branch != ""):
		b.WriteString(", merged by " + by)
	case by != "":
		b.WriteString(" of " + by)
	}
	if !p.At.IsZero() {
		b.WriteString(" on " + p.At.UTC().Format("2006-01-02 at 15:04 UTC"))
	}
	return b.String() + "."
}

// testSender is an envelope sender that the registration allows.
func testSender(r *registration.Registration) string {
	if len(r.Senders) == 0 {
		return clean(r.Contact.Email, 254)
	}
	return strings.Replace(clean(r.Senders[0], 254), "*@", "test@", 1)
}

// shell quotes a word for a POSIX shell, since somebody will paste it into one.
func shell(s string) string {
	plain := func(r rune) bool {
		return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("@._+-", r))
	}
	if s != "" && s[0] != '-' && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// clean makes text of strangers fit for one line: no line ends, no control or
// invisible formatting characters, no more than n characters.
func clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) > n {
		s = string([]rune(s)[:n-1]) + "…"
	}
	return s
}

// phrase is a display name as header words: quoted if ASCII, encoded words
// (RFC 2047 §5) else.
func phrase(name string) []string {
	name = clean(name, 100)
	switch {
	case name == "":
		return nil
	case !isASCII(name):
		return strings.Fields(mime.QEncoding.Encode("utf-8", name))
	}
	name = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name)
	return strings.SplitAfter(`"`+name+`"`, " ")
}

// writeHeader writes a field, folded between its parts. RFC 5322 §2.2.3.
func writeHeader(b *bytes.Buffer, name string, parts []string) {
	b.WriteString(name + ":")
	used := len(name) + 1
	for i, part := range parts {
		part = strings.TrimSuffix(part, " ")
		if i > 0 && used+1+len(part) > columns {
			b.WriteString("\r\n")
			used = 0
		}
		b.WriteString(" " + part)
		used += 1 + len(part)
	}
	b.WriteString("\r\n")
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// A page is text in lines of at most columns characters, ended by CRLF.
type page struct{ strings.Builder }

func (p *page) line(s string) { p.WriteString(s + "\r\n") }
func (p *page) blank()        { p.line("") }

// para writes a paragraph and the empty line after it.
func (p *page) para(s string) {
	p.wrap("", "", s)
	p.blank()
}

// row writes a label and its value, the value's further lines indented.
func (p *page) row(label, value string) {
	p.wrap(fmt.Sprintf("  %-14s", label+":"), strings.Repeat(" ", 16), value)
}

func (p *page) wrap(first, next, s string) {
	line := first
	empty := true
	for word := range strings.FieldsSeq(s) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns {
			p.line(line)
			line, empty = next, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	p.line(strings.TrimRight(line, " "))
}
