package smtpd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// readBody reads all of in as a body and gives back what would be stored, and
// what is left behind it.
func readBody(b *bodyReader) (string, error) {
	var out strings.Builder
	for {
		piece, eol, err := b.next()
		if err != nil {
			if err == io.EOF {
				return out.String(), nil
			}
			return out.String(), err
		}
		out.Write(piece)
		if eol {
			out.WriteString("\r\n")
		}
	}
}

func TestBodyEndsOnlyAtCRLFDotCRLF(t *testing.T) {
	for _, tt := range []struct {
		name, in   string
		fix, lfEnd bool
		want, left string
		err        error
	}{
		{name: "empty", in: ".\r\n", want: ""},
		{name: "one line", in: "a\r\n.\r\nQUIT", want: "a\r\n", left: "QUIT"},
		{name: "dot-stuffing is undone", in: "..\r\n.a\r\n.\r\n", want: ".\r\na\r\n"},
		{name: "a dot inside", in: "a.\r\n. \r\n.\r\n", want: "a.\r\n \r\n"},
		{name: "8-bit passes", in: "\xff\x80\r\n.\r\n", want: "\xff\x80\r\n"},
		{name: "breaks off", in: "a\r\n.", err: io.ErrUnexpectedEOF},
		{name: "breaks off at CR", in: "a\r\n.\r", err: io.ErrUnexpectedEOF},

		{name: `\n.\n`, in: "a\n.\nb\r\n.\r\n", err: errBareLF},
		{name: `\r.\r`, in: "a\r.\rb\r\n.\r\n", err: errBareCR},
		{name: `\r.\n`, in: "a\r.\nb\r\n.\r\n", err: errBareLF},
		{name: `\n.\r`, in: "a\n.\rb\r\n.\r\n", err: errBareLF},
		{name: `\n.\r\n`, in: "a\n.\r\nb\r\n.\r\n", err: errBareLF},
		{name: `\r\n.\n`, in: "a\r\n.\nb\r\n.\r\n", err: errBareLF},
		{name: `\r.\r\n`, in: "a\r.\r\nb\r\n.\r\n", err: errBareCR},
		{name: `\r\n.\r`, in: "a\r\n.\rb\r\n.\r\n", err: errBareCR},
		{name: `\r\n\0.\r\n`, in: "a\r\n\x00.\r\nb\r\n.\r\n", err: errNUL},
		{name: `\r\n.\0\r\n`, in: "a\r\n.\x00\r\nb\r\n.\r\n", err: errNUL},
		{name: `\r\r\n.\r\n`, in: "a\r\r\n.\r\nb\r\n.\r\n", err: errBareCR},

		{name: "fix turns LF into CRLF", fix: true, in: "a\nb\r\n..c\n.\r\n", err: errLFDot},
		{name: "fix ends at CRLF.CRLF", fix: true, in: "a\nb\n..c\r\n.\r\n", want: "a\r\nb\r\n.c\r\n"},
		{name: "fix, LF.LF", fix: true, in: "a\n.\n", err: errLFDot},
		{name: "fix, LF.CRLF", fix: true, in: "a\n.\r\n", err: errLFDot},
		{name: "fix, CRLF.LF", fix: true, in: "a\r\n.\n", err: errLFDot},
		{name: "fix, bare CR", fix: true, in: "a\rb\n.\r\n", err: errBareCR},
		{name: "LF only, LF.LF", fix: true, lfEnd: true, in: "a\n.\n", want: "a\r\n"},
		{name: "LF only, but more behind", fix: true, lfEnd: true, in: "a\n.\nMAIL", err: errLFDot},
		{name: `fix, \n.\r`, fix: true, in: "a\n.\r", err: errLFDot},
		{name: "LF only, but a CRLF before", fix: true, lfEnd: true, in: "a\r\nb\n.\n", err: errLFDot},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := bufio.NewReader(strings.NewReader(tt.in))
			got, err := readBody(&bodyReader{in: in, dots: true, fix: tt.fix, lfEnd: tt.lfEnd, maxLine: 100})
			if !errors.Is(err, tt.err) || err != nil && tt.err == nil {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err == nil && got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if left, _ := io.ReadAll(in); err == nil && string(left) != tt.left {
				t.Errorf("left %q, want %q", left, tt.left)
			}
		})
	}
}

func TestLongLinesAreBounded(t *testing.T) {
	for n, want := range map[int]error{1000: nil, 1001: errLongLine} {
		in := bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", n)+"\r\n.\r\n"), 16)
		if _, err := readBody(&bodyReader{in: in, dots: true, maxLine: 1000}); !errors.Is(err, want) || err != nil && want == nil {
			t.Errorf("%d octets: %v, want %v", n, err, want)
		}
	}
}

