package brake

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
)

// columns is the width of the text. RFC 5322 §2.1.1.
const columns = 76

// A Letterhead is what every notice of a relay says of the relay.
type Letterhead struct {
	Host       string       // the relay's host name
	Postmaster mail.Address // sender, and whom to write to
	Portal     string       // URL without a final slash; "": none
}

// Key names a notice: the same step of the same registration has the same key.
func (n Notice) Key() string {
	return fmt.Sprintf("brake:%s:%s:%d", n.Registration, n.State.Step, n.State.Since.UnixMilli())
}

// Compose writes a notice to the contact of a registration and to the
// postmaster, or to the latter alone if the contact is no mailbox. It is pure:
// the same notice and time give the same octets.
func (l Letterhead) Compose(n Notice, now time.Time) (mail.Envelope, []byte) {
	env := mail.Envelope{From: l.Postmaster, To: []mail.Recipient{{Address: l.Postmaster}}, Arrival: now}
	to := ""
	if contact, err := mail.ParseAddress(n.Contact, false); err == nil && contact.Domain != "" && contact != l.Postmaster {
		env.To = append([]mail.Recipient{{Address: contact}}, env.To...)
		to = contact.Path()
	}
	subject := "mail of " + ascii(n.Registration, 200) + " is held"
	if n.State.Step == Blocked {
		subject = "machines of " + ascii(n.Registration, 200) + " are blocked"
	}
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	header("Date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	header("From", "Mail relay postmaster "+l.Postmaster.Path())
	if to == "" {
		header("To", l.Postmaster.Path())
	} else {
		header("To", to)
		header("Cc", l.Postmaster.Path())
	}
	header("Subject", l.Host+": "+subject)
	sum := sha256.Sum256([]byte(n.Key()))
	header("Message-ID", "<brake."+hex.EncodeToString(sum[:12])+"@"+l.Host+">")
	header("Auto-Submitted", "auto-generated") // RFC 3834 §5
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=us-ascii")
	b.WriteString("\r\n" + l.text(n))
	return env, b.Bytes()
}

// text is the notice itself, in lines ended by CRLF.
func (l Letterhead) text(n Notice) string {
	var b strings.Builder
	para := func(format string, args ...any) {
		wrap(&b, "", "", fmt.Sprintf(format, args...))
		b.WriteString("\r\n")
	}
	item := func(format string, args ...any) { wrap(&b, "  - ", "    ", fmt.Sprintf(format, args...)) }
	at := n.State.Since.UTC().Format("2006-01-02 15:04 UTC")
	if n.State.Step == Blocked {
		para("since %s the mail relay %s turns away the machines of %s, as they went on sending much more than such machines do. They are blocked until %s; their queued mail is held.",
			at, l.Host, ascii(n.Registration, 300), n.State.Until.UTC().Format("2006-01-02 15:04 UTC"))
	} else {
		para("since %s the mail relay %s holds the mail of %s, as it sends much more than such machines do. What is queued waits, and what comes is asked to come later (451). Nothing is lost yet.",
			at, l.Host, ascii(n.Registration, 300))
	}
	para("What was seen:")
	for _, e := range n.State.Why {
		item("%s", ascii(e.Words, 300))
	}
	c := n.Counts
	item("in the last hour %s different messages were tried, %s are declared; in the last 24 hours next hops took the mail for %s recipients and refused that for %s",
		number(c.Tried), number(c.Declared), number(c.Delivered), number(c.Bounced))
	b.WriteString("\r\n")
	if len(n.Machines) > 0 {
		para("The machines that sent:")
		for _, m := range n.Machines {
			item("%s: %s messages tried", m.Addr, number(m.Messages))
		}
		b.WriteString("\r\n")
	}
	para("To the contact of the registration: find out what these machines sent, and stop it. A machine that was broken into, an application in a loop, or a mailing that belongs to another service are the usual causes. Then write to %s. If so much mail is right, ask for a larger volume in the registration.", l.Postmaster)
	if l.Portal != "" && len(n.Machines) > 0 {
		para("The registration: %s/register?ip=%s", l.Portal, n.Machines[0].Addr)
	}
	para("To the postmaster: look at what is queued and, when it may go, release it, on the relay:")
	for _, command := range []string{
		"gatepost queue list --registration " + shell(n.Registration),
		"gatepost brake release " + shell(n.Registration) + " --reason '...'",
	} {
		b.WriteString("  " + command + "\r\n")
	}
	return b.String()
}

// ascii makes text fit for one line of a notice.
func ascii(s string, most int) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, mail.Printable(s, most))
}

// shell makes a path one word of a shell.
func shell(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(ascii(path, maxPath), "'", "'\\''") + "'"
}

// wrap writes words in lines of at most columns.
func wrap(b *strings.Builder, first, next, s string) {
	line, empty := first, true
	for word := range strings.FieldsSeq(s) {
		if !empty && len(line)+1+len(word) > columns {
			b.WriteString(line + "\r\n")
			line, empty = next, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	b.WriteString(line + "\r\n")
}
