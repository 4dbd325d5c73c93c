package smtpd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Why a body cannot be read on. After any of these the place where it ends is
// not known, so the connection is closed.
var (
	errBareLF   = errors.New("bare LF")
	errLFDot    = errors.New("lone dot beside a bare LF") // only with fix; without, it is a bare LF
	errBareCR   = errors.New("bare CR")
	errNUL      = errors.New("NUL")
	errLongLine = errors.New("line too long")
)

// A bodyReader takes a message apart into pieces of lines, without line ends
// and dot-stuffing. It looks only at what has arrived, so that what is wrong is
// known at once and no client waits for an answer to an end that is none.
//
// Ends of a body in DATA: CRLF.CRLF, or .CRLF at the very beginning, and
// nothing else (RFC 5321 §4.1.1.4) but the one case in lfEnd. A bare CR or NUL
// is an error always, a bare LF unless fix is set.
//
// With fix a bare LF ends a line; but a line that is a lone dot and has a bare
// LF on either side is never content and never, lfEnd aside, the end: it would
// be the end to one reader and content to the next.
type bodyReader struct {
	in      *bufio.Reader
	dots    bool            // DATA: dot-stuffed, ends at a dot; else (BDAT) ends at io.EOF
	fix     bool            // device bareLF "fix"
	lfEnd   bool            // the client has ended every command line in a bare LF: so may it end its body, if no CRLF comes and nothing follows
	maxLine int             // octets
	half    func(wait bool) // told while a CR waits for what belongs behind it; may be nil

	mid     bool // within a line
	n       int  // octets of the line so far
	prevLF  bool // the line before ended in a bare LF
	hasCRLF bool // some line ended in CRLF
	fixed   bool // a bare LF was taken for an end of a line
}

// next returns the next piece of a line; eol says that the line ends with it.
// The piece is valid until the following call. io.EOF is the proper end; other
// errors are of reading, or one of the above. RFC 2045 §2.8: no NUL in mail.
func (b *bodyReader) next() (piece []byte, eol bool, err error) {
	need := 1
	for {
		if err := b.wait(need); err != nil {
			return b.atEnd(err)
		}
		w, _ := b.in.Peek(b.in.Buffered())
		if i := bytes.IndexByte(w, '\n'); i >= 0 {
			w = w[:i+1]
		}
		k, eol, err := b.split(w)
		if err != nil {
			return nil, false, err
		}
		if k == 0 {
			need = len(w) + 1
			continue
		}
		return b.take(w[:k], eol)
	}
}

// wait blocks until n octets are there.
func (b *bodyReader) wait(n int) error {
	if b.in.Buffered() >= n {
		return nil
	}
	if b.half != nil && b.dots && n > 1 {
		w, _ := b.in.Peek(n - 1)
		b.half(w[len(w)-1] == '\r')
	}
	_, err := b.in.Peek(n)
	if b.half != nil && err == nil {
		b.half(false)
	}
	return err
}

// split decides how much of w, which holds at most one LF, at its end, can be
// taken: k octets, with eol if they end a line; 0 where more must come first.
func (b *bodyReader) split(w []byte) (k int, eol bool, err error) {
	eol = w[len(w)-1] == '\n'
	text := w
	if eol {
		text = w[:len(w)-1]
		if len(text) > 0 && text[len(text)-1] == '\r' {
			text = text[:len(text)-1]
		} else if !b.fix {
			return 0, false, errBareLF
		}
	} else if text[len(text)-1] == '\r' {
		text = text[:len(text)-1]
	}
	switch {
	case bytes.IndexByte(text, 0) >= 0:
		return 0, false, errNUL
	case bytes.IndexByte(text, '\r') >= 0:
		return 0, false, errBareCR
	case b.n+len(text) > b.maxLine:
		return 0, false, errLongLine
	case eol:
		return len(w), true, nil
	case b.dots && !b.mid && len(text) == 1 && text[0] == '.': // perhaps the end
		if b.prevLF && len(w) > 1 { // LF.CR, and whatever comes next is wrong
			return 0, false, errLFDot
		}
		return 0, false, nil
	}
	return len(text), false, nil
}

// take consumes w and gives back what it says.
func (b *bodyReader) take(w []byte, eol bool) ([]byte, bool, error) {
	atStart := !b.mid
	text := w
	crlf := false
	if eol {
		text = w[:len(w)-1]
		text, crlf = bytes.CutSuffix(text, []byte{'\r'})
	}
	if b.dots && atStart && len(text) > 0 && text[0] == '.' {
		if eol && len(text) == 1 {
			return b.dotLine(w, crlf)
		}
		text = text[1:]
	}
	_, _ = b.in.Discard(len(w))
	b.n += len(text)
	b.mid = !eol
	if eol {
		b.n, b.prevLF = 0, !crlf
		b.hasCRLF = b.hasCRLF || crlf
		b.fixed = b.fixed || !crlf
	}
	return text, eol, nil
}

// dotLine is a line that is a lone dot: the end, or trouble.
func (b *bodyReader) dotLine(w []byte, crlf bool) ([]byte, bool, error) {
	switch {
	case crlf && !b.prevLF:
	case !crlf && b.lfEnd && !b.hasCRLF && b.in.Buffered() == len(w):
	default:
		return nil, false, errLFDot
	}
	_, _ = b.in.Discard(len(w))
	b.fixed = b.fixed || !crlf
	return nil, false, io.EOF
}

// atEnd turns the end of the input into the end of the body, where it may be.
func (b *bodyReader) atEnd(err error) ([]byte, bool, error) {
	if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, false, err
	}
	switch {
	case b.dots:
		return nil, false, io.ErrUnexpectedEOF
	case b.in.Buffered() > 0: // a CR
		return nil, false, errBareCR
	case b.mid: // RFC 3030 lets a message end without CRLF; DATA could not carry that on
		b.mid, b.n = false, 0
		return nil, true, nil
	}
	return nil, false, io.EOF
}