// plainEnd is the definition, by a second way: the body ends at the first
// CRLF.CRLF, or .CRLF at the beginning.
func plainEnd(in []byte) int {
	if bytes.HasPrefix(in, []byte(".\r\n")) {
		return 3
	}
	if i := bytes.Index(in, []byte("\r\n.\r\n")); i >= 0 {
		return i + 5
	}
	return -1
}

func FuzzBodyReader(f *testing.F) {
	for _, s := range []string{"a\r\n.\r\n", "a\n.\nb\r\n.\r\n", "\r\r\n.\r\n", "..\r\n.\r\n", "a\r\n.\rb", ".\r\n", "x\x00\r\n"} {
		f.Add([]byte(s), false, true)
		f.Add([]byte(s), true, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, fix, whole bool) {
		read := func(r io.Reader) (string, int, error) {
			in := bufio.NewReaderSize(r, 16)
			out, err := readBody(&bodyReader{in: in, dots: true, fix: fix, maxLine: 64})
			left, _ := io.ReadAll(in)
			return out, len(left), err
		}
		var r io.Reader = bytes.NewReader(data)
		if !whole {
			r = iotest.OneByteReader(r)
		}
		out, left, err := read(r)
		if err != nil {
			return
		}
		if end := plainEnd(data); !fix && len(data)-left != end {
			t.Fatalf("ended at %d, CRLF.CRLF is at %d, in %q", len(data)-left, end, data)
		}
		rest := strings.ReplaceAll(out, "\r\n", "")
		if strings.ContainsAny(rest, "\r\n\x00") {
			t.Fatalf("stored a bare CR, a bare LF or a NUL: %q", out)
		}
		if out != "" && !strings.HasSuffix(out, "\r\n") {
			t.Fatalf("stored a last line without an end: %q", out)
		}
		again, _, err := read(iotest.OneByteReader(bytes.NewReader(data)))
		if err != nil || again != out {
			t.Fatalf("one octet at a time: %q, %v; at once: %q", again, err, out)
		}
	})
}

func FuzzHeaderPass(f *testing.F) {
	for _, s := range []string{"Subject: a\r\n\r\nb", "body", "", "\r\nx", " lead", "a: b\r\n c\r\nnot a field", "Received: x", "Date:\r\n", ":\r\n"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, data string, cut int) {
		if strings.ContainsAny(strings.ReplaceAll(data, "\r\n", ""), "\r\n") {
			return
		}
		cut = max(1, cut)
		var out bytes.Buffer
		h := &headerPass{out: func(p []byte) { out.Write(p) }, maxBytes: 1 << 20, maxHops: 1 << 20, date: "D", messageID: "<I>"}
		lines := strings.Split(data, "\r\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		if len(lines) > 0 && isMboxLine([]byte(lines[0])) {
			return
		}
		for _, l := range lines {
			for len(l) > cut {
				h.write([]byte(l[:cut]), false)
				l = l[cut:]
			}
			h.write([]byte(l), true)
		}
		h.close()
		got := out.String()
		for _, add := range []string{"Date: D\r\n", "Message-ID: <I>\r\n"} {
			got = strings.Replace(got, add, "", 1)
		}
		want := ""
		if len(lines) > 0 {
			want = strings.Join(lines, "\r\n") + "\r\n"
		}
		if !strings.HasSuffix(got, want) && strings.Replace(got, "\r\n", "", 1) != strings.Replace(want, "\r\n", "", 1) {
			// the one thing that may come in is the blank line that was missing
			if i := diffAt(got, want); got[:i]+strings.TrimPrefix(got[i:], "\r\n") != want {
				t.Fatalf("%q became %q", want, got)
			}
		}
	})
}

// diffAt is the place of the missing blank line: the first difference, or the
// line end before it.
func diffAt(a, b string) int {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return i
}

func TestHeloNames(t *testing.T) {
	for in, want := range map[string]string{
		"mfp1.example.edu": "mfp1.example.edu", "localhost": "localhost", "[127.0.0.1]": "[127.0.0.1]", "[IPv6:::1]": "[IPv6:::1]",
		"a b": "a", "a(b": "a?b", "[127.0.0.1": "[127.0.0.1", "ü": "?", "a\tb": "a?b", "<x>": "?x?",
	} {
		if got, _ := heloName(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<a@b.c> SIZE=1", "<>", `<"a b"@c.d>`, "<@x,@y:a@b.c>", "a@b.c FOO", `<"\>"@a.b>`, "<Postmaster>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePath(s, true)
		if err != nil {
			return
		}
		line := p.command("MAIL FROM:", "relay.example.edu")
		if strings.ContainsAny(line, "\r\n\x00") && !strings.ContainsAny(s, "\r\n\x00") {
			t.Fatalf("%q became %q", s, line)
		}
		again, err := parsePath(p.addr.Path(), true)
		if err != nil || again.addr != p.addr || len(again.params) != 0 {
			t.Fatalf("%q: %q read back as %+v, %v", s, p.addr.Path(), again, err)
		}
	})
}
