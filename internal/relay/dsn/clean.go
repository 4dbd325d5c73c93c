package dsn

import (
	"bytes"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode/utf8"

	"example.edu/gatepost/internal/mail"
)

// Bounds on what comes from outside, in octets.
const (
	maxText    = 1000     // a reply
	maxName    = 255      // a host name
	maxAddress = 640      // an address, quoted or with an address type
	maxHeader  = 64 << 10 // the header section that is returned
	maxLine    = 900      // a line that is written here; RFC 5322 §2.1.1 allows 998
	maxWhole   = 998      // a line of a message that is returned in full
	foldAt     = 76       // where a field is folded, if there is a space
	wrapAt     = 72       // where the text is wrapped
	dateLayout = time.RFC1123Z
)

func date(t time.Time) string { return t.Format(dateLayout) }

// ascii is clean with a question mark for every character beyond ASCII: the
// fields of RFC 3464 know no other.
func ascii(s string, max int) string {
	s = mail.Printable(s, max)
	if is7Bit([]byte(s)) {
		return s
	}
	return strings.Map(func(c rune) rune {
		if c >= utf8.RuneSelf {
			return '?'
		}
		return c
	}, s)
}

// token keeps of s what may stand in a boundary, an id or an address type.
func token(s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
			return c
		}
		return -1
	}, s)
	return s[:min(len(s), 40)]
}

// utf8Xtext is the utf-8-addr-xtext form of an address: ASCII, and safe
// wherever xtext is. RFC 6533 §3.
func utf8Xtext(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range s {
		if c > ' ' && c < 0x7f && c != '+' && c != '=' && c != '\\' {
			b.WriteRune(c)
			continue
		}
		b.WriteString(`\x{`)
		started := false
		for shift := 20; shift >= 0; shift -= 4 {
			d := c >> shift & 0xf
			if started = started || d != 0 || shift == 4; started { // two digits at least
				b.WriteByte(hex[d])
			}
		}
		b.WriteByte('}')
	}
	return b.String()
}

// field writes a header field, folded at spaces where it is long and anywhere
// where it would be too long otherwise. value holds no control characters:
// what came from outside went through clean.
func field(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	b.WriteByte(':')
	at := len(name) + 1
	for i, word := range strings.Split(value, " ") {
		if word == "" {
			continue
		}
		if i > 0 && at+1+len(word) > foldAt {
			b.WriteString("\r\n")
			at = 0
		}
		b.WriteByte(' ')
		at++
		for len(word) > maxLine {
			n := cut(word, maxLine)
			b.WriteString(word[:n] + "\r\n ")
			word, at = word[n:], 1
		}
		b.WriteString(word)
		at += len(word)
	}
	b.WriteString("\r\n")
}

// cut is the largest length up to n at which s can be cut between characters.
func cut(s string, n int) int {
	for i := n; i > n-utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			return i
		}
	}
	return n
}

// wrap writes s as indented lines of the text part.
func wrap(b *bytes.Buffer, indent, s string) {
	at := 0
	for word := range strings.FieldsSeq(s) {
		for word != "" {
			n := len(word)
			if n > maxLine {
				n = cut(word, maxLine)
			}
			switch {
			case at == 0:
				b.WriteString(indent)
				at = len(indent)
			case at+1+n > wrapAt:
				b.WriteString("\r\n" + indent)
				at = len(indent)
			default:
				b.WriteByte(' ')
				at++
			}
			b.WriteString(word[:n])
			at += n
			word = word[n:]
		}
	}
	b.WriteString("\r\n")
}

// headerLines splits a header section into lines that can be written again:
// whatever ends a line ends it, control characters are gone, long lines are
// folded, and it stops at the empty line or at maxHeader.
func headerLines(header []byte) []string {
	header = header[:min(len(header), maxHeader)]
	var lines []string
	for len(header) > 0 {
		n := bytes.IndexAny(header, "\r\n")
		line := header
		if n < 0 {
			header = nil
		} else {
			line, header = header[:n], header[n:]
			if rest, ok := bytes.CutPrefix(header, []byte("\r\n")); ok {
				header = rest
			} else {
				header = header[1:]
			}
		}
		if len(line) == 0 {
			break
		}
		s := strings.Map(func(c rune) rune {
			if c != '\t' && c < ' ' || c == 0x7f {
				return -1
			}
			return c
		}, string(line)) // invalid UTF-8 becomes U+FFFD: a header in an old charset is still told apart
		for len(s) > maxLine {
			n := cut(s, maxLine)
			lines = append(lines, s[:n])
			s = " " + s[n:]
		}
		if s != "" {
			lines = append(lines, s)
		}
	}
	return lines
}

// headerField is the value of a field of the message's header; "" if absent.
func headerField(lines []string, name string) string {
	for i, line := range lines {
		k, v, ok := strings.Cut(line, ":")
		if !ok || !strings.EqualFold(strings.TrimSpace(k), name) {
			continue
		}
		for _, next := range lines[i+1:] {
			if next[0] != ' ' && next[0] != '\t' {
				break
			}
			v += next
		}
		return strings.TrimSpace(v)
	}
	return ""
}

// messageID is the Message-ID of the message if it can be written into a field
// of ours as it is.
func messageID(lines []string) string {
	id := headerField(lines, "Message-ID")
	if len(id) < 3 || len(id) > 250 || id[0] != '<' || strings.IndexByte(id, '>') != len(id)-1 || strings.ContainsAny(id[1:], "< \t\"\\(),;") || !is7Bit([]byte(id)) {
		return ""
	}
	return id
}

func is7Bit(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isUTF8(b []byte) bool { return utf8.Valid(b) && !bytes.ContainsRune(b, utf8.RuneError) }

// quotedPrintable encodes lines that end in CRLF. RFC 2045 §6.7.
func quotedPrintable(body []byte) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	// A bytes.Buffer takes everything; there is no error to have.
	_, _ = w.Write(body)
	_ = w.Close()
	return b.Bytes()
}
