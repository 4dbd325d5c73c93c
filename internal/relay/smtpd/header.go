package smtpd

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
)

// Why a header section is refused. The message can be read on to its end.
type headerFault uint8

const (
	headerFine headerFault = iota
	headerTooLarge
	headerLoop
	headerBulk
)

// maxUnfinished is how much of a line that is no header field is held back
// before it is called the body.
const maxUnfinished = 1024

// A headerPass passes a message through, line by line, and looks at its header
// section on the way: counts Received fields, bounds it, and at its end adds
// the fields that are missing. All that came is passed on as it came, but for
// the line that heads a message in a mailbox file; a message that begins with
// its body gets an empty header section put before it.
type headerPass struct {
	out       func(p []byte) // takes what is passed on
	maxBytes  int
	maxHops   int
	date      string // the value of Date to add if there is none; "": add nothing
	messageID string // likewise of Message-ID
	noBulk    bool   // bulk mail is refused

	body    bodyHash
	inBody  bool
	line    []byte // of the header section, so far
	size    int
	fields  int
	hops    int
	bulk    string // the field that says that this is bulk mail; "": none does
	hasDate bool
	hasID   bool
	added   bool // a field was
}

var crlf = []byte("\r\n")

// write passes a piece of a line on.
func (h *headerPass) write(piece []byte, eol bool) headerFault {
	if h.inBody {
		h.body.add(piece, eol)
		h.out(piece)
		if eol {
			h.out(crlf)
		}
		return headerFine
	}
	h.line = append(h.line, piece...)
	if !eol {
		if len(h.line) > maxUnfinished && !h.belongs(h.line) {
			h.bodyWithoutBlank()
			return headerFine
		}
		if h.size+len(h.line) > h.maxBytes {
			return headerTooLarge
		}
		return headerFine
	}
	return h.whole()
}

// whole takes h.line as one whole line of the header section.
func (h *headerPass) whole() headerFault {
	line := h.line
	switch {
	case len(line) == 0:
		h.finish()
		h.out(crlf)
		h.inBody = true
		return headerFine
	case h.size == 0 && isMboxLine(line):
		h.size = len(line) + 2
		h.line = h.line[:0]
		return headerFine
	case !h.belongs(line):
		h.bodyWithoutBlank()
		h.body.add(nil, true)
		h.out(crlf)
		return headerFine
	}
	h.size += len(line) + 2
	if h.size > h.maxBytes {
		return headerTooLarge
	}
	name := fieldName(line)
	if h.noBulk && isBulk(name, line) {
		h.bulk = comment(string(line[:min(len(line), maxBulkShown)]))
		return headerBulk
	}
	switch {
	case name == "":
	case strings.EqualFold(name, "Received"):
		h.hops++
		if h.hops > h.maxHops { // RFC 5321 §6.3
			return headerLoop
		}
	case strings.EqualFold(name, "Date"):
		h.hasDate = true
	case strings.EqualFold(name, "Message-ID"):
		h.hasID = true
	}
	h.fields++
	h.out(line)
	h.out(crlf)
	h.line = h.line[:0]
	return headerFine
}

// maxBulkShown is how much of the field that tells bulk mail is shown, in octets.
const maxBulkShown = 80

// isBulk reports whether a field says that a message is one of a mailing: one of
// the List fields (RFC 2369, RFC 2919), or a Precedence that software puts into
// what it sends to many.
func isBulk(name string, line []byte) bool {
	if strings.EqualFold(name, "Precedence") {
		value, _, _ := bytes.Cut(line[bytes.IndexByte(line, ':')+1:], []byte("("))
		switch strings.ToLower(string(bytes.TrimSpace(value))) {
		case "bulk", "list", "junk":
			return true
		}
		return false
	}
	return len(name) > len("List-") && strings.EqualFold(name[:len("List-")], "List-")
}

// isMboxLine reports whether line is the separator of a mailbox file, which
// programs that pipe one into SMTP leave at the top: it is neither header nor
// body, and would turn the header behind it into body. RFC 4155 appendix A.
func isMboxLine(line []byte) bool {
	f := bytes.Fields(line)
	if len(f) < 7 || len(f) > 9 || !bytes.Equal(f[0], []byte("From")) {
		return false
	}
	_, err := time.Parse("Mon Jan 2 15:04:05", string(bytes.Join(f[2:6], []byte(" "))))
	return err == nil
}

// belongs reports whether line is of a header section: a field, or the
// continuation of one.
func (h *headerPass) belongs(line []byte) bool {
	if line[0] == ' ' || line[0] == '\t' {
		return h.fields > 0
	}
	return fieldName(line) != ""
}

// bodyWithoutBlank ends the header section before a line that is not of it.
func (h *headerPass) bodyWithoutBlank() {
	h.finish()
	h.out(crlf)
	h.body.add(h.line, false)
	h.out(h.line)
	h.inBody = true
}

// close ends the message; one that is all header gets what it lacks.
func (h *headerPass) close() {
	if !h.inBody {
		h.finish()
		if h.fields == 0 {
			h.out(crlf)
		}
		h.inBody = true
	}
}

// finish adds the missing fields. RFC 5322 §3.6, RFC 6409 §8.
func (h *headerPass) finish() {
	if h.date != "" && !h.hasDate {
		h.out([]byte("Date: " + h.date + "\r\n"))
		h.added = true
	}
	if h.messageID != "" && !h.hasID {
		h.out([]byte("Message-ID: " + h.messageID + "\r\n"))
		h.added = true
	}
}

// fieldName is the name of a header field, "" if line is none. RFC 5322 §2.2,
// and §4.5.8 for the blanks before the colon.
func fieldName(line []byte) string {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return ""
	}
	name := bytes.TrimRight(line[:i], " \t")
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return ""
		}
	}
	return string(name)
}

// received is the trace field that the relay puts first. RFC 5321 §4.4. The
// queue id is not known yet; the envelope has what is not for every reader.
func received(e mail.Envelope, hostname string) string {
	from := e.HELO
	info := addressLiteral(e)
	switch _, proper := heloName(e.HELO); {
	case e.HELO == "":
		from, info = info, "no HELO"
	case !proper:
		from, info = info, "helo="+e.HELO
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Received: from %s (%s)\r\n\tby %s with %s", from, comment(info), hostname, e.Protocol)
	if e.TLS != "" {
		fmt.Fprintf(&b, " (%s)", comment(e.TLS))
	}
	if e.Registration != "" {
		fmt.Fprintf(&b, "\r\n\t(%s at %.12s)", comment(e.Registration), comment(e.Commit))
	}
	fmt.Fprintf(&b, ";\r\n\t%s\r\n", dateValue(e.Arrival))
	return b.String()
}

// addressLiteral is the client's address as RFC 5321 §4.1.3 writes it.
func addressLiteral(e mail.Envelope) string {
	if e.Client.Is6() {
		return "[IPv6:" + e.Client.String() + "]"
	}
	return "[" + e.Client.String() + "]"
}

// comment makes s fit for a comment in a header, and one line.
func comment(s string) string {
	if len(s) > 400 {
		s = s[:400]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '(' || r == ')' || r == '\\' {
			return '?'
		}
		return r
	}, s)
}

// dateValue is the form of RFC 5322 §3.3.
func dateValue(t time.Time) string { return t.Format("Mon, 2 Jan 2006 15:04:05 -0700") }
