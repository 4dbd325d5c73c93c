package mail

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes what a stranger wrote fit for one line of a reply, a log or
// a notification: control characters, line ends and invisible characters of
// any kind become one space, invalid UTF-8 a question mark, and a rest beyond
// max octets is cut off.
func Printable(s string, max int) string {
	var b strings.Builder
	space := false
	for _, c := range s {
		switch {
		case c == utf8.RuneError:
			c = '?'
		case unicode.IsSpace(c) || !unicode.IsPrint(c): // also U+2028, bidi controls, NUL
			space = b.Len() > 0
			continue
		}
		if b.Len()+1+utf8.RuneLen(c) > max {
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
