package deliver

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"example.edu/gatepost/internal/mail"
)

// Bounds on a reply. RFC 5321 §4.5.3.1.5 gives a line 512 octets; some servers
// write more, none needs this much.
const (
	maxReplyLine  = 4 << 10
	maxReplyLines = 128
	maxReplyText  = 1000 // octets kept of the text, all lines together
)

// errGarbled is a peer that does not speak SMTP. What it meant is unknown, so
// the outcome is temporary and the connection is dropped.
var errGarbled = errors.New("not an SMTP reply")

// A reply is one reply, with the text of each line behind the code. RFC 5321 §4.2.
type reply struct {
	code  mail.Code
	lines []string
}

func (r reply) ok() bool { return r.code >= 200 && r.code < 300 }

// readReply reads one reply of one or more lines. It accepts a bare LF as the
// end of a line, as it can smuggle nothing in this direction, and nothing else
// out of order: the codes of all lines must agree. It keeps at most
// maxReplyLines lines of maxReplyLine octets, and fails beyond.
func readReply(r *bufio.Reader) (reply, error) {
	var out reply
	for n := 0; ; n++ {
		if n == maxReplyLines {
			return reply{}, fmt.Errorf("%w: more than %d lines", errGarbled, maxReplyLines)
		}
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return reply{}, fmt.Errorf("%w: a line of more than %d octets", errGarbled, len(line))
		case err != nil && len(line) > 0:
			return reply{}, fmt.Errorf("in the middle of a reply: %w", err)
		case err != nil:
			return reply{}, err
		}
		code, text, last, ok := parseLine(strings.TrimRight(string(line), "\r\n"))
		if !ok || n > 0 && code != out.code {
			return reply{}, fmt.Errorf("%w: %q", errGarbled, mail.Printable(string(line), 80))
		}
		out.code = code
		out.lines = append(out.lines, text)
		if last {
			return out, nil
		}
	}
}

// parseLine takes one line of a reply apart: "250-text", "250 text" or "250".
func parseLine(s string) (code mail.Code, text string, last, ok bool) {
	if len(s) < 3 || s[0] < '2' || s[0] > '5' || !digit(s[1]) || !digit(s[2]) {
		return 0, "", false, false // 1yz is not SMTP: RFC 5321 §4.2.1
	}
	code = mail.Code(int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0'))
	switch {
	case len(s) == 3:
		return code, "", true, true
	case s[3] == ' ' || s[3] == '-':
		return code, s[4:], s[3] == ' ', true
	}
	return 0, "", false, false
}

// status is the reply as the rest of the relay knows it: the enhanced code
// apart, the lines joined, printable and bounded.
func (r reply) status() mail.Status {
	st := mail.Status{Code: r.code}
	var b strings.Builder
	for _, line := range r.lines {
		if e, rest, ok := cutEnhanced(line); ok && e[0] == int(r.code)/100 { // RFC 2034 §4: class and code agree
			if st.Enhanced == (mail.Enhanced{}) {
				st.Enhanced = e
			}
			line = rest
		}
		if b.Len() > 4*maxReplyText {
			break
		}
		b.WriteString(line)
		b.WriteByte(' ')
	}
	st.Text = mail.Printable(b.String(), maxReplyText)
	return st
}

// cutEnhanced takes an enhanced status code off the front of a line. RFC 3463 §2.
func cutEnhanced(s string) (mail.Enhanced, string, bool) {
	var e mail.Enhanced
	word, rest, _ := strings.Cut(s, " ")
	i := 0
	for part := range strings.SplitSeq(word, ".") {
		if i == 3 || len(part) == 0 || len(part) > 3 {
			return mail.Enhanced{}, s, false
		}
		for _, c := range []byte(part) {
			if !digit(c) {
				return mail.Enhanced{}, s, false
			}
			e[i] = e[i]*10 + int(c-'0')
		}
		i++
	}
	return e, rest, i == 3
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
