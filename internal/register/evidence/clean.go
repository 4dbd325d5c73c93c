package evidence

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on what is shown of an answer.
const (
	maxText    = 400 // octets of one line
	maxName    = 128 // octets of one name inside a line
	maxDetails = 8   // lines
)

// clean makes s one printable line of at most maxText octets.
func clean(s string) string { return cleanTo(s, maxText) }

// word is clean for a name that stands inside a line, so that a long one does
// not push the rest out.
func word(s string) string { return cleanTo(s, maxName) }

// cleanTo turns line ends, control characters, bidirectional marks and the like
// into single spaces, and what is not UTF-8 into question marks.
func cleanTo(s string, most int) string {
	const cut = "…"
	var b strings.Builder
	space := false
	for _, c := range s {
		if c == utf8.RuneError {
			c = '?'
		}
		if unicode.IsSpace(c) || !unicode.IsGraphic(c) {
			space = b.Len() > 0
			continue
		}
		if b.Len()+1+utf8.RuneLen(c)+len(cut) > most {
			b.WriteString(cut)
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(c)
	}
	return b.String()
}
