package demo

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	gatemail "example.edu/gatepost/internal/mail"
)

// How much of one message is shown, in octets, and how deep it is looked into.
const (
	maxKept  = 64 << 10 // of the message, as it came
	maxText  = 16 << 10
	maxField = 300
	maxDepth = 4  // parts within parts
	maxParts = 20 // of one multipart
)

// A letter is one message, as a person reads it. All of it is text of a
// stranger: it has no control characters but line ends, and is shown as text.
type letter struct {
	N       int
	At      time.Time
	From    string // as the header has it
	To      string // of the envelope
	Subject string
	Text    string // the first plain text of it; "" if there is none
	Source  string // how it came
	Cut     bool   // there is more of it than is shown
	Size    int    // octets, all of it
}

// readLetter reads what arrived for to: raw is its beginning, of size octets.
// Whatever is wrong with it, there is something to be shown.
func readLetter(raw []byte, size int, to string) letter {
	raw = raw[:min(len(raw), maxKept)]
	l := letter{To: gatemail.Printable(to, maxField), Size: size, Cut: size > len(raw), Source: readable(raw, maxKept)}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		l.Subject, l.From = "(no header)", "(nobody)"
		l.Text = readable(raw, maxText)
		return l
	}
	l.Subject = field(m.Header.Get("Subject"), "(no subject)")
	l.From = sender(m.Header.Get("From"))
	text, ok := plainText(header(m.Header), m.Body, maxDepth)
	if !ok {
		return l
	}
	if len(text) > maxText {
		l.Cut = true
	}
	l.Text = strings.TrimSpace(readable(text, maxText))
	return l
}

// field is one field of a header, decoded (RFC 2047).
func field(value, none string) string {
	decoded, err := new(mime.WordDecoder).DecodeHeader(value)
	if err != nil {
		decoded = value
	}
	if decoded = gatemail.Printable(decoded, maxField); decoded == "" {
		return none
	}
	return decoded
}

// sender is who a letter says that it is from, without quotes around a name.
func sender(value string) string {
	a, err := mail.ParseAddress(value)
	if err != nil || a.Name == "" {
		return field(value, "(nobody)")
	}
	return gatemail.Printable(a.Name+" <"+a.Address+">", maxField)
}

// A header is that of a message or of a part.
type header map[string][]string

func (h header) get(name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// plainText is the first text/plain in body, at most maxText+1 octets of it.
func plainText(h header, body io.Reader, depth int) ([]byte, bool) {
	kind, params, err := mime.ParseMediaType(h.get("Content-Type"))
	if err != nil {
		kind, params = "text/plain", nil // RFC 2045 §5.2
	}
	if strings.HasPrefix(kind, "multipart/") {
		if depth == 0 || params["boundary"] == "" {
			return nil, false
		}
		parts := multipart.NewReader(body, params["boundary"])
		for range maxParts {
			part, err := parts.NextRawPart()
			if err != nil {
				return nil, false
			}
			if text, ok := plainText(header(part.Header), part, depth-1); ok {
				return text, true
			}
		}
		return nil, false
	}
	if kind != "text/plain" {
		return nil, false
	}
	switch strings.ToLower(strings.TrimSpace(h.get("Content-Transfer-Encoding"))) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, _ := io.ReadAll(io.LimitReader(body, maxText+1)) // what could be decoded
	return text, true
}

// readable is text that can be shown, at most most octets of it: octets that
// are not UTF-8 are read as Latin-1, and what is not printable, bidirectional
// controls among it, is replaced.
func readable(raw []byte, most int) string {
	var b strings.Builder
	for len(raw) > 0 {
		r, n := utf8.DecodeRune(raw)
		if r == utf8.RuneError && n == 1 {
			r = rune(raw[0])
		}
		raw = raw[n:]
		switch {
		case r == '\r':
			continue
		case r != '\n' && r != '\t' && !unicode.IsPrint(r) && !unicode.IsSpace(r), r == '\v', r == '\f', r == '\u2028', r == '\u2029', r == '\u0085':
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r) > most {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
