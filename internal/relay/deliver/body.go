package deliver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxTextLine is the longest line sent, without its CRLF and without a dot put
// before it for transparency. RFC 5321 §4.5.3.1.6.
const maxTextLine = 998

// errBody marks a failure to read our own copy of the message, as opposed to a
// failure to write it to the peer.
var errBody = errors.New("reading the message")

// writeBody copies a message to w as DATA wants it: every line ends in CRLF,
// a leading dot is doubled (RFC 5321 §4.5.2), and no line is longer than
// maxTextLine. It does not write the final dot: a body that failed half way
// must never get one.
//
// A longer line is folded in the header section by CRLF and a space, at white
// space if there is some near, and broken by CRLF in the body. Whatever ends a
// line in the source (a bare CR or LF should not be there: the spool keeps
// none) ends a line here, so no reading of the output differs from ours.
func writeBody(w *bufio.Writer, src io.Reader) error { return writeLines(w, src, true) }

// writeLines is writeBody, which doubles dots, or the same without that.
func writeLines(w *bufio.Writer, src io.Reader, dots bool) error {
	d := lineWriter{w: w, header: true, dots: dots}
	r := bufio.NewReaderSize(src, 32<<10)
	cr := false // the last slice ended in a CR whose LF may follow
	for {
		line, err := r.ReadSlice('\n')
		if cr && len(line) > 0 {
			cr = false
			d.end()
			if line[0] == '\n' {
				line = line[1:]
			}
		}
		if n := len(line); n > 0 {
			whole := line[n-1] == '\n'
			if whole {
				line = bytes.TrimSuffix(line[:n-1], []byte{'\r'})
			} else if line[n-1] == '\r' {
				line, cr = line[:n-1], true
			}
			for {
				i := bytes.IndexByte(line, '\r')
				if i < 0 {
					break
				}
				d.text(line[:i])
				d.end()
				line = line[i+1:]
			}
			d.text(line)
			if whole {
				d.end()
			}
		}
		switch {
		case d.err != nil:
			return d.err
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			if cr || d.col > 0 {
				d.end()
			}
			return d.err
		default:
			return fmt.Errorf("%w: %w", errBody, err)
		}
	}
}

// A lineWriter writes lines that come in pieces.
type lineWriter struct {
	w      *bufio.Writer
	col    int  // octets in the current line
	header bool // before the first empty line
	dots   bool // a leading dot is doubled
	err    error
}

// text writes a piece of a line; p holds neither CR nor LF.
func (d *lineWriter) text(p []byte) {
	for len(p) > 0 && d.err == nil {
		if d.dots && d.col == 0 && p[0] == '.' {
			d.put([]byte{'.'})
		}
		n := len(p)
		if d.col+n > maxTextLine {
			n = d.breakAt(p)
		}
		d.put(p[:n])
		d.col += n
		if p = p[n:]; len(p) > 0 {
			d.fold(p[0])
		}
	}
}

// breakAt says how much of p still goes on this line.
func (d *lineWriter) breakAt(p []byte) int {
	room := maxTextLine - d.col
	if d.header {
		if i := bytes.LastIndexAny(p[:room], " \t"); i > 0 && i > room-200 {
			return i // the white space itself begins the next line
		}
	}
	for i := room; i > room-utf8.UTFMax && i+d.col > 0 && i >= 0; i-- {
		if utf8.RuneStart(p[i]) { // room < len(p)
			return i
		}
	}
	return room
}

// fold ends a line that is too long and goes on with next.
func (d *lineWriter) fold(next byte) {
	d.ends()
	d.col = 0
	if d.header && next != ' ' && next != '\t' {
		d.put([]byte{' '})
		d.col = 1
	}
}

// end ends a line of the source.
func (d *lineWriter) end() {
	if d.col == 0 {
		d.header = false
	}
	d.ends()
	d.col = 0
}

// ends writes the end of a line.
func (d *lineWriter) ends() {
	if d.err == nil {
		_, d.err = d.w.WriteString("\r\n")
	}
}

func (d *lineWriter) put(p []byte) {
	if d.err == nil {
		_, d.err = d.w.Write(p)
	}
}
